#include "kernels/rabitq.h"
#include "kernels/ref/ref.h"

#include <assert.h>
#include <math.h>

sac_status sac_rabitq_encode_ref(sac_stream *s, const struct sac_rabitq_encode_args *a)
{
    (void)s;
    assert(a->dim % SAC_RABITQ_DSUB == 0);
    for (size_t i = 0; i < a->n; i++) {
        const float *x = a->x + i * a->dim, *c = a->centroids + (size_t)a->index[i] * a->dim;
        uint8_t *codes = a->codes + i * (a->dim / SAC_RABITQ_DSUB);
        struct sac_rabitq_sums sums = {0};

        for (uint32_t d = 0; d < a->dim; d++) {
            float r = x[d] - c[d];
            uint32_t bit = d % SAC_RABITQ_DSUB;

            codes[d / SAC_RABITQ_DSUB] =
                (uint8_t)((bit == 0 ? 0 : codes[d / SAC_RABITQ_DSUB]) | (r >= 0.0f) << bit);
            sums.squares += (double)r * r;
            sums.lengths += fabsf(r);
            sums.signed_centroid += r >= 0.0f ? c[d] : -c[d];
            sums.centroid_residual += (double)c[d] * r;
            sums.centroid_squares += (double)c[d] * c[d];
        }
        sac_rabitq_finish(&sums, a->distance, &a->bias[i], &a->factors[i]);
    }
    return SAC_OK;
}
