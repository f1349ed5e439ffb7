/* pq_scan_levels.h -- codebook and queries as whole numbers for the list-major scan, and how far that is off.
 */
#ifndef SACCADE_CPU_PQ_SCAN_LEVELS_H
#define SACCADE_CPU_PQ_SCAN_LEVELS_H

#include "kernels/cpu/pq_scan_tiles.h"

/* |computed distance - exact one| <= margin / 2 + relative / 2 * |distance|. */
struct sac_pq_error {
    float margin, relative;
};

/* A query's part: its computed distances are base + bias + constant + unit * <numbers, levels>. */
struct sac_pq_level_query {
    float unit, constant;
    struct sac_pq_error error;
};

/* Everything but the arrays. */
struct sac_pq_levels sac_pq_levels_of(const sac_pq_shape *pq);

/* Makes the table of byte b of a code, and what belongs to its components. */
void sac_pq_levels_round(const sac_pq_shape *pq, const float *codebook, const struct sac_pq_levels *levels,
                         uint32_t b);

/* Rounds scale * query to numbers [2][levels->depth]; base: the largest |base| of its probes. */
struct sac_pq_level_query sac_pq_levels_query(const struct sac_pq_levels *levels, const float *query,
                                              float scale, float base, int8_t *numbers);

#endif
