/* tile.h -- the inside of a search: a tile of queries that are searched together (index_search.c), their
 * vectors and candidates (tile.c), and how these become hits (ranking.c).
 *
 * A tile's work is put on the stream as a whole and waited for once; of several shards, on the stream of
 * each. Where device memory is the host's, hits are taken from the candidates; elsewhere, and where shards
 * merge theirs, candidates are cut on the device to a few more than k before they cross the bus. Only what is
 * rare waits again: a query whose lists hold too little, or whose last hits are equally far, is looked at
 * once more.
 */
#ifndef SACCADE_TILE_H
#define SACCADE_TILE_H

#include "engine/allowed.h"
#include "engine/embeddings.h"
#include "engine/hits.h"
#include "engine/index_state.h"

/* A few more than k are asked for, so that rounding inside a batch cannot push a hit out, and for more where
 * the last of them are equally far: then labels decide, which kernels do not see. */
#define SAC_SPARE_HITS 16u

/* Pieces of [n][stride]: what the device has and what the host gets. */
typedef struct sac_candidates {
    sac_span distance, slot;
    uint32_t stride;
} sac_candidates;

typedef struct sac_tile {
    const sac_index *index;
    const sac_team *team;
    sac_query **queries;
    sac_ivf_query *plans;  /* [n]; of a search by lists */
    sac_allowed **allowed; /* [n]: what each query may find, or NULL: all */
    bool replanned;        /* a query that found too little looks for more in the next pass */
    size_t n;
    /* Where the vectors are in device memory: row i is that of asked[i], which the tile's queries are some
     * of. NULL: each query has its own. */
    const sac_embeddings *rows;
    const sac_query *asked;
    sac_span *x; /* for each shard [n][dim]: scaled where the metric asks for it; rows on the device only */
    sac_candidates *found; /* for each shard what it found; of several, ascending and of one stride */
    sac_candidates answer; /* what all found, on the host once it was collected */
} sac_tile;

/* The largest k of its queries. */
uint32_t sac_tile_k(const sac_tile *tile);

/* Looks up what each query may find. */
sac_status sac_tile_allow(sac_tile *tile);
/* Makes x and found, and puts the copies of rows on the streams. */
sac_status sac_tile_prepare(sac_tile *tile);
/* Puts what the host has of x on the stream. */
sac_status sac_tile_push(const sac_tile *tile, uint32_t shard);

bool sac_candidates_take(sac_workspace *ws, size_t n, uint32_t stride, sac_candidates *out);
sac_status sac_candidates_fetch(sac_workspace *ws, const sac_candidates *found);

/* SAC_INTERNAL where there are embeddings without a length. */
sac_status sac_rows_check(uint32_t spoiled, sac_error *err);
/* Waits for what is on the streams, rows of a GPU among it, and checks those. */
sac_status sac_rows_wait(const sac_team *team, const sac_embeddings *rows);

/* Makes the answer of what each shard found, and waits. A lone shard has fetched it; those of several are
 * merged to the nearest `keep` by the first one. SAC_INTERNAL where a row has no length. */
sac_status sac_tile_collect(sac_tile *tile, uint32_t keep);

/* Takes the hits of query i from its first `count` candidates, on the host. Returns true where the last of
 * them is no farther than the k-th hit, so that others, not looked at, may be as near. */
bool sac_candidates_hits(const sac_tile *tile, size_t i, const sac_candidates *found, uint32_t count);

/* From candidates of any origin to hits, on one shard. Filled in by whoever finds them: */
typedef struct sac_ranking {
    uint32_t stride;
    uint32_t *slot;              /* device [n][stride] */
    const uint32_t *counts;      /* device [n]: candidates of each query */
    const uint32_t *host_counts; /* the same on the host */
    float *coded; /* device [n][stride]: distances of codes, if these are to be shown; NULL: exact ones are */
    float *distance; /* device [n][stride]: by sac_ranking_prepare() */
} sac_ranking;

/* Takes pieces, tile->found[shard] among them; puts nothing on the stream. */
sac_status sac_ranking_prepare(const sac_tile *tile, uint32_t shard, sac_ranking *ranking);

/* Puts distances, cut and copies on the stream; tile->x and the candidates are there already. */
sac_status sac_ranking_submit(const sac_tile *tile, uint32_t shard, const sac_ranking *ranking);

/* The hits of query i, once the answer was collected (keep: sac_ranking_keep) of what rankings[s] of each
 * shard s put together; *found: its candidates, as far as they were seen. */
sac_status sac_ranking_finish(const sac_tile *tile, const sac_ranking *const *rankings, size_t i,
                              uint32_t *found);

/* Candidates of each query that are worth the host's while. */
static inline uint32_t sac_ranking_keep(const sac_tile *tile)
{
    return sac_tile_k(tile) + SAC_SPARE_HITS;
}

#endif
