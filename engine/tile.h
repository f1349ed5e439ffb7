/* tile.h -- the inside of a search: a tile of queries that are searched together (index_search.c), and how
 * their candidates become hits (ranking.c).
 *
 * A tile's work is put on the stream as a whole and waited for once. Where device memory is the host's, hits
 * are taken from the candidates; elsewhere candidates are cut on the device to a few more than k before they
 * cross the bus. Only what is rare waits again: a query whose lists hold too little, or whose last hits are
 * equally far, is looked at once more.
 */
#ifndef SACCADE_TILE_H
#define SACCADE_TILE_H

#include "engine/allowed.h"
#include "engine/hits.h"
#include "engine/index_state.h"

/* A few more than k are asked for, so that rounding inside a batch cannot push a hit out, and for more where
 * the last of them are equally far: then labels decide, which kernels do not see. */
#define SAC_SPARE_HITS 16u

typedef struct sac_tile {
    const sac_index *index;
    sac_workspace *ws;
    sac_query **queries;
    sac_ivf_query *plans;  /* [n]; of a search by lists */
    sac_allowed **allowed; /* [n]: what each query may find, or NULL: all */
    bool replanned;        /* a query that found too little looks for more in the next pass */
    size_t n;
    sac_span x; /* [n][dim]: scaled where the metric asks for it */
} sac_tile;

/* The largest k of its queries. */
uint32_t sac_tile_k(const sac_tile *tile);

/* Pieces of [n][stride]: what the device has and what the host gets. */
typedef struct sac_candidates {
    sac_span distance, slot;
    uint32_t stride;
} sac_candidates;

bool sac_candidates_take(const sac_tile *tile, uint32_t stride, sac_candidates *out);
sac_status sac_candidates_fetch(const sac_tile *tile, const sac_candidates *found);

/* Takes the hits of query i from its first `count` candidates, on the host. Returns true where the last of
 * them is no farther than the k-th hit, so that others, not looked at, may be as near. */
bool sac_candidates_hits(const sac_tile *tile, size_t i, const sac_candidates *found, uint32_t count);

/* From candidates of any origin to hits. First filled in by whoever finds them: */
typedef struct sac_ranking {
    uint32_t stride;
    uint32_t *slot;              /* device [n][stride] */
    const uint32_t *counts;      /* device [n]: candidates of each query */
    const uint32_t *host_counts; /* the same on the host */
    float *coded; /* device [n][stride]: distances of codes, if these are to be shown; NULL: exact ones are */
    /* then by sac_ranking_prepare(): */
    float *distance;      /* device [n][stride] */
    sac_candidates found; /* all of them, or of each query the nearest */
} sac_ranking;

/* Takes pieces; puts nothing on the stream. */
sac_status sac_ranking_prepare(const sac_tile *tile, sac_ranking *ranking);

/* Puts distances, cut and copies on the stream; tile->x and the candidates are there already. */
sac_status sac_ranking_submit(const sac_tile *tile, const sac_ranking *ranking);

/* The hits of query i, once the stream was waited for; *found: its candidates, as far as they were seen. */
sac_status sac_ranking_finish(const sac_tile *tile, const sac_ranking *ranking, size_t i, uint32_t *found);

#endif
