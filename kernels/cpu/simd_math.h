/* simd_math.h -- exp and what transformers build from it, on registers of simd_avx2.h or simd_avx512.h. */
#ifndef SACCADE_SIMD_MATH_H
#define SACCADE_SIMD_MATH_H

/* e^x within 2 units in the last place from -87 to 88; below it goes to 0, above to infinity; NaN stays NaN.
 * x = n ln 2 + r with |r| <= ln 2 / 2 (ln 2 in two parts, so that r is exact), e^r by its Taylor series to
 * r^7. */
static inline vf vf_exp(vf x)
{
    vf n, r, e;

    x = vf_max(vf_set(-104.0f), vf_min(vf_set(89.0f), x));
    n = vf_round(vf_mul(x, vf_set(1.44269504f)));
    r = vf_fma(n, vf_set(-0.693359375f), x);
    r = vf_fma(n, vf_set(2.12194440e-4f), r);
    e = vf_set(1.0f / 5040);
    e = vf_fma(e, r, vf_set(1.0f / 720));
    e = vf_fma(e, r, vf_set(1.0f / 120));
    e = vf_fma(e, r, vf_set(1.0f / 24));
    e = vf_fma(e, r, vf_set(1.0f / 6));
    e = vf_fma(e, r, vf_set(0.5f));
    e = vf_fma(e, r, vf_set(1.0f));
    e = vf_fma(e, r, vf_set(1.0f));
    return vf_scale(e, n);
}

/* x / (1 + e^-(x * slope)): silu and the quick GELU. */
static inline vf vf_silu(vf x, float slope)
{
    return vf_div(x, vf_add(vf_set(1.0f), vf_exp(vf_mul(x, vf_set(-slope)))));
}

/* x/2 (1 + erf(x / sqrt 2)), erf by Abramowitz and Stegun 7.1.26: |error| of erf <= 1.5e-7. */
static inline vf vf_gelu_erf(vf x)
{
    vf z = vf_mul(vf_abs(x), vf_set(0.70710678f));
    vf t = vf_div(vf_set(1.0f), vf_fma(z, vf_set(0.3275911f), vf_set(1.0f)));
    vf e = vf_exp(vf_mul(vf_mul(z, z), vf_set(-1.0f)));
    vf p = vf_set(1.061405429f), erf, half;

    p = vf_fma(p, t, vf_set(-1.453152027f));
    p = vf_fma(p, t, vf_set(1.421413741f));
    p = vf_fma(p, t, vf_set(-0.284496736f));
    p = vf_fma(p, t, vf_set(0.254829592f));
    erf = vf_sub(vf_set(1.0f), vf_mul(vf_mul(p, t), e));
    half = vf_mul(x, vf_set(0.5f));
    return vf_fma(half, vf_copysign(erf, x), half);
}

/* x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), by (1 + tanh y) / 2 = 1 / (1 + e^-2y). */
static inline vf vf_gelu_tanh(vf x)
{
    vf y = vf_mul(x, vf_fma(vf_mul(x, x), vf_set(0.044715f), vf_set(1.0f)));

    return vf_div(x, vf_add(vf_set(1.0f), vf_exp(vf_mul(y, vf_set(-1.59576912f)))));
}

/* ---- the same for results that are rounded to bf16 (2^-9) right away ----------------------------------- */

/* 2^t for t of -126..126: whole part by the exponent, fraction by a cubic fitted on 0..1 (relative error
 * 7.5e-5). */
static inline vf vf_exp2_rough(vf t)
{
    vf n, f, p;

    t = vf_max(vf_set(-126.0f), vf_min(vf_set(126.0f), t));
    n = vf_floor(t);
    f = vf_sub(t, n);
    p = vf_fma(vf_set(0.0780245f), f, vf_set(0.2260672f));
    p = vf_fma(p, f, vf_set(0.6958335f));
    p = vf_fma(p, f, vf_set(0.9999252f));
    return vf_scale(p, n);
}

/* x / (1 + 2^z) */
static inline vf vf_gate_rough(vf x, vf z)
{
    return vf_mul(x, vf_reciprocal_rough(vf_add(vf_set(1.0f), vf_exp2_rough(z))));
}

static inline vf vf_silu_rough(vf x, float slope)
{
    return vf_gate_rough(x, vf_mul(x, vf_set(-1.44269504f * slope)));
}

static inline vf vf_gelu_tanh_rough(vf x)
{
    vf y = vf_mul(x, vf_fma(vf_mul(x, x), vf_set(0.044715f), vf_set(1.0f)));

    return vf_gate_rough(x, vf_mul(y, vf_set(-1.59576912f * 1.44269504f)));
}

/* erf(x / sqrt 2) / 2 as x times a polynomial in x^2, fitted on |x| <= 4.5 so that the error of the GELU is
 * least (8e-5); beyond, the GELU is 0 or x to bf16's precision. */
static inline vf vf_gelu_erf_rough(vf x)
{
    static const float terms[] = {0.0042033387f, -0.010032611f, 0.010981187f, -0.01579805f, 0.028146897f,
                                  -0.040903684f, 0.0547558f,    -0.07714183f, 0.15690309f};
    const vf edge = vf_set(4.5f);
    vf from = vf_max(vf_set(-4.5f), x), in = vf_min(edge, from);
    vf t = vf_fma(vf_mul(in, in), vf_set(2.0f / (4.5f * 4.5f)), vf_set(-1.0f)), p = vf_set(terms[0]);

    for (int i = 1; i < 9; i++)
        p = vf_fma(p, t, vf_set(terms[i]));
    return vf_mul(from, vf_fma(in, p, vf_set(0.5f)));
}

#endif
