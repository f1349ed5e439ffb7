#include "engine/tile.h"

static const uint32_t *slots_of(const sac_candidates *found, size_t i)
{
    return (const uint32_t *)found->slot.host + i * found->stride;
}

bool sac_candidates_hits(const sac_tile *tile, size_t i, const sac_candidates *found, uint32_t count)
{
    const uint32_t *slots = slots_of(found, i);
    const float *distances = (const float *)found->distance.host + i * found->stride;
    sac_query *query = tile->queries[i];
    sac_hits hits = sac_hits_open(query, tile->index->metric);

    for (uint32_t c = 0; c < count && slots[c] != SAC_NO_SLOT; c++)
        sac_hits_offer(&hits, &tile->index->labels, slots[c], distances[c]);
    sac_hits_close(&hits, query);
    return query->hit_count == query->k && count > 0 &&
           query->hits[query->k - 1].distance >= sac_hits_distance(&hits, distances[count - 1]);
}

/* ---- from the device to the host -------------------------------------------------------------------- */

sac_status sac_ranking_prepare(const sac_tile *tile, uint32_t shard, sac_ranking *ranking)
{
    sac_workspace *ws = tile->team->ws[shard];
    uint32_t keep = sac_ranking_keep(tile);

    ranking->distance = ranking->coded;
    if (ranking->coded == NULL)
        ranking->distance = sac_workspace_device(ws, tile->n * ranking->stride, sizeof(float));
    if (ranking->distance == NULL)
        return sac_workspace_failure(ws);
    if (tile->team->count == 1 && sac_device_host_visible(ws->device)) {
        tile->found[shard] = (sac_candidates){.distance = {ranking->distance, ranking->distance, 0},
                                              .slot = {ranking->slot, ranking->slot, 0},
                                              .stride = ranking->stride};
        return SAC_OK;
    }
    keep = keep < ranking->stride ? keep : ranking->stride;
    return sac_candidates_take(ws, tile->n, keep, &tile->found[shard]) ? SAC_OK : sac_workspace_failure(ws);
}

sac_status sac_ranking_submit(const sac_tile *tile, uint32_t shard, const sac_ranking *ranking)
{
    const sac_candidates *found = &tile->found[shard];
    sac_workspace *ws = tile->team->ws[shard];
    sac_status st = SAC_OK;

    if (ranking->coded == NULL)
        st = sac_vectors_distances(&tile->index->shards[shard].vectors, ws, sac_index_distance(tile->index),
                                   tile->n, tile->x[shard].device, ranking->slot, ranking->counts,
                                   ranking->stride, ranking->distance);
    if (st == SAC_OK && found->slot.device != ranking->slot)
        st = sac_run_select(ws, &(struct sac_select_args){.distance = ranking->distance,
                                                          .index = ranking->slot,
                                                          .query_count = tile->n,
                                                          .counts = ranking->counts,
                                                          .stride = ranking->stride,
                                                          .keep = found->stride,
                                                          .out_distance = found->distance.device,
                                                          .out_index = found->slot.device});
    if (st == SAC_OK && tile->team->count == 1)
        st = sac_candidates_fetch(ws, found);
    return st;
}

/* The distance of codes as answers show it: unit vectors are coded by L2, |q - x|^2 = 2 - 2 q.x. */
static bool take_hits(const sac_tile *tile, const sac_ranking *ranking, size_t i, const sac_candidates *found,
                      uint32_t count)
{
    float *distances = (float *)found->distance.host + i * found->stride;

    if (ranking->coded != NULL && tile->index->metric == SAC_METRIC_COSINE)
        for (uint32_t c = 0; c < count; c++)
            distances[c] = 0.5f * distances[c] - 1;
    return sac_candidates_hits(tile, i, found, count);
}

/* All candidates that a shard has of one query, with the slots of the whole, into `to` from *count on. */
static sac_status fetch_all(const sac_tile *tile, uint32_t shard, const sac_ranking *ranking, size_t i,
                            const sac_candidates *to, uint32_t *count)
{
    sac_workspace *ws = tile->team->ws[shard];
    size_t at = i * ranking->stride;
    sac_candidates all;
    sac_status st;

    if (!sac_workspace_view(ws, ranking->distance + at, ranking->stride, sizeof(float), &all.distance) ||
        !sac_workspace_view(ws, ranking->slot + at, ranking->stride, sizeof(uint32_t), &all.slot))
        return sac_workspace_failure(ws);
    st = sac_candidates_fetch(ws, &all);
    if (st == SAC_OK)
        st = sac_workspace_wait(ws);
    for (uint32_t c = 0; st == SAC_OK && c < ranking->host_counts[i]; c++) {
        uint32_t slot = ((const uint32_t *)all.slot.host)[c];
        if (slot == SAC_NO_SLOT)
            continue;
        ((uint32_t *)to->slot.host)[*count] = slot * tile->team->count + shard;
        ((float *)to->distance.host)[(*count)++] = ((const float *)all.distance.host)[c];
    }
    return st;
}

/* All candidates of one query, where the cut went through a tie. */
static sac_status take_all(const sac_tile *tile, const sac_ranking *const *rankings, size_t i)
{
    uint32_t room = tile->team->count * rankings[0]->stride, count = 0;
    sac_workspace *ws = tile->team->ws[0];
    sac_candidates all = {.distance.host = sac_workspace_host(ws, room, sizeof(float)),
                          .slot.host = sac_workspace_host(ws, room, sizeof(uint32_t))};
    sac_tile one = *tile;
    sac_status st = all.distance.host == NULL || all.slot.host == NULL ? sac_workspace_failure(ws) : SAC_OK;

    for (uint32_t s = 0; st == SAC_OK && s < tile->team->count; s++)
        st = fetch_all(tile, s, rankings[s], i, &all, &count);
    one.queries += i;
    one.n = 1;
    if (st == SAC_OK)
        take_hits(&one, rankings[0], 0, &all, count);
    return st;
}

sac_status sac_ranking_finish(const sac_tile *tile, const sac_ranking *const *rankings, size_t i,
                              uint32_t *found)
{
    uint32_t count = 0, seen = 0;
    bool whole;

    for (uint32_t s = 0; s < tile->team->count; s++)
        count += rankings[s]->host_counts[i];
    whole = count <= tile->answer.stride;
    count = whole ? count : tile->answer.stride;
    while (seen < count && slots_of(&tile->answer, i)[seen] != SAC_NO_SLOT)
        seen++;
    *found = seen;
    if (!take_hits(tile, rankings[0], i, &tile->answer, count) || whole)
        return SAC_OK;
    return take_all(tile, rankings, i);
}
