/* Memory and streams of devices whose memory is the host's: every operation is finished when its call
 * returns, so streams are never behind, events have always happened, and there is nothing to record. */
#include "kernels/host_device.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* From this size on buffers ask for huge pages: a scan that jumps between the pages of inverted lists would
 * otherwise spend its time in the TLB. */
#define HUGE_PAGE_BYTES ((size_t)2 << 20)

sac_status sac_host_device_make(uint32_t threads, sac_device **out, sac_error *err)
{
    sac_device *device = calloc(1, sizeof *device);

    *out = NULL;
    if (device == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a device");
    device->threads = threads > 0 ? threads : sac_parallel_cores();
    device->parallel = sac_parallel_open(device->threads);
    if (device->parallel == NULL) {
        sac_fail(err, SAC_NO_MEMORY, "cannot start %u threads", device->threads);
        free(device);
        return SAC_NO_MEMORY;
    }
    *out = device;
    return SAC_OK;
}

void sac_host_device_close(sac_device *device)
{
    sac_parallel_close(device->parallel);
    free(device);
}

void sac_host_device_memory(const sac_device *device, sac_device_memory *out)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);

    (void)device;
    *out = (sac_device_memory){
        .budget = pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0,
    };
}

/* NULL where bytes cannot be had. */
static void *aligned_bytes(size_t bytes)
{
    size_t alignment = bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : SAC_ALIGNMENT;
    size_t rounded = sac_scratch_size(bytes, 1);
    void *memory = NULL;

    if (rounded > PTRDIFF_MAX || posix_memalign(&memory, alignment, rounded) != 0)
        return NULL;
    if (bytes >= HUGE_PAGE_BYTES)
        (void)madvise(memory, bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES, MADV_HUGEPAGE); /* only a hint */
    return memory;
}

sac_status sac_host_device_buffer_alloc(sac_device *device, size_t bytes, void **out, sac_error *err)
{
    (void)device;
    *out = aligned_bytes(bytes);
    if (*out == NULL)
        return sac_fail(err, SAC_DEVICE_MEMORY, "no memory for a buffer of %zu bytes: use a smaller batch",
                        bytes);
    return SAC_OK;
}

sac_status sac_host_device_host_alloc(sac_device *device, size_t bytes, void **out, sac_error *err)
{
    (void)device;
    *out = aligned_bytes(bytes);
    if (*out == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for %zu bytes: use a smaller batch", bytes);
    return SAC_OK;
}

void sac_host_device_free(sac_device *device, void *memory)
{
    (void)device;
    free(memory);
}

sac_status sac_host_device_stream_open(sac_device *device, sac_stream **out, sac_error *err)
{
    (void)device;
    *out = calloc(1, sizeof **out);
    return *out != NULL ? SAC_OK : sac_fail(err, SAC_NO_MEMORY, "no memory for a stream");
}

void sac_host_device_stream_close(sac_stream *stream)
{
    free(stream->scratch);
    free(stream);
}

sac_status sac_host_device_stream_scratch(sac_stream *stream, size_t bytes, sac_error *err)
{
    unsigned char *scratch = aligned_bytes(bytes);

    if (scratch == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for %zu bytes of scratch: use a smaller batch", bytes);
    free(stream->scratch);
    stream->scratch = scratch;
    stream->scratch_bytes = bytes;
    return SAC_OK;
}

sac_status sac_host_device_copy(sac_stream *stream, void *to, const void *from, size_t bytes)
{
    (void)stream;
    memcpy(to, from, bytes);
    return SAC_OK;
}

sac_status sac_host_device_copy_rows(sac_stream *stream, void *to, size_t to_stride, const void *from,
                                     size_t from_stride, size_t bytes, size_t rows)
{
    (void)stream;
    for (size_t i = 0; i < rows; i++)
        memcpy((unsigned char *)to + i * to_stride, (const unsigned char *)from + i * from_stride, bytes);
    return SAC_OK;
}

sac_status sac_host_device_clear(sac_stream *stream, void *to, size_t bytes)
{
    (void)stream;
    memset(to, 0, bytes);
    return SAC_OK;
}

sac_status sac_host_device_wait(sac_stream *stream)
{
    (void)stream;
    return SAC_OK;
}

sac_status sac_host_device_event_open(sac_device *device, sac_event **out, sac_error *err)
{
    (void)device;
    *out = calloc(1, sizeof **out);
    return *out != NULL ? SAC_OK : sac_fail(err, SAC_NO_MEMORY, "no memory for an event");
}

void sac_host_device_event_close(sac_event *event)
{
    free(event);
}

sac_status sac_host_device_event_record(sac_event *event, sac_stream *stream)
{
    (void)event;
    (void)stream;
    return SAC_OK;
}

sac_status sac_host_device_await(sac_stream *stream, const sac_event *event)
{
    (void)stream;
    (void)event;
    return SAC_OK;
}

sac_status sac_host_device_record_begin(sac_stream *stream)
{
    (void)stream;
    return SAC_UNSUPPORTED;
}
