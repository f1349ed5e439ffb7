/* index_state.h -- the inside of a sac_index, for the files that make it up: index.c, index_change.c,
 * index_search.c, index_measure.c, calibrate.c, index_save.c, index_load.c, index_load_vectors.c.
 *
 * Threads and locks. `writer` is held by the one that trains, adds, deletes, measures or saves; whoever holds
 * it may read everything. `lock` is held for reading by a search while it looks at one tile of queries, and
 * for writing by the writer only while entries appear or disappear: coding happens before it is taken. A
 * waiting writer goes before new searches, so neither can starve the other for longer than a tile takes.
 */
#ifndef SACCADE_INDEX_STATE_H
#define SACCADE_INDEX_STATE_H

#include "engine/index_spec.h"
#include "engine/labels.h"
#include "engine/recall_curve.h"
#include "engine/shard.h"

#include <pthread.h>

struct sac_index {
    sac_device *device;
    uint32_t dim;
    sac_metric metric;
    uint64_t seed;
    sac_index_spec spec;
    bool trained;
    pthread_mutex_t writer;
    pthread_rwlock_t lock;
    sac_labels labels;
    sac_shard *shards; /* [shard_count] */
    uint32_t shard_count;
    sac_recall_curve curve;
    uint64_t layout; /* goes up when the lists are replaced by others */
};

/* The distance that kernels compute for answers: cosine is the inner product of unit vectors. */
static inline sac_distance sac_index_distance(const sac_index *index)
{
    return index->metric == SAC_METRIC_L2 ? SAC_DISTANCE_L2SQ : SAC_DISTANCE_NEG_IP;
}

/* Changes when anything moves that operations of a shard's searches are given: what was recorded is of no
 * use then. */
static inline uint64_t sac_index_layout(const sac_index *index, uint32_t shard)
{
    const sac_shard *part = &index->shards[shard];

    return index->layout + index->labels.layout + part->vectors.layout +
           (part->ivf != NULL ? part->ivf->lists.layout : 0);
}

/* The lists of the first shard, for what is the same on all: centroids and shapes; NULL: Flat. */
static inline const sac_ivf *sac_index_ivf(const sac_index *index)
{
    return index->shards[0].ivf;
}

/* A workspace of each shard. */
static inline sac_status sac_index_team(sac_index *index, sac_team *out, sac_error *err)
{
    return sac_team_borrow(index->shards, index->shard_count, out, err);
}

/* Checks one vector; `what` and `i` name it in the error. SAC_INVALID_ARGUMENT when it is not finite, too
 * long for its square to be one (|x|^2 above 1e36), or, for cosine, of length 0. */
sac_status sac_index_check_vector(const sac_index *index, const float *x, const char *what, size_t i,
                                  sac_error *err);

/* Vectors that are coded and stored together: so many that the device is busy, so few that what they need
 * beside the index is a small share of its memory. */
size_t sac_index_chunk_rows(const sac_index *index);

/* Takes what was trained, for each shard; all NULL: Flat. */
void sac_index_become(sac_index *index, const sac_index_spec *spec, sac_ivf *const *ivfs);

/* Copies a checked vector, scaled to length 1 for cosine. */
void sac_index_copy_vector(const sac_index *index, const float *x, float *to);

#endif
