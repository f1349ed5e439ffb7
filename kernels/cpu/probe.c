/* The lists that each query probes. A query is compared with the lists of the nearest groups, or with all;
 * bisection finds a distance that about as many as are wanted are not beyond (reservoir.h); only those get
 * their exact distance and their order. Twin: ref/probe.c.
 *
 * A query gets the same alone or in a batch: queries share nothing but, on tiles, the work of the rough
 * comparisons, whose products are whole numbers (probe_batch.h).
 *
 * A query whose lists hold less than it needs asks again: without its reach, then for twice as many, in the
 * end of all lists.
 *
 * Floor, a lone query, 8192 lists of 128 components: see rough_vnni.c for the comparisons; 60 exact distances
 * read 31 KB, which is 1.5 us at the 20 GB/s that a core gets beyond L2. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/keys.h"
#include "kernels/cpu/probe_batch.h"
#include "kernels/cpu/rough.h"
#include "kernels/cpu/rows.h"
#include "kernels/reach.h"

#include <assert.h>

enum {
    BLOCK = SAC_FILTER_ROWS, /* rows that are compared at a time */
    TASK_QUERIES = 4,        /* fewer are done before a helper has woken up */
};

#define ROUGH_ERROR 4e-3f /* of rough distances, as a share of |q|^2: several times what they are off by */

/* The nearest so far, with room for all. */
struct candidates {
    struct sac_reservoir near;
    uint32_t full; /* more than this are worth a new bound */
};

/* Centroids or heads. */
struct matrix {
    const float *rows, *norms;
    const void *rough;
    const float *distances; /* what the query's rough ones are, where that is known already; or NULL */
};

struct worker {
    struct candidates lists, groups;
    const void **rows; /* [BLOCK] */
    struct matrix centroids, heads;
    struct sac_rough_query rough;   /* where there are rough rows */
    struct sac_probe_groups chosen; /* where there are groups */
};

/* The instruction set's ways. */
struct ways {
    const struct sac_rows_kernels *rows;
    const struct sac_rough_kernels *rough;
    void (*sort)(uint64_t *keys, size_t n, uint64_t *work); /* distinct keys */
};

struct probe {
    const struct sac_probe_args *args;
    struct ways ways;
    struct worker *workers;
    struct sac_probe_batch *batch; /* or NULL: every query by itself */
};

static uint32_t worker_count(const sac_device *d, const struct sac_probe_args *a)
{
    return a->query_count > TASK_QUERIES ? d->threads : 1;
}

static size_t part_count(const struct sac_probe_args *a)
{
    return a->rough != NULL ? a->dim + SAC_ROUGH_STEP : 0;
}

static size_t candidates_scratch(uint32_t n)
{
    size_t capacity = (size_t)n + SAC_FILTER_ROWS;

    return 2 * sac_scratch_size(capacity, sizeof(float)) + sac_scratch_size(2 * capacity, sizeof(uint64_t));
}

size_t sac_probe_scratch_cpu(const sac_device *d, const struct sac_probe_args *a)
{
    size_t each = candidates_scratch(a->nlist) + candidates_scratch(a->group_count) +
                  sac_scratch_size(BLOCK, sizeof(void *)) + sac_scratch_size(part_count(a), sizeof(int16_t)) +
                  sac_scratch_size(a->group_count, sizeof(uint32_t));

    return sac_scratch_size(d->threads, sizeof(struct worker)) + worker_count(d, a) * each;
}

static bool candidates_take(sac_stream *s, uint32_t n, struct candidates *c)
{
    struct sac_reservoir *r = &c->near;

    *r = (struct sac_reservoir){.capacity = n + SAC_FILTER_ROWS};
    r->distance = sac_scratch_take(s, r->capacity, sizeof *r->distance);
    r->index = sac_scratch_take(s, r->capacity, sizeof *r->index);
    r->keys = sac_scratch_take(s, 2 * (size_t)r->capacity, sizeof *r->keys);
    return r->distance != NULL && r->index != NULL && r->keys != NULL;
}

static bool worker_take(sac_stream *s, const struct sac_probe_args *a, struct worker *w)
{
    if (!candidates_take(s, a->nlist, &w->lists) || !candidates_take(s, a->group_count, &w->groups))
        return false;
    w->centroids = (struct matrix){a->centroids, a->centroid_norms, a->rough, NULL};
    w->heads = (struct matrix){a->heads, a->head_norms, a->rough_heads, NULL};
    w->rows = sac_scratch_take(s, BLOCK, sizeof *w->rows);
    w->rough.parts = sac_scratch_take(s, part_count(a), sizeof(int16_t));
    w->chosen.groups = sac_scratch_take(s, a->group_count, sizeof *w->chosen.groups);
    return w->rows != NULL && w->rough.parts != NULL && w->chosen.groups != NULL;
}

/* ---- comparing -------------------------------------------------------------------------------------- */

/* out[i]: the exact distance to row index[i]. */
static void exact_distances(const struct probe *p, struct worker *w, const float *query,
                            const uint32_t *index, uint32_t count, float *out)
{
    const struct sac_probe_args *a = p->args;

    for (uint32_t i = 0; i < count; i += BLOCK) {
        uint32_t rows = count - i < BLOCK ? count - i : BLOCK;

        for (uint32_t r = 0; r < rows; r++)
            w->rows[r] = a->centroids + (size_t)index[i + r] * a->dim;
        p->ways.rows->distances(query, w->rows, rows, a->dim, SAC_F32, a->distance, out + i);
    }
}

/* out[i]: how far row first + i is, i < count <= BLOCK; by rough rows where there are any, less |q|^2 then.
 */
static void distances(const struct probe *p, struct worker *w, const float *query,
                      const struct matrix *matrix, uint32_t first, uint32_t count, float *out)
{
    const struct sac_probe_args *a = p->args;

    if (matrix->rough != NULL) {
        const unsigned char *rows = matrix->rough;

        p->ways.rough->distances(&w->rough, rows + first * sac_row_bytes(SAC_I8, a->dim), count, a->dim,
                                 a->distance == SAC_DISTANCE_L2SQ ? matrix->norms + first : NULL, out);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        w->rows[i] = matrix->rows + (size_t)(first + i) * a->dim;
    p->ways.rows->distances(query, w->rows, count, a->dim, SAC_F32, a->distance, out);
}

static void begin(struct candidates *c, uint32_t k)
{
    sac_reservoir_clear(&c->near);
    c->near.k = k;
    c->full = 2 * k + 64;
}

/* Leaves the k nearest and what hardly differs from them. What ties with the bound may still come in: a
 * smaller list may follow. */
static void prune(const struct probe *p, struct candidates *c)
{
    sac_reservoir_prune(&c->near, p->ways.rows->sieve, 0.0f, 0.0f);
    c->near.threshold = nextafterf(c->near.threshold, INFINITY);
    c->full = c->near.count + c->near.k + 64;
}

/* Rows first..end-1 become candidates, as far as they are near enough. */
static void compare(const struct probe *p, struct worker *w, const float *query, const struct matrix *matrix,
                    uint32_t first, uint32_t end, struct candidates *c)
{
    float block[BLOCK];

    for (; first < end; first += BLOCK) {
        uint32_t count = end - first < BLOCK ? end - first : BLOCK;
        const float *distance = matrix->distances != NULL ? matrix->distances + first : block;

        if (matrix->distances == NULL)
            distances(p, w, query, matrix, first, count, block);
        p->ways.rows->sieve->filter(&c->near, distance, count, first, NULL);
        if (c->near.count > c->full)
            prune(p, c);
    }
}

/* The keys of all candidates, ascending. */
static void sort(const struct probe *p, struct sac_reservoir *r)
{
    for (uint32_t i = 0; i < r->count; i++)
        r->keys[i] = sac_key(r->distance[i], r->index[i]);
    p->ways.sort(r->keys, r->count, r->keys + r->capacity);
}

/* Chooses as many of the nearest groups as hold what query q is to look at. */
static void choose_groups(const struct probe *p, struct worker *w, size_t q)
{
    const struct sac_probe_args *a = p->args;
    struct sac_reservoir *near = &w->groups.near;
    uint32_t wanted = sac_probe_compared(a->nlist, a->nprobes[q]);
    uint32_t k = (uint32_t)((uint64_t)wanted * a->group_count / a->nlist * 5 / 4) + 4;

    for (;; k *= 2) {
        uint32_t held = 0;

        k = k < a->group_count ? k : a->group_count;
        begin(&w->groups, k);
        compare(p, w, a->queries + q * a->dim, &w->heads, 0, a->group_count, &w->groups);
        prune(p, &w->groups);
        sort(p, near);
        for (w->chosen.count = 0; w->chosen.count < near->count && held < wanted; w->chosen.count++) {
            uint32_t group = sac_key_index(near->keys[w->chosen.count]);

            w->chosen.groups[w->chosen.count] = group;
            held += a->group_first[group + 1] - a->group_first[group];
        }
        if (held >= wanted || k == a->group_count)
            return;
    }
}

/* Has the rough rows of a group, or their distances, brought near, while another one is compared: hardware
 * does not know that they come next, and stops at every page. */
static void fetch_group(const struct sac_probe_args *a, const struct matrix *m, uint32_t group)
{
    const char *from = m->distances != NULL ? (const char *)m->distances : m->rough;
    size_t each = m->distances != NULL ? sizeof *m->distances
                  : m->rough != NULL   ? sac_row_bytes(SAC_I8, a->dim)
                                       : 0;

    for (size_t at = a->group_first[group] * each; at < a->group_first[group + 1] * each; at += SAC_ALIGNMENT)
        __builtin_prefetch(from + at);
}

/* Returns how many lists there were. */
static uint32_t compare_chosen_groups(const struct probe *p, struct worker *w, const float *query)
{
    const struct sac_probe_args *a = p->args;
    uint32_t compared = 0;

    for (uint32_t i = 0; i < w->chosen.count; i++) {
        uint32_t group = w->chosen.groups[i];
        uint32_t first = a->group_first[group], end = a->group_first[group + 1];

        if (i + 1 < w->chosen.count)
            fetch_group(a, &w->centroids, w->chosen.groups[i + 1]);
        compare(p, w, query, &w->centroids, first, end, &w->lists);
        compared += end - first;
    }
    return compared;
}

/* Where there are groups, distances are known from the lists of the chosen ones at most. */
static uint32_t compare_all(const struct probe *p, struct worker *w, const float *query)
{
    const struct sac_probe_args *a = p->args;

    if (a->group_count > 0)
        w->centroids.distances = NULL;
    compare(p, w, query, &w->centroids, 0, a->nlist, &w->lists);
    return a->nlist;
}

/* ---- choosing --------------------------------------------------------------------------------------- */

static uint32_t count_up_to(const struct sac_reservoir *r, float distance)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < r->count; i++)
        count += r->distance[i] <= distance;
    return count;
}

/* Drops lists that are out of reach although their rough distances, which are less than the true ones by
 * query_norm, may be off by `error`. From a number of lists that are within reach at most follows a distance
 * up to which all are, from that a number that there are at least, and from that a distance beyond which none
 * is: three rounds of this end close enough. */
static void drop_far(const struct probe *p, struct sac_reservoir *r, float reach, float query_norm,
                     float error)
{
    float nearest = r->distance[0], limit;
    uint32_t most = r->count;

    for (uint32_t i = 1; i < r->count; i++)
        nearest = fminf(nearest, r->distance[i]);
    nearest += query_norm;
    if (nearest <= error) /* it may be 0: no limit */
        return;
    limit = reach * reach * (nearest + error);
    for (int round = 0; round < 3; round++) {
        float within = limit * powf((float)most, -0.2f) - error - query_norm;
        uint32_t least = count_up_to(r, within);

        r->threshold = fmaxf(within, limit * powf((float)(least + 1), -0.2f) + error - query_norm);
        most = count_up_to(r, r->threshold);
    }
    p->ways.rows->sieve->drop(r);
}

/* Leaves the keys of the k nearest, ascending; returns how many there are. Those out of reach may be missing.
 */
static uint32_t choose(const struct probe *p, struct worker *w, const float *query, float reach)
{
    struct sac_reservoir *near = &w->lists.near;

    prune(p, &w->lists);
    if (p->args->rough != NULL) {
        if (isfinite(reach))
            drop_far(p, near, reach, w->rough.norm, ROUGH_ERROR * w->rough.norm);
        exact_distances(p, w, query, near->index, near->count, near->distance);
    }
    sort(p, near);
    return near->count < near->k ? near->count : near->k;
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

/* The worker has the query as whole numbers, and its groups. */
static void probe_query(const struct probe *p, struct worker *w, size_t q)
{
    const struct sac_probe_args *a = p->args;
    const float *query = a->queries + q * a->dim;
    float reach = a->reaches != NULL ? a->reaches[q] : INFINITY, choose_by = reach;
    bool all = a->group_count == 0;

    assert(a->nprobes[q] >= 1 && a->nprobes[q] <= a->width && reach >= 1);
    for (uint32_t k = a->nprobes[q];;) {
        uint32_t compared;

        begin(&w->lists, k);
        compared = all ? compare_all(p, w, query) : compare_chosen_groups(p, w, query);
        take(a, q, w->lists.near.keys, choose(p, w, query, choose_by), reach);
        if (a->held[q] >= a->needs[q] || (all && k == a->width && isinf(choose_by)))
            return;
        if (isfinite(choose_by)) {
            choose_by = INFINITY;
            continue;
        }
        all = all || k >= compared || k == a->width;
        k = k < a->width / 2 ? 2 * k : a->width;
    }
}

static void probe_alone(const struct probe *p, struct worker *w, size_t q)
{
    const struct sac_probe_args *a = p->args;

    w->heads.distances = w->centroids.distances = NULL;
    if (a->rough != NULL)
        p->ways.rough->prepare(a->queries + q * a->dim, a->dim, &w->rough);
    if (a->group_count > 0)
        choose_groups(p, w, q);
    probe_query(p, w, q);
}

static void probe_task(void *context, uint32_t task, uint32_t worker)
{
    const struct probe *p = context;
    size_t first = (size_t)task * TASK_QUERIES;

    for (size_t q = first; q < first + TASK_QUERIES && q < p->args->query_count; q++)
        probe_alone(p, &p->workers[worker], q);
}

static void probe_block_task(void *context, uint32_t task, uint32_t worker)
{
    const struct probe *p = context;
    const struct sac_probe_args *a = p->args;
    struct worker *w = &p->workers[worker];
    struct sac_probe_block *block = &p->batch->blocks[worker];
    size_t first = (size_t)task * SAC_ROUGH_QUERIES;

    if (a->query_count - first < SAC_PROBE_BLOCK_LEAST) {
        for (size_t q = first; q < a->query_count; q++)
            probe_alone(p, w, q);
        return;
    }
    sac_probe_block_begin(p->batch, p->ways.rough, first, block);
    for (uint32_t i = 0; i < block->count && a->group_count > 0; i++) {
        w->heads.distances = block->heads + (size_t)i * a->group_count;
        w->chosen = block->chosen[i];
        choose_groups(p, w, first + i);
        block->chosen[i] = w->chosen;
    }
    sac_probe_block_lists(p->batch, block);
    for (uint32_t i = 0; i < block->count; i++) {
        w->centroids.distances = block->lists + (size_t)i * a->nlist;
        w->rough = block->queries[i];
        w->chosen = block->chosen[i];
        probe_query(p, w, first + i);
    }
}

static uint32_t task_count(size_t queries, uint32_t each)
{
    return (uint32_t)((queries + each - 1) / each);
}

/* batch: for blocks of queries, to be filled in; or NULL. */
static sac_status probe_run(sac_stream *s, const struct sac_probe_args *a, struct ways ways,
                            struct sac_probe_batch *batch)
{
    struct probe p = {.args = a, .ways = ways, .batch = batch};
    uint32_t workers = worker_count(s->device, a);

    if (a->query_count == 0)
        return SAC_OK;
    assert(a->width >= 1 && a->width <= a->nlist);
    assert(a->reaches == NULL || a->distance == SAC_DISTANCE_L2SQ);
    assert((a->rough != NULL) == (a->rough_heads != NULL) || a->group_count == 0);
    sac_scratch_reset(s);
    p.workers = sac_scratch_take(s, s->device->threads, sizeof *p.workers);
    if (p.workers == NULL)
        return SAC_NO_MEMORY;
    for (uint32_t i = 0; i < workers; i++)
        if (!worker_take(s, a, &p.workers[i]))
            return SAC_NO_MEMORY;
    if (batch != NULL && !sac_probe_batch_take(s, a, batch))
        return SAC_NO_MEMORY;
    if (batch != NULL) {
        sac_probe_batch_pack(s, batch);
        sac_parallel_for(s, task_count(a->query_count, SAC_ROUGH_QUERIES), probe_block_task, &p);
    } else if (a->query_count <= TASK_QUERIES) {
        probe_task(&p, 0, 0);
    } else {
        sac_parallel_for(s, task_count(a->query_count, TASK_QUERIES), probe_task, &p);
    }
    return SAC_OK;
}

static void sort_avx2(uint64_t *keys, size_t n, uint64_t *work)
{
    (void)work;
    sac_keys_sort(keys, n);
}

sac_status sac_probe_avx2(sac_stream *s, const struct sac_probe_args *a)
{
    return probe_run(s, a, (struct ways){&sac_rows_avx2, &sac_rough_avx2, sort_avx2}, NULL);
}

sac_status sac_probe_avx512(sac_stream *s, const struct sac_probe_args *a)
{
    return probe_run(s, a, (struct ways){&sac_rows_avx512, &sac_rough_avx512, sac_keys_sort_avx512}, NULL);
}

sac_status sac_probe_vnni(sac_stream *s, const struct sac_probe_args *a)
{
    return probe_run(s, a, (struct ways){&sac_rows_avx512, &sac_rough_vnni, sac_keys_sort_avx512}, NULL);
}

sac_status sac_probe_amx(sac_stream *s, const struct sac_probe_args *a)
{
    struct sac_probe_batch batch;

    return probe_run(s, a, (struct ways){&sac_rows_avx512, &sac_rough_vnni, sac_keys_sort_avx512},
                     sac_probe_batch_pays(s->device, a) ? &batch : NULL);
}

size_t sac_probe_scratch_amx(const sac_device *d, const struct sac_probe_args *a)
{
    return sac_probe_scratch_cpu(d, a) + (sac_probe_batch_pays(d, a) ? sac_probe_batch_scratch(d, a) : 0);
}
