#include "engine/labels.h"

#include "engine/random.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void sac_labels_init(sac_labels *labels, sac_device *device)
{
    *labels = (sac_labels){.shard_count = sac_device_shard_count(device)};
    for (uint32_t s = 0; s < labels->shard_count; s++)
        sac_mirror_init(&labels->live[s], sac_device_shard(device, s), sizeof(uint64_t));
}

void sac_labels_free(sac_labels *labels)
{
    for (uint32_t s = 0; s < labels->shard_count; s++)
        sac_mirror_free(&labels->live[s]);
    free(labels->label);
    free(labels->table);
    *labels = (sac_labels){0};
}

/* Where a label would lie if it were alone: its hash scaled to the size of the table, which thus need not
 * be a power of two. */
static size_t home_of(const sac_labels *labels, uint64_t label)
{
    return (size_t)((sac_mix64(label) >> 32) * labels->table_size >> 32);
}

static size_t after(const sac_labels *labels, size_t place)
{
    return place + 1 == labels->table_size ? 0 : place + 1;
}

static void place_slot(sac_labels *labels, uint32_t slot)
{
    size_t place = home_of(labels, labels->label[slot]);

    while (labels->table[place] != SAC_NO_SLOT)
        place = after(labels, place);
    labels->table[place] = slot;
}

/* ---- memory ----------------------------------------------------------------------------------------- */

static sac_status resize_label(sac_labels *labels, size_t capacity, sac_error *err)
{
    uint64_t *label = reallocarray(labels->label, capacity, sizeof *label);

    if (label == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for the labels of %zu vectors", capacity);
    labels->label = label;
    return SAC_OK;
}

static sac_status grow_slots(sac_labels *labels, size_t capacity, sac_error *err)
{
    bool moved = false;
    sac_status st = labels->label != NULL ? resize_label(labels, capacity, err) : SAC_OK;

    for (uint32_t s = 0; st == SAC_OK && s < labels->shard_count; s++)
        st = sac_mirror_reserve(&labels->live[s], NULL, capacity / labels->shard_count / 64 + 1, &moved, err);
    labels->layout += moved;
    if (st == SAC_OK)
        labels->capacity = capacity;
    return st;
}

static sac_status grow_table(sac_labels *labels, size_t size, sac_error *err)
{
    uint32_t *table = reallocarray(NULL, size, sizeof *table);

    if (table == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to look up %zu labels", size);
    memset(table, 0xff, size * sizeof *table);
    free(labels->table);
    labels->table = table;
    labels->table_size = size;
    for (uint32_t slot = 0; slot < labels->slot_count; slot++)
        if (sac_labels_live(labels, slot))
            place_slot(labels, slot);
    return SAC_OK;
}

/* Whether labels are consecutive and still will be after these. */
static bool stay_consecutive(const sac_labels *labels, size_t n, const uint64_t *coming)
{
    uint64_t first = labels->slot_count > 0 ? labels->first : coming[0];

    if (labels->label != NULL || labels->live_count < labels->slot_count)
        return false;
    for (size_t i = 0; i < n; i++)
        if (coming[i] - first != labels->slot_count + i)
            return false;
    return true;
}

/* From now on labels are stored. Free slots are used from the lowest on, as sac_labels_preview() says. */
static sac_status store(sac_labels *labels, sac_error *err)
{
    sac_status st = resize_label(labels, labels->capacity + 1, err);

    for (uint32_t slot = labels->slot_count; st == SAC_OK && slot-- > 0;) {
        labels->label[slot] = labels->first + slot;
        if (sac_labels_live(labels, slot))
            continue;
        labels->label[slot] = labels->first_free;
        labels->first_free = slot + 1;
    }
    return st;
}

sac_status sac_labels_reserve(sac_labels *labels, size_t n, const uint64_t *coming, sac_error *err)
{
    size_t live, slots;
    sac_status st = SAC_OK;

    if (n == 0)
        return SAC_OK;
    if (n > SAC_NO_SLOT - 1 - (size_t)labels->slot_count)
        return sac_fail(err, SAC_TOO_LARGE, "an index holds at most %u vectors", SAC_NO_SLOT - 1);
    live = labels->live_count + n;
    slots = live > labels->slot_count ? live : labels->slot_count; /* free slots are used first */
    if (slots > labels->capacity)
        st = grow_slots(labels, slots + slots / 4 + 64, err);
    if (st != SAC_OK || stay_consecutive(labels, n, coming))
        return st;
    if (labels->label == NULL)
        st = store(labels, err);
    if (st == SAC_OK && live > labels->table_size / 5 * 4)
        st = grow_table(labels, live + live / 2 + 64, err);
    return st;
}

/* ---- changing --------------------------------------------------------------------------------------- */

sac_status sac_labels_sync(sac_labels *labels, uint32_t shard, sac_stream *stream)
{
    return sac_mirror_sync(&labels->live[shard], stream);
}

static void set_live(sac_labels *labels, uint32_t slot, bool live)
{
    sac_mirror *mirror = &labels->live[slot % labels->shard_count];
    uint32_t local = slot / labels->shard_count;
    uint64_t *word = (uint64_t *)mirror->host + local / 64, bit = UINT64_C(1) << local % 64;

    *word = live ? *word | bit : *word & ~bit;
    sac_mirror_touch(mirror, local / 64, 1);
}

uint32_t sac_labels_find(const sac_labels *labels, uint64_t label)
{
    if (labels->live_count == 0)
        return SAC_NO_SLOT;
    if (labels->label == NULL) {
        uint64_t slot = label - labels->first;
        return slot < labels->slot_count && sac_labels_live(labels, (uint32_t)slot) ? (uint32_t)slot
                                                                                    : SAC_NO_SLOT;
    }
    for (size_t place = home_of(labels, label);; place = after(labels, place)) {
        uint32_t slot = labels->table[place];
        if (slot == SAC_NO_SLOT || labels->label[slot] == label)
            return slot;
    }
}

void sac_labels_preview(const sac_labels *labels, size_t n, uint32_t *slots)
{
    uint32_t free_slot = labels->first_free, unused = labels->slot_count;
    size_t i = 0;

    if (labels->label == NULL && labels->live_count < labels->slot_count)
        for (uint32_t slot = 0; slot < labels->slot_count && i < n; slot++)
            if (!sac_labels_live(labels, slot))
                slots[i++] = slot;
    for (; i < n; i++) {
        slots[i] = free_slot != 0 ? free_slot - 1 : unused++;
        if (free_slot != 0)
            free_slot = (uint32_t)labels->label[free_slot - 1];
    }
}

uint32_t sac_labels_insert(sac_labels *labels, uint64_t label)
{
    uint32_t slot;

    assert(sac_labels_find(labels, label) == SAC_NO_SLOT);
    if (labels->first_free != 0) {
        slot = labels->first_free - 1;
        labels->first_free = (uint32_t)labels->label[slot];
    } else {
        slot = labels->slot_count++;
    }
    assert(slot < labels->capacity);
    if (slot == 0 && labels->label == NULL)
        labels->first = label;
    assert(labels->label != NULL || label - labels->first == slot);
    set_live(labels, slot, true);
    labels->live_count++;
    if (labels->label == NULL)
        return slot;
    labels->label[slot] = label;
    place_slot(labels, slot);
    return slot;
}

/* Empties a place and moves later entries of its run forward, so that no run has a hole (Knuth 6.4 R). */
static void close_gap(sac_labels *labels, size_t gap)
{
    for (size_t place = after(labels, gap); labels->table[place] != SAC_NO_SLOT;
         place = after(labels, place)) {
        size_t home = home_of(labels, labels->label[labels->table[place]]);
        bool home_after_gap = gap <= place ? gap < home && home <= place : gap < home || home <= place;
        if (home_after_gap)
            continue;
        labels->table[gap] = labels->table[place];
        gap = place;
    }
    labels->table[gap] = SAC_NO_SLOT;
}

void sac_labels_remove(sac_labels *labels, uint64_t label)
{
    uint32_t slot = sac_labels_find(labels, label);
    size_t place;

    assert(slot != SAC_NO_SLOT);
    set_live(labels, slot, false);
    labels->live_count--;
    if (labels->label == NULL)
        return;
    place = home_of(labels, label);
    while (labels->table[place] != slot)
        place = after(labels, place);
    close_gap(labels, place);
    labels->label[slot] = labels->first_free;
    labels->first_free = slot + 1;
}

uint64_t sac_labels_bytes(const sac_labels *labels)
{
    uint64_t bytes = labels->label == NULL ? 0
                                           : labels->capacity * sizeof *labels->label +
                                                 labels->table_size * sizeof *labels->table;

    for (uint32_t s = 0; s < labels->shard_count; s++)
        bytes += sac_mirror_bytes(&labels->live[s]);
    return bytes;
}
