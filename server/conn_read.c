/* conn_read.c -- bytes to messages to requests. */
#include "server/conn_private.h"

#include "server/log.h"
#include "server/methods.h"

#include <stdlib.h>

#define INPUT_BYTES 65536u      /* a connection's first input buffer, and the size of one read */
#define TURN_MESSAGES 16u       /* of one connection in one turn of the loop */
#define TURN_BYTES (256u << 10) /* the same for bytes read */
#define HAND_OVER_BYTES 32768u  /* messages from here on take the input buffer with them */
#define LINGER_NS 2000000000u   /* after a fatal error: for the client to read it */

void sac_conn_drop_input(struct sac_conn *conn)
{
    free(conn->in);
    conn->hub->input_bytes -= conn->in_capacity;
    conn->in = NULL;
    conn->in_capacity = conn->in_start = conn->in_end = 0;
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    static char discard[INPUT_BYTES]; /* one loop thread; nobody looks at it */
    struct sac_conn *conn = handle->data;
    size_t used = conn->in_end - conn->in_start;

    (void)suggested;
    if (conn->state != CONN_OPEN) {
        *buffer = uv_buf_init(discard, sizeof discard);
        return;
    }
    if (conn->in_end == conn->in_capacity && conn->in_start > 0) {
        memmove(conn->in, conn->in + conn->in_start, used);
        conn->in_start = 0;
        conn->in_end = used;
    }
    if (conn->in_end == conn->in_capacity) {
        size_t capacity = conn->in_capacity > 0 ? 2 * conn->in_capacity : INPUT_BYTES;
        uint8_t *bytes = realloc(conn->in, capacity);
        if (bytes == NULL) { /* libuv reports it to on_read, which closes */
            *buffer = uv_buf_init(NULL, 0);
            return;
        }
        conn->hub->input_bytes += capacity - conn->in_capacity;
        conn->in = bytes;
        conn->in_capacity = capacity;
    }
    size_t room = conn->in_capacity - conn->in_end;
    *buffer =
        uv_buf_init((char *)conn->in + conn->in_end, (unsigned)(room < INPUT_BYTES ? room : INPUT_BYTES));
}

static uint64_t held(const struct sac_conn *conn)
{
    return conn->in_capacity + conn->held_bytes;
}

static bool over_memory(const struct sac_hub *hub, uint64_t limit)
{
    return sac_counted(&hub->core->metrics.request_bytes) + hub->input_bytes > limit;
}

/* Too much is in memory: whoever holds most of it is read no further. */
static void pause_largest(struct sac_hub *hub)
{
    struct sac_conn *largest = NULL;

    for (struct sac_conn *c = hub->first; c != NULL; c = c->next)
        if (!c->paused_memory && c->state == CONN_OPEN && (largest == NULL || held(c) > held(largest)))
            largest = c;
    if (largest == NULL)
        return;
    hub->memory_full = true;
    largest->paused_memory = true;
    sac_conn_set_reading(largest);
}

static void new_turn(struct sac_conn *conn)
{
    if (conn->turn == conn->hub->turn)
        return;
    conn->turn = conn->hub->turn;
    conn->turn_messages = 0;
    conn->turn_bytes = 0;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct sac_conn *conn = stream->data;
    struct sac_hub *hub = conn->hub;

    (void)buffer;
    if (n == 0)
        return;
    if (n < 0) {
        sac_conn_close(conn, n == UV_ENOBUFS ? SAC_CLOSE_MEMORY : SAC_CLOSE_CLIENT, false);
        return;
    }
    sac_count(&hub->core->metrics.read_bytes, (uint64_t)n);
    if (conn->state != CONN_OPEN)
        return;
    new_turn(conn);
    conn->in_end += (size_t)n;
    conn->turn_bytes += (size_t)n;
    conn->active_ns = uv_hrtime();
    sac_conn_pump(conn);
    if (over_memory(hub, hub->core->config->limits.request_bytes))
        pause_largest(hub);
}

static bool exhausted(const struct sac_conn *conn)
{
    return conn->turn == conn->hub->turn &&
           (conn->turn_messages >= TURN_MESSAGES || conn->turn_bytes >= TURN_BYTES);
}

static bool paused(const struct sac_conn *conn)
{
    return conn->paused_flight || conn->paused_output || conn->paused_memory;
}

/* Reads, or not, as the pauses say. A client is not blamed for the time that we do not read. */
void sac_conn_set_reading(struct sac_conn *conn)
{
    bool want =
        conn->state == CONN_LINGER || (conn->state == CONN_OPEN && !paused(conn) && !conn->is_waiting);

    if (paused(conn) && !conn->paused_memory)
        conn->message_ns = 0;
    if (want == conn->reading || conn->state == CONN_CLOSED)
        return;
    conn->reading = want;
    if (!want)
        uv_read_stop(&conn->u.stream);
    else if (uv_read_start(&conn->u.stream, on_alloc, on_read) != 0)
        sac_conn_close(conn, SAC_CLOSE_ERROR, false);
}

/* An error for a message that does not become a request. */
static void reply_error(struct sac_conn *conn, const sac_error *error, uint32_t retry_after_ms)
{
    const struct sac_method *method = conn->method;
    struct sac_rpc_hint hint = {retry_after_ms, method != NULL && method->writes ? "not_applied" : NULL};
    msgpack_sbuffer reply;

    if (conn->head.notification)
        return;
    sac_metrics_request(&conn->hub->core->metrics, sac_method_row(method), error->status, 0);
    msgpack_sbuffer_init(&reply);
    sac_reply_error(&reply, conn->head.msgid, error, &hint);
    sac_conn_reply(conn, &reply);
    msgpack_sbuffer_destroy(&reply);
}

/* The stream cannot be read any further. The client gets a moment to read why: closing while its bytes
 * are still coming would reset the connection and may lose the answer. */
static void conn_linger(struct sac_conn *conn, enum sac_close_reason reason)
{
    sac_count(&conn->hub->core->metrics.closed[reason], 1);
    conn->state = CONN_LINGER;
    conn->linger_ns = uv_hrtime() + LINGER_NS;
    sac_conn_drop_input(conn);
    sac_conn_mark_dirty(conn);
}

static void fatal(struct sac_conn *conn, sac_status status, const char *why)
{
    sac_error error;

    sac_log(SAC_LOG_DEBUG, "message refused", "code=%s reason=\"%s\"", sac_status_name(status), why);
    error.status = sac_fail(&error, status, "%s: the connection ends here", why);
    if (conn->head_known)
        reply_error(conn, &error, 0);
    if (conn->state == CONN_OPEN)
        conn_linger(conn, status == SAC_TOO_LARGE ? SAC_CLOSE_TOO_LARGE : SAC_CLOSE_MALFORMED);
}

/* ---- messages ----------------------------------------------------------------------------------------- */

/* The first `size` bytes of the input leave it, in memory of their own. */
static uint8_t *take_bytes(struct sac_conn *conn, size_t size)
{
    size_t rest = conn->in_end - conn->in_start - size;
    uint8_t *bytes;

    if (size >= HAND_OVER_BYTES && conn->in_start == 0 && rest <= INPUT_BYTES) {
        uint8_t *fresh = malloc(INPUT_BYTES);
        if (fresh == NULL)
            return NULL;
        memcpy(fresh, conn->in + size, rest);
        bytes = realloc(conn->in, size);
        if (bytes == NULL)
            bytes = conn->in;
        conn->hub->input_bytes += INPUT_BYTES - conn->in_capacity;
        conn->in = fresh;
        conn->in_capacity = INPUT_BYTES;
        conn->in_end = rest;
    } else {
        bytes = malloc(size);
        if (bytes == NULL)
            return NULL;
        memcpy(bytes, conn->in + conn->in_start, size);
        conn->in_start += size;
    }
    return bytes;
}

static void cancel(struct sac_conn *conn, uint8_t *bytes, size_t size)
{
    msgpack_zone zone;
    msgpack_object root;
    size_t end = 0;

    if (!msgpack_zone_init(&zone, 256))
        return;
    if (msgpack_unpack((const char *)bytes, size, &end, &zone, &root) == MSGPACK_UNPACK_SUCCESS) {
        const msgpack_object *params = &root.via.array.ptr[2];
        const msgpack_object *msgid = params->type == MSGPACK_OBJECT_ARRAY && params->via.array.size == 1
                                          ? params->via.array.ptr
                                          : NULL;
        for (struct sac_request *r = conn->requests; r != NULL && msgid != NULL; r = r->conn_next)
            if (msgid->type == MSGPACK_OBJECT_POSITIVE_INTEGER && msgid->via.u64 == r->msgid &&
                !r->notification)
                atomic_store(&r->cancelled, true);
    }
    msgpack_zone_destroy(&zone);
}

static void enter(struct sac_conn *conn, uint8_t *bytes, size_t size)
{
    struct sac_hub *hub = conn->hub;
    struct sac_request *request = sac_request_create(hub->core, conn->method, &conn->head, bytes, size);

    if (request == NULL) {
        fatal(conn, SAC_NO_MEMORY, "no memory for the message");
        return;
    }
    request->conn = conn;
    request->conn_next = conn->requests;
    if (conn->requests != NULL)
        conn->requests->conn_prev = request;
    conn->requests = request;
    conn->in_flight++;
    conn->held_bytes += size;
    sac_count(&hub->core->metrics.in_flight, 1);
    if (conn->in_flight >= hub->core->config->limits.in_flight)
        conn->paused_flight = true;
    sac_method_begin(request);
}

/* A complete message of `size` bytes stands at the input's start. */
static void dispatch(struct sac_conn *conn, size_t size)
{
    struct sac_hub *hub = conn->hub;
    struct sac_metrics *metrics = &hub->core->metrics;
    const struct sac_rpc_head *head = &conn->head;
    const struct sac_method *method = conn->method;
    sac_error error;
    bool useless = head->wrong != NULL || method == NULL || (head->notification && !method->writes);

    if (head->notification)
        sac_count(&metrics->notifications, 1);
    if (head->notification && useless && !conn->cancels)
        sac_count(&metrics->notifications_unknown, 1);
    bool refused = hub->draining && !conn->cancels && (method == NULL || strcmp(method->name, "ping") != 0);
    if (!useless && !refused) {
        uint8_t *bytes = take_bytes(conn, size);
        if (bytes != NULL)
            enter(conn, bytes, size);
        else
            sac_conn_close(conn, SAC_CLOSE_MEMORY, false);
        return;
    }
    if (head->notification && conn->cancels && head->wrong == NULL)
        cancel(conn, conn->in + conn->in_start, size);
    if (head->wrong != NULL)
        error.status = sac_fail(&error, SAC_INVALID_ARGUMENT, "%s", head->wrong);
    else if (method == NULL)
        error.status = sac_fail(&error, SAC_UNKNOWN_METHOD, "no method of that name: `info` lists them");
    else
        error.status =
            sac_fail(&error, SAC_UNAVAILABLE, "the server is shutting down: try another, or later");
    if (!head->notification)
        reply_error(conn, &error, 0);
    if (refused)
        sac_count(&metrics->rejected[SAC_REJECT_DRAINING], 1);
    conn->in_start += size;
}

/* Reads the head, which decides the limits of the rest. False: not complete, or fatal. */
static bool read_head(struct sac_conn *conn)
{
    const struct sac_server_limits *limits = &conn->hub->core->config->limits;
    size_t n = conn->in_end - conn->in_start;
    enum sac_rpc_head_verdict verdict = sac_rpc_head_read(conn->in + conn->in_start, n, &conn->head);
    struct sac_scan_limits scan = {limits->control_bytes, limits->elements, limits->depth};

    if (verdict == SAC_RPC_HEAD_MORE && n < SAC_RPC_HEAD_MAX)
        return false;
    if (verdict != SAC_RPC_HEAD_READY) {
        fatal(conn, SAC_MALFORMED, "neither a request nor a notification");
        return false;
    }
    conn->method =
        conn->head.method != NULL ? sac_method_find(conn->head.method, conn->head.method_size) : NULL;
    conn->cancels = conn->head.notification && conn->head.method_size == strlen("cancel") &&
                    conn->head.method != NULL && memcmp(conn->head.method, "cancel", strlen("cancel")) == 0;
    conn->head.method = NULL; /* the input buffer may move */
    if (conn->method != NULL) {
        scan.bytes = conn->method->message_bytes(limits);
        if (conn->method->put_elements)
            scan.elements = limits->put_elements;
    }
    sac_scan_init(&conn->scan, &scan);
    conn->head_known = true;
    return true;
}

/* True when a message was taken from the input. */
static bool take_message(struct sac_conn *conn)
{
    size_t used, size;

    if (conn->in_start == conn->in_end || (!conn->head_known && !read_head(conn)))
        return false;
    size = (size_t)conn->scan.bytes; /* walked before */
    switch (sac_scan_feed(&conn->scan, conn->in + conn->in_start + size, conn->in_end - conn->in_start - size,
                          &used)) {
    case SAC_SCAN_DONE:
        conn->message_ns = 0;
        conn->turn_messages++;
        dispatch(conn, size + used);
        conn->head_known = false;
        return conn->state == CONN_OPEN;
    case SAC_SCAN_MORE:
        return false;
    case SAC_SCAN_TOO_LARGE:
        fatal(conn, SAC_TOO_LARGE, conn->scan.reason);
        return false;
    default:
        fatal(conn, SAC_MALFORMED, conn->scan.reason);
        return false;
    }
}

/* Takes as many messages from the input as the pauses and the turn allow. */
void sac_conn_pump(struct sac_conn *conn)
{
    new_turn(conn);
    while (conn->state == CONN_OPEN && !paused(conn) && !exhausted(conn) && take_message(conn))
        ;
    if (conn->state == CONN_OPEN) {
        if (conn->in_start == conn->in_end)
            sac_conn_drop_input(conn);
        else if (conn->message_ns == 0 && !exhausted(conn))
            conn->message_ns = uv_hrtime();
        if (!paused(conn) && exhausted(conn))
            sac_conn_wait(conn);
    }
    sac_conn_set_reading(conn);
    sac_conn_flush_dirty(conn->hub);
}
