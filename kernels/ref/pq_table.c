#include "kernels/ref/ref.h"

sac_status sac_pq_table_ref(sac_stream *s, const struct sac_pq_table_args *a)
{
    uint32_t m = a->pq.m, dsub = a->pq.dsub, codeword_count = 1u << a->pq.nbits;

    (void)s;
    for (size_t q = 0; q < a->query_count; q++) {
        for (uint32_t j = 0; j < m; j++) {
            const float *sub = a->queries + (q * m + j) * dsub;

            for (uint32_t c = 0; c < codeword_count; c++) {
                const float *codeword = a->codebook + ((size_t)j * codeword_count + c) * dsub;
                float dot = 0.0f;

                for (uint32_t d = 0; d < dsub; d++)
                    dot += sub[d] * codeword[d];
                a->tables[(q * m + j) * codeword_count + c] = a->scale * dot;
            }
        }
    }
    return SAC_OK;
}
