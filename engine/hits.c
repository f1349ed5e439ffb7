#include "engine/hits.h"

#include <math.h>

static bool farther(const sac_hit *a, const sac_hit *b)
{
    return a->distance > b->distance || (a->distance == b->distance && a->label > b->label);
}

float sac_hits_distance(const sac_hits *hits, float distance)
{
    if (hits->metric != SAC_METRIC_COSINE)
        return distance;
    return distance > -1 ? 1 + distance : 0; /* rounding may take a cosine beyond 1 */
}

static float shown_score(sac_metric metric, float distance)
{
    return metric == SAC_METRIC_COSINE ? 1 - distance : -distance;
}

sac_hits sac_hits_open(sac_query *query, sac_metric metric)
{
    float threshold = query->score_threshold;

    return (sac_hits){
        .heap = query->hits,
        .k = query->k,
        .metric = metric,
        .distance_max = threshold == -INFINITY        ? INFINITY
                        : metric == SAC_METRIC_COSINE ? 1 - threshold
                                                      : -threshold,
    };
}

/* Puts `hit` where the hole at `at` is, or further down where its children are farther. */
static void sift_down(sac_hit *heap, uint32_t count, uint32_t at, sac_hit hit)
{
    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && farther(&heap[child + 1], &heap[child]))
            child++;
        if (!farther(&heap[child], &hit))
            break;
        heap[at] = heap[child];
    }
    heap[at] = hit;
}

static void sift_up(sac_hit *heap, uint32_t at, sac_hit hit)
{
    for (; at > 0 && farther(&hit, &heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = hit;
}

void sac_hits_offer(sac_hits *hits, const sac_labels *labels, uint32_t slot, float distance)
{
    sac_hit hit = {.distance = sac_hits_distance(hits, distance)};

    if (hit.distance > hits->distance_max ||
        (hits->count == hits->k && hit.distance > hits->heap[0].distance))
        return;
    hit.label = sac_labels_at(labels, slot);
    if (hits->count < hits->k)
        sift_up(hits->heap, hits->count++, hit);
    else if (farther(&hits->heap[0], &hit))
        sift_down(hits->heap, hits->count, 0, hit);
}

void sac_hits_close(sac_hits *hits, sac_query *query)
{
    for (uint32_t left = hits->count; left > 1; left--) {
        sac_hit last = hits->heap[left - 1];
        hits->heap[left - 1] = hits->heap[0];
        sift_down(hits->heap, left - 1, 0, last);
    }
    for (uint32_t i = 0; i < hits->count; i++)
        hits->heap[i].score = shown_score(hits->metric, hits->heap[i].distance);
    query->hit_count = hits->count;
}
