/* kernel.cc -- launches, and what a kernel may use. */
#include "cuda_host/launch.h"
#include "machine_internal.h"
#include "runtime.h"

#include <map>
#include <mutex>

namespace cuda_host
{

static const size_t shared_by_default = 48u << 10;
static const size_t shared_at_most = 227u << 10;

struct kernel_limits {
    std::mutex lock;
    std::map<const void *, size_t> shared_bytes; /* of dynamic shared memory, where it was raised */
};

static kernel_limits &limits()
{
    static kernel_limits l;
    return l;
}

static size_t shared_limit(const void *function)
{
    kernel_limits &l = limits();
    const std::lock_guard<std::mutex> hold(l.lock);
    const auto at = l.shared_bytes.find(function);
    return at != l.shared_bytes.end() ? at->second : shared_by_default;
}

static cudaError_t check_shape(const launch_shape &s)
{
    const uint64_t threads = static_cast<uint64_t>(s.threads.x) * s.threads.y * s.threads.z;

    if (device_count() == 0)
        return cudaErrorNoDevice;
    if (threads == 0 || threads > 1024 || s.threads.z > 64)
        return cudaErrorInvalidConfiguration;
    if (s.blocks.x == 0 || s.blocks.y == 0 || s.blocks.z == 0)
        return cudaErrorInvalidConfiguration;
    if (s.blocks.x > INT32_MAX || s.blocks.y > 65535 || s.blocks.z > 65535)
        return cudaErrorInvalidConfiguration;
    if (s.shared_bytes > shared_limit(s.function))
        return cudaErrorInvalidValue;
    if (stream_device(s.stream) != current_device())
        return cudaErrorInvalidResourceHandle;
    return cudaSuccess;
}

static cudaError_t start(const launch_shape &shape, std::function<void()> body)
{
    cudaError_t error = sticky();
    if (error == cudaSuccess)
        error = check_shape(shape);
    if (error == cudaSuccess && !stream_captures(shape.stream) && launch_fails())
        error = sticky();
    if (error != cudaSuccess)
        return error;
    const grid g = {shape.kernel, shape.where, shape.blocks, shape.threads, shape.shared_bytes};
    const int device = current_device();
    return submit(shape.stream, [g, device, body = std::move(body)] {
        const device_access access(device);
        run_grid(g, body);
    });
}

cudaError_t launch(const launch_shape &shape, std::function<void()> body)
{
    report(start(shape, std::move(body)));
    return cudaGetLastError(); /* what SAC_LAUNCH gives with the real runtime too */
}

} // namespace cuda_host

using namespace cuda_host;

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value)
{
    CUDA_HOST_TRY(sticky());
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout)
        return value >= -1 && value <= 100 ? cudaSuccess : report(cudaErrorInvalidValue);
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
        static_cast<size_t>(value) > shared_at_most)
        return report(cudaErrorInvalidValue);
    kernel_limits &l = limits();
    const std::lock_guard<std::mutex> hold(l.lock);
    l.shared_bytes[function] = static_cast<size_t>(value);
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *function)
{
    CUDA_HOST_TRY(sticky());
    *attributes = cudaFuncAttributes();
    attributes->maxThreadsPerBlock = 1024;
    attributes->numRegs = 32;
    attributes->ptxVersion = attributes->binaryVersion = 90;
    attributes->maxDynamicSharedSizeBytes = static_cast<int>(shared_limit(function));
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int threads,
                                                          size_t shared_bytes)
{
    *blocks = 0;
    CUDA_HOST_TRY(sticky());
    if (threads <= 0 || threads > 1024 || shared_bytes > shared_limit(function))
        return report(cudaErrorInvalidValue);
    /* 2048 threads, 32 blocks and 228 KiB, of which each block takes one more */
    const int by_threads = 2048 / ((threads + 31) / 32 * 32);
    const int by_shared = static_cast<int>((228u << 10) / (shared_bytes + 1024));
    *blocks = std::min(std::min(by_threads, by_shared), 32);
    return cudaSuccess;
}
