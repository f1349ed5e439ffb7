/* Tables of short codewords, and nearest codewords: 8 codewords a register. Twins: ref/pq_table.c,
 * ref/pq_encode.c. Floors: see pq_table.c and pq_encode.c. */
#include "kernels/cpu/fold_avx2.h"
#include "kernels/cpu/pq.h"

#include <math.h>

/* The sums of 8 codewords of dsub components each from dsub registers of products. */
SAC_SPECIALIZE __m256 fold_codewords(const __m256 products[8], int dsub)
{
    const __m256i interleave = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);

    if (dsub == 1)
        return products[0];
    if (dsub == 2) {
        __m256 pairs = _mm256_hadd_ps(products[0], products[1]);

        return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(pairs), 0xd8));
    }
    if (dsub == 4) {
        __m256 low = _mm256_hadd_ps(products[0], products[1]),
               high = _mm256_hadd_ps(products[2], products[3]);

        return _mm256_permutevar8x32_ps(_mm256_hadd_ps(low, high), interleave);
    }
    return fold8(products);
}

/* dsub is a constant in every caller. */
SAC_SPECIALIZE void table_row(const float *codewords, uint32_t count, int dsub, const float *sub, float scale,
                              float *out)
{
    float pattern[8];
    __m256 q;

    for (int i = 0; i < 8; i++)
        pattern[i] = scale * sub[i % dsub];
    q = _mm256_loadu_ps(pattern);
    for (uint32_t c = 0; c < count; c += 8) {
        __m256 products[8];

        for (int i = 0; i < dsub; i++)
            products[i] =
                _mm256_mul_ps(q, _mm256_loadu_ps(codewords + (size_t)c * (uint32_t)dsub + (uint32_t)i * 8));
        _mm256_storeu_ps(out + c, fold_codewords(products, dsub));
    }
}

static void table_row_avx2(const float *codewords, uint32_t count, uint32_t dsub, const float *sub,
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

/* The lane with the least value; among equals the smallest index, which floats hold exactly. */
static inline uint8_t least_lane(__m256 least, __m256 where)
{
    __m256 smallest = _mm256_min_ps(least, _mm256_permute2f128_ps(least, least, 1)), equal;
    __m128 index;

    smallest = _mm256_min_ps(smallest, _mm256_permute_ps(smallest, 0x4e));
    smallest = _mm256_min_ps(smallest, _mm256_permute_ps(smallest, 0xb1));
    equal = _mm256_cmp_ps(least, smallest, _CMP_EQ_OQ);
    where = _mm256_blendv_ps(_mm256_set1_ps(256.0f), where, equal);
    index = _mm_min_ps(_mm256_castps256_ps128(where), _mm256_extractf128_ps(where, 1));
    index = _mm_min_ps(index, _mm_movehl_ps(index, index));
    return (uint8_t)_mm_cvtss_si32(_mm_min_ss(index, _mm_movehdup_ps(index)));
}

/* rows is a constant in every caller. */
SAC_SPECIALIZE void encode_rows(const float *codewords, uint32_t count, uint32_t dsub, const float *x,
                                size_t x_stride, int rows, uint8_t *codes, size_t stride)
{
    __m256 index = _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);
    __m256 least[4], where[4];

#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
        least[i] = _mm256_set1_ps(INFINITY);
        where[i] = _mm256_setzero_ps();
    }
    for (uint32_t c = 0; c < count; c += 8, index = _mm256_add_ps(index, _mm256_set1_ps(8))) {
        __m256 sums[4];

#pragma GCC unroll 4
        for (int i = 0; i < rows; i++)
            sums[i] = _mm256_setzero_ps();
        for (uint32_t d = 0; d < dsub; d++) {
            __m256 words = _mm256_loadu_ps(codewords + (size_t)d * count + c);

#pragma GCC unroll 4
            for (int i = 0; i < rows; i++) {
                __m256 difference = _mm256_sub_ps(_mm256_broadcast_ss(&x[(size_t)i * x_stride + d]), words);

                sums[i] = _mm256_fmadd_ps(difference, difference, sums[i]);
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            __m256 less = _mm256_cmp_ps(sums[i], least[i], _CMP_LT_OQ);

            least[i] = _mm256_blendv_ps(least[i], sums[i], less);
            where[i] = _mm256_blendv_ps(where[i], index, less);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
        codes[(size_t)i * stride] = least_lane(least[i], where[i]);
}

static void encode_avx2(const float *codewords, uint32_t count, uint32_t dsub, const float *x,
                        size_t x_stride, uint32_t n, uint8_t *codes, size_t stride)
{
    uint32_t i = 0;

    for (; i + 4 <= n; i += 4)
        encode_rows(codewords, count, dsub, x + i * x_stride, x_stride, 4, codes + i * stride, stride);
    for (; i < n; i++)
        encode_rows(codewords, count, dsub, x + i * x_stride, x_stride, 1, codes + i * stride, stride);
}

const struct sac_pq_kernels sac_pq_avx2 = {table_row_avx2, encode_avx2, &sac_rows_avx2};
