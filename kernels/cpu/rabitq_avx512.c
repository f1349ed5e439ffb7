/* Walsh-Hadamard transforms and signs, 16 components a register. Twins: walsh.h, ref/rabitq_encode.c. */
#include "kernels/cpu/rabitq.h"

#include "kernels/backend.h"
#include "kernels/walsh.h"

#include <immintrin.h>

enum { LANES = 16 };

/* A number and its partner become their sum and difference: what stands in the upper place is
 * subtracted from its partner. */
SAC_SPECIALIZE __m512 butterfly(__m512 x, __m512 partner, __mmask16 upper)
{
    return _mm512_mask_sub_ps(_mm512_add_ps(x, partner), upper, partner, x);
}

SAC_SPECIALIZE __m512 walsh16(__m512 x)
{
    x = butterfly(x, _mm512_permute_ps(x, 0xb1), 0xaaaa);
    x = butterfly(x, _mm512_permute_ps(x, 0x4e), 0xcccc);
    x = butterfly(x, _mm512_shuffle_f32x4(x, x, 0xb1), 0xf0f0);
    return butterfly(x, _mm512_shuffle_f32x4(x, x, 0x4e), 0xff00);
}

static void mix_avx512(float *x, const float *signs, float scale, uint32_t n)
{
    const __m512 scales = _mm512_set1_ps(scale);

    if (n < LANES) {
        for (uint32_t i = 0; i < n; i++)
            x[i] *= signs[i] * scale;
        sac_walsh(x, n);
        return;
    }
    for (uint32_t i = 0; i < n; i += LANES) {
        __m512 factors = _mm512_mul_ps(_mm512_loadu_ps(signs + i), scales);

        _mm512_storeu_ps(x + i, walsh16(_mm512_mul_ps(_mm512_loadu_ps(x + i), factors)));
    }
    for (uint32_t apart = LANES; apart < n; apart *= 2)
        for (uint32_t first = 0; first < n; first += 2 * apart)
            for (uint32_t i = first; i < first + apart; i += LANES) {
                __m512 a = _mm512_loadu_ps(x + i), b = _mm512_loadu_ps(x + i + apart);

                _mm512_storeu_ps(x + i, _mm512_add_ps(a, b));
                _mm512_storeu_ps(x + i + apart, _mm512_sub_ps(a, b));
            }
}

static void encode_avx512(const float *x, const float *c, uint32_t dim, uint8_t *codes,
                          struct sac_rabitq_sums *sums)
{
    const __m512 zero = _mm512_setzero_ps();
    __m512 squares = zero, lengths = zero, signed_centroid = zero, residual = zero, centroid = zero;

    for (uint32_t d = 0; d < dim; d += LANES) {
        __mmask16 there = dim - d >= LANES ? 0xffff : (__mmask16)((1u << (dim - d)) - 1);
        __m512 own = _mm512_maskz_loadu_ps(there, c + d);
        __m512 r = _mm512_sub_ps(_mm512_maskz_loadu_ps(there, x + d), own);
        __mmask16 positive = _mm512_cmp_ps_mask(r, zero, _CMP_GE_OQ);

        for (uint32_t j = 0; j < LANES / SAC_RABITQ_DSUB && d + j * SAC_RABITQ_DSUB < dim; j++)
            codes[d / SAC_RABITQ_DSUB + j] = positive >> j * SAC_RABITQ_DSUB & 0xf;
        squares = _mm512_fmadd_ps(r, r, squares);
        lengths = _mm512_add_ps(lengths, _mm512_abs_ps(r));
        signed_centroid =
            _mm512_add_ps(signed_centroid, _mm512_mask_sub_ps(own, (__mmask16)~positive, zero, own));
        residual = _mm512_fmadd_ps(own, r, residual);
        centroid = _mm512_fmadd_ps(own, own, centroid);
    }
    *sums = (struct sac_rabitq_sums){
        .squares = (double)_mm512_reduce_add_ps(squares),
        .lengths = (double)_mm512_reduce_add_ps(lengths),
        .signed_centroid = (double)_mm512_reduce_add_ps(signed_centroid),
        .centroid_residual = (double)_mm512_reduce_add_ps(residual),
        .centroid_squares = (double)_mm512_reduce_add_ps(centroid),
    };
}

const struct sac_rabitq_kernels sac_rabitq_avx512 = {mix_avx512, encode_avx512};
