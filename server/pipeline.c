#include "server/pipeline.h"

#include <stdlib.h>
#include <unistd.h>

static void control_run(struct sac_pipeline *pipeline, struct sac_node *node)
{
    struct sac_request *request = (struct sac_request *)node;
    struct sac_metrics *metrics = &pipeline->core->metrics;
    uint64_t start = sac_now_ns();
    sac_error err;

    sac_time_observe(&metrics->waits[SAC_STAGE_CONTROL], start - request->queued_ns);
    if (sac_request_over(request, SAC_STAGE_CONTROL))
        return;
    if (request->work(request, &err) != SAC_OK)
        sac_request_fail(request, &err, 0);
    sac_time_observe(&metrics->stages[SAC_STAGE_CONTROL], sac_now_ns() - start);
}

static void (*const runs[SAC_STAGE_COUNT])(struct sac_pipeline *, struct sac_node *) = {
    [SAC_STAGE_CONTROL] = control_run, [SAC_STAGE_DECODE] = sac_decode_run,
    [SAC_STAGE_EMBED] = sac_embed_run, [SAC_STAGE_SEARCH] = sac_search_run,
    [SAC_STAGE_WRITE] = sac_write_run,
};

struct thread_start {
    struct sac_pipeline *pipeline;
    enum sac_stage stage;
};

static void *stage_thread(void *argument)
{
    struct thread_start start = *(struct thread_start *)argument;
    struct sac_queue *queue = &start.pipeline->stages[start.stage].queue;
    struct sac_node *node;

    free(argument);
    while ((node = sac_queue_pop(queue)) != NULL)
        runs[start.stage](start.pipeline, node);
    return NULL;
}

static sac_status start_threads(struct sac_pipeline *pipeline, enum sac_stage stage, uint32_t count,
                                sac_error *err)
{
    struct sac_stage_threads *s = &pipeline->stages[stage];

    s->threads = calloc(count, sizeof *s->threads);
    for (uint32_t i = 0; i < count; i++) {
        struct thread_start *start = malloc(sizeof *start);
        if (s->threads == NULL || start == NULL) {
            free(start);
            return sac_fail(err, SAC_NO_MEMORY, "no memory for the server's threads");
        }
        *start = (struct thread_start){pipeline, stage};
        if (pthread_create(&s->threads[i], NULL, stage_thread, start) != 0) {
            free(start);
            return sac_fail(err, SAC_NO_MEMORY, "cannot start a thread for stage %s", sac_stage_name(stage));
        }
        s->count++;
    }
    return SAC_OK;
}

sac_status sac_pipeline_create(struct sac_core *core, struct sac_pipeline **out, sac_error *err)
{
    const struct sac_server_config *config = core->config;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t decode = cores > 2 ? (uint32_t)cores - 1 : 1;
    const uint32_t counts[SAC_STAGE_COUNT] = {
        [SAC_STAGE_CONTROL] = 2,
        [SAC_STAGE_DECODE] = config->decode_threads > 0 ? config->decode_threads : decode,
        [SAC_STAGE_EMBED] = 1, /* one call uses every core of the device */
        [SAC_STAGE_SEARCH] = config->search_threads > 0 ? config->search_threads : 2,
        [SAC_STAGE_WRITE] = 1,
    };
    struct sac_pipeline *pipeline = calloc(1, sizeof *pipeline);
    sac_status st = SAC_OK;

    *out = NULL;
    if (pipeline == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for the server's pipeline");
    pipeline->core = core;
    pthread_mutex_init(&pipeline->picture_lock, NULL);
    sac_cost_init(&pipeline->decode);
    for (int s = 0; s < SAC_STAGE_COUNT; s++)
        sac_queue_init(&pipeline->stages[s].queue, s == SAC_STAGE_WRITE || s == SAC_STAGE_CONTROL);
    for (int s = 0; s < SAC_STAGE_COUNT && st == SAC_OK; s++)
        st = start_threads(pipeline, (enum sac_stage)s, counts[s], err);
    if (st != SAC_OK) {
        sac_pipeline_close(pipeline);
        return st;
    }
    *out = pipeline;
    return SAC_OK;
}

void sac_pipeline_close(struct sac_pipeline *pipeline)
{
    if (pipeline == NULL)
        return;
    /* In the order of the flow: a stage may push to later ones until its threads have ended. */
    for (int s = 0; s < SAC_STAGE_COUNT; s++) {
        struct sac_stage_threads *stage = &pipeline->stages[s];
        sac_queue_close(&stage->queue);
        for (uint32_t i = 0; i < stage->count; i++)
            pthread_join(stage->threads[i], NULL);
        free(stage->threads);
        sac_queue_destroy(&stage->queue);
    }
    sac_cost_destroy(&pipeline->decode);
    pthread_mutex_destroy(&pipeline->picture_lock);
    free(pipeline);
}

void sac_pipeline_control(struct sac_request *request, sac_status (*work)(struct sac_request *, sac_error *))
{
    request->work = work;
    sac_stage_push(request, SAC_STAGE_CONTROL);
}

void sac_stage_push(struct sac_request *request, enum sac_stage stage)
{
    request->queued_ns = sac_now_ns();
    sac_queue_push(&request->core->pipeline->stages[stage].queue, &request->node, request->lane);
}

void sac_stage_leave(struct sac_request *request, enum sac_stage stage)
{
    _Atomic uint64_t *backlog = &request->core->pipeline->stages[stage].backlog_ns[request->lane];

    atomic_fetch_sub_explicit(backlog, request->cost_ns[stage], memory_order_relaxed);
    request->cost_ns[stage] = 0;
}

struct sac_request *sac_stage_keep(struct sac_pipeline *pipeline, enum sac_stage stage,
                                   struct sac_request *list,
                                   sac_status (*ready)(struct sac_request *request, sac_error *err))
{
    struct sac_request *kept = NULL, **end = &kept;
    uint64_t now = sac_now_ns();

    while (list != NULL) {
        struct sac_request *request = list;
        sac_error err;

        list = (struct sac_request *)request->node.next;
        request->node.next = NULL;
        sac_time_observe(&pipeline->core->metrics.waits[stage], now - request->queued_ns);
        if (sac_request_over(request, stage))
            continue;
        if (ready(request, &err) != SAC_OK) {
            sac_request_fail(request, &err, 0);
            continue;
        }
        *end = request;
        end = (struct sac_request **)&request->node.next;
    }
    return kept;
}

void sac_pipeline_settle(struct sac_pipeline *pipeline, struct sac_request *request)
{
    for (int s = 0; s < SAC_STAGE_COUNT; s++)
        if (request->cost_ns[s] > 0)
            sac_stage_leave(request, (enum sac_stage)s);
    atomic_fetch_sub_explicit(&pipeline->bytes, request->queued_bytes, memory_order_relaxed);
    request->queued_bytes = 0;
}

/* ---- admission ---------------------------------------------------------------------------------------- */

/* What letting a request in adds to the pipeline. */
struct charge {
    uint64_t cost_ns[SAC_STAGE_COUNT];  /* of its own part of a batch */
    uint64_t fixed_ns[SAC_STAGE_COUNT]; /* of a batch, which it shares with others */
    uint64_t bytes;
};

/* n units in batches of at most batch_max. At least 1 ns: it marks the stages that the request passes. */
static void predict_stage(struct charge *charge, enum sac_stage stage, struct sac_cost *cost, size_t n,
                          size_t batch_max)
{
    charge->fixed_ns[stage] = sac_cost_fixed(cost);
    charge->cost_ns[stage] = n * (sac_cost_each(cost) + charge->fixed_ns[stage] / batch_max) + 1;
}

static void predict(struct sac_pipeline *pipeline, const struct sac_request *request, struct charge *charge)
{
    const struct sac_server_config *config = pipeline->core->config;

    memset(charge, 0, sizeof *charge);
    charge->bytes = request->size;
    if (request->picture_count > 0) {
        struct sac_model *model = request->model;
        size_t kib = 1;
        for (size_t i = 0; i < request->picture_count; i++)
            kib += request->pictures[i].size / 1024;
        predict_stage(charge, SAC_STAGE_DECODE, &pipeline->decode, kib, kib);
        charge->fixed_ns[SAC_STAGE_DECODE] = 0; /* pictures are decoded one by one: it is in the cost */
        predict_stage(charge, SAC_STAGE_EMBED, &model->embed, request->picture_count,
                      sac_embed_slice(config, model));
        charge->bytes += request->picture_count * (sac_encoder_pixel_bytes(model->encoder) +
                                                   sac_encoder_dim(model->encoder) * sizeof(float));
    }
    if (request->method->last == SAC_STAGE_SEARCH)
        predict_stage(charge, SAC_STAGE_SEARCH, &request->entry->search[request->search.queries[0].exact],
                      request->search.count, config->search_batch);
    if (request->method->last == SAC_STAGE_WRITE)
        predict_stage(charge, SAC_STAGE_WRITE, &request->entry->write,
                      request->put.count + request->ids.count, SAC_WRITE_GROUP_ITEMS);
}

/* Predicted time until the request's own work starts, and the time of that work. */
static void forecast(struct sac_pipeline *pipeline, const struct sac_request *request,
                     const struct charge *charge, uint64_t *wait, uint64_t *own)
{
    *wait = *own = 0;
    for (int s = 0; s < SAC_STAGE_COUNT; s++) {
        struct sac_stage_threads *stage = &pipeline->stages[s];
        uint64_t before = 0, cost = charge->cost_ns[s];
        if (cost == 0)
            continue;
        for (int lane = 0; lane <= (int)request->lane; lane++)
            before += atomic_load_explicit(&stage->backlog_ns[lane], memory_order_relaxed);
        if (before > 0)
            *wait += before / stage->count + charge->fixed_ns[s];
        *own += s == SAC_STAGE_DECODE && request->picture_count > 1 ? cost / stage->count : cost;
        *own += charge->fixed_ns[s];
    }
}

static bool reject(struct sac_request *request, enum sac_reject_reason reason, uint64_t retry_ns,
                   const char *what, uint64_t value, uint64_t limit)
{
    sac_error error;

    sac_count(&request->core->metrics.rejected[reason], 1);
    sac_fail(&error, SAC_OVERLOADED, "%s would %s %llu, the limit is %llu: retry later",
             request->method->name, what, (unsigned long long)value, (unsigned long long)limit);
    sac_request_fail(request, &error, (uint32_t)(retry_ns / 1000000 + 1));
    return false;
}

/* An idle server lets everything in: a prediction that is too high would otherwise never be corrected. */
static bool admit(struct sac_pipeline *pipeline, struct sac_request *request, const struct charge *charge)
{
    const struct sac_server_config *config = pipeline->core->config;
    uint64_t now = sac_now_ns(), deadline = request->node.deadline_ns;
    uint64_t left = deadline > now ? deadline - now : 0;
    uint64_t bytes = atomic_load_explicit(&pipeline->bytes, memory_order_relaxed) + charge->bytes;
    uint64_t limit = (uint64_t)config->queue_ms * 1000000, wait, own;

    forecast(pipeline, request, charge, &wait, &own);
    if (limit < 2 * own) /* waiting for one batch is no congestion, however slow the model */
        limit = 2 * own;
    if (bytes > config->queue_bytes && bytes > charge->bytes)
        return reject(request, SAC_REJECT_QUEUE_BYTES, wait, "make the bytes that wait", bytes,
                      config->queue_bytes);
    if (wait > 0 && wait + own > left)
        return reject(request, SAC_REJECT_DEADLINE, wait + own - left, "take, in ms,", (wait + own) / 1000000,
                      left / 1000000);
    if (wait > limit && !request->method->writes)
        return reject(request, SAC_REJECT_QUEUE_TIME, wait - limit, "wait, in ms,", wait / 1000000,
                      limit / 1000000);
    return true;
}

static bool allocate_pictures(struct sac_request *request)
{
    size_t pixel_bytes = sac_encoder_pixel_bytes(request->model->encoder), n = request->picture_count;
    uint32_t dim = sac_encoder_dim(request->model->encoder);
    sac_error error;

    request->prepared = calloc(n, sizeof(sac_prepared *));
    request->vectors = calloc(n, dim * sizeof(float));
    if (request->prepared == NULL || request->vectors == NULL) {
        sac_fail(&error, SAC_NO_MEMORY, "no memory for %zu pictures: send fewer at once", n);
        sac_request_fail(request, &error, 0);
        return false;
    }
    uint64_t more = n * (pixel_bytes + dim * sizeof(float));
    request->charged_bytes += more;
    sac_count(&request->core->metrics.request_bytes, more);
    return true;
}

static void push_pictures(struct sac_pipeline *pipeline, struct sac_request *request)
{
    struct sac_picture *pictures = request->pictures;
    enum sac_lane lane = request->lane;
    size_t n = request->picture_count;

    atomic_store(&request->pictures_left, n);
    request->queued_ns = sac_now_ns();
    for (size_t i = 0; i < n; i++) {
        pictures[i].request = request;
        pictures[i].index = i;
        pictures[i].node.deadline_ns = request->node.deadline_ns;
    }
    /* Once the last one is pushed the request may be answered and gone. */
    for (size_t i = 0; i < n; i++)
        sac_queue_push(&pipeline->stages[SAC_STAGE_DECODE].queue, &pictures[i].node, lane);
}

void sac_pipeline_submit(struct sac_request *request)
{
    struct sac_pipeline *pipeline = request->core->pipeline;
    bool pictures = request->picture_count > 0;
    struct charge charge;

    request->lane = request->method->writes ? SAC_LANE_BULK : SAC_LANE_INTERACTIVE;
    predict(pipeline, request, &charge);
    if (!admit(pipeline, request, &charge) || (pictures && !allocate_pictures(request)))
        return;
    memcpy(request->cost_ns, charge.cost_ns, sizeof charge.cost_ns);
    request->queued_bytes = charge.bytes;
    atomic_fetch_add_explicit(&pipeline->bytes, charge.bytes, memory_order_relaxed);
    for (int s = 0; s < SAC_STAGE_COUNT; s++)
        atomic_fetch_add_explicit(&pipeline->stages[s].backlog_ns[request->lane], charge.cost_ns[s],
                                  memory_order_relaxed);
    if (pictures)
        push_pictures(pipeline, request);
    else
        sac_stage_push(request, request->method->last);
}
