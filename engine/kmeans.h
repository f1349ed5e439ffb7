/* kmeans.h -- Lloyd's k-means: coarse centroids, and the codewords of every sub-quantizer.
 *
 * Seeding doubles the set of centres a few times, each time drawing points with probability proportional to
 * their squared distance from the centres so far (Bahmani et al., Scalable K-Means++, VLDB 2012, without its
 * re-clustering): nearly as good as k-means++ at the cost of about one iteration. A centre that lost all its
 * points is set down half-way between the centre of a large cluster and one of its members.
 *
 * The same seed gives the same centroids, whatever the number of threads.
 */
#ifndef SACCADE_KMEANS_H
#define SACCADE_KMEANS_H

#include "engine/progress.h"
#include "engine/workspace.h"

typedef struct sac_kmeans_params {
    uint32_t dim, k;
    uint32_t iterations;
    uint64_t seed;
    bool balance; /* treats very small clusters as lost in the first half: more even lists */
} sac_kmeans_params;

/* Centroids [k][dim] of n rows [n][dim], n >= k. meter (NULL allowed) advances by one an iteration.
 * Errors: SAC_NO_MEMORY, SAC_CANCELLED. */
sac_status sac_kmeans(sac_workspace *ws, const sac_kmeans_params *params, size_t n, const sac_span *x,
                      const sac_span *centroids, sac_progress_meter *meter);

#endif
