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
 *   4. A case goes into the table of tests/kernels/, which compares every version with the twin.
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

struct sac_backend {
    const char *name;
    bool single_threaded;
    /* Fills device->ops, ->features and ->description; device->threads is set already. */
    sac_status (*setup)(sac_device *device, const char *isa, sac_error *err);
};

struct sac_device {
    const struct sac_backend *backend;
    struct sac_ops ops;
    uint32_t features; /* enum sac_cpu_feature; 0 on ref */
    uint32_t threads;
    sac_parallel *parallel;
    char description[160];
    pthread_mutex_t idle_lock;
    sac_stream *idle; /* streams waiting to be borrowed, a stack: the warmest scratch goes out first */
};

struct sac_stream {
    sac_device *device;
    unsigned char *scratch; /* aligned to SAC_ALIGNMENT */
    size_t scratch_bytes;
    size_t scratch_used;
    sac_stream *idle_next;
};

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
 * NULL when the arena is too small: the operation then returns SAC_NO_MEMORY. */
void *sac_scratch_take(sac_stream *stream, size_t count, size_t size);

#endif
