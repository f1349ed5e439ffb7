/* fold_avx2.h -- horizontal sums of many registers at once; for the _avx2 files. */
#ifndef SACCADE_CPU_FOLD_AVX2_H
#define SACCADE_CPU_FOLD_AVX2_H

#include <immintrin.h>

/* Lane i of the result is the sum of sums[i]. */
static inline __m256 fold8(const __m256 sums[8])
{
    __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(sums[0], sums[1]), _mm256_hadd_ps(sums[2], sums[3]));
    __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(sums[4], sums[5]), _mm256_hadd_ps(sums[6], sums[7]));

    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

#endif
