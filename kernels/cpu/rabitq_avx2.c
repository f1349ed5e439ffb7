/* Walsh-Hadamard transforms and signs, 8 components a register. Twins: walsh.h, ref/rabitq_encode.c. */
#include "kernels/cpu/rabitq.h"

#include "kernels/backend.h"
#include "kernels/walsh.h"

#include <immintrin.h>

enum { LANES = 8 };

/* A number and its partner become their sum and difference: what stands in the upper place is
 * subtracted from its partner. */
#define BUTTERFLY(x, partner, upper) \
    _mm256_blend_ps(_mm256_add_ps(x, partner), _mm256_sub_ps(partner, x), upper)

SAC_SPECIALIZE __m256 walsh8(__m256 x)
{
    x = BUTTERFLY(x, _mm256_permute_ps(x, 0xb1), 0xaa);
    x = BUTTERFLY(x, _mm256_permute_ps(x, 0x4e), 0xcc);
    return BUTTERFLY(x, _mm256_permute2f128_ps(x, x, 0x01), 0xf0);
}

static void mix_avx2(float *x, const float *signs, float scale, uint32_t n)
{
    const __m256 scales = _mm256_set1_ps(scale);

    if (n < LANES) {
        for (uint32_t i = 0; i < n; i++)
            x[i] *= signs[i] * scale;
        sac_walsh(x, n);
        return;
    }
    for (uint32_t i = 0; i < n; i += LANES) {
        __m256 factors = _mm256_mul_ps(_mm256_loadu_ps(signs + i), scales);

        _mm256_storeu_ps(x + i, walsh8(_mm256_mul_ps(_mm256_loadu_ps(x + i), factors)));
    }
    for (uint32_t apart = LANES; apart < n; apart *= 2)
        for (uint32_t first = 0; first < n; first += 2 * apart)
            for (uint32_t i = first; i < first + apart; i += LANES) {
                __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(x + i + apart);

                _mm256_storeu_ps(x + i, _mm256_add_ps(a, b));
                _mm256_storeu_ps(x + i + apart, _mm256_sub_ps(a, b));
            }
}

static double sum_of(__m256 x)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return (double)_mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

/* All of a register, or its lower half. */
static inline __m256 load(const float *from, bool whole)
{
    return whole ? _mm256_loadu_ps(from) : _mm256_zextps128_ps256(_mm_loadu_ps(from));
}

static void encode_avx2(const float *x, const float *c, uint32_t dim, uint8_t *codes,
                        struct sac_rabitq_sums *sums)
{
    const __m256 zero = _mm256_setzero_ps(), sign = _mm256_set1_ps(-0.0f);
    __m256 squares = zero, lengths = zero, signed_centroid = zero, residual = zero, centroid = zero;

    for (uint32_t d = 0; d < dim; d += LANES) {
        bool whole = dim - d >= LANES;
        __m256 own = load(c + d, whole), r = _mm256_sub_ps(load(x + d, whole), own);
        __m256 positive = _mm256_cmp_ps(r, zero, _CMP_GE_OQ);
        uint32_t bits = (uint32_t)_mm256_movemask_ps(positive);

        codes[d / SAC_RABITQ_DSUB] = bits & 0xf;
        if (whole)
            codes[d / SAC_RABITQ_DSUB + 1] = (uint8_t)(bits >> SAC_RABITQ_DSUB);
        squares = _mm256_fmadd_ps(r, r, squares);
        lengths = _mm256_add_ps(lengths, _mm256_andnot_ps(sign, r));
        signed_centroid =
            _mm256_add_ps(signed_centroid, _mm256_xor_ps(own, _mm256_andnot_ps(positive, sign)));
        residual = _mm256_fmadd_ps(own, r, residual);
        centroid = _mm256_fmadd_ps(own, own, centroid);
    }
    *sums = (struct sac_rabitq_sums){
        .squares = sum_of(squares),
        .lengths = sum_of(lengths),
        .signed_centroid = sum_of(signed_centroid),
        .centroid_residual = sum_of(residual),
        .centroid_squares = sum_of(centroid),
    };
}

const struct sac_rabitq_kernels sac_rabitq_avx2 = {mix_avx2, encode_avx2};
