#include "engine/item.h"

#include <endian.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { KEY_NUMBER = 1, KEY_TEXT = 2 };
enum { ITEM_HEADER_BYTES = 24, ATTRIBUTE_HEADER_BYTES = 8 };

static void put_u32(uint8_t *to, uint32_t value)
{
    value = htole32(value);
    memcpy(to, &value, sizeof value);
}

static void put_u64(uint8_t *to, uint64_t value)
{
    value = htole64(value);
    memcpy(to, &value, sizeof value);
}

static uint32_t get_u32(const uint8_t *from)
{
    uint32_t value;

    memcpy(&value, from, sizeof value);
    return le32toh(value);
}

static uint64_t get_u64(const uint8_t *from)
{
    uint64_t value;

    memcpy(&value, from, sizeof value);
    return le64toh(value);
}

/* ---- ids ---- */

size_t sac_id_key(sac_id id, uint8_t *key)
{
    uint64_t number = htobe64(id.number);

    if (id.text != NULL) {
        key[0] = KEY_TEXT;
        memcpy(key + 1, id.text, id.text_size);
        return 1 + id.text_size;
    }
    key[0] = KEY_NUMBER;
    memcpy(key + 1, &number, sizeof number);
    return 1 + sizeof number;
}

bool sac_id_from_key(const void *key, size_t size, sac_id *out)
{
    const uint8_t *bytes = key;

    *out = (sac_id){0};
    if (size < 2 || size > SAC_ID_KEY_MAX)
        return false;
    if (bytes[0] == KEY_TEXT) {
        out->text = (const char *)bytes + 1;
        out->text_size = size - 1;
        return true;
    }
    if (bytes[0] != KEY_NUMBER || size != 1 + sizeof out->number)
        return false;
    memcpy(&out->number, bytes + 1, sizeof out->number);
    out->number = be64toh(out->number);
    return out->number <= INT64_MAX;
}

int sac_id_compare(sac_id a, sac_id b)
{
    size_t shorter = a.text_size < b.text_size ? a.text_size : b.text_size;
    int order;

    if (a.text == NULL || b.text == NULL) {
        if (a.text != NULL || b.text != NULL)
            return a.text != NULL ? 1 : -1;
        return (a.number > b.number) - (a.number < b.number);
    }
    order = memcmp(a.text, b.text, shorter);
    return order != 0 ? order : (a.text_size > b.text_size) - (a.text_size < b.text_size);
}

const char *sac_id_print(sac_id id, char *text, size_t size)
{
    if (id.text != NULL)
        snprintf(text, size, "\"%.*s\"", (int)id.text_size, id.text);
    else
        snprintf(text, size, "%llu", (unsigned long long)id.number);
    return text;
}

sac_status sac_id_check(sac_id id, sac_error *err)
{
    if (id.text == NULL && id.number > INT64_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "id %llu is above 2^63-1", (unsigned long long)id.number);
    if (id.text != NULL && (id.text_size == 0 || id.text_size > SAC_ID_TEXT_MAX))
        return sac_fail(err, SAC_INVALID_ARGUMENT, "a text id has 1 to %u bytes, not %zu", SAC_ID_TEXT_MAX,
                        id.text_size);
    return SAC_OK;
}

/* ---- checks ---- */

static sac_status check_vector(const sac_item *item, uint32_t dim, sac_metric metric, sac_error *err)
{
    char id[80];
    bool zero = true;

    if (item->vector == NULL)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "item %s has no vector",
                        sac_id_print(item->id, id, sizeof id));
    for (uint32_t d = 0; d < dim; d++) {
        if (!isfinite(item->vector[d]))
            return sac_fail(err, SAC_INVALID_ARGUMENT, "component %u of item %s is not a finite number", d,
                            sac_id_print(item->id, id, sizeof id));
        zero = zero && item->vector[d] == 0.0f;
    }
    if (zero && metric == SAC_METRIC_COSINE)
        return sac_fail(
            err, SAC_INVALID_ARGUMENT,
            "the vector of item %s is all zeros: it has no direction, and cosine compares directions",
            sac_id_print(item->id, id, sizeof id));
    return SAC_OK;
}

static sac_status check_attribute(const sac_item *item, size_t index, sac_error *err)
{
    const sac_attribute *a = &item->attributes[index];
    char id[80];

    if (a->name == NULL || a->name_size == 0 || a->name_size > SAC_ATTRIBUTE_NAME_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "attribute %zu of item %s: a name has 1 to %u bytes, not %zu", index,
                        sac_id_print(item->id, id, sizeof id), SAC_ATTRIBUTE_NAME_MAX, a->name_size);
    if (a->kind == SAC_ATTRIBUTE_TEXT && a->text == NULL && a->text_size > 0)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "attribute %.*s of item %s has a size but no text",
                        (int)a->name_size, a->name, sac_id_print(item->id, id, sizeof id));
    if (a->kind == SAC_ATTRIBUTE_TEXT && a->text_size > SAC_ATTRIBUTE_TEXT_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "attribute %.*s of item %s has %zu bytes: at most %u are stored", (int)a->name_size,
                        a->name, sac_id_print(item->id, id, sizeof id), a->text_size, SAC_ATTRIBUTE_TEXT_MAX);
    if (a->kind == SAC_ATTRIBUTE_FLOAT && !isfinite(a->number))
        return sac_fail(err, SAC_INVALID_ARGUMENT, "attribute %.*s of item %s is not a finite number",
                        (int)a->name_size, a->name, sac_id_print(item->id, id, sizeof id));
    if (a->kind != SAC_ATTRIBUTE_INT && a->kind != SAC_ATTRIBUTE_FLOAT && a->kind != SAC_ATTRIBUTE_TEXT)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "attribute %.*s of item %s is of unknown kind %d",
                        (int)a->name_size, a->name, sac_id_print(item->id, id, sizeof id), (int)a->kind);
    for (size_t i = 0; i < index; i++)
        if (item->attributes[i].name_size == a->name_size &&
            memcmp(item->attributes[i].name, a->name, a->name_size) == 0)
            return sac_fail(err, SAC_INVALID_ARGUMENT, "item %s has attribute %.*s twice",
                            sac_id_print(item->id, id, sizeof id), (int)a->name_size, a->name);
    return SAC_OK;
}

sac_status sac_item_check(const sac_item *item, uint32_t dim, sac_metric metric, sac_error *err)
{
    sac_status st = sac_id_check(item->id, err);
    char id[80];

    if (st == SAC_OK)
        st = check_vector(item, dim, metric, err);
    if (st != SAC_OK)
        return st;
    if (item->source != NULL && item->source_size > SAC_ATTRIBUTE_TEXT_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "the source of item %s has %zu bytes: at most %u are stored",
                        sac_id_print(item->id, id, sizeof id), item->source_size, SAC_ATTRIBUTE_TEXT_MAX);
    if (item->attribute_count > SAC_ATTRIBUTES_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "item %s has %zu attributes: at most %u are stored",
                        sac_id_print(item->id, id, sizeof id), item->attribute_count, SAC_ATTRIBUTES_MAX);
    for (size_t i = 0; i < item->attribute_count && st == SAC_OK; i++)
        st = check_attribute(item, i, err);
    return st;
}

/* ---- encoding ---- */

static size_t source_bytes(const sac_item *item)
{
    return item->source != NULL ? item->source_size : 0;
}

static size_t value_bytes(const sac_attribute *a)
{
    return a->kind == SAC_ATTRIBUTE_TEXT ? a->text_size : sizeof(uint64_t);
}

size_t sac_item_size(const sac_item *item)
{
    size_t size = ITEM_HEADER_BYTES + source_bytes(item);

    for (size_t i = 0; i < item->attribute_count; i++)
        size += ATTRIBUTE_HEADER_BYTES + item->attributes[i].name_size + value_bytes(&item->attributes[i]);
    return size;
}

static uint8_t *encode_attribute(const sac_attribute *a, uint8_t *out)
{
    size_t size = value_bytes(a);
    uint64_t bits;

    out[0] = a->kind == SAC_ATTRIBUTE_INT ? 0 : a->kind == SAC_ATTRIBUTE_FLOAT ? 1 : 2;
    out[1] = (uint8_t)a->name_size;
    out[2] = out[3] = 0;
    put_u32(out + 4, (uint32_t)size);
    out += ATTRIBUTE_HEADER_BYTES;
    memcpy(out, a->name, a->name_size);
    out += a->name_size;
    if (a->kind == SAC_ATTRIBUTE_TEXT) {
        if (size > 0)
            memcpy(out, a->text, size);
    } else {
        if (a->kind == SAC_ATTRIBUTE_INT)
            bits = (uint64_t)a->integer;
        else
            memcpy(&bits, &a->number, sizeof bits);
        put_u64(out, bits);
    }
    return out + size;
}

static uint64_t item_checksum(const void *key, size_t key_size, const uint8_t *value, size_t value_size)
{
    return XXH3_64bits_withSeed(value + 8, value_size - 8, XXH3_64bits(key, key_size));
}

void sac_item_encode(const sac_item *item, uint64_t row, uint8_t *out)
{
    uint8_t key[SAC_ID_KEY_MAX];
    uint8_t *at = out + ITEM_HEADER_BYTES;
    size_t key_size = sac_id_key(item->id, key);

    put_u64(out + 8, row);
    put_u32(out + 16, (uint32_t)source_bytes(item));
    put_u32(out + 20, (uint32_t)item->attribute_count);
    if (source_bytes(item) > 0)
        memcpy(at, item->source, item->source_size);
    at += source_bytes(item);
    for (size_t i = 0; i < item->attribute_count; i++)
        at = encode_attribute(&item->attributes[i], at);
    put_u64(out, item_checksum(key, key_size, out, (size_t)(at - out)));
}

/* ---- parsing ---- */

/* Returns the bytes of the encoded attribute at `at`, or 0 when it does not fit into `left` bytes or breaks
 * its layout. */
static size_t attribute_bytes(const uint8_t *at, size_t left, size_t *text_bytes)
{
    size_t name_size, value_size;

    if (left < ATTRIBUTE_HEADER_BYTES)
        return 0;
    name_size = at[1];
    value_size = get_u32(at + 4);
    if (at[0] > 2 || name_size == 0 || name_size > SAC_ATTRIBUTE_NAME_MAX || at[2] != 0 || at[3] != 0)
        return 0;
    if (at[0] == 2 ? value_size > SAC_ATTRIBUTE_TEXT_MAX : value_size != sizeof(uint64_t))
        return 0;
    if (left - ATTRIBUTE_HEADER_BYTES < name_size + value_size)
        return 0;
    *text_bytes += name_size + (at[0] == 2 ? value_size : 0);
    return ATTRIBUTE_HEADER_BYTES + name_size + value_size;
}

/* Fills out from bytes whose checksum holds; false when they break the layout. */
static bool parse_value(const uint8_t *value, size_t size, struct sac_stored *out)
{
    size_t at = ITEM_HEADER_BYTES;

    out->row = get_u64(value + 8);
    out->source_size = get_u32(value + 16);
    out->attribute_count = get_u32(value + 20);
    if (out->row == 0 || out->source_size > SAC_ATTRIBUTE_TEXT_MAX || out->source_size > size - at ||
        out->attribute_count > SAC_ATTRIBUTES_MAX)
        return false;
    out->source = out->source_size > 0 ? (const char *)value + at : NULL;
    at += out->source_size;
    out->attributes = value + at;
    out->text_bytes = out->source_size;
    for (size_t i = 0; i < out->attribute_count; i++) {
        size_t bytes = attribute_bytes(value + at, size - at, &out->text_bytes);

        if (bytes == 0)
            return false;
        at += bytes;
    }
    return at == size;
}

sac_status sac_stored_parse(const void *key, size_t key_size, const void *value, size_t value_size,
                            struct sac_stored *out, sac_error *err)
{
    char id[80];

    memset(out, 0, sizeof *out);
    if (!sac_id_from_key(key, key_size, &out->id))
        return sac_fail(err, SAC_CORRUPT, "an item's key of %zu bytes is not an id", key_size);
    if (value_size < ITEM_HEADER_BYTES || get_u64(value) != item_checksum(key, key_size, value, value_size))
        return sac_fail(err, SAC_CORRUPT, "item %s fails its checksum", sac_id_print(out->id, id, sizeof id));
    if (!parse_value(value, value_size, out))
        return sac_fail(err, SAC_CORRUPT, "item %s does not follow its format",
                        sac_id_print(out->id, id, sizeof id));
    return SAC_OK;
}

/* ---- records ---- */

/* One block: this, the attributes, the vector, then all texts. */
struct sac_record {
    sac_item item;
    sac_attribute attributes[];
};

static char *copy_text(char **texts, const void *from, size_t size)
{
    char *to = *texts;

    memcpy(to, from, size);
    *texts += size;
    return to;
}

static const uint8_t *copy_attribute(const uint8_t *from, sac_attribute *to, char **texts)
{
    size_t value_size = get_u32(from + 4);
    uint64_t bits;

    memset(to, 0, sizeof *to);
    to->kind = from[0] == 0 ? SAC_ATTRIBUTE_INT : from[0] == 1 ? SAC_ATTRIBUTE_FLOAT : SAC_ATTRIBUTE_TEXT;
    to->name_size = from[1];
    from += ATTRIBUTE_HEADER_BYTES;
    to->name = copy_text(texts, from, to->name_size);
    from += to->name_size;
    if (to->kind == SAC_ATTRIBUTE_TEXT) {
        to->text = copy_text(texts, from, value_size);
        to->text_size = value_size;
    } else {
        bits = get_u64(from);
        if (to->kind == SAC_ATTRIBUTE_INT)
            to->integer = (int64_t)bits;
        else
            memcpy(&to->number, &bits, sizeof bits);
    }
    return from + value_size;
}

sac_status sac_record_copy(const struct sac_stored *stored, const void *vector, uint32_t dim, unsigned with,
                           sac_record **out, sac_error *err)
{
    size_t attribute_count = with & SAC_WITH_ATTRIBUTES ? stored->attribute_count : 0;
    size_t attributes_size = attribute_count * sizeof(sac_attribute);
    size_t vector_size = with & SAC_WITH_VECTOR ? dim * sizeof(float) : 0;
    sac_record *record =
        malloc(sizeof *record + attributes_size + vector_size + stored->id.text_size + stored->text_bytes);
    char *texts;

    *out = NULL;
    if (record == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a copy of an item");
    memset(&record->item, 0, sizeof record->item);
    texts = (char *)(record + 1) + attributes_size + vector_size;
    record->item.id = stored->id;
    if (stored->id.text != NULL)
        record->item.id.text = copy_text(&texts, stored->id.text, stored->id.text_size);
    if (vector_size > 0) {
        float *copy = (float *)(void *)((char *)(record + 1) + attributes_size);

        memcpy(copy, vector, vector_size);
        record->item.vector = copy;
    }
    if (attribute_count > 0) {
        const uint8_t *from = stored->attributes;

        for (size_t i = 0; i < attribute_count; i++)
            from = copy_attribute(from, &record->attributes[i], &texts);
        record->item.attributes = record->attributes;
        record->item.attribute_count = attribute_count;
    }
    if ((with & SAC_WITH_SOURCE) && stored->source != NULL) {
        record->item.source = copy_text(&texts, stored->source, stored->source_size);
        record->item.source_size = stored->source_size;
    }
    *out = record;
    return SAC_OK;
}

const sac_item *sac_record_item(const sac_record *record)
{
    return &record->item;
}

void sac_record_free(sac_record *record)
{
    free(record);
}
