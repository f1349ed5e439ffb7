/* select.h -- keeping the k nearest: the order of results that every operation shares.
 *
 * A candidate is a distance and an index. Smaller distance first; equal distances: smaller index first; NaN
 * after everything, +inf included.
 */
#ifndef SACCADE_SELECT_H
#define SACCADE_SELECT_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool sac_nearer(float distance, uint32_t index, float other_distance, uint32_t other_index)
{
    if (isnan(distance) || isnan(other_distance)) {
        if (isnan(distance) && isnan(other_distance))
            return index < other_index;
        return isnan(other_distance);
    }
    return distance < other_distance || (distance == other_distance && index < other_index);
}

/* Puts a candidate into an ascending list of at most k, of which *count places are used. Time O(k). */
static inline void sac_list_insert(float *distances, uint32_t *indices, size_t k, size_t *count,
                                   float distance, uint32_t index)
{
    size_t at = *count;

    if (at == k) {
        if (!sac_nearer(distance, index, distances[k - 1], indices[k - 1]))
            return;
        at--;
    } else {
        (*count)++;
    }
    for (; at > 0 && sac_nearer(distance, index, distances[at - 1], indices[at - 1]); at--) {
        distances[at] = distances[at - 1];
        indices[at] = indices[at - 1];
    }
    distances[at] = distance;
    indices[at] = index;
}

/* Marks places from `count` on as unused. */
static inline void sac_list_pad(float *distances, uint32_t *indices, size_t k, size_t count)
{
    for (; count < k; count++) {
        distances[count] = INFINITY;
        indices[count] = UINT32_MAX;
    }
}

#endif
