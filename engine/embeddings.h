/* embeddings.h -- what came out of an encoder, still in the memory of its device. */
#ifndef SACCADE_EMBEDDINGS_H
#define SACCADE_EMBEDDINGS_H

#include "engine/workspace.h"

typedef struct sac_embeddings {
    sac_device *device; /* whose memory the rows are in */
    size_t n;
    uint32_t dim;
    const float *rows;       /* device [n][dim], each of length 1 */
    const uint32_t *spoiled; /* device: how many have no length and are left as they came; 0 unless the
                                model's weights are unusable */
    sac_event *ready;        /* the rows are there behind it; NULL where they are there already: device
                                memory is the host's */
} sac_embeddings;

/* Waits for the rows and copies them to the host: vectors [n][dim]. Errors: SAC_INTERNAL where one has no
 * length, SAC_DEVICE_LOST. */
sac_status sac_embeddings_fetch(sac_embeddings *embeddings, float *vectors, sac_error *err);

/* After whoever reads the rows has waited for what they put behind `ready`. NULL is allowed. */
void sac_embeddings_release(sac_embeddings *embeddings);

/* For encoders: bytes of a piece of n rows with the word behind them, and where that word is. */
size_t sac_embeddings_bytes(size_t n, uint32_t dim);
uint32_t *sac_embeddings_word(float *rows, size_t n, uint32_t dim);
/* Shows n rows with the number of spoiled ones as the word behind them, a piece of ws, once what is on its
 * stream is done. *out takes the workspace over, which goes back to the pool; on failure it is the caller's
 * still. */
sac_status sac_embeddings_show(sac_workspace_pool *pool, sac_workspace *ws, size_t n, uint32_t dim,
                               float *rows, sac_embeddings **out, sac_error *err);

#endif
