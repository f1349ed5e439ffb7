#include "server/metrics.h"

#include "engine/saccade.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const stage_names[] = {
#define X(id, label) label,
    SAC_METRICS_STAGES(X)
#undef X
};
static const char *const close_names[] = {
#define X(id, label) label,
    SAC_METRICS_CLOSES(X)
#undef X
};
static const char *const reject_names[] = {
#define X(id, label) label,
    SAC_METRICS_REJECTS(X)
#undef X
};

const char *sac_stage_name(enum sac_stage stage)
{
    return stage_names[stage];
}

/* Upper bound of a time bucket in seconds. */
static double time_bound(unsigned bucket)
{
    double bound = 0.00025;

    while (bucket-- > 0)
        bound *= 1.6;
    return bound;
}

void sac_time_observe(struct sac_time_histogram *histogram, uint64_t ns)
{
    double seconds = (double)ns * 1e-9, bound = 0.00025;
    unsigned bucket = 0;

    while (bucket < SAC_METRICS_TIME_BUCKETS && seconds > bound) {
        bound *= 1.6;
        bucket++;
    }
    sac_count(&histogram->buckets[bucket], 1);
    sac_count(&histogram->ns, ns);
}

void sac_size_observe(struct sac_size_histogram *histogram, uint64_t size)
{
    unsigned bucket = 0;

    while (bucket < SAC_METRICS_SIZE_BUCKETS && size > (uint64_t)1 << bucket)
        bucket++;
    sac_count(&histogram->buckets[bucket], 1);
    sac_count(&histogram->sum, size);
}

static unsigned status_row(sac_status status)
{
    int row = -(int)status;

    return row >= 0 && row < SAC_METRICS_STATUSES ? (unsigned)row : (unsigned)-SAC_INTERNAL;
}

void sac_metrics_request(struct sac_metrics *metrics, uint32_t method, sac_status status, uint64_t ns)
{
    sac_count(&metrics->requests[method][status_row(status)], 1);
    sac_time_observe(&metrics->durations[method], ns);
}

uint64_t sac_metrics_requests(struct sac_metrics *metrics)
{
    uint64_t sum = 0;

    for (unsigned m = 0; m < SAC_METRICS_METHODS_MAX; m++)
        for (unsigned s = 0; s < SAC_METRICS_STATUSES; s++)
            sum += sac_counted(&metrics->requests[m][s]);
    return sum;
}

uint64_t sac_metrics_batches(struct sac_metrics *metrics, enum sac_stage stage, double *mean)
{
    struct sac_size_histogram *h = &metrics->batches[stage];
    uint64_t n = 0;

    for (unsigned i = 0; i <= SAC_METRICS_SIZE_BUCKETS; i++)
        n += sac_counted(&h->buckets[i]);
    *mean = n > 0 ? (double)sac_counted(&h->sum) / (double)n : 0.0;
    return n;
}

void sac_text_add(struct sac_text *text, const char *format, ...)
{
    va_list args;

    while (!text->failed) {
        size_t room = text->capacity - text->size;
        va_start(args, format);
        int n = vsnprintf(text->bytes != NULL ? text->bytes + text->size : NULL, room, format, args);
        va_end(args);
        if (n >= 0 && (size_t)n < room) {
            text->size += (size_t)n;
            return;
        }
        size_t capacity = 2 * text->capacity + (size_t)(n > 0 ? n : 0) + 4096;
        char *bytes = n >= 0 ? realloc(text->bytes, capacity) : NULL;
        if (bytes == NULL) {
            text->failed = true;
            return;
        }
        text->bytes = bytes;
        text->capacity = capacity;
    }
}

void sac_text_free(struct sac_text *text)
{
    free(text->bytes);
    *text = (struct sac_text){0};
}

static void family(struct sac_text *text, const char *name, const char *type, const char *help)
{
    sac_text_add(text, "# HELP saccade_%s %s\n# TYPE saccade_%s %s\n", name, help, name, type);
}

static void single(struct sac_text *text, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    family(text, name, type, help);
    sac_text_add(text, "saccade_%s %llu\n", name, (unsigned long long)value);
}

/* labels: `method="search",` with its comma, or "". Nothing is written for a histogram without events. */
static void time_series(struct sac_text *text, const char *name, const char *labels,
                        struct sac_time_histogram *h)
{
    uint64_t seen = 0, total = 0;

    for (unsigned i = 0; i <= SAC_METRICS_TIME_BUCKETS; i++)
        total += sac_counted(&h->buckets[i]);
    if (total == 0)
        return;
    for (unsigned i = 0; i < SAC_METRICS_TIME_BUCKETS; i++) {
        seen += sac_counted(&h->buckets[i]);
        sac_text_add(text, "saccade_%s_bucket{%sle=\"%.6g\"} %llu\n", name, labels, time_bound(i),
                     (unsigned long long)seen);
    }
    seen += sac_counted(&h->buckets[SAC_METRICS_TIME_BUCKETS]);
    sac_text_add(text, "saccade_%s_bucket{%sle=\"+Inf\"} %llu\n", name, labels, (unsigned long long)seen);
    int width = labels[0] != '\0' ? (int)strlen(labels) - 1 : 0;
    sac_text_add(text, "saccade_%s_sum{%.*s} %.9g\n", name, width, labels,
                 (double)sac_counted(&h->ns) * 1e-9);
    sac_text_add(text, "saccade_%s_count{%.*s} %llu\n", name, width, labels, (unsigned long long)seen);
}

static void write_requests(struct sac_metrics *m, struct sac_text *text)
{
    family(text, "requests_total", "counter", "Requests answered, by method, outcome and class.");
    for (unsigned i = 0; i < SAC_METRICS_METHODS_MAX; i++)
        for (unsigned s = 0; s < SAC_METRICS_STATUSES; s++) {
            uint64_t n = sac_counted(&m->requests[i][s]);
            if (n > 0)
                sac_text_add(text, "saccade_requests_total{method=\"%s\",code=\"%s\",class=\"%s\"} %llu\n",
                             m->method_names[i], sac_status_name((sac_status) - (int)s), m->method_classes[i],
                             (unsigned long long)n);
        }
    family(text, "request_duration_seconds", "histogram", "From a request's last byte to its answer.");
    for (unsigned i = 0; i < SAC_METRICS_METHODS_MAX; i++) {
        char labels[96];
        if (m->method_names[i] == NULL)
            continue;
        snprintf(labels, sizeof labels, "method=\"%s\",class=\"%s\",", m->method_names[i],
                 m->method_classes[i]);
        time_series(text, "request_duration_seconds", labels, &m->durations[i]);
    }
}

static void stage_times(struct sac_text *text, const char *name, const char *help,
                        struct sac_time_histogram *histograms)
{
    family(text, name, "histogram", help);
    for (unsigned i = 0; i < SAC_STAGE_COUNT; i++) {
        char labels[48];
        snprintf(labels, sizeof labels, "stage=\"%s\",", stage_names[i]);
        time_series(text, name, labels, &histograms[i]);
    }
}

static void write_batches(struct sac_metrics *m, struct sac_text *text)
{
    family(text, "batch_size", "histogram", "Pictures, queries or items that shared one engine call.");
    for (unsigned i = 0; i < SAC_STAGE_COUNT; i++) {
        double mean;
        uint64_t seen = 0, n = sac_metrics_batches(m, (enum sac_stage)i, &mean);
        if (n == 0)
            continue;
        for (unsigned b = 0; b < SAC_METRICS_SIZE_BUCKETS; b++) {
            seen += sac_counted(&m->batches[i].buckets[b]);
            sac_text_add(text, "saccade_batch_size_bucket{stage=\"%s\",le=\"%u\"} %llu\n", stage_names[i],
                         1u << b, (unsigned long long)seen);
        }
        sac_text_add(text, "saccade_batch_size_bucket{stage=\"%s\",le=\"+Inf\"} %llu\n", stage_names[i],
                     (unsigned long long)n);
        sac_text_add(text, "saccade_batch_size_sum{stage=\"%s\"} %llu\n", stage_names[i],
                     (unsigned long long)sac_counted(&m->batches[i].sum));
        sac_text_add(text, "saccade_batch_size_count{stage=\"%s\"} %llu\n", stage_names[i],
                     (unsigned long long)n);
    }
}

static void labelled(struct sac_text *text, const char *name, const char *help, const char *label,
                     const char *const *values, sac_counter *counters, unsigned n)
{
    family(text, name, "counter", help);
    for (unsigned i = 0; i < n; i++)
        sac_text_add(text, "saccade_%s{%s=\"%s\"} %llu\n", name, label, values[i],
                     (unsigned long long)sac_counted(&counters[i]));
}

static void write_images(struct sac_metrics *m, struct sac_text *text)
{
    family(text, "image_rejected_total", "counter", "Pictures that could not be decoded, by outcome.");
    for (unsigned s = 1; s < SAC_METRICS_STATUSES; s++) {
        uint64_t n = sac_counted(&m->images_rejected[s]);
        if (n > 0)
            sac_text_add(text, "saccade_image_rejected_total{reason=\"%s\"} %llu\n",
                         sac_status_name((sac_status) - (int)s), (unsigned long long)n);
    }
}

void sac_metrics_write(struct sac_metrics *m, struct sac_text *text)
{
    family(text, "build_info", "gauge", "Always 1; the labels tell the version.");
    sac_text_add(text, "saccade_build_info{version=\"%s\"} 1\n", sac_version());
    write_requests(m, text);
    stage_times(text, "stage_duration_seconds",
                "One engine call, or one picture's decoding. Embedding and searching in one call is embed.",
                m->stages);
    stage_times(text, "queue_wait_seconds", "From a stage's queue to its start.", m->waits);
    write_batches(m, text);
    labelled(text, "rejected_total", "Requests refused before any work, by reason.", "reason", reject_names,
             m->rejected, SAC_REJECT_COUNT);
    labelled(text, "deadline_exceeded_total", "Requests whose time ran out, by stage.", "stage", stage_names,
             m->deadlines, SAC_STAGE_COUNT);
    single(text, "connections", "gauge", "Connections that are open.", sac_counted(&m->connections));
    single(text, "connections_accepted_total", "counter", "Connections accepted.", sac_counted(&m->accepted));
    labelled(text, "connections_closed_total", "Connections closed, by reason.", "reason", close_names,
             m->closed, SAC_CLOSE_COUNT);
    single(text, "requests_in_flight", "gauge", "Requests read and not answered.",
           sac_counted(&m->in_flight));
    single(text, "request_bytes", "gauge", "Memory that requests hold.", sac_counted(&m->request_bytes));
    single(text, "output_queue_bytes", "gauge", "Replies waiting for their readers.",
           sac_counted(&m->output_bytes));
    single(text, "read_bytes_total", "counter", "Bytes read.", sac_counted(&m->read_bytes));
    single(text, "written_bytes_total", "counter", "Bytes written.", sac_counted(&m->written_bytes));
    single(text, "notifications_total", "counter", "Notifications read.", sac_counted(&m->notifications));
    single(text, "notifications_unknown_total", "counter", "Notifications of no use here, and ignored.",
           sac_counted(&m->notifications_unknown));
    write_images(m, text);
    family(text, "loop_lag_seconds", "histogram", "How late the event loop's timer came.");
    time_series(text, "loop_lag_seconds", "", &m->loop_lag);
}
