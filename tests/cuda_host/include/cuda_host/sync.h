/* sync.h -- barriers, warp shuffles, votes and reductions. */
#ifndef CUDA_HOST_SYNC_H
#define CUDA_HOST_SYNC_H

#include "machine.h"

#define CUDA_HOST_HERE cuda_host::site where = cuda_host::here()

static inline void __syncthreads(CUDA_HOST_HERE)
{
    cuda_host::block_barrier("__syncthreads", 0, where);
}

static inline int __syncthreads_count(int predicate, CUDA_HOST_HERE)
{
    return cuda_host::block_barrier("__syncthreads_count", predicate, where).count;
}

static inline int __syncthreads_or(int predicate, CUDA_HOST_HERE)
{
    return cuda_host::block_barrier("__syncthreads_or", predicate, where).count > 0;
}

static inline int __syncthreads_and(int predicate, CUDA_HOST_HERE)
{
    const cuda_host::block_votes votes = cuda_host::block_barrier("__syncthreads_and", predicate, where);
    return votes.count == votes.threads;
}

static inline void __syncwarp(unsigned mask = 0xffffffffu, CUDA_HOST_HERE)
{
    cuda_host::warp_collective("__syncwarp", mask, nullptr, nullptr, where);
}

/* Which lanes run together is the hardware's business: this answer is always a right one, and a kernel that
 * needs more must say so with a mask. */
static inline unsigned __activemask()
{
    return 1u << cuda_host::lane();
}

static inline void __threadfence()
{
}
static inline void __threadfence_block()
{
}
static inline void __threadfence_system()
{
}
static inline void __nanosleep(unsigned)
{
    cuda_host::give_way();
}

namespace cuda_host
{

template <class T> struct shuffle {
    T value, result;
    int from; /* lane to read, already resolved within the segment; the own lane where it falls outside */

    static void act(void *const lanes[32], uint32_t mask)
    {
        for (int i = 0; i < 32; i++) {
            if ((mask >> i & 1) == 0)
                continue;
            shuffle *mine = static_cast<shuffle *>(lanes[i]);
            const shuffle *other = static_cast<const shuffle *>(lanes[mine->from]);
            /* A lane outside the mask gives an undefined value: one that no test can like. */
            if (other != nullptr)
                mine->result = other->value;
            else
                std::memset(static_cast<void *>(&mine->result), 0xff, sizeof(T));
        }
    }
};

template <class T> static inline T shuffled(const char *what, unsigned mask, T value, int from, site where)
{
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 8, "a value of up to 8 bytes");
    shuffle<T> s{value, value, from};
    warp_collective(what, mask, &s, &shuffle<T>::act, where);
    return s.result;
}

struct vote {
    int predicate;
    unsigned ballot;

    static void act(void *const lanes[32], uint32_t mask)
    {
        unsigned ballot = 0;
        for (int i = 0; i < 32; i++)
            if ((mask >> i & 1) != 0 && static_cast<vote *>(lanes[i])->predicate != 0)
                ballot |= 1u << i;
        for (int i = 0; i < 32; i++)
            if ((mask >> i & 1) != 0)
                static_cast<vote *>(lanes[i])->ballot = ballot;
    }
};

static inline unsigned voted(const char *what, unsigned mask, int predicate, site where)
{
    vote v{predicate, 0};
    warp_collective(what, mask, &v, &vote::act, where);
    return v.ballot;
}

template <class T> struct match {
    T value;
    unsigned same;

    static void act(void *const lanes[32], uint32_t mask)
    {
        for (int i = 0; i < 32; i++) {
            if ((mask >> i & 1) == 0)
                continue;
            match *mine = static_cast<match *>(lanes[i]);
            mine->same = 0;
            for (int j = 0; j < 32; j++)
                if ((mask >> j & 1) != 0 &&
                    std::memcmp(&static_cast<match *>(lanes[j])->value, &mine->value, sizeof(T)) == 0)
                    mine->same |= 1u << j;
        }
    }
};

template <class T> static inline unsigned matched(const char *what, unsigned mask, T value, site where)
{
    static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "32 or 64 bits");
    match<T> m{value, 0};
    warp_collective(what, mask, &m, &match<T>::act, where);
    return m.same;
}

template <class T, class F> struct reduction {
    T value;

    static void act(void *const lanes[32], uint32_t mask)
    {
        bool first = true;
        T total = T();
        for (int i = 0; i < 32; i++) {
            if ((mask >> i & 1) == 0)
                continue;
            const T value = static_cast<reduction *>(lanes[i])->value;
            total = first ? value : F()(total, value);
            first = false;
        }
        for (int i = 0; i < 32; i++)
            if ((mask >> i & 1) != 0)
                static_cast<reduction *>(lanes[i])->value = total;
    }
};

template <class F, class T> static inline T reduced(const char *what, unsigned mask, T value, site where)
{
    static_assert(std::is_same<T, int>::value || std::is_same<T, unsigned>::value, "int or unsigned");
    reduction<T, F> r{value};
    warp_collective(what, mask, &r, &reduction<T, F>::act, where);
    return r.value;
}

struct add_values {
    template <class T> T operator()(T a, T b) const
    {
        return static_cast<T>(static_cast<unsigned>(a) + static_cast<unsigned>(b));
    }
};
struct min_values {
    template <class T> T operator()(T a, T b) const
    {
        return b < a ? b : a;
    }
};
struct max_values {
    template <class T> T operator()(T a, T b) const
    {
        return a < b ? b : a;
    }
};

} // namespace cuda_host

template <class T>
static inline T __shfl_sync(unsigned mask, T value, int from, int width = 32, CUDA_HOST_HERE)
{
    const int lane = static_cast<int>(cuda_host::lane());
    return cuda_host::shuffled("__shfl_sync", mask, value, (lane & ~(width - 1)) | (from & (width - 1)),
                               where);
}

template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CUDA_HOST_HERE)
{
    const int lane = static_cast<int>(cuda_host::lane());
    const int from = lane - static_cast<int>(delta);
    return cuda_host::shuffled("__shfl_up_sync", mask, value, from < (lane & ~(width - 1)) ? lane : from,
                               where);
}

template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CUDA_HOST_HERE)
{
    const int lane = static_cast<int>(cuda_host::lane());
    const int from = lane + static_cast<int>(delta);
    return cuda_host::shuffled("__shfl_down_sync", mask, value, from > (lane | (width - 1)) ? lane : from,
                               where);
}

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, CUDA_HOST_HERE)
{
    const int lane = static_cast<int>(cuda_host::lane());
    const int from = lane ^ bits;
    return cuda_host::shuffled("__shfl_xor_sync", mask, value, from > (lane | (width - 1)) ? lane : from,
                               where);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_HOST_HERE)
{
    return cuda_host::voted("__ballot_sync", mask, predicate, where);
}

static inline int __any_sync(unsigned mask, int predicate, CUDA_HOST_HERE)
{
    return cuda_host::voted("__any_sync", mask, predicate, where) != 0;
}

static inline int __all_sync(unsigned mask, int predicate, CUDA_HOST_HERE)
{
    return cuda_host::voted("__all_sync", mask, predicate, where) == mask;
}

template <class T> static inline unsigned __match_any_sync(unsigned mask, T value, CUDA_HOST_HERE)
{
    return cuda_host::matched("__match_any_sync", mask, value, where);
}

template <class T>
static inline unsigned __match_all_sync(unsigned mask, T value, int *predicate, CUDA_HOST_HERE)
{
    *predicate = cuda_host::matched("__match_all_sync", mask, value, where) == mask;
    return *predicate ? mask : 0;
}

template <class T> static inline T __reduce_add_sync(unsigned mask, T value, CUDA_HOST_HERE)
{
    return cuda_host::reduced<cuda_host::add_values>("__reduce_add_sync", mask, value, where);
}

template <class T> static inline T __reduce_min_sync(unsigned mask, T value, CUDA_HOST_HERE)
{
    return cuda_host::reduced<cuda_host::min_values>("__reduce_min_sync", mask, value, where);
}

template <class T> static inline T __reduce_max_sync(unsigned mask, T value, CUDA_HOST_HERE)
{
    return cuda_host::reduced<cuda_host::max_values>("__reduce_max_sync", mask, value, where);
}

static inline unsigned __reduce_and_sync(unsigned mask, unsigned value, CUDA_HOST_HERE)
{
    return cuda_host::reduced<std::bit_and<unsigned>>("__reduce_and_sync", mask, value, where);
}

static inline unsigned __reduce_or_sync(unsigned mask, unsigned value, CUDA_HOST_HERE)
{
    return cuda_host::reduced<std::bit_or<unsigned>>("__reduce_or_sync", mask, value, where);
}

static inline unsigned __reduce_xor_sync(unsigned mask, unsigned value, CUDA_HOST_HERE)
{
    return cuda_host::reduced<std::bit_xor<unsigned>>("__reduce_xor_sync", mask, value, where);
}

#endif
