/* cuda_ranges.h -- which pieces of memory are ours, by address. Safe to share between threads. */
#ifndef SACCADE_CUDA_RANGES_H
#define SACCADE_CUDA_RANGES_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sac_cuda_range {
    uintptr_t address;
    size_t bytes;
} sac_cuda_range;

/* Begins as {.lock = PTHREAD_MUTEX_INITIALIZER} or zeros and pthread_mutex_init. */
typedef struct sac_cuda_ranges {
    pthread_mutex_t lock;
    sac_cuda_range *ranges; /* [count], ascending */
    size_t count, space;
} sac_cuda_ranges;

/* False without memory for it. */
bool sac_cuda_ranges_add(sac_cuda_ranges *r, const void *memory, size_t bytes);

/* Takes out the range that begins at `memory`; its bytes, or 0 where there is none. */
size_t sac_cuda_ranges_remove(sac_cuda_ranges *r, const void *memory);

/* Whether all of memory[0..bytes) lies in one range. */
bool sac_cuda_ranges_hold(sac_cuda_ranges *r, const void *memory, size_t bytes);

void sac_cuda_ranges_clear(sac_cuda_ranges *r);

#ifdef __cplusplus
}
#endif
#endif
