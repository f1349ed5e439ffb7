/* server.c -- a server's life: open, listen, loop, drain, close.
 *
 * The loop thread owns every libuv handle. Stage threads reach it through `wake` alone, and other threads
 * through `stop`; both are closed only after the stage threads have ended.
 */
#include "server/server.h"

#include "server/config.h"
#include "server/http.h"
#include "server/hub.h"
#include "server/listen.h"
#include "server/log.h"
#include "server/methods.h"
#include "server/pipeline.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#define SWEEP_MS 100u
#define LOST_DRAIN_MS 500u
#define LATE_NS 200000000u /* of the sweep: worth a line in the log */

struct sac_server {
    struct sac_server_config config;
    struct sac_server_address address;
    struct sac_core core;
    struct sac_hub hub;
    struct sac_http http;
    uv_loop_t loop;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
    bool tcp_open, pipe_open;
    uv_async_t wake, stop;
    uv_timer_t sweep;
    uv_signal_t sigterm, sigint;
    bool signals_open, handles_open;
    atomic_uint stops; /* how often stopping was asked for */
    bool lost;         /* the device is; draining because of it */
    uint64_t sweep_due_ns, drain_end_ns;
};

/* ---- pages of the side port -----------------------------------------------------------------------------
 */

struct points {
    struct sac_text *text;
    const char *format;
};

static void add_points(void *context, struct sac_entry *entry)
{
    struct points *points = context;

    sac_text_add(points->text, points->format, entry->name, (unsigned long long)atomic_load(&entry->points));
}

/* Computed when it is asked for, so that nobody is sent here between a failure and its discovery. */
static const char *state(const struct sac_server *server)
{
    return sac_catalog_lost(server->core.catalog) != NULL ? "device lost"
           : server->hub.draining                         ? "draining"
                                                          : "ready";
}

static int page(void *context, const char *path, struct sac_text *text)
{
    struct sac_server *server = context;
    const char *now = state(server);
    bool ready = strcmp(now, "ready") == 0;
    struct points points = {text, "saccade_points{collection=\"%s\"} %llu\n"};

    if (strcmp(path, "/livez") == 0) {
        sac_text_add(text, "ok\n");
        return 200;
    }
    if (strcmp(path, "/readyz") == 0) {
        sac_text_add(text, "%s\n", ready ? "ok" : now);
        return ready ? 200 : 503;
    }
    if (strcmp(path, "/healthz") == 0) {
        struct sac_metrics *metrics = &server->core.metrics;
        sac_text_add(text, "state: %s\nversion: %s\ndevice: %s\nuptime_s: %.1f\n", now, sac_version(),
                     sac_catalog_device(server->core.catalog),
                     (double)(sac_now_ns() - metrics->started_ns) * 1e-9);
        sac_text_add(text, "connections: %u\nin_flight: %llu\n", server->hub.count,
                     (unsigned long long)sac_counted(&metrics->in_flight));
        points.format = "points_%s: %llu\n";
        sac_catalog_each_entry(server->core.catalog, add_points, &points);
        return ready ? 200 : 503;
    }
    if (strcmp(path, "/metrics") == 0) {
        sac_device_memory memory;

        sac_catalog_device_memory(server->core.catalog, &memory);
        sac_metrics_write(&server->core.metrics, text);
        sac_text_add(text,
                     "# HELP saccade_device_memory_bytes Memory that indexes and searches may use, and use.\n"
                     "# TYPE saccade_device_memory_bytes gauge\n"
                     "saccade_device_memory_bytes{use=\"budget\"} %llu\n"
                     "saccade_device_memory_bytes{use=\"used\"} %llu\n",
                     (unsigned long long)memory.budget, (unsigned long long)memory.used);
        sac_text_add(text, "# HELP saccade_points Items of each open collection.\n"
                           "# TYPE saccade_points gauge\n");
        sac_catalog_each_entry(server->core.catalog, add_points, &points);
        return 200;
    }
    return 404;
}

/* ---- stopping -------------------------------------------------------------------------------------------
 */

static void close_listeners(struct sac_server *server)
{
    if (server->tcp_open)
        uv_close((uv_handle_t *)&server->tcp, NULL);
    if (server->pipe_open) {
        uv_close((uv_handle_t *)&server->pipe, NULL);
        unlink(server->config.socket);
    }
    server->tcp_open = server->pipe_open = false;
}

static void finish(struct sac_server *server)
{
    sac_hub_close_all(&server->hub, SAC_CLOSE_DRAIN);
    uv_stop(&server->loop);
}

static void finish_if_quiet(struct sac_server *server)
{
    if (server->hub.draining && sac_hub_quiet(&server->hub))
        finish(server);
}

static void drain(struct sac_server *server, uint32_t milliseconds)
{
    if (server->hub.draining)
        return;
    server->hub.draining = true;
    server->drain_end_ns = uv_hrtime() + (uint64_t)milliseconds * 1000000;
    close_listeners(server);
    sac_log(SAC_LOG_INFO, "draining", "connections=%u in_flight=%llu", server->hub.count,
            (unsigned long long)sac_counted(&server->core.metrics.in_flight));
}

static void on_stop(uv_async_t *async)
{
    struct sac_server *server = async->data;

    drain(server, server->config.limits.drain_ms);
    if (atomic_load(&server->stops) > 1)
        finish(server);
    else
        finish_if_quiet(server);
}

void sac_server_stop(sac_server *server)
{
    atomic_fetch_add(&server->stops, 1);
    uv_async_send(&server->stop);
}

/* What was acknowledged is on disk already: there is nothing to lose by leaving at once. */
static void on_signal(uv_signal_t *handle, int number)
{
    struct sac_server *server = handle->data;

    sac_log(SAC_LOG_INFO, "signal", "number=%d", number);
    if (atomic_load(&server->stops) > 0)
        _exit(1);
    sac_server_stop(server);
}

/* Only a new process can use a lost device, so this one ends, for its supervisor to start another. Requests
 * in flight fail by themselves; a device that hangs instead is not waited for. */
static void leave_if_lost(struct sac_server *server)
{
    const char *why = sac_catalog_lost(server->core.catalog);

    if (server->lost || why == NULL)
        return;
    server->lost = true;
    sac_log(SAC_LOG_ERROR, "the device is lost", "device=\"%s\" why=\"%s\"",
            sac_catalog_device(server->core.catalog), why);
    drain(server, LOST_DRAIN_MS);
}

/* ---- loop -----------------------------------------------------------------------------------------------
 */

static void on_wake(uv_async_t *async)
{
    struct sac_server *server = async->data;

    sac_hub_deliver(&server->hub);
    finish_if_quiet(server);
}

static void wake_loop(void *context)
{
    uv_async_t *wake = context;

    uv_async_send(wake);
}

static void on_sweep(uv_timer_t *timer)
{
    struct sac_server *server = timer->data;
    uint64_t now = uv_hrtime();

    uint64_t late = server->sweep_due_ns > 0 && now > server->sweep_due_ns ? now - server->sweep_due_ns : 0;

    sac_time_observe(&server->core.metrics.loop_lag, late);
    if (late > LATE_NS)
        sac_log(SAC_LOG_WARN, "the event loop was blocked", "ms=%llu", (unsigned long long)(late / 1000000));
    server->sweep_due_ns = now + SWEEP_MS * 1000000u;
    sac_hub_sweep(&server->hub);
    leave_if_lost(server);
    if (server->hub.draining && now > server->drain_end_ns)
        finish(server);
    else
        finish_if_quiet(server);
}

static void on_tcp(uv_stream_t *listener, int status)
{
    struct sac_server *server = listener->data;

    if (status == 0)
        sac_hub_accept(&server->hub, listener, false);
    else
        sac_log(SAC_LOG_ERROR, "connection not accepted", "reason=\"%s\"", uv_strerror(status));
}

static void on_pipe(uv_stream_t *listener, int status)
{
    struct sac_server *server = listener->data;

    if (status == 0)
        sac_hub_accept(&server->hub, listener, true);
    else
        sac_log(SAC_LOG_ERROR, "connection not accepted", "reason=\"%s\"", uv_strerror(status));
}

/* ---- opening --------------------------------------------------------------------------------------------
 */

/* libuv loses connections without a word, or spins, when descriptors run out: we stay well below. */
static void lower_connections(struct sac_server_limits *limits)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY ||
        (rlim_t)limits->connections + 64 <= files.rlim_cur)
        return;
    uint32_t lowered = files.rlim_cur > 65 ? (uint32_t)files.rlim_cur - 64 : 1;
    sac_log(SAC_LOG_WARN, "fewer connections than configured", "configured=%u allowed=%u open_files=%llu",
            limits->connections, lowered, (unsigned long long)files.rlim_cur);
    limits->connections = lowered;
}

static void open_handles(struct sac_server *server)
{
    uv_async_init(&server->loop, &server->wake, on_wake);
    uv_async_init(&server->loop, &server->stop, on_stop);
    uv_timer_init(&server->loop, &server->sweep);
    server->wake.data = server->stop.data = server->sweep.data = server;
    sac_hub_init(&server->hub, &server->loop, &server->core);
    server->core.wake = wake_loop;
    server->core.wake_context = &server->wake;
    uv_timer_start(&server->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
    server->handles_open = true;
}

static sac_status open_listeners(struct sac_server *server, sac_error *err)
{
    const struct sac_server_config *config = &server->config;
    struct sac_server_address *address = &server->address;
    sac_status st;

    server->tcp.data = server->pipe.data = server;
    st = sac_listen_tcp(&server->loop, &server->tcp, config->host, config->port, on_tcp, &address->port, err);
    server->tcp_open = st == SAC_OK;
    if (st == SAC_OK && config->socket != NULL) {
        st = sac_listen_unix(&server->loop, &server->pipe, config->socket, on_pipe, err);
        server->pipe_open = st == SAC_OK;
    }
    if (st == SAC_OK && config->http) {
        struct sockaddr_storage http;
        server->http.page = page;
        server->http.context = server;
        sac_listen_address(config->host, config->http_port, &http);
        st = sac_http_open(&server->http, &server->loop, (const struct sockaddr *)&http, err);
        address->http_port = st == SAC_OK ? sac_listen_port(&server->http.listener) : 0;
    }
    snprintf(address->host, sizeof address->host, "%s", config->host);
    address->socket = config->socket;
    return st;
}

static sac_status open_all(struct sac_server *server, sac_error *err)
{
    struct sac_core *core = &server->core;
    sac_status st;

    core->config = &server->config;
    core->metrics.started_ns = sac_now_ns();
    sac_methods_label(&core->metrics);
    if (getrandom(&core->query_seed, sizeof core->query_seed, 0) != sizeof core->query_seed)
        return sac_fail(err, SAC_IO, "the system gives no random numbers");
    st = sac_catalog_create(&server->config, &core->catalog, err);
    if (st == SAC_OK)
        st = open_listeners(server, err);
    if (st == SAC_OK)
        st = sac_pipeline_create(core, &core->pipeline, err);
    if (st == SAC_OK)
        sac_catalog_open_all(core->catalog);
    return st;
}

sac_status sac_server_open(const struct sac_server_config *config, sac_server **out, sac_error *err)
{
    sac_server *server;
    sac_status st = sac_server_config_check(config, err);

    *out = NULL;
    if (st != SAC_OK)
        return st;
    server = calloc(1, sizeof *server);
    if (server == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a server");
    server->config = *config;
    sac_log_level_set(config->log_level);
    lower_connections(&server->config.limits);
    if (uv_loop_init(&server->loop) != 0) {
        free(server);
        return sac_fail(err, SAC_IO, "cannot make an event loop");
    }
    open_handles(server);
    st = open_all(server, err);
    if (st != SAC_OK) {
        sac_server_close(server);
        return st;
    }
    *out = server;
    return SAC_OK;
}

const struct sac_server_address *sac_server_where(const sac_server *server)
{
    return &server->address;
}

/* libuv writes without MSG_NOSIGNAL, and a client may be gone: the signal must not end a program that holds a
 * server and has not thought of it. Signals of a thread's own writes come to that thread, so it is enough to
 * block it there, and to take what came before unblocking. */
static bool block_sigpipe(void)
{
    sigset_t pipe, before;

    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    return sigismember(&before, SIGPIPE) == 0;
}

static void unblock_sigpipe(void)
{
    const struct timespec at_once = {0, 0};
    sigset_t pipe;

    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    while (sigtimedwait(&pipe, NULL, &at_once) == SIGPIPE)
        ;
    pthread_sigmask(SIG_UNBLOCK, &pipe, NULL);
}

void sac_server_loop(sac_server *server)
{
    const struct sac_server_address *a = &server->address;
    bool blocked = block_sigpipe();

    sac_log(SAC_LOG_INFO, "serving", "data=%s host=%s port=%u http_port=%u socket=%s device=\"%s\"",
            server->config.data, a->host, a->port, a->http_port, a->socket != NULL ? a->socket : "-",
            sac_catalog_device(server->core.catalog));
    if (server->config.on_ready != NULL)
        server->config.on_ready(server->config.on_ready_context, a);
    uv_run(&server->loop, UV_RUN_DEFAULT);
    if (blocked)
        unblock_sigpipe();
    sac_log(SAC_LOG_INFO, "stopped", "requests=%llu",
            (unsigned long long)sac_metrics_requests(&server->core.metrics));
}

void sac_server_close(sac_server *server)
{
    if (server == NULL)
        return;
    close_listeners(server);
    sac_http_close(&server->http);
    sac_hub_close_all(&server->hub, SAC_CLOSE_DRAIN);
    /* Requests that come back to go on enter the pipeline again: until none is left. */
    while (sac_counted(&server->core.metrics.in_flight) > 0)
        uv_run(&server->loop, UV_RUN_ONCE);
    sac_pipeline_close(server->core.pipeline);
    sac_hub_close(&server->hub);
    uv_close((uv_handle_t *)&server->wake, NULL);
    uv_close((uv_handle_t *)&server->stop, NULL);
    uv_close((uv_handle_t *)&server->sweep, NULL);
    if (server->signals_open) {
        uv_close((uv_handle_t *)&server->sigterm, NULL);
        uv_close((uv_handle_t *)&server->sigint, NULL);
    }
    uv_run(&server->loop, UV_RUN_DEFAULT);
    int busy = uv_loop_close(&server->loop);
    assert(busy == 0);
    (void)busy;
    sac_catalog_close(server->core.catalog);
    free(server);
}

sac_status sac_server_run(const struct sac_server_config *config, sac_error *err)
{
    sac_server *server;
    sac_status st;

    signal(SIGPIPE, SIG_IGN);
    st = sac_server_open(config, &server, err);
    if (st != SAC_OK)
        return st;
    assert(server != NULL);
    uv_signal_init(&server->loop, &server->sigterm);
    uv_signal_init(&server->loop, &server->sigint);
    server->signals_open = true;
    server->sigterm.data = server->sigint.data = server;
    uv_signal_start(&server->sigterm, on_signal, SIGTERM);
    uv_signal_start(&server->sigint, on_signal, SIGINT);
    sac_server_loop(server);
    if (server->lost)
        st =
            sac_fail(err, SAC_DEVICE_LOST, "%s failed in a way that only a new process can mend: start again",
                     sac_catalog_device(server->core.catalog));
    sac_server_close(server);
    return st;
}
