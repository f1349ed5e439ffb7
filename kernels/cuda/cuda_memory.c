/* Device memory under a budget, and page-locked memory of the host. */
#include "kernels/cuda/cuda.h"

#include <assert.h>

/* What the driver rounds allocations up to. */
enum { GRAIN = 512 };

/* Page-locked memory is every device's, so that a shard reads what another asked for. */
static sac_cuda_ranges pinned = {PTHREAD_MUTEX_INITIALIZER, NULL, 0, 0};

static sac_cuda_device *cuda_device(sac_device *device)
{
    return (sac_cuda_device *)device;
}

void sac_cuda_memory(const sac_device *device, sac_device_memory *out)
{
    const sac_cuda_device *d = (const sac_cuda_device *)device;

    out->budget = d->budget;
    out->used = __atomic_load_n(&d->used, __ATOMIC_RELAXED);
}

static sac_status budget_short(const sac_cuda_device *d, size_t bytes, sac_error *err)
{
    uint64_t used = __atomic_load_n(&d->used, __ATOMIC_RELAXED);
    uint64_t left = used < d->budget ? d->budget - used : 0;

    return sac_fail(
        err, SAC_DEVICE_MEMORY,
        "cuda:%d: %zu bytes are wanted and %llu of %llu are left, %llu are missing: use a smaller "
        "batch, fewer or shorter codes, or more devices",
        d->ordinal, bytes, (unsigned long long)left, (unsigned long long)d->budget,
        (unsigned long long)(bytes > left ? bytes - left : 0));
}

/* Counts bytes as used; false where they are beyond the budget. */
static bool budget_take(sac_cuda_device *d, uint64_t bytes)
{
    uint64_t used = __atomic_load_n(&d->used, __ATOMIC_RELAXED);

    do {
        if (bytes > d->budget || used > d->budget - bytes)
            return false;
    } while (!__atomic_compare_exchange_n(&d->used, &used, used + bytes, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return true;
}

static size_t charged(size_t bytes)
{
    return bytes > SIZE_MAX - (GRAIN - 1) ? SIZE_MAX : (bytes + GRAIN - 1) / GRAIN * GRAIN;
}

sac_status sac_cuda_buffer_alloc(sac_device *device, size_t bytes, void **out, sac_error *err)
{
    sac_cuda_device *d = cuda_device(device);
    size_t charge = charged(bytes);
    void *memory = NULL;
    cudaError_t error;
    sac_status st;

    *out = NULL;
    if (!budget_take(d, charge))
        return budget_short(d, bytes, err);
    error = cudaSetDevice(d->ordinal);
    if (error == cudaSuccess)
        error = cudaMalloc(&memory, bytes);
    st = sac_cuda_status(device, error);
    if (st == SAC_OK && !sac_cuda_ranges_add(&d->allocated, memory, bytes)) {
        (void)cudaFree(memory);
        st = sac_fail(err, SAC_NO_MEMORY, "no memory to note a buffer of %zu bytes", bytes);
    } else if (st == SAC_DEVICE_MEMORY) {
        sac_fail(
            err, st,
            "cuda:%d: %zu bytes are wanted, which its budget of %llu allows but the GPU does not have: other "
            "processes use it too; give it less to do or a smaller budget",
            d->ordinal, bytes, (unsigned long long)d->budget);
    } else if (st != SAC_OK) {
        sac_fail(err, st, "cuda:%d: no buffer of %zu bytes: %s", d->ordinal, bytes,
                 cudaGetErrorString(error));
    }
    if (st != SAC_OK)
        (void)__atomic_sub_fetch(&d->used, charge, __ATOMIC_RELAXED);
    else
        *out = memory;
    return st;
}

void sac_cuda_buffer_free(sac_device *device, void *buffer)
{
    sac_cuda_device *d = cuda_device(device);
    size_t bytes;

    if (buffer == NULL)
        return;
    bytes = sac_cuda_ranges_remove(&d->allocated, buffer);
    assert(bytes > 0);
    (void)cudaSetDevice(d->ordinal);
    (void)sac_cuda_status(device, cudaFree(buffer));
    (void)__atomic_sub_fetch(&d->used, charged(bytes), __ATOMIC_RELAXED);
}

sac_status sac_cuda_host_alloc(sac_device *device, size_t bytes, void **out, sac_error *err)
{
    const int ordinal = cuda_device(device)->ordinal;
    void *memory = NULL;
    cudaError_t error = cudaSetDevice(ordinal);
    sac_status st;

    *out = NULL;
    if (error == cudaSuccess)
        error = cudaHostAlloc(&memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
    st = sac_cuda_status(device, error);
    if (st == SAC_DEVICE_MEMORY)
        return sac_fail(err, SAC_NO_MEMORY, "no page-locked host memory of %zu bytes for cuda:%d", bytes,
                        ordinal);
    if (st != SAC_OK)
        return sac_fail(err, st, "cuda:%d: no page-locked memory of %zu bytes: %s", ordinal, bytes,
                        cudaGetErrorString(error));
    if (!sac_cuda_ranges_add(&pinned, memory, bytes)) {
        (void)cudaFreeHost(memory);
        return sac_fail(err, SAC_NO_MEMORY, "no memory to note %zu page-locked bytes", bytes);
    }
    *out = memory;
    return SAC_OK;
}

void sac_cuda_host_free(sac_device *device, void *memory)
{
    if (memory == NULL)
        return;
    (void)sac_cuda_ranges_remove(&pinned, memory);
    (void)cudaSetDevice(cuda_device(device)->ordinal); /* or the runtime starts another one for the thread */
    (void)sac_cuda_status(device, cudaFreeHost(memory));
}

bool sac_cuda_host_owns(const void *memory, size_t bytes)
{
    return sac_cuda_ranges_hold(&pinned, memory, bytes);
}
