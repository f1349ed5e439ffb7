/* methods_items.c -- put, get, delete. */
#include "server/methods.h"

#include "server/pipeline.h"
#include "server/reply.h"

/* ---- put ---------------------------------------------------------------------------------------------- */

enum item_field { I_ID, I_VECTOR, I_IMAGE, I_CROP, I_ATTRIBUTES, I_SOURCE, I_COUNT };

struct item_args {
    struct sac_request *request;
    struct sac_field fields[I_COUNT];
    struct sac_place place;
};

static const msgpack_object *field(struct item_args *args, enum item_field f)
{
    args->place.field = args->fields[f].name;
    return args->fields[f].value;
}

static sac_status read_item_vector(struct item_args *args, sac_item *item, sac_error *err)
{
    struct sac_request *request = args->request;
    uint32_t dim = request->entry->params.dim;
    float *vector;

    if (field(args, I_CROP) != NULL)
        return sac_args_wrong(&args->place, err, "is for items with an image");
    vector = sac_request_alloc(request, dim, sizeof *vector, err);
    if (vector == NULL)
        return SAC_NO_MEMORY;
    item->vector = vector;
    const msgpack_object *value = field(args, I_VECTOR);
    return sac_args_vector(value, &args->place, dim, vector, err);
}

/* The item's vector is filled in once its picture is embedded. */
static sac_status read_item_image(struct item_args *args, sac_error *err)
{
    struct sac_request *request = args->request;
    size_t max = request->core->config->limits.images;
    const msgpack_object *value = field(args, I_CROP);
    struct sac_picture *picture;
    sac_crop *crop = NULL;
    sac_status st = SAC_OK;

    if (value != NULL) {
        crop = sac_request_alloc(request, 1, sizeof *crop, err);
        st = crop != NULL ? sac_args_crop(value, &args->place, crop, err) : SAC_NO_MEMORY;
        if (st != SAC_OK)
            return st;
    }
    value = field(args, I_IMAGE);
    if (request->entry->model == NULL) {
        const sac_error *why = &request->entry->model_error;
        return sac_fail(err, why->status, "%s", why->text);
    }
    if (request->picture_count == max)
        return sac_args_wrong(&args->place, err, "is one picture too many: at most %zu in a request", max);
    picture = &request->pictures[request->picture_count++];
    picture->item = args->place.index;
    picture->crop = crop;
    return sac_args_bytes(value, &args->place, &picture->bytes, &picture->size, err);
}

static sac_status read_item_source(struct item_args *args, sac_item *item, sac_error *err)
{
    const msgpack_object *value = field(args, I_SOURCE);

    if (value == NULL)
        return SAC_OK;
    if (value->type != MSGPACK_OBJECT_STR || value->via.str.size > SAC_ATTRIBUTE_TEXT_MAX)
        return sac_args_wrong(&args->place, err, "must be a string of at most %u bytes",
                              SAC_ATTRIBUTE_TEXT_MAX);
    item->source = value->via.str.ptr;
    item->source_size = value->via.str.size;
    return SAC_OK;
}

static sac_status read_item(struct sac_request *request, const msgpack_object *map, size_t index,
                            sac_item *item, sac_error *err)
{
    struct item_args args = {
        .request = request,
        .fields = {[I_ID] = {.name = "id"},
                   [I_VECTOR] = {.name = "vector"},
                   [I_IMAGE] = {.name = "image"},
                   [I_CROP] = {.name = "crop"},
                   [I_ATTRIBUTES] = {.name = "attributes"},
                   [I_SOURCE] = {.name = "source"}},
        .place = {.method = "put", .array = "items", .index = index},
    };
    const msgpack_object *value;
    sac_status st = sac_args_open(map, &args.place, args.fields, I_COUNT, err);

    if (st != SAC_OK)
        return st;
    if (args.fields[I_ID].value == NULL)
        return sac_args_wrong(&args.place, err, "id must be there");
    if ((args.fields[I_VECTOR].value == NULL) == (args.fields[I_IMAGE].value == NULL))
        return sac_args_wrong(&args.place, err, "exactly one of vector and image must be there");
    value = field(&args, I_ID);
    st = sac_args_id(value, &args.place, &item->id, err);
    if (st == SAC_OK)
        st = args.fields[I_VECTOR].value != NULL ? read_item_vector(&args, item, err)
                                                 : read_item_image(&args, err);
    if (st == SAC_OK && (value = field(&args, I_ATTRIBUTES)) != NULL)
        st = sac_args_attributes(value, &args.place, &request->zone, &item->attributes,
                                 &item->attribute_count, err);
    return st == SAC_OK ? read_item_source(&args, item, err) : st;
}

struct indexed_id {
    sac_id id;
    size_t index; /* of its item */
};

static int compare_ids(const void *a, const void *b)
{
    const sac_id *x = &((const struct indexed_id *)a)->id, *y = &((const struct indexed_id *)b)->id;
    size_t common;
    int order;

    if (x->text == NULL || y->text == NULL) {
        if (x->text != y->text)
            return x->text == NULL ? -1 : 1;
        return x->number < y->number ? -1 : x->number > y->number;
    }
    common = x->text_size < y->text_size ? x->text_size : y->text_size;
    order = memcmp(x->text, y->text, common);
    return order != 0 ? order : (x->text_size > y->text_size) - (x->text_size < y->text_size);
}

static sac_status check_distinct(struct sac_request *request, sac_error *err)
{
    size_t n = request->put.count;
    struct indexed_id *order = sac_request_alloc(request, n, sizeof *order, err);

    if (order == NULL)
        return SAC_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        order[i] = (struct indexed_id){request->put.items[i].id, i};
    qsort(order, n, sizeof *order, compare_ids);
    for (size_t i = 1; i < n; i++) {
        size_t a = order[i - 1].index, b = order[i].index;
        if (!sac_id_equal(&order[i - 1].id, &order[i].id))
            continue;
        return sac_fail(err, SAC_INVALID_ARGUMENT, "put: items[%zu].id: is that of items[%zu] too",
                        a > b ? a : b, a > b ? b : a);
    }
    return SAC_OK;
}

sac_status sac_method_put(struct sac_request *request, sac_error *err)
{
    enum { COLLECTION, ITEMS, TIMEOUT, COUNT };
    struct sac_field fields[COUNT] = {{.name = "collection"}, {.name = "items"}, {.name = "timeout_ms"}};
    const struct sac_server_limits *limits = &request->core->config->limits;
    const msgpack_object *elements = NULL;
    struct sac_place place;
    size_t n = 0;
    sac_status st = sac_method_fields(request, fields, COUNT, &place, err);

    place.field = "items";
    if (st == SAC_OK && fields[ITEMS].value == NULL)
        st = sac_args_wrong(&place, err, "must be there");
    if (st == SAC_OK)
        st = sac_args_array(fields[ITEMS].value, &place, 1, limits->items, &elements, &n, err);
    if (st != SAC_OK)
        return st;
    request->picture_array = "items";
    request->put.count = n;
    request->put.items = sac_request_alloc(request, n, sizeof *request->put.items, err);
    request->pictures = sac_request_alloc(request, limits->images, sizeof *request->pictures, err);
    if (request->put.items == NULL || request->pictures == NULL)
        return SAC_NO_MEMORY;
    for (size_t i = 0; i < n && st == SAC_OK; i++)
        st = read_item(request, &elements[i], i, &request->put.items[i], err);
    if (st == SAC_OK)
        st = check_distinct(request, err);
    if (st != SAC_OK)
        return st;
    request->model = request->entry->model;
    sac_pipeline_submit(request);
    return SAC_OK;
}

/* ---- get and delete -------------------------------------------------------------------------------------
 */

static sac_status read_ids(struct sac_request *request, const msgpack_object *value, sac_error *err)
{
    struct sac_place place = {.method = request->method->name, .field = "ids"};
    const msgpack_object *elements = NULL;
    size_t n = 0;
    sac_status st;

    if (value == NULL)
        return sac_args_wrong(&place, err, "must be there");
    st = sac_args_array(value, &place, 1, request->core->config->limits.items, &elements, &n, err);
    if (st != SAC_OK)
        return st;
    request->ids.count = n;
    request->ids.ids = sac_request_alloc(request, n, sizeof *request->ids.ids, err);
    if (request->ids.ids == NULL)
        return SAC_NO_MEMORY;
    place = (struct sac_place){.method = request->method->name, .array = "ids"};
    for (size_t i = 0; i < n && st == SAC_OK; i++) {
        place.index = i;
        st = sac_args_id(&elements[i], &place, &request->ids.ids[i], err);
    }
    return st;
}

sac_status sac_method_delete(struct sac_request *request, sac_error *err)
{
    enum { COLLECTION, IDS, TIMEOUT, COUNT };
    struct sac_field fields[COUNT] = {{.name = "collection"}, {.name = "ids"}, {.name = "timeout_ms"}};
    struct sac_place place;
    sac_status st = sac_method_fields(request, fields, COUNT, &place, err);

    if (st == SAC_OK)
        st = read_ids(request, fields[IDS].value, err);
    if (st == SAC_OK)
        sac_pipeline_submit(request);
    return st;
}

static void pack_record(msgpack_packer *packer, const struct sac_request *request, const sac_item *item)
{
    unsigned with = request->ids.with;

    msgpack_pack_map(packer, 1 + sac_item_pairs(item, with));
    sac_pack_text(packer, "id");
    sac_pack_id(packer, &item->id);
    sac_pack_item(packer, item, with, request->entry->params.dim);
}

static sac_status get_items(struct sac_request *request, sac_error *err)
{
    msgpack_packer packer;

    sac_reply_begin(request, &packer);
    msgpack_pack_map(&packer, 1);
    sac_pack_text(&packer, "items");
    msgpack_pack_array(&packer, request->ids.count);
    for (size_t i = 0; i < request->ids.count; i++) {
        sac_record *record;
        sac_status st = sac_collection_get(request->entry->collection, request->ids.ids[i], &record, err);
        if (st == SAC_OK)
            pack_record(&packer, request, sac_record_item(record));
        else if (st == SAC_NOT_FOUND)
            msgpack_pack_nil(&packer);
        else
            return st;
        sac_record_free(record);
    }
    sac_reply_end(request);
    return SAC_OK;
}

sac_status sac_method_get(struct sac_request *request, sac_error *err)
{
    enum { COLLECTION, IDS, WITH, TIMEOUT, COUNT };
    struct sac_field fields[COUNT] = {
        {.name = "collection"}, {.name = "ids"}, {.name = "with"}, {.name = "timeout_ms"}};
    struct sac_place place;
    sac_status st = sac_method_fields(request, fields, COUNT, &place, err);

    if (st == SAC_OK)
        st = read_ids(request, fields[IDS].value, err);
    place.field = "with";
    request->ids.with = SAC_WITH_ATTRIBUTES | SAC_WITH_SOURCE;
    if (st == SAC_OK && fields[WITH].value != NULL)
        st = sac_args_with(fields[WITH].value, &place, &request->ids.with, err);
    if (st == SAC_OK)
        sac_pipeline_control(request, get_items);
    return st;
}
