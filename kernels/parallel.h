/* parallel.h -- one pool of threads per device, for operations that are worth splitting.
 *
 * The calling thread takes part, so a pool of n threads owns n - 1. One call at a time has the helpers. A
 * call that finds them taken, or that comes from inside a task, runs alone on its own thread; and helpers
 * leave a call as soon as callers and helpers together would be more than n. So any number of concurrent
 * searches keep at most n cores busy as long as there are at most n callers. Nothing is allocated per call.
 */
#ifndef SACCADE_PARALLEL_H
#define SACCADE_PARALLEL_H

#include "kernels/device.h"

typedef struct sac_parallel sac_parallel;

/* Does task `task` of 0..count-1. `worker` is below the pool's thread count, and no two tasks that run at the
 * same time in one call have the same worker: the index of a private piece of scratch. */
typedef void sac_parallel_fn(void *context, uint32_t task, uint32_t worker);

/* A pool of `threads` >= 1, the caller included. NULL when threads or memory cannot be had. */
sac_parallel *sac_parallel_open(uint32_t threads);
void sac_parallel_close(sac_parallel *pool); /* NULL is allowed */

/* Runs fn for every task and returns when all are done; what they wrote is visible to the caller. Tasks are
 * handed out in order, one at a time, to whoever is free. */
void sac_parallel_run(sac_parallel *pool, uint32_t count, sac_parallel_fn *fn, void *context);

/* The same on the pool of the stream's device. */
void sac_parallel_for(sac_stream *stream, uint32_t count, sac_parallel_fn *fn, void *context);

/* Cores that this process may run on (its affinity mask), at least 1. */
uint32_t sac_parallel_cores(void);

#endif
