#include "engine/recall_curve.h"

#include <math.h>

/* The curve counts some 4000 neighbours, and its queries are as hard as those of strangers or a little harder
 * (index_measure.c); a point is taken when it misses this share of what may be missed. */
#define MISS_SHARE 0.9f

/* The curve is measured for 10 results; more of them spread over more lists and lie deeper in the order of
 * codes. */
static uint32_t scaled(uint32_t value, uint32_t k, double power, uint32_t most)
{
    double factor = k > 10 ? pow(k / 10.0, power) : 1;
    double wanted = ceil(value * factor);

    return wanted < most ? (uint32_t)wanted : most;
}

void sac_recall_curve_pick(const sac_recall_curve *curve, float recall, uint32_t k, uint32_t nlist,
                           uint32_t *nprobe, uint32_t *depth)
{
    sac_recall_point point = {.nprobe = nlist, .depth = SAC_DEPTH_MAX};
    float needed = 1 - (1 - recall) * MISS_SHARE;

    if (curve->count ==
        0) { /* lists grow in number as neighbours spread: sift and ViT vectors need less than this */
        double lists = 1.5 * sqrt(nlist * 0.1 / fmax(1 - recall, 1e-4));
        point.nprobe = (uint32_t)ceil(fmin(lists, nlist));
        point.depth = 200;
    }
    for (uint32_t i = 0; i < curve->count; i++)
        if (curve->points[i].recall >= needed) {
            point = curve->points[i];
            break;
        }
    *nprobe = scaled(point.nprobe, k, 0.25, nlist);
    *depth = scaled(point.depth, k, 0.75, SAC_DEPTH_MAX);
    if (*depth < k)
        *depth = k;
}
