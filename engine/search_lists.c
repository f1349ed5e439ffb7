/* Search by lists: a plan for each query, a scan of its lists, exact distances of what that found; a query
 * that found too little looks at more. */
#include "engine/recorded.h"
#include "engine/search.h"

/* A query that may find one vector in r looks as deep into the lists as one that wants r times as many. Of
 * these each shard looks for its share, but for all that it may find alone. */
sac_ivf_query sac_search_plan(const sac_index *index, const sac_query *q, const sac_allowed *allowed)
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
    sac_shape shape = {{sac_search_shape(tile, 1), sac_index_layout(tile->index, s->shard),
                        tile->n << 32 | batch->width,
                        (uint64_t)batch->stride << 32 | tile->found[s->shard].stride,
                        (uint64_t)batch->schedule << 1 | (s->ranking.coded != NULL)}};

    if (tile->n > SAC_RECORDED_QUERIES || batch->filters != NULL)
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

sac_status sac_search_lists(sac_tile *tile)
{
    uint32_t width = 1;
    sac_status st = sac_tile_allow(tile);

    tile->plans = sac_workspace_host(tile->team->ws[0], tile->n, sizeof *tile->plans);
    if (st != SAC_OK || tile->plans == NULL)
        return st != SAC_OK ? st : sac_workspace_failure(tile->team->ws[0]);
    for (size_t i = 0; i < tile->n; i++)
        tile->plans[i] = sac_search_plan(tile->index, tile->queries[i], tile->allowed[i]);
    st = list_pass(tile, width);
    while (st == SAC_OK && tile->n > 0 && (width == 1 || tile->replanned)) {
        width = SAC_PROBES_MAX;
        st = list_pass(tile, width);
    }
    for (size_t i = 0; st == SAC_OK && i < tile->n; i++)
        st = search_widest(tile, i);
    return st;
}
