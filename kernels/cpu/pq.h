/* pq.h -- the inner loops of pq_table and pq_encode, one set an instruction set. */
#ifndef SACCADE_CPU_PQ_H
#define SACCADE_CPU_PQ_H

#include "kernels/cpu/rows.h"

struct sac_pq_kernels {
    /* out[c] = scale * <sub, codeword c> for 2^nbits codewords of dsub 1, 2, 4 or 8. */
    void (*table_row)(const float *codewords, uint32_t count, uint32_t dsub, const float *sub, float scale,
                      float *out);
    /* codes[i * stride] = the codeword nearest to x[i * x_stride .. + dsub - 1]; codewords are transposed:
     * [dsub][count]. */
    void (*encode)(const float *codewords, uint32_t count, uint32_t dsub, const float *x, size_t x_stride,
                   uint32_t n, uint8_t *codes, size_t stride);
    const struct sac_rows_kernels *rows;
};

extern const struct sac_pq_kernels sac_pq_avx2, sac_pq_avx512;

/* One query's part of pq_table: table [m][2^nbits]. */
void sac_pq_table_make(const struct sac_pq_kernels *kernels, const sac_pq_shape *pq, const float *codebook,
                       const float *query, float scale, float *table);

#endif
