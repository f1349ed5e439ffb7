/* simd_avx2.h -- a register of floats, for operations that are written once and built for AVX2 and AVX-512
 * (their text is in <op>_simd.h). Names and meaning are the same as in simd_avx512.h. */
#ifndef SACCADE_SIMD_H
#define SACCADE_SIMD_H

#include <immintrin.h>
#include <stdint.h>

#define VF_LANES 8u
#define VF_NAME(stem) stem##_avx2

typedef __m256 vf;
typedef struct vf_part { /* the first lanes of a register */
    __m256i mask;
    uint32_t lanes;
} vf_part;

static inline vf_part vf_first(uint32_t lanes) /* lanes at most VF_LANES */
{
    __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

    return (vf_part){_mm256_cmpgt_epi32(_mm256_set1_epi32((int)lanes), index), lanes};
}

static inline vf vf_set(float x)
{
    return _mm256_set1_ps(x);
}

static inline vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline vf vf_load_part(const float *p, vf_part part) /* zeros beyond */
{
    return _mm256_maskload_ps(p, part.mask);
}

static inline void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x);
}

static inline void vf_store_part(float *p, vf x, vf_part part)
{
    _mm256_maskstore_ps(p, part.mask, x);
}

static inline vf vf_load_bf16(const uint16_t *p)
{
    __m128i half = _mm_loadu_si128((const __m128i *)p);

    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

static inline vf vf_load_part_bf16(const uint16_t *p, vf_part part)
{
    uint16_t half[VF_LANES] = {0};

    if (part.lanes == VF_LANES)
        return vf_load_bf16(p);
    for (uint32_t i = 0; i < part.lanes; i++)
        half[i] = p[i];
    return vf_load_bf16(half);
}

/* Nearest, ties to even; NaN stays NaN. */
static inline __m128i vf_to_bf16(vf x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc00000), nan), 16);

    return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
}

static inline void vf_store_bf16(uint16_t *p, vf x)
{
    _mm_storeu_si128((__m128i *)p, vf_to_bf16(x));
}

static inline void vf_store_part_bf16(uint16_t *p, vf x, vf_part part)
{
    uint16_t half[VF_LANES];

    if (part.lanes == VF_LANES) {
        vf_store_bf16(p, x);
        return;
    }
    vf_store_bf16(half, x);
    for (uint32_t i = 0; i < part.lanes; i++)
        p[i] = half[i];
}

static inline vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

static inline vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

static inline vf vf_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}

static inline vf vf_fma(vf a, vf b, vf c) /* a * b + c */
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vf vf_max(vf a, vf b) /* b where one is NaN */
{
    return _mm256_max_ps(a, b);
}

static inline vf vf_min(vf a, vf b) /* b where one is NaN */
{
    return _mm256_min_ps(a, b);
}

static inline vf vf_abs(vf x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

static inline vf vf_round(vf x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vf vf_floor(vf x)
{
    return _mm256_floor_ps(x);
}

/* 1 / x within 2^-14 or better: AVX2's 2^-11 and a step of Newton's. Not for 0 and infinity. */
static inline vf vf_reciprocal_rough(vf x)
{
    vf y = _mm256_rcp_ps(x);

    return _mm256_mul_ps(y, _mm256_fnmadd_ps(x, y, _mm256_set1_ps(2.0f)));
}

/* x * 2^n for whole n of -252..254: in two steps, because 2^n alone leaves the range of floats. */
static inline vf vf_scale(vf x, vf n)
{
    __m256i whole = _mm256_cvtps_epi32(n);
    __m256i half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half);
    __m256i bias = _mm256_set1_epi32(127);
    __m256 first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    __m256 second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));

    return _mm256_mul_ps(_mm256_mul_ps(x, first), second);
}

/* magnitude with the sign of `sign`. */
static inline vf vf_copysign(vf magnitude, vf sign)
{
    __m256 mask = _mm256_set1_ps(-0.0f);

    return _mm256_or_ps(_mm256_andnot_ps(mask, magnitude), _mm256_and_ps(mask, sign));
}

static inline float vf_sum(vf x)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float vf_highest(vf x)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#endif
