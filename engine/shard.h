/* shard.h -- one device's part of an index: its vectors, its lists, its workspaces.
 *
 * Of S shards, shard s has the slots s, s + S, s + 2 S, ..., which it numbers from 0; labels are the host's
 * and know the numbers of the whole. Every shard has the same centroids and codewords, so together they
 * probe the lists that one device would, and find what it would. The first is the one that answers: what the
 * others found is copied to it and merged there.
 */
#ifndef SACCADE_SHARD_H
#define SACCADE_SHARD_H

#include "engine/ivf.h"
#include "engine/vectors.h"

typedef struct sac_shard {
    sac_device *device;
    sac_workspace_pool workspaces;
    sac_vectors vectors;
    sac_ivf *ivf; /* NULL: Flat */
} sac_shard;

sac_status sac_shard_open(sac_shard *shard, sac_device *device, uint32_t dim, sac_dtype dtype,
                          sac_error *err);
void sac_shard_close(sac_shard *shard);

/* A workspace of each shard, for one search or one change. Those of one shard are used by themselves; what
 * concerns no shard in particular is a piece of the first. */
typedef struct sac_team {
    uint32_t count;
    sac_shard *shards;
    sac_workspace *ws[SAC_SHARDS_MAX];
} sac_team;

sac_status sac_team_borrow(sac_shard *shards, uint32_t count, sac_team *out, sac_error *err);
void sac_team_give_back(sac_team *team);

/* Waits for all streams; reset also forgets every piece. */
sac_status sac_team_wait(const sac_team *team);
void sac_team_reset(const sac_team *team);

/* What was found for n queries: pieces of [n][stride] in device memory. */
typedef struct sac_shard_found {
    float *distance;
    uint32_t *slot;
} sac_shard_found;

/* Merges found[s] of each shard, ascending as `select` leaves it and in the shard's own numbers, to the
 * nearest `keep` of the whole: pieces of [n][keep] on the first one's device. Put on its stream, behind what
 * the others' streams were given so far. */
sac_status sac_team_merge(const sac_team *team, size_t n, uint32_t stride, const sac_shard_found *found,
                          uint32_t keep, const sac_shard_found *out);

#endif
