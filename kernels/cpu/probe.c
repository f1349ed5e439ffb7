/* The lists that each query probes. A query is compared with the lists of the nearest groups, or with all;
 * bisection finds a distance that about as many as are wanted are not beyond (reservoir.h); only those get
 * their exact distance and their order. Queries are tasks of their own and share nothing, so a query gets the
 * same alone or in a batch. Twin: ref/probe.c.
 *
 * A query whose lists hold less than it needs asks again: without its reach, then for twice as many, in the
 * end of all lists.
 *
 * Floor, a lone query, 8192 lists of 128 components: see rough_simd.h for the comparisons; 60 exact distances
 * read 31 KB, which is 1.5 us at the 20 GB/s that a core gets beyond L2. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/keys.h"
#include "kernels/cpu/rows.h"
#include "kernels/reach.h"

#include <assert.h>

enum {
    BLOCK = SAC_FILTER_ROWS, /* rows that are compared at a time */
    TASK_QUERIES = 8,
};

struct worker {
    struct sac_reservoir near; /* [nlist] */
    float *head_distance;      /* [group_count] */
    const void **rows;         /* [BLOCK] */
};

struct probe {
    const struct sac_probe_args *args;
    const struct sac_rows_kernels *kernels;
    struct worker *workers;
};

/* How a query is to choose. */
struct choice {
    uint32_t k;  /* lists */
    bool all;    /* whether it looks beyond the nearest groups */
    float reach; /* +inf: no limit */
};

static uint32_t worker_count(const sac_device *d, const struct sac_probe_args *a)
{
    return a->query_count > TASK_QUERIES ? d->threads : 1;
}

size_t sac_probe_scratch_cpu(const sac_device *d, const struct sac_probe_args *a)
{
    size_t each = 2 * sac_scratch_size(a->nlist, sizeof(float)) +
                  sac_scratch_size(2 * (size_t)a->nlist, sizeof(uint64_t)) +
                  sac_scratch_size(a->group_count, sizeof(float)) + sac_scratch_size(BLOCK, sizeof(void *));

    return sac_scratch_size(d->threads, sizeof(struct worker)) + worker_count(d, a) * each;
}

static bool worker_take(sac_stream *s, const struct sac_probe_args *a, struct worker *w)
{
    w->near = (struct sac_reservoir){.capacity = a->nlist};
    w->near.distance = sac_scratch_take(s, a->nlist, sizeof *w->near.distance);
    w->near.index = sac_scratch_take(s, a->nlist, sizeof *w->near.index);
    w->near.keys = sac_scratch_take(s, 2 * (size_t)a->nlist, sizeof *w->near.keys);
    w->head_distance = sac_scratch_take(s, a->group_count, sizeof *w->head_distance);
    w->rows = sac_scratch_take(s, BLOCK, sizeof *w->rows);
    return w->near.distance != NULL && w->near.index != NULL && w->near.keys != NULL &&
           w->head_distance != NULL && w->rows != NULL;
}

/* ---- comparing -------------------------------------------------------------------------------------- */

/* out[i]: the distance to row first + i of an f32 matrix. */
static void distances(const struct probe *p, struct worker *w, const float *query, const float *matrix,
                      uint32_t first, uint32_t count, float *out)
{
    const struct sac_probe_args *a = p->args;

    for (uint32_t i = 0; i < count; i += BLOCK) {
        uint32_t rows = count - i < BLOCK ? count - i : BLOCK;

        for (uint32_t r = 0; r < rows; r++)
            w->rows[r] = matrix + (size_t)(first + i + r) * a->dim;
        p->kernels->distances(query, w->rows, rows, a->dim, SAC_F32, a->distance, out + i);
    }
}

static void compare_lists(const struct probe *p, struct worker *w, const float *query, uint32_t first,
                          uint32_t end)
{
    struct sac_reservoir *near = &w->near;

    distances(p, w, query, p->args->centroids, first, end - first, near->distance + near->count);
    for (uint32_t list = first; list < end; list++)
        near->index[near->count++] = list;
}

/* The group whose head is nearest, which is not met again; equal distances: the smaller one. */
static uint32_t take_nearest_group(float *head_distance, uint32_t group_count)
{
    uint32_t nearest = 0;

    for (uint32_t g = 1; g < group_count; g++)
        if (head_distance[g] < head_distance[nearest])
            nearest = g;
    head_distance[nearest] = INFINITY;
    return nearest;
}

static void compare(const struct probe *p, struct worker *w, size_t q, bool all)
{
    const struct sac_probe_args *a = p->args;
    const float *query = a->queries + q * a->dim;
    uint32_t wanted = all ? a->nlist : sac_probe_compared(a->nlist, a->nprobes[q]);

    w->near.count = 0;
    if (all) {
        compare_lists(p, w, query, 0, a->nlist);
        return;
    }
    distances(p, w, query, a->heads, 0, a->group_count, w->head_distance);
    while (w->near.count < wanted) {
        uint32_t group = take_nearest_group(w->head_distance, a->group_count);

        compare_lists(p, w, query, a->group_first[group], a->group_first[group + 1]);
    }
}

/* ---- choosing --------------------------------------------------------------------------------------- */

/* Leaves the keys of the k nearest, ascending; returns how many there are. */
static uint32_t choose(const struct probe *p, struct worker *w, uint32_t k)
{
    struct sac_reservoir *near = &w->near;

    near->k = k;
    sac_reservoir_prune(near, p->kernels->sieve, 0.0f, 0.0f);
    for (uint32_t i = 0; i < near->count; i++)
        near->keys[i] = sac_key(near->distance[i], near->index[i]);
    k = k < near->count ? k : near->count;
    sac_keys_select(near->keys, near->count, k);
    sac_keys_sort(near->keys, k);
    return k;
}

/* How many of the lists are within reach; those beyond it are the last. */
static uint32_t within_reach(const uint64_t *keys, uint32_t count, float reach)
{
    float nearest = sac_key_distance(keys[0]);
    uint32_t low = 1, high = count;

    if (isinf(reach))
        return count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (sac_within_reach(sac_key_distance(keys[middle]), middle, nearest, reach))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Takes what query q wants of the lists in the order of their keys. */
static void take(const struct sac_probe_args *a, size_t q, const uint64_t *keys, uint32_t count, float reach)
{
    sac_probe *probes = a->probes + q * a->width;
    uint32_t near = within_reach(keys, count, reach), taken = 0;
    uint64_t held = 0;

    near = near < a->nprobes[q] ? near : a->nprobes[q];
    for (; taken < count && (taken < near || held < a->needs[q]); taken++) {
        uint32_t list = sac_key_index(keys[taken]);
        float norm = a->distance == SAC_DISTANCE_L2SQ ? a->centroid_norms[list] : 0.0f;

        probes[taken] = (sac_probe){list, sac_key_distance(keys[taken]) - norm};
        held += a->lists[list].row_count;
    }
    a->counts[q] = taken;
    a->held[q] = held < UINT32_MAX ? (uint32_t)held : UINT32_MAX;
}

static void probe_query(const struct probe *p, struct worker *w, size_t q)
{
    const struct sac_probe_args *a = p->args;
    float reach = a->reaches != NULL ? a->reaches[q] : INFINITY;
    bool all = a->group_count == 0;

    assert(a->nprobes[q] >= 1 && a->nprobes[q] <= a->width && reach >= 1);
    for (uint32_t k = a->nprobes[q];;) {
        uint32_t compared;

        compare(p, w, q, all);
        compared = w->near.count;
        take(a, q, w->near.keys, choose(p, w, k), reach);
        if (a->held[q] >= a->needs[q] || (all && k == a->width))
            return;
        all = all || k >= compared || k == a->width;
        k = k < a->width / 2 ? 2 * k : a->width;
    }
}

static void probe_task(void *context, uint32_t task, uint32_t worker)
{
    const struct probe *p = context;
    size_t first = (size_t)task * TASK_QUERIES;

    for (size_t q = first; q < first + TASK_QUERIES && q < p->args->query_count; q++)
        probe_query(p, &p->workers[worker], q);
}

static sac_status probe_run(sac_stream *s, const struct sac_probe_args *a,
                            const struct sac_rows_kernels *kernels)
{
    struct probe p = {.args = a, .kernels = kernels};
    uint32_t workers = worker_count(s->device, a);

    if (a->query_count == 0)
        return SAC_OK;
    assert(a->width >= 1 && a->width <= a->nlist);
    assert(a->reaches == NULL || a->distance == SAC_DISTANCE_L2SQ);
    sac_scratch_reset(s);
    p.workers = sac_scratch_take(s, s->device->threads, sizeof *p.workers);
    if (p.workers == NULL)
        return SAC_NO_MEMORY;
    for (uint32_t i = 0; i < workers; i++)
        if (!worker_take(s, a, &p.workers[i]))
            return SAC_NO_MEMORY;
    if (a->query_count <= TASK_QUERIES)
        probe_task(&p, 0, 0);
    else
        sac_parallel_for(s, (uint32_t)((a->query_count + TASK_QUERIES - 1) / TASK_QUERIES), probe_task, &p);
    return SAC_OK;
}

sac_status sac_probe_avx2(sac_stream *s, const struct sac_probe_args *a)
{
    return probe_run(s, a, &sac_rows_avx2);
}

sac_status sac_probe_avx512(sac_stream *s, const struct sac_probe_args *a)
{
    return probe_run(s, a, &sac_rows_avx512);
}
