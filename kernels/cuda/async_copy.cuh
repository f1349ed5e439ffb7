/* async_copy.cuh -- copies from global to shared memory that go past the registers, while the thread works
 * on.
 *
 *   sac_copy_async<16>(&tile[i], &x[j]);           any number of times
 *   sac_copy_async_commit();                       these are a group
 *   ...
 *   sac_copy_async_wait<1>();                      all but the youngest group of this thread have landed;
 *   __syncthreads();                               and now those of the other threads too
 *
 * 4, 8 or 16 bytes; both addresses are aligned to that many. What lies at the target is undefined from the
 * call to the wait, so a thread that still reads a buffer must be waited for before it is filled again.
 * Groups belong to a thread; committing nothing makes an empty group, which keeps the count simple at the end
 * of a loop. Nothing may be in flight when a thread ends. sm_80 and later. */
#ifndef SACCADE_CUDA_ASYNC_COPY_CUH
#define SACCADE_CUDA_ASYNC_COPY_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#ifdef __CUDACC__

/* Copies the first source_bytes (0..BYTES) of BYTES and zeroes the rest; 0 does not look at `from`. */
template <uint32_t BYTES>
static __device__ __forceinline__ void sac_copy_async_part(void *to, const void *from, uint32_t source_bytes)
{
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "what the instruction copies");
    uint32_t shared = (uint32_t)__cvta_generic_to_shared(to);
    size_t global = __cvta_generic_to_global(from);
    if (BYTES == 16) /* past the first-level cache, which only 16 bytes can do */
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global),
                     "r"(source_bytes)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared), "l"(global), "n"(BYTES),
                     "r"(source_bytes)
                     : "memory");
}

static __device__ __forceinline__ void sac_copy_async_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most GROUPS groups of this thread, the youngest, are still on their way. */
template <uint32_t GROUPS> static __device__ __forceinline__ void sac_copy_async_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}

#else
#include <cuda_host/async_copy.h> /* the same functions, for a host run */
#endif

template <uint32_t BYTES> static __device__ __forceinline__ void sac_copy_async(void *to, const void *from)
{
    sac_copy_async_part<BYTES>(to, from, BYTES);
}

#endif
