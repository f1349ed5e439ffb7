/* methods_search.c -- search and embed: reading what is asked for; the pipeline does the rest. */
#include "server/methods.h"

#include "server/pipeline.h"
#include "server/reply.h"

#include <assert.h>
#include <math.h>

enum search_field {
    F_COLLECTION,
    F_VECTOR,
    F_VECTORS,
    F_IMAGE,
    F_IMAGES,
    F_ID,
    F_K,
    F_LIMIT,
    F_RECALL,
    F_NPROBE,
    F_RESCORE,
    F_OVERSAMPLING,
    F_EXACT,
    F_CROP,
    F_THRESHOLD,
    F_WITH,
    F_TIMEOUT,
    F_COUNT
};

/* The fields of one search while they are read. */
struct search_args {
    struct sac_request *request;
    struct sac_field fields[F_COUNT];
    struct sac_place place;
};

static const msgpack_object *field(struct search_args *args, enum search_field f)
{
    args->place.field = args->fields[f].name;
    return args->fields[f].value;
}

/* Of two names for one thing, or two ways to say it, one may be there. */
static sac_status exclude(struct search_args *args, enum search_field a, enum search_field b, sac_error *err)
{
    if (args->fields[a].value == NULL || args->fields[b].value == NULL)
        return SAC_OK;
    args->place.field = args->fields[b].name;
    return sac_args_wrong(&args->place, err, "excludes %s: give one of them", args->fields[a].name);
}

static sac_status read_k(struct search_args *args, sac_query *query, sac_error *err)
{
    bool by_id = args->fields[F_ID].value != NULL;
    const msgpack_object *value = field(args, args->fields[F_LIMIT].value != NULL ? F_LIMIT : F_K);
    uint64_t k = query->k;
    sac_status st = exclude(args, F_K, F_LIMIT, err);

    if (st == SAC_OK && value != NULL)
        st = sac_args_uint(value, &args->place, 1, by_id ? SAC_K_MAX - 1 : SAC_K_MAX, &k, err);
    query->k = (uint32_t)k + by_id; /* the item itself will be among its hits, and is left out */
    return st;
}

static sac_status read_effort(struct search_args *args, sac_query *query, sac_error *err)
{
    const msgpack_object *value;
    double recall = 0, oversampling = 0;
    uint64_t nprobe = 0;
    bool rescore = true;
    sac_status st = exclude(args, F_RECALL, F_NPROBE, err);

    if (st == SAC_OK && (value = field(args, F_RECALL)) != NULL)
        st = sac_args_number(value, &args->place, 1e-6, 1, &recall, err);
    if (st == SAC_OK && (value = field(args, F_NPROBE)) != NULL)
        st = sac_args_uint(value, &args->place, 1, 65536, &nprobe, err);
    if (st == SAC_OK && (value = field(args, F_RESCORE)) != NULL)
        st = sac_args_bool(value, &args->place, &rescore, err);
    if (st == SAC_OK && (value = field(args, F_OVERSAMPLING)) != NULL)
        st = sac_args_number(value, &args->place, 1, 100, &oversampling, err);
    if (st == SAC_OK && (value = field(args, F_EXACT)) != NULL)
        st = sac_args_bool(value, &args->place, &query->exact, err);
    query->recall = (float)recall;
    query->nprobe = (uint32_t)nprobe;
    query->no_rescore = !rescore;
    if (oversampling > 0)
        query->depth = (uint32_t)fmin(ceil(query->k * oversampling), SAC_DEPTH_MAX);
    return st;
}

static sac_status read_settings(struct search_args *args, sac_query *query, sac_error *err)
{
    const msgpack_object *value;
    double threshold = -INFINITY;
    sac_status st;

    sac_query_init(query);
    st = read_k(args, query, err);
    if (st == SAC_OK)
        st = read_effort(args, query, err);
    if (st == SAC_OK && (value = field(args, F_THRESHOLD)) != NULL)
        st = sac_args_number(value, &args->place, -INFINITY, INFINITY, &threshold, err);
    if (st == SAC_OK && (value = field(args, F_WITH)) != NULL)
        st = sac_args_with(value, &args->place, &args->request->search.with, err);
    query->score_threshold = (float)threshold;
    return st;
}

/* Room for n queries, all with the same settings. */
static sac_status make_queries(struct sac_request *request, const sac_query *settings, size_t n,
                               sac_error *err)
{
    request->search.queries = sac_request_alloc(request, n, sizeof *settings, err);
    if (request->search.queries == NULL)
        return SAC_NO_MEMORY;
    request->search.count = n;
    for (size_t i = 0; i < n; i++)
        request->search.queries[i] = *settings;
    return SAC_OK;
}

static sac_status check_norm(const struct sac_request *request, const struct sac_place *place,
                             const float *vector, sac_error *err)
{
    if (request->entry->params.metric != SAC_METRIC_COSINE)
        return SAC_OK;
    for (uint32_t i = 0; i < request->entry->params.dim; i++)
        if (vector[i] != 0)
            return SAC_OK;
    return sac_args_wrong(place, err, "is zero, which has no direction to compare by cosine");
}

/* vector, or the elements of vectors. A binary of several vectors is cut up first. */
static sac_status read_vectors(struct search_args *args, const sac_query *settings,
                               const msgpack_object *elements, size_t n, sac_error *err)
{
    struct sac_request *request = args->request;
    uint32_t dim = request->entry->params.dim;
    float *vectors = sac_request_alloc(request, n * dim, sizeof *vectors, err);
    sac_status st = vectors != NULL ? make_queries(request, settings, n, err) : SAC_NO_MEMORY;

    for (size_t i = 0; i < n && st == SAC_OK; i++) {
        struct sac_place place = args->place;
        if (request->search.many)
            place = (struct sac_place){.method = place.method, .array = place.field, .index = i};
        st = sac_args_vector(&elements[i], &place, dim, vectors + i * dim, err);
        if (st == SAC_OK)
            st = check_norm(request, &place, vectors + i * dim, err);
        request->search.queries[i].vector = vectors + i * dim;
    }
    return st;
}

static sac_status cut_binary(struct search_args *args, const msgpack_object *value,
                             const msgpack_object **elements, size_t *count, sac_error *err)
{
    size_t each = args->request->entry->params.dim * sizeof(float), n = value->via.bin.size / each;
    size_t max = args->request->core->config->limits.queries;
    msgpack_object *cut;

    if (n == 0 || n > max || value->via.bin.size % each != 0)
        return sac_args_wrong(&args->place, err, "has %u bytes: must be 1 to %zu vectors of %zu bytes",
                              value->via.bin.size, max, each);
    cut = sac_request_alloc(args->request, n, sizeof *cut, err);
    if (cut == NULL)
        return SAC_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        cut[i].type = MSGPACK_OBJECT_BIN;
        cut[i].via.bin.ptr = value->via.bin.ptr + i * each;
        cut[i].via.bin.size = (uint32_t)each;
    }
    *elements = cut;
    *count = n;
    return SAC_OK;
}

static sac_status read_query_vectors(struct search_args *args, const sac_query *settings, sac_error *err)
{
    const msgpack_object *value = field(args, F_VECTOR), *elements = value;
    size_t n = 1;
    sac_status st = SAC_OK;

    if (value == NULL) {
        value = field(args, F_VECTORS);
        assert(value != NULL);
        args->request->search.many = true;
        if (value->type == MSGPACK_OBJECT_BIN)
            st = cut_binary(args, value, &elements, &n, err);
        else
            st = sac_args_array(value, &args->place, 1, args->request->core->config->limits.queries,
                                &elements, &n, err);
    }
    return st == SAC_OK ? read_vectors(args, settings, elements, n, err) : st;
}

/* Fills request->pictures from one picture or an array of them. */
static sac_status read_pictures(struct sac_request *request, const struct sac_place *place,
                                const msgpack_object *elements, size_t n, const sac_crop *crop,
                                sac_error *err)
{
    sac_status st = SAC_OK;

    request->pictures = sac_request_alloc(request, n, sizeof *request->pictures, err);
    if (request->pictures == NULL)
        return SAC_NO_MEMORY;
    for (size_t i = 0; i < n && st == SAC_OK; i++) {
        struct sac_place at = *place;
        if (request->picture_array != NULL)
            at = (struct sac_place){.method = place->method, .array = request->picture_array, .index = i};
        request->pictures[i].item = i;
        request->pictures[i].crop = crop;
        st = sac_args_bytes(&elements[i], &at, &request->pictures[i].bytes, &request->pictures[i].size, err);
    }
    request->picture_count = n;
    return st;
}

static sac_status read_crop(struct sac_request *request, const msgpack_object *value,
                            const struct sac_place *place, const sac_crop **out, sac_error *err)
{
    sac_crop *crop;

    *out = NULL;
    if (value == NULL)
        return SAC_OK;
    crop = sac_request_alloc(request, 1, sizeof *crop, err);
    if (crop == NULL)
        return SAC_NO_MEMORY;
    *out = crop;
    return sac_args_crop(value, place, crop, err);
}

static sac_status use_model_of(struct sac_request *request, sac_error *err)
{
    request->model = request->entry->model;
    if (request->model != NULL)
        return SAC_OK;
    return sac_fail(err, request->entry->model_error.status, "%s", request->entry->model_error.text);
}

static sac_status read_query_pictures(struct search_args *args, const sac_query *settings, sac_error *err)
{
    struct sac_request *request = args->request;
    const msgpack_object *crop_value = field(args, F_CROP), *value, *elements;
    const sac_crop *crop;
    size_t n = 1;
    sac_status st = read_crop(request, crop_value, &args->place, &crop, err);

    if (st == SAC_OK)
        st = use_model_of(request, err);
    value = elements = field(args, F_IMAGE);
    if (value == NULL && st == SAC_OK) {
        value = field(args, F_IMAGES);
        assert(value != NULL);
        request->search.many = true;
        request->picture_array = "images";
        st = sac_args_array(value, &args->place, 1, request->core->config->limits.images, &elements, &n, err);
    }
    if (st == SAC_OK)
        st = make_queries(request, settings, n, err);
    return st == SAC_OK ? read_pictures(request, &args->place, elements, n, crop, err) : st;
}

static sac_status read_query_id(struct search_args *args, const sac_query *settings, sac_error *err)
{
    struct sac_request *request = args->request;
    const msgpack_object *value = field(args, F_ID);
    assert(value != NULL);
    sac_status st = sac_args_id(value, &args->place, &request->search.id, err);

    request->search.by_id = true;
    return st == SAC_OK ? make_queries(request, settings, 1, err) : st;
}

/* Reads the one query field that must be there. */
static sac_status read_query(struct search_args *args, const sac_query *settings, sac_error *err)
{
    unsigned given = 0;

    args->place.field = NULL;
    for (int f = F_VECTOR; f <= F_ID; f++)
        given += args->fields[f].value != NULL;
    if (given != 1)
        return sac_args_wrong(&args->place, err,
                              "exactly one of vector, vectors, image, images and id must be there, not %u",
                              given);
    if (args->fields[F_IMAGE].value != NULL || args->fields[F_IMAGES].value != NULL)
        return read_query_pictures(args, settings, err);
    if (field(args, F_CROP) != NULL)
        return sac_args_wrong(&args->place, err, "is for image and images only");
    if (args->fields[F_ID].value != NULL)
        return read_query_id(args, settings, err);
    return read_query_vectors(args, settings, err);
}

sac_status sac_method_search(struct sac_request *request, sac_error *err)
{
    struct search_args args = {
        .request = request,
        .fields = {[F_COLLECTION] = {.name = "collection"},
                   [F_VECTOR] = {.name = "vector"},
                   [F_VECTORS] = {.name = "vectors"},
                   [F_IMAGE] = {.name = "image"},
                   [F_IMAGES] = {.name = "images"},
                   [F_ID] = {.name = "id"},
                   [F_K] = {.name = "k"},
                   [F_LIMIT] = {.name = "limit"},
                   [F_RECALL] = {.name = "recall"},
                   [F_NPROBE] = {.name = "nprobe"},
                   [F_RESCORE] = {.name = "rescore"},
                   [F_OVERSAMPLING] = {.name = "oversampling"},
                   [F_EXACT] = {.name = "exact"},
                   [F_CROP] = {.name = "crop"},
                   [F_THRESHOLD] = {.name = "score_threshold"},
                   [F_WITH] = {.name = "with"},
                   [F_TIMEOUT] = {.name = "timeout_ms"}},
    };
    sac_query settings;
    sac_status st = sac_method_fields(request, args.fields, F_COUNT, &args.place, err);

    if (st == SAC_OK)
        st = read_settings(&args, &settings, err);
    if (st == SAC_OK)
        st = read_query(&args, &settings, err);
    if (st == SAC_OK)
        sac_pipeline_submit(request);
    return st;
}

/* ---- embed -------------------------------------------------------------------------------------------- */

static sac_status reply_embedded(struct sac_request *request, sac_error *err)
{
    const sac_encoder *encoder = request->model->encoder;
    uint32_t dim = sac_encoder_dim(encoder);
    msgpack_packer packer;

    (void)err;
    sac_reply_begin(request, &packer);
    msgpack_pack_map(&packer, 5);
    sac_pack_key_text(&packer, "model", sac_encoder_name(encoder));
    sac_pack_key_uint(&packer, "dim", dim);
    sac_pack_key_text(&packer, "fingerprint", sac_encoder_fingerprint(encoder));
    sac_pack_text(&packer, "vectors");
    msgpack_pack_array(&packer, request->picture_count);
    for (size_t i = 0; i < request->picture_count; i++)
        msgpack_pack_bin_with_body(&packer, request->vectors + i * dim, dim * sizeof(float));
    sac_pack_took(&packer, request);
    sac_reply_end(request);
    return SAC_OK;
}

/* The model is known, and so are the pictures. */
static void submit_embed(struct sac_request *request)
{
    request->work = reply_embedded;
    sac_pipeline_submit(request);
}

static sac_status open_model(struct sac_request *request, sac_error *err)
{
    sac_status st = sac_catalog_model(request->core->catalog, request->name, &request->model, err);

    if (st != SAC_OK)
        return st;
    request->resume = submit_embed;
    sac_request_done(request);
    return SAC_OK;
}

sac_status sac_method_embed(struct sac_request *request, sac_error *err)
{
    enum { COLLECTION, MODEL, IMAGES, CROP, TIMEOUT, COUNT };
    struct sac_field fields[COUNT] = {{.name = "collection"},
                                      {.name = "model"},
                                      {.name = "images"},
                                      {.name = "crop"},
                                      {.name = "timeout_ms"}};
    struct sac_place place, at;
    const msgpack_object *elements = NULL;
    const sac_crop *crop = NULL;
    size_t n = 0;
    sac_status st = sac_method_fields(request, fields, COUNT, &place, err);

    if (st == SAC_OK && fields[COLLECTION].value != NULL && fields[MODEL].value != NULL)
        st = sac_args_wrong(&place, err, "give collection or model, not both");
    if (st == SAC_OK && fields[IMAGES].value == NULL)
        st = sac_args_wrong(&place, err, "images must be there");
    at = (struct sac_place){.method = place.method, .field = "crop"};
    if (st == SAC_OK)
        st = read_crop(request, fields[CROP].value, &at, &crop, err);
    at.field = "images";
    request->picture_array = "images";
    if (st == SAC_OK)
        st = sac_args_array(fields[IMAGES].value, &at, 1, request->core->config->limits.images, &elements, &n,
                            err);
    if (st == SAC_OK)
        st = read_pictures(request, &at, elements, n, crop, err);
    at.field = "model";
    request->name = "builtin";
    if (st == SAC_OK && fields[MODEL].value != NULL)
        st = sac_args_text(fields[MODEL].value, &at, 1, 4096, &request->zone, &request->name, err);
    if (st == SAC_OK && request->entry != NULL)
        st = use_model_of(request, err);
    if (st != SAC_OK)
        return st;
    if (request->entry != NULL)
        submit_embed(request);
    else
        sac_pipeline_control(request, open_model);
    return SAC_OK;
}
