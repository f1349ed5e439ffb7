/* methods_collection.c -- ping, create, drop, list, count. */
#include "server/methods.h"

#include "server/pipeline.h"

#include <stdlib.h>

sac_status sac_method_ping(struct sac_request *request, sac_error *err)
{
    struct sac_field fields[] = {{.name = "timeout_ms"}};
    struct sac_place place;
    msgpack_packer packer;
    sac_status st = sac_method_fields(request, fields, 1, &place, err);

    if (st != SAC_OK)
        return st;
    sac_reply_begin(request, &packer);
    sac_pack_text(&packer, "pong");
    sac_reply_end(request);
    return SAC_OK;
}

/* ---- create ------------------------------------------------------------------------------------------- */

/* create.model still holds the client's word for it. */
static sac_status resolve_model(struct sac_request *request, sac_error *err)
{
    sac_collection_params *params = &request->create;
    uint32_t dim;
    sac_status st = sac_catalog_model(request->core->catalog, params->model, &request->model, err);

    if (st != SAC_OK)
        return st;
    dim = sac_encoder_dim(request->model->encoder);
    if (params->dim != 0 && params->dim != dim)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "create: dim: is %u, and model %s gives %u: leave dim out",
                        params->dim, sac_encoder_name(request->model->encoder), dim);
    params->dim = dim;
    params->model = request->model->path;
    params->fingerprint = sac_encoder_fingerprint(request->model->encoder);
    return SAC_OK;
}

static sac_status create_collection(struct sac_request *request, sac_error *err)
{
    sac_collection_params *params = &request->create;
    msgpack_packer packer;
    sac_status st = params->model[0] != '\0' ? resolve_model(request, err) : SAC_OK;

    if (st == SAC_OK)
        st = sac_database_create(sac_catalog_database(request->core->catalog), request->name, params, err);
    if (st != SAC_OK)
        return st;
    sac_reply_begin(request, &packer);
    msgpack_pack_map(&packer, 5);
    sac_pack_key_text(&packer, "collection", request->name);
    sac_pack_key_uint(&packer, "dim", params->dim);
    sac_pack_key_text(&packer, "metric", sac_metric_name(params->metric));
    sac_pack_key_text(&packer, "index", params->spec);
    sac_pack_key_text(&packer, "model", params->model);
    sac_reply_end(request);
    return SAC_OK;
}

/* A text field that may be absent: *out stays as it is then. */
static sac_status optional_text(struct sac_request *request, const struct sac_field *field, size_t max,
                                const char **out, sac_error *err)
{
    const struct sac_place place = {.method = request->method->name, .field = field->name};

    if (field->value == NULL)
        return SAC_OK;
    return sac_args_text(field->value, &place, 1, max, &request->zone, out, err);
}

sac_status sac_method_create(struct sac_request *request, sac_error *err)
{
    enum { COLLECTION, DIM, MODEL, METRIC, INDEX, TIMEOUT, COUNT };
    struct sac_field fields[COUNT] = {{.name = "collection"}, {.name = "dim"},   {.name = "model"},
                                      {.name = "metric"},     {.name = "index"}, {.name = "timeout_ms"}};
    sac_collection_params *params = &request->create;
    struct sac_place place;
    const char *metric = "cosine";
    uint64_t dim = 0;
    sac_status st = sac_method_fields(request, fields, COUNT, &place, err);

    sac_collection_params_init(params);
    params->model = params->fingerprint = "";
    params->spec = "auto";
    if (st == SAC_OK)
        st = sac_method_collection(request, fields[COLLECTION].value, &request->name, err);
    if (st == SAC_OK && fields[DIM].value == NULL && fields[MODEL].value == NULL)
        st = sac_args_wrong(&place, err, "dim (for vectors) or model (for pictures) must be there");
    place.field = "dim";
    if (st == SAC_OK && fields[DIM].value != NULL)
        st = sac_args_uint(fields[DIM].value, &place, 1, SAC_DIM_MAX, &dim, err);
    if (st == SAC_OK)
        st = optional_text(request, &fields[MODEL], 4096, &params->model, err);
    if (st == SAC_OK)
        st = optional_text(request, &fields[METRIC], 32, &metric, err);
    if (st == SAC_OK)
        st = optional_text(request, &fields[INDEX], 63, &params->spec, err);
    if (st == SAC_OK)
        st = sac_metric_parse(metric, &params->metric, err);
    params->dim = (uint32_t)dim;
    if (st == SAC_OK)
        sac_pipeline_control(request, create_collection);
    return st;
}

/* ---- drop, list, count -------------------------------------------------------------------------------- */

static sac_status drop_collection(struct sac_request *request, sac_error *err)
{
    msgpack_packer packer;
    sac_status st = sac_catalog_drop(request->core->catalog, request->name, err);

    if (st != SAC_OK)
        return st;
    sac_reply_begin(request, &packer);
    msgpack_pack_map(&packer, 1);
    sac_pack_key_bool(&packer, "dropped", true);
    sac_reply_end(request);
    return SAC_OK;
}

sac_status sac_method_drop(struct sac_request *request, sac_error *err)
{
    struct sac_field fields[] = {{.name = "collection"}, {.name = "timeout_ms"}};
    struct sac_place place;
    sac_status st = sac_method_fields(request, fields, 2, &place, err);

    if (st == SAC_OK)
        st = sac_method_collection(request, fields[0].value, &request->name, err);
    if (st == SAC_OK)
        sac_pipeline_control(request, drop_collection);
    return st;
}

static sac_status list_collections(struct sac_request *request, sac_error *err)
{
    msgpack_packer packer;
    char **names;
    size_t count;
    sac_status st = sac_database_list(sac_catalog_database(request->core->catalog), &names, &count, err);

    if (st != SAC_OK)
        return st;
    sac_reply_begin(request, &packer);
    msgpack_pack_map(&packer, 1);
    sac_pack_text(&packer, "collections");
    msgpack_pack_array(&packer, count);
    for (size_t i = 0; i < count; i++)
        sac_pack_text(&packer, names[i]);
    free(names);
    sac_reply_end(request);
    return SAC_OK;
}

sac_status sac_method_list(struct sac_request *request, sac_error *err)
{
    struct sac_field fields[] = {{.name = "timeout_ms"}};
    struct sac_place place;
    sac_status st = sac_method_fields(request, fields, 1, &place, err);

    if (st == SAC_OK)
        sac_pipeline_control(request, list_collections);
    return st;
}

static sac_status count_items(struct sac_request *request, sac_error *err)
{
    msgpack_packer packer;

    (void)err;
    sac_reply_begin(request, &packer);
    msgpack_pack_map(&packer, 1);
    sac_pack_key_uint(&packer, "count", sac_collection_count(request->entry->collection));
    sac_reply_end(request);
    return SAC_OK;
}

sac_status sac_method_count_items(struct sac_request *request, sac_error *err)
{
    struct sac_field fields[] = {{.name = "collection"}, {.name = "timeout_ms"}};
    struct sac_place place;
    sac_status st = sac_method_fields(request, fields, 2, &place, err);

    if (st == SAC_OK)
        sac_pipeline_control(request, count_items);
    return st;
}
