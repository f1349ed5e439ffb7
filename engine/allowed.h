/* allowed.h -- which stored vectors the queries of a tile may find.
 *
 * A query names the labels that it allows. Looked up, they are a bitmap over slots that scans read beside the
 * codes; queries that give the same array share one.
 */
#ifndef SACCADE_ALLOWED_H
#define SACCADE_ALLOWED_H

#include "engine/labels.h"
#include "engine/shard.h"

typedef struct sac_allowed {
    const uint64_t *allow; /* [allow_count], the query's */
    size_t allow_count;
    sac_span *bits;    /* for each shard a bitmap over its slots, of the device and of the host */
    uint32_t matching; /* live slots in it */
} sac_allowed;

/* Looks up what n queries allow: out[i] is that of query i, or NULL where it allows everything. Pieces of
 * the workspaces; bitmaps are put on their streams. */
sac_status sac_allowed_make(const sac_team *team, const sac_labels *labels, sac_query *const *queries,
                            size_t n, sac_allowed **out);

/* The array that operations of a shard read: a bitmap for each query, or NULL. *out is NULL where all are. */
sac_status sac_allowed_push(const sac_team *team, uint32_t shard, sac_allowed *const *allowed, size_t n,
                            const uint64_t *const **out);

/* The live slots among labels, ascending, each once; up to `count` of them. Returns how many. */
uint32_t sac_allowed_slots(const sac_labels *labels, const uint64_t *allow, size_t count, uint32_t *slots);

#endif
