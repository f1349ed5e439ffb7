/* rough_avx512.h -- what rough_avx512.c and rough_vnni.c share: from 16 rows' products to their distances. */
#include "kernels/backend.h"
#include "kernels/cpu/rough.h"

#include <immintrin.h>
#include <math.h>

/* The sums of neighbouring pairs of a, then of b. */
static inline __m512i pair_sums(__m512i a, __m512i b)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);

    return _mm512_add_epi32(_mm512_permutex2var_epi32(a, even, b), _mm512_permutex2var_epi32(a, odd, b));
}

/* Adds to sums[i] the products of 64 bytes of row i from `at` on with the query's. */
typedef void step16(__m512i sums[16], const unsigned char *const rows[4], size_t row_bytes,
                    const struct sac_rough_query *query, uint32_t at);

/* Where row i < 16 is, given every fourth. */
SAC_SPECIALIZE const unsigned char *row_of(const unsigned char *const rows[4], size_t row_bytes, size_t i)
{
    return rows[i / 4] + i % 4 * row_bytes;
}

/* The products of 16 rows; step is a constant in every caller. Behind a row the query is 0. */
SAC_SPECIALIZE __m512i products16(step16 *step, const struct sac_rough_query *query,
                                  const unsigned char *rows, size_t row_bytes, uint32_t dim)
{
    const unsigned char *bytes = rows + sizeof(float);
    const unsigned char *fourths[4] = {bytes, bytes + 4 * row_bytes, bytes + 8 * row_bytes,
                                       bytes + 12 * row_bytes};
    __m512i sums[16];

#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        sums[i] = _mm512_setzero_si512();
    for (uint32_t at = 0; at < dim; at += 64)
        step(sums, fourths, row_bytes, query, at);
#pragma GCC unroll 4
    for (int width = 8; width >= 1; width /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < width; i++)
            sums[i] = pair_sums(sums[2 * i], sums[2 * i + 1]);
    return sums[0];
}

/* Distances by products, each of which is `excess` too large. */
SAC_SPECIALIZE __m512 finish16(const struct sac_rough_query *query, __m512i products, int32_t excess,
                               __m512 scale, bool l2, __m512 norm)
{
    __m512 factor = _mm512_mul_ps(_mm512_set1_ps(l2 ? -2.0f * query->scale : -query->scale), scale);

    return _mm512_fmadd_ps(factor, _mm512_cvtepi32_ps(_mm512_sub_epi32(products, _mm512_set1_epi32(excess))),
                           norm);
}

/* 16 rows at a time, of which the last may be met twice; where there are fewer, one row at a time in every
 * lane. */
SAC_SPECIALIZE void distances_by(step16 *step, const struct sac_rough_query *query, const void *rows,
                                 uint32_t n, uint32_t dim, int32_t excess, const float *norms, float *out)
{
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    uint32_t together = n < 16 ? 1 : 16;
    size_t row_bytes = sac_row_bytes(SAC_I8, dim), apart = n < 16 ? 0 : row_bytes;
    __m512i starts = _mm512_mullo_epi32(lanes, _mm512_set1_epi32((int)apart));
    __mmask16 mask = (__mmask16)((1u << together) - 1);

    for (uint32_t i = 0; i < n; i += together) {
        uint32_t first = i + together <= n ? i : n - together;
        const unsigned char *from = (const unsigned char *)rows + first * row_bytes;
        __m512i products = products16(step, query, from, apart, dim);
        __m512 scale = _mm512_i32gather_ps(starts, from, 1);
        __m512 norm = norms != NULL ? _mm512_maskz_loadu_ps(mask, norms + first) : _mm512_setzero_ps();

        _mm512_mask_storeu_ps(out + first, mask,
                              finish16(query, products, excess, scale, norms != NULL, norm));
    }
}
