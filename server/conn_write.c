/* conn_write.c -- replies to bytes. Written at once where the socket takes them, else by libuv when it does.
 */
#include "server/conn_private.h"

#define WRITE_BUFFERS 32u

/* ---- replies ------------------------------------------------------------------------------------------ */

void sac_conn_mark_dirty(struct sac_conn *conn)
{
    if (conn->is_dirty)
        return;
    conn->is_dirty = true;
    conn->dirty_next = conn->hub->dirty;
    conn->hub->dirty = conn;
}

void sac_conn_flush_dirty(struct sac_hub *hub)
{
    while (hub->dirty != NULL) {
        struct sac_conn *conn = hub->dirty;
        hub->dirty = conn->dirty_next;
        conn->is_dirty = false;
        if (conn->state == CONN_CLOSED)
            sac_conn_unref(conn);
        else
            sac_conn_flush(conn);
    }
}

void sac_conn_reply(struct sac_conn *conn, msgpack_sbuffer *reply)
{
    const struct sac_server_limits *limits = &conn->hub->core->config->limits;
    size_t before = conn->output.bytes;

    if (conn->state == CONN_CLOSED)
        return;
    if (before > limits->output_hard_bytes) {
        sac_conn_close(conn, SAC_CLOSE_OUTPUT_FULL, true);
        return;
    }
    if (before == 0) {
        conn->progress_ns = uv_hrtime();
        conn->progress_mark = 0;
    }
    if (!sac_output_add(&conn->output, reply)) {
        sac_conn_close(conn, SAC_CLOSE_MEMORY, true);
        return;
    }
    sac_count(&conn->hub->core->metrics.output_bytes, conn->output.bytes - before);
    if (conn->output.bytes > limits->output_soft_bytes)
        conn->paused_output = true;
    sac_conn_mark_dirty(conn);
}

static void consume(struct sac_conn *conn, size_t n)
{
    struct sac_metrics *metrics = &conn->hub->core->metrics;
    size_t before = conn->output.bytes;

    sac_output_consume(&conn->output, n);
    sac_uncount(&metrics->output_bytes, before - conn->output.bytes);
    sac_count(&metrics->written_bytes, n);
    conn->progress_ns = conn->active_ns = uv_hrtime();
}

static void on_written(uv_write_t *write, int status)
{
    struct sac_conn *conn = write->data;

    conn->writing = false;
    if (conn->state == CONN_CLOSED)
        return;
    if (status < 0) {
        sac_conn_close(conn, SAC_CLOSE_CLIENT, false);
        return;
    }
    consume(conn, conn->writing_bytes);
    sac_conn_flush(conn);
}

static void on_shut(uv_shutdown_t *shutdown, int status)
{
    (void)shutdown; /* the sweep closes it if the client does not */
    (void)status;
}

/* Nothing is left to write. */
static void flushed(struct sac_conn *conn)
{
    if (conn->state == CONN_LINGER && !conn->shut) {
        conn->shut = true;
        uv_shutdown(&conn->shutdown, &conn->u.stream, on_shut);
    }
}

void sac_conn_flush(struct sac_conn *conn)
{
    const struct sac_server_limits *limits = &conn->hub->core->config->limits;
    uv_buf_t buffers[WRITE_BUFFERS];

    while (conn->output.head != NULL && !conn->writing) {
        unsigned n = sac_output_gather(&conn->output, buffers, WRITE_BUFFERS, false);
        int taken = uv_try_write(&conn->u.stream, buffers, n);
        if (taken > 0) {
            consume(conn, (size_t)taken);
            continue;
        }
        if (taken != UV_EAGAIN) {
            sac_conn_close(conn, SAC_CLOSE_CLIENT, false);
            return;
        }
        n = sac_output_gather(&conn->output, buffers, WRITE_BUFFERS, true);
        conn->writing_bytes = 0;
        for (unsigned i = 0; i < n; i++)
            conn->writing_bytes += buffers[i].len;
        conn->write.data = conn;
        if (uv_write(&conn->write, &conn->u.stream, buffers, n, on_written) != 0) {
            sac_conn_close(conn, SAC_CLOSE_CLIENT, false);
            return;
        }
        conn->writing = true;
    }
    if (conn->output.head == NULL)
        flushed(conn);
    if (conn->paused_output && conn->output.bytes <= limits->output_soft_bytes / 2) {
        conn->paused_output = false;
        sac_conn_wait(conn);
    }
}
