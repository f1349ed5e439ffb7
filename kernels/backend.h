/* backend.h -- the inside of a device: what the operations of kernels/ share. Never seen by the engine.
 *
 * How an operation is added
 *   1. Its contract and its slot go into ops.h.
 *   2. kernels/ref/<op>.c holds the plain C twin; declare it in ref/ref.h and name it in ref/ref_ops.c. The
 * CPU device starts from a copy of that table, so it works everywhere from then on.
 *   3. kernels/cpu/<op>_avx2.c and <op>_avx512.c hold faster versions; declare them in cpu/cpu.h, assign them
 * in cpu/cpu_ops.c, and list the file in CMakeLists.txt under its instruction set. Only those files are built
 *      with its flags, so nothing of another instruction set may be inlined from them: no non-static inline
 *      functions.
 *   4. kernels/cuda/<op>.cu holds the GPU's version; declare it in cuda/cuda.h, name it in cuda/cuda_ops.c.
 *   5. A case goes into the table of tests/kernels/, which compares every version with the twin.
 *
 * An operation
 *   - asserts its arguments, returns SAC_OK at once for nothing to do;
 *   - calls sac_scratch_reset(), then takes its workspace with sac_scratch_take(); where the size depends on
 * the shape, `<op>_scratch` adds up sac_scratch_size() of the same pieces;
 *   - splits large work with sac_parallel_for() (parallel.h). How work is split must not show in results:
 * split by shape, never by the number of threads, wherever the order of additions would differ.
 */
#ifndef SACCADE_BACKEND_H
#define SACCADE_BACKEND_H

#include "kernels/ops.h"
#include "kernels/parallel.h"

#include <pthread.h>

#define SAC_ALIGNMENT 64u

/* For a static function whose constant arguments are to vanish: one copy for each set of them. */
#define SAC_SPECIALIZE static inline __attribute__((always_inline))

/* What a kind of device does beyond its operations. The CUDA backend lives in a module of its own and is
 * built with the library: one with another abi - a number, and the size of what both sides look into - or of
 * another version is refused (module.c). */
#define SAC_BACKEND_ABI (2u << 16 | (uint32_t)sizeof(struct sac_device))

struct sac_backend {
    uint32_t abi;
    const char *version; /* of a module: SACCADE_VERSION */
    const char *name;
    bool host_visible;
    /* Makes a device of this kind: its table, features, threads and description, and fields of its own behind
     * those of sac_device; the registry does the rest. `ordinal` counts devices of one kind; `share` of them
     * are being opened with that ordinal, and divide its memory. */
    sac_status (*open)(const sac_device_options *options, uint32_t ordinal, uint32_t share, sac_device **out,
                       sac_error *err);
    void (*close)(sac_device *device); /* after its streams */
    void (*memory)(const sac_device *device, sac_device_memory *out);
    sac_status (*buffer_alloc)(sac_device *device, size_t bytes, void **out, sac_error *err); /* bytes > 0 */
    void (*buffer_free)(sac_device *device, void *buffer);
    sac_status (*host_alloc)(sac_device *device, size_t bytes, void **out, sac_error *err);
    void (*host_free)(sac_device *device, void *memory);
    sac_status (*stream_open)(sac_device *device, sac_stream **out, sac_error *err); /* without scratch */
    void (*stream_close)(sac_stream *stream);
    /* Replaces scratch and scratch_bytes, of which nothing is in use; leaves them as they were on failure. */
    sac_status (*stream_scratch)(sac_stream *stream, size_t bytes, sac_error *err);
    sac_status (*upload)(sac_stream *stream, void *to, const void *from, size_t bytes);
    sac_status (*download)(sac_stream *stream, void *to, const void *from, size_t bytes);
    sac_status (*copy)(sac_stream *stream, void *to, const void *from, size_t bytes);
    sac_status (*copy_rows)(sac_stream *stream, void *to, size_t to_stride, const void *from,
                            size_t from_stride, size_t bytes, size_t rows);
    sac_status (*clear)(sac_stream *stream, void *to, size_t bytes);
    sac_status (*wait)(sac_stream *stream);
    sac_status (*event_open)(sac_device *device, sac_event **out, sac_error *err);
    void (*event_close)(sac_event *event);
    sac_status (*event_record)(sac_event *event, sac_stream *stream);
    sac_status (*await)(sac_stream *stream, const sac_event *event);
    sac_status (*record_begin)(sac_stream *stream);
    sac_status (*record_end)(sac_stream *stream, sac_recording **out);
    sac_status (*play)(sac_recording *recording, sac_stream *stream);
    void (*recording_free)(sac_recording *recording);
};

struct sac_device {
    const struct sac_backend *backend;
    struct sac_ops ops;
    uint32_t features; /* enum sac_cpu_feature on the CPU, else 0 */
    uint32_t threads;
    sac_parallel *parallel; /* ref and cpu */
    uint64_t memory, used;  /* ref and cpu: bytes that may be taken, 0: any; and that are (__atomic) */
    char description[320];
    int lost;             /* read and set with __atomic builtins: this header is read by C++ too */
    char lost_reason[96]; /* written before lost is set, under idle_lock */
    pthread_mutex_t idle_lock;
    sac_stream *idle;    /* streams waiting to be borrowed, a stack: the warmest scratch goes out first */
    sac_device *host;    /* sac_device_host(): itself, or one that it owns */
    sac_device **shards; /* [shard_count], the first is itself; NULL with shard_count 1 */
    uint32_t shard_count;
};

struct sac_stream {
    sac_device *device;
    unsigned char *scratch; /* device memory, aligned to SAC_ALIGNMENT */
    size_t scratch_bytes;
    size_t scratch_used;
    sac_stream *idle_next;
};

/* A backend's event and recording start with these. */
struct sac_event {
    sac_device *device;
};
struct sac_recording {
    sac_device *device;
};

/* The function that a module exports under the name SAC_MODULE_SYMBOL. */
typedef const struct sac_backend *sac_module_fn(void);
#define SAC_MODULE_SYMBOL "sac_cuda_backend"

/* The CUDA module's backend, loaded at the first call and kept. NULL where there is none: *why then says so
 * in words that follow "no GPU: ". */
const struct sac_backend *sac_module_load(const char **why);

/* Closes the streams that wait to be borrowed; false where there were none. */
bool sac_device_idle_close(sac_device *device);

extern const struct sac_backend sac_backend_ref;
extern const struct sac_backend sac_backend_cpu;

/* Forgets what the operation before this one took. */
static inline void sac_scratch_reset(sac_stream *stream)
{
    stream->scratch_used = 0;
}

/* Bytes that sac_scratch_take(stream, count, size) takes; SIZE_MAX where that overflows. */
size_t sac_scratch_size(size_t count, size_t size);

/* Sum of two scratch sizes; SIZE_MAX where that overflows. */
size_t sac_scratch_add(size_t a, size_t b);

/* count * size bytes of the stream's arena, aligned to 64 and undefined, until the next operation;
 * NULL when the arena is too small: the operation then returns SAC_NO_MEMORY (SAC_DEVICE_MEMORY on a GPU). */
void *sac_scratch_take(sac_stream *stream, size_t count, size_t size);

/* For an operation within an operation, on the CPU: a stream that has nothing but this arena, a piece of the
 * other's. */
sac_stream sac_scratch_stream(const sac_stream *stream, void *arena, size_t bytes);

#endif
