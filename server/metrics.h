/* metrics.h -- what the server counts, and its text for Prometheus.
 *
 * Counters are atomics, written from any thread and read while a scrape is answered; a scrape is no snapshot.
 * https://prometheus.io/docs/instrumenting/exposition_formats/ */
#ifndef SACCADE_SERVER_METRICS_H
#define SACCADE_SERVER_METRICS_H

#include "kernels/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAC_METRICS_METHODS_MAX 16 /* rows of the method table, and one more for unknown methods */
#define SAC_METRICS_STATUSES 25
#define SAC_METRICS_TIME_BUCKETS 20 /* 0.25 ms * 1.6^n */
#define SAC_METRICS_SIZE_BUCKETS 11 /* 2^n */

/* X(id, label) */
#define SAC_METRICS_STAGES(X) \
    X(CONTROL, "control")     \
    X(DECODE, "decode")       \
    X(EMBED, "embed")         \
    X(SEARCH, "search")       \
    X(WRITE, "write")
#define SAC_METRICS_CLOSES(X)       \
    X(CLIENT, "client")             \
    X(MALFORMED, "malformed")       \
    X(TOO_LARGE, "too_large")       \
    X(IDLE, "idle")                 \
    X(SLOW_MESSAGE, "slow_message") \
    X(SLOW_READER, "slow_reader")   \
    X(OUTPUT_FULL, "output_full")   \
    X(OVER_CAP, "connection_limit") \
    X(MEMORY, "memory")             \
    X(ERROR, "error")               \
    X(DRAIN, "drain")
#define SAC_METRICS_REJECTS(X)    \
    X(QUEUE_TIME, "queue_time")   \
    X(DEADLINE, "deadline")       \
    X(QUEUE_BYTES, "queue_bytes") \
    X(DRAINING, "draining")

enum sac_stage {
#define X(id, label) SAC_STAGE_##id,
    SAC_METRICS_STAGES(X)
#undef X
        SAC_STAGE_COUNT
};
enum sac_close_reason {
#define X(id, label) SAC_CLOSE_##id,
    SAC_METRICS_CLOSES(X)
#undef X
        SAC_CLOSE_COUNT
};
enum sac_reject_reason {
#define X(id, label) SAC_REJECT_##id,
    SAC_METRICS_REJECTS(X)
#undef X
        SAC_REJECT_COUNT
};

typedef _Atomic uint64_t sac_counter;

struct sac_time_histogram {
    sac_counter buckets[SAC_METRICS_TIME_BUCKETS + 1]; /* not cumulative; the last is for the rest */
    sac_counter ns;
};
struct sac_size_histogram {
    sac_counter buckets[SAC_METRICS_SIZE_BUCKETS + 1];
    sac_counter sum;
};

struct sac_metrics {
    const char *method_names[SAC_METRICS_METHODS_MAX]; /* set before threads start */
    const char *method_classes[SAC_METRICS_METHODS_MAX];
    sac_counter requests[SAC_METRICS_METHODS_MAX][SAC_METRICS_STATUSES];
    struct sac_time_histogram durations[SAC_METRICS_METHODS_MAX];
    struct sac_time_histogram stages[SAC_STAGE_COUNT]; /* of one batch or one piece of work */
    struct sac_time_histogram waits[SAC_STAGE_COUNT];  /* of one request or picture in the stage's queue */
    struct sac_size_histogram batches[SAC_STAGE_COUNT];
    struct sac_time_histogram loop_lag;
    sac_counter deadlines[SAC_STAGE_COUNT];
    sac_counter rejected[SAC_REJECT_COUNT];
    sac_counter closed[SAC_CLOSE_COUNT];
    sac_counter images_rejected[SAC_METRICS_STATUSES];
    sac_counter accepted, connections;
    sac_counter notifications, notifications_unknown;
    sac_counter in_flight, request_bytes, output_bytes;
    sac_counter read_bytes, written_bytes;
    uint64_t started_ns;
};

const char *sac_stage_name(enum sac_stage stage);

static inline void sac_count(sac_counter *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}
static inline void sac_uncount(sac_counter *counter, uint64_t n)
{
    atomic_fetch_sub_explicit(counter, n, memory_order_relaxed);
}
static inline uint64_t sac_counted(sac_counter *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void sac_time_observe(struct sac_time_histogram *histogram, uint64_t ns);
void sac_size_observe(struct sac_size_histogram *histogram, uint64_t size);
void sac_metrics_request(struct sac_metrics *metrics, uint32_t method, sac_status status, uint64_t ns);
/* Requests answered so far, whatever the outcome. */
uint64_t sac_metrics_requests(struct sac_metrics *metrics);
/* Batches that a stage has run, and their mean size. */
uint64_t sac_metrics_batches(struct sac_metrics *metrics, enum sac_stage stage, double *mean);

/* A growing text. Once memory is short, `failed` is set and further writes do nothing. */
struct sac_text {
    char *bytes;
    size_t size, capacity;
    bool failed;
};
__attribute__((format(printf, 2, 3))) void sac_text_add(struct sac_text *text, const char *format, ...);
void sac_text_free(struct sac_text *text);

/* Appends every family of *metrics. */
void sac_metrics_write(struct sac_metrics *metrics, struct sac_text *text);

#endif
