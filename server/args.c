#include "server/args.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

sac_status sac_args_wrong(const struct sac_place *place, sac_error *err, const char *format, ...)
{
    char where[160], what[SAC_ERROR_TEXT_SIZE - 160];
    va_list args;
    int n = snprintf(where, sizeof where, "%s", place->method);

    if (place->array != NULL)
        n += snprintf(where + n, sizeof where - (size_t)n, ": %s[%zu]", place->array, place->index);
    if (place->field != NULL)
        snprintf(where + n, sizeof where - (size_t)n, "%s%.64s", place->array != NULL ? "." : ": ",
                 place->field);
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return sac_fail(err, SAC_INVALID_ARGUMENT, "%s: %s", where, what);
}

static const char *kind_name(const msgpack_object *value)
{
    switch (value->type) {
    case MSGPACK_OBJECT_NIL:
        return "nil";
    case MSGPACK_OBJECT_BOOLEAN:
        return "a boolean";
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return "an integer";
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return "a float";
    case MSGPACK_OBJECT_STR:
        return "a string";
    case MSGPACK_OBJECT_BIN:
        return "a binary";
    case MSGPACK_OBJECT_ARRAY:
        return "an array";
    case MSGPACK_OBJECT_MAP:
        return "a map";
    default:
        return "an extension";
    }
}

static sac_status wrong_kind(const struct sac_place *place, const char *wanted, const msgpack_object *got,
                             sac_error *err)
{
    return sac_args_wrong(place, err, "must be %s, not %s", wanted, kind_name(got));
}

void *sac_zone_alloc(msgpack_zone *zone, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return msgpack_zone_malloc(zone, bytes > 0 ? bytes : 1);
}

/* All names of the list, for an error text. */
static void list_names(const struct sac_field *fields, size_t n, char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < n && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, " %s", fields[i].name);
}

static sac_status put_field(const msgpack_object_kv *kv, const struct sac_place *place,
                            struct sac_field *fields, size_t n, sac_error *err)
{
    const msgpack_object_str *key = &kv->key.via.str;
    char names[256];

    if (kv->key.type != MSGPACK_OBJECT_STR)
        return sac_args_wrong(place, err, "field names must be strings, not %s", kind_name(&kv->key));
    for (size_t i = 0; i < n; i++) {
        if (strlen(fields[i].name) != key->size || memcmp(fields[i].name, key->ptr, key->size) != 0)
            continue;
        if (fields[i].value != NULL)
            return sac_args_wrong(place, err, "field %s is there twice", fields[i].name);
        if (kv->val.type != MSGPACK_OBJECT_NIL)
            fields[i].value = &kv->val;
        return SAC_OK;
    }
    list_names(fields, n, names, sizeof names);
    return sac_args_wrong(place, err, "unknown field \"%.*s\": fields are%s",
                          (int)(key->size < 64 ? key->size : 64), key->ptr, names);
}

sac_status sac_args_open(const msgpack_object *map, const struct sac_place *place, struct sac_field *fields,
                         size_t field_count, sac_error *err)
{
    if (map->type == MSGPACK_OBJECT_ARRAY && map->via.array.size == 0)
        return SAC_OK;
    if (map->type != MSGPACK_OBJECT_MAP)
        return wrong_kind(place, "a map of named fields", map, err);
    for (uint32_t i = 0; i < map->via.map.size; i++) {
        sac_status st = put_field(&map->via.map.ptr[i], place, fields, field_count, err);
        if (st != SAC_OK)
            return st;
    }
    return SAC_OK;
}

static bool is_float(const msgpack_object *value)
{
    return value->type == MSGPACK_OBJECT_FLOAT32 || value->type == MSGPACK_OBJECT_FLOAT64;
}

/* Any number as a double; false for another kind. */
static bool to_double(const msgpack_object *value, double *out)
{
    if (is_float(value))
        *out = value->via.f64;
    else if (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
        *out = (double)value->via.u64;
    else if (value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
        *out = (double)value->via.i64;
    else
        return false;
    return true;
}

sac_status sac_args_uint(const msgpack_object *value, const struct sac_place *place, uint64_t min,
                         uint64_t max, uint64_t *out, sac_error *err)
{
    uint64_t number;

    if (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER)
        number = value->via.u64;
    else if (is_float(value) && value->via.f64 >= 0 && value->via.f64 < 0x1p53 &&
             value->via.f64 == floor(value->via.f64))
        number = (uint64_t)value->via.f64;
    else if (is_float(value) || value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
        return sac_args_wrong(place, err, "must be a whole number from %llu to %llu", (unsigned long long)min,
                              (unsigned long long)max);
    else
        return wrong_kind(place, "an integer", value, err);
    if (number < min || number > max)
        return sac_args_wrong(place, err, "is %llu: allowed are %llu to %llu", (unsigned long long)number,
                              (unsigned long long)min, (unsigned long long)max);
    *out = number;
    return SAC_OK;
}

sac_status sac_args_number(const msgpack_object *value, const struct sac_place *place, double min, double max,
                           double *out, sac_error *err)
{
    double number;

    if (!to_double(value, &number))
        return wrong_kind(place, "a number", value, err);
    if (!(number >= min && number <= max)) /* NaN is refused too */
        return sac_args_wrong(place, err, "is %g: allowed are %g to %g", number, min, max);
    *out = number;
    return SAC_OK;
}

sac_status sac_args_bool(const msgpack_object *value, const struct sac_place *place, bool *out,
                         sac_error *err)
{
    if (value->type != MSGPACK_OBJECT_BOOLEAN)
        return wrong_kind(place, "true or false", value, err);
    *out = value->via.boolean;
    return SAC_OK;
}

static sac_status check_text(const msgpack_object *value, const struct sac_place *place, size_t min,
                             size_t max, sac_error *err)
{
    if (value->type != MSGPACK_OBJECT_STR)
        return wrong_kind(place, "a string", value, err);
    if (value->via.str.size < min || value->via.str.size > max)
        return sac_args_wrong(place, err, "has %u bytes: allowed are %zu to %zu", value->via.str.size, min,
                              max);
    return SAC_OK;
}

sac_status sac_args_text(const msgpack_object *value, const struct sac_place *place, size_t min, size_t max,
                         msgpack_zone *zone, const char **out, sac_error *err)
{
    sac_status st = check_text(value, place, min, max, err);
    const msgpack_object_str *str = &value->via.str;
    char *text;

    if (st != SAC_OK)
        return st;
    if (memchr(str->ptr, '\0', str->size) != NULL)
        return sac_args_wrong(place, err, "must not hold a NUL byte");
    text = sac_zone_alloc(zone, str->size + (size_t)1, 1);
    if (text == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a request");
    memcpy(text, str->ptr, str->size);
    text[str->size] = '\0';
    *out = text;
    return SAC_OK;
}

sac_status sac_args_bytes(const msgpack_object *value, const struct sac_place *place, const void **bytes,
                          size_t *size, sac_error *err)
{
    if (value->type != MSGPACK_OBJECT_BIN && value->type != MSGPACK_OBJECT_STR)
        return wrong_kind(place, "a binary or a string of picture bytes", value, err);
    *bytes = value->type == MSGPACK_OBJECT_BIN ? value->via.bin.ptr : value->via.str.ptr;
    *size = value->type == MSGPACK_OBJECT_BIN ? value->via.bin.size : value->via.str.size;
    return SAC_OK;
}

sac_status sac_args_array(const msgpack_object *value, const struct sac_place *place, size_t min, size_t max,
                          const msgpack_object **elements, size_t *count, sac_error *err)
{
    if (value->type != MSGPACK_OBJECT_ARRAY)
        return wrong_kind(place, "an array", value, err);
    if (value->via.array.size < min || value->via.array.size > max)
        return sac_args_wrong(place, err, "has %u elements: allowed are %zu to %zu", value->via.array.size,
                              min, max);
    *elements = value->via.array.ptr;
    *count = value->via.array.size;
    return SAC_OK;
}

sac_status sac_args_id(const msgpack_object *value, const struct sac_place *place, sac_id *out,
                       sac_error *err)
{
    *out = (sac_id){0};
    if (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
        if (value->via.u64 > INT64_MAX)
            return sac_args_wrong(place, err, "an id is at most 2^63-1");
        out->number = value->via.u64;
        return SAC_OK;
    }
    if (value->type != MSGPACK_OBJECT_STR)
        return wrong_kind(place, "an id: an integer from 0 to 2^63-1, or a string", value, err);
    sac_status st = check_text(value, place, 1, SAC_ID_TEXT_MAX, err);
    out->text = value->via.str.ptr;
    out->text_size = value->via.str.size;
    return st;
}

static sac_status vector_from_array(const msgpack_object *value, const struct sac_place *place, uint32_t dim,
                                    float *out, sac_error *err)
{
    const msgpack_object_array *array = &value->via.array;

    if (array->size != dim)
        return sac_args_wrong(place, err, "has %u numbers, and the collection has %u dimensions", array->size,
                              dim);
    for (uint32_t i = 0; i < dim; i++) {
        double number;
        if (!to_double(&array->ptr[i], &number))
            return sac_args_wrong(place, err, "holds %s at position %u: must be numbers",
                                  kind_name(&array->ptr[i]), i);
        out[i] = (float)number;
    }
    return SAC_OK;
}

sac_status sac_args_vector(const msgpack_object *value, const struct sac_place *place, uint32_t dim,
                           float *out, sac_error *err)
{
    sac_status st = SAC_OK;

    if (value->type == MSGPACK_OBJECT_ARRAY)
        st = vector_from_array(value, place, dim, out, err);
    else if (value->type != MSGPACK_OBJECT_BIN)
        st = wrong_kind(place, "an array of numbers, or a binary of float32", value, err);
    else if (value->via.bin.size != dim * sizeof(float))
        st = sac_args_wrong(place, err, "has %u bytes: %u dimensions of float32 are %zu", value->via.bin.size,
                            dim, dim * sizeof(float));
    else
        memcpy(out, value->via.bin.ptr, dim * sizeof(float)); /* this machine is little-endian, as the wire */
    if (st != SAC_OK)
        return st;
    for (uint32_t i = 0; i < dim; i++)
        if (!isfinite(out[i]))
            return sac_args_wrong(place, err, "is not finite at position %u", i);
    return SAC_OK;
}

static unsigned with_flag(const msgpack_object *word)
{
    static const struct {
        const char *name;
        unsigned flag;
    } words[] = {{"attributes", SAC_WITH_ATTRIBUTES},
                 {"vector", SAC_WITH_VECTOR},
                 {"vectors", SAC_WITH_VECTOR},
                 {"source", SAC_WITH_SOURCE}};

    if (word->type != MSGPACK_OBJECT_STR)
        return 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i].name) == word->via.str.size &&
            memcmp(words[i].name, word->via.str.ptr, word->via.str.size) == 0)
            return words[i].flag;
    return 0;
}

sac_status sac_args_with(const msgpack_object *value, const struct sac_place *place, unsigned *out,
                         sac_error *err)
{
    const msgpack_object *words = value;
    size_t count = 1;

    if (value->type != MSGPACK_OBJECT_STR) {
        sac_status st = sac_args_array(value, place, 0, 8, &words, &count, err);
        if (st != SAC_OK)
            return st;
    }
    *out = 0;
    for (size_t i = 0; i < count; i++) {
        unsigned flag = with_flag(&words[i]);
        if (flag == 0)
            return sac_args_wrong(place, err, "may hold \"attributes\", \"vector\" and \"source\"");
        *out |= flag;
    }
    return SAC_OK;
}

sac_status sac_args_crop(const msgpack_object *value, const struct sac_place *place, sac_crop *out,
                         sac_error *err)
{
    const msgpack_object *elements = NULL;
    uint64_t xywh[4];
    size_t count = 0;
    sac_status st = sac_args_array(value, place, 4, 4, &elements, &count, err);

    if (st != SAC_OK)
        return st;
    assert(elements != NULL);
    for (size_t i = 0; i < 4 && st == SAC_OK; i++)
        st = sac_args_uint(&elements[i], place, i < 2 ? 0 : 1, INT32_MAX, &xywh[i], err);
    if (st == SAC_OK)
        *out = (sac_crop){(uint32_t)xywh[0], (uint32_t)xywh[1], (uint32_t)xywh[2], (uint32_t)xywh[3]};
    return st;
}

static sac_status read_attribute(const msgpack_object_kv *kv, const struct sac_place *place,
                                 sac_attribute *out, sac_error *err)
{
    const msgpack_object *value = &kv->val;

    if (kv->key.type != MSGPACK_OBJECT_STR || kv->key.via.str.size == 0 ||
        kv->key.via.str.size > SAC_ATTRIBUTE_NAME_MAX)
        return sac_args_wrong(place, err, "names must be strings of 1 to %u bytes", SAC_ATTRIBUTE_NAME_MAX);
    *out = (sac_attribute){.name = kv->key.via.str.ptr, .name_size = kv->key.via.str.size};
    if (value->type == MSGPACK_OBJECT_POSITIVE_INTEGER && value->via.u64 <= INT64_MAX) {
        out->kind = SAC_ATTRIBUTE_INT;
        out->integer = (int64_t)value->via.u64;
    } else if (value->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) {
        out->kind = SAC_ATTRIBUTE_INT;
        out->integer = value->via.i64;
    } else if (is_float(value) && isfinite(value->via.f64)) {
        out->kind = SAC_ATTRIBUTE_FLOAT;
        out->number = value->via.f64;
    } else if (value->type == MSGPACK_OBJECT_STR && value->via.str.size <= SAC_ATTRIBUTE_TEXT_MAX) {
        out->kind = SAC_ATTRIBUTE_TEXT;
        out->text = value->via.str.ptr;
        out->text_size = value->via.str.size;
    } else {
        return sac_args_wrong(place, err,
                              "\"%.*s\" must be an integer, a finite float or a string of at most %u bytes",
                              (int)out->name_size, out->name, SAC_ATTRIBUTE_TEXT_MAX);
    }
    return SAC_OK;
}

sac_status sac_args_attributes(const msgpack_object *value, const struct sac_place *place, msgpack_zone *zone,
                               const sac_attribute **out, size_t *count, sac_error *err)
{
    sac_attribute *list;
    sac_status st = SAC_OK;

    *out = NULL;
    *count = 0;
    if (value->type == MSGPACK_OBJECT_ARRAY && value->via.array.size == 0)
        return SAC_OK;
    if (value->type != MSGPACK_OBJECT_MAP)
        return wrong_kind(place, "a map", value, err);
    if (value->via.map.size > SAC_ATTRIBUTES_MAX)
        return sac_args_wrong(place, err, "has %u entries: at most %u", value->via.map.size,
                              SAC_ATTRIBUTES_MAX);
    list = sac_zone_alloc(zone, value->via.map.size, sizeof *list);
    if (list == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a request");
    for (uint32_t i = 0; i < value->via.map.size && st == SAC_OK; i++)
        st = read_attribute(&value->via.map.ptr[i], place, &list[i], err);
    if (st == SAC_OK) {
        *out = list;
        *count = value->via.map.size;
    }
    return st;
}
