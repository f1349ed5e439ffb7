#include "server/request.h"

#include "server/args.h"
#include "server/log.h"
#include "server/pipeline.h"

#include <stdlib.h>
#include <time.h>

uint64_t sac_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct sac_request *sac_request_create(struct sac_core *core, const struct sac_method *method,
                                       const struct sac_rpc_head *head, uint8_t *bytes, size_t size)
{
    struct sac_request *request = calloc(1, sizeof *request);
    msgpack_object root;
    size_t end = 0;

    if (request == NULL)
        goto fail;
    if (!msgpack_zone_init(&request->zone, 1024))
        goto fail_request;
    if (msgpack_unpack((const char *)bytes, size, &end, &request->zone, &root) != MSGPACK_UNPACK_SUCCESS)
        goto fail_zone;
    request->core = core;
    request->method = method;
    request->msgid = head->msgid;
    request->notification = head->notification;
    request->bytes = bytes;
    request->size = size;
    request->params = root.via.array.ptr[head->notification ? 2 : 3]; /* the head has counted them */
    request->arrived_ns = sac_now_ns();
    request->charged_bytes = size + sizeof *request;
    sac_count(&core->metrics.request_bytes, request->charged_bytes);
    msgpack_sbuffer_init(&request->reply);
    return request;
fail_zone:
    msgpack_zone_destroy(&request->zone);
fail_request:
    free(request);
fail:
    free(bytes);
    return NULL;
}

void sac_request_free(struct sac_request *request)
{
    sac_uncount(&request->core->metrics.request_bytes, request->charged_bytes);
    sac_entry_release(request->entry);
    for (size_t i = 0; request->prepared != NULL && i < request->picture_count; i++)
        sac_prepared_free(request->prepared[i]);
    free(request->prepared);
    free(request->vectors);
    msgpack_sbuffer_destroy(&request->reply);
    msgpack_zone_destroy(&request->zone);
    free(request->bytes);
    free(request);
}

void *sac_request_alloc(struct sac_request *request, size_t count, size_t size, sac_error *err)
{
    void *block = sac_zone_alloc(&request->zone, count, size);

    if (block == NULL)
        sac_fail(err, SAC_NO_MEMORY, "no memory for a request");
    else
        memset(block, 0, count * size);
    return block;
}

static void begin(msgpack_sbuffer *reply, uint32_t msgid, msgpack_packer *packer)
{
    msgpack_sbuffer_clear(reply);
    msgpack_packer_init(packer, reply, msgpack_sbuffer_write);
    msgpack_pack_array(packer, 4);
    msgpack_pack_uint8(packer, 1);
    msgpack_pack_uint32(packer, msgid);
}

void sac_reply_begin(struct sac_request *request, msgpack_packer *packer)
{
    begin(&request->reply, request->msgid, packer);
    msgpack_pack_nil(packer);
}

void sac_reply_end(struct sac_request *request)
{
    request->status = SAC_OK;
    sac_request_done(request);
}

void sac_reply_error(msgpack_sbuffer *reply, uint32_t msgid, const sac_error *error,
                     const struct sac_rpc_hint *hint)
{
    char text[SAC_RPC_ERROR_SIZE];
    size_t size = sac_rpc_error_text(text, error, hint);
    msgpack_packer packer;

    begin(reply, msgid, &packer);
    msgpack_pack_str_with_body(&packer, text, size);
    msgpack_pack_nil(&packer);
}

void sac_request_fail(struct sac_request *request, const sac_error *error, uint32_t retry_after_ms)
{
    struct sac_rpc_hint hint = {retry_after_ms, request->method->writes ? "not_applied" : NULL};

    request->status = error->status;
    if (error->status == SAC_INTERNAL)
        sac_log(SAC_LOG_ERROR, "request failed", "method=%s msgid=%u error=\"%s\"", request->method->name,
                request->msgid, error->text);
    sac_reply_error(&request->reply, request->msgid, error, &hint);
    sac_request_done(request);
}

bool sac_request_over(struct sac_request *request, enum sac_stage stage)
{
    sac_error error;

    if (atomic_load_explicit(&request->cancelled, memory_order_relaxed)) {
        error.status = sac_fail(&error, SAC_CANCELLED, "%s was cancelled before stage %s",
                                request->method->name, sac_stage_name(stage));
    } else if (sac_now_ns() > request->node.deadline_ns) {
        sac_count(&request->core->metrics.deadlines[stage], 1);
        error.status =
            sac_fail(&error, SAC_DEADLINE_EXCEEDED, "%s ran out of its time of %llu ms in stage %s",
                     request->method->name,
                     (unsigned long long)((request->node.deadline_ns - request->arrived_ns) / 1000000),
                     sac_stage_name(stage));
    } else {
        return false;
    }
    sac_request_fail(request, &error, 0);
    return true;
}

void sac_request_done(struct sac_request *request)
{
    struct sac_core *core = request->core;
    struct sac_request *head = atomic_load_explicit(&core->done, memory_order_relaxed);

    if (request->resume == NULL)
        sac_pipeline_settle(core->pipeline, request);
    do {
        request->done_next = head;
    } while (!atomic_compare_exchange_weak_explicit(&core->done, &head, request, memory_order_release,
                                                    memory_order_relaxed));
    if (head == NULL) /* else somebody's wake is still on its way */
        core->wake(core->wake_context);
}

struct sac_request *sac_core_take_done(struct sac_core *core)
{
    struct sac_request *stack = atomic_exchange_explicit(&core->done, NULL, memory_order_acquire);
    struct sac_request *list = NULL;

    while (stack != NULL) {
        struct sac_request *next = stack->done_next;
        stack->done_next = list;
        list = stack;
        stack = next;
    }
    return list;
}
