#include "engine/shard.h"

sac_status sac_shard_open(sac_shard *shard, sac_device *device, uint32_t dim, sac_dtype dtype, sac_error *err)
{
    *shard = (sac_shard){.device = device};
    sac_workspace_pool_init(&shard->workspaces, device);
    return sac_vectors_init(&shard->vectors, device, dim, dtype, err);
}

void sac_shard_close(sac_shard *shard)
{
    sac_ivf_close(shard->ivf);
    sac_vectors_free(&shard->vectors);
    sac_workspace_pool_free(&shard->workspaces);
}

/* ---- teams ------------------------------------------------------------------------------------------ */

sac_status sac_team_borrow(sac_shard *shards, uint32_t count, sac_team *out, sac_error *err)
{
    out->shards = shards;
    for (out->count = 0; out->count < count; out->count++) {
        sac_status st = sac_workspace_borrow(&shards[out->count].workspaces, &out->ws[out->count], err);
        if (st != SAC_OK) {
            sac_team_give_back(out);
            return st;
        }
    }
    return SAC_OK;
}

/* In this order: the first one's stream reads what the others have. */
void sac_team_give_back(sac_team *team)
{
    for (uint32_t s = 0; s < team->count; s++)
        sac_workspace_give_back(&team->shards[s].workspaces, team->ws[s]);
    team->count = 0;
}

sac_status sac_team_wait(const sac_team *team)
{
    sac_status st = SAC_OK;

    for (uint32_t s = 0; st == SAC_OK && s < team->count; s++)
        st = sac_workspace_wait(team->ws[s]);
    return st;
}

void sac_team_reset(const sac_team *team)
{
    for (uint32_t s = 0; s < team->count; s++)
        sac_workspace_reset(team->ws[s]);
}

/* ---- merging ---------------------------------------------------------------------------------------- */

/* Brings what each shard found, `count` places, together on the first one's device. */
static sac_status bring(const sac_team *team, size_t count, const sac_shard_found *found,
                        const sac_shard_found *to)
{
    sac_workspace *ws = team->ws[0];
    sac_status st = SAC_OK;

    for (uint32_t s = 0; st == SAC_OK && s < team->count; s++) {
        if (s > 0)
            st = sac_workspace_follow(ws, team->ws[s]);
        if (st == SAC_OK)
            st = sac_stream_copy(ws->stream, to->distance + s * count, found[s].distance,
                                 count * sizeof(float));
        if (st == SAC_OK)
            st = sac_stream_copy(ws->stream, to->slot + s * count, found[s].slot, count * sizeof(uint32_t));
    }
    return st == SAC_OK ? SAC_OK
                        : sac_fail(ws->err, st, "cannot copy between shards: %s", sac_status_text(st));
}

sac_status sac_team_merge(const sac_team *team, size_t n, uint32_t stride, const sac_shard_found *found,
                          uint32_t keep, const sac_shard_found *out)
{
    sac_workspace *ws = team->ws[0];
    sac_shard_found all = {.distance = sac_workspace_device(ws, team->count * n * stride, sizeof(float)),
                           .slot = sac_workspace_device(ws, team->count * n * stride, sizeof(uint32_t))};
    sac_status st = all.distance == NULL || all.slot == NULL ? sac_workspace_failure(ws) : SAC_OK;

    if (st == SAC_OK)
        st = bring(team, n * stride, found, &all);
    if (st != SAC_OK)
        return st;
    return sac_run_merge(ws, &(struct sac_merge_args){.distance = all.distance,
                                                      .index = all.slot,
                                                      .query_count = n,
                                                      .lists = team->count,
                                                      .stride = stride,
                                                      .keep = keep,
                                                      .out_distance = out->distance,
                                                      .out_index = out->slot});
}
