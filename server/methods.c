#include "server/methods.h"

#include "server/pipeline.h"

static uint32_t control_bytes(const struct sac_server_limits *limits)
{
    return limits->control_bytes;
}

static uint32_t search_bytes(const struct sac_server_limits *limits)
{
    return limits->search_bytes;
}

static uint32_t put_bytes(const struct sac_server_limits *limits)
{
    return limits->put_bytes;
}

#define READS(name, need, start)                                                     \
    {                                                                                \
        name, "control", control_bytes, false, false, need, SAC_STAGE_CONTROL, start \
    }
#define WRITES(name, need, last, start)                             \
    {                                                               \
        name, "bulk", control_bytes, true, false, need, last, start \
    }

const struct sac_method sac_methods[] = {
    READS("ping", SAC_NEED_NOTHING, sac_method_ping),
    READS("info", SAC_NEED_COLLECTION_IF_NAMED, sac_method_info),
    WRITES("create", SAC_NEED_NOTHING, SAC_STAGE_CONTROL, sac_method_create),
    WRITES("drop", SAC_NEED_NOTHING, SAC_STAGE_CONTROL, sac_method_drop),
    READS("list", SAC_NEED_NOTHING, sac_method_list),
    {"put", "bulk", put_bytes, true, true, SAC_NEED_COLLECTION, SAC_STAGE_WRITE, sac_method_put},
    {"delete", "bulk", put_bytes, true, false, SAC_NEED_COLLECTION, SAC_STAGE_WRITE, sac_method_delete},
    {"get", "control", search_bytes, false, false, SAC_NEED_COLLECTION, SAC_STAGE_CONTROL, sac_method_get},
    READS("count", SAC_NEED_COLLECTION, sac_method_count_items),
    {"search", "interactive", search_bytes, false, false, SAC_NEED_COLLECTION, SAC_STAGE_SEARCH,
     sac_method_search},
    {"embed", "interactive", search_bytes, false, false, SAC_NEED_COLLECTION_IF_NAMED, SAC_STAGE_EMBED,
     sac_method_embed},
    READS("stats", SAC_NEED_COLLECTION_IF_NAMED, sac_method_stats),
};
const size_t sac_method_count = sizeof sac_methods / sizeof *sac_methods;

_Static_assert(sizeof sac_methods / sizeof *sac_methods < SAC_METRICS_METHODS_MAX,
               "a row for unknown methods");

const struct sac_method *sac_method_find(const char *name, size_t name_size)
{
    for (size_t i = 0; i < sac_method_count; i++)
        if (strlen(sac_methods[i].name) == name_size && memcmp(sac_methods[i].name, name, name_size) == 0)
            return &sac_methods[i];
    return NULL;
}

uint32_t sac_method_row(const struct sac_method *method)
{
    return method != NULL ? (uint32_t)(method - sac_methods) : (uint32_t)sac_method_count;
}

void sac_methods_label(struct sac_metrics *metrics)
{
    for (size_t i = 0; i < sac_method_count; i++) {
        metrics->method_names[i] = sac_methods[i].name;
        metrics->method_classes[i] = sac_methods[i].class_name;
    }
    metrics->method_names[sac_method_count] = "unknown";
    metrics->method_classes[sac_method_count] = "control";
}

/* ---- what every method has ------------------------------------------------------------------------------
 */

static const msgpack_object *peek(const msgpack_object *map, const char *name)
{
    for (uint32_t i = 0; map->type == MSGPACK_OBJECT_MAP && i < map->via.map.size; i++) {
        const msgpack_object_kv *kv = &map->via.map.ptr[i];
        if (kv->key.type == MSGPACK_OBJECT_STR && kv->key.via.str.size == strlen(name) &&
            memcmp(kv->key.via.str.ptr, name, kv->key.via.str.size) == 0)
            return kv->val.type != MSGPACK_OBJECT_NIL ? &kv->val : NULL;
    }
    return NULL;
}

/* params is an array that is empty or holds one map: request->params becomes that map. */
static sac_status open_params(struct sac_request *request, sac_error *err)
{
    const msgpack_object *params = &request->params;

    if (params->type != MSGPACK_OBJECT_ARRAY)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "%s: params must be an array", request->method->name);
    if (params->via.array.size > 1)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "%s: takes one map of named fields, not %u parameters in a row",
                        request->method->name, params->via.array.size);
    if (params->via.array.size == 1) {
        msgpack_object map = params->via.array.ptr[0];
        request->params = map;
    }
    return SAC_OK;
}

static sac_status read_timeout(struct sac_request *request, sac_error *err)
{
    const struct sac_server_limits *limits = &request->core->config->limits;
    const struct sac_place place = {.method = request->method->name, .field = "timeout_ms"};
    const msgpack_object *value = peek(&request->params, "timeout_ms");
    uint64_t ms = request->method->writes ? limits->timeout_ms_max : limits->timeout_ms;
    sac_status st = SAC_OK;

    if (value != NULL)
        st = sac_args_uint(value, &place, 1, limits->timeout_ms_max, &ms, err);
    request->node.deadline_ns = request->arrived_ns + ms * 1000000;
    return st;
}

sac_status sac_method_collection(struct sac_request *request, const msgpack_object *value, const char **out,
                                 sac_error *err)
{
    const struct sac_place place = {.method = request->method->name, .field = "collection"};

    if (value == NULL)
        return sac_args_wrong(&place, err, "must be there");
    return sac_args_text(value, &place, 1, SAC_NAME_MAX, &request->zone, out, err);
}

sac_status sac_method_fields(struct sac_request *request, struct sac_field *fields, size_t field_count,
                             struct sac_place *place, sac_error *err)
{
    *place = (struct sac_place){.method = request->method->name};
    return sac_args_open(&request->params, place, fields, field_count, err);
}

static void start_method(struct sac_request *request)
{
    sac_error err;

    if (request->method->start(request, &err) != SAC_OK)
        sac_request_fail(request, &err, 0);
}

/* On a control thread. */
static sac_status open_collection(struct sac_request *request, sac_error *err)
{
    sac_status st = sac_catalog_open(request->core->catalog, request->name, &request->entry, err);

    if (st != SAC_OK)
        return st;
    request->resume = start_method;
    sac_request_done(request);
    return SAC_OK;
}

static sac_status begin_method(struct sac_request *request, sac_error *err)
{
    const msgpack_object *collection;
    sac_status st = open_params(request, err);

    if (st == SAC_OK)
        st = read_timeout(request, err);
    if (st != SAC_OK)
        return st;
    collection = peek(&request->params, "collection");
    if (request->method->need == SAC_NEED_NOTHING ||
        (request->method->need == SAC_NEED_COLLECTION_IF_NAMED && collection == NULL))
        return request->method->start(request, err);
    st = sac_method_collection(request, collection, &request->name, err);
    if (st != SAC_OK)
        return st;
    request->entry = sac_catalog_find(request->core->catalog, request->name, strlen(request->name));
    if (request->entry != NULL)
        return request->method->start(request, err);
    sac_pipeline_control(request, open_collection);
    return SAC_OK;
}

void sac_method_begin(struct sac_request *request)
{
    sac_error err;

    if (begin_method(request, &err) != SAC_OK)
        sac_request_fail(request, &err, 0);
}
