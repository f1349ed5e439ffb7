/* host_device.h -- what devices share whose memory is the host's and whose operations are finished when they
 * return: ref and cpu. */
#ifndef SACCADE_HOST_DEVICE_H
#define SACCADE_HOST_DEVICE_H

#include "kernels/backend.h"

/* A device with its threads (`threads`, 0: one per core), its limit of memory (0: none), and without a
 * table. */
sac_status sac_host_device_make(uint32_t threads, uint64_t memory, sac_device **out, sac_error *err);
void sac_host_device_close(sac_device *device);

void sac_host_device_memory(const sac_device *device, sac_device_memory *out);
sac_status sac_host_device_buffer_alloc(sac_device *device, size_t bytes, void **out, sac_error *err);
sac_status sac_host_device_host_alloc(sac_device *device, size_t bytes, void **out, sac_error *err);
void sac_host_device_free(sac_device *device, void *memory);
sac_status sac_host_device_stream_open(sac_device *device, sac_stream **out, sac_error *err);
void sac_host_device_stream_close(sac_stream *stream);
sac_status sac_host_device_stream_scratch(sac_stream *stream, size_t bytes, sac_error *err);
sac_status sac_host_device_copy(sac_stream *stream, void *to, const void *from, size_t bytes);
sac_status sac_host_device_copy_rows(sac_stream *stream, void *to, size_t to_stride, const void *from,
                                     size_t from_stride, size_t bytes, size_t rows);
sac_status sac_host_device_clear(sac_stream *stream, void *to, size_t bytes);
sac_status sac_host_device_wait(sac_stream *stream);
sac_status sac_host_device_event_open(sac_device *device, sac_event **out, sac_error *err);
void sac_host_device_event_close(sac_event *event);
sac_status sac_host_device_event_record(sac_event *event, sac_stream *stream);
sac_status sac_host_device_await(sac_stream *stream, const sac_event *event);
sac_status sac_host_device_record_begin(sac_stream *stream);

/* The slots of struct sac_backend that these fill; where no recording begins none is ended or played. */
#define SAC_HOST_DEVICE                                                                                   \
    .abi = SAC_BACKEND_ABI, .host_visible = true, .close = sac_host_device_close,                         \
    .memory = sac_host_device_memory, .buffer_alloc = sac_host_device_buffer_alloc,                       \
    .buffer_free = sac_host_device_free, .host_alloc = sac_host_device_host_alloc,                        \
    .host_free = sac_host_device_free, .stream_open = sac_host_device_stream_open,                        \
    .stream_close = sac_host_device_stream_close, .stream_scratch = sac_host_device_stream_scratch,       \
    .upload = sac_host_device_copy, .download = sac_host_device_copy, .copy = sac_host_device_copy,       \
    .copy_rows = sac_host_device_copy_rows, .clear = sac_host_device_clear, .wait = sac_host_device_wait, \
    .event_open = sac_host_device_event_open, .event_close = sac_host_device_event_close,                 \
    .event_record = sac_host_device_event_record, .await = sac_host_device_await,                         \
    .record_begin = sac_host_device_record_begin

#endif
