#include "engine/tile.h"

uint32_t sac_tile_k(const sac_tile *tile)
{
    uint32_t k = 0;

    for (size_t i = 0; i < tile->n; i++)
        k = tile->queries[i]->k > k ? tile->queries[i]->k : k;
    return k;
}

/* ---- candidates on the host ------------------------------------------------------------------------- */

bool sac_candidates_take(const sac_tile *tile, uint32_t stride, sac_candidates *out)
{
    out->stride = stride;
    return sac_workspace_span(tile->ws, tile->n * stride, sizeof(float), &out->distance) &&
           sac_workspace_span(tile->ws, tile->n * stride, sizeof(uint32_t), &out->slot);
}

sac_status sac_candidates_fetch(const sac_tile *tile, const sac_candidates *found)
{
    sac_status st = sac_span_fetch(tile->ws, &found->distance);

    return st == SAC_OK ? sac_span_fetch(tile->ws, &found->slot) : st;
}

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

sac_status sac_ranking_prepare(const sac_tile *tile, sac_ranking *ranking)
{
    uint32_t keep = sac_tile_k(tile) + SAC_SPARE_HITS;

    ranking->distance = ranking->coded;
    if (ranking->coded == NULL)
        ranking->distance = sac_workspace_device(tile->ws, tile->n * ranking->stride, sizeof(float));
    if (ranking->distance == NULL)
        return tile->ws->status;
    if (sac_device_host_visible(tile->index->device)) {
        ranking->found = (sac_candidates){.distance = {ranking->distance, ranking->distance, 0},
                                          .slot = {ranking->slot, ranking->slot, 0},
                                          .stride = ranking->stride};
        return SAC_OK;
    }
    keep = keep < ranking->stride ? keep : ranking->stride;
    return sac_candidates_take(tile, keep, &ranking->found) ? SAC_OK : tile->ws->status;
}

sac_status sac_ranking_submit(const sac_tile *tile, const sac_ranking *ranking)
{
    const sac_index *index = tile->index;
    sac_status st = SAC_OK;

    if (ranking->coded == NULL)
        st = sac_vectors_distances(&index->vectors, tile->ws, sac_index_distance(index), tile->n,
                                   tile->x.device, ranking->slot, ranking->counts, ranking->stride,
                                   ranking->distance);
    if (st == SAC_OK && ranking->found.slot.device != ranking->slot)
        st =
            sac_run_select(tile->ws, &(struct sac_select_args){.distance = ranking->distance,
                                                               .index = ranking->slot,
                                                               .query_count = tile->n,
                                                               .counts = ranking->counts,
                                                               .stride = ranking->stride,
                                                               .keep = ranking->found.stride,
                                                               .out_distance = ranking->found.distance.device,
                                                               .out_index = ranking->found.slot.device});
    return st == SAC_OK ? sac_candidates_fetch(tile, &ranking->found) : st;
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

/* All candidates of one query, where the cut went through a tie. */
static sac_status take_all(const sac_tile *tile, const sac_ranking *ranking, size_t i)
{
    size_t at = i * ranking->stride;
    sac_tile one = *tile;
    sac_candidates all;
    sac_status st;

    one.queries += i;
    one.n = 1;
    if (!sac_candidates_take(&one, ranking->stride, &all))
        return tile->ws->status;
    all.distance.device = ranking->distance + at;
    all.slot.device = ranking->slot + at;
    st = sac_candidates_fetch(&one, &all);
    if (st == SAC_OK)
        st = sac_workspace_wait(one.ws);
    if (st == SAC_OK)
        take_hits(&one, ranking, 0, &all, ranking->host_counts[i]);
    return st;
}

sac_status sac_ranking_finish(const sac_tile *tile, const sac_ranking *ranking, size_t i, uint32_t *found)
{
    uint32_t count = ranking->host_counts[i], seen = 0;
    bool whole = count <= ranking->found.stride;

    count = whole ? count : ranking->found.stride;
    while (seen < count && slots_of(&ranking->found, i)[seen] != SAC_NO_SLOT)
        seen++;
    *found = seen;
    if (!take_hits(tile, ranking, i, &ranking->found, count) || whole)
        return SAC_OK;
    return take_all(tile, ranking, i);
}
