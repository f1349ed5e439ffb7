/* atomics.h -- atomic operations, for exactly the types that CUDA has them for. */
#ifndef CUDA_HOST_ATOMICS_H
#define CUDA_HOST_ATOMICS_H

#include "language.h"

namespace cuda_host
{

/* old = *p; *p = next(old). Real atomics, because launches of several host threads may meet in one buffer. */
template <class T, class F> static inline T atomic_update(T *p, F next)
{
    T old, desired;
    __atomic_load(p, &old, __ATOMIC_RELAXED);
    do
        desired = next(old);
    while (!__atomic_compare_exchange(p, &old, &desired, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    return old;
}

} // namespace cuda_host

/* Every operation comes with block and system scope, which are the same thing here. */
#define CUDA_HOST_ATOMIC(name, type, expression)                                              \
    static inline type name(type *p, type value)                                              \
    {                                                                                         \
        return cuda_host::atomic_update(p, [value](type old) -> type { return expression; }); \
    }                                                                                         \
    static inline type name##_block(type *p, type value)                                      \
    {                                                                                         \
        return name(p, value);                                                                \
    }                                                                                         \
    static inline type name##_system(type *p, type value)                                     \
    {                                                                                         \
        return name(p, value);                                                                \
    }

#define CUDA_HOST_ATOMIC_UNSIGNED(type)                          \
    CUDA_HOST_ATOMIC(atomicAdd, type, old + value)               \
    CUDA_HOST_ATOMIC(atomicMin, type, value < old ? value : old) \
    CUDA_HOST_ATOMIC(atomicMax, type, old < value ? value : old) \
    CUDA_HOST_ATOMIC(atomicAnd, type, old &value)                \
    CUDA_HOST_ATOMIC(atomicOr, type, old | value)                \
    CUDA_HOST_ATOMIC(atomicXor, type, old ^ value)               \
    CUDA_HOST_ATOMIC(atomicExch, type, (static_cast<void>(old), value))

CUDA_HOST_ATOMIC_UNSIGNED(unsigned)
CUDA_HOST_ATOMIC_UNSIGNED(unsigned long long)
CUDA_HOST_ATOMIC(atomicAdd, int, static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(value)))
CUDA_HOST_ATOMIC(atomicSub, int, static_cast<int>(static_cast<unsigned>(old) - static_cast<unsigned>(value)))
CUDA_HOST_ATOMIC(atomicSub, unsigned, old - value)
CUDA_HOST_ATOMIC(atomicMin, int, value < old ? value : old)
CUDA_HOST_ATOMIC(atomicMax, int, old < value ? value : old)
CUDA_HOST_ATOMIC(atomicMin, long long, value < old ? value : old)
CUDA_HOST_ATOMIC(atomicMax, long long, old < value ? value : old)
CUDA_HOST_ATOMIC(atomicAnd, int, old &value)
CUDA_HOST_ATOMIC(atomicOr, int, old | value)
CUDA_HOST_ATOMIC(atomicXor, int, old ^ value)
CUDA_HOST_ATOMIC(atomicExch, int, (static_cast<void>(old), value))
CUDA_HOST_ATOMIC(atomicExch, float, (static_cast<void>(old), value))
CUDA_HOST_ATOMIC(atomicAdd, float, old + value)
CUDA_HOST_ATOMIC(atomicAdd, double, old + value)
CUDA_HOST_ATOMIC(atomicInc, unsigned, old >= value ? 0u : old + 1u)
CUDA_HOST_ATOMIC(atomicDec, unsigned, old == 0u || old > value ? value : old - 1u)

#define CUDA_HOST_CAS(type)                                                                           \
    static inline type atomicCAS(type *p, type expected, type desired)                                \
    {                                                                                                 \
        __atomic_compare_exchange(p, &expected, &desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
        return expected;                                                                              \
    }                                                                                                 \
    static inline type atomicCAS_block(type *p, type expected, type desired)                          \
    {                                                                                                 \
        return atomicCAS(p, expected, desired);                                                       \
    }                                                                                                 \
    static inline type atomicCAS_system(type *p, type expected, type desired)                         \
    {                                                                                                 \
        return atomicCAS(p, expected, desired);                                                       \
    }

CUDA_HOST_CAS(int)
CUDA_HOST_CAS(unsigned)
CUDA_HOST_CAS(unsigned short)
CUDA_HOST_CAS(unsigned long long)

#endif
