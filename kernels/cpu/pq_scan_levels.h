/* pq_scan_levels.h -- codebook and queries as whole numbers for the list-major scan. */
#ifndef SACCADE_CPU_PQ_SCAN_LEVELS_H
#define SACCADE_CPU_PQ_SCAN_LEVELS_H

#include "kernels/cpu/pq_scan_tiles.h"

/* A query's part: its computed distances are base + bias + constant + unit * <numbers, levels>. */
struct sac_pq_level_query {
    float unit, constant;
    bool fine; /* numbers of a byte are fine enough for it */
};

/* Everything but the arrays. */
struct sac_pq_levels sac_pq_levels_of(const sac_pq_shape *pq);

/* Makes the table of byte b of a code, and what belongs to its components. */
void sac_pq_levels_round(const sac_pq_shape *pq, const float *codebook, const struct sac_pq_levels *levels,
                         uint32_t b);

/* Rounds scale * query to numbers [levels->depth]. */
struct sac_pq_level_query sac_pq_levels_query(const struct sac_pq_levels *levels, const float *query,
                                              float scale, int8_t *numbers);

#endif
