/* Search among few: what a query allows is re-ranked as it is. */
#include "engine/search.h"

#include <string.h>

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
    uint32_t *chosen = sac_workspace_host(tile->team->ws[0], SAC_CHOSEN_MAX, sizeof *chosen);

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

sac_status sac_search_chosen(sac_tile *tile)
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
