/* cuda_bf16.h -- bfloat16: each operation in float, then rounded once, as the hardware rounds. */
#ifndef CUDA_HOST_BF16_H
#define CUDA_HOST_BF16_H

#include "cuda_host/math.h"

namespace cuda_host
{

static inline float bfloat16_to_float(uint16_t b)
{
    return bits_as<float>(static_cast<uint32_t>(b) << 16);
}

/* To the nearest, ties to even. */
static inline uint16_t bfloat16_from_float(float f)
{
    const uint32_t bits = bits_as<uint32_t>(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 0x7fff; /* NaN, as the hardware writes it */
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

} // namespace cuda_host

struct __nv_bfloat16 {
    uint16_t bits;

    __nv_bfloat16() = default;
    __nv_bfloat16(float f) : bits(cuda_host::bfloat16_from_float(f))
    {
    }
    __nv_bfloat16(double d) : __nv_bfloat16(static_cast<float>(d))
    {
    }
    __nv_bfloat16(int i) : __nv_bfloat16(static_cast<float>(i))
    {
    }
    operator float() const
    {
        return cuda_host::bfloat16_to_float(bits);
    }
};

#define CUDA_HOST_SHORT_FLOAT __nv_bfloat16
#define CUDA_HOST_SHORT_PAIR __nv_bfloat162
#include "cuda_host/short_float.h"
#undef CUDA_HOST_SHORT_FLOAT
#undef CUDA_HOST_SHORT_PAIR

typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 b)
{
    return b.bits;
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    __nv_bfloat16 b;
    b.bits = bits;
    return b;
}
static inline float __bfloat162float(__nv_bfloat16 b)
{
    return b;
}
static inline __nv_bfloat16 __float2bfloat16(float f)
{
    return __nv_bfloat16(f);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
    return __nv_bfloat16(f);
}
static inline __nv_bfloat16 __double2bfloat16(double d)
{
    return __nv_bfloat16(d);
}
static inline float2 __bfloat1622float2(__nv_bfloat162 b)
{
    return {b.x, b.y};
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b)
{
    return {__nv_bfloat16(a), __nv_bfloat16(b)};
}
static inline __nv_bfloat162 __float22bfloat162_rn(float2 f)
{
    return {__nv_bfloat16(f.x), __nv_bfloat16(f.y)};
}
static inline __nv_bfloat162 __float2bfloat162_rn(float f)
{
    return {__nv_bfloat16(f), __nv_bfloat16(f)};
}
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return {a, b};
}
static inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 a)
{
    return {a, a};
}
static inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 b)
{
    return b.x;
}
static inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 b)
{
    return b.y;
}

#endif
