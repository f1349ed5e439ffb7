/* hits.h -- the k best of many candidates, in the order that answers have: (distance, label).
 *
 * A heap with the worst on top lives in the caller's array of hits; most candidates are turned away by one
 * comparison, before their label is even looked up. Distances are never NaN: vectors and queries are finite
 * and short enough that no sum overflows.
 */
#ifndef SACCADE_HITS_H
#define SACCADE_HITS_H

#include "engine/labels.h"

typedef struct sac_hits {
    sac_hit *heap;
    uint32_t k, count;
    sac_metric metric;
    float distance_max; /* candidates beyond it are no hits: the score threshold */
} sac_hits;

sac_hits sac_hits_open(sac_query *query, sac_metric metric);

/* The distance that answers show for one that kernels give. */
float sac_hits_distance(const sac_hits *hits, float distance);

/* A candidate at a slot, with the distance that kernels give: squared L2 or the negated inner product. */
void sac_hits_offer(sac_hits *hits, const sac_labels *labels, uint32_t slot, float distance);

/* Sorts the hits in place and fills in the query's hit count and the scores. */
void sac_hits_close(sac_hits *hits, sac_query *query);

#endif
