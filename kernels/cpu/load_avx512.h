/* load_avx512.h -- components of a stored row as floats; for the files that have AVX-512. */
#ifndef SACCADE_CPU_LOAD_AVX512_H
#define SACCADE_CPU_LOAD_AVX512_H

#include "kernels/cpu/reservoir.h"

#include <immintrin.h>

/* Components at, at + 1, .. of a row, those of the mask; the others are 0 and are not read. dtype is a
 * constant in every caller. */
static inline __attribute__((always_inline)) __m512 load16(const void *row, uint32_t at, __mmask16 mask,
                                                           sac_dtype dtype)
{
    if (dtype == SAC_I8) {
        __m512i whole = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, (const int8_t *)row + 4 + at));

        return _mm512_mul_ps(_mm512_cvtepi32_ps(whole), _mm512_set1_ps(*(const float *)row));
    }
    if (dtype == SAC_F16)
        return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)row + at));
    return _mm512_maskz_loadu_ps(mask, (const float *)row + at);
}

#endif
