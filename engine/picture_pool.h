/* picture_pool.h -- page-locked memory for decoded pictures, kept for the next ones.
 *
 * A GPU copies from page-locked memory beside the host and at the bus's full rate, but locking pages takes
 * milliseconds: as long as decoding the picture. So blocks are kept, by size class, and never more of them
 * than a bound says, because what is locked is lost to everybody else on the machine.
 */
#ifndef SACCADE_PICTURE_POOL_H
#define SACCADE_PICTURE_POOL_H

#include "kernels/device.h"

#include <pthread.h>

#define SAC_PICTURE_CLASSES 48u

typedef struct sac_picture_pool { /* any thread at any time */
    sac_device *device;
    size_t bytes_max;
    pthread_mutex_t lock;            /* of what follows */
    void *idle[SAC_PICTURE_CLASSES]; /* each block begins with the next one's address */
    size_t bytes;                    /* of all blocks, idle or not */
} sac_picture_pool;

/* bytes_max 0: a pool that has nothing, for a device that copies from any memory. */
void sac_picture_pool_init(sac_picture_pool *pool, sac_device *device, size_t bytes_max);
void sac_picture_pool_free(sac_picture_pool *pool); /* every block is back */

/* A block of at least `bytes`, NULL where that would be over the bound or there is none to be had. *class is
 * wanted back with it. */
void *sac_picture_pool_take(sac_picture_pool *pool, size_t bytes, uint32_t *class);
void sac_picture_pool_give_back(sac_picture_pool *pool, void *block, uint32_t class);

#endif
