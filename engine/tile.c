#include "engine/tile.h"

uint32_t sac_tile_k(const sac_tile *tile)
{
    uint32_t k = 0;

    for (size_t i = 0; i < tile->n; i++)
        k = tile->queries[i]->k > k ? tile->queries[i]->k : k;
    return k;
}

sac_status sac_tile_allow(sac_tile *tile)
{
    tile->allowed = sac_workspace_host(tile->team->ws[0], tile->n, sizeof(sac_allowed *));
    if (tile->allowed == NULL)
        return sac_workspace_failure(tile->team->ws[0]);
    return sac_allowed_make(tile->team, &tile->index->labels, tile->queries, tile->n, tile->allowed);
}

/* ---- vectors ---------------------------------------------------------------------------------------- */

/* Embeddings have length 1 already. Neighbours are copied together: all of them, where the tile is the whole
 * of what was asked. */
static sac_status bring_rows(const sac_tile *tile, uint32_t shard)
{
    sac_workspace *ws = tile->team->ws[shard];
    size_t dim = tile->rows->dim;
    sac_status st = SAC_OK;

    for (size_t i = 0, end; st == SAC_OK && i < tile->n; i = end) {
        for (end = i + 1; end < tile->n && tile->queries[end] == tile->queries[end - 1] + 1;)
            end++;
        st = sac_stream_copy(ws->stream, (float *)tile->x[shard].device + i * dim,
                             tile->rows->rows + (size_t)(tile->queries[i] - tile->asked) * dim,
                             (end - i) * dim * sizeof(float));
    }
    return st == SAC_OK
               ? SAC_OK
               : sac_fail(ws->err, st, "cannot copy %zu embeddings: %s", tile->n, sac_status_text(st));
}

static sac_status prepare_on(const sac_tile *tile, uint32_t shard)
{
    sac_workspace *ws = tile->team->ws[shard];
    uint32_t dim = tile->index->dim;
    sac_span *x = &tile->x[shard];

    if (tile->rows != NULL) {
        *x = (sac_span){.device = sac_workspace_device(ws, tile->n, dim * sizeof(float))};
        return x->device == NULL ? sac_workspace_failure(ws) : bring_rows(tile, shard);
    }
    if (!sac_workspace_span(ws, tile->n, dim * sizeof(float), x))
        return sac_workspace_failure(ws);
    for (size_t i = 0; i < tile->n; i++)
        sac_index_copy_vector(tile->index, tile->queries[i]->vector, (float *)x->host + i * dim);
    return SAC_OK;
}

sac_status sac_tile_prepare(sac_tile *tile)
{
    const sac_team *team = tile->team;
    sac_status st = SAC_OK;

    tile->x = sac_workspace_host(team->ws[0], team->count, sizeof *tile->x);
    tile->found = sac_workspace_host(team->ws[0], team->count, sizeof *tile->found);
    if (tile->x == NULL || tile->found == NULL)
        return sac_workspace_failure(team->ws[0]);
    for (uint32_t s = 0; st == SAC_OK && s < team->count; s++)
        st = prepare_on(tile, s);
    return st;
}

sac_status sac_tile_push(const sac_tile *tile, uint32_t shard)
{
    return tile->rows != NULL ? SAC_OK : sac_span_push(tile->team->ws[shard], &tile->x[shard]);
}

/* ---- candidates ------------------------------------------------------------------------- */

bool sac_candidates_take(sac_workspace *ws, size_t n, uint32_t stride, sac_candidates *out)
{
    out->stride = stride;
    return sac_workspace_span(ws, n * stride, sizeof(float), &out->distance) &&
           sac_workspace_span(ws, n * stride, sizeof(uint32_t), &out->slot);
}

sac_status sac_candidates_fetch(sac_workspace *ws, const sac_candidates *found)
{
    sac_status st = sac_span_fetch(ws, &found->distance);

    return st == SAC_OK ? sac_span_fetch(ws, &found->slot) : st;
}

static sac_status merge(sac_tile *tile, uint32_t keep)
{
    const sac_team *team = tile->team;
    uint32_t stride = tile->found[0].stride;
    sac_shard_found found[SAC_SHARDS_MAX], to;
    sac_status st;

    keep = keep < team->count * stride ? keep : team->count * stride;
    if (!sac_candidates_take(team->ws[0], tile->n, keep, &tile->answer))
        return sac_workspace_failure(team->ws[0]);
    for (uint32_t s = 0; s < team->count; s++)
        found[s] = (sac_shard_found){tile->found[s].distance.device, tile->found[s].slot.device};
    to = (sac_shard_found){tile->answer.distance.device, tile->answer.slot.device};
    st = sac_team_merge(team, tile->n, stride, found, keep, &to);
    return st == SAC_OK ? sac_candidates_fetch(team->ws[0], &tile->answer) : st;
}

sac_status sac_rows_check(uint32_t spoiled, sac_error *err)
{
    if (spoiled == 0)
        return SAC_OK;
    return sac_fail(err, SAC_INTERNAL, "%u embedding%s no length: the model's weights are unusable", spoiled,
                    spoiled == 1 ? " has" : "s have");
}

sac_status sac_rows_wait(const sac_team *team, const sac_embeddings *rows)
{
    sac_workspace *ws = team->ws[0];
    sac_span spoiled;
    sac_status st;

    if (!sac_workspace_view(ws, (uint32_t *)rows->spoiled, 1, sizeof(uint32_t), &spoiled))
        return sac_workspace_failure(ws);
    st = sac_span_fetch(ws, &spoiled);
    if (st == SAC_OK)
        st = sac_team_wait(team);
    return st == SAC_OK ? sac_rows_check(*(const uint32_t *)spoiled.host, ws->err) : st;
}

sac_status sac_tile_collect(sac_tile *tile, uint32_t keep)
{
    sac_status st = SAC_OK;

    if (tile->team->count == 1)
        tile->answer = tile->found[0];
    else
        st = merge(tile, keep);
    if (st != SAC_OK)
        return st;
    return tile->rows != NULL ? sac_rows_wait(tile->team, tile->rows) : sac_team_wait(tile->team);
}
