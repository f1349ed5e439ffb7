/* simd_avx512.h -- a register of floats, for operations that are written once and built for AVX2 and AVX-512
 * (their text is in <op>_simd.h). Names and meaning are the same as in simd_avx2.h. */
#ifndef SACCADE_SIMD_H
#define SACCADE_SIMD_H

#include <immintrin.h>
#include <stdint.h>

#define VF_LANES 16u
#if defined(__AVX512BF16__) /* built once more, for CPUs that can round to bf16 by themselves */
#define VF_NAME(stem) stem##_bf16
#else
#define VF_NAME(stem) stem##_avx512
#endif

typedef __m512 vf;
typedef __mmask16 vf_part; /* the first lanes of a register */

static inline vf_part vf_first(uint32_t lanes) /* lanes at most VF_LANES */
{
    return (vf_part)((1u << lanes) - 1u);
}

static inline vf vf_set(float x)
{
    return _mm512_set1_ps(x);
}

static inline vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline vf vf_load_part(const float *p, vf_part part) /* zeros beyond */
{
    return _mm512_maskz_loadu_ps(part, p);
}

static inline void vf_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}

static inline void vf_store_part(float *p, vf x, vf_part part)
{
    _mm512_mask_storeu_ps(p, part, x);
}

static inline vf vf_from_bf16(__m256i half)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

static inline vf vf_load_bf16(const uint16_t *p)
{
    return vf_from_bf16(_mm256_loadu_si256((const __m256i *)p));
}

static inline vf vf_load_part_bf16(const uint16_t *p, vf_part part)
{
    return vf_from_bf16(_mm256_maskz_loadu_epi16(part, p));
}

/* Nearest, ties to even; NaN stays NaN. */
#if defined(__AVX512BF16__)
static inline __m256i vf_to_bf16(vf x)
{
    return (__m256i)_mm512_cvtneps_pbh(x);
}
#else
static inline __m256i vf_to_bf16(vf x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);

    return _mm512_cvtepi32_epi16(
        _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc00000)), 16));
}
#endif

static inline void vf_store_bf16(uint16_t *p, vf x)
{
    _mm256_storeu_si256((__m256i *)p, vf_to_bf16(x));
}

static inline void vf_store_part_bf16(uint16_t *p, vf x, vf_part part)
{
    _mm256_mask_storeu_epi16(p, part, vf_to_bf16(x));
}

static inline vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

static inline vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

static inline vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

static inline vf vf_fma(vf a, vf b, vf c) /* a * b + c */
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vf vf_max(vf a, vf b) /* b where one is NaN */
{
    return _mm512_max_ps(a, b);
}

static inline vf vf_min(vf a, vf b) /* b where one is NaN */
{
    return _mm512_min_ps(a, b);
}

static inline vf vf_abs(vf x)
{
    return _mm512_abs_ps(x);
}

static inline vf vf_round(vf x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vf vf_floor(vf x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

/* 1 / x within 2^-14. */
static inline vf vf_reciprocal_rough(vf x)
{
    return _mm512_rcp14_ps(x);
}

/* x * 2^n for whole n. */
static inline vf vf_scale(vf x, vf n)
{
    return _mm512_scalef_ps(x, n);
}

/* magnitude with the sign of `sign`. */
static inline vf vf_copysign(vf magnitude, vf sign)
{
    __m512i mask = _mm512_set1_epi32(INT32_MIN);

    return _mm512_castsi512_ps(
        _mm512_ternarylogic_epi32(mask, _mm512_castps_si512(sign), _mm512_castps_si512(magnitude), 0xca));
}

static inline float vf_sum(vf x)
{
    return _mm512_reduce_add_ps(x);
}

static inline float vf_highest(vf x)
{
    return _mm512_reduce_max_ps(x);
}

#endif
