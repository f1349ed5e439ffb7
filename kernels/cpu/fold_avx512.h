/* fold_avx512.h -- horizontal sums of many registers at once; for the _avx512 files. */
#ifndef SACCADE_CPU_FOLD_AVX512_H
#define SACCADE_CPU_FOLD_AVX512_H

#include <immintrin.h>

/* The sums of neighbouring pairs of a, then of b. */
static inline __m512 pair_sums(__m512 a, __m512 b)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);

    return _mm512_add_ps(_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b));
}

/* Lane i of the result is the sum of sums[i]. */
static inline __m512 fold16(__m512 sums[16])
{
#pragma GCC unroll 4
    for (int width = 8; width >= 1; width /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < width; i++)
            sums[i] = pair_sums(sums[2 * i], sums[2 * i + 1]);
    return sums[0];
}

#endif
