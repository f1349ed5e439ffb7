/* Tables of short codewords, and nearest codewords: 16 codewords a register. Twins: ref/pq_table.c,
 * ref/pq_encode.c. Floors: see pq_table.c and pq_encode.c. */
#include "kernels/cpu/fold_avx512.h"
#include "kernels/cpu/pq.h"

#include <math.h>

/* 16 codewords are dsub registers; log2(dsub) rounds of pair sums leave one. dsub is a constant in every
 * caller. */
SAC_SPECIALIZE void table_row(const float *codewords, uint32_t count, int dsub, const float *sub, float scale,
                              float *out)
{
    __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i pattern = _mm512_and_si512(lanes, _mm512_set1_epi32(dsub - 1));
    __m512 q = _mm512_permutexvar_ps(pattern, _mm512_maskz_loadu_ps((__mmask16)((1u << dsub) - 1), sub));

    q = _mm512_mul_ps(q, _mm512_set1_ps(scale));
    for (uint32_t c = 0; c < count; c += 16) {
        __m512 products[8];

        for (int i = 0; i < dsub; i++)
            products[i] =
                _mm512_mul_ps(q, _mm512_loadu_ps(codewords + (size_t)c * (uint32_t)dsub + (uint32_t)i * 16));
        for (int width = dsub / 2; width >= 1; width /= 2)
            for (int i = 0; i < width; i++)
                products[i] = pair_sums(products[2 * i], products[2 * i + 1]);
        _mm512_storeu_ps(out + c, products[0]);
    }
}

static void table_row_avx512(const float *codewords, uint32_t count, uint32_t dsub, const float *sub,
                             float scale, float *out)
{
    if (dsub == 1)
        table_row(codewords, count, 1, sub, scale, out);
    else if (dsub == 2)
        table_row(codewords, count, 2, sub, scale, out);
    else if (dsub == 4)
        table_row(codewords, count, 4, sub, scale, out);
    else
        table_row(codewords, count, 8, sub, scale, out);
}

/* rows is a constant in every caller. */
SAC_SPECIALIZE void encode_rows(const float *codewords, uint32_t count, uint32_t dsub, const float *x,
                                size_t x_stride, int rows, uint8_t *codes, size_t stride)
{
    __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512 least[8];
    __m512i where[8];

#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        least[i] = _mm512_set1_ps(INFINITY);
        where[i] = _mm512_setzero_si512();
    }
    for (uint32_t c = 0; c < count; c += 16, index = _mm512_add_epi32(index, _mm512_set1_epi32(16))) {
        __m512 sums[8];

#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
            sums[i] = _mm512_setzero_ps();
        for (uint32_t d = 0; d < dsub; d++) {
            __m512 words = _mm512_loadu_ps(codewords + (size_t)d * count + c);

#pragma GCC unroll 8
            for (int i = 0; i < rows; i++) {
                __m512 difference = _mm512_sub_ps(_mm512_set1_ps(x[(size_t)i * x_stride + d]), words);

                sums[i] = _mm512_fmadd_ps(difference, difference, sums[i]);
            }
        }
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            __mmask16 less = _mm512_cmp_ps_mask(sums[i], least[i], _CMP_LT_OQ);

            least[i] = _mm512_mask_mov_ps(least[i], less, sums[i]);
            where[i] = _mm512_mask_mov_epi32(where[i], less, index);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        __m512 smallest = _mm512_set1_ps(_mm512_reduce_min_ps(least[i]));
        __mmask16 equal = _mm512_cmp_ps_mask(least[i], smallest, _CMP_EQ_OQ);

        codes[(size_t)i * stride] =
            (uint8_t)_mm512_reduce_min_epu32(_mm512_mask_mov_epi32(_mm512_set1_epi32(-1), equal, where[i]));
    }
}

static void encode_avx512(const float *codewords, uint32_t count, uint32_t dsub, const float *x,
                          size_t x_stride, uint32_t n, uint8_t *codes, size_t stride)
{
    uint32_t i = 0;

    for (; i + 8 <= n; i += 8)
        encode_rows(codewords, count, dsub, x + i * x_stride, x_stride, 8, codes + i * stride, stride);
    for (; i < n; i++)
        encode_rows(codewords, count, dsub, x + i * x_stride, x_stride, 1, codes + i * stride, stride);
}

const struct sac_pq_kernels sac_pq_avx512 = {table_row_avx512, encode_avx512, &sac_rows_avx512};
