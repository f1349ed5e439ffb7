/* The list-major scan: every list is read and decoded once for all queries that probe it.
 *
 * Pairs of a query and a probe are sorted by list. A task takes pieces of lists: it decodes pages
 * to bytes, multiplies them with the queries of the list, 16 at a time, and keeps of every query what is not
 * beyond its limit, the `depth`-th of the distances that it has seen so far. Products are of whole numbers,
 * so results do not depend on the order of the tasks, nor on what else is in the batch.
 *
 * Threads: any of them may come upon any query. A query's rows have places in one array, taken by adding to a
 * counter; limits are read and lowered as atomic numbers; nobody waits for anybody.
 *
 * A query's first limit comes from the first pages of its nearest lists. From then on a random order of lists
 * brings depth * (1 + ln(rows / depth)) rows at most; a query has room for more. One that gets too many
 * all the same (equal rows by the thousands) is scanned by itself in the end, and one for which bytes are not
 * fine enough (pq_scan_levels.c) as if it were the only one, by its table.
 *
 * Memory: by query, so a batch that would take more than BATCH_BYTES is done in parts.
 */
#include "kernels/cpu/pq_scan_lists.h"

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/pq.h"
#include "kernels/cpu/pq_scan.h"
#include "kernels/page.h"

#include <assert.h>
#include <string.h>

#define BATCH_BYTES ((size_t)128 << 20)

enum {
    TASK_ITEMS = 64,  /* at most, so that tiles need not be set up for each */
    TASKS_LEAST = 16, /* of a thread, so that all are done at about the same time */
};

/* ---- memory ----------------------------------------------------------------------------------------- */

static size_t table_count(const struct sac_pq_scan_args *a)
{
    return (size_t)a->pool.pq.m << a->pool.pq.nbits;
}

static struct sac_pq_scan_args one_query(const struct sac_pq_scan_args *a, size_t q, const float *table)
{
    struct sac_pq_scan_args one = *a;

    one.schedule = SAC_QUERY_MAJOR;
    one.tables = table;
    one.query_count = 1;
    one.probes += q * a->probe_stride;
    one.probe_counts += q;
    one.depths += q;
    one.filters = a->filters != NULL ? a->filters + q : NULL;
    one.out_distance += q * a->depth_stride;
    one.out_slot += q * a->depth_stride;
    return one;
}

/* Part of the batch from query q on. */
static struct sac_pq_scan_args some_queries(const struct sac_pq_scan_args *a, size_t q, size_t count)
{
    struct sac_pq_scan_args some = one_query(a, q, NULL);

    some.schedule = SAC_LIST_MAJOR;
    some.queries += q * a->pool.pq.m * a->pool.pq.dsub;
    some.query_count = count;
    return some;
}

/* What follows from the shape of the arguments alone. */
static struct sac_tiles_scan scan_of(const sac_device *d, const struct sac_pq_scan_args *a)
{
    struct sac_pq_scan_args one = one_query(a, 0, NULL);
    struct sac_tiles_scan s = {.args = a, .levels = sac_pq_levels_of(&a->pool.pq)};
    size_t each;

    s.capacity = 4 * a->depth_stride + 1024;
    each = s.capacity * sizeof *s.found + sizeof(struct sac_tiles_query) +
           s.levels.depth * sizeof *s.numbers + a->probe_stride * sizeof(struct sac_tiles_pair);
    s.batch = BATCH_BYTES / each > 1 ? BATCH_BYTES / each : 1;
    s.batch = s.batch < a->query_count ? s.batch : a->query_count;
    s.table_scratch_bytes = sac_pq_scan_scratch_cpu(d, &one);
    return s;
}

static size_t parts_most(const struct sac_tiles_scan *s)
{
    size_t pairs = s->batch * s->args->probe_stride;

    return pairs < s->args->pool.nlist ? pairs : s->args->pool.nlist;
}

static size_t scratch_bytes(const sac_device *d, const struct sac_pq_scan_args *a)
{
    struct sac_tiles_scan s = scan_of(d, a);
    size_t each = sac_scratch_size(1, sizeof *s.workers->room) +
                  sac_scratch_size((size_t)(SAC_TILES_QUERIES + SAC_TILE_QUERIES) * s.levels.depth,
                                   sizeof *s.workers->numbers) +
                  sac_scratch_size(SAC_TILES_STAGED, sizeof *s.workers->staged) +
                  sac_scratch_size(s.capacity, sizeof *s.workers->distance) +
                  sac_scratch_size(s.capacity, sizeof *s.workers->keys);

    return sac_scratch_size(d->threads, sizeof *s.workers) + d->threads * each +
           sac_scratch_size((size_t)s.levels.components * SAC_TILE_VALUES, sizeof *s.levels.table) +
           3 * sac_scratch_size(s.levels.components, sizeof(float)) +
           sac_scratch_size(s.batch, sizeof *s.queries) +
           sac_scratch_size(s.batch * s.levels.depth, sizeof *s.numbers) +
           sac_scratch_size(s.batch * s.capacity, sizeof *s.found) +
           sac_scratch_size(a->pool.nlist, sizeof *s.cursors) +
           sac_scratch_size(s.batch * a->probe_stride, sizeof *s.pairs) +
           sac_scratch_size(parts_most(&s), sizeof *s.parts) +
           sac_scratch_size(table_count(a), sizeof *s.table) + sac_scratch_size(s.table_scratch_bytes, 1);
}

size_t sac_pq_scan_scratch_amx(const sac_device *d, const struct sac_pq_scan_args *a)
{
    if (a->schedule == SAC_QUERY_MAJOR)
        return sac_pq_scan_scratch_cpu(d, a);
    return scratch_bytes(d, a);
}

static bool worker_take(sac_stream *stream, const struct sac_tiles_scan *s, struct sac_tiles_worker *w)
{
    size_t numbers = (size_t)(SAC_TILES_QUERIES + SAC_TILE_QUERIES) * s->levels.depth;

    w->room = sac_scratch_take(stream, 1, sizeof *w->room);
    w->numbers = sac_scratch_take(stream, numbers, sizeof *w->numbers);
    w->staged = sac_scratch_take(stream, SAC_TILES_STAGED, sizeof *w->staged);
    w->distance = sac_scratch_take(stream, s->capacity, sizeof *w->distance);
    w->keys = sac_scratch_take(stream, s->capacity, sizeof *w->keys);
    return w->room != NULL && w->numbers != NULL && w->staged != NULL && w->distance != NULL &&
           w->keys != NULL;
}

static bool scan_take(sac_stream *stream, struct sac_tiles_scan *s)
{
    const struct sac_pq_scan_args *a = s->args;

    s->workers = sac_scratch_take(stream, stream->device->threads, sizeof *s->workers);
    s->levels.table =
        sac_scratch_take(stream, (size_t)s->levels.components * SAC_TILE_VALUES, sizeof *s->levels.table);
    s->levels.offset = sac_scratch_take(stream, s->levels.components, sizeof(float));
    s->levels.step = sac_scratch_take(stream, s->levels.components, sizeof(float));
    s->levels.middle = sac_scratch_take(stream, s->levels.components, sizeof(float));
    s->queries = sac_scratch_take(stream, s->batch, sizeof *s->queries);
    s->numbers = sac_scratch_take(stream, s->batch * s->levels.depth, sizeof *s->numbers);
    s->found = sac_scratch_take(stream, s->batch * s->capacity, sizeof *s->found);
    s->cursors = sac_scratch_take(stream, a->pool.nlist, sizeof *s->cursors);
    s->pairs = sac_scratch_take(stream, s->batch * a->probe_stride, sizeof *s->pairs);
    s->parts = sac_scratch_take(stream, parts_most(s), sizeof *s->parts);
    s->table = sac_scratch_take(stream, table_count(a), sizeof *s->table);
    s->table_scratch = sac_scratch_take(stream, s->table_scratch_bytes, 1);
    if (s->workers == NULL || s->levels.table == NULL || s->levels.offset == NULL || s->levels.step == NULL ||
        s->levels.middle == NULL || s->queries == NULL || s->numbers == NULL || s->found == NULL ||
        s->cursors == NULL || s->pairs == NULL || s->parts == NULL || s->table == NULL ||
        s->table_scratch == NULL)
        return false;
    for (uint32_t i = 0; i < stream->device->threads; i++)
        if (!worker_take(stream, s, &s->workers[i]))
            return false;
    return true;
}

/* ---- before: numbers, and pairs by list ------------------------------------------------------------- */

static void round_levels(void *context, uint32_t task, uint32_t worker)
{
    const struct sac_tiles_scan *s = context;

    (void)worker;
    sac_pq_levels_round(&s->args->pool.pq, s->args->codebook, &s->levels, task);
}

static uint32_t items_of(const sac_list *list)
{
    return (sac_page_count(list->row_count) + SAC_TILES_PAGES - 1) / SAC_TILES_PAGES;
}

/* Sorts pairs by list. */
static void sort_pairs(struct sac_tiles_scan *s)
{
    const struct sac_pq_scan_args *a = s->args;
    uint32_t pair_count = 0;

    memset(s->cursors, 0, a->pool.nlist * sizeof *s->cursors);
    for (size_t q = 0; q < a->query_count; q++)
        for (uint32_t p = 0; p < a->probe_counts[q]; p++)
            s->cursors[a->probes[q * a->probe_stride + p].list]++;
    s->part_count = 0;
    s->item_count = 0;
    for (uint32_t list = 0; list < a->pool.nlist; list++) {
        uint32_t count = s->cursors[list];

        s->cursors[list] = pair_count;
        if (count == 0)
            continue;
        s->parts[s->part_count++] = (struct sac_tiles_part){list, pair_count, count, s->item_count};
        s->item_count += items_of(&a->pool.lists[list]);
        pair_count += count;
    }
    for (size_t q = 0; q < a->query_count; q++)
        for (uint32_t p = 0; p < a->probe_counts[q]; p++) {
            const sac_probe *probe = &a->probes[q * a->probe_stride + p];

            s->pairs[s->cursors[probe->list]++] = (struct sac_tiles_pair){(uint32_t)q, probe->base};
        }
}

static void scan_items(void *context, uint32_t task, uint32_t worker)
{
    const struct sac_tiles_scan *s = context;
    uint32_t first = task * s->task_items, left = s->item_count - first;

    sac_tiles_scan_items(s, &s->workers[worker], first,
                         first + (left < s->task_items ? left : s->task_items));
}

static sac_status scan_by_table(sac_stream *stream, const struct sac_tiles_scan *s, size_t q)
{
    sac_stream inner = sac_scratch_stream(stream, s->table_scratch, s->table_scratch_bytes);
    const struct sac_pq_scan_args *a = s->args;
    struct sac_pq_scan_args one = one_query(a, q, s->table);

    sac_pq_table_make(&sac_pq_avx512, &a->pool.pq, a->codebook, a->queries + q * s->levels.components,
                      a->scale, s->table);
    return sac_pq_scan_vbmi(&inner, &one);
}

/* ---- the whole -------------------------------------------------------------------------------------- */

static sac_status scan_part(sac_stream *stream, struct sac_tiles_scan *s)
{
    uint32_t n = (uint32_t)s->args->query_count, each;
    sac_status st = SAC_OK;

    sac_parallel_for(stream, (n + SAC_TILES_STARTED - 1) / SAC_TILES_STARTED, sac_tiles_start_queries, s);
    sort_pairs(s);
    each = s->item_count / (stream->device->threads * TASKS_LEAST);
    s->task_items = each < 1 ? 1 : each < TASK_ITEMS ? each : TASK_ITEMS;
    sac_parallel_for(stream, (s->item_count + s->task_items - 1) / s->task_items, scan_items, s);
    sac_parallel_for(stream, n, sac_tiles_finish_query, s);
    for (uint32_t q = 0; st == SAC_OK && q < n; q++) {
        if (!s->queries[q].levels.fine)
            st = scan_by_table(stream, s, q);
        else if (s->queries[q].count > s->capacity)
            sac_tiles_scan_alone(s, &s->workers[0], q);
    }
    return st;
}

static sac_status scan_lists(sac_stream *stream, const struct sac_pq_scan_args *a)
{
    struct sac_tiles_scan s = scan_of(stream->device, a);
    sac_status st = SAC_OK;

    assert(a->schedule == SAC_LIST_MAJOR && a->pool.pq.m >= 1 && a->pool.pq.nbits >= 4 &&
           a->pool.pq.nbits <= 8 && a->query_count <= UINT32_MAX);
    if (a->query_count == 0)
        return SAC_OK;
    sac_scratch_reset(stream);
    if (!scan_take(stream, &s))
        return SAC_NO_MEMORY;
    sac_parallel_for(stream, s.levels.bytes, round_levels, &s);
    for (size_t q = 0; st == SAC_OK && q < a->query_count; q += s.batch) {
        size_t left = a->query_count - q;
        struct sac_pq_scan_args some = some_queries(a, q, left < s.batch ? left : s.batch);

        s.args = &some;
        st = scan_part(stream, &s);
    }
    return st;
}

sac_status sac_pq_scan_amx(sac_stream *stream, const struct sac_pq_scan_args *a)
{
    return a->schedule == SAC_LIST_MAJOR ? scan_lists(stream, a) : sac_pq_scan_vbmi(stream, a);
}
