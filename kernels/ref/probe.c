#include "kernels/reach.h"
#include "kernels/ref/ref.h"
#include "kernels/ref/row_distance.h"
#include "kernels/select.h"

#include <assert.h>

/* Ascending by (distance, index). */
struct ranking {
    float *distance;
    uint32_t *index;
    size_t count;
};

static float distance_to(const struct sac_probe_args *a, size_t q, const float *rows, uint32_t row)
{
    return sac_row_distance(a->queries + q * a->dim, rows + (size_t)row * a->dim, SAC_F32, a->dim,
                            a->distance);
}

/* The `width` nearest of lists first..end-1 and those that are in it. */
static void rank_lists(const struct sac_probe_args *a, size_t q, uint32_t first, uint32_t end,
                       struct ranking *lists)
{
    for (uint32_t list = first; list < end; list++)
        sac_list_insert(lists->distance, lists->index, a->width, &lists->count,
                        distance_to(a, q, a->centroids, list), list);
}

static void rank_nearest_groups(const struct sac_probe_args *a, size_t q, struct ranking *groups,
                                struct ranking *lists)
{
    uint32_t compared = 0;

    groups->count = 0;
    for (uint32_t g = 0; g < a->group_count; g++)
        sac_list_insert(groups->distance, groups->index, a->group_count, &groups->count,
                        distance_to(a, q, a->heads, g), g);
    lists->count = 0;
    for (uint32_t i = 0; compared < sac_probe_compared(a->nlist, a->nprobes[q]); i++) {
        uint32_t first = a->group_first[groups->index[i]], end = a->group_first[groups->index[i] + 1];

        rank_lists(a, q, first, end, lists);
        compared += end - first;
    }
}

static bool wants_another(const struct sac_probe_args *a, size_t q, const struct ranking *lists, uint32_t p,
                          uint64_t held)
{
    bool near =
        a->reaches == NULL || sac_within_reach(lists->distance[p], p, lists->distance[0], a->reaches[q]);

    return (p < a->nprobes[q] && near) || held < a->needs[q];
}

static void take_probes(const struct sac_probe_args *a, size_t q, const struct ranking *lists)
{
    sac_probe *probes = a->probes + q * a->width;
    uint64_t held = 0;
    uint32_t p = 0;

    for (; p < lists->count && wants_another(a, q, lists, p, held); p++) {
        uint32_t list = lists->index[p];
        float norm = a->distance == SAC_DISTANCE_L2SQ ? a->centroid_norms[list] : 0.0f;

        probes[p] = (sac_probe){list, lists->distance[p] - norm};
        held += a->lists[list].row_count;
    }
    a->counts[q] = p;
    a->held[q] = held < UINT32_MAX ? (uint32_t)held : UINT32_MAX;
}

sac_status sac_probe_ref(sac_stream *s, const struct sac_probe_args *a)
{
    struct ranking groups = {0}, lists = {0};

    if (a->query_count == 0)
        return SAC_OK;
    assert(a->width >= 1 && a->width <= a->nlist);
    assert(a->reaches == NULL || a->distance == SAC_DISTANCE_L2SQ);
    sac_scratch_reset(s);
    groups.distance = sac_scratch_take(s, a->group_count, sizeof(float));
    groups.index = sac_scratch_take(s, a->group_count, sizeof(uint32_t));
    lists.distance = sac_scratch_take(s, a->width, sizeof(float));
    lists.index = sac_scratch_take(s, a->width, sizeof(uint32_t));
    if (groups.distance == NULL || groups.index == NULL || lists.distance == NULL || lists.index == NULL)
        return SAC_NO_MEMORY;
    for (size_t q = 0; q < a->query_count; q++) {
        if (a->group_count > 0) {
            rank_nearest_groups(a, q, &groups, &lists);
            take_probes(a, q, &lists);
        }
        if (a->group_count == 0 || a->held[q] < a->needs[q]) {
            lists.count = 0;
            rank_lists(a, q, 0, a->nlist, &lists);
            take_probes(a, q, &lists);
        }
    }
    return SAC_OK;
}

size_t sac_probe_scratch_ref(const sac_device *d, const struct sac_probe_args *a)
{
    (void)d;
    return 2 * sac_scratch_size(a->group_count, sizeof(float)) +
           2 * sac_scratch_size(a->width, sizeof(float));
}
