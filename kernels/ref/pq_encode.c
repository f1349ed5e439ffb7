#include "kernels/ref/ref.h"

#include <assert.h>

/* The codeword of a sub-quantizer nearest to the residual x - c (c may be NULL: zero). */
static uint32_t nearest_codeword(const float *x, const float *c, const float *codewords, uint32_t count,
                                 uint32_t dsub)
{
    float best = 0.0f;
    uint32_t best_index = 0;

    for (uint32_t k = 0; k < count; k++) {
        float distance = 0.0f;

        for (uint32_t d = 0; d < dsub; d++) {
            float difference = (c != NULL ? x[d] - c[d] : x[d]) - codewords[(size_t)k * dsub + d];

            distance += difference * difference;
        }
        if (k == 0 || distance < best) {
            best = distance;
            best_index = k;
        }
    }
    return best_index;
}

sac_status sac_pq_encode_ref(sac_stream *s, const struct sac_pq_encode_args *a)
{
    uint32_t m = a->pq.m, dsub = a->pq.dsub, codeword_count = 1u << a->pq.nbits;
    size_t dim = (size_t)m * dsub;

    (void)s;
    assert((a->centroids == NULL) == (a->index == NULL));
    for (size_t i = 0; i < a->n; i++) {
        const float *x = a->x + i * dim;
        const float *centroid = a->centroids != NULL ? a->centroids + a->index[i] * dim : NULL;
        float norm = 0.0f;

        for (uint32_t j = 0; j < m; j++) {
            const float *codewords = a->codebook + (size_t)j * codeword_count * dsub;
            const float *c = centroid != NULL ? centroid + (size_t)j * dsub : NULL;
            uint32_t code = nearest_codeword(x + (size_t)j * dsub, c, codewords, codeword_count, dsub);

            a->codes[i * m + j] = (uint8_t)code;
            for (uint32_t d = 0; d < dsub; d++) {
                float decoded = codewords[(size_t)code * dsub + d] + (c != NULL ? c[d] : 0.0f);

                norm += decoded * decoded;
            }
        }
        if (a->norms != NULL)
            a->norms[i] = norm;
    }
    return SAC_OK;
}

size_t sac_pq_encode_scratch_ref(const sac_device *d, const struct sac_pq_encode_args *a)
{
    (void)d;
    (void)a;
    return 0;
}
