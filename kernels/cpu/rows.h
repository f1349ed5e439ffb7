/* rows.h -- a query against rows that may lie anywhere: the inner loops of nearest, gather_distances and
 * assign.
 *
 * Every row's sum is added in an order that depends on dim alone, so a row's distance is the same to the bit
 * in any company: alone or in a batch, first or last, whatever the number of threads.
 */
#ifndef SACCADE_CPU_ROWS_H
#define SACCADE_CPU_ROWS_H

#include "kernels/cpu/reservoir.h"

struct sac_rows_kernels {
    /* out[i] = distance of the query to row rows[i] (of dtype, any alignment), i < n. */
    void (*distances)(const float *query, const void *const *rows, uint32_t n, uint32_t dim, sac_dtype dtype,
                      sac_distance distance, float *out);

    /* Matrix products. A panel is panel_rows rows as floats, transposed to [dim][panel_rows]; rows from n on
     * are 0. */
    uint32_t panel_rows;
    void (*pack)(const void *const *rows, uint32_t n, uint32_t dim, sac_dtype dtype, float *panel);
    /* out[q * out_stride + i] = (row_add[i] + query_add[q]) + scale * <query q, panel row i>; queries are
     * dense. */
    void (*products)(const float *queries, uint32_t query_count, uint32_t dim, const float *panel,
                     float scale, const float *row_add, const float *query_add, float *out,
                     size_t out_stride);
    /* For each of n rows of x: the smallest centroid_norm - 2 <x, centroid> over the panels, and its index; 0
     * where nothing is less than infinity. centroid_norms are padded with infinity to whole panels. */
    void (*arg_min)(const float *x, uint32_t n, uint32_t dim, const float *panels, uint32_t panel_count,
                    const float *centroid_norms, uint32_t *index);

    const struct sac_sieve *sieve;
};

enum {
    SAC_PANEL_ROWS_MAX = 32,
    SAC_ARG_MIN_ROWS = 96, /* rows of x that one arg_min call takes at most */
};

extern const struct sac_rows_kernels sac_rows_avx2, sac_rows_avx512;

/* The operation nearest inside another one: takes sac_nearest_scratch_cpu() of what is left of the arena. */
sac_status sac_nearest_run(sac_stream *s, const struct sac_nearest_args *a,
                           const struct sac_rows_kernels *kernels);

/* The addresses of rows first..first+n-1 of a paged store. */
void sac_rows_locate(const void *const *pages, uint32_t page_rows, size_t row_bytes, size_t first, uint32_t n,
                     const void **out);

#endif
