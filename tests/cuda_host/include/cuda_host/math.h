/* math.h -- the arithmetic functions of device code. The approximate ones (__expf and others) are exact here:
 * a tolerance that only the chip's version would break is not found by a host run. */
#ifndef CUDA_HOST_MATH_H
#define CUDA_HOST_MATH_H

#include "vectors.h"

#include <limits>

namespace cuda_host
{

template <class To, class From> static inline To bits_as(From from)
{
    static_assert(sizeof(To) == sizeof(From), "the same size");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

/* To an integer as the hardware converts: out of range goes to the nearest end, NaN to 0. */
template <class T> static inline T saturating(float rounded)
{
    if (std::isnan(rounded))
        return 0;
    const double value = static_cast<double>(rounded);
    if (value <= static_cast<double>(std::numeric_limits<T>::min()))
        return std::numeric_limits<T>::min();
    if (value >= static_cast<double>(std::numeric_limits<T>::max()))
        return std::numeric_limits<T>::max();
    return static_cast<T>(value);
}

} // namespace cuda_host

/* ---- bits ----------------------------------------------------------------------------------------- */

static inline float __int_as_float(int v)
{
    return cuda_host::bits_as<float>(v);
}
static inline float __uint_as_float(unsigned v)
{
    return cuda_host::bits_as<float>(v);
}
static inline int __float_as_int(float v)
{
    return cuda_host::bits_as<int>(v);
}
static inline unsigned __float_as_uint(float v)
{
    return cuda_host::bits_as<unsigned>(v);
}
static inline double __longlong_as_double(long long v)
{
    return cuda_host::bits_as<double>(v);
}
static inline long long __double_as_longlong(double v)
{
    return cuda_host::bits_as<long long>(v);
}
static inline int __popc(unsigned v)
{
    return __builtin_popcount(v);
}
static inline int __popcll(unsigned long long v)
{
    return __builtin_popcountll(v);
}
static inline int __ffs(unsigned v)
{
    return v == 0 ? 0 : __builtin_ctz(v) + 1;
}
static inline int __ffsll(unsigned long long v)
{
    return v == 0 ? 0 : __builtin_ctzll(v) + 1;
}
static inline int __clz(unsigned v)
{
    return v == 0 ? 32 : __builtin_clz(v);
}
static inline int __clzll(unsigned long long v)
{
    return v == 0 ? 64 : __builtin_clzll(v);
}
static inline unsigned __brev(unsigned v)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i++)
        r |= (v >> i & 1u) << (31 - i);
    return r;
}
static inline unsigned long long __brevll(unsigned long long v)
{
    return static_cast<unsigned long long>(__brev(static_cast<unsigned>(v))) << 32 |
           __brev(static_cast<unsigned>(v >> 32));
}
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector)
{
    const unsigned long long both = static_cast<unsigned long long>(y) << 32 | x;
    unsigned r = 0;
    for (int i = 0; i < 4; i++)
        r |= static_cast<unsigned>(both >> (selector >> (4 * i) & 7u) * 8 & 0xffu) << (8 * i);
    return r;
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift)
{
    return static_cast<unsigned>(((static_cast<unsigned long long>(high) << 32 | low) << (shift & 31u)) >>
                                 32);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift)
{
    return static_cast<unsigned>((static_cast<unsigned long long>(high) << 32 | low) >> (shift & 31u));
}

/* ---- integers ------------------------------------------------------------------------------------- */

static inline int __mulhi(int a, int b)
{
    return static_cast<int>((static_cast<long long>(a) * b) >> 32);
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return static_cast<unsigned>((static_cast<unsigned long long>(a) * b) >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
static inline int __dp4a(int a, int b, int c)
{
    unsigned sum = static_cast<unsigned>(c);
    for (int i = 0; i < 32; i += 8)
        sum += static_cast<unsigned>(static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i));
    return static_cast<int>(sum);
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c)
{
    for (int i = 0; i < 32; i += 8)
        c += (a >> i & 0xffu) * (b >> i & 0xffu);
    return c;
}

/* Four bytes or two halves at a time. */
#define CUDA_HOST_LANES(name, bits, expression)                \
    static inline unsigned name(unsigned x, unsigned y)        \
    {                                                          \
        const unsigned top = (1ull << (bits)) - 1;             \
        unsigned r = 0;                                        \
        for (int i = 0; i < 32; i += (bits)) {                 \
            const unsigned a = x >> i & top, b = y >> i & top; \
            r |= ((expression)&top) << i;                      \
        }                                                      \
        return r;                                              \
    }

CUDA_HOST_LANES(__vadd4, 8, a + b)
CUDA_HOST_LANES(__vsub4, 8, a - b)
CUDA_HOST_LANES(__vaddus4, 8, a + b > top ? top : a + b)
CUDA_HOST_LANES(__vsubus4, 8, a < b ? 0u : a - b)
CUDA_HOST_LANES(__vminu4, 8, a < b ? a : b)
CUDA_HOST_LANES(__vmaxu4, 8, a < b ? b : a)
CUDA_HOST_LANES(__vcmpeq4, 8, a == b ? top : 0u)
CUDA_HOST_LANES(__vcmpltu4, 8, a < b ? top : 0u)
CUDA_HOST_LANES(__vcmpleu4, 8, a <= b ? top : 0u)
CUDA_HOST_LANES(__vcmpgtu4, 8, a > b ? top : 0u)
CUDA_HOST_LANES(__vcmpgeu4, 8, a >= b ? top : 0u)
CUDA_HOST_LANES(__vadd2, 16, a + b)
CUDA_HOST_LANES(__vsub2, 16, a - b)
CUDA_HOST_LANES(__vaddus2, 16, a + b > top ? top : a + b)
CUDA_HOST_LANES(__vsubus2, 16, a < b ? 0u : a - b)
CUDA_HOST_LANES(__vminu2, 16, a < b ? a : b)
CUDA_HOST_LANES(__vmaxu2, 16, a < b ? b : a)
CUDA_HOST_LANES(__vcmpeq2, 16, a == b ? top : 0u)
CUDA_HOST_LANES(__vcmpltu2, 16, a < b ? top : 0u)
CUDA_HOST_LANES(__vcmpleu2, 16, a <= b ? top : 0u)
CUDA_HOST_LANES(__vcmpgtu2, 16, a > b ? top : 0u)
CUDA_HOST_LANES(__vcmpgeu2, 16, a >= b ? top : 0u)

/* CUDA's min and max for mixed arguments: the common type, unsigned where one of them is. */
template <class A, class B,
          class = std::enable_if_t<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value>>
static inline std::common_type_t<A, B> min(A a, B b)
{
    typedef std::common_type_t<A, B> T;
    if constexpr (std::is_floating_point<T>::value)
        return std::fmin(static_cast<T>(a), static_cast<T>(b));
    else
        return static_cast<T>(b) < static_cast<T>(a) ? static_cast<T>(b) : static_cast<T>(a);
}
template <class A, class B,
          class = std::enable_if_t<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value>>
static inline std::common_type_t<A, B> max(A a, B b)
{
    typedef std::common_type_t<A, B> T;
    if constexpr (std::is_floating_point<T>::value)
        return std::fmax(static_cast<T>(a), static_cast<T>(b));
    else
        return static_cast<T>(a) < static_cast<T>(b) ? static_cast<T>(b) : static_cast<T>(a);
}

/* ---- floating point -------------------------------------------------------------------------------- */

static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
static inline float __fadd_rn(float a, float b)
{
    return a + b;
}
static inline float __fsub_rn(float a, float b)
{
    return a - b;
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
static inline float __fdividef(float a, float b)
{
    return a / b;
}
static inline float __frcp_rn(float a)
{
    return 1.0f / a;
}
static inline float __fsqrt_rn(float a)
{
    return sqrtf(a);
}
static inline float rsqrtf(float a)
{
    return 1.0f / sqrtf(a);
}
static inline float __frsqrt_rn(float a)
{
    return rsqrtf(a);
}
static inline double rsqrt(double a)
{
    return 1.0 / sqrt(a);
}
static inline float __saturatef(float a)
{
    return std::isnan(a) ? 0.0f : fminf(fmaxf(a, 0.0f), 1.0f);
}
/* Macros, because the C library declares these names for itself. */
#define __expf(a) expf(a)
#define __exp10f(a) exp10f(a)
#define __logf(a) logf(a)
#define __log2f(a) log2f(a)
#define __log10f(a) log10f(a)
#define __powf(a, b) powf(a, b)
#define __sinf(a) sinf(a)
#define __cosf(a) cosf(a)

static inline float normcdff(float a)
{
    return 0.5f * erfcf(-a * 0.70710678118654752f);
}
static inline float __int2float_rn(int v)
{
    return static_cast<float>(v);
}
static inline float __uint2float_rn(unsigned v)
{
    return static_cast<float>(v);
}
static inline float __ll2float_rn(long long v)
{
    return static_cast<float>(v);
}
static inline float __ull2float_rn(unsigned long long v)
{
    return static_cast<float>(v);
}
static inline float __double2float_rn(double v)
{
    return static_cast<float>(v);
}

#define CUDA_HOST_TO_INTEGER(name, type)                   \
    static inline type name##_rn(float v)                  \
    {                                                      \
        return cuda_host::saturating<type>(nearbyintf(v)); \
    }                                                      \
    static inline type name##_rz(float v)                  \
    {                                                      \
        return cuda_host::saturating<type>(truncf(v));     \
    }                                                      \
    static inline type name##_rd(float v)                  \
    {                                                      \
        return cuda_host::saturating<type>(floorf(v));     \
    }                                                      \
    static inline type name##_ru(float v)                  \
    {                                                      \
        return cuda_host::saturating<type>(ceilf(v));      \
    }

CUDA_HOST_TO_INTEGER(__float2int, int)
CUDA_HOST_TO_INTEGER(__float2uint, unsigned)
CUDA_HOST_TO_INTEGER(__float2ll, long long)
CUDA_HOST_TO_INTEGER(__float2ull, unsigned long long)

/* ---- memory and time ------------------------------------------------------------------------------- */

#define CUDA_HOST_LOAD(name)                            \
    template <class T> static inline T name(const T *p) \
    {                                                   \
        return *p;                                      \
    }
#define CUDA_HOST_STORE(name)                                 \
    template <class T> static inline void name(T *p, T value) \
    {                                                         \
        *p = value;                                           \
    }
CUDA_HOST_LOAD(__ldg)
CUDA_HOST_LOAD(__ldca)
CUDA_HOST_LOAD(__ldcg)
CUDA_HOST_LOAD(__ldcs)
CUDA_HOST_LOAD(__ldcv)
CUDA_HOST_LOAD(__ldlu)
CUDA_HOST_STORE(__stcg)
CUDA_HOST_STORE(__stcs)
CUDA_HOST_STORE(__stwb)
CUDA_HOST_STORE(__stwt)

[[noreturn]] static inline void __trap()
{
    abort();
}

/* A counter that moves; it measures nothing. */
long long clock64();
static inline unsigned long long __globaltimer()
{
    return static_cast<unsigned long long>(clock64());
}

#endif
