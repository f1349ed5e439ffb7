/* Searching: a batch is cut into tiles of bounded memory; the queries of a tile share each operation, and
 * each has settings of its own. Whatever finds candidates, their distances to the query are then computed one
 * by one from the stored vectors, so a query's answer does not depend on its batch.
 *
 * A tile's work is put on the stream as a whole and waited for once. Where device memory is the host's, hits
 * are taken from the candidates; elsewhere candidates are cut on the device to a few more than k before they
 * cross the bus. Only what is rare waits again: a query whose lists hold too little, or whose last hits are
 * equally far, is looked at once more. */
#include "engine/hits.h"
#include "engine/index_state.h"

#include <math.h>
#include <string.h>

#define TILE_QUERIES 256u          /* on the CPU: few enough for its caches */
#define TILE_QUERIES_DEVICE 16384u /* elsewhere: enough for each list to meet many queries */
/* A few more than k are asked for, so that rounding inside a batch cannot push a hit out, and for more where
 * the last of them are equally far: then labels decide, which kernels do not see. */
#define SPARE 16u

struct tile {
    const sac_index *index;
    sac_workspace *ws;
    sac_query **queries;
    sac_ivf_query *plans; /* [n]; of a search by lists */
    size_t n;
    sac_span x; /* [n][dim]: scaled where the metric asks for it, on the host */
};

/* ---- checking and preparing ------------------------------------------------------------------------- */

static sac_status check_query(const sac_index *index, const sac_query *q, size_t i, sac_error *err)
{
    if (q->k < 1 || q->k > SAC_K_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "query %zu: k=%u; use 1 to %u", i, q->k, SAC_K_MAX);
    if (!(q->recall >= 0 && q->recall <= 1))
        return sac_fail(err, SAC_INVALID_ARGUMENT, "query %zu: recall=%g; use a number up to 1", i,
                        (double)q->recall);
    if (q->depth > SAC_DEPTH_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "query %zu: depth=%u; at most %u candidates are re-ranked",
                        i, q->depth, SAC_DEPTH_MAX);
    if (isnan(q->score_threshold))
        return sac_fail(err, SAC_INVALID_ARGUMENT, "query %zu: the score threshold is not a number", i);
    if (q->vector == NULL || q->hits == NULL)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "query %zu has no vector or no room for hits", i);
    return sac_index_check_vector(index, q->vector, "query", i, err);
}

static sac_status prepare(struct tile *tile)
{
    uint32_t dim = tile->index->dim;

    if (!sac_workspace_span(tile->ws, tile->n, dim * sizeof(float), &tile->x))
        return tile->ws->status;
    for (size_t i = 0; i < tile->n; i++)
        sac_index_copy_vector(tile->index, tile->queries[i]->vector, (float *)tile->x.host + i * dim);
    return SAC_OK;
}

static uint32_t k_max(const struct tile *tile)
{
    uint32_t k = 0;

    for (size_t i = 0; i < tile->n; i++)
        k = tile->queries[i]->k > k ? tile->queries[i]->k : k;
    return k;
}

/* ---- candidates to hits ----------------------------------------------------------------------------- */

static void take_hits(const struct tile *tile, size_t i, const uint32_t *slots, const float *distances,
                      size_t count)
{
    sac_hits hits = sac_hits_open(tile->queries[i], tile->index->metric);

    for (size_t c = 0; c < count && slots[c] != SAC_NO_SLOT; c++)
        sac_hits_offer(&hits, &tile->index->labels, slots[c], distances[c]);
    sac_hits_close(&hits, tile->queries[i]);
}

/* Whether the k-th hit is as far as the last candidate, so that others, not looked at, may be as near. */
static bool cut_in_a_tie(const struct tile *tile, size_t i, float last)
{
    sac_query *query = tile->queries[i];
    sac_hits hits = sac_hits_open(query, tile->index->metric);

    return query->hit_count == query->k &&
           query->hits[query->k - 1].distance >= sac_hits_distance(&hits, last);
}

/* Candidates of a tile, [n][stride]: the piece that the device has and the one that the host gets. */
struct candidates {
    sac_span distance, slot;
    uint32_t stride;
};

static bool take_candidates(const struct tile *tile, uint32_t stride, struct candidates *out)
{
    out->stride = stride;
    return sac_workspace_span(tile->ws, tile->n * stride, sizeof(float), &out->distance) &&
           sac_workspace_span(tile->ws, tile->n * stride, sizeof(uint32_t), &out->slot);
}

static sac_status fetch(const struct tile *tile, const struct candidates *found)
{
    sac_status st = sac_span_fetch(tile->ws, &found->distance);

    return st == SAC_OK ? sac_span_fetch(tile->ws, &found->slot) : st;
}

static const float *distances_of(const struct candidates *found, size_t i)
{
    return (const float *)found->distance.host + i * found->stride;
}

static const uint32_t *slots_of(const struct candidates *found, size_t i)
{
    return (const uint32_t *)found->slot.host + i * found->stride;
}

/* ---- exact search ----------------------------------------------------------------------------------- */

static sac_status exact_pass(const struct tile *tile, uint32_t width, bool *cut)
{
    const sac_index *index = tile->index;
    sac_distance distance = sac_index_distance(index);
    float *rough = sac_workspace_device(tile->ws, tile->n * width, sizeof *rough);
    struct candidates found;
    sac_span counts;
    sac_status st;

    if (rough == NULL || !take_candidates(tile, width, &found) ||
        !sac_workspace_span(tile->ws, tile->n, sizeof(uint32_t), &counts))
        return tile->ws->status;
    for (size_t i = 0; i < tile->n; i++)
        ((uint32_t *)counts.host)[i] = width;
    st = sac_span_push(tile->ws, &counts);
    if (st == SAC_OK)
        st = sac_span_push(tile->ws, &tile->x);
    if (st == SAC_OK)
        st = sac_vectors_nearest(&index->vectors, tile->ws, distance, tile->n, tile->x.device, &index->labels,
                                 NULL, width, rough, found.slot.device);
    if (st == SAC_OK)
        st = sac_vectors_distances(&index->vectors, tile->ws, distance, tile->n, tile->x.device,
                                   found.slot.device, counts.device, width, found.distance.device);
    if (st == SAC_OK)
        st = fetch(tile, &found);
    if (st == SAC_OK)
        st = sac_workspace_wait(tile->ws);
    *cut = false;
    for (size_t i = 0; st == SAC_OK && i < tile->n; i++) {
        take_hits(tile, i, slots_of(&found, i), distances_of(&found, i), width);
        *cut = *cut || cut_in_a_tie(tile, i, distances_of(&found, i)[width - 1]);
    }
    return st;
}

static sac_status search_exactly(const struct tile *tile)
{
    uint32_t live = tile->index->labels.live_count, limit = live < SAC_DEPTH_MAX ? live : SAC_DEPTH_MAX;
    bool cut = true;
    sac_status st = SAC_OK;

    for (uint32_t width = k_max(tile) + SPARE; st == SAC_OK && cut; width *= 4) {
        uint32_t taken = width < limit ? width : limit;
        st = exact_pass(tile, taken, &cut);
        cut = cut && taken < limit;
    }
    return st;
}

/* ---- search by lists -------------------------------------------------------------------------------- */

static sac_ivf_query plan(const sac_index *index, const sac_query *q)
{
    sac_ivf_query out = {.need = q->k};
    uint32_t nlist = index->ivf->nlist;

    sac_recall_curve_pick(&index->curve, q->recall > 0 ? q->recall : SAC_RECALL_DEFAULT, q->k, nlist,
                          &out.nprobe, &out.depth);
    if (q->nprobe != 0)
        out.nprobe = q->nprobe < nlist ? q->nprobe : nlist;
    if (q->no_rescore)
        out.depth = q->k;
    else if (q->depth != 0)
        out.depth = q->depth > q->k ? q->depth : q->k;
    return out;
}

/* A search by lists: what is known before it is put on the stream, and what comes back. */
struct list_search {
    sac_ivf_batch batch;
    bool coded;              /* distances are those of codes */
    float *exact;            /* device [n][batch.stride], where they are not */
    struct candidates found; /* of each query the nearest, all or a few more than k */
};

static sac_status prepare_lists(const struct tile *tile, uint32_t width, struct list_search *s)
{
    bool visible = sac_device_host_visible(tile->index->device);
    uint32_t keep = k_max(tile) + SPARE;
    sac_status st =
        sac_ivf_prepare(tile->index->ivf, tile->ws, tile->n, &tile->x, tile->plans, width, &s->batch);

    if (st != SAC_OK)
        return st;
    s->coded = tile->queries[0]->no_rescore;
    s->exact = s->batch.distance;
    if (!s->coded)
        s->exact = sac_workspace_device(tile->ws, tile->n * s->batch.stride, sizeof *s->exact);
    if (s->exact == NULL)
        return tile->ws->status;
    if (!visible)
        return take_candidates(tile, keep < s->batch.stride ? keep : s->batch.stride, &s->found)
                   ? SAC_OK
                   : tile->ws->status;
    s->found = (struct candidates){.distance = {s->exact, s->exact, 0},
                                   .slot = {s->batch.slot, s->batch.slot, 0},
                                   .stride = s->batch.stride};
    return SAC_OK;
}

/* Everything behind the scan: distances from stored vectors, and the cut. */
static sac_status submit_ranking(const struct tile *tile, const struct list_search *s)
{
    const sac_index *index = tile->index;
    const sac_ivf_batch *batch = &s->batch;
    sac_status st = SAC_OK;

    if (!s->coded)
        st = sac_vectors_distances(&index->vectors, tile->ws, sac_index_distance(index), tile->n,
                                   tile->x.device, batch->slot, batch->depths, batch->stride, s->exact);
    if (st == SAC_OK && s->found.slot.device != batch->slot)
        st = sac_run_select(tile->ws, &(struct sac_select_args){.distance = s->exact,
                                                                .index = batch->slot,
                                                                .query_count = tile->n,
                                                                .counts = batch->depths,
                                                                .stride = batch->stride,
                                                                .keep = s->found.stride,
                                                                .out_distance = s->found.distance.device,
                                                                .out_index = s->found.slot.device});
    return st == SAC_OK ? fetch(tile, &s->found) : st;
}

static sac_status submit_lists(const struct tile *tile, struct list_search *s)
{
    sac_status st = sac_span_push(tile->ws, &tile->x);

    if (st == SAC_OK)
        st = sac_ivf_submit(tile->index->ivf, tile->ws, &s->batch);
    return st == SAC_OK ? submit_ranking(tile, s) : st;
}

static uint32_t depth_of(const struct tile *tile, size_t i)
{
    return (tile->plans[i].depth + 15) / 16 * 16;
}

/* The distance of codes as answers show it: unit vectors are coded by L2, |q - x|^2 = 2 - 2 q.x. */
static void take_found(const struct tile *tile, bool coded, size_t i, const struct candidates *found)
{
    uint32_t count = depth_of(tile, i) < found->stride ? depth_of(tile, i) : found->stride;
    float *distances = (float *)found->distance.host + i * found->stride;

    if (coded && tile->index->metric == SAC_METRIC_COSINE)
        for (uint32_t c = 0; c < count; c++)
            distances[c] = 0.5f * distances[c] - 1;
    take_hits(tile, i, slots_of(found, i), distances, count);
}

/* All candidates of one query, where the cut went through a tie. */
static sac_status take_all(const struct tile *tile, const struct list_search *s, size_t i)
{
    size_t at = i * s->batch.stride;
    struct tile one = *tile;
    struct candidates all;
    sac_status st;

    one.queries += i;
    one.plans += i;
    one.n = 1;
    if (!take_candidates(&one, s->batch.stride, &all))
        return tile->ws->status;
    all.distance.device = s->exact + at;
    all.slot.device = s->batch.slot + at;
    st = fetch(&one, &all);
    if (st == SAC_OK)
        st = sac_workspace_wait(one.ws);
    if (st == SAC_OK)
        take_found(&one, s->coded, 0, &all);
    return st;
}

/* Takes the hits of the queries that are done; the others become the tile. */
static sac_status finish_lists(struct tile *tile, const struct list_search *s, bool widest)
{
    size_t left = 0;
    sac_status st = SAC_OK;

    for (size_t i = 0; st == SAC_OK && i < tile->n; i++) {
        if (!widest && sac_ivf_is_short(tile->index->ivf, &s->batch, &tile->plans[i], i)) {
            tile->plans[left] = tile->plans[i];
            tile->queries[left++] = tile->queries[i];
            continue;
        }
        take_found(tile, s->coded, i, &s->found);
        if (s->found.stride < s->batch.stride &&
            cut_in_a_tie(tile, i, distances_of(&s->found, i)[s->found.stride - 1]))
            st = take_all(tile, s, i);
    }
    tile->n = left;
    return st;
}

/* Queries, one by one, that probe more lists than one step can choose. */
static sac_status search_widest(const struct tile *tile)
{
    sac_status st = SAC_OK;

    for (size_t i = 0; st == SAC_OK && i < tile->n; i++) {
        sac_workspace_mark mark = sac_workspace_save(tile->ws);
        struct tile one = *tile;
        struct list_search s = {0};

        one.queries += i;
        one.plans += i;
        one.n = 1;
        st = prepare(&one);
        if (st == SAC_OK)
            st = prepare_lists(&one, 0, &s);
        if (st == SAC_OK)
            st = sac_span_push(one.ws, &one.x);
        if (st == SAC_OK)
            st = sac_ivf_submit_widest(one.index->ivf, one.ws, one.plans, &s.batch);
        if (st == SAC_OK)
            st = submit_ranking(&one, &s);
        if (st == SAC_OK)
            st = sac_workspace_wait(one.ws);
        if (st == SAC_OK)
            st = finish_lists(&one, &s, true);
        sac_workspace_restore(tile->ws, mark);
    }
    return st;
}

static sac_status list_pass(struct tile *tile, uint32_t width)
{
    struct list_search s = {0};
    sac_status st = prepare(tile);

    if (st == SAC_OK)
        st = prepare_lists(tile, width, &s);
    if (st == SAC_OK)
        st = submit_lists(tile, &s);
    if (st == SAC_OK)
        st = sac_workspace_wait(tile->ws);
    return st == SAC_OK ? finish_lists(tile, &s, false) : st;
}

static sac_status search_lists(struct tile *tile)
{
    sac_status st;

    tile->plans = sac_workspace_host(tile->ws, tile->n, sizeof *tile->plans);
    if (tile->plans == NULL)
        return tile->ws->status;
    for (size_t i = 0; i < tile->n; i++)
        tile->plans[i] = plan(tile->index, tile->queries[i]);
    st = list_pass(tile, 1);
    if (st == SAC_OK && tile->n > 0)
        st = list_pass(tile, SAC_PROBES_MAX);
    return st == SAC_OK ? search_widest(tile) : st;
}

/* ---- batches ---------------------------------------------------------------------------------------- */

/* How a query is searched; a tile holds queries of one kind. */
enum kind { BY_LISTS, BY_CODES, EXACTLY, KINDS };

static enum kind kind_of(const sac_index *index, const sac_query *q)
{
    if (index->ivf == NULL || q->exact || (q->recall >= 1 && q->nprobe == 0))
        return EXACTLY;
    return q->no_rescore ? BY_CODES : BY_LISTS;
}

/* Queries that fit a tile. */
static size_t tile_limit(const sac_index *index, const sac_workspace *ws, enum kind kind)
{
    size_t limit = sac_device_host_visible(index->device) ? TILE_QUERIES : TILE_QUERIES_DEVICE, tables;

    if (kind == EXACTLY)
        return limit;
    tables = ws->share / 4 / sac_ivf_table_bytes(index->ivf) + 1;
    return tables < limit ? tables : limit;
}

/* Searches the next tile of those queries of a kind from *next on, and moves *next past it. The index is
 * locked for reading. */
static sac_status search_tile(const sac_index *index, sac_workspace *ws, sac_query *queries, size_t n,
                              enum kind kind, size_t limit, size_t *next)
{
    struct tile tile = {.index = index, .ws = ws};
    sac_status st;

    limit = limit < n ? limit : n;
    tile.queries = sac_workspace_host(ws, limit, sizeof(sac_query *));
    if (tile.queries == NULL)
        return ws->status;
    for (; *next < n && tile.n < limit; ++*next)
        if (kind_of(index, &queries[*next]) == kind)
            tile.queries[tile.n++] = &queries[*next];
    if (tile.n == 0)
        return SAC_OK;
    if (kind != EXACTLY)
        return search_lists(&tile);
    st = prepare(&tile);
    return st == SAC_OK ? search_exactly(&tile) : st;
}

static sac_status search_locked(const sac_index *index, sac_workspace *ws, sac_query *queries, size_t n,
                                enum kind kind, size_t *limit, size_t *next)
{
    size_t first = *next, most;
    sac_status st;

    if (!index->trained && !index->spec.automatic)
        return sac_fail(ws->err, SAC_INVALID_ARGUMENT,
                        "the index is not trained: train it and add vectors first");
    if (index->labels.live_count == 0 || (kind != EXACTLY && index->ivf == NULL)) {
        *next = n;
        return SAC_OK;
    }
    most = tile_limit(index, ws, kind);
    most = most < *limit ? most : *limit;
    st = search_tile(index, ws, queries, n, kind, most, next);
    if (most > 1 && (st == SAC_DEVICE_MEMORY || st == SAC_NO_MEMORY)) { /* again, with half as many */
        *limit = (most < n ? most : n) / 2;
        *next = first;
        return SAC_OK;
    }
    return st;
}

sac_status sac_index_search(const sac_index *shared, sac_query *queries, size_t n, sac_error *err)
{
    sac_index *index = (sac_index *)shared; /* for its locks and idle workspaces only */
    sac_workspace *ws;
    size_t limit = SIZE_MAX;
    sac_status st = SAC_OK;

    for (size_t i = 0; st == SAC_OK && i < n; i++) {
        queries[i].hit_count = 0;
        st = check_query(index, &queries[i], i, err);
    }
    if (st == SAC_OK)
        st = sac_workspace_borrow(&index->workspaces, &ws, err);
    if (st != SAC_OK)
        return st;
    for (enum kind kind = 0; kind < KINDS; kind++)
        for (size_t next = 0; st == SAC_OK && next < n;) {
            pthread_rwlock_rdlock(&index->lock);
            st = search_locked(index, ws, queries, n, kind, &limit, &next);
            pthread_rwlock_unlock(&index->lock);
            sac_workspace_reset(ws);
        }
    sac_workspace_give_back(&index->workspaces, ws);
    return st;
}

void sac_query_init(sac_query *query)
{
    *query = (sac_query){.k = 10, .score_threshold = -INFINITY};
}
