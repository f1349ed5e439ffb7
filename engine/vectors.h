/* vectors.h -- the vectors themselves, by slot: a matrix in pages that grows without moving.
 *
 * Searched exactly (Flat), and read for re-ranking and reconstruction. Rows are f32 or f16; beside them the
 * squared norm of every row as it is stored, which lets a batch of queries use matrix products.
 */
#ifndef SACCADE_VECTORS_H
#define SACCADE_VECTORS_H

#include "engine/workspace.h"

typedef struct sac_vectors {
    sac_device *device;
    uint32_t dim;
    sac_dtype dtype; /* SAC_F32 or SAC_F16 */
    uint32_t page_rows;
    void **pages; /* host array of device memory */
    size_t page_count, page_capacity;
    float *norms; /* device, [norm_capacity] */
    size_t norm_capacity;
} sac_vectors;

void sac_vectors_init(sac_vectors *vectors, sac_device *device, uint32_t dim, sac_dtype dtype);
void sac_vectors_free(sac_vectors *vectors);

/* Makes room for slots below slot_count. No search may run meanwhile. */
sac_status sac_vectors_reserve(sac_vectors *vectors, sac_workspace *ws, size_t slot_count);

/* Stores n rows (device, [n][dim]) at their slots (host). Room was reserved. */
sac_status sac_vectors_write(sac_vectors *vectors, sac_workspace *ws, size_t n, const float *x,
                             const uint32_t *slots);

/* Reads the rows of n slots (host) into `to` (device, [n][dim]). */
sac_status sac_vectors_read(const sac_vectors *vectors, sac_workspace *ws, size_t n, const uint32_t *slots,
                            float *to);

/* The k nearest live slots of each query (device, [n][dim]), by distance: nearest first, ties by slot, unused
 * places +inf and UINT32_MAX. Spans of [n][k]. */
sac_status sac_vectors_nearest(const sac_vectors *vectors, sac_workspace *ws, sac_distance distance, size_t n,
                               const float *queries, size_t slot_count, const uint64_t *live, uint32_t k,
                               const sac_span *distances, const sac_span *slots);

/* Exact distances of chosen slots (device, counts[q] for each query in a row); out likewise. */
sac_status sac_vectors_distances(const sac_vectors *vectors, sac_workspace *ws, sac_distance distance,
                                 size_t n, const float *queries, const uint32_t *slots,
                                 const uint32_t *counts, float *out);

/* Bytes of one row as it is stored. */
static inline size_t sac_vectors_row_bytes(const sac_vectors *vectors)
{
    return (size_t)vectors->dim * (vectors->dtype == SAC_F16 ? 2 : 4);
}

/* Memory in bytes. */
uint64_t sac_vectors_bytes(const sac_vectors *vectors);

#endif
