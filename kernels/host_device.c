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
/* Of a limit, what is left to that which nobody counts - small arrays, a store's transaction, the program
 * itself: so much and a sixteenth, but not more than half. */
#define UNCOUNTED_BYTES ((uint64_t)8 << 20)
#define UNCOUNTED_SHARE 16u

sac_status sac_host_device_make(uint32_t threads, uint64_t memory, sac_device **out, sac_error *err)
{
    sac_device *device = calloc(1, sizeof *device);
    uint64_t uncounted = UNCOUNTED_BYTES + memory / UNCOUNTED_SHARE;

    *out = NULL;
    if (device == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a device");
    device->memory = memory - (uncounted < memory / 2 ? uncounted : memory / 2);
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

    *out = (sac_device_memory){.budget = device->memory,
                               .used = __atomic_load_n(&device->used, __ATOMIC_RELAXED)};
    if (device->memory == 0 && pages > 0 && page_bytes > 0)
        out->budget = (uint64_t)pages * (uint64_t)page_bytes;
}

/* ---- memory under a limit --------------------------------------------------------------------------- */

/* Lies before memory that is counted. Large pieces are mapped one by one, because what malloc is given back
 * it may keep. */
struct counted {
    void *base;
    size_t mapped; /* bytes; 0: of malloc */
    size_t bytes;  /* counted */
};
_Static_assert(sizeof(struct counted) <= SAC_ALIGNMENT, "it has to fit before the memory");

/* Counts bytes as used; false where they are beyond the limit. */
static bool limit_take(sac_device *device, uint64_t bytes)
{
    uint64_t used = __atomic_load_n(&device->used, __ATOMIC_RELAXED);

    do {
        if (bytes > device->memory || used > device->memory - bytes)
            return false;
    } while (!__atomic_compare_exchange_n(&device->used, &used, used + bytes, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return true;
}

static void *map(size_t bytes)
{
    void *base =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return base != MAP_FAILED ? base : NULL;
}

/* NULL where bytes cannot be had. */
static void *counted_make(size_t bytes, size_t alignment)
{
    size_t span = bytes + 2 * alignment;
    bool large = alignment > SAC_ALIGNMENT;
    unsigned char *base = large ? map(span) : malloc(span), *memory;

    if (base == NULL)
        return NULL;
    memory = base + alignment + (alignment - (uintptr_t)base % alignment) % alignment;
    ((struct counted *)(void *)(memory - SAC_ALIGNMENT))[0] =
        (struct counted){.base = base, .mapped = large ? span : 0, .bytes = bytes};
    return memory;
}

static void counted_free(sac_device *device, void *memory)
{
    struct counted counted = *(struct counted *)(void *)((unsigned char *)memory - SAC_ALIGNMENT);

    if (counted.mapped > 0)
        munmap(counted.base, counted.mapped);
    else
        free(counted.base);
    (void)__atomic_sub_fetch(&device->used, counted.bytes, __ATOMIC_RELAXED);
}

static void *counted_bytes(sac_device *device, size_t bytes, size_t alignment)
{
    void *memory;

    if (!limit_take(device, bytes))
        return NULL;
    memory = counted_make(bytes, alignment);
    if (memory == NULL)
        (void)__atomic_sub_fetch(&device->used, bytes, __ATOMIC_RELAXED);
    return memory;
}

/* ---- memory ----------------------------------------------------------------------------------------- */

/* NULL where bytes cannot be had. */
static void *aligned_bytes(sac_device *device, size_t bytes)
{
    size_t alignment = bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : SAC_ALIGNMENT;
    size_t rounded = sac_scratch_size(bytes, 1);
    void *memory = NULL;

    if (rounded > PTRDIFF_MAX / 2)
        return NULL;
    if (device->memory > 0)
        memory = counted_bytes(device, rounded, alignment);
    else if (posix_memalign(&memory, alignment, rounded) != 0)
        return NULL;
    if (memory != NULL && bytes >= HUGE_PAGE_BYTES)
        (void)madvise(memory, bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES, MADV_HUGEPAGE); /* only a hint */
    return memory;
}

/* Why they could not be had: the limit, or `unlimited`, where there is none that would be in the way. */
static sac_status no_memory(const sac_device *device, size_t bytes, sac_status unlimited, sac_error *err)
{
    uint64_t used = __atomic_load_n(&device->used, __ATOMIC_RELAXED);
    uint64_t left = used < device->memory ? device->memory - used : 0;

    if (device->memory == 0 || bytes <= left)
        return sac_fail(err, unlimited, "no memory for %zu bytes: use a smaller batch", bytes);
    return sac_fail(err, SAC_DEVICE_MEMORY,
                    "%zu bytes are wanted and %llu of the limit of %llu are left, %llu are missing: allow "
                    "more memory, use a smaller batch, fewer vectors, or Refine(SQ8)",
                    bytes, (unsigned long long)left, (unsigned long long)device->memory,
                    (unsigned long long)(bytes - left));
}

sac_status sac_host_device_buffer_alloc(sac_device *device, size_t bytes, void **out, sac_error *err)
{
    *out = aligned_bytes(device, bytes);
    return *out != NULL ? SAC_OK : no_memory(device, bytes, SAC_DEVICE_MEMORY, err);
}

sac_status sac_host_device_host_alloc(sac_device *device, size_t bytes, void **out, sac_error *err)
{
    *out = aligned_bytes(device, bytes);
    return *out != NULL ? SAC_OK : no_memory(device, bytes, SAC_NO_MEMORY, err);
}

void sac_host_device_free(sac_device *device, void *memory)
{
    if (memory != NULL && device->memory > 0)
        counted_free(device, memory);
    else
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
    sac_host_device_free(stream->device, stream->scratch);
    free(stream);
}

sac_status sac_host_device_stream_scratch(sac_stream *stream, size_t bytes, sac_error *err)
{
    unsigned char *scratch = aligned_bytes(stream->device, bytes);

    if (scratch == NULL)
        return no_memory(stream->device, bytes, SAC_NO_MEMORY, err);
    sac_host_device_free(stream->device, stream->scratch);
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
