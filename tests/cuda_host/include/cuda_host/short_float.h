/* short_float.h -- what __half and __nv_bfloat16 have in common; included once for each, by their headers,
 * with CUDA_HOST_SHORT_FLOAT and CUDA_HOST_SHORT_PAIR naming the type and its pair. */

struct alignas(4) CUDA_HOST_SHORT_PAIR {
    CUDA_HOST_SHORT_FLOAT x, y;
};

#define CUDA_HOST_BINARY(name, expression)                                                     \
    static inline CUDA_HOST_SHORT_FLOAT name(CUDA_HOST_SHORT_FLOAT p, CUDA_HOST_SHORT_FLOAT q) \
    {                                                                                          \
        const float a = p, b = q;                                                              \
        return CUDA_HOST_SHORT_FLOAT(expression);                                              \
    }                                                                                          \
    static inline CUDA_HOST_SHORT_PAIR name##2(CUDA_HOST_SHORT_PAIR p, CUDA_HOST_SHORT_PAIR q) \
    {                                                                                          \
        return {name(p.x, q.x), name(p.y, q.y)};                                               \
    }
#define CUDA_HOST_COMPARISON(name, operation)                                 \
    static inline bool name(CUDA_HOST_SHORT_FLOAT p, CUDA_HOST_SHORT_FLOAT q) \
    {                                                                         \
        return static_cast<float>(p) operation static_cast<float>(q);         \
    }
#define CUDA_HOST_OPERATOR(sign)                                                                        \
    static inline CUDA_HOST_SHORT_FLOAT operator sign(CUDA_HOST_SHORT_FLOAT p, CUDA_HOST_SHORT_FLOAT q) \
    {                                                                                                   \
        return CUDA_HOST_SHORT_FLOAT(static_cast<float>(p) sign static_cast<float>(q));                 \
    }

CUDA_HOST_BINARY(__hadd, a + b)
CUDA_HOST_BINARY(__hsub, a - b)
CUDA_HOST_BINARY(__hmul, a *b)
CUDA_HOST_BINARY(__hmin, fminf(a, b))
CUDA_HOST_BINARY(__hmax, fmaxf(a, b))
CUDA_HOST_COMPARISON(__heq, ==)
CUDA_HOST_COMPARISON(__hne, !=)
CUDA_HOST_COMPARISON(__hlt, <)
CUDA_HOST_COMPARISON(__hle, <=)
CUDA_HOST_COMPARISON(__hgt, >)
CUDA_HOST_COMPARISON(__hge, >=)
CUDA_HOST_OPERATOR(+)
CUDA_HOST_OPERATOR(-)
CUDA_HOST_OPERATOR(*)
CUDA_HOST_OPERATOR(/)

#undef CUDA_HOST_BINARY
#undef CUDA_HOST_COMPARISON
#undef CUDA_HOST_OPERATOR

static inline CUDA_HOST_SHORT_FLOAT __hdiv(CUDA_HOST_SHORT_FLOAT a, CUDA_HOST_SHORT_FLOAT b)
{
    return a / b;
}
static inline CUDA_HOST_SHORT_FLOAT __hneg(CUDA_HOST_SHORT_FLOAT a)
{
    a.bits ^= 0x8000;
    return a;
}
static inline CUDA_HOST_SHORT_FLOAT __habs(CUDA_HOST_SHORT_FLOAT a)
{
    a.bits &= 0x7fff;
    return a;
}
static inline bool __hisnan(CUDA_HOST_SHORT_FLOAT a)
{
    return std::isnan(static_cast<float>(a));
}
/* The product of two short floats is exact in double, so that the sum is rounded once more only. */
static inline CUDA_HOST_SHORT_FLOAT __hfma(CUDA_HOST_SHORT_FLOAT a, CUDA_HOST_SHORT_FLOAT b,
                                           CUDA_HOST_SHORT_FLOAT c)
{
    return CUDA_HOST_SHORT_FLOAT(static_cast<float>(
        static_cast<double>(static_cast<float>(a)) * static_cast<float>(b) + static_cast<float>(c)));
}
static inline CUDA_HOST_SHORT_PAIR __hfma2(CUDA_HOST_SHORT_PAIR a, CUDA_HOST_SHORT_PAIR b,
                                           CUDA_HOST_SHORT_PAIR c)
{
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}
static inline CUDA_HOST_SHORT_PAIR __hneg2(CUDA_HOST_SHORT_PAIR a)
{
    return {__hneg(a.x), __hneg(a.y)};
}
static inline CUDA_HOST_SHORT_PAIR __habs2(CUDA_HOST_SHORT_PAIR a)
{
    return {__habs(a.x), __habs(a.y)};
}
static inline float __low2float(CUDA_HOST_SHORT_PAIR a)
{
    return a.x;
}
static inline float __high2float(CUDA_HOST_SHORT_PAIR a)
{
    return a.y;
}
