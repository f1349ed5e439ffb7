/* Searching: a batch is cut into tiles of bounded memory; the queries of a tile share each operation, and
 * each has settings of its own. Whatever finds candidates, their distances to the query are then computed one
 * by one from the stored vectors, so a query's answer does not depend on its batch. */
#include "engine/index_search.h"
#include "engine/recorded.h"
#include "engine/tile.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define TILE_QUERIES 256u          /* on the CPU: few enough for its caches */
#define TILE_QUERIES_LISTS 4096u   /* where lists are decoded for all of them: enough for each to meet many */
#define TILE_QUERIES_DEVICE 16384u /* elsewhere */
#define TILE_QUERIES_CHOSEN 1024u  /* each of which brings a few thousand slots */
#define RECORDED_QUERIES 16u       /* more of them outweigh their launches */
/* Where a query allows no more labels than this, those are compared one by one: no list is read. */
#define CHOSEN_MAX SAC_DEPTH_MAX

/* ---- checking ------------------------------------------------------------------------- */

static sac_status check_query(const sac_index *index, const sac_query *q, size_t i, bool has_row,
                              sac_error *err)
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
    if (q->allow == NULL && q->allow_count != 0)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "query %zu allows %zu labels that are not given", i,
                        q->allow_count);
    if ((q->vector == NULL && !has_row) || q->hits == NULL)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "query %zu has no vector or no room for hits", i);
    return has_row ? SAC_OK : sac_index_check_vector(index, q->vector, "query", i, err);
}

/* Rows that are there already are not pushed: another recording. */
static uint64_t shape_kind(const sac_tile *tile, uint64_t search)
{
    return search << 1 | (tile->rows != NULL);
}

/* ---- exact search ----------------------------------------------------------------------------------- */

/* On one shard. */
struct exact_search {
    const sac_tile *tile;
    uint32_t shard, width;
    const uint64_t *const *filters;
    float *rough, *distance; /* device [n][width]: as the search computed them, and exact */
    uint32_t *slot;          /* device [n][width] */
    sac_span counts;
};

static sac_status prepare_exact(const sac_tile *tile, uint32_t shard, uint32_t width, struct exact_search *s)
{
    sac_workspace *ws = tile->team->ws[shard];
    sac_candidates *found = &tile->found[shard];

    *s = (struct exact_search){.tile = tile, .shard = shard, .width = width};
    s->rough = sac_workspace_device(ws, tile->n * width, sizeof *s->rough);
    if (s->rough == NULL || !sac_candidates_take(ws, tile->n, width, found) ||
        !sac_workspace_span(ws, tile->n, sizeof(uint32_t), &s->counts))
        return sac_workspace_failure(ws);
    s->distance = found->distance.device;
    s->slot = found->slot.device;
    if (tile->team->count > 1) { /* sorted once more, from here */
        s->distance = sac_workspace_device(ws, tile->n * width, sizeof *s->distance);
        s->slot = sac_workspace_device(ws, tile->n * width, sizeof *s->slot);
        if (s->distance == NULL || s->slot == NULL)
            return sac_workspace_failure(ws);
    }
    for (size_t i = 0; i < tile->n; i++)
        ((uint32_t *)s->counts.host)[i] = width;
    return sac_allowed_push(tile->team, shard, tile->allowed, tile->n, &s->filters);
}

/* In the order of their exact distances, for merging. */
static sac_status sort_exact(const struct exact_search *s, const sac_candidates *found)
{
    return sac_run_select(s->tile->team->ws[s->shard],
                          &(struct sac_select_args){.distance = s->distance,
                                                    .index = s->slot,
                                                    .query_count = s->tile->n,
                                                    .stride = s->width,
                                                    .keep = s->width,
                                                    .out_distance = found->distance.device,
                                                    .out_index = found->slot.device});
}

static sac_status submit_exact(void *context)
{
    const struct exact_search *s = context;
    const sac_tile *tile = s->tile;
    const sac_index *index = tile->index;
    const sac_vectors *vectors = &index->shards[s->shard].vectors;
    const float *x = tile->x[s->shard].device;
    sac_workspace *ws = tile->team->ws[s->shard];
    sac_distance distance = sac_index_distance(index);
    sac_status st = sac_span_push(ws, &s->counts);

    if (st == SAC_OK)
        st = sac_tile_push(tile, s->shard);
    if (st == SAC_OK)
        st = sac_vectors_nearest(vectors, ws, distance, tile->n, x, index->labels.live[s->shard].copy,
                                 sac_labels_slots_of(&index->labels, s->shard), s->filters, s->width,
                                 s->rough, s->slot);
    if (st == SAC_OK)
        st = sac_vectors_distances(vectors, ws, distance, tile->n, x, s->slot, s->counts.device, s->width,
                                   s->distance);
    if (st != SAC_OK)
        return st;
    return tile->team->count == 1 ? sac_candidates_fetch(ws, tile->found)
                                  : sort_exact(s, &tile->found[s->shard]);
}

static sac_status exact_pass_on(const sac_tile *tile, uint32_t shard, uint32_t width)
{
    struct exact_search s;
    sac_shape shape = {{shape_kind(tile, 2), sac_index_layout(tile->index, shard), tile->n << 32 | width,
                        sac_labels_slots_of(&tile->index->labels, shard)}};
    sac_status st = prepare_exact(tile, shard, width, &s);

    if (st != SAC_OK)
        return st;
    if (tile->n > RECORDED_QUERIES || s.filters != NULL)
        return submit_exact(&s);
    return sac_submit_recorded(tile->team->ws[shard], &shape, submit_exact, &s);
}

static sac_status exact_pass(sac_tile *tile, uint32_t width, bool *cut)
{
    sac_status st = SAC_OK;

    for (uint32_t s = 0; st == SAC_OK && s < tile->team->count; s++)
        st = exact_pass_on(tile, s, width);
    if (st == SAC_OK)
        st = sac_tile_collect(tile, width);
    *cut = false;
    for (size_t i = 0; st == SAC_OK && i < tile->n; i++)
        *cut = sac_candidates_hits(tile, i, &tile->answer, width) || *cut;
    return st;
}

static sac_status search_exactly(sac_tile *tile)
{
    uint32_t live = tile->index->labels.live_count, limit = live < SAC_DEPTH_MAX ? live : SAC_DEPTH_MAX;
    bool cut = true;
    sac_status st = sac_tile_allow(tile);

    if (st == SAC_OK)
        st = sac_tile_prepare(tile);
    for (uint32_t width = sac_ranking_keep(tile); st == SAC_OK && cut; width *= 4) {
        uint32_t taken = width < limit ? width : limit;
        st = exact_pass(tile, taken, &cut);
        cut = cut && taken < limit;
    }
    return st;
}

/* ---- search among few ------------------------------------------------------------------------------- */

/* On one shard: slots of each query, [n][stride], and how many. */
struct chosen_search {
    sac_span slots, counts;
    sac_ranking ranking;
};

static sac_status prepare_chosen(const sac_tile *tile, uint32_t shard, uint32_t stride,
                                 struct chosen_search *s)
{
    sac_workspace *ws = tile->team->ws[shard];

    if (!sac_workspace_span(ws, tile->n * stride, sizeof(uint32_t), &s->slots) ||
        !sac_workspace_span(ws, tile->n, sizeof(uint32_t), &s->counts))
        return sac_workspace_failure(ws);
    memset(s->counts.host, 0, s->counts.bytes);
    s->ranking = (sac_ranking){
        .stride = stride, .slot = s->slots.device, .counts = s->counts.device, .host_counts = s->counts.host};
    return sac_ranking_prepare(tile, shard, &s->ranking);
}

/* Deals what each query allows to the shards. */
static sac_status choose_rows(const sac_tile *tile, struct chosen_search *searches, uint32_t stride)
{
    uint32_t shards = tile->team->count;
    uint32_t *chosen = sac_workspace_host(tile->team->ws[0], CHOSEN_MAX, sizeof *chosen);

    if (chosen == NULL)
        return sac_workspace_failure(tile->team->ws[0]);
    for (size_t i = 0; i < tile->n; i++) {
        const sac_query *q = tile->queries[i];
        uint32_t count = sac_allowed_slots(&tile->index->labels, q->allow, q->allow_count, chosen);
        for (uint32_t c = 0; c < count; c++) {
            struct chosen_search *s = &searches[chosen[c] % shards];
            uint32_t *have = (uint32_t *)s->counts.host + i;
            ((uint32_t *)s->slots.host)[i * stride + (*have)++] = chosen[c] / shards;
        }
    }
    return SAC_OK;
}

static sac_status submit_chosen(const sac_tile *tile, uint32_t shard, const struct chosen_search *s)
{
    sac_workspace *ws = tile->team->ws[shard];
    sac_status st = sac_span_push(ws, &s->slots);

    if (st == SAC_OK)
        st = sac_span_push(ws, &s->counts);
    if (st == SAC_OK)
        st = sac_tile_push(tile, shard);
    return st == SAC_OK ? sac_ranking_submit(tile, shard, &s->ranking) : st;
}

static sac_status search_chosen(sac_tile *tile)
{
    uint32_t shards = tile->team->count, stride = 1, found;
    struct chosen_search *searches = sac_workspace_host(tile->team->ws[0], shards, sizeof *searches);
    const sac_ranking *rankings[SAC_SHARDS_MAX];
    sac_status st = searches == NULL ? sac_workspace_failure(tile->team->ws[0]) : sac_tile_prepare(tile);

    for (size_t i = 0; i < tile->n; i++)
        if (tile->queries[i]->allow_count > stride)
            stride = (uint32_t)tile->queries[i]->allow_count;
    stride = (stride + 15) / 16 * 16;
    for (uint32_t s = 0; st == SAC_OK && s < shards; s++) {
        st = prepare_chosen(tile, s, stride, &searches[s]);
        rankings[s] = &searches[s].ranking;
    }
    if (st == SAC_OK)
        st = choose_rows(tile, searches, stride);
    for (uint32_t s = 0; st == SAC_OK && s < shards; s++)
        st = submit_chosen(tile, s, &searches[s]);
    if (st == SAC_OK)
        st = sac_tile_collect(tile, sac_ranking_keep(tile));
    for (size_t i = 0; st == SAC_OK && i < tile->n; i++)
        st = sac_ranking_finish(tile, rankings, i, &found);
    return st;
}

/* ---- search by lists -------------------------------------------------------------------------------- */

/* A query that may find one vector in r looks as deep into the lists as one that wants r times as many. Of
 * these each shard looks for its share, but for all that it may find alone. */
static sac_ivf_query plan(const sac_index *index, const sac_query *q, const sac_allowed *allowed)
{
    uint32_t nlist = sac_index_ivf(index)->nlist, live = index->labels.live_count;
    uint64_t spread = allowed == NULL ? q->k : (uint64_t)q->k * live / (allowed->matching + 1);
    float recall = q->recall > 0 ? q->recall : SAC_RECALL_DEFAULT;
    sac_recall_point point = sac_recall_curve_pick(&index->curve, recall, q->k, nlist);
    sac_ivf_query out = {.nprobe = point.nprobe, .reach = point.reach, .depth = point.depth, .need = q->k};

    if (spread > q->k) {
        spread = spread < live ? spread : live;
        out.nprobe = sac_recall_curve_pick(&index->curve, recall, (uint32_t)spread, nlist).nprobe;
        out.reach = 0; /* how far those are that a filter lets through, no distance tells */
        spread = (spread + index->shard_count - 1) / index->shard_count;
        out.need = spread > q->k ? (uint32_t)spread : q->k;
    }
    if (q->nprobe != 0) {
        out.nprobe = q->nprobe < nlist ? q->nprobe : nlist;
        out.reach = 0;
    }
    if (q->no_rescore)
        out.depth = q->k;
    else if (q->depth != 0)
        out.depth = q->depth > q->k ? q->depth : q->k;
    return out;
}

/* A search by lists on one shard: what is known before it is put on the stream, and what comes back. */
struct list_search {
    const sac_tile *tile;
    uint32_t shard;
    sac_ivf_batch batch;
    sac_ranking ranking;
};

static sac_status prepare_lists(const sac_tile *tile, uint32_t shard, uint32_t width, struct list_search *s)
{
    sac_workspace *ws = tile->team->ws[shard];
    sac_ivf_batch *batch = &s->batch;
    sac_status st = sac_ivf_prepare(tile->index->shards[shard].ivf, ws, tile->n, &tile->x[shard], tile->plans,
                                    width, batch);

    if (st != SAC_OK)
        return st;
    s->tile = tile;
    s->shard = shard;
    s->ranking = (sac_ranking){.stride = batch->stride,
                               .slot = batch->slot,
                               .counts = batch->depths,
                               .host_counts = batch->host_depths,
                               .coded = tile->queries[0]->no_rescore ? batch->distance : NULL};
    st = sac_ranking_prepare(tile, shard, &s->ranking);
    return st == SAC_OK ? sac_allowed_push(tile->team, shard, tile->allowed, tile->n, &batch->filters) : st;
}

static sac_status submit_lists(void *context)
{
    struct list_search *s = context;
    const sac_tile *tile = s->tile;
    sac_workspace *ws = tile->team->ws[s->shard];
    sac_status st = sac_tile_push(tile, s->shard);

    if (st == SAC_OK)
        st = sac_ivf_submit(tile->index->shards[s->shard].ivf, ws, &s->batch);
    return st == SAC_OK ? sac_ranking_submit(tile, s->shard, &s->ranking) : st;
}

/* The same, from a recording where the tile is small and nothing of it differs but what is in memory. */
static sac_status submit_lists_or_play(struct list_search *s)
{
    const sac_tile *tile = s->tile;
    const sac_ivf_batch *batch = &s->batch;
    sac_shape shape = {{shape_kind(tile, 1), sac_index_layout(tile->index, s->shard),
                        tile->n << 32 | batch->width,
                        (uint64_t)batch->stride << 32 | tile->found[s->shard].stride,
                        (uint64_t)batch->schedule << 1 | (s->ranking.coded != NULL)}};

    if (tile->n > RECORDED_QUERIES || batch->filters != NULL)
        return submit_lists(s);
    return sac_submit_recorded(tile->team->ws[s->shard], &shape, submit_lists, s);
}

/* The search of one query that probes more lists than one step can choose. */
static sac_status submit_widest(struct list_search *s)
{
    const sac_tile *tile = s->tile;
    sac_workspace *ws = tile->team->ws[s->shard];
    sac_status st = sac_tile_push(tile, s->shard);

    if (st == SAC_OK)
        st = sac_ivf_submit_widest(tile->index->shards[s->shard].ivf, ws, tile->plans, &s->batch);
    return st == SAC_OK ? sac_ranking_submit(tile, s->shard, &s->ranking) : st;
}

/* Whether a query found all that it could: k, or as many as its filter lets through. If not, it is planned
 * anew with four times the lists, however far. */
static bool found_enough(sac_tile *tile, size_t i, uint32_t found)
{
    uint32_t nlist = sac_index_ivf(tile->index)->nlist, wanted = tile->queries[i]->k;
    const sac_allowed *allowed = tile->allowed[i];
    sac_ivf_query *plan = &tile->plans[i];

    if (allowed == NULL || (plan->nprobe == nlist && plan->reach == 0))
        return true;
    if (found >= (allowed->matching < wanted ? allowed->matching : wanted))
        return true;
    plan->nprobe = plan->nprobe < nlist / 4 ? plan->nprobe * 4 : nlist;
    plan->reach = 0;
    tile->replanned = true;
    return false;
}

/* Whether a shard had to stop query i for want of width. */
static bool is_short(const sac_tile *tile, const struct list_search *searches, size_t i)
{
    bool any = false;

    for (uint32_t s = 0; s < tile->team->count; s++)
        any = any || sac_ivf_is_short(tile->index->shards[s].ivf, &searches[s].batch, &tile->plans[i], i);
    return any;
}

/* Takes the hits of the queries that are done; the others become the tile. */
static sac_status finish_lists(sac_tile *tile, const struct list_search *searches, bool widest)
{
    const sac_ranking *rankings[SAC_SHARDS_MAX];
    size_t left = 0;
    sac_status st = SAC_OK;

    for (uint32_t s = 0; s < tile->team->count; s++)
        rankings[s] = &searches[s].ranking;
    tile->replanned = false;
    for (size_t i = 0; st == SAC_OK && i < tile->n; i++) {
        bool done = widest || !is_short(tile, searches, i);
        uint32_t found;
        if (done) {
            st = sac_ranking_finish(tile, rankings, i, &found);
            done = found_enough(tile, i, found);
        }
        if (done)
            continue;
        tile->plans[left] = tile->plans[i];
        tile->allowed[left] = tile->allowed[i];
        tile->queries[left++] = tile->queries[i];
    }
    tile->n = left;
    return st;
}

/* Searches lists on every shard; width 0: as many as one query alone needs. */
static sac_status list_pass(sac_tile *tile, uint32_t width)
{
    const sac_team *team = tile->team;
    struct list_search *searches = sac_workspace_host(team->ws[0], team->count, sizeof *searches);
    sac_status st = searches == NULL ? sac_workspace_failure(team->ws[0]) : sac_tile_prepare(tile);

    for (uint32_t s = 0; st == SAC_OK && s < team->count; s++) {
        st = prepare_lists(tile, s, width, &searches[s]);
        if (st == SAC_OK)
            st = width == 0 ? submit_widest(&searches[s]) : submit_lists_or_play(&searches[s]);
    }
    if (st == SAC_OK)
        st = sac_tile_collect(tile, sac_ranking_keep(tile));
    return st == SAC_OK ? finish_lists(tile, searches, width == 0) : st;
}

/* One query that probes more lists than one step can choose. */
static sac_status search_widest(const sac_tile *tile, size_t i)
{
    sac_workspace_mark marks[SAC_SHARDS_MAX] = {{0}};
    sac_tile one = *tile;
    sac_status st = SAC_OK;

    for (uint32_t s = 0; s < tile->team->count; s++)
        marks[s] = sac_workspace_save(tile->team->ws[s]);
    one.queries += i;
    one.plans += i;
    one.allowed += i;
    one.n = 1;
    while (st == SAC_OK && one.n > 0)
        st = list_pass(&one, 0);
    for (uint32_t s = 0; s < tile->team->count; s++)
        sac_workspace_restore(tile->team->ws[s], marks[s]);
    return st;
}

static sac_status search_lists(sac_tile *tile)
{
    uint32_t width = 1;
    sac_status st = sac_tile_allow(tile);

    tile->plans = sac_workspace_host(tile->team->ws[0], tile->n, sizeof *tile->plans);
    if (st != SAC_OK || tile->plans == NULL)
        return st != SAC_OK ? st : sac_workspace_failure(tile->team->ws[0]);
    for (size_t i = 0; i < tile->n; i++)
        tile->plans[i] = plan(tile->index, tile->queries[i], tile->allowed[i]);
    st = list_pass(tile, width);
    while (st == SAC_OK && tile->n > 0 && (width == 1 || tile->replanned)) {
        width = SAC_PROBES_MAX;
        st = list_pass(tile, width);
    }
    for (size_t i = 0; st == SAC_OK && i < tile->n; i++)
        st = search_widest(tile, i);
    return st;
}

/* ---- batches ---------------------------------------------------------------------------------------- */

/* How a query is searched; a tile holds queries of one kind. */
enum kind { BY_LISTS, BY_CODES, CHOSEN, EXACTLY, KINDS };

static enum kind kind_of(const sac_index *index, const sac_query *q)
{
    if (q->allow != NULL && q->allow_count <= CHOSEN_MAX && !q->no_rescore)
        return CHOSEN;
    if (sac_index_ivf(index) == NULL || q->exact || (q->recall >= 1 && q->nprobe == 0))
        return EXACTLY;
    return q->no_rescore ? BY_CODES : BY_LISTS;
}

/* What one call asks. */
struct call {
    const sac_index *index;
    sac_team team;
    sac_query *queries;
    size_t n;
    const sac_embeddings *rows; /* as in sac_tile */
    size_t limit;               /* queries that a tile may have, after memory was short */
    bool busy;                  /* there are pieces and work of a tile */
};

/* Whether the next n queries, those of a kind, are to be scanned list by list if they are searched together.
 * Not where there are filters: those may send all of them to thousands of lists more, which takes memory. */
static bool list_major(const struct call *c, enum kind kind, size_t next, size_t n)
{
    uint64_t probes = 0;

    for (size_t i = next; i < next + n; i++) {
        if (kind_of(c->index, &c->queries[i]) != kind)
            continue;
        if (c->queries[i].allow != NULL)
            return false;
        probes += plan(c->index, &c->queries[i], NULL).nprobe;
    }
    return sac_ivf_schedule(sac_index_ivf(c->index), probes) == SAC_LIST_MAJOR;
}

/* Queries that a tile may have, the next one being `next`. Long batches are cut into equal parts, so that no
 * list is decoded for a few that are left over. */
static size_t tile_limit(const struct call *c, enum kind kind, size_t next)
{
    size_t left = c->n - next, tiles = (left + TILE_QUERIES_LISTS - 1) / TILE_QUERIES_LISTS;

    if (!sac_device_host_visible(c->index->device))
        return kind == CHOSEN ? TILE_QUERIES_CHOSEN : TILE_QUERIES_DEVICE;
    if (kind < CHOSEN && list_major(c, kind, next, (left + tiles - 1) / tiles))
        return (left + tiles - 1) / tiles;
    return TILE_QUERIES;
}

/* Searches the next tile of those queries of a kind from *next on, and moves *next past it. The index is
 * locked for reading. */
static sac_status search_tile(struct call *c, enum kind kind, size_t limit, size_t *next)
{
    sac_tile tile = {.index = c->index, .team = &c->team, .rows = c->rows, .asked = c->queries};

    limit = limit < c->n ? limit : c->n;
    tile.queries = sac_workspace_host(c->team.ws[0], limit, sizeof(sac_query *));
    if (tile.queries == NULL)
        return sac_workspace_failure(c->team.ws[0]);
    for (; *next < c->n && tile.n < limit; ++*next)
        if (kind_of(c->index, &c->queries[*next]) == kind)
            tile.queries[tile.n++] = &c->queries[*next];
    if (tile.n == 0)
        return SAC_OK;
    c->busy = true;
    return kind == EXACTLY  ? search_exactly(&tile)
           : kind == CHOSEN ? search_chosen(&tile)
                            : search_lists(&tile);
}

static sac_status search_locked(struct call *c, enum kind kind, size_t *next)
{
    const sac_index *index = c->index;
    size_t first = *next, most;
    sac_status st;

    if (!index->trained && !index->spec.automatic)
        return sac_fail(c->team.ws[0]->err, SAC_INVALID_ARGUMENT,
                        "the index is not trained: train it and add vectors first");
    if (index->labels.live_count == 0 || (kind < CHOSEN && sac_index_ivf(index) == NULL)) {
        *next = c->n;
        return c->rows != NULL && kind == EXACTLY ? sac_rows_wait(&c->team, c->rows) : SAC_OK;
    }
    most = tile_limit(c, kind, *next);
    most = most < c->limit ? most : c->limit;
    st = search_tile(c, kind, most, next);
    if (most > 1 && (st == SAC_DEVICE_MEMORY || st == SAC_NO_MEMORY)) { /* again, with half as many */
        c->limit = (most < c->n ? most : c->n) / 2;
        *next = first;
        return SAC_OK;
    }
    return st;
}

/* Kinds that some query may be of, whatever the index holds: bit 1 << kind. */
static unsigned kinds_of(const sac_query *queries, size_t n)
{
    unsigned kinds = 1u << BY_LISTS | 1u << EXACTLY;

    for (size_t i = 0; i < n; i++)
        kinds |= (unsigned)queries[i].no_rescore << BY_CODES | (unsigned)(queries[i].allow != NULL) << CHOSEN;
    return kinds;
}

/* Whatever comes now, no stream is waited for before the rows are there. */
static sac_status await_rows(const struct call *c)
{
    sac_status st = SAC_OK;

    for (uint32_t s = 0; st == SAC_OK && c->rows != NULL && s < c->team.count; s++)
        st = sac_stream_await(c->team.ws[s]->stream, c->rows->ready);
    return st == SAC_OK
               ? SAC_OK
               : sac_fail(c->team.ws[0]->err, st, "cannot wait for embeddings: %s", sac_status_text(st));
}

static sac_status search(sac_index *index, sac_query *queries, size_t n, const sac_embeddings *rows,
                         sac_error *err)
{
    struct call c = {.index = index, .queries = queries, .n = n, .rows = rows, .limit = SIZE_MAX};
    unsigned kinds = kinds_of(queries, n);
    sac_status st = SAC_OK;

    for (size_t i = 0; st == SAC_OK && i < n; i++) {
        queries[i].hit_count = 0;
        st = check_query(index, &queries[i], i, rows != NULL, err);
    }
    if (st == SAC_OK)
        st = sac_index_team(index, &c.team, err);
    if (st != SAC_OK)
        return st;
    st = await_rows(&c);
    for (enum kind kind = 0; kind < KINDS; kind++)
        for (size_t next = (kinds >> kind & 1) != 0 ? 0 : n; st == SAC_OK && next < n;) {
            pthread_rwlock_rdlock(&index->lock);
            st = search_locked(&c, kind, &next);
            pthread_rwlock_unlock(&index->lock);
            if (c.busy) /* else a reset would wait for rows, and the next kind has not begun */
                sac_team_reset(&c.team);
            c.busy = false;
        }
    sac_team_give_back(&c.team);
    return st;
}

/* ---- public ----------------------------------------------------------------------------------------- */

sac_status sac_index_search(const sac_index *index, sac_query *queries, size_t n, sac_error *err)
{
    return search((sac_index *)index, queries, n, NULL, err); /* for its locks and idle workspaces only */
}

sac_status sac_index_search_rows(const sac_index *index, sac_query *queries, size_t n,
                                 const sac_embeddings *rows, sac_error *err)
{
    sac_status st;

    assert(rows->dim == index->dim && rows->n >= n);
    if (!sac_device_host_visible(rows->device))
        return search((sac_index *)index, queries, n, rows, err);
    st = sac_rows_check(*rows->spoiled, err);
    for (size_t i = 0; i < n; i++)
        queries[i].vector = rows->rows + i * rows->dim;
    return st == SAC_OK ? sac_index_search(index, queries, n, err) : st;
}

void sac_query_init(sac_query *query)
{
    *query = (sac_query){.k = 10, .score_threshold = -INFINITY};
}
