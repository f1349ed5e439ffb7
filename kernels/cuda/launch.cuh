/* launch.cuh -- how a kernel is started and how it gets dynamic shared memory. Kernels use nothing else for
 * either, so that the same source also runs on the host, in tests.
 *
 *   cudaError_t e = SAC_LAUNCH((scan<8, true>), grid, block, bytes, stream, tables, codes, n);
 *
 * The kernel's template arguments are all written out, in parentheses where they hold commas. The value is
 * cudaGetLastError(): it also reports what an earlier call of this thread left there, so whoever survives an
 * error (memory that was refused, say) clears it with cudaGetLastError().
 *
 *   SAC_SHARED_DYNAMIC(float, tile);    declares float *const tile: the block's dynamic shared memory,
 *                                       aligned to 128 bytes; all such names of a kernel mean the same bytes
 *
 * A static shared variable that needs alignment says so before or without alignas:
 * `alignas(16) __shared__ float tile[64]` or `__shared__ __align__(16) float tile[64]`. */
#ifndef SACCADE_CUDA_LAUNCH_CUH
#define SACCADE_CUDA_LAUNCH_CUH

#include <cuda_runtime.h>
#include <pthread.h>

#ifdef __CUDACC__

#define SAC_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    (kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__), cudaGetLastError())

#define SAC_SHARED_DYNAMIC(type, name)                                   \
    extern __shared__ __align__(128) unsigned char sac_shared_dynamic[]; \
    type *const name = reinterpret_cast<type *>(sac_shared_dynamic)

#endif

/* Lets a kernel be launched with that many bytes of dynamic shared memory: beyond 48 KB, its static shared
 * memory included, it takes leave. What is allowed belongs to the kernel, on the current device, and not to
 * the launch: so it is only ever raised, and under a lock, for another thread may be about to launch the same
 * kernel with more. Nothing else sets it. */
template <class KERNEL> static inline cudaError_t sac_launch_shared(KERNEL *kernel, size_t bytes)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    const size_t unasked = 48 * 1024, wanted = bytes > unasked + 1024 ? bytes : unasked + 1024;
    struct cudaFuncAttributes attributes;
    cudaError_t error;

    if (bytes <= unasked / 2) /* no kernel has as much of its own */
        return cudaSuccess;
    pthread_mutex_lock(&lock);
    error = cudaFuncGetAttributes(&attributes, kernel);
    if (error == cudaSuccess && bytes + attributes.sharedSizeBytes > unasked &&
        (size_t)attributes.maxDynamicSharedSizeBytes < wanted)
        error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)wanted);
    pthread_mutex_unlock(&lock);
    return error;
}

#endif
