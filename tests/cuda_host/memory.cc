/* memory.cc -- device and pinned memory: each allocation on its own, so that sanitizers see its ends. */
#include "runtime.h"

#include <map>
#include <mutex>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace cuda_host
{

struct allocation {
    size_t bytes;
    cudaMemoryType type;
    int device;
    size_t mapped;   /* bytes of its own mapping with a guard page behind it; 0: from the heap */
    bool registered; /* memory of the caller's */
};

struct memory_map {
    std::mutex lock;
    std::map<uintptr_t, allocation> all;
    size_t used[max_devices] = {};
    int open[max_devices] = {}; /* how many want to reach this device's memory */
};

static memory_map &memory()
{
    static memory_map map;
    return map;
}

static bool guarded()
{
    return environment_number("SACCADE_HOST_CUDA__GUARD", 0) != 0;
}

/* ---- guard -------------------------------------------------------------------------------------------- */

static void protect(int device, int how)
{
    for (const auto &[address, a] : memory().all)
        if (a.device == device && a.mapped > 0)
            mprotect(reinterpret_cast<void *>(address), a.mapped, how);
}

static bool reaches(int device, int other)
{
    return device < 0 || device == other || peer_enabled(device, other);
}

device_access::device_access(int device) : device_(device)
{
    memory_map &m = memory();
    const std::lock_guard<std::mutex> hold(m.lock);
    for (int d = 0; d < max_devices; d++)
        if (reaches(device, d) && m.open[d]++ == 0)
            protect(d, PROT_READ | PROT_WRITE);
}

device_access::~device_access()
{
    memory_map &m = memory();
    const std::lock_guard<std::mutex> hold(m.lock);
    for (int d = 0; d < max_devices; d++)
        if (reaches(device_, d) && --m.open[d] == 0)
            protect(d, PROT_NONE);
}

static size_t page_round(size_t bytes)
{
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return (bytes + page - 1) / page * page;
}

static void *map_guarded(size_t bytes, size_t *mapped)
{
    const size_t page = page_round(1), body = page_round(bytes);
    void *p = mmap(nullptr, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        fatal("no memory for %zu bytes", bytes);
    std::memset(p, 0xff, bytes);
    mprotect(static_cast<unsigned char *>(p) + body, page, PROT_NONE);
    *mapped = body;
    return p;
}

/* ---- the map ------------------------------------------------------------------------------------------- */

static size_t charged(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static void remember(void *p, const allocation &a)
{
    memory_map &m = memory();
    m.all[reinterpret_cast<uintptr_t>(p)] = a;
    if (a.type == cudaMemoryTypeDevice)
        m.used[a.device] += charged(a.bytes);
}

/* The allocation that holds this address; the lock is held. */
static const allocation *find(const void *p, uintptr_t *start)
{
    memory_map &m = memory();
    auto at = m.all.upper_bound(reinterpret_cast<uintptr_t>(p));
    if (at == m.all.begin())
        return nullptr;
    --at;
    if (reinterpret_cast<uintptr_t>(p) - at->first >= std::max<size_t>(at->second.bytes, 1))
        return nullptr;
    *start = at->first;
    return &at->second;
}

static cudaError_t release(void *p, bool device, bool registered)
{
    memory_map &m = memory();
    const std::lock_guard<std::mutex> hold(m.lock);
    const auto at = m.all.find(reinterpret_cast<uintptr_t>(p));

    if (at == m.all.end() || (at->second.type == cudaMemoryTypeDevice) != device ||
        at->second.registered != registered)
        return registered ? cudaErrorHostMemoryNotRegistered : cudaErrorInvalidValue;
    const allocation a = at->second;
    if (device)
        m.used[a.device] -= charged(a.bytes);
    m.all.erase(at);
    if (a.mapped > 0)
        munmap(p, a.mapped + page_round(1));
    else if (!registered)
        free(p);
    return cudaSuccess;
}

/* Where `bytes` at p lie: device, pinned or ordinary memory. An error where they do not fit. */
static cudaError_t place_of(const void *p, size_t bytes, cudaMemoryType *type)
{
    const std::lock_guard<std::mutex> hold(memory().lock);
    uintptr_t start = 0;
    const allocation *a = find(p, &start);

    *type = a != nullptr ? a->type : cudaMemoryTypeUnregistered;
    if (a != nullptr && reinterpret_cast<uintptr_t>(p) - start + bytes > a->bytes)
        return cudaErrorInvalidValue;
    return cudaSuccess;
}

bool device_can_reach(const void *p, size_t bytes)
{
    cudaMemoryType type;
    return bytes == 0 || (place_of(p, bytes, &type) == cudaSuccess && type != cudaMemoryTypeUnregistered);
}

static cudaError_t check_copy(const void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                              cudaMemoryType *to_type, cudaMemoryType *from_type)
{
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault)
        return cudaErrorInvalidMemcpyDirection;
    if (place_of(to, bytes, to_type) != cudaSuccess || place_of(from, bytes, from_type) != cudaSuccess)
        return cudaErrorInvalidValue;
    const bool to_device = *to_type == cudaMemoryTypeDevice, from_device = *from_type == cudaMemoryTypeDevice;
    if (kind == cudaMemcpyDefault)
        return cudaSuccess;
    const bool wants_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool wants_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    return to_device == wants_to && from_device == wants_from ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t copy_to_symbol(void *symbol, size_t symbol_bytes, const void *from, size_t bytes, size_t offset,
                           cudaStream_t stream)
{
    CUDA_HOST_TRY(sticky());
    if (offset > symbol_bytes || bytes > symbol_bytes - offset)
        return report(cudaErrorInvalidValue);
    const std::vector<unsigned char> copy(static_cast<const unsigned char *>(from),
                                          static_cast<const unsigned char *>(from) + bytes);
    return report(submit(stream, [symbol, offset, copy] {
        std::memcpy(static_cast<unsigned char *>(symbol) + offset, copy.data(), copy.size());
    }));
}

} // namespace cuda_host

using namespace cuda_host;

/* ---- allocation ------------------------------------------------------------------------------------------
 */

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    *p = nullptr;
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(unsafe_call());
    if (bytes == 0)
        return cudaSuccess;
    memory_map &m = memory();
    const int device = current_device();
    const std::lock_guard<std::mutex> hold(m.lock);
    if (allocation_fails() || bytes > device_memory() || m.used[device] + charged(bytes) > device_memory())
        return report(cudaErrorMemoryAllocation);
    allocation a = {bytes, cudaMemoryTypeDevice, device, 0, false};
    if (guarded()) {
        *p = map_guarded(bytes, &a.mapped);
        if (m.open[device] == 0)
            mprotect(*p, a.mapped, PROT_NONE);
    } else {
        *p = aligned(256, bytes);
        std::memset(*p, 0xff, bytes);
    }
    remember(*p, a);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(unsafe_call());
    wait_for_device(-1); /* as the real one waits for the device */
    return p == nullptr ? cudaSuccess : report(release(p, true, false));
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags)
{
    *p = nullptr;
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(unsafe_call());
    if ((flags & ~(cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined)) != 0)
        return report(cudaErrorInvalidValue);
    if (bytes == 0)
        return cudaSuccess;
    if (allocation_fails())
        return report(cudaErrorMemoryAllocation);
    *p = aligned(4096, bytes);
    std::memset(*p, 0xff, bytes);
    const std::lock_guard<std::mutex> hold(memory().lock);
    remember(*p, {bytes, cudaMemoryTypeHost, current_device(), 0, false});
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaHostAlloc(p, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *p)
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(unsafe_call());
    wait_for_device(-1);
    return p == nullptr ? cudaSuccess : report(release(p, false, false));
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned)
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(unsafe_call());
    if (p == nullptr || bytes == 0)
        return report(cudaErrorInvalidValue);
    const std::lock_guard<std::mutex> hold(memory().lock);
    uintptr_t start = 0;
    if (find(p, &start) != nullptr)
        return report(cudaErrorHostMemoryAlreadyRegistered);
    remember(p, {bytes, cudaMemoryTypeHost, current_device(), 0, true});
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p)
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(unsafe_call());
    wait_for_device(-1);
    return report(release(p, false, true));
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned flags)
{
    cudaMemoryType type;
    *device = nullptr;
    CUDA_HOST_TRY(sticky());
    if (flags != 0 || place_of(host, 1, &type) != cudaSuccess || type != cudaMemoryTypeHost)
        return report(cudaErrorInvalidValue);
    *device = host;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *p)
{
    CUDA_HOST_TRY(sticky());
    const std::lock_guard<std::mutex> hold(memory().lock);
    uintptr_t start = 0;
    const allocation *a = find(p, &start);
    *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, const_cast<void *>(p)};
    if (a == nullptr)
        return cudaSuccess;
    const bool host = a->type == cudaMemoryTypeHost;
    *attributes = {a->type, a->device, const_cast<void *>(p), host ? const_cast<void *>(p) : nullptr};
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    CUDA_HOST_TRY(sticky());
    const std::lock_guard<std::mutex> hold(memory().lock);
    const size_t used = memory().used[current_device()];
    *total = device_memory();
    *free = used < *total ? *total - used : 0;
    return cudaSuccess;
}

/* ---- copies ----------------------------------------------------------------------------------------------
 */

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    cudaMemoryType to_type, from_type;

    CUDA_HOST_TRY(sticky());
    if (width == 0 || height == 0)
        return cudaSuccess;
    if (to_pitch < width || from_pitch < width)
        return report(cudaErrorInvalidValue);
    CUDA_HOST_TRY(check_copy(to, from, width, kind, &to_type, &from_type));
    CUDA_HOST_TRY(check_copy(static_cast<unsigned char *>(to) + (height - 1) * to_pitch,
                             static_cast<const unsigned char *>(from) + (height - 1) * from_pitch, width,
                             kind, &to_type, &from_type));
    const auto copy = [=](const unsigned char *source) {
        const device_access access(-1);
        for (size_t y = 0; y < height; y++)
            std::memmove(static_cast<unsigned char *>(to) + y * to_pitch, source + y * from_pitch, width);
    };
    const unsigned char *source = static_cast<const unsigned char *>(from);
    const bool later = streams_are_late() && !stream_captures(stream);
    if (later && from_type == cudaMemoryTypeUnregistered) {
        /* Ordinary memory is read before the call returns. */
        const std::vector<unsigned char> kept(source, source + (height - 1) * from_pitch + width);
        return report(submit(stream, [copy, kept] { copy(kept.data()); }));
    }
    CUDA_HOST_TRY(submit(stream, [copy, source] { copy(source); }));
    if (later && to_type == cudaMemoryTypeUnregistered)
        return cudaStreamSynchronize(stream); /* and written before it returns */
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(unsafe_call());
    CUDA_HOST_TRY(cudaMemcpyAsync(to, from, bytes, kind, nullptr));
    return cudaStreamSynchronize(nullptr);
}

cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes,
                                cudaStream_t stream)
{
    CUDA_HOST_TRY(sticky());
    if (to_device < 0 || to_device >= device_count() || from_device < 0 || from_device >= device_count())
        return report(cudaErrorInvalidDevice);
    return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    cudaMemoryType type;

    CUDA_HOST_TRY(sticky());
    if (bytes == 0)
        return cudaSuccess;
    CUDA_HOST_TRY(place_of(p, bytes, &type));
    if (type == cudaMemoryTypeUnregistered)
        return report(cudaErrorInvalidValue);
    return report(submit(stream, [=] {
        const device_access access(-1);
        std::memset(p, value, bytes);
    }));
}

cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(unsafe_call());
    CUDA_HOST_TRY(cudaMemsetAsync(p, value, bytes, nullptr));
    return cudaStreamSynchronize(nullptr);
}
