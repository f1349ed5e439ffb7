/* device.cc -- devices as the environment describes them, and errors. */
#include "runtime.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <string>

namespace cuda_host
{

static __thread cudaError_t last_error;
static __thread int device_of_thread;
static std::atomic<bool> peers[max_devices][max_devices];

cudaError_t report(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

/* ---- faults on request ------------------------------------------------------------------------------- */

struct fault_plan {
    std::mutex lock;
    std::string text; /* the variable as it was read: a new value starts the counts again */
    uint64_t fail_allocation = 0, allocations = 0;
    uint64_t lost_launch = 0, launches = 0;
    uint64_t lost_wait = 0, waits = 0;
    bool lost = false;
};

static fault_plan &faults()
{
    static fault_plan plan;
    return plan;
}

static void read_plan(fault_plan &plan)
{
    const char *text = getenv("SACCADE_HOST_CUDA__FAIL");
    const std::string now = text != nullptr ? text : "";

    if (now == plan.text)
        return;
    plan.text = now;
    plan.fail_allocation = plan.allocations = plan.lost_launch = plan.launches = 0;
    plan.lost_wait = plan.waits = 0;
    plan.lost = false;
    if (now.rfind("memory:", 0) == 0)
        plan.fail_allocation = strtoull(now.c_str() + 7, nullptr, 10);
    else if (now.rfind("lost:", 0) == 0)
        plan.lost_launch = strtoull(now.c_str() + 5, nullptr, 10);
    else if (now.rfind("wait:", 0) == 0)
        plan.lost_wait = strtoull(now.c_str() + 5, nullptr, 10);
    else if (!now.empty())
        fatal("SACCADE_HOST_CUDA__FAIL is memory:N, lost:N or wait:N, not %s", now.c_str());
}

cudaError_t sticky()
{
    fault_plan &plan = faults();
    const std::lock_guard<std::mutex> hold(plan.lock);
    read_plan(plan);
    return plan.lost ? cudaErrorIllegalAddress : cudaSuccess;
}

bool allocation_fails()
{
    fault_plan &plan = faults();
    const std::lock_guard<std::mutex> hold(plan.lock);
    read_plan(plan);
    return ++plan.allocations == plan.fail_allocation;
}

bool launch_fails()
{
    fault_plan &plan = faults();
    const std::lock_guard<std::mutex> hold(plan.lock);
    read_plan(plan);
    plan.launches++;
    if (plan.lost_launch != 0 && plan.launches >= plan.lost_launch)
        plan.lost = true;
    return plan.lost;
}

void count_wait()
{
    fault_plan &plan = faults();
    const std::lock_guard<std::mutex> hold(plan.lock);
    read_plan(plan);
    plan.waits++;
    if (plan.lost_wait != 0 && plan.waits >= plan.lost_wait)
        plan.lost = true;
}

/* ---- devices ------------------------------------------------------------------------------------------ */

int device_count()
{
    const uint64_t count = environment_number("SACCADE_HOST_CUDA__DEVICES", 1);
    if (count > max_devices)
        fatal("SACCADE_HOST_CUDA__DEVICES is at most %d", max_devices);
    return static_cast<int>(count);
}

int current_device()
{
    return device_of_thread;
}

bool peer_enabled(int device, int peer)
{
    return peers[device][peer];
}

size_t device_memory()
{
    return environment_number("SACCADE_HOST_CUDA__MEMORY", 1u << 30);
}

static cudaError_t check_device(int device)
{
    if (device_count() == 0)
        return cudaErrorNoDevice;
    return device < 0 || device >= device_count() ? cudaErrorInvalidDevice : cudaSuccess;
}

} // namespace cuda_host

using namespace cuda_host;

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define X(name, number, text) \
    case name:                \
        return #name;
        CUDA_HOST_ERRORS(X)
#undef X
    }
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
#define X(name, number, text) \
    case name:                \
        return text;
        CUDA_HOST_ERRORS(X)
#undef X
    }
    return "unrecognized error code";
}

cudaError_t cudaGetLastError()
{
    const cudaError_t lost = sticky();
    const cudaError_t error = lost != cudaSuccess ? lost : last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError()
{
    const cudaError_t lost = sticky();
    return lost != cudaSuccess ? lost : last_error;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = device_count() > 0 ? CUDART_VERSION : 0;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    CUDA_HOST_TRY(sticky());
    *count = device_count();
    return *count > 0 ? cudaSuccess : report(cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int *device)
{
    CUDA_HOST_TRY(sticky());
    *device = device_of_thread;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(check_device(device));
    device_of_thread = device;
    return cudaSuccess;
}

cudaError_t cudaSetDeviceFlags(unsigned)
{
    return report(sticky());
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(check_device(device));
    const int arch = static_cast<int>(environment_number("SACCADE_HOST_CUDA__ARCH", 90));
    *p = cudaDeviceProp();
    snprintf(p->name, sizeof p->name, "host run %d", device);
    p->uuid.bytes[0] = static_cast<char>(device + 1);
    p->totalGlobalMem = device_memory();
    p->sharedMemPerBlock = 48u << 10;
    p->sharedMemPerBlockOptin = 227u << 10;
    p->sharedMemPerMultiprocessor = 228u << 10;
    p->reservedSharedMemPerBlock = 1u << 10;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = INT_MAX;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->totalConstMem = 64u << 10;
    p->major = arch / 10;
    p->minor = arch % 10;
    p->multiProcessorCount = static_cast<int>(environment_number("SACCADE_HOST_CUDA__SMS", 4));
    p->canMapHostMemory = p->concurrentKernels = p->unifiedAddressing = 1;
    p->asyncEngineCount = 2;
    p->memoryBusWidth = 5120;
    p->l2CacheSize = 50 << 20;
    p->persistingL2CacheMaxSize = p->accessPolicyMaxWindowSize = 32 << 20;
    p->maxThreadsPerMultiProcessor = 2048;
    p->maxBlocksPerMultiProcessor = 32;
    p->pciBusID = device + 1;
    return cudaSuccess;
}

static int attribute_of(const cudaDeviceProp &p, cudaDeviceAttr attribute)
{
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        return p.maxThreadsPerBlock;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        return static_cast<int>(p.sharedMemPerBlock);
    case cudaDevAttrWarpSize:
        return p.warpSize;
    case cudaDevAttrClockRate:
    case cudaDevAttrMemoryClockRate:
        return 1000000; /* kHz, of nothing */
    case cudaDevAttrMultiProcessorCount:
        return p.multiProcessorCount;
    case cudaDevAttrIntegrated:
        return p.integrated;
    case cudaDevAttrCanMapHostMemory:
        return p.canMapHostMemory;
    case cudaDevAttrGlobalMemoryBusWidth:
        return p.memoryBusWidth;
    case cudaDevAttrL2CacheSize:
        return p.l2CacheSize;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        return p.maxThreadsPerMultiProcessor;
    case cudaDevAttrAsyncEngineCount:
        return p.asyncEngineCount;
    case cudaDevAttrUnifiedAddressing:
        return p.unifiedAddressing;
    case cudaDevAttrComputeCapabilityMajor:
        return p.major;
    case cudaDevAttrComputeCapabilityMinor:
        return p.minor;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        return static_cast<int>(p.sharedMemPerMultiprocessor);
    case cudaDevAttrMaxRegistersPerMultiprocessor:
        return p.regsPerMultiprocessor;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        return static_cast<int>(p.sharedMemPerBlockOptin);
    }
    return -1;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp properties;
    CUDA_HOST_TRY(cudaGetDeviceProperties(&properties, device));
    *value = attribute_of(properties, attribute);
    return *value >= 0 ? cudaSuccess : report(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int bytes, int device)
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(check_device(device));
    snprintf(text, static_cast<size_t>(bytes), "0000:%02x:00.0", static_cast<unsigned>(device) + 1);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize()
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(unsafe_call());
    wait_for_device(device_of_thread);
    return cudaSuccess;
}

cudaError_t cudaDeviceReset()
{
    wait_for_device(device_of_thread);
    return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(check_device(device));
    CUDA_HOST_TRY(check_device(peer));
    *can = device != peer;
    return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags)
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(check_device(peer));
    if (peer == device_of_thread || flags != 0)
        return report(cudaErrorInvalidDevice);
    return peers[device_of_thread][peer].exchange(true) ? report(cudaErrorPeerAccessAlreadyEnabled)
                                                        : cudaSuccess;
}

cudaError_t cudaDeviceDisablePeerAccess(int peer)
{
    CUDA_HOST_TRY(sticky());
    CUDA_HOST_TRY(check_device(peer));
    return peers[device_of_thread][peer].exchange(false) ? cudaSuccess
                                                         : report(cudaErrorPeerAccessNotEnabled);
}

long long clock64()
{
    return std::chrono::steady_clock::now().time_since_epoch().count();
}
