#include "kernels/ref/ref.h"
#include "kernels/ref/row_distance.h"
#include "kernels/select.h"

#include <assert.h>

/* The width nearest centroids, nearest first, into scratch. */
static void nearest_centroids(const struct sac_probe_args *a, size_t q, float *distances, uint32_t *lists)
{
    size_t count = 0;

    for (uint32_t list = 0; list < a->nlist; list++)
        sac_list_insert(distances, lists, a->width, &count,
                        sac_row_distance(a->queries + q * a->dim, a->centroids + (size_t)list * a->dim,
                                         SAC_F32, a->dim, a->distance),
                        list);
}

static void take_probes(const struct sac_probe_args *a, size_t q, const float *distances,
                        const uint32_t *lists)
{
    sac_probe *probes = a->probes + q * a->width;
    uint64_t held = 0;
    uint32_t p = 0;

    for (; p < a->width && (p < a->nprobes[q] || held < a->needs[q]); p++) {
        bool l2 = a->distance == SAC_DISTANCE_L2SQ;

        probes[p] = (sac_probe){lists[p], l2 ? distances[p] - a->centroid_norms[lists[p]] : distances[p]};
        held += a->lists[lists[p]].row_count;
    }
    a->counts[q] = p;
    a->held[q] = held < UINT32_MAX ? (uint32_t)held : UINT32_MAX;
}

sac_status sac_probe_ref(sac_stream *s, const struct sac_probe_args *a)
{
    float *distances;
    uint32_t *lists;

    if (a->query_count == 0)
        return SAC_OK;
    assert(a->width >= 1 && a->width <= a->nlist);
    sac_scratch_reset(s);
    distances = sac_scratch_take(s, a->width, sizeof *distances);
    lists = sac_scratch_take(s, a->width, sizeof *lists);
    if (distances == NULL || lists == NULL)
        return SAC_NO_MEMORY;
    for (size_t q = 0; q < a->query_count; q++) {
        nearest_centroids(a, q, distances, lists);
        take_probes(a, q, distances, lists);
    }
    return SAC_OK;
}

size_t sac_probe_scratch_ref(const sac_device *d, const struct sac_probe_args *a)
{
    (void)d;
    return sac_scratch_size(a->width, sizeof(float)) + sac_scratch_size(a->width, sizeof(uint32_t));
}
