/* workspace.h -- the memory and the stream of one search, or of one step of training.
 *
 * Pieces are handed out one after another and all forgotten at once. A workspace that is given back keeps its
 * memory for the next search, as one block of the size that was needed, so that steady load allocates
 * nothing.
 *
 * What runs is put on the stream and not waited for, except where a function says so. Host pieces are memory
 * that copies read and write beside the host: whoever pushes one leaves it alone until the stream has been
 * waited for.
 */
#ifndef SACCADE_WORKSPACE_H
#define SACCADE_WORKSPACE_H

#include "kernels/ops.h"

#include <assert.h>
#include <pthread.h>

typedef struct sac_workspace_block sac_workspace_block;

/* What tells one piece of recorded work from another (recorded.h). */
typedef struct sac_shape {
    uint64_t words[8];
} sac_shape;

#define SAC_RECORDED_MAX 64u

typedef struct sac_recorded {
    sac_shape shape;
    sac_recording *recording; /* NULL: not yet */
    bool refused;             /* it could not be recorded */
    uint64_t wanted_at;       /* the last time, in times that anything was */
} sac_recorded;

typedef struct sac_workspace {
    sac_device *device;
    const struct sac_ops *ops;
    sac_stream *stream;
    sac_event *done;   /* NULL until another follows */
    size_t scratch;    /* bytes of the stream's arena that were asked for so far */
    size_t share;      /* bytes that a search should get by with; what is more is not kept */
    sac_error *err;    /* the caller's, for everything that fails meanwhile */
    sac_status status; /* why the last piece could not be had */
    sac_workspace_block *blocks;
    uint64_t generation; /* goes up when memory comes or goes: what was recorded before is of no use then */
    bool recording;      /* no memory may come now */
    sac_recorded recorded[SAC_RECORDED_MAX];
    uint32_t recorded_count;
    uint64_t wanted_count;
    struct sac_workspace *idle_next;
} sac_workspace;

/* Workspaces waiting for the next search. */
typedef struct sac_workspace_pool {
    sac_device *device;
    size_t share;
    pthread_mutex_t lock;
    sac_workspace *idle;
} sac_workspace_pool;

void sac_workspace_pool_init(sac_workspace_pool *pool, sac_device *device);
void sac_workspace_pool_free(sac_workspace_pool *pool); /* after every workspace is back */

/* A workspace with a stream of the device's; NULL with *err filled when there is no memory. */
sac_status sac_workspace_borrow(sac_workspace_pool *pool, sac_workspace **out, sac_error *err);
void sac_workspace_give_back(sac_workspace_pool *pool, sac_workspace *ws); /* NULL is allowed */

/* Waits for the stream, then forgets every piece. */
void sac_workspace_reset(sac_workspace *ws);

/* Where the next pieces will be: the same for the same requests after a reset, until memory comes or goes. */
void sac_workspace_place(const sac_workspace *ws, uint64_t place[3]);

/* Bytes that a piece of so many takes. */
static inline size_t sac_piece_bytes(size_t bytes)
{
    return (bytes + 64) / 64 * 64; /* never nothing */
}

/* For a workspace whose pieces are all forgotten: memory for pieces of so many bytes in all, as one block.
 * What it had goes first where that is not enough, so that the two never stand side by side. */
sac_status sac_workspace_fit(sac_workspace *ws, size_t device_bytes, size_t host_bytes);

/* What is in use now, and going back to that once the stream is done with the rest: for pieces of a loop's
 * body. */
typedef struct sac_workspace_mark {
    sac_workspace_block *block;
    size_t used[2];
} sac_workspace_mark;
sac_workspace_mark sac_workspace_save(const sac_workspace *ws);
void sac_workspace_restore(sac_workspace *ws, sac_workspace_mark mark);

/* count * size bytes, aligned to 64, undefined: of the device, or of the host. NULL when there are none, with
 * ws->err and ws->status filled: SAC_NO_MEMORY, SAC_DEVICE_MEMORY, SAC_DEVICE_LOST. */
void *sac_workspace_device(sac_workspace *ws, size_t count, size_t size);
void *sac_workspace_host(sac_workspace *ws, size_t count, size_t size);

/* Why a piece could not be had: what a caller who got NULL returns. */
static inline sac_status sac_workspace_failure(const sac_workspace *ws)
{
    assert(ws->status != SAC_OK);
    return ws->status;
}

/* The same piece as the device and as the host see it: one memory where the device's is visible to the host.
 */
typedef struct sac_span {
    void *device, *host;
    size_t bytes;
} sac_span;
bool sac_workspace_span(sac_workspace *ws, size_t count, size_t size, sac_span *out);
/* The same around a piece that the device has. */
bool sac_workspace_view(sac_workspace *ws, void *device, size_t count, size_t size, sac_span *out);
sac_status sac_span_push(sac_workspace *ws, const sac_span *span);  /* host to device, in stream order */
sac_status sac_span_fetch(sac_workspace *ws, const sac_span *span); /* device to host, in stream order */
sac_status sac_span_pull(sac_workspace *ws, const sac_span *span);  /* the same; done when it returns */

/* Returns when everything put on the stream is done. */
sac_status sac_workspace_wait(sac_workspace *ws);

/* A mark behind everything on the workspace's stream; the workspace's, and moved by the next call. */
sac_status sac_workspace_done(sac_workspace *ws, sac_event **out);

/* What is put on ws's stream from now on runs after what `other` has on its stream; the host does not wait.
 */
sac_status sac_workspace_follow(sac_workspace *ws, sac_workspace *other);

/* ---- operations with the scratch they need; ws->err is filled on failure ---------------------------- */

sac_status sac_run_norms(sac_workspace *ws, const struct sac_norms_args *a);
sac_status sac_run_assign(sac_workspace *ws, const struct sac_assign_args *a);
sac_status sac_run_cluster_sums(sac_workspace *ws, const struct sac_cluster_sums_args *a);
sac_status sac_run_nearest(sac_workspace *ws, const struct sac_nearest_args *a);
sac_status sac_run_gather_distances(sac_workspace *ws, const struct sac_gather_distances_args *a);
sac_status sac_run_select(sac_workspace *ws, const struct sac_select_args *a);
sac_status sac_run_merge(sac_workspace *ws, const struct sac_merge_args *a);
sac_status sac_run_rows_write(sac_workspace *ws, const struct sac_rows_write_args *a);
sac_status sac_run_rows_read(sac_workspace *ws, const struct sac_rows_read_args *a);
sac_status sac_run_pq_encode(sac_workspace *ws, const struct sac_pq_encode_args *a);
sac_status sac_run_rotate(sac_workspace *ws, const struct sac_rotate_args *a);
sac_status sac_run_rabitq_encode(sac_workspace *ws, const struct sac_rabitq_encode_args *a);
sac_status sac_run_list_write(sac_workspace *ws, const struct sac_list_write_args *a);
sac_status sac_run_list_move(sac_workspace *ws, const struct sac_list_move_args *a);
sac_status sac_run_probe(sac_workspace *ws, const struct sac_probe_args *a);
sac_status sac_run_pq_table(sac_workspace *ws, const struct sac_pq_table_args *a);
sac_status sac_run_pq_scan(sac_workspace *ws, const struct sac_pq_scan_args *a);
sac_status sac_run_patchify(sac_workspace *ws, const struct sac_patchify_args *a);
sac_status sac_run_linear(sac_workspace *ws, const struct sac_linear_args *a);
sac_status sac_run_layer_norm(sac_workspace *ws, const struct sac_layer_norm_args *a);
sac_status sac_run_attention(sac_workspace *ws, const struct sac_attention_args *a);
sac_status sac_run_tokens(sac_workspace *ws, const struct sac_tokens_args *a);
sac_status sac_run_unit_rows(sac_workspace *ws, const struct sac_unit_rows_args *a);

#endif
