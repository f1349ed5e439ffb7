/* measurement.h -- queries whose true neighbours are known, and what searches of an index come upon for them.
 *
 * The queries are vectors that the index holds, each left out of its own answer. They are easier than those
 * of users, in two ways, and both are made good:
 * - Parts of the same photo are in the index with them. So a query's SAC_HIDDEN nearest, the likeliest of its
 *   relatives, is taken out of the world, and what must be found are the next 10.
 * - They helped to train it. A vector drew the centroid of its list nearer by 1/size of the way, so it is let
 *   reach as much farther, because reach counts in distances from the nearest centroid.
 */
#ifndef SACCADE_MEASUREMENT_H
#define SACCADE_MEASUREMENT_H

#include "engine/index_state.h"

#define SAC_HIDDEN 1u
#define SAC_KNOWN (SAC_HIDDEN + 10) /* those, and the next */
#define SAC_MEASURED_DEPTH 1280u    /* the most that is measured */
#define SAC_MEASURED_CANDIDATES (SAC_MEASURED_DEPTH + SAC_HIDDEN + 1)
#define SAC_NO_RANK UINT32_MAX

/* What a search may come upon. */
typedef struct sac_measured_candidate {
    uint32_t list;
    enum { SAC_OTHER, SAC_WANTED, SAC_ABSENT } kind; /* absent: the query itself and those hidden from it */
} sac_measured_candidate;

/* Pieces of the team's first workspace. */
typedef struct sac_measurement {
    const sac_index *index;
    const sac_team *team;
    sac_workspace *ws; /* the first of the team */
    uint32_t n;
    uint32_t *slots;  /* [n]: the queries */
    uint32_t *known;  /* [n][SAC_KNOWN]: the nearest of each query, without itself, nearest first */
    uint32_t *counts; /* [n]: how many are known */
    uint32_t wanted;  /* neighbours that all queries have to find */
    uint32_t *lists_of[SAC_SHARDS_MAX]; /* of each shard: by slot, the list that holds it */
    float *pulls;                       /* [n]: how much farther each query is let reach */
    sac_span *x;                        /* for each shard [n][dim] */
    sac_ivf_query *queries;             /* [n]: settings, for whatever is asked */
    uint32_t *ranks;                    /* [nlist]: SAC_NO_RANK */
    sac_measured_candidate *candidates; /* [n][SAC_MEASURED_CANDIDATES]: nearest first by their codes */
    uint32_t *lengths;                  /* [n]: of those, up to the last that is wanted */
} sac_measurement;

/* Chooses the queries and finds their neighbours by exact search. Waits. */
sac_status sac_measurement_prepare(sac_measurement *m, const sac_index *index, const sac_team *team);

/* The lists that each query probes if it probes so many, SAC_PROBES_MAX at most. Waits. */
sac_status sac_measurement_probe(const sac_measurement *m, uint32_t nprobe, sac_ivf_probed *out);

/* Sets the rank of each list among those that query q probes, or makes all SAC_NO_RANK again. */
void sac_measurement_rank(const sac_measurement *m, const sac_ivf_probed *probed, uint32_t q, bool clear);

/* The most lists that are worth measuring: those that hold as good as all neighbours. Waits. */
sac_status sac_measurement_most(const sac_measurement *m, uint32_t *most);

/* Scans so many lists for every query and keeps the candidates. Waits. */
sac_status sac_measurement_scan(sac_measurement *m, uint32_t nprobe);

/* Entries of a list, on all shards. */
uint32_t sac_measurement_rows(const sac_measurement *m, uint32_t list);

#endif
