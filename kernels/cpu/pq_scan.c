/* The product quantizer's scan: bytes decide who is looked at, f32 decides the order.
 *
 * A query's table is rounded to bytes once; pages are scanned with those, and whatever cannot be excluded is
 * kept. What is left in the end gets its distance from the f32 table, in the order of additions of the twin,
 * so results are the twin's to the bit whatever the instruction set, the number of threads and the split. On
 * clustered data less than twice `depth` entries are computed again.
 *
 * Many queries: one task each. Fewer queries than threads: the pages of a query are split between the
 * threads.
 */
#include "kernels/cpu/pq_scan.h"

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/keys.h"
#include "kernels/page.h"
#include "kernels/ref/ref.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum {
    RUN_PAGES = SAC_FILTER_ROWS / SAC_PAGE_ROWS, /* of a list, scanned at a time */
    RUNS = 64,                                   /* looked up at a time, of any lists */
    SPLIT_PAGES = 64,                            /* of a task when a query is split: 4096 entries */
    PREFETCH_BYTES = 2048,                       /* of a page's codes; the rest comes by itself */
    EXACT_LANES = SAC_PQ_EXACT_LANES,
};

struct worker {
    struct sac_pq_bytes bytes;
    float *min;             /* [m] */
    float *distance;        /* [SAC_FILTER_ROWS] */
    struct sac_reservoir r; /* index: the entry's row in its list; tag: the probe */
};

struct scan {
    const struct sac_pq_scan_args *args;
    const struct sac_pq_scan_kernels *kernels;
    struct worker *workers;
    size_t query;                     /* split only */
    const struct sac_pq_bytes *bytes; /* split only: the query's table, shared */
};

size_t sac_pq_scan_scratch_cpu(const sac_device *d, const struct sac_pq_scan_args *a)
{
    uint32_t m = a->pool.pq.m;
    size_t each = sac_scratch_size(m + 1, SAC_PQ_TABLE_STRIDE) + sac_scratch_size(m, sizeof(float)) +
                  sac_scratch_size(SAC_FILTER_ROWS, sizeof(float)) +
                  sac_reservoir_scratch(a->depth_stride, true);

    return sac_scratch_size(d->threads, sizeof(struct worker)) + d->threads * each +
           sac_scratch_size((size_t)d->threads * 2 * sac_reservoir_capacity(a->depth_stride),
                            sizeof(uint64_t));
}

/* The keys of all workers are one array, so that merging is moving. */
static struct worker *workers_take(sac_stream *s, const struct sac_pq_scan_args *a)
{
    uint32_t threads = s->device->threads, capacity = sac_reservoir_capacity(a->depth_stride);
    struct worker *workers = sac_scratch_take(s, threads, sizeof *workers);
    uint64_t *keys = sac_scratch_take(s, (size_t)threads * 2 * capacity, sizeof *keys);

    if (workers == NULL || keys == NULL)
        return NULL;
    for (uint32_t i = 0; i < threads; i++) {
        struct worker *w = &workers[i];

        w->bytes.table = sac_scratch_take(s, a->pool.pq.m + 1, SAC_PQ_TABLE_STRIDE);
        w->min = sac_scratch_take(s, a->pool.pq.m, sizeof *w->min);
        w->distance = sac_scratch_take(s, SAC_FILTER_ROWS, sizeof *w->distance);
        w->r.keys = keys + (size_t)i * 2 * capacity;
        if (w->bytes.table == NULL || w->min == NULL || w->distance == NULL ||
            !sac_reservoir_take(s, &w->r, a->depth_stride, true))
            return NULL;
    }
    return workers;
}

static const float *query_table(const struct sac_pq_scan_args *a, size_t q)
{
    return a->tables + (q * a->pool.pq.m << a->pool.pq.nbits);
}

static const sac_probe *query_probes(const struct sac_pq_scan_args *a, size_t q)
{
    return a->probes + q * a->probe_stride;
}

/* Rounding of f32 sums relative to the distance itself: what a large bias adds to the error. */
static float slop(const struct sac_pq_bytes *bytes)
{
    return 4.0f * (float)(bytes->pq.m + 8) * 0x1p-24f;
}

/* Rounds the query's table. The errors cover the rounding to bytes and all rounding of f32 sums, here and in
 * the exact distance, except what grows with the bias (see slop()). */
static void bytes_make(const struct scan *scan, size_t q, struct worker *w)
{
    const struct sac_pq_scan_args *a = scan->args;
    uint32_t nbits = a->pool.pq.nbits, m = a->pool.pq.m,
             levels = 65535 / m < 255 ? 65535 / m : 255; /* sums fit 16 bits */
    float range = scan->kernels->ranges(query_table(a, q), m, nbits, w->min);
    double offset = 0.0, magnitude = 0.0, base = 0.0;

    for (uint32_t j = 0; j < m; j++) {
        offset += w->min[j];
        magnitude += fabs((double)w->min[j]) + range;
    }
    for (uint32_t p = 0; p < a->probe_counts[q]; p++)
        base = fmax(base, fabs((double)query_probes(a, q)[p].base));
    w->bytes.pq = a->pool.pq;
    w->bytes.unit = range / (float)levels;
    w->bytes.offset = (float)offset;
    w->bytes.error = 0.501f * (float)m * w->bytes.unit + slop(&w->bytes) * (float)magnitude;
    w->bytes.base_error = slop(&w->bytes) * (float)base;
    if (a->pool.pq.factors)
        w->bytes.offset -= w->bytes.error;
    scan->kernels->round(query_table(a, q), m, nbits, w->min, range > 0.0f ? (float)levels / range : 0.0f,
                         w->bytes.table);
    if (nbits == 4 && m % 2 == 1) /* the odd one's partner */
        memset(w->bytes.table + (size_t)m * 16, 0, 16);
    if (scan->kernels->arrange != NULL)
        scan->kernels->arrange(w->bytes.table, m, nbits);
}

void sac_pq_exact_lanes(const sac_pq_shape *pq, const float *table, const uint8_t *const *codes,
                        size_t stride, float *sums)
{
    if (pq->nbits == 4) {
        for (uint32_t j = 0; j < pq->m; j++)
            for (uint32_t e = 0; e < EXACT_LANES; e++)
                sums[e] += table[j * 16 + (codes[e][j / 2 * stride] >> j % 2 * 4 & 0xf)];
        return;
    }
    for (uint32_t j = 0; j < pq->m; j++)
        for (uint32_t e = 0; e < EXACT_LANES; e++)
            sums[e] += table[((size_t)j << pq->nbits) + codes[e][j * stride]];
}

static unsigned char *list_page(const sac_list_pool *pool, const sac_list *list, uint32_t row)
{
    return pool->pages[pool->chains[list->first + row / SAC_PAGE_ROWS]];
}

/* Replaces approximate distances by exact ones, and makes keys of (exact distance, slot). */
static void exact_make(const struct sac_pq_scan_args *a, size_t q, struct sac_reservoir *r)
{
    const sac_pq_shape *pq = &a->pool.pq;
    const sac_probe *probes = query_probes(a, q);
    const float *table = query_table(a, q);

    for (uint32_t i = 0; i < r->count; i += EXACT_LANES) {
        const uint8_t *codes[EXACT_LANES];
        float sums[EXACT_LANES], starts[EXACT_LANES], factors[EXACT_LANES];
        uint32_t slots[EXACT_LANES], lanes = r->count - i < EXACT_LANES ? r->count - i : EXACT_LANES;

        for (uint32_t e = 0; e < EXACT_LANES; e++) {
            uint32_t at = i + (e < lanes ? e : 0), line = r->index[at] % SAC_PAGE_ROWS;
            const sac_probe *probe = &probes[r->tag[at]];
            unsigned char *page = list_page(&a->pool, &a->pool.lists[probe->list], r->index[at]);

            codes[e] = page + line;
            slots[e] = sac_page_slots(pq, page)[line];
            starts[e] = probe->base + sac_page_bias(pq, page)[line];
            factors[e] = pq->factors ? sac_page_factors(pq, page)[line] : 0.0f;
            sums[e] = pq->factors ? 0.0f : starts[e]; /* as the twin begins */
        }
        sac_pq_exact_lanes(pq, table, codes, SAC_PAGE_ROWS, sums);
        for (uint32_t e = 0; e < lanes; e++) {
            sums[e] = pq->factors ? starts[e] + factors[e] * sums[e] : sums[e];
            r->distance[i + e] = sums[e];
            r->keys[i + e] = sac_key(sums[e], slots[e]);
        }
    }
}

/* The largest factor of the reservoir's entries that are not beyond a bound. */
static float largest_factor(const struct sac_pq_scan_args *a, size_t q, const struct sac_reservoir *r,
                            float bound)
{
    const sac_list_pool *pool = &a->pool;
    float largest = 0.0f;

    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t row = r->index[i];
        unsigned char *page;

        if (r->distance[i] > bound)
            continue;
        page = list_page(pool, &pool->lists[query_probes(a, q)[r->tag[i]].list], row);
        largest = fmaxf(largest, sac_page_factors(&pool->pq, page)[row % SAC_PAGE_ROWS]);
    }
    return largest;
}

/* Drops what cannot be among the k nearest. With factors, distances are lower bounds, each as far below as
 * its own factor says: then k entries are certainly within the bound and the error of the worst of them. */
static void prune(const struct scan *scan, size_t q, const struct sac_pq_bytes *bytes,
                  struct sac_reservoir *r)
{
    float bound, error = bytes->error;

    if (r->count <= r->k)
        return;
    bound = scan->kernels->sieve->bound(r);
    if (bytes->pq.factors)
        error *= largest_factor(scan->args, q, r, bound);
    r->threshold = bound + 2.0f * (error + bytes->base_error) + slop(bytes) * fabsf(bound);
    scan->kernels->sieve->drop(r);
}

static void make_room(const struct scan *scan, size_t q, const struct sac_pq_bytes *bytes,
                      struct sac_reservoir *r)
{
    float error = bytes->pq.factors ? 0.0f : bytes->error; /* of what comes later, downwards */

    prune(scan, q, bytes, r);
    if (r->count + 2 * SAC_FILTER_ROWS <= r->capacity)
        return;
    exact_make(scan->args, q, r); /* too many within the error of each other, duplicates for example */
    r->threshold = sac_reservoir_keep(r);
    r->threshold += 2.0f * (error + bytes->base_error) + slop(bytes) * fabsf(r->threshold);
}

/* ---- pages ------------------------------------------------------------------------------------------ */

/* Neighbouring pages of a list that are scanned together. */
struct run {
    unsigned char *pages[RUN_PAGES];
    uint32_t count, probe, first; /* page `first` of the list on */
};

/* Where a scan through a query's probes is: the next page, and how many it has to go. */
struct walk {
    uint32_t probe, page;
    size_t left;
};

static uint32_t probe_pages(const struct sac_pq_scan_args *a, size_t q, uint32_t p)
{
    return sac_page_count(a->pool.lists[query_probes(a, q)[p].list].row_count);
}

/* Pages first..end-1 of the query's probes, counted through all probes in order. */
static struct walk walk_from(const struct sac_pq_scan_args *a, size_t q, size_t first, size_t end)
{
    struct walk walk = {.left = end - first};

    while (first > 0 && walk.probe < a->probe_counts[q] && first >= probe_pages(a, q, walk.probe))
        first -= probe_pages(a, q, walk.probe++);
    walk.page = (uint32_t)first;
    return walk;
}

/* The next runs of the walk, at most RUNS. Lists, chains and page numbers are read for all of them here, one
 * after another, so that the processor waits for many of them at once. */
static uint32_t runs_find(const struct sac_pq_scan_args *a, size_t q, struct walk *walk, struct run *runs)
{
    uint32_t found = 0;

    while (found < RUNS && walk->left > 0 && walk->probe < a->probe_counts[q]) {
        const sac_list *list = &a->pool.lists[query_probes(a, q)[walk->probe].list];
        uint32_t left = sac_page_count(list->row_count) - walk->page;
        struct run *run = &runs[found];

        if (left == 0) {
            walk->probe++;
            walk->page = 0;
            continue;
        }
        *run = (struct run){
            .count = left < RUN_PAGES ? left : RUN_PAGES, .probe = walk->probe, .first = walk->page};
        run->count = run->count < walk->left ? run->count : (uint32_t)walk->left;
        for (uint32_t i = 0; i < run->count; i++)
            run->pages[i] = a->pool.pages[a->pool.chains[list->first + run->first + i]];
        walk->page += run->count;
        walk->left -= run->count;
        found++;
    }
    return found;
}

/* Always inlined: gcc finds that a function which only prefetches has no effect, and leaves out the call. */
SAC_SPECIALIZE void prefetch_run(const sac_pq_shape *pq, const struct run *run)
{
    size_t bytes = sac_page_code_bytes(pq);

    bytes = bytes < PREFETCH_BYTES ? bytes : PREFETCH_BYTES;
    for (uint32_t p = 0; p < run->count; p++) {
        for (size_t i = 0; i < bytes; i += 64)
            __builtin_prefetch(run->pages[p] + i, 0, SAC_PREFETCH_L2);
        for (size_t i = 0; i < SAC_PAGE_ROWS; i += 16)
            __builtin_prefetch(sac_page_bias(pq, run->pages[p]) + i, 0, SAC_PREFETCH_L2);
    }
}

/* Takes the entries from `first` on out of the reservoir again that the query may not find. They have only
 * just come in, from the list. */
static void drop_hidden(const sac_list_pool *pool, const sac_list *list, struct sac_reservoir *r,
                        uint32_t first, const uint64_t *filter)
{
    uint32_t kept = first;

    for (uint32_t i = first; i < r->count; i++) {
        uint32_t row = r->index[i];
        uint32_t slot = sac_page_slots(&pool->pq, list_page(pool, list, row))[row % SAC_PAGE_ROWS];

        r->distance[kept] = r->distance[i];
        r->index[kept] = r->index[i];
        kept += filter[slot / 64] >> slot % 64 & 1;
    }
    r->count = kept;
}

static void scan_run(const struct scan *scan, size_t q, const struct sac_pq_bytes *bytes, struct worker *w,
                     const struct run *run)
{
    const struct sac_pq_scan_args *a = scan->args;
    const sac_probe *probe = &query_probes(a, q)[run->probe];
    const sac_list *list = &a->pool.lists[probe->list];
    const uint64_t *filter = a->filters != NULL ? a->filters[q] : NULL;
    uint32_t row = run->first * SAC_PAGE_ROWS, rows = list->row_count - row, before;

    if (!sac_reservoir_has_room(&w->r))
        make_room(scan, q, bytes, &w->r);
    scan->kernels->distances(bytes, run->pages, run->count,
                             a->pool.pq.factors ? probe->base : probe->base + bytes->offset, w->distance);
    before = w->r.count;
    rows = rows < run->count * SAC_PAGE_ROWS ? rows : run->count * SAC_PAGE_ROWS;
    scan->kernels->sieve->filter(&w->r, w->distance, rows, row, NULL);
    if (filter != NULL)
        drop_hidden(&a->pool, list, &w->r, before, filter);
    for (uint32_t i = before; i < w->r.count; i++)
        w->r.tag[i] = run->probe;
}

static void scan_walk(const struct scan *scan, size_t q, const struct sac_pq_bytes *bytes, struct worker *w,
                      struct walk walk)
{
    struct run runs[RUNS];
    uint32_t count;

    while ((count = runs_find(scan->args, q, &walk, runs)) > 0) {
        prefetch_run(&bytes->pq, &runs[0]);
        for (uint32_t i = 0; i < count; i++) {
            if (i + 1 < count)
                prefetch_run(&bytes->pq, &runs[i + 1]);
            scan_run(scan, q, bytes, w, &runs[i]);
        }
    }
}

/* ---- queries ---------------------------------------------------------------------------------------- */

/* Leaves exact keys of what may be among the nearest in r->keys; returns how many. */
static uint32_t finish(const struct scan *scan, size_t q, const struct sac_pq_bytes *bytes,
                       struct sac_reservoir *r)
{
    prune(scan, q, bytes, r);
    exact_make(scan->args, q, r);
    if (r->count <= r->k)
        return r->count;
    sac_keys_select(r->keys, r->count, r->k);
    return r->k;
}

static void start(const struct scan *scan, size_t q, struct worker *w)
{
    assert(scan->args->depths[q] >= 1 && scan->args->depths[q] <= scan->args->depth_stride);
    w->r.k = scan->args->depths[q];
    w->r.capacity = sac_reservoir_capacity(w->r.k);
    sac_reservoir_clear(&w->r);
}

static void scan_query(void *context, uint32_t task, uint32_t worker)
{
    const struct scan *scan = context;
    const struct sac_pq_scan_args *a = scan->args;
    struct worker *w = &scan->workers[worker];
    uint32_t count;

    start(scan, task, w);
    bytes_make(scan, task, w);
    scan_walk(scan, task, &w->bytes, w, walk_from(a, task, 0, SIZE_MAX));
    count = finish(scan, task, &w->bytes, &w->r);
    sac_keys_write(w->r.keys, count, a->depths[task], a->out_distance + (size_t)task * a->depth_stride,
                   a->out_slot + (size_t)task * a->depth_stride);
}

static void scan_part(void *context, uint32_t task, uint32_t worker)
{
    const struct scan *scan = context;

    size_t first = (size_t)task * SPLIT_PAGES;

    scan_walk(scan, scan->query, scan->bytes, &scan->workers[worker],
              walk_from(scan->args, scan->query, first, first + SPLIT_PAGES));
}

static size_t query_pages(const struct sac_pq_scan_args *a, size_t q)
{
    size_t pages = 0;

    for (uint32_t p = 0; p < a->probe_counts[q]; p++)
        pages += probe_pages(a, q, p);
    return pages;
}

/* All threads on one query; each keeps what it finds, the caller merges. */
static void scan_split(sac_stream *s, struct scan *scan, size_t q, size_t pages)
{
    const struct sac_pq_scan_args *a = scan->args;
    uint64_t *keys = scan->workers[0].r.keys;
    size_t count = 0;

    bytes_make(scan, q, &scan->workers[0]);
    scan->query = q;
    scan->bytes = &scan->workers[0].bytes;
    for (uint32_t i = 0; i < s->device->threads; i++)
        start(scan, q, &scan->workers[i]);
    sac_parallel_for(s, (uint32_t)((pages + SPLIT_PAGES - 1) / SPLIT_PAGES), scan_part, scan);
    for (uint32_t i = 0; i < s->device->threads; i++) {
        uint32_t found = finish(scan, q, scan->bytes, &scan->workers[i].r);

        memmove(keys + count, scan->workers[i].r.keys, found * sizeof *keys);
        count += found;
    }
    sac_keys_write(keys, count, a->depths[q], a->out_distance + q * a->depth_stride,
                   a->out_slot + q * a->depth_stride);
}

sac_status sac_pq_scan_run(sac_stream *s, const struct sac_pq_scan_args *a,
                           const struct sac_pq_scan_kernels *kernels)
{
    struct scan scan = {.args = a, .kernels = kernels};

    assert(a->schedule == SAC_QUERY_MAJOR && a->pool.pq.m >= 1 && a->pool.pq.nbits >= 4 &&
           (!a->pool.pq.factors || a->pool.pq.nbits == 4) && a->pool.pq.nbits <= 8 &&
           a->query_count <= UINT32_MAX);
    if (a->query_count == 0)
        return SAC_OK;
    sac_scratch_reset(s);
    scan.workers = workers_take(s, a);
    if (scan.workers == NULL)
        return SAC_NO_MEMORY;
    if (s->device->threads == 1 || a->query_count >= s->device->threads) {
        sac_parallel_for(s, (uint32_t)a->query_count, scan_query, &scan);
        return SAC_OK;
    }
    for (size_t q = 0; q < a->query_count; q++) {
        size_t pages = query_pages(a, q);

        if (pages < 2 * SPLIT_PAGES)
            scan_query(&scan, (uint32_t)q, 0);
        else
            scan_split(s, &scan, q, pages);
    }
    return SAC_OK;
}
