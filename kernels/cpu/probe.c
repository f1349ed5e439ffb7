/* The lists that each query probes: the nearest centroids (nearest.c), as many as the query wants; a query
 * whose lists hold too little asks again for twice as many. A query gets the same alone or in a batch, so
 * asking again changes nothing but the number. Twin: ref/probe.c. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

#include <assert.h>

enum { PROBE_QUERIES = 1024 }; /* at a time, which bounds the scratch */

struct probe {
    const struct sac_probe_args *args;
    const struct sac_rows_kernels *kernels;
    float *distance; /* [queries at a time][width] */
    uint32_t *lists; /* the same */
};

static size_t queries_at_a_time(const struct sac_probe_args *a)
{
    return a->query_count < PROBE_QUERIES ? a->query_count : PROBE_QUERIES;
}

static struct sac_nearest_args nearest_args(const struct sac_probe_args *a, const void *const *page,
                                            size_t first, size_t count, uint32_t k)
{
    return (struct sac_nearest_args){.queries = a->queries + first * a->dim,
                                     .query_count = count,
                                     .dim = a->dim,
                                     .distance = a->distance,
                                     .pages = page,
                                     .page_rows = a->nlist,
                                     .dtype = SAC_F32,
                                     .row_count = a->nlist,
                                     .norms = a->centroid_norms,
                                     .k = k};
}

size_t sac_probe_scratch_cpu(const sac_device *d, const struct sac_probe_args *a)
{
    size_t count = queries_at_a_time(a);
    struct sac_nearest_args nearest = nearest_args(a, NULL, 0, count, a->width);

    return sac_scratch_size(count * a->width, sizeof(float)) +
           sac_scratch_size(count * a->width, sizeof(uint32_t)) + sac_nearest_scratch_cpu(d, &nearest);
}

/* Fills rows of k places of p->distance and p->lists for queries first..first+count-1. */
static sac_status nearest_lists(sac_stream *s, const struct probe *p, size_t first, size_t count, uint32_t k)
{
    const void *page = p->args->centroids;
    struct sac_nearest_args nearest = nearest_args(p->args, &page, first, count, k);
    size_t used = s->scratch_used;
    sac_status st;

    nearest.out_distance = p->distance;
    nearest.out_index = p->lists;
    st = sac_nearest_run(s, &nearest, p->kernels);
    s->scratch_used = used;
    return st;
}

/* Takes what query q wants of its k nearest lists. */
static void take(const struct sac_probe_args *a, size_t q, const float *distance, const uint32_t *lists,
                 uint32_t k)
{
    sac_probe *probes = a->probes + q * a->width;
    uint64_t held = 0;
    uint32_t count = 0;

    for (; count < k && (count < a->nprobes[q] || held < a->needs[q]); count++) {
        uint32_t list = lists[count];
        float norm = a->distance == SAC_DISTANCE_L2SQ ? a->centroid_norms[list] : 0.0f;

        probes[count] = (sac_probe){list, distance[count] - norm};
        held += a->lists[list].row_count;
    }
    a->counts[q] = count;
    a->held[q] = held < UINT32_MAX ? (uint32_t)held : UINT32_MAX;
}

/* Query q, whose k nearest lists were not enough. */
static sac_status widen(sac_stream *s, const struct probe *p, size_t q, uint32_t k)
{
    const struct sac_probe_args *a = p->args;
    sac_status st = SAC_OK;

    while (st == SAC_OK && a->held[q] < a->needs[q] && k < a->width) {
        k = k < a->width / 2 ? 2 * k : a->width;
        st = nearest_lists(s, p, q, 1, k);
        if (st == SAC_OK)
            take(a, q, p->distance, p->lists, k);
    }
    return st;
}

static sac_status probe_queries(sac_stream *s, const struct probe *p, size_t first, size_t count)
{
    const struct sac_probe_args *a = p->args;
    uint32_t k = 1;
    sac_status st;

    for (size_t q = first; q < first + count; q++) {
        assert(a->nprobes[q] >= 1 && a->nprobes[q] <= a->width);
        k = a->nprobes[q] > k ? a->nprobes[q] : k;
    }
    st = nearest_lists(s, p, first, count, k);
    for (size_t q = 0; q < count && st == SAC_OK; q++)
        take(a, first + q, p->distance + q * k, p->lists + q * k, k);
    for (size_t q = first; q < first + count && st == SAC_OK; q++)
        st = widen(s, p, q, k);
    return st;
}

static sac_status probe_run(sac_stream *s, const struct sac_probe_args *a,
                            const struct sac_rows_kernels *kernels)
{
    struct probe p = {.args = a, .kernels = kernels};
    size_t at_a_time = queries_at_a_time(a);
    sac_status st = SAC_OK;

    if (a->query_count == 0)
        return SAC_OK;
    assert(a->width >= 1 && a->width <= a->nlist);
    sac_scratch_reset(s);
    p.distance = sac_scratch_take(s, at_a_time * a->width, sizeof *p.distance);
    p.lists = sac_scratch_take(s, at_a_time * a->width, sizeof *p.lists);
    if (p.distance == NULL || p.lists == NULL)
        return SAC_NO_MEMORY;
    for (size_t first = 0; first < a->query_count && st == SAC_OK; first += at_a_time)
        st = probe_queries(s, &p, first,
                           a->query_count - first < at_a_time ? a->query_count - first : at_a_time);
    return st;
}

sac_status sac_probe_avx2(sac_stream *s, const struct sac_probe_args *a)
{
    return probe_run(s, a, &sac_rows_avx2);
}

sac_status sac_probe_avx512(sac_stream *s, const struct sac_probe_args *a)
{
    return probe_run(s, a, &sac_rows_avx512);
}
