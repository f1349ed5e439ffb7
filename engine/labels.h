/* labels.h -- which slot holds which label.
 *
 * Everything an index stores about a vector lies at its slot, a number from 0; slots of deleted vectors are
 * given to the next ones. The table from labels to slots holds nothing but slots (4 bytes, at 50 to 80 %
 * full) and looks the label up where it is stored anyway: about 14 bytes a label in all. While labels are
 * consecutive - each is the first one plus its slot, as in a collection that was built and not changed - they
 * are not stored at all.
 */
#ifndef SACCADE_LABELS_H
#define SACCADE_LABELS_H

#include "engine/mirror.h"
#include "engine/saccade.h"

#define SAC_NO_SLOT UINT32_MAX

/* Readers may run beside each other, not beside a change. */
typedef struct sac_labels {
    /* For each shard of the index (shard.h) a bitmap over its own slots, which its exact searches read:
     * uint64_t. */
    sac_mirror live[SAC_SHARDS_MAX];
    uint32_t shard_count;
    uint64_t first;  /* the label of slot 0, while they are consecutive */
    uint64_t *label; /* [capacity], by slot; of a free slot: the next free one. NULL: consecutive */
    uint32_t *table; /* [table_size]: slots, open addressing with linear probing */
    size_t capacity, table_size;
    uint32_t slot_count; /* slots ever used; those past it are untouched */
    uint32_t live_count;
    uint32_t first_free; /* plus 1; 0: none. While labels are consecutive, no free slot is used again */
    uint64_t layout;     /* goes up when a bitmap moves */
} sac_labels;

void sac_labels_init(sac_labels *labels, sac_device *device);
void sac_labels_free(sac_labels *labels); /* zero-initialised is allowed */

/* Makes room, so that inserting these n, in this order, cannot fail. Nothing that reads the bitmaps may be on
 * a stream. Errors: SAC_NO_MEMORY, SAC_DEVICE_MEMORY, SAC_DEVICE_LOST, SAC_TOO_LARGE (2^32 - 2 slots). */
sac_status sac_labels_reserve(sac_labels *labels, size_t n, const uint64_t *coming, sac_error *err);

/* Brings a shard's bitmap up to date, before its next exact search. */
sac_status sac_labels_sync(sac_labels *labels, uint32_t shard, sac_stream *stream);

/* The label's slot, or SAC_NO_SLOT. */
uint32_t sac_labels_find(const sac_labels *labels, uint64_t label);

/* The label of a live slot. */
static inline uint64_t sac_labels_at(const sac_labels *labels, uint32_t slot)
{
    return labels->label != NULL ? labels->label[slot] : labels->first + slot;
}

/* The slots that the next n insertions will give, in order. */
void sac_labels_preview(const sac_labels *labels, size_t n, uint32_t *slots);

/* Gives a label that is not there a slot. Room was reserved for it. */
uint32_t sac_labels_insert(sac_labels *labels, uint64_t label);

/* Takes the label away and frees its slot. It is there. */
void sac_labels_remove(sac_labels *labels, uint64_t label);

static inline bool sac_labels_live(const sac_labels *labels, uint32_t slot)
{
    uint32_t local = slot / labels->shard_count;

    return ((const uint64_t *)labels->live[slot % labels->shard_count].host)[local / 64] >> local % 64 & 1;
}

/* Slots ever used of a shard. */
static inline uint32_t sac_labels_slots_of(const sac_labels *labels, uint32_t shard)
{
    return labels->slot_count / labels->shard_count + (labels->slot_count % labels->shard_count > shard);
}

/* Memory in bytes. */
uint64_t sac_labels_bytes(const sac_labels *labels);

#endif
