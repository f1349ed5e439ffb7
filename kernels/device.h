/* device.h -- device, memory, stream: where work runs and in which order.
 *
 * A device is a kind of processor with its memory and its table of operations (ops.h): the plain C
 * reference, this machine's CPU, later a GPU. A stream is an ordered queue of operations together with a
 * bounded scratch arena; one thread uses a stream at a time, and any number of streams may be busy at
 * once. On the CPU an operation is finished when its call returns; on other devices when sac_stream_wait
 * has returned, so callers always wait before they read results.
 *
 * Part of the public API (opening and describing a device); installed beside saccade.h.
 */
#ifndef SACCADE_DEVICE_H
#define SACCADE_DEVICE_H

#include "status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct sac_device sac_device; /* safe to share between threads */
typedef struct sac_stream sac_stream; /* one thread at a time */
struct sac_ops;

typedef struct sac_device_options {
    /* "auto" (the best one present), "cpu", or "ref" (plain C, one thread: the truth in tests). */
    const char *name;
    /* Threads that one operation may use, the calling thread included; 0: one per core that the process
     * may run on. Threads belong to the device; concurrent streams share them and never oversubscribe. */
    uint32_t threads;
    /* Instruction sets allowed at most: "avx512", "avx512core" (without VBMI and later), "avx2" or "base".
     * NULL: the environment's SACCADE_CPU__ISA, else whatever the CPU and the operating system offer. */
    const char *isa;
} sac_device_options;

/* Fills the defaults: "auto", 0, NULL. */
void sac_device_options_init(sac_device_options *options);

/* Opens a device. options may be NULL. On success *out is the caller's, who ends it with
 * sac_device_close() after everything made on it; on failure *out is NULL.
 * Errors: SAC_INVALID_ARGUMENT (unknown name), SAC_UNSUPPORTED (no such device here), SAC_NO_MEMORY. */
sac_status sac_device_open(const sac_device_options *options, sac_device **out, sac_error *err);
void sac_device_close(sac_device *device); /* NULL is allowed */

/* One line for people: "cpu: AVX-512 VBMI VNNI BF16 AMX, 2 threads". Lives as long as the device. */
const char *sac_device_describe(const sac_device *device);
uint32_t sac_device_threads(const sac_device *device);

/* ---- for the engine: not needed by users of saccade.h ---- */

/* The table of operations of ops.h. Lives as long as the device. */
const struct sac_ops *sac_device_ops(const sac_device *device);

/* True where device memory can be read and written by the host through the same pointer. */
bool sac_device_host_visible(const sac_device *device);

/* count * size bytes of device memory, aligned to 64 bytes, contents undefined; *out NULL when the
 * product is 0. The product is checked for overflow. Errors: SAC_DEVICE_MEMORY. */
sac_status sac_buffer_alloc(sac_device *device, size_t count, size_t size, void **out, sac_error *err);
void sac_buffer_free(sac_device *device, void *buffer); /* NULL is allowed */

/* Makes a stream whose operations share scratch_bytes of workspace. */
sac_status sac_stream_open(sac_device *device, size_t scratch_bytes, sac_stream **out, sac_error *err);
void sac_stream_close(sac_stream *stream); /* NULL is allowed */
sac_device *sac_stream_device(const sac_stream *stream);

/* Grows the scratch arena to at least scratch_bytes, rounded up to a power of two so that steady load
 * never grows it. Not to be called while operations are in flight on this stream. */
sac_status sac_stream_reserve(sac_stream *stream, size_t scratch_bytes, sac_error *err);

/* A stream from the device's pool of idle ones, with at least scratch_bytes of arena; given back when the
 * caller is done with it. This is how searches and decode threads get theirs: any number at once. */
sac_status sac_stream_borrow(sac_device *device, size_t scratch_bytes, sac_stream **out, sac_error *err);
void sac_stream_give_back(sac_stream *stream); /* NULL is allowed */

/* Copies between host and device in stream order. */
sac_status sac_stream_upload(sac_stream *stream, void *device_to, const void *host_from, size_t bytes);
sac_status sac_stream_download(sac_stream *stream, void *host_to, const void *device_from, size_t bytes);

/* Returns when everything put on the stream is done. SAC_DEVICE_LOST is final for the device. */
sac_status sac_stream_wait(sac_stream *stream);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
