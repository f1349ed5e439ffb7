/* pq_sums_avx512.h -- from bytes looked up for 64 entries to their distances; for the _avx512 and _vbmi
 * files. */
#ifndef SACCADE_CPU_PQ_SUMS_AVX512_H
#define SACCADE_CPU_PQ_SUMS_AVX512_H

#include "kernels/cpu/pq_scan.h"

#include <immintrin.h>

/* 64 sums in 16 bits. `all` adds each pair of bytes as one number, so its low half overflows into the high
 * one; `odd` counts the high bytes alone, and what is wrong in `all` is exactly odd * 256. Three instructions
 * a register of bytes, none of them on the shuffle port. */
struct sums64 {
    __m512i all, odd;
};

static inline void sums64_add(struct sums64 *s, __m512i bytes)
{
    s->all = _mm512_add_epi16(s->all, bytes);
    s->odd = _mm512_add_epi16(s->odd, _mm512_srli_epi16(bytes, 8));
}

static inline void distance16_store(__m256i sums, const float *bias, __m512 base, __m512 unit,
                                    float *distance)
{
    __m512 sum = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums));

    _mm512_storeu_ps(distance, _mm512_fmadd_ps(unit, sum, _mm512_add_ps(base, _mm512_loadu_ps(bias))));
}

/* With factors: see struct sac_pq_scan_kernels. */
static inline void scaled16_store(__m256i sums, const struct sac_pq_bytes *bytes, const float *bias,
                                  const float *factors, float base, float *distance)
{
    __m512 sum = _mm512_fmadd_ps(_mm512_set1_ps(bytes->unit), _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(sums)),
                                 _mm512_set1_ps(bytes->offset));
    __m512 start = _mm512_add_ps(_mm512_set1_ps(base), _mm512_loadu_ps(bias));

    _mm512_storeu_ps(distance, _mm512_fmadd_ps(_mm512_loadu_ps(factors), sum, start));
}

/* The sums in the order of the entries. */
static inline void sums64_order(const struct sums64 *s, __m512i *low, __m512i *high)
{
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
                  second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    __m512i even = _mm512_sub_epi16(s->all, _mm512_slli_epi16(s->odd, 8));
    __m512i a = _mm512_unpacklo_epi16(even, s->odd), b = _mm512_unpackhi_epi16(even, s->odd);

    *low = _mm512_permutex2var_epi64(a, first, b);
    *high = _mm512_permutex2var_epi64(a, second, b);
}

static inline void sums64_store_scaled(const struct sums64 *s, const struct sac_pq_bytes *bytes,
                                       const float *bias, const float *factors, float base, float *distance)
{
    __m512i low, high;

    sums64_order(s, &low, &high);
    scaled16_store(_mm512_castsi512_si256(low), bytes, bias, factors, base, distance);
    scaled16_store(_mm512_extracti64x4_epi64(low, 1), bytes, bias + 16, factors + 16, base, distance + 16);
    scaled16_store(_mm512_castsi512_si256(high), bytes, bias + 32, factors + 32, base, distance + 32);
    scaled16_store(_mm512_extracti64x4_epi64(high, 1), bytes, bias + 48, factors + 48, base, distance + 48);
}

static inline void sums64_store(const struct sums64 *s, const float *bias, float base, float unit,
                                float *distance)
{
    __m512 bases = _mm512_set1_ps(base), units = _mm512_set1_ps(unit);
    __m512i low, high;

    sums64_order(s, &low, &high);
    distance16_store(_mm512_castsi512_si256(low), bias, bases, units, distance);
    distance16_store(_mm512_extracti64x4_epi64(low, 1), bias + 16, bases, units, distance + 16);
    distance16_store(_mm512_castsi512_si256(high), bias + 32, bases, units, distance + 32);
    distance16_store(_mm512_extracti64x4_epi64(high, 1), bias + 48, bases, units, distance + 48);
}

#endif
