#include "engine/workspace.h"

#include "engine/recorded.h"

#include <stdlib.h>

enum { DEVICE, HOST };
#define BLOCK_BYTES ((size_t)64 << 10) /* of a block at least */
/* What a search should get by with: bounded by the budget, and on the CPU by caches. */
#define SHARE_BYTES ((size_t)64 << 20)
#define SHARE_OF_BUDGET 16u

struct sac_workspace_block {
    sac_workspace_block *below;
    unsigned char *memory[2];
    size_t used[2], bytes[2];
};

static void block_free(sac_device *device, sac_workspace_block *block)
{
    sac_buffer_free(device, block->memory[DEVICE]);
    sac_host_free(device, block->memory[HOST]);
    free(block);
}

static sac_status block_make(sac_device *device, const size_t bytes[2], sac_workspace_block **out,
                             sac_error *err)
{
    sac_workspace_block *block = calloc(1, sizeof *block);
    void *memory[2] = {NULL, NULL};
    sac_status st;

    if (block == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a workspace");
    st = sac_buffer_alloc(device, bytes[DEVICE], 1, &memory[DEVICE], err);
    if (st == SAC_OK)
        st = sac_host_alloc(device, bytes[HOST], 1, &memory[HOST], err);
    for (int kind = DEVICE; kind <= HOST; kind++) {
        block->memory[kind] = memory[kind];
        block->bytes[kind] = bytes[kind];
    }
    if (st != SAC_OK) {
        block_free(device, block);
        return st;
    }
    *out = block;
    return SAC_OK;
}

void sac_workspace_pool_init(sac_workspace_pool *pool, sac_device *device)
{
    sac_device_memory memory;

    sac_device_memory_describe(device, &memory);
    *pool = (sac_workspace_pool){.device = device, .share = (size_t)(memory.budget / SHARE_OF_BUDGET)};
    if (sac_device_host_visible(device) && pool->share > SHARE_BYTES)
        pool->share = SHARE_BYTES;
    pthread_mutex_init(&pool->lock, NULL);
}

static void workspace_free(sac_workspace *ws)
{
    sac_recorded_free(ws);
    while (ws->blocks != NULL) {
        sac_workspace_block *block = ws->blocks;
        ws->blocks = block->below;
        block_free(ws->device, block);
    }
    sac_event_close(ws->done);
    sac_stream_give_back(ws->stream);
    free(ws);
}

void sac_workspace_pool_free(sac_workspace_pool *pool)
{
    while (pool->idle != NULL) {
        sac_workspace *ws = pool->idle;
        pool->idle = ws->idle_next;
        workspace_free(ws);
    }
    pthread_mutex_destroy(&pool->lock);
}

sac_status sac_workspace_borrow(sac_workspace_pool *pool, sac_workspace **out, sac_error *err)
{
    sac_workspace *ws;
    sac_status st;

    *out = NULL;
    pthread_mutex_lock(&pool->lock);
    ws = pool->idle;
    if (ws != NULL)
        pool->idle = ws->idle_next;
    pthread_mutex_unlock(&pool->lock);
    if (ws == NULL) {
        ws = calloc(1, sizeof *ws);
        if (ws == NULL)
            return sac_fail(err, SAC_NO_MEMORY, "no memory for a workspace");
        ws->device = pool->device;
        ws->ops = sac_device_ops(pool->device);
        ws->share = pool->share;
    }
    ws->err = err;
    st = ws->stream == NULL ? sac_stream_borrow(pool->device, 0, &ws->stream, err) : SAC_OK;
    if (st != SAC_OK) {
        workspace_free(ws);
        return st;
    }
    *out = ws;
    return SAC_OK;
}

/* On the CPU streams are shared, since only their scratch matters, which is warm in a cache at best. On other
 * devices a workspace keeps its stream. */
void sac_workspace_give_back(sac_workspace_pool *pool, sac_workspace *ws)
{
    if (ws == NULL)
        return;
    sac_workspace_reset(ws);
    ws->err = NULL;
    if (sac_device_host_visible(ws->device)) {
        sac_stream_give_back(ws->stream);
        ws->stream = NULL;
        ws->scratch = 0;
    }
    if (ws->blocks != NULL && ws->blocks->bytes[DEVICE] + ws->blocks->bytes[HOST] > ws->share) {
        workspace_free(ws);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    ws->idle_next = pool->idle;
    pool->idle = ws;
    pthread_mutex_unlock(&pool->lock);
}

/* Several blocks become one of their size, which the next use will not outgrow. */
void sac_workspace_reset(sac_workspace *ws)
{
    size_t bytes[2] = {0, 0};

    sac_stream_wait(ws->stream);
    if (ws->blocks == NULL)
        return;
    if (ws->blocks->below == NULL) {
        ws->blocks->used[DEVICE] = ws->blocks->used[HOST] = 0;
        return;
    }
    ws->generation++;
    while (ws->blocks != NULL) {
        sac_workspace_block *block = ws->blocks;
        ws->blocks = block->below;
        bytes[DEVICE] += block->bytes[DEVICE];
        bytes[HOST] += block->bytes[HOST];
        block_free(ws->device, block);
    }
    if (bytes[DEVICE] + bytes[HOST] <= ws->share)
        (void)block_make(ws->device, bytes, &ws->blocks, NULL); /* tried again when needed */
}

sac_status sac_workspace_fit(sac_workspace *ws, size_t device_bytes, size_t host_bytes)
{
    const size_t bytes[2] = {[DEVICE] = device_bytes, [HOST] = host_bytes};
    sac_workspace_block *block = ws->blocks;

    if (block != NULL && block->bytes[DEVICE] >= device_bytes && block->bytes[HOST] >= host_bytes)
        return SAC_OK;
    assert(block == NULL || (block->below == NULL && block->used[DEVICE] + block->used[HOST] == 0));
    sac_recorded_free(ws); /* it addresses memory that goes now */
    ws->generation++;
    ws->blocks = NULL;
    if (block != NULL)
        block_free(ws->device, block);
    return block_make(ws->device, bytes, &ws->blocks, ws->err);
}

void sac_workspace_place(const sac_workspace *ws, uint64_t place[3])
{
    place[0] = ws->generation;
    place[1] = ws->blocks != NULL ? ws->blocks->used[DEVICE] : 0;
    place[2] = ws->blocks != NULL ? ws->blocks->used[HOST] : 0;
}

sac_workspace_mark sac_workspace_save(const sac_workspace *ws)
{
    sac_workspace_mark mark = {.block = ws->blocks};

    if (ws->blocks != NULL) {
        mark.used[DEVICE] = ws->blocks->used[DEVICE];
        mark.used[HOST] = ws->blocks->used[HOST];
    }
    return mark;
}

void sac_workspace_restore(sac_workspace *ws, sac_workspace_mark mark)
{
    sac_stream_wait(ws->stream);
    while (ws->blocks != mark.block) {
        sac_workspace_block *block = ws->blocks;
        ws->generation++;
        ws->blocks = block->below;
        block_free(ws->device, block);
    }
    if (ws->blocks != NULL) {
        ws->blocks->used[DEVICE] = mark.used[DEVICE];
        ws->blocks->used[HOST] = mark.used[HOST];
    }
}

static void *take(sac_workspace *ws, int kind, size_t count, size_t size)
{
    size_t bytes;
    void *piece;

    if (__builtin_mul_overflow(count, size, &bytes) || bytes > PTRDIFF_MAX / 4) {
        ws->status = sac_fail(ws->err, kind == HOST ? SAC_NO_MEMORY : SAC_DEVICE_MEMORY,
                              "%zu times %zu bytes are beyond any memory", count, size);
        return NULL;
    }
    bytes = sac_piece_bytes(bytes);
    if (ws->blocks == NULL || ws->blocks->bytes[kind] - ws->blocks->used[kind] < bytes) {
        size_t sizes[2] = {BLOCK_BYTES, BLOCK_BYTES};
        sac_workspace_block *block = NULL;

        sizes[kind] = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        if (ws->recording) {
            ws->status = sac_fail(ws->err, SAC_NO_MEMORY, "recorded work needs more memory than before");
            return NULL;
        }
        ws->generation++;
        ws->status = block_make(ws->device, sizes, &block, ws->err);
        if (block == NULL)
            return NULL;
        block->below = ws->blocks;
        ws->blocks = block;
    }
    piece = ws->blocks->memory[kind] + ws->blocks->used[kind];
    ws->blocks->used[kind] += bytes;
    return piece;
}

void *sac_workspace_device(sac_workspace *ws, size_t count, size_t size)
{
    return take(ws, DEVICE, count, size);
}

void *sac_workspace_host(sac_workspace *ws, size_t count, size_t size)
{
    return take(ws, HOST, count, size);
}

bool sac_workspace_view(sac_workspace *ws, void *device, size_t count, size_t size, sac_span *out)
{
    *out = (sac_span){.device = device, .host = device, .bytes = count * size};
    if (!sac_device_host_visible(ws->device))
        out->host = take(ws, HOST, count, size);
    return out->host != NULL;
}

bool sac_workspace_span(sac_workspace *ws, size_t count, size_t size, sac_span *out)
{
    void *device = take(ws, DEVICE, count, size);

    return device != NULL && sac_workspace_view(ws, device, count, size, out);
}

static sac_status copied(sac_workspace *ws, sac_status st, const sac_span *span)
{
    if (st == SAC_OK)
        return SAC_OK;
    return sac_fail(ws->err, st, "cannot copy %zu bytes between host and device: %s", span->bytes,
                    sac_status_text(st));
}

sac_status sac_span_push(sac_workspace *ws, const sac_span *span)
{
    if (span->host == span->device)
        return SAC_OK;
    return copied(ws, sac_stream_upload(ws->stream, span->device, span->host, span->bytes), span);
}

sac_status sac_span_fetch(sac_workspace *ws, const sac_span *span)
{
    if (span->host == span->device)
        return SAC_OK;
    return copied(ws, sac_stream_download(ws->stream, span->host, span->device, span->bytes), span);
}

sac_status sac_span_pull(sac_workspace *ws, const sac_span *span)
{
    sac_status st = sac_span_fetch(ws, span);

    return st == SAC_OK ? sac_workspace_wait(ws) : st;
}

sac_status sac_workspace_wait(sac_workspace *ws)
{
    sac_status st = sac_stream_wait(ws->stream);

    return st == SAC_OK ? SAC_OK : sac_fail(ws->err, st, "the device failed: %s", sac_status_text(st));
}

sac_status sac_workspace_done(sac_workspace *ws, sac_event **out)
{
    sac_status st = SAC_OK;

    if (ws->done == NULL)
        st = sac_event_open(ws->device, &ws->done, ws->err);
    *out = ws->done;
    return st == SAC_OK ? sac_event_record(ws->done, ws->stream) : st;
}

sac_status sac_workspace_follow(sac_workspace *ws, sac_workspace *other)
{
    sac_event *done;
    sac_status st = sac_workspace_done(other, &done);

    return st == SAC_OK ? sac_stream_await(ws->stream, done) : st;
}

/* ---- operations ------------------------------------------------------------------------------------- */

/* Growing the arena means waiting; a stream that has served such a search before has enough. */
static sac_status reserve(sac_workspace *ws, size_t bytes)
{
    sac_status st;

    if (bytes <= ws->scratch)
        return SAC_OK;
    if (ws->recording)
        return sac_fail(ws->err, SAC_NO_MEMORY, "recorded work needs more scratch than before");
    ws->generation++;
    st = sac_workspace_wait(ws);
    if (st == SAC_OK)
        st = sac_stream_reserve(ws->stream, bytes, ws->err);
    if (st == SAC_OK)
        ws->scratch = bytes;
    return st;
}

static sac_status outcome(sac_workspace *ws, sac_status st, const char *name)
{
    return st == SAC_OK ? SAC_OK : sac_fail(ws->err, st, "operation %s: %s", name, sac_status_text(st));
}

#define SAC_RUN(op)                                                             \
    sac_status sac_run_##op(sac_workspace *ws, const struct sac_##op##_args *a) \
    {                                                                           \
        return outcome(ws, ws->ops->op(ws->stream, a), #op);                    \
    }
#define SAC_RUN_WITH_SCRATCH(op)                                                 \
    sac_status sac_run_##op(sac_workspace *ws, const struct sac_##op##_args *a)  \
    {                                                                            \
        sac_status st = reserve(ws, ws->ops->op##_scratch(ws->device, a));       \
        return st == SAC_OK ? outcome(ws, ws->ops->op(ws->stream, a), #op) : st; \
    }

SAC_RUN(norms)
SAC_RUN_WITH_SCRATCH(assign)
SAC_RUN_WITH_SCRATCH(cluster_sums)
SAC_RUN_WITH_SCRATCH(nearest)
SAC_RUN(gather_distances)
SAC_RUN_WITH_SCRATCH(select)
SAC_RUN(merge)
SAC_RUN(rows_write)
SAC_RUN(rows_read)
SAC_RUN_WITH_SCRATCH(pq_encode)
SAC_RUN(rotate)
SAC_RUN(rabitq_encode)
SAC_RUN(list_write)
SAC_RUN(list_move)
SAC_RUN_WITH_SCRATCH(probe)
SAC_RUN(pq_table)
SAC_RUN_WITH_SCRATCH(pq_scan)
SAC_RUN_WITH_SCRATCH(patchify)
SAC_RUN_WITH_SCRATCH(linear)
SAC_RUN(layer_norm)
SAC_RUN_WITH_SCRATCH(attention)
SAC_RUN(tokens)
SAC_RUN(unit_rows)
