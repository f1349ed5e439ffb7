/* device.h -- device, memory, stream: where work runs and in which order.
 *
 * A device is a kind of processor with its memory and its table of operations (ops.h): the plain C
 * reference, this machine's CPU, a GPU. A stream is an ordered queue of operations together with a
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
    /* "auto" (the best one present: a GPU, else the CPU), "cpu", "cuda:N" (the N-th GPU; "cuda" is the
     * first), or "ref" (plain C, one thread: the truth in tests). Several with commas ("cuda:0,cuda:1") are
     * one device whose indexes are split between them, all of one kind; the first of them answers. The CUDA
     * module is $SACCADE_CUDA__MODULE, else libsaccade_cuda.so beside the program or the library, or in
     * saccade/ of the directory of libraries. */
    const char *name;
    /* Threads that one operation may use, the calling thread included; 0: one per core that the process
     * may run on. Threads belong to the device; concurrent streams share them and never oversubscribe. */
    uint32_t threads;
    /* Instruction sets allowed at most: "avx512", "avx512core" (without VBMI and later), "avx2" or "base".
     * NULL: the environment's SACCADE_CPU__ISA, else whatever the CPU and the operating system offer. */
    const char *isa;
    /* Fail, saying why there is no GPU, instead of taking the CPU. */
    bool require_gpu;
    /* Bytes of a GPU's memory to use at most; 0: what is free when it is opened, less a reserve of a
     * twentieth. */
    uint64_t memory;
    /* Bytes of this machine's memory to use at most, where the CPU does the work: for indexes, for building
     * and searching them, for models; 8 MiB and a sixteenth of it are left to what nobody counts. What it has
     * no room for is refused, where that can be told before it begins. 0: no limit. */
    uint64_t host_memory;
} sac_device_options;

/* Fills the defaults: "auto", and 0 for the rest. */
void sac_device_options_init(sac_device_options *options);

/* Opens a device. options may be NULL. On success *out is the caller's, who ends it with
 * sac_device_close() after everything made on it; on failure *out is NULL.
 * Errors: SAC_INVALID_ARGUMENT (unknown name), SAC_UNSUPPORTED (no such device here), SAC_NO_MEMORY. */
sac_status sac_device_open(const sac_device_options *options, sac_device **out, sac_error *err);
void sac_device_close(sac_device *device); /* NULL is allowed */

/* One line for people: "cpu: AVX-512 VBMI VNNI BF16 AMX, 2 threads" - and why there is no GPU, where "auto"
 * looked for one - or "cuda:0: NVIDIA H200, 132 multiprocessors, 139 GiB, module for CUDA 13.0". Lives as
 * long as the device. */
const char *sac_device_describe(const sac_device *device);
uint32_t sac_device_threads(const sac_device *device);

/* The memory that indexes and searches live in; of several devices, the first one's. On the CPU budget is
 * what host_memory leaves; without a limit it is what the machine has, and used is 0: nothing is counted. */
typedef struct sac_device_memory {
    uint64_t budget; /* bytes that may be used */
    uint64_t used;   /* bytes in use through this handle */
} sac_device_memory;
void sac_device_memory_describe(const sac_device *device, sac_device_memory *out);

/* True once the device has failed in a way that only a new process can mend (a GPU's sticky errors): every
 * operation fails with SAC_DEVICE_LOST from then on. */
bool sac_device_lost(const sac_device *device);
/* What happened, "CUDA error 700, an illegal memory access was encountered"; NULL while it is well. Lives as
 * long as the device. */
const char *sac_device_lost_reason(const sac_device *device);

/* ---- for the engine: not needed by users of saccade.h ---- */

/* The table of operations of ops.h. Lives as long as the device. */
const struct sac_ops *sac_device_ops(const sac_device *device);

/* True where device memory can be read and written by the host through the same pointer. */
bool sac_device_host_visible(const sac_device *device);

/* The device that does the host's share of the work (decoding, resizing, whatever slots this one leaves
 * empty): itself on the CPU. Lives as long as the device. */
sac_device *sac_device_host(sac_device *device);

#define SAC_SHARDS_MAX 64u

/* The devices that an index is split between: 1 and the device itself, unless it was opened with commas. */
uint32_t sac_device_shard_count(const sac_device *device);
sac_device *sac_device_shard(sac_device *device, uint32_t i);

/* count * size bytes of device memory, aligned to 64 bytes, contents undefined; *out NULL when the
 * product is 0. The product is checked for overflow. Errors: SAC_DEVICE_MEMORY. */
sac_status sac_buffer_alloc(sac_device *device, size_t count, size_t size, void **out, sac_error *err);
void sac_buffer_free(sac_device *device, void *buffer); /* NULL is allowed */

/* The same in the host's memory, where host and device reach it through one pointer: for staging (copies to
 * and from it run beside the host), and for what does not fit on the device. Errors: SAC_NO_MEMORY;
 * SAC_DEVICE_MEMORY where a limit on the host's memory leaves no room. */
sac_status sac_host_alloc(sac_device *device, size_t count, size_t size, void **out, sac_error *err);
void sac_host_free(sac_device *device, void *memory); /* NULL is allowed */

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

/* Copies between host and device in stream order. Host memory of sac_host_alloc() must stay as it is until
 * the stream has been waited for; other memory may be used again when the call returns (upload), and holds
 * the result only after the wait (download, which may itself wait for what is before it on the stream).
 * Between the begin and the end of a recording only host memory of sac_host_alloc() will do. */
sac_status sac_stream_upload(sac_stream *stream, void *device_to, const void *host_from, size_t bytes);
sac_status sac_stream_download(sac_stream *stream, void *host_to, const void *device_from, size_t bytes);

/* Within device memory, also from that of another shard's device. */
sac_status sac_stream_copy(sac_stream *stream, void *device_to, const void *device_from, size_t bytes);
/* The same for `rows` rows of `bytes` each, which begin every to_stride and from_stride bytes. */
sac_status sac_stream_copy_rows(sac_stream *stream, void *device_to, size_t to_stride,
                                const void *device_from, size_t from_stride, size_t bytes, size_t rows);
/* Fills device memory with zeros. */
sac_status sac_stream_clear(sac_stream *stream, void *device_to, size_t bytes);

/* Returns when everything put on the stream is done. SAC_DEVICE_LOST is final for the device. */
sac_status sac_stream_wait(sac_stream *stream);

/* A mark in a stream that another stream can wait for. Reused freely: a record moves the mark. */
typedef struct sac_event sac_event;
sac_status sac_event_open(sac_device *device, sac_event **out, sac_error *err);
void sac_event_close(sac_event *event); /* NULL is allowed */
sac_status sac_event_record(sac_event *event, sac_stream *stream);
sac_status sac_stream_await(sac_stream *stream, const sac_event *event); /* the host does not wait */

/* Recordings: what is put on the stream between begin and end is not done but kept, and can then be played
 * any number of times at the cost of one launch, on the same memory. In between, nothing may be allocated,
 * waited for or reserved. SAC_UNSUPPORTED from begin where the device gains nothing by it (ref, cpu). After a
 * failure in between, end returns it and *out is NULL. */
typedef struct sac_recording sac_recording;
sac_status sac_stream_record_begin(sac_stream *stream);
sac_status sac_stream_record_end(sac_stream *stream, sac_recording **out);
sac_status sac_recording_play(sac_recording *recording, sac_stream *stream);
void sac_recording_free(sac_recording *recording); /* NULL is allowed */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
