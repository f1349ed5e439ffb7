/* request.h -- one request, from its last byte to its answer, and what all requests share.
 *
 * A request has one owner at a time: the loop thread while it is parsed and answered, a stage's queue or a
 * stage's thread in between (pipeline.h). Whoever ends it writes its reply and calls sac_request_done(),
 * which hands it back to the loop thread; nobody else touches it then. Only `cancelled` is shared: the loop
 * thread sets it when the client leaves, and the stages look at it between their steps.
 *
 * The message's bytes belong to the request, since pictures, binaries and strings are read in place.
 */
#ifndef SACCADE_SERVER_REQUEST_H
#define SACCADE_SERVER_REQUEST_H

#include "server/catalog.h"
#include "server/metrics.h"
#include "server/queue.h"
#include "server/rpc.h"
#include "server/wire.h"

struct sac_conn;
struct sac_request;
struct sac_pipeline;

/* What requests, stages and the loop share. */
struct sac_core {
    const struct sac_server_config *config;
    sac_catalog *catalog;
    struct sac_metrics metrics;
    struct sac_pipeline *pipeline;
    struct sac_request *_Atomic done; /* stack of requests for the loop thread, newest first */
    void (*wake)(void *context);      /* tells the loop thread that `done` is not empty; any thread */
    void *wake_context;
    uint64_t query_seed;          /* random, of this process */
    _Atomic uint64_t query_count; /* ids given out */
};

enum sac_method_need { SAC_NEED_NOTHING, SAC_NEED_COLLECTION, SAC_NEED_COLLECTION_IF_NAMED };

struct sac_method {
    const char *name;
    const char *class_name; /* label of metrics: "interactive", "bulk", "control" */
    uint32_t (*message_bytes)(const struct sac_server_limits *limits);
    bool writes; /* runs from a notification too; has the longer time-out; its errors tell the outcome */
    bool put_elements;
    enum sac_method_need need;
    enum sac_stage last; /* the stage that writes the reply */
    /* On the loop thread, with the collection open: reads the fields and passes the request on, or
     * answers it. After an error it has done neither. */
    sac_status (*start)(struct sac_request *request, sac_error *err);
};

struct sac_picture { /* one picture of a request, waiting to be decoded */
    struct sac_node node;
    struct sac_request *request;
    const void *bytes;
    size_t size;
    size_t index;         /* its place among the request's prepared ones */
    size_t item;          /* for error texts: its place in images or items */
    const sac_crop *crop; /* NULL: whole */
};

struct sac_request {
    struct sac_node node; /* first: of the queue that holds it */
    struct sac_core *core;
    struct sac_conn *conn; /* loop thread only */
    struct sac_request *conn_next, *conn_prev;
    struct sac_request *done_next;
    const struct sac_method *method;
    uint32_t msgid;
    bool notification;
    atomic_bool cancelled; /* by the client, or because it left */
    uint8_t *bytes;
    size_t size;
    msgpack_zone zone;
    msgpack_object params; /* the map of fields */
    uint64_t arrived_ns, queued_ns;
    uint64_t charged_bytes; /* in metrics.request_bytes */

    struct sac_entry *entry; /* held; NULL: the method needs none */
    struct sac_model *model; /* that embeds the pictures */
    /* Where a request that comes back to the loop thread goes on; NULL: it is answered. */
    void (*resume)(struct sac_request *request);
    /* On a control thread, or after the embedding where that is the last stage. */
    /* SAC_OK: it answered the request or handed it to the loop thread. */
    sac_status (*work)(struct sac_request *request, sac_error *err);

    enum sac_lane lane;
    uint64_t cost_ns[SAC_STAGE_COUNT]; /* predicted, and counted in the pipeline's backlog */
    uint64_t queued_bytes;             /* counted in the pipeline's bytes */

    struct sac_picture *pictures; /* in the zone */
    size_t picture_count, embedded;
    atomic_size_t pictures_left; /* to decode */
    sac_prepared **prepared;     /* [picture_count]; each NULL before it is decoded and once it is embedded */
    float *vectors;              /* [picture_count][dim] */
    size_t failed_item;          /* the first picture that failed, under the pipeline's lock */
    sac_error picture_error;     /* status SAC_OK: none failed */
    const char *picture_array;   /* for error texts: "images", "items"; NULL: "image" */

    const char *name; /* a collection or model to open, create or drop; in the zone or static */
    struct {
        sac_query *queries; /* in the zone */
        size_t count;
        unsigned with;
        bool many; /* hits are a list of lists */
        bool by_id;
        sac_id id;
    } search;
    struct {
        sac_item *items; /* in the zone */
        size_t count;
    } put;
    struct {
        sac_id *ids; /* in the zone */
        size_t count;
        unsigned with;
    } ids;
    sac_collection_params create;

    sac_status status; /* of the answer */
    msgpack_sbuffer reply;
};

/* Takes over bytes[size], one approved message whose head is given, and unpacks it. NULL: no memory, or
 * msgpack-c disagrees with the scanner; bytes are freed then too. */
struct sac_request *sac_request_create(struct sac_core *core, const struct sac_method *method,
                                       const struct sac_rpc_head *head, uint8_t *bytes, size_t size);
void sac_request_free(struct sac_request *request);

/* Starts the reply [1, msgid, nil, ...: one value must follow. */
void sac_reply_begin(struct sac_request *request, msgpack_packer *packer);
/* The reply was begun and its value written: answers the request. */
void sac_reply_end(struct sac_request *request);
/* Answers the request with an error. */
void sac_request_fail(struct sac_request *request, const sac_error *error, uint32_t retry_after_ms);

/* True when nobody waits for the answer any more or the time is over; the request is answered then. */
bool sac_request_over(struct sac_request *request, enum sac_stage stage);
/* Hands the request to the loop thread: to be sent, or to go on at request->resume. */
void sac_request_done(struct sac_request *request);
/* All that were handed over so far, oldest first, linked through done_next. Loop thread. */
struct sac_request *sac_core_take_done(struct sac_core *core);

/* A whole error response, for messages that never become a request. */
void sac_reply_error(msgpack_sbuffer *reply, uint32_t msgid, const sac_error *error,
                     const struct sac_rpc_hint *hint);

static inline bool sac_id_equal(const sac_id *a, const sac_id *b)
{
    if (a->text == NULL || b->text == NULL)
        return a->text == b->text && a->number == b->number;
    return a->text_size == b->text_size && memcmp(a->text, b->text, a->text_size) == 0;
}

uint64_t sac_now_ns(void); /* monotonic */
void *sac_request_alloc(struct sac_request *request, size_t count, size_t size, sac_error *err);

#endif
