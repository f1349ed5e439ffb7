/* serve.c -- load on a running server, by the clock: requests leave at random times of a given mean rate,
 * whether or not earlier ones were answered, and latency counts from the time a request was due. A server
 * that stalls cannot hide its stall by making the generator wait (coordinated omission).
 *
 *   bench_serve --connect 127.0.0.1:7700 --collection points [--image FILE | --dim 128] --rate 1000 --seconds
 * 10 bench_serve ... --saturate        closed loop first, to find the rate; then 0.5, 0.7, 1, 2, 10 times
 * that
 *
 * One JSON object a line on stdout. Queries are random unit vectors, drawn before the clock starts, or one
 * picture.
 */
#include "server/wire.h"

#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define MESSAGES 256u /* different queries */
#define IN_FLIGHT_MAX (1u << 20)

/* ---- histogram: buckets that grow by 1 %, from 1 microsecond to 100 seconds ------------------------------
 */

#define BUCKETS 1852u
struct histogram {
    uint64_t counts[BUCKETS], total;
    double max, sum;
};

static void observe(struct histogram *h, double seconds)
{
    double us = seconds * 1e6;
    double at = us > 1 ? log(us) / log(1.01) : 0;

    h->counts[at < BUCKETS - 1 ? (unsigned)at : BUCKETS - 1]++;
    h->total++;
    h->sum += seconds;
    if (seconds > h->max)
        h->max = seconds;
}

static double quantile_ms(const struct histogram *h, double q)
{
    uint64_t seen = 0, want = (uint64_t)ceil(q * (double)h->total);

    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += h->counts[i];
        if (seen >= want && seen > 0)
            return pow(1.01, i + 0.5) * 1e-3;
    }
    return 0;
}

/* ---- what is asked ---------------------------------------------------------------------------------------
 */

struct options {
    const char *host;
    int port;
    const char *collection, *image;
    unsigned dim, connections, k, timeout_ms;
    double rate, seconds;
    bool saturate;
};

static uint64_t seed = 88172645463325252u;

static double uniform(void)
{
    seed ^= seed << 13; /* xorshift, Marsaglia 2003 */
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return ((double)(seed >> 11) + 0.5) * 0x1p-53;
}

static char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    char *bytes = malloc(64u << 20);

    if (file == NULL || bytes == NULL) {
        fprintf(stderr, "bench_serve: cannot read %s\n", path);
        exit(1);
    }
    *size = fread(bytes, 1, 64u << 20, file);
    fclose(file);
    return bytes;
}

static void pack_query(msgpack_packer *packer, const struct options *o)
{
    if (o->image != NULL) {
        size_t size;
        char *bytes = read_file(o->image, &size);
        sac_pack_text(packer, "image");
        msgpack_pack_bin_with_body(packer, bytes, size);
        free(bytes);
        return;
    }
    float *vector = malloc(o->dim * sizeof *vector);
    for (unsigned i = 0; i < o->dim; i++) /* Box and Muller */
        vector[i] = (float)(sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()));
    sac_pack_text(packer, "vector");
    msgpack_pack_bin_with_body(packer, vector, o->dim * sizeof *vector);
    free(vector);
}

/* A request without its head: method and params, which many requests share. */
static void pack_tail(msgpack_sbuffer *out, const struct options *o)
{
    msgpack_packer packer;

    msgpack_sbuffer_init(out);
    msgpack_packer_init(&packer, out, msgpack_sbuffer_write);
    sac_pack_text(&packer, "search");
    msgpack_pack_array(&packer, 1);
    msgpack_pack_map(&packer, 4);
    sac_pack_key_text(&packer, "collection", o->collection);
    sac_pack_key_uint(&packer, "k", o->k);
    sac_pack_key_uint(&packer, "timeout_ms", o->timeout_ms);
    pack_query(&packer, o);
}

/* ---- one run ---------------------------------------------------------------------------------------------
 */

struct run;

struct connection {
    uv_tcp_t tcp;
    uv_connect_t connecting;
    struct run *run;
    msgpack_unpacker unpacker;
};

struct request { /* in flight: the slot's number is its msgid */
    double due;
    bool used;
};

struct run {
    const struct options *options;
    uv_loop_t loop;
    uv_timer_t timer;
    struct connection *connections;
    unsigned connected, closed_loop; /* closed_loop: requests kept in flight; 0: by the clock */
    msgpack_sbuffer tails[MESSAGES];
    struct request *slots;
    uint32_t next_slot, in_flight;
    double start, end, next_due, rate;
    uint64_t sent, good, refused, late, failed;
    struct histogram latency, refusal;
    bool stopping;
};

static double now(void)
{
    return (double)uv_hrtime() * 1e-9;
}

static void on_written(uv_write_t *write, int status)
{
    free(write);
    if (status < 0) {
        fprintf(stderr, "bench_serve: %s\n", uv_strerror(status));
        exit(1);
    }
}

/* Sends one request that was due at that time. */
static void send_request(struct run *run, double due)
{
    struct connection *c = &run->connections[run->sent % run->options->connections];
    const msgpack_sbuffer *tail = &run->tails[run->sent % MESSAGES];
    uint32_t msgid;
    uint8_t head[7] = {0x94, 0x00, 0xce};
    uv_buf_t parts[2];

    run->sent++;
    if (run->in_flight == IN_FLIGHT_MAX) {
        run->failed++;
        return;
    }
    do
        msgid = run->next_slot++ % IN_FLIGHT_MAX;
    while (run->slots[msgid].used);
    run->slots[msgid] = (struct request){due, true};
    run->in_flight++;
    for (int i = 0; i < 4; i++)
        head[3 + i] = (uint8_t)(msgid >> (24 - 8 * i));
    /* The head lives in the write request: libuv copies the descriptors, not the bytes. */
    struct {
        uv_write_t write;
        uint8_t head[7];
    } *w = malloc(sizeof *w);
    memcpy(w->head, head, sizeof head);
    parts[0] = uv_buf_init((char *)w->head, sizeof head);
    parts[1] = uv_buf_init(tail->data, (unsigned)tail->size);
    if (uv_write(&w->write, (uv_stream_t *)&c->tcp, parts, 2, on_written) != 0)
        exit(1);
}

static void on_closed(uv_handle_t *handle)
{
    struct connection *c = handle->data;

    msgpack_unpacker_destroy(&c->unpacker);
}

static void finish(struct run *run)
{
    if (run->stopping)
        return;
    run->stopping = true;
    uv_close((uv_handle_t *)&run->timer, NULL);
    for (unsigned i = 0; i < run->options->connections; i++)
        uv_close((uv_handle_t *)&run->connections[i].tcp, on_closed);
}

static bool starts_with(const msgpack_object *error, const char *code)
{
    return error->type == MSGPACK_OBJECT_STR && error->via.str.size >= strlen(code) &&
           memcmp(error->via.str.ptr, code, strlen(code)) == 0;
}

static void on_answer(struct run *run, const msgpack_object *message)
{
    const msgpack_object *parts = message->via.array.ptr, *error = &parts[2];
    struct request *slot = &run->slots[parts[1].via.u64 % IN_FLIGHT_MAX];
    double seconds = now() - slot->due;

    slot->used = false;
    run->in_flight--;
    if (error->type == MSGPACK_OBJECT_NIL) {
        run->good++;
        observe(&run->latency, seconds);
    } else if (starts_with(error, "OVERLOADED")) {
        run->refused++;
        observe(&run->refusal, seconds);
        if (run->closed_loop >
            1) { /* one fewer from now on: asking again at once would only be refused again */
            run->closed_loop--;
            return;
        }
    } else if (starts_with(error, "DEADLINE_EXCEEDED")) {
        run->late++;
    } else {
        if (run->failed++ == 0)
            fprintf(stderr, "bench_serve: %.*s\n", (int)error->via.str.size, error->via.str.ptr);
    }
    if (run->closed_loop > 0 && now() < run->end)
        send_request(run, now());
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct connection *c = handle->data;

    msgpack_unpacker_reserve_buffer(&c->unpacker, suggested);
    *buffer = uv_buf_init(msgpack_unpacker_buffer(&c->unpacker),
                          (unsigned)msgpack_unpacker_buffer_capacity(&c->unpacker));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct connection *c = stream->data;
    msgpack_unpacked message;

    (void)buffer;
    if (n < 0 && !c->run->stopping) {
        fprintf(stderr, "bench_serve: the server closed a connection: %s\n", uv_strerror((int)n));
        exit(1);
    }
    if (n <= 0)
        return;
    msgpack_unpacker_buffer_consumed(&c->unpacker, (size_t)n);
    msgpack_unpacked_init(&message);
    while (msgpack_unpacker_next(&c->unpacker, &message) == MSGPACK_UNPACK_SUCCESS)
        on_answer(c->run, &message.data);
    msgpack_unpacked_destroy(&message);
}

/* Sends everything that is due; ends the run a little after the last one, for answers still to come. */
static void on_timer(uv_timer_t *timer)
{
    struct run *run = timer->data;
    double t = now();

    while (run->closed_loop == 0 && run->next_due <= t && run->next_due < run->end) {
        send_request(run, run->next_due);
        run->next_due += -log(uniform()) / run->rate; /* Poisson arrivals */
    }
    if (t > run->end && (run->in_flight == 0 || t > run->end + 5))
        finish(run);
}

static void on_connected(uv_connect_t *connecting, int status)
{
    struct connection *c = connecting->data;
    struct run *run = c->run;

    if (status != 0) {
        fprintf(stderr, "bench_serve: cannot connect: %s\n", uv_strerror(status));
        exit(1);
    }
    uv_tcp_nodelay(&c->tcp, 1);
    uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
    if (++run->connected < run->options->connections)
        return;
    run->start = run->next_due = now();
    run->end = run->start + run->options->seconds;
    uv_timer_start(&run->timer, on_timer, 0, 1);
    for (unsigned i = 0; i < run->closed_loop; i++)
        send_request(run, now());
}

static void report(const struct run *run, const char *kind)
{
    double seconds = run->options->seconds;
    const struct histogram *h = &run->latency;

    printf(
        "{\"kind\": \"%s\", \"offered_per_s\": %.1f, \"good_per_s\": %.1f, \"sent\": %llu, \"good\": %llu, "
        "\"overloaded\": %llu, \"deadline_exceeded\": %llu, \"failed\": %llu, \"unanswered\": %u, ",
        kind, run->closed_loop > 0 ? (double)run->sent / seconds : run->rate, (double)run->good / seconds,
        (unsigned long long)run->sent, (unsigned long long)run->good, (unsigned long long)run->refused,
        (unsigned long long)run->late, (unsigned long long)run->failed, run->in_flight);
    printf("\"mean_ms\": %.3f, \"p50_ms\": %.3f, \"p90_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, "
           "\"max_ms\": %.3f, \"refusal_p99_ms\": %.3f}\n",
           h->total > 0 ? h->sum / (double)h->total * 1e3 : 0, quantile_ms(h, 0.5), quantile_ms(h, 0.9),
           quantile_ms(h, 0.99), quantile_ms(h, 0.999), h->max * 1e3, quantile_ms(&run->refusal, 0.99));
    fflush(stdout);
}

/* Returns good answers per second. */
static double run_load(const struct options *o, double rate, unsigned closed_loop, const char *kind)
{
    struct run *run = calloc(1, sizeof *run);
    struct sockaddr_in address;

    run->options = o;
    run->rate = rate;
    run->closed_loop = closed_loop;
    run->slots = calloc(IN_FLIGHT_MAX, sizeof *run->slots);
    run->connections = calloc(o->connections, sizeof *run->connections);
    for (unsigned i = 0; i < MESSAGES; i++)
        pack_tail(&run->tails[i], o);
    uv_loop_init(&run->loop);
    uv_timer_init(&run->loop, &run->timer);
    run->timer.data = run;
    uv_ip4_addr(o->host, o->port, &address);
    for (unsigned i = 0; i < o->connections; i++) {
        struct connection *c = &run->connections[i];
        c->run = run;
        c->tcp.data = c->connecting.data = c;
        msgpack_unpacker_init(&c->unpacker, 1 << 16);
        uv_tcp_init(&run->loop, &c->tcp);
        uv_tcp_connect(&c->connecting, &c->tcp, (const struct sockaddr *)&address, on_connected);
    }
    uv_run(&run->loop, UV_RUN_DEFAULT);
    uv_loop_close(&run->loop);
    report(run, kind);
    double good = (double)run->good / o->seconds;
    for (unsigned i = 0; i < MESSAGES; i++)
        msgpack_sbuffer_destroy(&run->tails[i]);
    free(run->connections);
    free(run->slots);
    free(run);
    return good;
}

static void usage(void)
{
    fputs("bench_serve --connect HOST:PORT --collection NAME [--image FILE | --dim N]\n"
          "            [--rate PER_SECOND | --saturate] [--seconds S] [--connections N] [--k N] "
          "[--timeout-ms N]\n",
          stderr);
    exit(2);
}

static void parse(int argc, char **argv, struct options *o)
{
    static const struct option names[] = {
        {"connect", required_argument, NULL, 'c'},
        {"collection", required_argument, NULL, 'n'},
        {"image", required_argument, NULL, 'i'},
        {"dim", required_argument, NULL, 'd'},
        {"rate", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 's'},
        {"connections", required_argument, NULL, 'o'},
        {"k", required_argument, NULL, 'k'},
        {"timeout-ms", required_argument, NULL, 't'},
        {"saturate", no_argument, NULL, 'S'},
        {NULL, 0, NULL, 0},
    };
    char *colon;
    int opt;

    while ((opt = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (opt) {
        case 'c':
            colon = strchr(optarg, ':');
            if (colon == NULL)
                usage();
            *colon = '\0';
            o->host = optarg;
            o->port = atoi(colon + 1);
            break;
        case 'n':
            o->collection = optarg;
            break;
        case 'i':
            o->image = optarg;
            break;
        case 'd':
            o->dim = (unsigned)atoi(optarg);
            break;
        case 'r':
            o->rate = atof(optarg);
            break;
        case 's':
            o->seconds = atof(optarg);
            break;
        case 'o':
            o->connections = (unsigned)atoi(optarg);
            break;
        case 'k':
            o->k = (unsigned)atoi(optarg);
            break;
        case 't':
            o->timeout_ms = (unsigned)atoi(optarg);
            break;
        case 'S':
            o->saturate = true;
            break;
        default:
            usage();
        }
    }
    if (o->host == NULL || o->collection == NULL || o->connections == 0 || o->seconds <= 0 || o->rate <= 0)
        usage();
}

int main(int argc, char **argv)
{
    static const double shares[] = {0.5, 0.7, 1, 2, 10};
    struct options o = {
        .dim = 128, .connections = 16, .k = 10, .timeout_ms = 1000, .rate = 1000, .seconds = 5};

    parse(argc, argv, &o);
    if (!o.saturate) {
        run_load(&o, o.rate, 0, "open");
        return 0;
    }
    run_load(&o, 0, 1, "one at a time");
    double peak = run_load(&o, 0, 4 * o.connections, "closed loop");
    if (peak <= 0)
        return 1;
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        char kind[64];
        snprintf(kind, sizeof kind, "%g of saturation", shares[i]);
        run_load(&o, shares[i] * peak, 0, kind);
    }
    return 0;
}
