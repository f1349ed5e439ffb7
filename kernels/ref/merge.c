#include "kernels/ref/ref.h"
#include "kernels/select.h"

#include <assert.h>

/* The list whose next place is the nearest, or `lists` where every other place is unused. */
static uint32_t nearest_head(const struct sac_merge_args *a, size_t q, const uint32_t *at)
{
    uint32_t best = a->lists, best_index = 0;
    float best_distance = 0;

    for (uint32_t l = 0; l < a->lists; l++) {
        size_t place = (l * a->query_count + q) * a->stride + at[l];
        uint32_t index;

        if (at[l] == a->stride || a->index[place] == UINT32_MAX)
            continue;
        index = a->index[place] * a->lists + l;
        if (best < a->lists && !sac_nearer(a->distance[place], index, best_distance, best_index))
            continue;
        best = l;
        best_index = index;
        best_distance = a->distance[place];
    }
    return best;
}

sac_status sac_merge_ref(sac_stream *s, const struct sac_merge_args *a)
{
    (void)s;
    assert(a->lists >= 1 && a->lists <= SAC_SHARDS_MAX);
    assert(a->keep >= 1 && a->keep <= (size_t)a->lists * a->stride);
    for (size_t q = 0; q < a->query_count; q++) {
        float *distances = a->out_distance + q * a->keep;
        uint32_t *indices = a->out_index + q * a->keep, at[SAC_SHARDS_MAX] = {0}, count = 0, l;

        for (; count < a->keep && (l = nearest_head(a, q, at)) < a->lists; count++) {
            size_t place = (l * a->query_count + q) * a->stride + at[l]++;
            distances[count] = a->distance[place];
            indices[count] = a->index[place] * a->lists + l;
        }
        sac_list_pad(distances, indices, a->keep, count);
    }
    return SAC_OK;
}
