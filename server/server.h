/* server.h -- one saccade server: a directory of collections behind MessagePack-RPC (PROTOCOL.md).
 *
 * The usual caller fills a sac_server_config and calls sac_server_run(), which serves until SIGTERM or
 * SIGINT, drains and returns. Programs that hold a server inside themselves (tests, benches) use the
 * steps it is made of: open, loop in a thread of their own, stop from any thread, close.
 *
 * Threads: one loop thread moves bytes and parses; engine calls run on the server's own threads (decode
 * pool, embed, search, writer, control), so a slow picture or a slow disk never stops the loop.
 */
#ifndef SACCADE_SERVER_SERVER_H
#define SACCADE_SERVER_SERVER_H

#include "engine/saccade.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SAC_LOG_ERROR, SAC_LOG_WARN, SAC_LOG_INFO, SAC_LOG_DEBUG };

/* What one client, and all of them together, may take. A breach is answered as PROTOCOL.md says. */
struct sac_server_limits {
    uint32_t connections;             /* 1024; 1..65536, lowered at start to RLIMIT_NOFILE - 64 */
    uint32_t control_bytes;           /* of a message, by method: 64 KiB; all three at most 64 MiB */
    uint32_t search_bytes;            /* search, embed and get: 16 MiB (one picture is limited to 10 MiB) */
    uint32_t put_bytes;               /* put and delete: 16 MiB */
    uint32_t elements;                /* declared in one message: 8192; at most 65536 */
    uint32_t put_elements;            /* the same for put: 65536 */
    uint32_t depth;                   /* nested arrays and maps: 8; at most 16 */
    uint32_t images;                  /* pictures in one request: 64; at most 1024 */
    uint32_t queries;                 /* vectors in one search: 256; at most 4096 */
    uint32_t items;                   /* items in one put, ids in one get or delete: 1000; at most 10000 */
    uint32_t in_flight;               /* requests per connection: 64, reading resumes at half; at most 1024 */
    uint64_t request_bytes;           /* requests in memory, all connections together: 256 MiB */
    uint32_t output_soft_bytes;       /* replies queued on a connection: reading pauses, 4 MiB */
    uint32_t output_hard_bytes;       /* the connection is reset, 16 MiB; at most 64 MiB */
    uint32_t message_ms;              /* from a message's first byte to its last: 10000; at most 60000 */
    uint32_t message_bytes_per_s_min; /* after the first second of a message: 64 KiB */
    uint32_t idle_ms;                 /* 300000 */
    uint32_t write_stall_ms;          /* replies waiting and none taken: 10000; at most 60000 */
    uint32_t timeout_ms;              /* of a request that names none: 1000; writes have timeout_ms_max */
    uint32_t timeout_ms_max;          /* 30000 */
    uint32_t drain_ms;                /* after SIGTERM: 10000 */
};

struct sac_server_address {
    char host[64];      /* numeric */
    uint16_t port;      /* the one in use, also where 0 was asked for */
    uint16_t http_port; /* 0: none */
    const char *socket; /* NULL: none. The config's string. */
};

struct sac_server_config {
    const char *data;          /* directory of collections, made if it is not there. Required. */
    const char *host;          /* numeric address, loopback only in this version: "127.0.0.1" */
    uint16_t port;             /* 7700; 0 picks a free one */
    bool http;                 /* serve /livez /readyz /healthz /metrics: true */
    uint16_t http_port;        /* 7701; 0 picks a free one */
    const char *socket;        /* path of a Unix socket besides, in a directory of mode 0700. NULL: none */
    sac_device_options device; /* see device.h */
    /* Folders of weights opened at start. A collection made with one of them (by fingerprint) uses it
     * wherever its own path points; `create` may name them, or "builtin", and nothing else. */
    const char *const *models;
    size_t model_count;
    sac_encoder_options encoder; /* for every encoder that is opened */
    uint32_t decode_threads;     /* 0: one less than the cores, at least 1; at most 256 */
    uint32_t search_threads;     /* 0: 2; searches beside each other, each in batches; at most 64 */
    uint32_t embed_batch;        /* pictures in one pass: 64; 1..1024 */
    uint32_t search_batch;       /* queries in one call: 256; 1..4096 */
    uint32_t queue_ms;    /* predicted wait beyond which a read is refused OVERLOADED: 250, or twice the
                           time that the request itself will take if that is more */
    uint64_t queue_bytes; /* waiting for decode, embed, search or write: 128 MiB */
    int log_level;        /* SAC_LOG_INFO; lines go to stderr */
    struct sac_server_limits limits;
    /* Called once on the loop thread when connections are accepted; NULL allowed. */
    void (*on_ready)(void *context, const struct sac_server_address *address);
    void *on_ready_context;
};

/* Fills the defaults above; data stays NULL. */
void sac_server_config_init(struct sac_server_config *config);

/* Serves until SIGTERM or SIGINT, then stops accepting, answers what is in flight (at most drain_ms) and
 * returns SAC_OK; a second signal ends the process at once (what was acknowledged is on disk). SIGPIPE is
 * ignored from here on. Errors: SAC_INVALID_ARGUMENT (a field out of range, a host that is not loopback),
 * SAC_BUSY (another process has the directory), SAC_IO (address in use), what opening a device, a database or
 * a model gives, and SAC_DEVICE_LOST: a GPU failed while serving; it was not ready from that moment on,
 * requests in flight got UNAVAILABLE, and only a new process can go on. */
sac_status sac_server_run(const struct sac_server_config *config, sac_error *err);

typedef struct sac_server sac_server;

/* Opens device, database and models and binds the addresses. config is copied, its strings are borrowed
 * until close. On failure *out is NULL. Errors as sac_server_run(). */
sac_status sac_server_open(const struct sac_server_config *config, sac_server **out, sac_error *err);
const struct sac_server_address *sac_server_where(const sac_server *server);
/* Serves on the calling thread until sac_server_stop(), and drains. Once per server. */
void sac_server_loop(sac_server *server);
/* Starts the drain; any thread, any time between open and close. A second call cuts the drain short. */
void sac_server_stop(sac_server *server);
void sac_server_close(sac_server *server); /* after the loop returned, or instead of it; NULL is allowed */

#endif
