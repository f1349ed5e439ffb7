/* The k nearest rows, exactly. Rows are taken in blocks of 256; what is nearer than a query's bound goes into
 * the query's reservoir.
 *
 * Few queries, or no norms: distances directly, one query after the other while the block is in cache.
 * Batches with norms: |q|^2 - 2 qx + |x|^2 by matrix product. Rounding makes that unfit for the final order,
 * so everything within its error of the k-th nearest is kept, and in the end computed directly: answers are
 * those of the direct way, to the bit, and a query gets the same alone or in a batch. Where there are tiles
 * (nearest_amx.c), rows and queries are rounded to bf16 first, and more is kept.
 *
 * Enough blocks of queries: one task each. Otherwise the rows are split, each thread keeps its own nearest,
 * and the caller merges; as the k nearest are a set with one order, the split does not show.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/keys.h"
#include "kernels/cpu/nearest_tiles.h"
#include "kernels/cpu/rows.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum {
    BLOCK = SAC_FILTER_ROWS,
    DIRECT_QUERIES = 8,       /* queries that share a block in cache */
    PRODUCT_QUERIES = 120,    /* queries that share the work of packing a block: 10 and 20 tiles */
    PRODUCT_QUERIES_MIN = 12, /* below this, packing costs more than it saves */
    TILED_QUERIES = 512,      /* queries that share a block on tiles, where packing is dear */
    TILED_QUERIES_MIN = 24,
    TILED_DIM_MIN = 16,       /* below, tiles are mostly filled with zeros */
    SPLIT_BYTES = 512 * 1024, /* rows of a task when a block of queries is split */
};

#define TILED_LENGTH_MIN 0x1p-80f /* squared, of the longest row: tiles take denormal numbers for 0 */
#define TILED_LENGTHS_MAX 4       /* the same, by the rows' mean */

struct worker {
    const void **rows; /* [BLOCK] */
    float *scores;     /* [queries of a block][BLOCK], products only; on tiles of a pack */
    float *panels;     /* [BLOCK * dim], products only */
    uint16_t *packs;   /* on tiles, instead: [BLOCK / SAC_NEAREST_PACK][sac_nearest_pack_size()] */
    uint64_t *keys;
    struct sac_reservoir *reservoirs; /* [queries of a block] */
};

struct nearest {
    const struct sac_nearest_args *args;
    const struct sac_rows_kernels *kernels;
    const struct sac_nearest_tiles *tiles; /* NULL: none */
    struct worker *workers;
    bool products;
    uint32_t block_queries;
    float *query_norms;    /* [query_count], products only; 32 more on tiles */
    uint16_t *query_packs; /* on tiles: those of all queries */
    float error_scale;     /* error of a product's score is this times (|q| + longest row)^2 */
    float row_norm_max;    /* length, not squared */
    size_t first_query;    /* split only */
    uint32_t blocks_per_task;
};

static bool uses_products(const struct sac_nearest_args *a)
{
    return a->norms != NULL && a->query_count >= PRODUCT_QUERIES_MIN;
}

static bool tiles_pay(const struct sac_nearest_args *a)
{
    return a->norms != NULL && a->query_count >= TILED_QUERIES_MIN && a->dim >= TILED_DIM_MIN;
}

static uint32_t block_queries(const struct sac_nearest_args *a, bool tiled)
{
    uint32_t most = tiled ? TILED_QUERIES : uses_products(a) ? PRODUCT_QUERIES : DIRECT_QUERIES;

    return a->query_count < most ? (uint32_t)a->query_count : most;
}

static size_t packs_of(size_t rows)
{
    return (rows + SAC_NEAREST_PACK - 1) / SAC_NEAREST_PACK;
}

/* Where the products are a worker's; queries that products are made of at a time. */
static uint32_t score_queries(uint32_t queries, bool tiled)
{
    return tiled ? SAC_NEAREST_PACK : queries;
}

static size_t scratch_of(const sac_device *d, const struct sac_nearest_args *a, bool tiled)
{
    uint32_t queries = block_queries(a, tiled), capacity = sac_reservoir_capacity(a->k);
    size_t pack = sac_nearest_pack_size(a->dim);
    size_t each = sac_scratch_size(BLOCK, sizeof(void *)) +
                  sac_scratch_size(queries, sizeof(struct sac_reservoir)) +
                  queries * sac_reservoir_scratch(a->k, false);

    if (uses_products(a))
        each += sac_scratch_size((size_t)score_queries(queries, tiled) * BLOCK, sizeof(float));
    if (tiled)
        each += sac_scratch_size(packs_of(BLOCK) * pack, sizeof(uint16_t));
    else if (uses_products(a))
        each += sac_scratch_size((size_t)a->dim * BLOCK, sizeof(float));
    return sac_scratch_size(d->threads, sizeof(struct worker)) + d->threads * each +
           sac_scratch_size((size_t)d->threads * 2 * capacity, sizeof(uint64_t)) +
           sac_scratch_size(a->query_count + SAC_NEAREST_PACK, sizeof(float)) +
           (tiled ? sac_scratch_size(packs_of(a->query_count) * pack, sizeof(uint16_t)) : 0);
}

static bool worker_take(sac_stream *s, const struct nearest *n, struct worker *w)
{
    const struct sac_nearest_args *a = n->args;

    w->rows = sac_scratch_take(s, BLOCK, sizeof *w->rows);
    w->reservoirs = sac_scratch_take(s, n->block_queries, sizeof *w->reservoirs);
    if (n->products)
        w->scores = sac_scratch_take(s, (size_t)score_queries(n->block_queries, n->tiles != NULL) * BLOCK,
                                     sizeof *w->scores);
    if (n->tiles != NULL)
        w->packs = sac_scratch_take(s, packs_of(BLOCK) * sac_nearest_pack_size(a->dim), sizeof *w->packs);
    else if (n->products)
        w->panels = sac_scratch_take(s, (size_t)a->dim * BLOCK, sizeof *w->panels);
    if (w->rows == NULL || w->reservoirs == NULL || (n->products && w->scores == NULL) ||
        (n->products && w->panels == NULL && w->packs == NULL))
        return false;
    for (uint32_t q = 0; q < n->block_queries; q++) {
        if (!sac_reservoir_take(s, &w->reservoirs[q], a->k, false))
            return false;
        w->reservoirs[q].keys = w->keys;
    }
    return true;
}

/* The keys of all workers are one array, so that merging is moving. */
static bool workers_take(sac_stream *s, struct nearest *n)
{
    uint32_t threads = s->device->threads, capacity = sac_reservoir_capacity(n->args->k);
    uint64_t *keys = sac_scratch_take(s, (size_t)threads * 2 * capacity, sizeof *keys);

    n->workers = sac_scratch_take(s, threads, sizeof *n->workers);
    n->query_norms = sac_scratch_take(s, n->args->query_count + SAC_NEAREST_PACK, sizeof *n->query_norms);
    if (n->tiles != NULL)
        n->query_packs = sac_scratch_take(
            s, packs_of(n->args->query_count) * sac_nearest_pack_size(n->args->dim), sizeof *n->query_packs);
    if (keys == NULL || n->workers == NULL || n->query_norms == NULL ||
        (n->tiles != NULL && n->query_packs == NULL))
        return false;
    for (uint32_t i = 0; i < threads; i++) {
        n->workers[i].keys = keys + (size_t)i * 2 * capacity;
        if (!worker_take(s, n, &n->workers[i]))
            return false;
    }
    return true;
}

/* Whether products are of use, and tiles. What rounding may lose goes by the longest row, so tiles let go of
 * little where some rows are much longer than most. */
static bool rows_measure(struct nearest *n)
{
    const float *norms = n->args->norms;
    size_t count = n->args->row_count;
    float longest = 0.0f;
    double sum = 0.0;

    for (size_t i = 0; i < count; i++) {
        longest = fmaxf(longest, norms[i]);
        sum += norms[i];
    }
    n->row_norm_max = sqrtf(longest);
    if (!(longest > TILED_LENGTH_MIN && longest <= TILED_LENGTHS_MAX * sum / (double)count))
        n->tiles = NULL;
    return isfinite(longest);
}

/* Rounding of a sum of dim products is at most dim * 2^-24 of the sum of their magnitudes (Higham, Accuracy
 * and Stability, ch. 3), which (|q| + |x|)^2 bounds; products, norms and direct distances each have it, and
 * the inner product half of it. To bf16, q and x each lose 2^-9 of themselves at most, and 2 |q| |x| is half
 * of
 * (|q| + |x|)^2 at most. */
static void products_prepare(struct nearest *n)
{
    const struct sac_nearest_args *a = n->args;

    n->error_scale = 3.0f * (float)(a->dim + 8) * 0x1p-24f + (n->tiles != NULL ? 1.01f * 0x1p-9f : 0.0f);
    for (size_t q = 0; q < a->query_count; q++) {
        float sum = 0.0f;

        for (uint32_t d = 0; d < a->dim; d++)
            sum += a->queries[q * a->dim + d] * a->queries[q * a->dim + d];
        n->query_norms[q] = sum;
    }
    for (uint32_t i = 0; i < SAC_NEAREST_PACK; i++)
        n->query_norms[a->query_count + i] = 0.0f;
}

static void pack_queries(void *context, uint32_t task, uint32_t worker)
{
    const struct nearest *n = context;
    const struct sac_nearest_args *a = n->args;
    size_t first = (size_t)task * SAC_NEAREST_PACK, left = a->query_count - first;
    uint32_t count = left < SAC_NEAREST_PACK ? (uint32_t)left : SAC_NEAREST_PACK;
    const void *queries[SAC_NEAREST_PACK];

    (void)worker;
    for (uint32_t q = 0; q < count; q++)
        queries[q] = a->queries + (first + q) * a->dim;
    n->tiles->pack(queries, count, a->dim, SAC_F32, a->distance == SAC_DISTANCE_L2SQ ? -2.0f : -1.0f, false,
                   n->query_packs + task * sac_nearest_pack_size(a->dim));
}

static float query_margin(const struct nearest *n, size_t q)
{
    float length;

    if (!n->products)
        return 0.0f;
    length = sqrtf(n->query_norms[q]) + n->row_norm_max;
    return 2.0f * n->error_scale * length * length;
}

/* Replaces scores by direct distances. */
static void exact_make(const struct nearest *n, size_t q, struct worker *w, struct sac_reservoir *r)
{
    const struct sac_nearest_args *a = n->args;
    size_t row_bytes = sac_row_bytes(a->dtype, a->dim);

    for (uint32_t i = 0; i < r->count; i += BLOCK) {
        uint32_t count = r->count - i < BLOCK ? r->count - i : BLOCK;

        for (uint32_t j = 0; j < count; j++)
            sac_rows_locate(a->pages, a->page_rows, row_bytes, r->index[i + j], 1, &w->rows[j]);
        n->kernels->distances(a->queries + q * a->dim, w->rows, count, a->dim, a->dtype, a->distance,
                              r->distance + i);
    }
}

static void keys_make(struct sac_reservoir *r)
{
    for (uint32_t i = 0; i < r->count; i++)
        r->keys[i] = sac_key(r->distance[i], r->index[i]);
}

static void make_room(const struct nearest *n, size_t q, struct worker *w, struct sac_reservoir *r)
{
    float margin = query_margin(n, q);

    sac_reservoir_prune(r, n->kernels->sieve, margin, 0.0f);
    if (r->count + 2 * BLOCK <= r->capacity)
        return;
    if (n->products) /* too many within the error of each other, duplicates for example */
        exact_make(n, q, w, r);
    keys_make(r);
    r->threshold = sac_reservoir_keep(r) + margin;
}

static bool block_is_dead(const uint64_t *live, size_t first, uint32_t count)
{
    for (uint32_t i = 0; live != NULL && i < count; i += 64)
        if (live[(first + i) / 64] != 0)
            return false;
    return live != NULL;
}

static const uint64_t *query_filter(const struct nearest *n, size_t q)
{
    return n->args->filters != NULL ? n->args->filters[q] : NULL;
}

static void block_filter(const struct nearest *n, size_t q, struct worker *w, struct sac_reservoir *r,
                         const float *distance, size_t first, uint32_t count)
{
    const uint64_t *live = n->args->live, *filter = query_filter(n, q);
    uint64_t both[BLOCK / 64];

    if (!sac_reservoir_has_room(r))
        make_room(n, q, w, r);
    for (uint32_t i = 0; live != NULL && filter != NULL && i * 64 < count; i++)
        both[i] = live[first / 64 + i] & filter[first / 64 + i];
    n->kernels->sieve->filter(r, distance, count, (uint32_t)first,
                              live == NULL && filter == NULL ? NULL
                              : filter == NULL               ? live + first / 64
                              : live == NULL                 ? filter + first / 64
                                                             : both);
}

static void block_direct(const struct nearest *n, struct worker *w, size_t first_query, uint32_t queries,
                         size_t first, uint32_t count)
{
    const struct sac_nearest_args *a = n->args;
    float distance[BLOCK];

    for (uint32_t q = 0; q < queries; q++) {
        if (block_is_dead(query_filter(n, first_query + q), first, count))
            continue;
        n->kernels->distances(a->queries + (first_query + q) * a->dim, w->rows, count, a->dim, a->dtype,
                              a->distance, distance);
        block_filter(n, first_query + q, w, &w->reservoirs[q], distance, first, count);
    }
}

static void block_products(const struct nearest *n, struct worker *w, size_t first_query, uint32_t queries,
                           size_t first, uint32_t count)
{
    const struct sac_nearest_args *a = n->args;
    bool l2 = a->distance == SAC_DISTANCE_L2SQ;
    uint32_t panel_rows = n->kernels->panel_rows;
    float zeros[PRODUCT_QUERIES] = {0};

    for (uint32_t i = 0; i < count; i += panel_rows) {
        uint32_t rows = count - i < panel_rows ? count - i : panel_rows;
        float row_add[SAC_PANEL_ROWS_MAX] = {0};
        float *panel = w->panels + (size_t)i * a->dim;

        n->kernels->pack(w->rows + i, rows, a->dim, a->dtype, panel);
        if (l2)
            memcpy(row_add, a->norms + first + i, rows * sizeof row_add[0]);
        n->kernels->products(a->queries + first_query * a->dim, queries, a->dim, panel, l2 ? -2.0f : -1.0f,
                             row_add, l2 ? n->query_norms + first_query : zeros, w->scores + i, BLOCK);
    }
    for (uint32_t q = 0; q < queries; q++)
        block_filter(n, first_query + q, w, &w->reservoirs[q], w->scores + (size_t)q * BLOCK, first, count);
}

/* As block_products(), by packs of queries; those of a block of queries begin with a pack. */
static void block_tiles(const struct nearest *n, struct worker *w, size_t first_query, uint32_t queries,
                        size_t first, uint32_t count)
{
    static const float zeros[BLOCK];
    const struct sac_nearest_args *a = n->args;
    bool l2 = a->distance == SAC_DISTANCE_L2SQ;
    size_t size = sac_nearest_pack_size(a->dim);
    float row_add[BLOCK] = {0};

    if (l2)
        memcpy(row_add, a->norms + first, count * sizeof row_add[0]);
    for (uint32_t i = 0; i < count; i += SAC_NEAREST_PACK)
        n->tiles->pack(w->rows + i, count - i < SAC_NEAREST_PACK ? count - i : SAC_NEAREST_PACK, a->dim,
                       a->dtype, 1.0f, true, w->packs + i / SAC_NEAREST_PACK * size);
    n->tiles->begin();
    for (uint32_t p = 0; p < queries; p += SAC_NEAREST_PACK) {
        size_t at = first_query + p;

        n->tiles->scores(n->query_packs + at / SAC_NEAREST_PACK * size, w->packs, (uint32_t)packs_of(count),
                         a->dim, row_add, l2 ? n->query_norms + at : zeros, w->scores);
        for (uint32_t q = 0; q < SAC_NEAREST_PACK && p + q < queries; q++)
            block_filter(n, at + q, w, &w->reservoirs[p + q], w->scores + (size_t)q * BLOCK, first, count);
    }
    n->tiles->end();
}

/* Rows first_block.. of the blocks of BLOCK rows, for one block of queries. */
static void scan_blocks(const struct nearest *n, struct worker *w, size_t first_query, size_t first_block,
                        size_t end_block)
{
    const struct sac_nearest_args *a = n->args;
    size_t left = a->query_count - first_query;
    uint32_t queries = left < n->block_queries ? (uint32_t)left : n->block_queries;

    for (size_t first = first_block * BLOCK; first < a->row_count && first < end_block * BLOCK;
         first += BLOCK) {
        uint32_t count = a->row_count - first < BLOCK ? (uint32_t)(a->row_count - first) : BLOCK;

        if (block_is_dead(a->live, first, count))
            continue;
        sac_rows_locate(a->pages, a->page_rows, sac_row_bytes(a->dtype, a->dim), first, count, w->rows);
        if (n->tiles != NULL)
            block_tiles(n, w, first_query, queries, first, count);
        else if (n->products)
            block_products(n, w, first_query, queries, first, count);
        else
            block_direct(n, w, first_query, queries, first, count);
    }
}

/* Leaves keys of what may be among the nearest in w->keys; returns how many. */
static uint32_t finish(const struct nearest *n, size_t q, struct worker *w, struct sac_reservoir *r)
{
    sac_reservoir_prune(r, n->kernels->sieve, query_margin(n, q), 0.0f);
    if (n->products)
        exact_make(n, q, w, r);
    keys_make(r);
    if (r->count <= r->k)
        return r->count;
    sac_keys_select(r->keys, r->count, r->k);
    return r->k;
}

static void scan_queries(void *context, uint32_t task, uint32_t worker)
{
    const struct nearest *n = context;
    const struct sac_nearest_args *a = n->args;
    struct worker *w = &n->workers[worker];
    size_t first = (size_t)task * n->block_queries;

    for (uint32_t q = 0; q < n->block_queries; q++)
        sac_reservoir_clear(&w->reservoirs[q]);
    scan_blocks(n, w, first, 0, SIZE_MAX / BLOCK);
    for (uint32_t q = 0; q < n->block_queries && first + q < a->query_count; q++) {
        uint32_t count = finish(n, first + q, w, &w->reservoirs[q]);

        sac_keys_write(w->keys, count, a->k, a->out_distance + (first + q) * a->k,
                       a->out_index + (first + q) * a->k);
    }
}

static void scan_rows(void *context, uint32_t task, uint32_t worker)
{
    const struct nearest *n = context;
    size_t first = (size_t)task * n->blocks_per_task;

    scan_blocks(n, &n->workers[worker], n->first_query, first, first + n->blocks_per_task);
}

/* All threads on one block of queries. */
static void scan_split(sac_stream *s, struct nearest *n, uint32_t task_count)
{
    const struct sac_nearest_args *a = n->args;
    uint64_t *keys = n->workers[0].keys;

    for (uint32_t i = 0; i < s->device->threads; i++)
        for (uint32_t q = 0; q < n->block_queries; q++)
            sac_reservoir_clear(&n->workers[i].reservoirs[q]);
    sac_parallel_for(s, task_count, scan_rows, n);
    for (uint32_t q = 0; q < n->block_queries && n->first_query + q < a->query_count; q++) {
        size_t at = (n->first_query + q) * a->k, count = 0;

        for (uint32_t i = 0; i < s->device->threads; i++) {
            struct worker *w = &n->workers[i];
            uint32_t found = finish(n, n->first_query + q, w, &w->reservoirs[q]);

            memmove(keys + count, w->keys, found * sizeof *keys);
            count += found;
        }
        sac_keys_write(keys, count, a->k, a->out_distance + at, a->out_index + at);
    }
}

static sac_status nearest_run(sac_stream *s, const struct sac_nearest_args *a,
                              const struct sac_rows_kernels *kernels, const struct sac_nearest_tiles *tiles)
{
    struct nearest n = {
        .args = a, .kernels = kernels, .tiles = tiles_pay(a) ? tiles : NULL, .products = uses_products(a)};
    size_t blocks = (a->row_count + BLOCK - 1) / BLOCK, task_bytes, query_blocks;
    uint32_t task_count;

    assert(a->k >= 1 && a->row_count < UINT32_MAX);
    if (a->query_count == 0)
        return SAC_OK;
    if (n.products)
        n.products = rows_measure(&n);
    if (!n.products)
        n.tiles = NULL;
    n.block_queries = block_queries(a, n.tiles != NULL);
    if (!workers_take(s, &n))
        return SAC_NO_MEMORY;
    if (n.products)
        products_prepare(&n);
    if (n.tiles != NULL)
        sac_parallel_for(s, (uint32_t)packs_of(a->query_count), pack_queries, &n);
    task_bytes = BLOCK * sac_row_bytes(a->dtype, a->dim);
    n.blocks_per_task = task_bytes < SPLIT_BYTES ? (uint32_t)(SPLIT_BYTES / task_bytes) : 1;
    task_count = (uint32_t)((blocks + n.blocks_per_task - 1) / n.blocks_per_task);
    query_blocks = (a->query_count + n.block_queries - 1) / n.block_queries;
    if (query_blocks >= s->device->threads || task_count < 2) {
        sac_parallel_for(s, (uint32_t)query_blocks, scan_queries, &n);
        return SAC_OK;
    }
    for (; n.first_query < a->query_count; n.first_query += n.block_queries)
        scan_split(s, &n, task_count);
    return SAC_OK;
}

sac_status sac_nearest_run(sac_stream *s, const struct sac_nearest_args *a,
                           const struct sac_rows_kernels *kernels)
{
    return nearest_run(s, a, kernels, NULL);
}

size_t sac_nearest_scratch_cpu(const sac_device *d, const struct sac_nearest_args *a)
{
    return scratch_of(d, a, false);
}

/* Tiles may turn out to be of no use. */
size_t sac_nearest_scratch_amx(const sac_device *d, const struct sac_nearest_args *a)
{
    size_t without = scratch_of(d, a, false), with = tiles_pay(a) ? scratch_of(d, a, true) : 0;

    return with > without ? with : without;
}

sac_status sac_nearest_avx2(sac_stream *s, const struct sac_nearest_args *a)
{
    sac_scratch_reset(s);
    return nearest_run(s, a, &sac_rows_avx2, NULL);
}

sac_status sac_nearest_avx512(sac_stream *s, const struct sac_nearest_args *a)
{
    sac_scratch_reset(s);
    return nearest_run(s, a, &sac_rows_avx512, NULL);
}

sac_status sac_nearest_amx(sac_stream *s, const struct sac_nearest_args *a)
{
    sac_scratch_reset(s);
    return nearest_run(s, a, &sac_rows_avx512, &sac_nearest_tiles_amx);
}
