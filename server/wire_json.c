#include "server/wire_json.h"

#include "server/human.h"

#include <stdlib.h>

static json_t *text_json(const msgpack_object_str *str)
{
    char *text = sac_human_text(str->ptr, str->size, false);
    json_t *json = text == NULL ? NULL : json_string(text);

    free(text);
    return json;
}

static json_t *array_json(const msgpack_object_array *array)
{
    json_t *json = json_array();

    for (uint32_t i = 0; json != NULL && i < array->size; i++) {
        if (json_array_append_new(json, sac_wire_json(&array->ptr[i])) != 0) {
            json_decref(json);
            json = NULL;
        }
    }
    return json;
}

static json_t *map_json(const msgpack_object_map *map)
{
    json_t *json = json_object();

    for (uint32_t i = 0; json != NULL && i < map->size; i++) {
        const msgpack_object *key = &map->ptr[i].key;
        char *name;
        if (key->type != MSGPACK_OBJECT_STR)
            continue;
        name = sac_human_text(key->via.str.ptr, key->via.str.size, false);
        if (name == NULL || json_object_set_new(json, name, sac_wire_json(&map->ptr[i].val)) != 0) {
            json_decref(json);
            json = NULL;
        }
        free(name);
    }
    return json;
}

json_t *sac_wire_json(const msgpack_object *value)
{
    switch (value->type) {
    case MSGPACK_OBJECT_BOOLEAN:
        return json_boolean(value->via.boolean);
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        if (value->via.u64 <= INT64_MAX)
            return json_integer((json_int_t)value->via.u64);
        return json_real((double)value->via.u64);
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return json_integer(value->via.i64);
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return json_real(value->via.f64);
    case MSGPACK_OBJECT_STR:
        return text_json(&value->via.str);
    case MSGPACK_OBJECT_ARRAY:
        return array_json(&value->via.array);
    case MSGPACK_OBJECT_MAP:
        return map_json(&value->via.map);
    case MSGPACK_OBJECT_NIL:
    case MSGPACK_OBJECT_BIN:
    case MSGPACK_OBJECT_EXT:
        break;
    }
    return json_null();
}
