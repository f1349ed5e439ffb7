/* methods_info.c -- info and stats: what there is, and how it goes. */
#include "server/methods.h"

#include "server/pipeline.h"

static const struct {
    const char *name;
    size_t offset;
} limit_fields[] = {
#define LIMIT(field)                                      \
    {                                                     \
#field, offsetof(struct sac_server_limits, field) \
    }
    LIMIT(connections),       LIMIT(control_bytes), LIMIT(search_bytes), LIMIT(put_bytes),
    LIMIT(elements),          LIMIT(put_elements),  LIMIT(depth),        LIMIT(images),
    LIMIT(queries),           LIMIT(items),         LIMIT(in_flight),    LIMIT(output_soft_bytes),
    LIMIT(output_hard_bytes), LIMIT(message_ms),    LIMIT(idle_ms),      LIMIT(timeout_ms),
    LIMIT(timeout_ms_max),
#undef LIMIT
};

static void pack_limits(msgpack_packer *packer, const struct sac_server_limits *limits)
{
    size_t n = sizeof limit_fields / sizeof *limit_fields;

    msgpack_pack_map(packer, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t value;
        memcpy(&value, (const char *)limits + limit_fields[i].offset, sizeof value);
        sac_pack_key_uint(packer, limit_fields[i].name, value);
    }
}

static void count_model(void *context, struct sac_model *model)
{
    (void)model;
    ++*(size_t *)context;
}

struct model_list {
    msgpack_packer *packer;
    size_t left;
};

static void pack_model(void *context, struct sac_model *model)
{
    struct model_list *list = context;

    if (list->left == 0)
        return;
    list->left--;
    msgpack_pack_map(list->packer, 3);
    sac_pack_key_text(list->packer, "name", sac_encoder_name(model->encoder));
    sac_pack_key_uint(list->packer, "dim", sac_encoder_dim(model->encoder));
    sac_pack_key_text(list->packer, "fingerprint", sac_encoder_fingerprint(model->encoder));
}

/* No model goes away between the two walks: at least as many are there as were counted. */
static void pack_models(msgpack_packer *packer, sac_catalog *catalog)
{
    struct model_list list = {packer, 0};

    sac_catalog_each_model(catalog, count_model, &list.left);
    msgpack_pack_array(packer, list.left);
    sac_catalog_each_model(catalog, pack_model, &list);
}

static double uptime(const struct sac_core *core)
{
    return (double)(sac_now_ns() - core->metrics.started_ns) * 1e-9;
}

static void reply_server_info(struct sac_request *request)
{
    struct sac_core *core = request->core;
    sac_device_memory memory;
    msgpack_packer packer;

    sac_catalog_device_memory(core->catalog, &memory);
    sac_reply_begin(request, &packer);
    msgpack_pack_map(&packer, 9);
    sac_pack_key_text(&packer, "version", sac_version());
    sac_pack_key_uint(&packer, "protocol", 1);
    sac_pack_text(&packer, "methods");
    msgpack_pack_array(&packer, sac_method_count);
    for (size_t i = 0; i < sac_method_count; i++)
        sac_pack_text(&packer, sac_methods[i].name);
    sac_pack_key_text(&packer, "device", sac_catalog_device(core->catalog));
    sac_pack_text(&packer, "device_memory");
    msgpack_pack_map(&packer, 2);
    sac_pack_key_uint(&packer, "budget", memory.budget);
    sac_pack_key_uint(&packer, "used", memory.used);
    sac_pack_key_text(&packer, "image_formats", sac_image_formats());
    sac_pack_text(&packer, "models");
    pack_models(&packer, core->catalog);
    sac_pack_text(&packer, "limits");
    pack_limits(&packer, &core->config->limits);
    sac_pack_key_double(&packer, "uptime_s", uptime(core));
    sac_reply_end(request);
}

static sac_status collection_info(struct sac_request *request, sac_error *err)
{
    const struct sac_entry *entry = request->entry;
    bool broken = entry->model == NULL && entry->model_error.status != SAC_UNSUPPORTED;
    sac_collection_info info;
    msgpack_packer packer;

    (void)err;
    sac_collection_stats(entry->collection, &info);
    sac_reply_begin(request, &packer);
    msgpack_pack_map(&packer, 9 + broken);
    sac_pack_key_text(&packer, "collection", entry->name);
    sac_pack_key_uint(&packer, "dim", entry->params.dim);
    sac_pack_key_text(&packer, "metric", sac_metric_name(entry->params.metric));
    sac_pack_key_text(&packer, "index", info.index.trained ? info.index.spec : entry->params.spec);
    sac_pack_key_text(&packer, "model", entry->params.model);
    sac_pack_key_text(&packer, "fingerprint", entry->params.fingerprint);
    sac_pack_key_uint(&packer, "count", info.count);
    sac_pack_key_bool(&packer, "trained", info.index.trained);
    sac_pack_key_bool(&packer, "images", entry->model != NULL);
    if (broken)
        sac_pack_key_text(&packer, "images_error", entry->model_error.text);
    sac_reply_end(request);
    return SAC_OK;
}

static sac_status collection_stats(struct sac_request *request, sac_error *err)
{
    sac_collection_info info;
    msgpack_packer packer;

    (void)err;
    sac_collection_stats(request->entry->collection, &info);
    sac_reply_begin(request, &packer);
    msgpack_pack_map(&packer, 14);
    sac_pack_key_text(&packer, "collection", request->entry->name);
    sac_pack_key_uint(&packer, "count", info.count);
    sac_pack_key_uint(&packer, "bytes_store", info.bytes_store);
    sac_pack_key_uint(&packer, "bytes_codes", info.index.bytes_codes);
    sac_pack_key_uint(&packer, "bytes_vectors", info.index.bytes_vectors);
    sac_pack_key_uint(&packer, "bytes_other", info.index.bytes_other);
    sac_pack_key_bool(&packer, "read_only", info.read_only);
    sac_pack_key_bool(&packer, "trained", info.index.trained);
    sac_pack_key_bool(&packer, "measured", info.index.measured);
    sac_pack_key_text(&packer, "index", info.index.spec);
    sac_pack_key_uint(&packer, "nlist", info.index.nlist);
    sac_pack_key_uint(&packer, "m", info.index.m);
    sac_pack_key_uint(&packer, "nbits", info.index.nbits);
    sac_pack_key_double(&packer, "list_imbalance", info.index.list_imbalance);
    sac_reply_end(request);
    return SAC_OK;
}

static void reply_server_stats(struct sac_request *request)
{
    struct sac_core *core = request->core;
    struct sac_metrics *metrics = &core->metrics;
    uint64_t rejected = 0;
    msgpack_packer packer;

    for (int i = 0; i < SAC_REJECT_COUNT; i++)
        rejected += sac_counted(&metrics->rejected[i]);
    sac_reply_begin(request, &packer);
    msgpack_pack_map(&packer, 8);
    sac_pack_key_double(&packer, "uptime_s", uptime(core));
    sac_pack_key_uint(&packer, "connections", sac_counted(&metrics->connections));
    sac_pack_key_uint(&packer, "requests", sac_metrics_requests(metrics));
    sac_pack_key_uint(&packer, "notifications", sac_counted(&metrics->notifications));
    sac_pack_key_uint(&packer, "in_flight", sac_counted(&metrics->in_flight));
    sac_pack_key_uint(&packer, "request_bytes", sac_counted(&metrics->request_bytes));
    sac_pack_key_uint(&packer, "rejected", rejected);
    sac_pack_text(&packer, "batches");
    msgpack_pack_map(&packer, SAC_STAGE_COUNT);
    for (int s = 0; s < SAC_STAGE_COUNT; s++) {
        double mean;
        uint64_t count = sac_metrics_batches(metrics, (enum sac_stage)s, &mean);
        sac_pack_text(&packer, sac_stage_name((enum sac_stage)s));
        msgpack_pack_map(&packer, 2);
        sac_pack_key_uint(&packer, "count", count);
        sac_pack_key_double(&packer, "mean", mean);
    }
    sac_reply_end(request);
}

static sac_status one_or_all(struct sac_request *request, void (*all)(struct sac_request *),
                             sac_status (*one)(struct sac_request *, sac_error *), sac_error *err)
{
    struct sac_field fields[] = {{.name = "collection"}, {.name = "timeout_ms"}};
    struct sac_place place;
    sac_status st = sac_method_fields(request, fields, 2, &place, err);

    if (st != SAC_OK)
        return st;
    if (request->entry != NULL)
        sac_pipeline_control(request, one);
    else
        all(request);
    return SAC_OK;
}

sac_status sac_method_info(struct sac_request *request, sac_error *err)
{
    return one_or_all(request, reply_server_info, collection_info, err);
}

sac_status sac_method_stats(struct sac_request *request, sac_error *err)
{
    return one_or_all(request, reply_server_stats, collection_stats, err);
}
