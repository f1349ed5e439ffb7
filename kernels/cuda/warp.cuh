/* warp.cuh -- what the 32 lanes of a warp compute together. Every lane calls, and every lane gets the result.
 * Blocks have one dimension. */
#ifndef SACCADE_CUDA_WARP_CUH
#define SACCADE_CUDA_WARP_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#define SAC_WARP_ALL 0xffffffffu

static __device__ __forceinline__ uint32_t sac_lane(void)
{
    return threadIdx.x % 32;
}

static __device__ __forceinline__ uint32_t sac_warp(void)
{
    return threadIdx.x / 32;
}

/* The sum of all lanes, added as a tree: the same bits in every lane and in every run. */
template <class T> static __device__ __forceinline__ T sac_warp_sum(T value)
{
    for (int step = 16; step > 0; step /= 2)
        value += __shfl_xor_sync(SAC_WARP_ALL, value, step);
    return value;
}

template <class T> static __device__ __forceinline__ T sac_warp_min(T value)
{
    for (int step = 16; step > 0; step /= 2) {
        T other = __shfl_xor_sync(SAC_WARP_ALL, value, step);
        value = other < value ? other : value;
    }
    return value;
}

template <class T> static __device__ __forceinline__ T sac_warp_max(T value)
{
    for (int step = 16; step > 0; step /= 2) {
        T other = __shfl_xor_sync(SAC_WARP_ALL, value, step);
        value = value < other ? other : value;
    }
    return value;
}

/* The sum of the lanes below this one; *total is that of all. */
static __device__ __forceinline__ uint32_t sac_warp_prefix(uint32_t value, uint32_t *total)
{
    uint32_t sum = value;
    for (uint32_t step = 1; step < 32; step *= 2) {
        uint32_t below = __shfl_up_sync(SAC_WARP_ALL, sum, step);
        sum += sac_lane() >= step ? below : 0;
    }
    *total = __shfl_sync(SAC_WARP_ALL, sum, 31);
    return sum - value;
}

/* How many lanes below this one have the predicate; *total is that of all. For compaction. */
static __device__ __forceinline__ uint32_t sac_warp_rank(bool predicate, uint32_t *total)
{
    uint32_t ballot = __ballot_sync(SAC_WARP_ALL, predicate);
    *total = (uint32_t)__popc(ballot);
    return (uint32_t)__popc(ballot & ((1u << sac_lane()) - 1));
}

#endif
