/* half.h -- conversions between f32 and the two 16-bit float formats, in plain C: IEEE 754 binary16 and
 * bfloat16. Rounding is to nearest, ties to even; overflow gives infinity; NaN stays NaN. */
#ifndef SACCADE_HALF_H
#define SACCADE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t sac_f32_bits(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float sac_f32_from_bits(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint16_t sac_f32_to_f16(float x)
{
    uint32_t bits = sac_f32_bits(x);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);

    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) /* NaN: keep the top of the payload, make it quiet */
        return (uint16_t)(sign | 0x7e00u | ((bits >> 13) & 0x03ffu));
    if (bits >= 0x477ff000u) /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00u);
    if (bits <
        0x38800000u) { /* below 2^-14: adding 0.5 leaves the subnormal's bits, rounded, at the bottom */
        float shifted = sac_f32_from_bits(bits) + 0.5f;

        return (uint16_t)(sign | (sac_f32_bits(shifted) - 0x3f000000u));
    }
    bits += 0x0fffu + ((bits >> 13) & 1u);                  /* round */
    return (uint16_t)(sign | ((bits - 0x38000000u) >> 13)); /* rebias the exponent from 127 to 15 */
}

static inline float sac_f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    uint32_t exponent = (half >> 10) & 0x1fu, mantissa = half & 0x3ffu;
    float small;

    if (exponent == 0x1f)
        return sac_f32_from_bits(sign | 0x7f800000u | (mantissa << 13) | (mantissa != 0 ? 0x400000u : 0));
    if (exponent != 0)
        return sac_f32_from_bits(sign | ((exponent + 112u) << 23) | (mantissa << 13));
    small = (float)mantissa * 0x1p-24f; /* zero or subnormal */
    return sign != 0 ? -small : small;
}

static inline uint16_t sac_f32_to_bf16(float x)
{
    uint32_t bits = sac_f32_bits(x);

    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static inline float sac_bf16_to_f32(uint16_t bf16)
{
    return sac_f32_from_bits((uint32_t)bf16 << 16);
}

#endif
