/* stage_pictures.c -- from picture bytes to embeddings: decoding, one picture on each thread of a pool, then
 * batches through the encoder, cut into slices so that no call takes long - and, where they are on one GPU,
 * through the index in the same call. */
#include "server/pipeline.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- decode ------------------------------------------------------------------------------------------- */

/* Of several pictures that failed the first one is told, whichever thread was quicker. */
static void picture_failed(struct sac_pipeline *pipeline, const struct sac_picture *picture,
                           const sac_error *err)
{
    struct sac_request *request = picture->request;
    char place[48] = "image";

    sac_count(&pipeline->core->metrics.images_rejected[-(int)err->status], 1);
    if (request->picture_array != NULL)
        snprintf(place, sizeof place, "%s[%zu]", request->picture_array, picture->item);
    pthread_mutex_lock(&pipeline->picture_lock);
    if (request->picture_error.status == SAC_OK || picture->item < request->failed_item) {
        request->failed_item = picture->item;
        request->picture_error.status = sac_fail(&request->picture_error, err->status, "%s: %s: %.400s",
                                                 request->method->name, place, err->text);
    }
    pthread_mutex_unlock(&pipeline->picture_lock);
}

static bool worth_decoding(struct sac_request *request)
{
    return !atomic_load_explicit(&request->cancelled, memory_order_relaxed) &&
           sac_now_ns() <= request->node.deadline_ns;
}

static void all_decoded(struct sac_request *request)
{
    sac_stage_leave(request, SAC_STAGE_DECODE);
    if (request->picture_error.status != SAC_OK)
        sac_request_fail(request, &request->picture_error, 0);
    else if (!sac_request_over(request, SAC_STAGE_DECODE))
        sac_stage_push(request, SAC_STAGE_EMBED);
}

void sac_decode_run(struct sac_pipeline *pipeline, struct sac_node *node)
{
    struct sac_picture *picture = (struct sac_picture *)node;
    struct sac_request *request = picture->request;
    struct sac_metrics *metrics = &pipeline->core->metrics;
    sac_encoder *encoder = request->model->encoder;
    uint64_t start = sac_now_ns();
    sac_error err;

    sac_time_observe(&metrics->waits[SAC_STAGE_DECODE], start - request->queued_ns);
    if (worth_decoding(request)) {
        err.status = sac_encoder_prepare(encoder, picture->bytes, picture->size, picture->crop,
                                         &request->prepared[picture->index], &err);
        uint64_t ns = sac_now_ns() - start;
        sac_time_observe(&metrics->stages[SAC_STAGE_DECODE], ns);
        if (err.status == SAC_OK)
            sac_cost_measure(&pipeline->decode, picture->size / 1024 + 1, ns);
        else
            picture_failed(pipeline, picture, &err);
    }
    if (atomic_fetch_sub(&request->pictures_left, 1) == 1)
        all_decoded(request);
}

/* ---- embed -------------------------------------------------------------------------------------------- */

struct embed_batch {
    struct sac_model *model;
    size_t rows, rows_max;
};

static size_t rows_left(const struct sac_request *request)
{
    return request->picture_count - request->embedded;
}

static enum sac_choice join_batch(void *context, struct sac_node *node)
{
    struct embed_batch *batch = context;
    struct sac_request *request = (struct sac_request *)node;

    if (batch->rows >= batch->rows_max)
        return SAC_CHOICE_STOP;
    if (request->model != batch->model)
        return SAC_CHOICE_LEAVE;
    batch->rows += rows_left(request);
    return SAC_CHOICE_TAKE;
}

size_t sac_embed_slice(const struct sac_server_config *config, struct sac_model *model)
{
    uint64_t fixed = sac_cost_fixed(&model->embed), each = sac_cost_each(&model->embed);
    uint64_t left = fixed < SAC_EMBED_SLICE_NS ? SAC_EMBED_SLICE_NS - fixed : 0;
    uint64_t rows = each > 0 ? left / each : config->embed_batch;

    if (rows > config->embed_batch)
        return config->embed_batch;
    return rows > 0 ? (size_t)rows : 1;
}

/* Those whose time is over are answered; the others stay, linked through node.next. */
static struct sac_request *still_wanted(struct sac_request *list)
{
    struct sac_request *kept = NULL, **end = &kept;

    while (list != NULL) {
        struct sac_request *next = (struct sac_request *)list->node.next;
        list->node.next = NULL;
        if (!sac_request_over(list, SAC_STAGE_EMBED)) {
            *end = list;
            end = (struct sac_request **)&list->node.next;
        }
        list = next;
    }
    return kept;
}

static size_t share_of(const struct sac_request *request, size_t rows)
{
    return rows_left(request) < rows ? rows_left(request) : rows;
}

/* The first `rows` pictures that are to be embedded, side by side: to be freed. */
static sac_prepared **gather(const struct sac_request *list, size_t rows)
{
    sac_prepared **pictures = malloc(rows * sizeof(sac_prepared *));
    size_t row = 0;

    for (const struct sac_request *r = list; pictures != NULL && r != NULL && row < rows;
         r = (const struct sac_request *)r->node.next) {
        size_t n = share_of(r, rows - row);
        memcpy(pictures + row, r->prepared + r->embedded, n * sizeof(sac_prepared *));
        row += n;
    }
    return pictures;
}

/* Vectors of a single request are written where they belong; those of several come together first. */
static sac_status embed_rows(struct sac_model *model, struct sac_request *list, size_t rows, sac_error *err)
{
    uint32_t dim = sac_encoder_dim(model->encoder);
    size_t row = 0;

    if (rows_left(list) >= rows)
        return sac_encoder_embed(model->encoder, rows, list->prepared + list->embedded,
                                 list->vectors + list->embedded * dim, err);
    sac_prepared **pictures = gather(list, rows);
    float *vectors = malloc(rows * dim * sizeof *vectors);
    if (pictures == NULL || vectors == NULL) {
        free(vectors);
        free(pictures);
        return sac_fail(err, SAC_NO_MEMORY, "no memory to embed %zu pictures", rows);
    }
    sac_status st = sac_encoder_embed(model->encoder, rows, pictures, vectors, err);
    for (struct sac_request *r = list; st == SAC_OK && r != NULL && row < rows;
         r = (struct sac_request *)r->node.next) {
        size_t n = share_of(r, rows - row);
        memcpy(r->vectors + (size_t)r->embedded * dim, vectors + row * dim, n * dim * sizeof *vectors);
        row += n;
    }
    free(vectors);
    free(pictures);
    return st;
}

/* n pictures of the request are embedded: their memory is wanted for others. */
static void advance(struct sac_request *request, size_t n)
{
    for (size_t i = request->embedded; i < request->embedded + n; i++) {
        sac_prepared_free(request->prepared[i]);
        request->prepared[i] = NULL;
    }
    request->embedded += n;
}

static void embedded_all(struct sac_request *request)
{
    uint32_t dim = sac_encoder_dim(request->model->encoder);

    sac_stage_leave(request, SAC_STAGE_EMBED);
    if (request->method->last == SAC_STAGE_EMBED) {
        sac_error err;
        if (request->work(request, &err) != SAC_OK)
            sac_request_fail(request, &err, 0);
        return;
    }
    if (request->method->last == SAC_STAGE_SEARCH) {
        for (size_t i = 0; i < request->picture_count; i++)
            request->search.queries[i].vector = request->vectors + i * dim;
    } else {
        for (size_t i = 0; i < request->picture_count; i++)
            request->put.items[request->pictures[i].item].vector = request->vectors + i * dim;
    }
    sac_stage_push(request, request->method->last);
}

/* Moves requests that are complete on, puts the others back, and answers all of them if the call failed. */
static void share_out(struct sac_request *list, size_t rows, sac_status st, const sac_error *err)
{
    while (list != NULL) {
        struct sac_request *next = (struct sac_request *)list->node.next;
        size_t n = share_of(list, rows);
        list->node.next = NULL;
        advance(list, n);
        rows -= n;
        if (st != SAC_OK)
            sac_request_fail(list, err, 0);
        else if (rows_left(list) == 0)
            embedded_all(list);
        else
            sac_stage_push(list, SAC_STAGE_EMBED);
        list = next;
    }
}

/* ---- embed and search --------------------------------------------------------------------------------- */

/* What a search of n queries was seen to take. */
static uint64_t search_ns(struct sac_entry *entry, bool exact, size_t n)
{
    return sac_cost_fixed(&entry->search[exact]) + n * sac_cost_each(&entry->search[exact]);
}

/* Whether all pictures of a list can be embedded and searched for in one call, no longer than the embed stage
 * may be held up. *known: what of its time is the search's, as far as that was seen. */
static bool is_joint(const struct sac_server_config *config, const struct sac_request *list, size_t rows,
                     size_t rows_max, uint64_t *known)
{
    struct sac_entry *entry = list->entry;

    *known = 0;
    if (rows > rows_max || rows > config->search_batch || list->method->last != SAC_STAGE_SEARCH ||
        !sac_collection_shares_device(entry->collection, list->model->encoder))
        return false;
    for (const struct sac_request *r = list; r != NULL; r = (const struct sac_request *)r->node.next) {
        uint64_t ns;
        if (r->method->last != SAC_STAGE_SEARCH || r->entry != entry || r->search.with != list->search.with ||
            r->embedded > 0)
            return false;
        ns = search_ns(entry, r->search.queries[0].exact, rows);
        *known = ns > *known ? ns : *known;
    }
    return *known <= SAC_EMBED_SLICE_NS;
}

/* Embeds and searches in one call, and answers. Its time is the embed stage's; the model is charged for what
 * of it is not the search's. False: the list is as it was, to be embedded and searched one after the
 * other - which also tells whose fault it was if the call failed. */
static bool search_at_once(struct sac_pipeline *pipeline, struct sac_request *list, size_t rows,
                           size_t rows_max)
{
    struct sac_metrics *metrics = &pipeline->core->metrics;
    struct sac_model *model = list->model;
    sac_prepared **pictures;
    uint64_t known, start = sac_now_ns(), ns;
    sac_error err;
    sac_status st;

    if (!is_joint(pipeline->core->config, list, rows, rows_max, &known))
        return false;
    pictures = gather(list, rows);
    st = pictures != NULL ? sac_search_list(list, pictures, rows, &err) : SAC_NO_MEMORY;
    free(pictures);
    if (st != SAC_OK)
        return false;
    ns = sac_now_ns() - start;
    sac_time_observe(&metrics->stages[SAC_STAGE_EMBED], ns);
    sac_size_observe(&metrics->batches[SAC_STAGE_EMBED], rows);
    sac_size_observe(&metrics->batches[SAC_STAGE_SEARCH], rows);
    sac_cost_measure(&model->embed, rows, ns > known ? ns - known : 0);
    return true;
}

void sac_embed_run(struct sac_pipeline *pipeline, struct sac_node *node)
{
    struct sac_metrics *metrics = &pipeline->core->metrics;
    struct sac_request *first = (struct sac_request *)node, *list;
    struct sac_model *model = first->model;
    struct embed_batch batch = {model, rows_left(first), sac_embed_slice(pipeline->core->config, model)};
    size_t rows = 0;
    sac_error err;

    first->node.next = sac_queue_take(&pipeline->stages[SAC_STAGE_EMBED].queue, join_batch, &batch);
    list = still_wanted(first);
    if (list == NULL)
        return;
    uint64_t now = sac_now_ns();
    for (struct sac_request *r = list; r != NULL; r = (struct sac_request *)r->node.next) {
        sac_time_observe(&metrics->waits[SAC_STAGE_EMBED], now - r->queued_ns);
        rows += rows_left(r);
    }
    if (search_at_once(pipeline, list, rows, batch.rows_max))
        return;
    if (rows > batch.rows_max)
        rows = batch.rows_max;
    uint64_t start = sac_now_ns();
    sac_status st = embed_rows(model, list, rows, &err);
    uint64_t ns = sac_now_ns() - start;
    sac_time_observe(&metrics->stages[SAC_STAGE_EMBED], ns);
    sac_size_observe(&metrics->batches[SAC_STAGE_EMBED], rows);
    if (st == SAC_OK)
        sac_cost_measure(&model->embed, rows, ns);
    share_out(list, rows, st, &err);
}
