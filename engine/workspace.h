/* workspace.h -- the memory and the stream of one search, or of one step of training.
 *
 * Pieces are handed out one after another and all forgotten at once. A workspace that is given back keeps its
 * memory for the next search, as one block of the size that was needed, so that steady load allocates
 * nothing.
 */
#ifndef SACCADE_WORKSPACE_H
#define SACCADE_WORKSPACE_H

#include "kernels/ops.h"

#include <pthread.h>

typedef struct sac_workspace_block sac_workspace_block;

typedef struct sac_workspace {
    sac_device *device;
    const struct sac_ops *ops;
    sac_stream *stream;
    sac_error *err; /* the caller's, for everything that fails meanwhile */
    sac_workspace_block *blocks;
    struct sac_workspace *idle_next;
} sac_workspace;

/* Workspaces waiting for the next search. */
typedef struct sac_workspace_pool {
    sac_device *device;
    pthread_mutex_t lock;
    sac_workspace *idle;
} sac_workspace_pool;

void sac_workspace_pool_init(sac_workspace_pool *pool, sac_device *device);
void sac_workspace_pool_free(sac_workspace_pool *pool); /* after every workspace is back */

/* A workspace with a stream of the device's; NULL with *err filled when there is no memory. */
sac_status sac_workspace_borrow(sac_workspace_pool *pool, sac_workspace **out, sac_error *err);
void sac_workspace_give_back(sac_workspace_pool *pool, sac_workspace *ws); /* NULL is allowed */

/* Forgets every piece. */
void sac_workspace_reset(sac_workspace *ws);

/* What is in use now, and going back to that: for pieces of a loop's body. */
typedef struct sac_workspace_mark {
    sac_workspace_block *block;
    size_t used[2];
} sac_workspace_mark;
sac_workspace_mark sac_workspace_save(const sac_workspace *ws);
void sac_workspace_restore(sac_workspace *ws, sac_workspace_mark mark);

/* count * size bytes, aligned to 64, undefined: of the device, or of the host. NULL when there are none, with
 * ws->err filled. */
void *sac_workspace_device(sac_workspace *ws, size_t count, size_t size);
void *sac_workspace_host(sac_workspace *ws, size_t count, size_t size);

/* The same piece as the device and as the host see it: one memory where the device's is visible to the host.
 */
typedef struct sac_span {
    void *device, *host;
    size_t bytes;
} sac_span;
bool sac_workspace_span(sac_workspace *ws, size_t count, size_t size, sac_span *out);
sac_status sac_span_push(sac_workspace *ws, const sac_span *span); /* host to device, in stream order */
sac_status sac_span_pull(sac_workspace *ws, const sac_span *span); /* device to host; done when it returns */

/* ---- operations with the scratch they need; ws->err is filled on failure ---------------------------- */

sac_status sac_run_norms(sac_workspace *ws, const struct sac_norms_args *a);
sac_status sac_run_assign(sac_workspace *ws, const struct sac_assign_args *a);
sac_status sac_run_cluster_sums(sac_workspace *ws, const struct sac_cluster_sums_args *a);
sac_status sac_run_nearest(sac_workspace *ws, const struct sac_nearest_args *a);
sac_status sac_run_gather_distances(sac_workspace *ws, const struct sac_gather_distances_args *a);
sac_status sac_run_rows_write(sac_workspace *ws, const struct sac_rows_write_args *a);
sac_status sac_run_rows_read(sac_workspace *ws, const struct sac_rows_read_args *a);
sac_status sac_run_pq_encode(sac_workspace *ws, const struct sac_pq_encode_args *a);
sac_status sac_run_list_write(sac_workspace *ws, const struct sac_list_write_args *a);
sac_status sac_run_list_move(sac_workspace *ws, const struct sac_list_move_args *a);
sac_status sac_run_pq_table(sac_workspace *ws, const struct sac_pq_table_args *a);
sac_status sac_run_pq_scan(sac_workspace *ws, const struct sac_pq_scan_args *a);
sac_status sac_run_linear(sac_workspace *ws, const struct sac_linear_args *a);

#endif
