/* hub.c -- all connections: their coming and going, their turns, and those that take too long. */
#include "server/conn_private.h"

#include "server/log.h"
#include "server/methods.h"

#include <stdlib.h>

/* The memory goes when libuv and every request have let go of it. */
void sac_conn_unref(struct sac_conn *conn)
{
    if (!conn->handle_closed || conn->in_flight > 0 || conn->is_waiting || conn->is_dirty)
        return;
    sac_uncount(&conn->hub->core->metrics.output_bytes, conn->output.bytes);
    sac_output_free(&conn->output);
    free(conn);
}

static void on_closed(uv_handle_t *handle)
{
    struct sac_conn *conn = handle->data;

    conn->handle_closed = true;
    sac_conn_unref(conn);
}

/* What was asked to be read is dropped, what was asked to be written is written. */
void sac_conn_close(struct sac_conn *conn, enum sac_close_reason reason, bool reset)
{
    struct sac_hub *hub = conn->hub;

    if (conn->state == CONN_CLOSED)
        return;
    if (conn->state == CONN_OPEN) /* else its reason is counted */
        sac_count(&hub->core->metrics.closed[reason], 1);
    conn->state = CONN_CLOSED;
    sac_uncount(&hub->core->metrics.connections, 1);
    for (struct sac_request *r = conn->requests; r != NULL; r = r->conn_next)
        if (!r->method->writes)
            atomic_store(&r->cancelled, true);
    if (conn->prev != NULL)
        conn->prev->next = conn->next;
    else
        hub->first = conn->next;
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    hub->count--;
    sac_conn_drop_input(conn);
    conn->reading = false;
    if (!reset || conn->u.handle.type != UV_TCP || uv_tcp_close_reset(&conn->u.tcp, on_closed) != 0)
        uv_close(&conn->u.handle, on_closed);
}

static void on_idle(uv_idle_t *idle)
{
    struct sac_hub *hub = idle->data;
    struct sac_conn *list = hub->waiting;

    hub->waiting = NULL;
    uv_idle_stop(idle);
    while (list != NULL) {
        struct sac_conn *conn = list;
        list = conn->waiting_next;
        conn->is_waiting = false;
        if (conn->state == CONN_CLOSED)
            sac_conn_unref(conn);
        else
            sac_conn_pump(conn);
    }
}

/* To be pumped in the next turn of the loop. */
void sac_conn_wait(struct sac_conn *conn)
{
    struct sac_hub *hub = conn->hub;

    if (conn->is_waiting)
        return;
    conn->is_waiting = true;
    conn->waiting_next = hub->waiting;
    hub->waiting = conn;
    uv_idle_start(&hub->idle, on_idle);
}

static void on_check(uv_check_t *check)
{
    struct sac_hub *hub = check->data;

    hub->turn++;
}

void sac_hub_init(struct sac_hub *hub, uv_loop_t *loop, struct sac_core *core)
{
    memset(hub, 0, sizeof *hub);
    hub->loop = loop;
    hub->core = core;
    uv_idle_init(loop, &hub->idle); /* these two cannot fail */
    uv_check_init(loop, &hub->check);
    hub->idle.data = hub->check.data = hub;
    uv_check_start(&hub->check, on_check);
}

void sac_hub_close(struct sac_hub *hub)
{
    uv_close((uv_handle_t *)&hub->idle, NULL);
    uv_close((uv_handle_t *)&hub->check, NULL);
}

static void on_refused(uv_handle_t *handle)
{
    free(handle);
}

static int conn_open(struct sac_conn *conn, uv_stream_t *listener, bool unix_socket)
{
    int status = unix_socket ? uv_pipe_init(conn->hub->loop, &conn->u.pipe, 0)
                             : uv_tcp_init(conn->hub->loop, &conn->u.tcp);

    if (status == 0)
        status = uv_accept(listener, &conn->u.stream);
    if (status == 0 && !unix_socket) {
        uv_tcp_nodelay(&conn->u.tcp, 1);
        uv_tcp_keepalive(&conn->u.tcp, 1, 60);
    }
    return status;
}

void sac_hub_accept(struct sac_hub *hub, uv_stream_t *listener, bool unix_socket)
{
    struct sac_metrics *metrics = &hub->core->metrics;
    struct sac_conn *conn = calloc(1, sizeof *conn);

    if (conn == NULL) {
        sac_log(SAC_LOG_ERROR, "connection not accepted", "reason=\"no memory\"");
        return;
    }
    conn->hub = hub;
    sac_count(&metrics->accepted, 1);
    int status = conn_open(conn, listener, unix_socket);
    if (status != 0 || hub->count >= hub->core->config->limits.connections) {
        sac_count(&metrics->closed[status != 0 ? SAC_CLOSE_ERROR : SAC_CLOSE_OVER_CAP], 1);
        uv_close(&conn->u.handle, on_refused);
        return;
    }
    conn->u.handle.data = conn;
    conn->active_ns = uv_hrtime();
    conn->next = hub->first;
    if (hub->first != NULL)
        hub->first->prev = conn;
    hub->first = conn;
    hub->count++;
    sac_count(&metrics->connections, 1);
    sac_conn_set_reading(conn);
}

/* ---- answers ------------------------------------------------------------------------------------------ */

static void leave(struct sac_conn *conn, struct sac_request *request)
{
    const struct sac_server_limits *limits = &conn->hub->core->config->limits;

    if (request->conn_prev != NULL)
        request->conn_prev->conn_next = request->conn_next;
    else
        conn->requests = request->conn_next;
    if (request->conn_next != NULL)
        request->conn_next->conn_prev = request->conn_prev;
    conn->in_flight--;
    conn->held_bytes -= request->size;
    sac_uncount(&conn->hub->core->metrics.in_flight, 1);
    if (conn->paused_flight && conn->in_flight <= limits->in_flight / 2) {
        conn->paused_flight = false;
        if (conn->state == CONN_OPEN)
            sac_conn_wait(conn);
    }
}

/* A reply that no queue would take becomes an error that says so. */
static void check_size(struct sac_request *request)
{
    size_t max = request->core->config->limits.output_hard_bytes, size = request->reply.size;
    sac_error error;

    if (size <= max)
        return;
    request->status = SAC_TOO_LARGE;
    error.status =
        sac_fail(&error, SAC_TOO_LARGE, "%s: the answer has %zu bytes, the limit is %zu: ask for less",
                 request->method->name, size, max);
    msgpack_sbuffer_destroy(&request->reply);
    msgpack_sbuffer_init(&request->reply);
    sac_reply_error(&request->reply, request->msgid, &error, NULL);
}

static void answer(struct sac_request *request)
{
    struct sac_conn *conn = request->conn;

    check_size(request);
    sac_metrics_request(&request->core->metrics, sac_method_row(request->method), request->status,
                        sac_now_ns() - request->arrived_ns);
    leave(conn, request);
    if (!request->notification)
        sac_conn_reply(conn, &request->reply);
    sac_request_free(request);
    if (conn->state == CONN_CLOSED)
        sac_conn_unref(conn);
}

void sac_hub_deliver(struct sac_hub *hub)
{
    struct sac_request *list = sac_core_take_done(hub->core);

    while (list != NULL) {
        struct sac_request *request = list;
        list = request->done_next;
        void (*resume)(struct sac_request *) = request->resume;
        request->resume = NULL;
        if (resume != NULL)
            resume(request);
        else
            answer(request);
    }
    sac_conn_flush_dirty(hub);
}

/* ---- time-outs ---------------------------------------------------------------------------------------- */

/* While memory is short a message is held to the deadline alone: somebody has to give way in the end. */
static bool message_is_slow(const struct sac_conn *conn, const struct sac_server_limits *limits, uint64_t now)
{
    uint64_t ms = (now - conn->message_ns) / 1000000;

    if (conn->message_ns == 0)
        return false;
    return ms > limits->message_ms ||
           (ms > 1000 && !conn->paused_memory &&
            conn->scan.bytes < (ms - 1000) * limits->message_bytes_per_s_min / 1000);
}

static void sweep_conn(struct sac_conn *conn, uint64_t now)
{
    const struct sac_server_limits *limits = &conn->hub->core->config->limits;
    size_t queued = uv_stream_get_write_queue_size(&conn->u.stream);

    if (queued != conn->progress_mark) {
        conn->progress_mark = queued;
        conn->progress_ns = now;
    }
    if (conn->output.head != NULL && (now - conn->progress_ns) / 1000000 > limits->write_stall_ms)
        sac_conn_close(conn, SAC_CLOSE_SLOW_READER, true);
    else if (conn->state == CONN_LINGER && now > conn->linger_ns)
        sac_conn_close(conn, SAC_CLOSE_MALFORMED, false);
    else if (conn->state == CONN_OPEN && message_is_slow(conn, limits, now))
        sac_conn_close(conn, SAC_CLOSE_SLOW_MESSAGE, false);
    else if (conn->in_flight == 0 && conn->output.head == NULL && conn->message_ns == 0 &&
             now > conn->active_ns && (now - conn->active_ns) / 1000000 > limits->idle_ms)
        sac_conn_close(conn, SAC_CLOSE_IDLE, false);
}

static void resume_memory(struct sac_hub *hub)
{
    uint64_t limit = hub->core->config->limits.request_bytes;

    if (!hub->memory_full ||
        sac_counted(&hub->core->metrics.request_bytes) + hub->input_bytes > limit / 4 * 3)
        return;
    hub->memory_full = false;
    for (struct sac_conn *c = hub->first; c != NULL; c = c->next)
        if (c->paused_memory) {
            c->paused_memory = false;
            c->message_ns = 0; /* its time begins anew */
            sac_conn_wait(c);
        }
}

void sac_hub_sweep(struct sac_hub *hub)
{
    uint64_t now = uv_hrtime();

    for (struct sac_conn *c = hub->first, *next; c != NULL; c = next) {
        next = c->next;
        sweep_conn(c, now);
    }
    resume_memory(hub);
}

bool sac_hub_quiet(const struct sac_hub *hub)
{
    if (sac_counted(&hub->core->metrics.in_flight) > 0)
        return false;
    for (const struct sac_conn *c = hub->first; c != NULL; c = c->next)
        if (c->output.head != NULL)
            return false;
    return true;
}

void sac_hub_close_all(struct sac_hub *hub, enum sac_close_reason reason)
{
    while (hub->first != NULL)
        sac_conn_close(hub->first, reason, false);
}
