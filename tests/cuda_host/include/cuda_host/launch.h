/* launch.h -- what SAC_LAUNCH and SAC_SHARED_DYNAMIC of kernels/cuda/launch.cuh become on the host. */
#ifndef CUDA_HOST_LAUNCH_H
#define CUDA_HOST_LAUNCH_H

#include "api.h"
#include "machine.h"

namespace cuda_host
{

struct launch_shape {
    const char *kernel;
    const void *function;
    site where;
    dim3 blocks, threads;
    size_t shared_bytes;
    cudaStream_t stream;
};

/* Checks the shape as the runtime does, then runs body() for each thread (or records it, under capture). */
cudaError_t launch(const launch_shape &shape, std::function<void()> body);

/* Takes the arguments, converted to the parameters' types, by value: what the caller does to its variables
 * afterwards does not reach the kernel. */
template <class... P> struct launcher {
    launch_shape shape;
    void (*kernel)(P...);

    cudaError_t operator()(std::decay_t<P>... arguments) const
    {
        void (*const function)(P...) = kernel;
        return launch(shape, [function, copies = std::tuple<std::decay_t<P>...>(arguments...)] {
            std::apply(function, copies);
        });
    }
};

template <class... P>
static inline launcher<P...> make_launcher(const char *name, site where, void (*kernel)(P...), dim3 blocks,
                                           dim3 threads, size_t shared_bytes, cudaStream_t stream)
{
    return {{name, reinterpret_cast<const void *>(kernel), where, blocks, threads, shared_bytes, stream},
            kernel};
}

} // namespace cuda_host

#define SAC_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                          \
    cuda_host::make_launcher(#kernel, cuda_host::here(), kernel, grid, block, shared_bytes, \
                             stream)(__VA_ARGS__)

#define SAC_SHARED_DYNAMIC(type, name) \
    type *const name = static_cast<type *>(cuda_host::shared_dynamic(alignof(type), cuda_host::here()))

#endif
