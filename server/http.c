#include "server/http.h"

#include "server/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_MAX 4096u
#define PATIENCE_MS 5000u /* from accepting to closing */

struct sac_http_conn {
    uv_tcp_t tcp;
    uv_timer_t timer;
    uv_write_t write;
    struct sac_http *http;
    struct sac_http_conn *next, *prev;
    unsigned handles_open;
    bool closing, answered;
    size_t size;
    char head[HEAD_MAX + 1];
    struct sac_text answer;
};

static void on_handle_closed(uv_handle_t *handle)
{
    struct sac_http_conn *conn = handle->data;

    if (--conn->handles_open > 0)
        return;
    sac_text_free(&conn->answer);
    free(conn);
}

static void conn_close(struct sac_http_conn *conn)
{
    if (conn->closing)
        return;
    conn->closing = true;
    conn->http->connections--;
    if (conn->prev != NULL)
        conn->prev->next = conn->next;
    else
        conn->http->first = conn->next;
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    uv_close((uv_handle_t *)&conn->tcp, on_handle_closed);
    uv_close((uv_handle_t *)&conn->timer, on_handle_closed);
}

static void on_timeout(uv_timer_t *timer)
{
    conn_close(timer->data);
}

static void on_written(uv_write_t *write, int status)
{
    (void)status;
    conn_close(write->data);
}

static const char *reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    default:
        return "Service Unavailable";
    }
}

static void respond(struct sac_http_conn *conn, int status, struct sac_text *body, bool head_only)
{
    uv_buf_t buffer;

    sac_text_add(&conn->answer,
                 "HTTP/1.1 %d %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                 "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                 status, reason(status), body->size);
    if (!head_only && body->size > 0)
        sac_text_add(&conn->answer, "%s", body->bytes);
    if (conn->answer.failed || body->failed) {
        conn_close(conn);
        return;
    }
    conn->answered = true;
    buffer = uv_buf_init(conn->answer.bytes, (unsigned)conn->answer.size);
    conn->write.data = conn;
    if (uv_write(&conn->write, (uv_stream_t *)&conn->tcp, &buffer, 1, on_written) != 0)
        conn_close(conn);
}

/* The head is complete: "GET /path HTTP/1.x". Other headers are of no interest. */
static void answer(struct sac_http_conn *conn)
{
    struct sac_text body = {0};
    char method[8], path[64], version[16];
    int status = 400;

    if (sscanf(conn->head, "%7[A-Z] %63[!-~] %15[!-~]", method, path, version) == 3 &&
        strncmp(version, "HTTP/1.", 7) == 0) {
        path[strcspn(path, "?")] = '\0';
        status = strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0
                     ? 405
                     : conn->http->page(conn->http->context, path, &body);
    }
    if (status == 400 || status == 405 || status == 404)
        sac_text_add(&body, "%s\n", reason(status));
    respond(conn, status, &body, status == 200 && strcmp(method, "HEAD") == 0);
    sac_text_free(&body);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    static char discard[1024];
    struct sac_http_conn *conn = handle->data;

    (void)suggested;
    if (conn->answered || conn->size == HEAD_MAX)
        *buffer = uv_buf_init(discard, sizeof discard);
    else
        *buffer = uv_buf_init(conn->head + conn->size, (unsigned)(HEAD_MAX - conn->size));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct sac_http_conn *conn = stream->data;

    (void)buffer;
    if (n < 0) {
        conn_close(conn);
        return;
    }
    if (conn->answered || n == 0)
        return;
    conn->size += (size_t)n;
    conn->head[conn->size] = '\0';
    if (strstr(conn->head, "\r\n\r\n") != NULL)
        answer(conn);
    else if (conn->size == HEAD_MAX)
        conn_close(conn);
}

static void on_refused(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct sac_http *http = listener->data;
    struct sac_http_conn *conn;

    if (status < 0 || (conn = calloc(1, sizeof *conn)) == NULL)
        return;
    conn->http = http;
    conn->tcp.data = conn->timer.data = conn;
    uv_tcp_init(listener->loop, &conn->tcp);
    if (uv_accept(listener, (uv_stream_t *)&conn->tcp) != 0 ||
        http->connections >= SAC_HTTP_CONNECTIONS_MAX) {
        uv_close((uv_handle_t *)&conn->tcp, on_refused);
        return;
    }
    uv_timer_init(listener->loop, &conn->timer);
    conn->handles_open = 2;
    conn->next = http->first;
    if (http->first != NULL)
        http->first->prev = conn;
    http->first = conn;
    http->connections++;
    uv_timer_start(&conn->timer, on_timeout, PATIENCE_MS, 0);
    if (uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) != 0)
        conn_close(conn);
}

sac_status sac_http_open(struct sac_http *http, uv_loop_t *loop, const struct sockaddr *address,
                         sac_error *err)
{
    int status = uv_tcp_init(loop, &http->listener);

    http->open = status == 0;
    http->listener.data = http;
    if (status == 0)
        status = uv_tcp_bind(&http->listener, address, 0);
    if (status == 0)
        status = uv_listen((uv_stream_t *)&http->listener, 64, on_connection);
    if (status == 0)
        return SAC_OK;
    return sac_fail(err, SAC_IO, "cannot listen for HTTP: %s: choose another port or switch it off",
                    uv_strerror(status));
}

void sac_http_close(struct sac_http *http)
{
    if (!http->open)
        return;
    http->open = false;
    uv_close((uv_handle_t *)&http->listener, NULL);
    while (http->first != NULL)
        conn_close(http->first);
}
