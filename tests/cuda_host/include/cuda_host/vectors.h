/* vectors.h -- dim3 and the short vectors, with CUDA's sizes and alignments. */
#ifndef CUDA_HOST_VECTORS_H
#define CUDA_HOST_VECTORS_H

#include "language.h"

#define CUDA_HOST_VECTOR(base, type)                                     \
    struct base##1                                                       \
    {                                                                    \
        type x;                                                          \
    };                                                                   \
    struct alignas(2 * sizeof(type)) base##2                             \
    {                                                                    \
        type x, y;                                                       \
    };                                                                   \
    struct base##3                                                       \
    {                                                                    \
        type x, y, z;                                                    \
    };                                                                   \
    struct alignas(sizeof(type) < 4 ? 4 * sizeof(type) : 16) base##4     \
    {                                                                    \
        type x, y, z, w;                                                 \
    };                                                                   \
    static inline base##1 make_##base##1(type x)                         \
    {                                                                    \
        return {x};                                                      \
    }                                                                    \
    static inline base##2 make_##base##2(type x, type y)                 \
    {                                                                    \
        return {x, y};                                                   \
    }                                                                    \
    static inline base##3 make_##base##3(type x, type y, type z)         \
    {                                                                    \
        return {x, y, z};                                                \
    }                                                                    \
    static inline base##4 make_##base##4(type x, type y, type z, type w) \
    {                                                                    \
        return {x, y, z, w};                                             \
    }

CUDA_HOST_VECTOR(char, signed char)
CUDA_HOST_VECTOR(uchar, unsigned char)
CUDA_HOST_VECTOR(short, short)
CUDA_HOST_VECTOR(ushort, unsigned short)
CUDA_HOST_VECTOR(int, int)
CUDA_HOST_VECTOR(uint, unsigned)
CUDA_HOST_VECTOR(longlong, long long)
CUDA_HOST_VECTOR(ulonglong, unsigned long long)
CUDA_HOST_VECTOR(float, float)
CUDA_HOST_VECTOR(double, double)

struct dim3 {
    unsigned x, y, z;

    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z)
    {
    }
    constexpr operator uint3() const
    {
        return {x, y, z};
    }
};

#endif
