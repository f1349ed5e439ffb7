/* cuda_fp16.h -- half precision: each operation in float, then rounded once, as the hardware rounds. */
#ifndef CUDA_HOST_FP16_H
#define CUDA_HOST_FP16_H

#include "cuda_host/math.h"

namespace cuda_host
{

static inline float half_to_float(uint16_t h)
{
    /* Exponent and mantissa moved into place, 2^112 corrects the bias and makes subnormals normal. */
    const float scaled = bits_as<float>(static_cast<uint32_t>(h & 0x7fff) << 13) * 0x1p112f;
    uint32_t bits = bits_as<uint32_t>(scaled);
    if ((h & 0x7c00) == 0x7c00)
        bits |= 0x7f800000u; /* infinity and NaN keep their exponent full */
    return bits_as<float>(bits | static_cast<uint32_t>(h & 0x8000) << 16);
}

/* To the nearest, ties to even. */
static inline uint16_t half_from_float(float f)
{
    const uint32_t bits = bits_as<uint32_t>(f);
    const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
    const uint32_t magnitude = bits & 0x7fffffffu;

    if (magnitude > 0x7f800000u)
        return 0x7fff; /* NaN, as the hardware writes it */
    if (magnitude >= 0x477ff000u)
        return sign | 0x7c00;    /* 65520 and above */
    if (magnitude < 0x38800000u) /* below 2^-14: the addition of 0.5 rounds at the right bit */
        return static_cast<uint16_t>(sign |
                                     (bits_as<uint32_t>(bits_as<float>(magnitude) + 0.5f) - 0x3f000000u));
    return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13));
}

} // namespace cuda_host

struct __half {
    uint16_t bits;

    __half() = default;
    __half(float f) : bits(cuda_host::half_from_float(f))
    {
    }
    __half(double d) : __half(static_cast<float>(d))
    {
    }
    __half(int i) : __half(static_cast<float>(i))
    {
    }
    operator float() const
    {
        return cuda_host::half_to_float(bits);
    }
};
typedef __half half;

#define CUDA_HOST_SHORT_FLOAT __half
#define CUDA_HOST_SHORT_PAIR __half2
#include "cuda_host/short_float.h"
#undef CUDA_HOST_SHORT_FLOAT
#undef CUDA_HOST_SHORT_PAIR

typedef __half2 half2;

static inline unsigned short __half_as_ushort(__half h)
{
    return h.bits;
}
static inline __half __ushort_as_half(unsigned short bits)
{
    __half h;
    h.bits = bits;
    return h;
}
static inline float __half2float(__half h)
{
    return h;
}
static inline __half __float2half(float f)
{
    return __half(f);
}
static inline __half __float2half_rn(float f)
{
    return __half(f);
}
static inline __half __double2half(double d)
{
    return __half(d);
}
static inline float2 __half22float2(__half2 h)
{
    return {h.x, h.y};
}
static inline __half2 __floats2half2_rn(float a, float b)
{
    return {__half(a), __half(b)};
}
static inline __half2 __float22half2_rn(float2 f)
{
    return {__half(f.x), __half(f.y)};
}
static inline __half2 __float2half2_rn(float f)
{
    return {__half(f), __half(f)};
}
static inline __half2 __halves2half2(__half a, __half b)
{
    return {a, b};
}
static inline __half2 __half2half2(__half a)
{
    return {a, a};
}
static inline __half __low2half(__half2 h)
{
    return h.x;
}
static inline __half __high2half(__half2 h)
{
    return h.y;
}

#endif
