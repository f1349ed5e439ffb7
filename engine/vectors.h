/* vectors.h -- the vectors themselves, by slot: a matrix in pages that grows without moving.
 *
 * Searched exactly (Flat), and read for re-ranking and reconstruction. Rows are f32, f16 or i8 with a scale
 * each; beside them the squared norm of every row as it is stored, which lets a batch of queries use matrix
 * products. Pages that do not fit the device's budget lie in page-locked host memory, which operations read
 * in place: slower, but a re-ranking reads few rows.
 */
#ifndef SACCADE_VECTORS_H
#define SACCADE_VECTORS_H

#include "engine/mirror.h"
#include "engine/workspace.h"

typedef struct sac_vectors {
    sac_device *device;
    uint32_t dim;
    sac_dtype dtype; /* SAC_F32, SAC_F16 or SAC_I8 */
    uint32_t page_rows;
    sac_mirror pages;  /* void *: device memory, or page-locked host memory */
    uint64_t *on_host; /* bitmap over pages: those in host memory; [page_capacity / 64] */
    size_t page_count, page_capacity, host_page_count;
    sac_mirror norms; /* one pointer: a store of one page, whose rows are the norms */
    size_t norm_capacity;
    uint64_t layout; /* goes up when something that operations are given moves */
} sac_vectors;

sac_status sac_vectors_init(sac_vectors *vectors, sac_device *device, uint32_t dim, sac_dtype dtype,
                            sac_error *err);
void sac_vectors_free(sac_vectors *vectors); /* zero-initialised is allowed */

/* Makes room for slots below slot_count. No search may run meanwhile. */
sac_status sac_vectors_reserve(sac_vectors *vectors, sac_workspace *ws, size_t slot_count);

/* Stores n rows (device, [n][dim]) at their slots (host). Room was reserved. Not waited for. */
sac_status sac_vectors_write(sac_vectors *vectors, sac_workspace *ws, size_t n, const float *x,
                             const uint32_t *slots);

/* Stores n rows as they were stored elsewhere (host, in the store's own format) from slot `first` on. Room
 * was reserved. Not waited for. */
sac_status sac_vectors_load(sac_vectors *vectors, sac_workspace *ws, uint32_t first, size_t n,
                            const void *rows);

/* Reads the rows of n slots (host) into `to` (device, [n][dim]). Not waited for. */
sac_status sac_vectors_read(const sac_vectors *vectors, sac_workspace *ws, size_t n, const uint32_t *slots,
                            float *to);

/* The k nearest live slots of each query (device, [n][dim]), by distance: nearest first, ties by slot, unused
 * places +inf and UINT32_MAX. live: a bitmap over slots below slot_count; filters: as in sac_nearest_args.
 * Device memory of [n][k]. Not waited for. */
sac_status sac_vectors_nearest(const sac_vectors *vectors, sac_workspace *ws, sac_distance distance, size_t n,
                               const float *queries, const uint64_t *live, size_t slot_count,
                               const uint64_t *const *filters, uint32_t k, float *distances, uint32_t *slots);

/* Exact distances of chosen slots: the first counts[q] of each query's `stride`, all device memory. Not
 * waited for. */
sac_status sac_vectors_distances(const sac_vectors *vectors, sac_workspace *ws, sac_distance distance,
                                 size_t n, const float *queries, const uint32_t *slots,
                                 const uint32_t *counts, uint32_t stride, float *out);

/* Bytes of one row as it is stored. */
static inline size_t sac_vectors_row_bytes(const sac_vectors *vectors)
{
    return sac_row_bytes(vectors->dtype, vectors->dim);
}

/* Whether a slot's page lies in memory that the host reads as it is. */
bool sac_vectors_on_host(const sac_vectors *vectors, uint32_t slot);

/* A row as it is stored. */
static inline const unsigned char *sac_vectors_row(const sac_vectors *vectors, uint32_t slot)
{
    return ((unsigned char *const *)vectors->pages.host)[slot / vectors->page_rows] +
           slot % vectors->page_rows * sac_vectors_row_bytes(vectors);
}

/* Memory in bytes: in all, and what of it is host memory because the device is full. */
uint64_t sac_vectors_bytes(const sac_vectors *vectors);
uint64_t sac_vectors_host_bytes(const sac_vectors *vectors);

#endif
