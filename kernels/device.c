/* Memory and streams of devices whose memory is the host's: ref and cpu. */
#include "kernels/device.h"

#include "kernels/backend.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* From this size on buffers ask for huge pages: a scan that jumps between the pages of inverted lists would
 * otherwise spend its time in the TLB. */
#define HUGE_PAGE_BYTES ((size_t)2 << 20)

bool sac_device_host_visible(const sac_device *device)
{
    (void)device;
    return true;
}

static size_t round_up(size_t bytes, size_t to)
{
    return bytes > SIZE_MAX - (to - 1) ? SIZE_MAX : (bytes + to - 1) / to * to;
}

/* NULL where bytes cannot be had. */
static void *aligned_bytes(size_t bytes)
{
    size_t alignment = bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : SAC_ALIGNMENT;
    size_t rounded = round_up(bytes, SAC_ALIGNMENT);
    void *memory = NULL;

    if (rounded > PTRDIFF_MAX || posix_memalign(&memory, alignment, rounded) != 0)
        return NULL;
    if (bytes >= HUGE_PAGE_BYTES)
        (void)madvise(memory, bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES, MADV_HUGEPAGE); /* only a hint */
    return memory;
}

sac_status sac_buffer_alloc(sac_device *device, size_t count, size_t size, void **out, sac_error *err)
{
    size_t bytes;

    (void)device;
    *out = NULL;
    if (__builtin_mul_overflow(count, size, &bytes))
        return sac_fail(err, SAC_DEVICE_MEMORY, "a buffer of %zu times %zu bytes is beyond any memory", count,
                        size);
    if (bytes == 0)
        return SAC_OK;
    *out = aligned_bytes(bytes);
    if (*out == NULL)
        return sac_fail(err, SAC_DEVICE_MEMORY, "no memory for a buffer of %zu bytes: use a smaller batch",
                        bytes);
    return SAC_OK;
}

void sac_buffer_free(sac_device *device, void *buffer)
{
    (void)device;
    free(buffer);
}

sac_status sac_stream_open(sac_device *device, size_t scratch_bytes, sac_stream **out, sac_error *err)
{
    sac_stream *stream = calloc(1, sizeof *stream);
    sac_status st;

    *out = NULL;
    if (stream == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a stream");
    stream->device = device;
    st = sac_stream_reserve(stream, scratch_bytes, err);
    if (st != SAC_OK) {
        free(stream);
        return st;
    }
    *out = stream;
    return SAC_OK;
}

void sac_stream_close(sac_stream *stream)
{
    if (stream == NULL)
        return;
    free(stream->scratch);
    free(stream);
}

sac_device *sac_stream_device(const sac_stream *stream)
{
    return stream->device;
}

sac_status sac_stream_reserve(sac_stream *stream, size_t scratch_bytes, sac_error *err)
{
    size_t bytes = 4096;
    unsigned char *scratch;

    if (scratch_bytes <= stream->scratch_bytes)
        return SAC_OK;
    while (bytes < scratch_bytes && bytes <= SIZE_MAX / 2)
        bytes *= 2;
    scratch = bytes >= scratch_bytes ? aligned_bytes(bytes) : NULL;
    if (scratch == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for %zu bytes of scratch: use a smaller batch",
                        scratch_bytes);
    free(stream->scratch);
    stream->scratch = scratch;
    stream->scratch_bytes = bytes;
    stream->scratch_used = 0;
    return SAC_OK;
}

sac_status sac_stream_borrow(sac_device *device, size_t scratch_bytes, sac_stream **out, sac_error *err)
{
    sac_stream *stream;
    sac_status st;

    *out = NULL;
    pthread_mutex_lock(&device->idle_lock);
    stream = device->idle;
    if (stream != NULL)
        device->idle = stream->idle_next;
    pthread_mutex_unlock(&device->idle_lock);
    if (stream == NULL)
        return sac_stream_open(device, scratch_bytes, out, err);
    st = sac_stream_reserve(stream, scratch_bytes, err);
    if (st != SAC_OK) {
        sac_stream_give_back(stream);
        return st;
    }
    *out = stream;
    return SAC_OK;
}

void sac_stream_give_back(sac_stream *stream)
{
    sac_device *device;

    if (stream == NULL)
        return;
    device = stream->device;
    pthread_mutex_lock(&device->idle_lock);
    stream->idle_next = device->idle;
    device->idle = stream;
    pthread_mutex_unlock(&device->idle_lock);
}

sac_status sac_stream_upload(sac_stream *stream, void *device_to, const void *host_from, size_t bytes)
{
    (void)stream;
    if (bytes > 0)
        memcpy(device_to, host_from, bytes);
    return SAC_OK;
}

sac_status sac_stream_download(sac_stream *stream, void *host_to, const void *device_from, size_t bytes)
{
    (void)stream;
    if (bytes > 0)
        memcpy(host_to, device_from, bytes);
    return SAC_OK;
}

sac_status sac_stream_wait(sac_stream *stream)
{
    (void)stream;
    return SAC_OK;
}

size_t sac_scratch_size(size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        return SIZE_MAX;
    return round_up(bytes, SAC_ALIGNMENT);
}

size_t sac_scratch_add(size_t a, size_t b)
{
    size_t sum;

    return __builtin_add_overflow(a, b, &sum) ? SIZE_MAX : sum;
}

void *sac_scratch_take(sac_stream *stream, size_t count, size_t size)
{
    size_t bytes = sac_scratch_size(count, size);
    void *piece;

    if (bytes > stream->scratch_bytes - stream->scratch_used)
        return NULL;
    piece = stream->scratch + stream->scratch_used;
    stream->scratch_used += bytes;
    return piece;
}
