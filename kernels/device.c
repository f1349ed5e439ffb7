/* What device.h promises of every device: sizes are checked here, once, and the rest is the backend's. */
#include "kernels/device.h"

#include "kernels/backend.h"

#include <assert.h>

/* Arenas grow by doubling up to this size, then by multiples of it: a GPU has no room for twice a large one.
 */
#define SCRATCH_STEP ((size_t)64 << 20)
#define SCRATCH_LEAST ((size_t)4096)

const char *sac_device_describe(const sac_device *device)
{
    return device->description;
}

uint32_t sac_device_threads(const sac_device *device)
{
    return device->threads;
}

void sac_device_memory_describe(const sac_device *device, sac_device_memory *out)
{
    device->backend->memory(device, out);
}

const char *sac_device_lost_reason(const sac_device *device)
{
    if (__atomic_load_n(&device->lost, __ATOMIC_ACQUIRE))
        return device->lost_reason;
    for (uint32_t i = 1; i < device->shard_count; i++)
        if (__atomic_load_n(&device->shards[i]->lost, __ATOMIC_ACQUIRE))
            return device->shards[i]->lost_reason;
    return NULL;
}

bool sac_device_lost(const sac_device *device)
{
    return sac_device_lost_reason(device) != NULL;
}

static sac_status check_lost(const sac_device *device, sac_error *err)
{
    const char *why = sac_device_lost_reason(device);

    return why == NULL ? SAC_OK
                       : sac_fail(err, SAC_DEVICE_LOST,
                                  "the GPU has failed (%s): only a new process can use it again", why);
}

bool sac_device_idle_close(sac_device *device)
{
    sac_stream *stream;
    bool any;

    pthread_mutex_lock(&device->idle_lock);
    stream = device->idle;
    device->idle = NULL;
    pthread_mutex_unlock(&device->idle_lock);
    any = stream != NULL;
    while (stream != NULL) {
        sac_stream *next = stream->idle_next;

        sac_stream_close(stream);
        stream = next;
    }
    return any;
}

const struct sac_ops *sac_device_ops(const sac_device *device)
{
    return &device->ops;
}

bool sac_device_host_visible(const sac_device *device)
{
    return device->backend->host_visible;
}

sac_device *sac_device_host(sac_device *device)
{
    return device->host;
}

uint32_t sac_device_shard_count(const sac_device *device)
{
    return device->shard_count;
}

sac_device *sac_device_shard(sac_device *device, uint32_t i)
{
    assert(i < device->shard_count);
    return i == 0 ? device : device->shards[i];
}

sac_status sac_buffer_alloc(sac_device *device, size_t count, size_t size, void **out, sac_error *err)
{
    size_t bytes;
    sac_status st;

    *out = NULL;
    if (__builtin_mul_overflow(count, size, &bytes))
        return sac_fail(err, SAC_DEVICE_MEMORY, "a buffer of %zu times %zu bytes is beyond any memory", count,
                        size);
    st = check_lost(device, err);
    if (bytes == 0 || st != SAC_OK)
        return st;
    st = device->backend->buffer_alloc(device, bytes, out, err);
    if (st == SAC_DEVICE_MEMORY && sac_device_idle_close(device)) /* their arenas are the first to go */
        st = device->backend->buffer_alloc(device, bytes, out, err);
    return st;
}

void sac_buffer_free(sac_device *device, void *buffer)
{
    if (buffer != NULL)
        device->backend->buffer_free(device, buffer);
}

sac_status sac_host_alloc(sac_device *device, size_t count, size_t size, void **out, sac_error *err)
{
    size_t bytes;
    sac_status st;

    *out = NULL;
    if (__builtin_mul_overflow(count, size, &bytes))
        return sac_fail(err, SAC_NO_MEMORY, "%zu times %zu bytes are beyond any memory", count, size);
    if (bytes == 0)
        return SAC_OK;
    st = device->backend->host_alloc(device, bytes, out, err);
    if (st == SAC_DEVICE_MEMORY && sac_device_idle_close(device))
        st = device->backend->host_alloc(device, bytes, out, err);
    return st;
}

void sac_host_free(sac_device *device, void *memory)
{
    if (memory != NULL)
        device->backend->host_free(device, memory);
}

sac_status sac_stream_open(sac_device *device, size_t scratch_bytes, sac_stream **out, sac_error *err)
{
    sac_stream *stream;
    sac_status st;

    *out = NULL;
    st = check_lost(device, err);
    if (st == SAC_OK)
        st = device->backend->stream_open(device, &stream, err);
    if (st != SAC_OK)
        return st;
    stream->device = device;
    st = sac_stream_reserve(stream, scratch_bytes, err);
    if (st != SAC_OK) {
        sac_stream_close(stream);
        return st;
    }
    *out = stream;
    return SAC_OK;
}

void sac_stream_close(sac_stream *stream)
{
    if (stream != NULL)
        stream->device->backend->stream_close(stream);
}

sac_device *sac_stream_device(const sac_stream *stream)
{
    return stream->device;
}

/* SIZE_MAX where no arena is that large. */
static size_t arena_size(size_t need)
{
    size_t bytes = SCRATCH_LEAST;

    if (need > SIZE_MAX - SCRATCH_STEP)
        return SIZE_MAX;
    if (need > SCRATCH_STEP)
        return (need + SCRATCH_STEP - 1) / SCRATCH_STEP * SCRATCH_STEP;
    while (bytes < need)
        bytes *= 2;
    return bytes;
}

sac_status sac_stream_reserve(sac_stream *stream, size_t scratch_bytes, sac_error *err)
{
    sac_status st;

    if (stream->scratch != NULL && scratch_bytes <= stream->scratch_bytes)
        return SAC_OK;
    st = stream->device->backend->stream_scratch(stream, arena_size(scratch_bytes), err);
    if (st == SAC_DEVICE_MEMORY && sac_device_idle_close(stream->device))
        st = stream->device->backend->stream_scratch(stream, arena_size(scratch_bytes), err);
    if (st == SAC_OK)
        stream->scratch_used = 0;
    return st;
}

sac_status sac_stream_borrow(sac_device *device, size_t scratch_bytes, sac_stream **out, sac_error *err)
{
    sac_stream *stream;
    sac_status st = check_lost(device, err);

    *out = NULL;
    if (st != SAC_OK)
        return st;
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
    return bytes > 0 ? stream->device->backend->upload(stream, device_to, host_from, bytes) : SAC_OK;
}

sac_status sac_stream_download(sac_stream *stream, void *host_to, const void *device_from, size_t bytes)
{
    return bytes > 0 ? stream->device->backend->download(stream, host_to, device_from, bytes) : SAC_OK;
}

sac_status sac_stream_copy(sac_stream *stream, void *device_to, const void *device_from, size_t bytes)
{
    return bytes > 0 ? stream->device->backend->copy(stream, device_to, device_from, bytes) : SAC_OK;
}

sac_status sac_stream_copy_rows(sac_stream *stream, void *device_to, size_t to_stride,
                                const void *device_from, size_t from_stride, size_t bytes, size_t rows)
{
    if (rows <= 1 || bytes == 0)
        return rows == 0 ? SAC_OK : sac_stream_copy(stream, device_to, device_from, bytes);
    assert(to_stride >= bytes && from_stride >= bytes);
    return stream->device->backend->copy_rows(stream, device_to, to_stride, device_from, from_stride, bytes,
                                              rows);
}

sac_status sac_stream_clear(sac_stream *stream, void *device_to, size_t bytes)
{
    return bytes > 0 ? stream->device->backend->clear(stream, device_to, bytes) : SAC_OK;
}

sac_status sac_stream_wait(sac_stream *stream)
{
    return stream->device->backend->wait(stream);
}

sac_status sac_event_open(sac_device *device, sac_event **out, sac_error *err)
{
    sac_status st;

    *out = NULL;
    st = device->backend->event_open(device, out, err);
    if (st == SAC_OK)
        (*out)->device = device;
    return st;
}

void sac_event_close(sac_event *event)
{
    if (event != NULL)
        event->device->backend->event_close(event);
}

sac_status sac_event_record(sac_event *event, sac_stream *stream)
{
    assert(event->device == stream->device);
    return stream->device->backend->event_record(event, stream);
}

sac_status sac_stream_await(sac_stream *stream, const sac_event *event)
{
    assert(event->device->backend == stream->device->backend);
    return stream->device->backend->await(stream, event);
}

sac_status sac_stream_record_begin(sac_stream *stream)
{
    return stream->device->backend->record_begin(stream);
}

sac_status sac_stream_record_end(sac_stream *stream, sac_recording **out)
{
    sac_status st;

    *out = NULL;
    st = stream->device->backend->record_end(stream, out);
    if (st == SAC_OK)
        (*out)->device = stream->device;
    return st;
}

sac_status sac_recording_play(sac_recording *recording, sac_stream *stream)
{
    assert(recording->device == stream->device);
    return stream->device->backend->play(recording, stream);
}

void sac_recording_free(sac_recording *recording)
{
    if (recording != NULL)
        recording->device->backend->recording_free(recording);
}
