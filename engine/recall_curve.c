#include "engine/recall_curve.h"

#include <math.h>

/* The curve is measured for 10 results. More of them spread over more lists, which are farther away, and lie
 * deeper in the order of codes: by these powers of k / 10. SIFT and ViT vectors need 0.27 and 0.3 (nprobe),
 * 0.05 and 0.08 (reach) for 100 results at recalls of 0.9 and 0.95. */
#define NPROBE_POWER 0.3
#define REACH_POWER 0.08
#define DEPTH_POWER 0.75

/* Queries that the index has never seen find up to this much less than the curve says where they should find
 * nearly all; but of what may be missed, this is a quarter at most. */
#define STRANGENESS 0.002f

static double growth(uint32_t k, double power)
{
    return k > 10 ? pow(k / 10.0, power) : 1;
}

static uint32_t scaled(uint32_t value, double factor, uint32_t most)
{
    double wanted = ceil(value * factor);

    return wanted < most ? (uint32_t)wanted : most;
}

/* Lists grow in number as neighbours spread: SIFT and ViT vectors need less than this. */
static sac_recall_point guess(float recall, uint32_t nlist)
{
    double lists = 1.5 * sqrt(nlist * 0.1 / fmax(1 - recall, 1e-4));

    return (sac_recall_point){.nprobe = (uint32_t)ceil(fmin(lists, nlist)), .depth = 200};
}

sac_recall_point sac_recall_curve_pick(const sac_recall_curve *curve, float recall, uint32_t k,
                                       uint32_t nlist)
{
    sac_recall_point point = {.nprobe = nlist, .depth = SAC_DEPTH_MAX};
    float needed = recall + fminf(STRANGENESS, (1 - recall) / 4);

    if (curve->count == 0)
        point = guess(recall, nlist);
    for (uint32_t i = 0; i < curve->count; i++)
        if (curve->points[i].recall >= needed) {
            point = curve->points[i];
            break;
        }
    point.nprobe = scaled(point.nprobe, growth(k, NPROBE_POWER), nlist);
    point.depth = scaled(point.depth, growth(k, DEPTH_POWER), SAC_DEPTH_MAX);
    point.reach *= (float)growth(k, REACH_POWER);
    if (point.depth < k)
        point.depth = k;
    return point;
}
