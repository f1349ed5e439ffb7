/* The CUDA device: what is opened, what is refused in which words, and what an error means. */
#include "kernels/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>

enum { CAPABILITY_LEAST = 80, ORDINALS_MAX = 256 };

/* Whether an error that is none of the above leaves the device as it was: the call was wrong, not the chip.
 */
static bool is_harmless(cudaError_t error)
{
    switch (error) {
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidMemcpyDirection:
    case cudaErrorInvalidDevice:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorLaunchOutOfResources:
    case cudaErrorPeerAccessAlreadyEnabled:
    case cudaErrorPeerAccessNotEnabled:
    case cudaErrorPeerAccessUnsupported:
    case cudaErrorNotPermitted:
    case cudaErrorNotSupported:
    case cudaErrorNotReady:
        return true;
    default: /* and everything that ends a recording */
        return error >= cudaErrorStreamCaptureUnsupported && error <= cudaErrorStreamCaptureWrongThread;
    }
}

static void lose(sac_device *device, cudaError_t error)
{
    pthread_mutex_lock(&device->idle_lock);
    if (!device->lost) {
        snprintf(device->lost_reason, sizeof device->lost_reason, "CUDA error %d, %s", (int)error,
                 cudaGetErrorString(error));
        __atomic_store_n(&device->lost, 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&device->idle_lock);
}

/* Whether the module has no code that this chip and its driver can run. */
static bool is_without_code(cudaError_t error)
{
    switch (error) {
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorInvalidKernelImage:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidPtx:
    case cudaErrorUnsupportedPtxVersion: /* the module's PTX is newer than the driver */
    case cudaErrorJitCompilerNotFound:
    case cudaErrorJitCompilationDisabled:
        return true;
    default:
        return false;
    }
}

sac_status sac_cuda_status(sac_device *device, cudaError_t error)
{
    if (error == cudaSuccess)
        return __atomic_load_n(&device->lost, __ATOMIC_ACQUIRE) ? SAC_DEVICE_LOST : SAC_OK;
    (void)cudaGetLastError(); /* or the next launch would report it as its own */
    if (error == cudaErrorMemoryAllocation)
        return SAC_DEVICE_MEMORY;
    if (is_without_code(error))
        return SAC_UNSUPPORTED;
    if (is_harmless(error))
        return SAC_INTERNAL;
    lose(device, error);
    return SAC_DEVICE_LOST;
}

/* ---- opening ----------------------------------------------------------------------------------------- */

/* GPUs whose memory can be reached from each other are told so once both are in use: copies between shards
 * then go straight across. */
static pthread_mutex_t peers_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t opened[ORDINALS_MAX]; /* devices of each ordinal */

static void peer_enable(int from, int to)
{
    int can = 0;

    if (cudaDeviceCanAccessPeer(&can, from, to) == cudaSuccess && can && cudaSetDevice(from) == cudaSuccess)
        (void)cudaDeviceEnablePeerAccess(to, 0);
    (void)cudaGetLastError(); /* it may have been enabled before, by somebody else; without it copies are
                                 slower */
}

static void peers_join(int ordinal)
{
    pthread_mutex_lock(&peers_lock);
    if (opened[ordinal]++ == 0)
        for (int other = 0; other < ORDINALS_MAX; other++)
            if (other != ordinal && opened[other] > 0) {
                peer_enable(ordinal, other);
                peer_enable(other, ordinal);
            }
    pthread_mutex_unlock(&peers_lock);
}

static void peers_leave(int ordinal)
{
    pthread_mutex_lock(&peers_lock);
    opened[ordinal]--;
    pthread_mutex_unlock(&peers_lock);
}

/* Why the runtime found no GPU at all. */
static sac_status none_found(cudaError_t error, sac_error *err)
{
    int driver = 0;

    (void)cudaGetLastError();
    if (error == cudaErrorNoDevice)
        return sac_fail(err, SAC_UNSUPPORTED, "the NVIDIA driver shows no GPU to this process");
    (void)cudaDriverGetVersion(&driver);
    if (error == cudaErrorInsufficientDriver && driver == 0)
        return sac_fail(err, SAC_UNSUPPORTED, "there is no NVIDIA driver (libcuda.so.1)");
    if (error == cudaErrorInsufficientDriver)
        return sac_fail(
            err, SAC_UNSUPPORTED,
            "the NVIDIA driver is for CUDA %d.%d at most, the module needs %d.%d: update the driver",
            driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    return sac_fail(err, SAC_UNSUPPORTED, "the NVIDIA driver does not start: CUDA error %d, %s", (int)error,
                    cudaGetErrorString(error));
}

/* The ordinal is there and good enough. */
static sac_status check_ordinal(int ordinal, struct cudaDeviceProp *properties, sac_error *err)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);

    if (error != cudaSuccess || count == 0)
        return none_found(error != cudaSuccess ? error : cudaErrorNoDevice, err);
    if (ordinal >= count)
        return sac_fail(err, SAC_UNSUPPORTED, "there is no cuda:%d: %d GPU%s here, cuda:0%s", ordinal, count,
                        count == 1 ? " is" : "s are", count == 1 ? "" : " and so on");
    error = cudaGetDeviceProperties(properties, ordinal);
    if (error != cudaSuccess)
        return none_found(error, err);
    if (properties->major * 10 + properties->minor < CAPABILITY_LEAST)
        return sac_fail(
            err, SAC_UNSUPPORTED,
            "cuda:%d, %s, has compute capability %d.%d; 8.0 (the A100's) is the least that will do", ordinal,
            properties->name, properties->major, properties->minor);
    return SAC_OK;
}

/* Bytes that this device may use: `share` devices have the same chip. */
static cudaError_t find_budget(uint64_t wanted, uint32_t share, uint64_t *out)
{
    size_t free_bytes = 0, total = 0;
    cudaError_t error = cudaMemGetInfo(&free_bytes, &total);

    *out = (wanted > 0 ? wanted : free_bytes - free_bytes / 20) / share;
    return error;
}

static void describe(sac_cuda_device *d, const struct cudaDeviceProp *properties)
{
    snprintf(d->base.description, sizeof d->base.description,
             "cuda:%d: %.60s, %u multiprocessors, %llu GiB, module for CUDA %d.%d", d->ordinal,
             properties->name, d->multiprocessors, (unsigned long long)(properties->totalGlobalMem >> 30),
             CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
}

static sac_status cuda_open(const sac_device_options *options, uint32_t ordinal, uint32_t share,
                            sac_device **out, sac_error *err)
{
    struct cudaDeviceProp properties;
    sac_cuda_device *d;
    cudaError_t error;
    sac_status st;

    *out = NULL;
    if (ordinal >= ORDINALS_MAX)
        return sac_fail(err, SAC_UNSUPPORTED, "there is no cuda:%u", ordinal);
    st = check_ordinal((int)ordinal, &properties, err);
    if (st != SAC_OK)
        return st;
    d = (sac_cuda_device *)calloc(1, sizeof *d);
    if (d == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a device");
    d->ordinal = (int)ordinal;
    d->multiprocessors = (uint32_t)properties.multiProcessorCount;
    d->capability = (uint32_t)(properties.major * 10 + properties.minor);
    d->shared_bytes_max = properties.sharedMemPerBlockOptin;
    d->l2_bytes = (size_t)properties.l2CacheSize;
    error = cudaSetDevice(d->ordinal);
    if (error == cudaSuccess)
        error =
            find_budget(options->memory, share, &d->budget); /* the first call that needs the chip itself */
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        free(d);
        return sac_fail(err, SAC_UNSUPPORTED, "cuda:%u, %s, does not start: CUDA error %d, %s", ordinal,
                        properties.name, (int)error, cudaGetErrorString(error));
    }
    pthread_mutex_init(&d->allocated.lock, NULL);
    sac_cuda_ops_fill(&d->base.ops);
    describe(d, &properties);
    peers_join(d->ordinal);
    *out = &d->base;
    return SAC_OK;
}

static void cuda_close(sac_device *device)
{
    sac_cuda_device *d = (sac_cuda_device *)device;

    peers_leave(d->ordinal);
    if (d->blas != NULL)
        (void)cudaSetDevice(d->ordinal); /* which closing it waits for */
    sac_cuda_blas_close(d->blas);
    sac_cuda_ranges_clear(&d->allocated);
    pthread_mutex_destroy(&d->allocated.lock);
    free(d);
}

static const struct sac_backend backend = {
    .abi = SAC_BACKEND_ABI,
    .version = SACCADE_VERSION,
    .name = "cuda",
    .host_visible = false,
    .open = cuda_open,
    .close = cuda_close,
    .memory = sac_cuda_memory,
    .buffer_alloc = sac_cuda_buffer_alloc,
    .buffer_free = sac_cuda_buffer_free,
    .host_alloc = sac_cuda_host_alloc,
    .host_free = sac_cuda_host_free,
    .stream_open = sac_cuda_stream_open,
    .stream_close = sac_cuda_stream_close,
    .stream_scratch = sac_cuda_stream_scratch,
    .upload = sac_cuda_upload,
    .download = sac_cuda_download,
    .copy = sac_cuda_copy,
    .copy_rows = sac_cuda_copy_rows,
    .clear = sac_cuda_clear,
    .wait = sac_cuda_wait,
    .event_open = sac_cuda_event_open,
    .event_close = sac_cuda_event_close,
    .event_record = sac_cuda_event_record,
    .await = sac_cuda_await,
    .record_begin = sac_cuda_record_begin,
    .record_end = sac_cuda_record_end,
    .play = sac_cuda_play,
    .recording_free = sac_cuda_recording_free,
};

const struct sac_backend *sac_cuda_backend(void)
{
    return &backend;
}
