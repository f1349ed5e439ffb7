/* Searching: a batch is cut into tiles of bounded memory; the queries of a tile share each operation, and
 * each has settings of its own. Whatever finds candidates, their distances to the query are then computed one
 * by one from the stored vectors, so a query's answer does not depend on its batch. */
#include "engine/hits.h"
#include "engine/index_state.h"

#include <math.h>
#include <string.h>

#define TILE_QUERIES 256u
#define TILE_TABLE_BYTES ((size_t)16 << 20)
/* An exact search asks for a few more than k, so that rounding inside a batch cannot push a hit out, and for
 * more where the last of them are equally far: then labels decide, which kernels do not see. */
#define EXACT_SPARE 16u

struct tile {
    const sac_index *index;
    sac_workspace *ws;
    sac_query **queries;
    size_t n;
    sac_span x; /* [n][dim], prepared */
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
        return SAC_NO_MEMORY;
    for (size_t i = 0; i < tile->n; i++)
        sac_index_copy_vector(tile->index, tile->queries[i]->vector, (float *)tile->x.host + i * dim);
    return sac_span_push(tile->ws, &tile->x);
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

static sac_status exact_distances(const struct tile *tile, const sac_span *slots, const uint32_t *counts,
                                  sac_span *out)
{
    sac_status st;

    if (!sac_workspace_span(tile->ws, slots->bytes / sizeof(uint32_t), sizeof(float), out))
        return SAC_NO_MEMORY;
    st = sac_vectors_distances(&tile->index->vectors, tile->ws, sac_index_distance(tile->index), tile->n,
                               tile->x.device, slots->device, counts, out->device);
    return st == SAC_OK ? sac_span_pull(tile->ws, out) : st;
}

/* ---- exact search ----------------------------------------------------------------------------------- */

/* Whether the k-th hit is as far as the last candidate, so that others, not looked at, may be as near. */
static bool cut_in_a_tie(const struct tile *tile, size_t i, float last)
{
    sac_query *query = tile->queries[i];
    sac_hits hits = sac_hits_open(query, tile->index->metric);

    return query->hit_count == query->k &&
           query->hits[query->k - 1].distance >= sac_hits_distance(&hits, last);
}

static sac_status exact_pass(const struct tile *tile, uint32_t width, bool *cut)
{
    const sac_index *index = tile->index;
    uint32_t *counts = sac_workspace_host(tile->ws, tile->n, sizeof *counts);
    sac_span distance, slot, exact;
    sac_status st;

    if (counts == NULL || !sac_workspace_span(tile->ws, tile->n * width, sizeof(float), &distance) ||
        !sac_workspace_span(tile->ws, tile->n * width, sizeof(uint32_t), &slot))
        return SAC_NO_MEMORY;
    for (size_t i = 0; i < tile->n; i++)
        counts[i] = width;
    st = sac_vectors_nearest(&index->vectors, tile->ws, sac_index_distance(index), tile->n, tile->x.device,
                             index->labels.slot_count, index->labels.live, width, &distance, &slot);
    if (st == SAC_OK)
        st = exact_distances(tile, &slot, counts, &exact);
    *cut = false;
    for (size_t i = 0; st == SAC_OK && i < tile->n; i++) {
        const float *distances = (const float *)exact.host + i * width;
        take_hits(tile, i, (const uint32_t *)slot.host + i * width, distances, width);
        *cut = *cut || cut_in_a_tie(tile, i, distances[width - 1]);
    }
    return st;
}

static sac_status search_exactly(const struct tile *tile)
{
    uint32_t live = tile->index->labels.live_count, limit = live < SAC_DEPTH_MAX ? live : SAC_DEPTH_MAX;
    uint32_t width = 0;
    bool cut = true;
    sac_status st = SAC_OK;

    for (size_t i = 0; i < tile->n; i++)
        width = tile->queries[i]->k > width ? tile->queries[i]->k : width;
    for (width += EXACT_SPARE; st == SAC_OK && cut; width *= 4) {
        uint32_t taken = width < limit ? width : limit;
        sac_workspace_mark mark = sac_workspace_save(tile->ws);
        st = exact_pass(tile, taken, &cut);
        sac_workspace_restore(tile->ws, mark);
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

/* The distance of codes as answers show it: unit vectors are coded by L2, |q - x|^2 = 2 - 2 q.x. */
static void show_coded_distances(const sac_index *index, float *distances, size_t count)
{
    if (index->metric == SAC_METRIC_COSINE)
        for (size_t c = 0; c < count; c++)
            distances[c] = 0.5f * distances[c] - 1;
}

static sac_status search_lists(const struct tile *tile)
{
    const sac_index *index = tile->index;
    sac_ivf_query *plans = sac_workspace_host(tile->ws, tile->n, sizeof *plans);
    sac_ivf_candidates found;
    sac_span exact = {0};
    bool rescore = false;
    sac_status st;

    if (plans == NULL)
        return SAC_NO_MEMORY;
    for (size_t i = 0; i < tile->n; i++) {
        plans[i] = plan(index, tile->queries[i]);
        rescore = rescore || !tile->queries[i]->no_rescore;
    }
    st = sac_ivf_search(index->ivf, tile->ws, tile->n, &tile->x, plans, &found);
    if (st == SAC_OK && rescore)
        st = exact_distances(tile, &found.slot, found.counts, &exact);
    if (st == SAC_OK)
        st = sac_span_pull(tile->ws, &found.slot);
    if (st == SAC_OK)
        st = sac_span_pull(tile->ws, &found.distance);
    for (size_t i = 0; st == SAC_OK && i < tile->n; i++) {
        bool coded = tile->queries[i]->no_rescore;
        float *distances = (float *)(coded ? found.distance.host : exact.host) + plans[i].at;
        if (coded)
            show_coded_distances(index, distances, plans[i].depth);
        take_hits(tile, i, (const uint32_t *)found.slot.host + plans[i].at, distances, plans[i].depth);
    }
    return st;
}

/* ---- batches ---------------------------------------------------------------------------------------- */

static bool wants_exact(const sac_index *index, const sac_query *q)
{
    return index->ivf == NULL || q->exact || (q->recall >= 1 && q->nprobe == 0);
}

/* Searches the next tile of those queries from *next on that are (not) to be searched exactly, and moves
 * *next past it. The index is locked for reading. */
static sac_status search_tile(const sac_index *index, sac_workspace *ws, sac_query *queries, size_t n,
                              bool exact, size_t *next)
{
    struct tile tile = {.index = index, .ws = ws};
    size_t limit = TILE_QUERIES;
    sac_status st;

    if (!exact && TILE_TABLE_BYTES / sac_ivf_table_bytes(index->ivf) < limit)
        limit = TILE_TABLE_BYTES / sac_ivf_table_bytes(index->ivf);
    limit = limit < n ? limit : n;
    tile.queries = sac_workspace_host(ws, limit + 1, sizeof(sac_query *));
    if (tile.queries == NULL)
        return SAC_NO_MEMORY;
    for (; *next < n && tile.n < limit + (limit == 0); ++*next)
        if (wants_exact(index, &queries[*next]) == exact)
            tile.queries[tile.n++] = &queries[*next];
    if (tile.n == 0)
        return SAC_OK;
    st = prepare(&tile);
    if (st == SAC_OK)
        st = exact ? search_exactly(&tile) : search_lists(&tile);
    return st;
}

static sac_status search_locked(const sac_index *index, sac_workspace *ws, sac_query *queries, size_t n,
                                bool exact, size_t *next)
{
    if (!index->trained && !index->spec.automatic)
        return sac_fail(ws->err, SAC_INVALID_ARGUMENT,
                        "the index is not trained: train it and add vectors first");
    if (index->labels.live_count == 0 || (!exact && index->ivf == NULL)) {
        *next = n;
        return SAC_OK;
    }
    return search_tile(index, ws, queries, n, exact, next);
}

sac_status sac_index_search(const sac_index *shared, sac_query *queries, size_t n, sac_error *err)
{
    sac_index *index = (sac_index *)shared; /* for its locks and idle workspaces only */
    sac_workspace *ws;
    sac_status st = SAC_OK;

    for (size_t i = 0; st == SAC_OK && i < n; i++) {
        queries[i].hit_count = 0;
        st = check_query(index, &queries[i], i, err);
    }
    if (st == SAC_OK)
        st = sac_workspace_borrow(&index->workspaces, &ws, err);
    if (st != SAC_OK)
        return st;
    for (int exact = 0; exact <= 1; exact++)
        for (size_t next = 0; st == SAC_OK && next < n;) {
            pthread_rwlock_rdlock(&index->lock);
            st = search_locked(index, ws, queries, n, exact, &next);
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
