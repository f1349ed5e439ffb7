/* item.h -- the bytes of an id and of an item, and copies of items that outlive the store's pages.
 *
 * An id as a key. Keys compare as byte strings, so numbers come before texts and both in their order:
 *   number  0x01, then the number as 8 bytes, big-endian; at most 2^63-1
 *   text    0x02, then the 1..256 bytes of the text
 *
 * An item as a value (its vector lives elsewhere, see store.h). Numbers are little-endian:
 *   offset size
 *        0    8  XXH3-64 of everything from offset 8 on, seeded with the XXH3-64 of the key
 *        8    8  row: names the item's vector; never 0, never used twice
 *       16    4  s, bytes of the source path, 0..4096; 0: none
 *       20    4  a, attributes, 0..64
 *       24    s  the source path
 *     24+s       a times, in the order in which they were given:
 *          1  kind: 0 integer, 1 float, 2 text
 *          1  n, bytes of the name, 1..64
 *          2  zero
 *          4  v, bytes of the value: 8 for numbers, 0..4096 for a text
 *          n  the name
 *          v  the value: i64, or the bits of an f64, or the text
 * and nothing after the last attribute.
 */
#ifndef SACCADE_ITEM_H
#define SACCADE_ITEM_H

#include "engine/saccade.h"

#define SAC_ID_KEY_MAX (1 + SAC_ID_TEXT_MAX)

/* Writes the key of a valid id; returns its size, at most SAC_ID_KEY_MAX. */
size_t sac_id_key(sac_id id, uint8_t *key);
/* The id of a key; its text points into the key. False for bytes that are no key. */
bool sac_id_from_key(const void *key, size_t size, sac_id *out);
/* Below, at or above 0, as the keys compare. */
int sac_id_compare(sac_id a, sac_id b);
/* For messages: the number, or the text in quotes, cut to fit. Returns text. */
const char *sac_id_print(sac_id id, char *text, size_t size);

/* SAC_INVALID_ARGUMENT unless the id is one. */
sac_status sac_id_check(sac_id id, sac_error *err);
/* Everything that a collection of this dimension and metric asks of an item. SAC_INVALID_ARGUMENT. */
sac_status sac_item_check(const sac_item *item, uint32_t dim, sac_metric metric, sac_error *err);

/* Bytes that sac_item_encode writes for a valid item. */
size_t sac_item_size(const sac_item *item);
void sac_item_encode(const sac_item *item, uint64_t row, uint8_t *out);

/* An item as it lies in the store: everything points into the key and the value. */
struct sac_stored {
    sac_id id;
    uint64_t row;
    const char *source;
    size_t source_size;
    const uint8_t *attributes; /* encoded, each checked */
    size_t attribute_count;
    size_t text_bytes; /* of all names and text values */
};

/* Checks every byte's place and the checksum. SAC_CORRUPT names the item. */
sac_status sac_stored_parse(const void *key, size_t key_size, const void *value, size_t value_size,
                            struct sac_stored *out, sac_error *err);

/* Copies an item, with the parts that `with` names (SAC_WITH_*). vector: [dim] floats, not necessarily
 * aligned; only read for SAC_WITH_VECTOR. The record is the caller's. SAC_NO_MEMORY. */
sac_status sac_record_copy(const struct sac_stored *stored, const void *vector, uint32_t dim, unsigned with,
                           sac_record **out, sac_error *err);

#endif
