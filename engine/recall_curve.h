/* recall_curve.h -- which (nprobe, reach, depth) gives which recall: measured once, asked by every search. */
#ifndef SACCADE_RECALL_CURVE_H
#define SACCADE_RECALL_CURVE_H

#include "engine/saccade.h"

#define SAC_CURVE_MAX 64u
#define SAC_RECALL_DEFAULT 0.95f /* of a search that asks for nothing */

typedef struct sac_recall_curve {
    uint32_t count;
    sac_recall_point points[SAC_CURVE_MAX]; /* ascending in recall and in cost */
} sac_recall_curve;

/* The cheapest settings that give `recall` for k results, from the curve; where it ends, all nlist lists.
 * Without a curve, a cautious guess. */
sac_recall_point sac_recall_curve_pick(const sac_recall_curve *curve, float recall, uint32_t k,
                                       uint32_t nlist);

#endif
