/* bench_index -- builds an index from vector files and measures what it is worth: vectors a second built,
 * memory, and recall@10 against queries a second, one at a time and in batches.
 *
 *   bench_index --base base.fvecs --query query.fvecs [--truth groundtruth.ivecs] [--spec IVF1024,PQ64]
 *               [--metric l2] [--limit N] [--queries N] [--recall 0.9,0.95,0.99 | --nprobe N --depth N]
 * [--batch 1000]
 *               [--threads N] [--seconds S] [--index FILE] [--json]
 *
 * --index keeps the index in a file and takes it from there the next time. "cpu us" is the processor time of
 * one query asked alone: with --threads 1, what it costs on a machine that is busy with other things.
 */
#include "engine/progress.h"
#include "engine/saccade.h"
#include "engine/vector_file.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { K = 10, POINTS_MAX = 16 };

struct options {
    const char *base, *query, *truth, *spec, *metric, *index;
    size_t limit, queries, batch;
    uint32_t threads, nprobe, depth;
    double seconds, recalls[POINTS_MAX];
    int recall_count;
    bool json;
};

struct data {
    uint32_t dim;
    size_t n, query_count;
    float *base, *queries;
    uint64_t *truth; /* [query_count][K] */
};

struct figures {
    double recall, one_qps, cpu_us, p50_us, p99_us, batch_qps, batch_cpu_us;
};

static void check(sac_status st, const sac_error *err)
{
    if (st == SAC_OK)
        return;
    fprintf(stderr, "bench_index: %s\n", err->text);
    exit(1);
}

static void *need(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "bench_index: out of memory\n");
        exit(1);
    }
    return memory;
}

/* ---- data ------------------------------------------------------------------------------------------- */

static float *read_vectors(const char *path, size_t limit, size_t *n, uint32_t *dim)
{
    sac_error err;
    sac_vector_file *file;
    float *vectors;

    check(sac_vector_file_open(path, &file, &err), &err);
    *n = sac_vector_file_count(file);
    *n = limit > 0 && limit < *n ? limit : *n;
    *dim = sac_vector_file_dim(file);
    vectors = need(reallocarray(NULL, *n, *dim * sizeof *vectors));
    check(sac_vector_file_read(file, *n, vectors, n, &err), &err);
    sac_vector_file_close(file);
    return vectors;
}

static void read_truth(const char *path, struct data *data)
{
    sac_error err;
    sac_vector_file *file;
    uint32_t width;
    int32_t *row;
    size_t got;

    check(sac_vector_file_open(path, &file, &err), &err);
    width = sac_vector_file_dim(file);
    row = need(calloc(width, sizeof *row));
    if (width < K) {
        fprintf(stderr, "bench_index: %s has fewer than %d neighbours a query\n", path, K);
        exit(1);
    }
    if (sac_vector_file_count(file) < data->query_count)
        data->query_count = sac_vector_file_count(file);
    for (size_t q = 0; q < data->query_count; q++) {
        check(sac_vector_file_read_int32(file, 1, row, &got, &err), &err);
        for (int i = 0; i < K; i++)
            data->truth[q * K + i] = (uint64_t)row[i];
    }
    free(row);
    sac_vector_file_close(file);
}

static void read_data(const struct options *options, struct data *data)
{
    uint32_t dim;

    data->base = read_vectors(options->base, options->limit, &data->n, &data->dim);
    data->queries = read_vectors(options->query, options->queries, &data->query_count, &dim);
    if (dim != data->dim) {
        fprintf(stderr, "bench_index: the base has dimension %u, the queries %u\n", data->dim, dim);
        exit(1);
    }
    data->truth = need(calloc(data->query_count * K, sizeof *data->truth));
    if (options->truth != NULL && options->limit == 0)
        read_truth(options->truth, data);
}

static sac_query *make_queries(const struct data *data)
{
    sac_query *queries = need(calloc(data->query_count, sizeof *queries));
    sac_hit *hits = need(calloc(data->query_count * K, sizeof *hits));

    for (size_t q = 0; q < data->query_count; q++) {
        sac_query_init(&queries[q]);
        queries[q].vector = data->queries + q * data->dim;
        queries[q].k = K;
        queries[q].hits = hits + q * K;
    }
    return queries;
}

static void compute_truth(const sac_index *index, struct data *data, sac_query *queries)
{
    sac_error err;

    for (size_t q = 0; q < data->query_count; q++)
        queries[q].exact = true;
    check(sac_index_search(index, queries, data->query_count, &err), &err);
    for (size_t q = 0; q < data->query_count; q++) {
        queries[q].exact = false;
        for (uint32_t i = 0; i < queries[q].hit_count; i++)
            data->truth[q * K + i] = queries[q].hits[i].label;
    }
}

/* ---- measuring -------------------------------------------------------------------------------------- */

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double recall_of(const struct data *data, const sac_query *queries)
{
    size_t found = 0;

    for (size_t q = 0; q < data->query_count; q++)
        for (uint32_t h = 0; h < queries[q].hit_count; h++)
            for (int t = 0; t < K; t++)
                found += queries[q].hits[h].label == data->truth[q * K + (size_t)t];
    return (double)found / (double)(K * data->query_count);
}

/* The queries in order, again and again until the time is up. */
static void one_at_a_time(const sac_index *index, const struct data *data, sac_query *queries, double seconds,
                          struct figures *out)
{
    size_t capacity = 1 << 20, done = 0;
    double *times = need(calloc(capacity, sizeof *times));
    clock_t cpu = clock();
    double start = sac_clock(), now = start;
    sac_error err;

    while (done < capacity && (done < data->query_count || now - start < seconds)) {
        double before = now;
        check(sac_index_search(index, &queries[done % data->query_count], 1, &err), &err);
        now = sac_clock();
        times[done++] = now - before;
    }
    out->one_qps = (double)done / (now - start);
    out->cpu_us = (double)(clock() - cpu) / CLOCKS_PER_SEC * 1e6 / (double)done;
    out->recall = recall_of(data, queries);
    qsort(times, done, sizeof *times, compare_double);
    out->p50_us = times[done / 2] * 1e6;
    out->p99_us = times[done * 99 / 100] * 1e6;
    free(times);
}

static void in_batches(const sac_index *index, const struct data *data, sac_query *queries, size_t batch,
                       double seconds, struct figures *out)
{
    double start = sac_clock(), now = start;
    clock_t cpu = clock();
    size_t done = 0, at = 0;
    sac_error err;

    do {
        size_t n = data->query_count - at < batch ? data->query_count - at : batch;
        check(sac_index_search(index, queries + at, n, &err), &err);
        at = at + n == data->query_count ? 0 : at + n;
        done += n;
        now = sac_clock();
    } while (now - start < seconds);
    out->batch_qps = (double)done / (now - start);
    out->batch_cpu_us = (double)(clock() - cpu) / CLOCKS_PER_SEC * 1e6 / (double)done;
}

static struct figures measure(const sac_index *index, const struct options *options, const struct data *data,
                              sac_query *queries, float recall)
{
    struct figures out;

    for (size_t q = 0; q < data->query_count; q++) {
        queries[q].recall = recall;
        queries[q].nprobe = options->nprobe;
        queries[q].depth = options->depth;
    }
    one_at_a_time(index, data, queries, options->seconds, &out);
    in_batches(index, data, queries, options->batch, options->seconds, &out);
    return out;
}

/* ---- the index -------------------------------------------------------------------------------------- */

struct build {
    double train, add, measure;
};

static sac_index *build(sac_device *device, const struct options *options, const struct data *data,
                        struct build *out)
{
    sac_index_params params;
    sac_index *index;
    uint64_t *labels = need(calloc(data->n, sizeof *labels));
    sac_error err;
    double start;

    for (size_t i = 0; i < data->n; i++)
        labels[i] = i;
    if (options->index != NULL && access(options->index, R_OK) == 0) {
        check(sac_index_load(device, options->index, NULL, NULL, &index, &err), &err);
        free(labels);
        return index;
    }
    sac_index_params_init(&params);
    params.dim = data->dim;
    params.spec = options->spec;
    check(sac_metric_parse(options->metric, &params.metric, &err), &err);
    check(sac_index_create(device, &params, &index, &err), &err);
    start = sac_clock();
    check(sac_index_train(index, data->n, data->base, 0, NULL, NULL, &err), &err);
    out->train = sac_clock() - start;
    start = sac_clock();
    check(sac_index_add(index, data->n, data->base, labels, NULL, NULL, &err), &err);
    out->add = sac_clock() - start;
    start = sac_clock();
    check(sac_index_measure(index, NULL, NULL, &err), &err);
    out->measure = sac_clock() - start;
    if (options->index != NULL)
        check(sac_index_save(index, options->index, true, &err), &err);
    free(labels);
    return index;
}

static void print_build(const struct options *options, const sac_device *device, const struct data *data,
                        const sac_index *index, const struct build *b)
{
    sac_index_info info;
    sac_recall_point points[64];
    size_t count = sac_index_recall_curve(index, points, 64);
    double seconds = b->train + b->add;

    sac_index_describe(index, &info);
    if (options->json) {
        printf(
            "{\"device\": \"%s\", \"spec\": \"%s\", \"count\": %zu, \"dim\": %u, \"train_s\": %.3f, "
            "\"add_s\": %.3f, "
            "\"measure_s\": %.3f, \"vectors_per_s\": %.0f, \"bytes_codes\": %llu, \"bytes_vectors\": %llu, "
            "\"bytes_other\": %llu, \"imbalance\": %.3f, \"points\": [",
            sac_device_describe(device), info.spec, data->n, data->dim, b->train, b->add, b->measure,
            seconds > 0 ? (double)data->n / seconds : 0, (unsigned long long)info.bytes_codes,
            (unsigned long long)info.bytes_vectors, (unsigned long long)info.bytes_other,
            info.list_imbalance);
        return;
    }
    printf("%s\n%s: %zu vectors of %u components\n", sac_device_describe(device), info.spec, data->n,
           data->dim);
    printf("train %.2f s, add %.2f s (%.0f vectors/s in all), measure %.2f s\n", b->train, b->add,
           (double)data->n / seconds, b->measure);
    printf("codes %.1f MB, vectors %.1f MB, other %.1f MB, list imbalance %.2f\n",
           (double)info.bytes_codes / 1e6, (double)info.bytes_vectors / 1e6, (double)info.bytes_other / 1e6,
           info.list_imbalance);
    printf("curve:");
    for (size_t i = 0; i < count; i++)
        printf(" %.4f=%u/%u", (double)points[i].recall, points[i].nprobe, points[i].depth);
    printf("\n%-10s %9s %10s %9s %9s %9s %12s %9s\n", "asked", "recall@10", "1 by 1 /s", "cpu us", "p50 us",
           "p99 us", "batches /s", "cpu us");
}

static void print_point(const struct options *options, double asked, const struct figures *f, bool first)
{
    char text[24];

    if (options->json) {
        printf("%s{\"asked\": %.4f, \"recall\": %.4f, \"qps_one\": %.0f, \"cpu_us\": %.1f, \"p50_us\": %.1f, "
               "\"p99_us\": %.1f, "
               "\"qps_batch\": %.0f, \"cpu_us_batch\": %.1f}",
               first ? "" : ", ", asked, f->recall, f->one_qps, f->cpu_us, f->p50_us, f->p99_us, f->batch_qps,
               f->batch_cpu_us);
        return;
    }
    if (options->nprobe != 0)
        snprintf(text, sizeof text, "%u/%u", options->nprobe, options->depth);
    else
        snprintf(text, sizeof text, "%g", asked);
    printf("%-10s %9.4f %10.0f %9.1f %9.1f %9.1f %12.0f %9.1f\n", text, f->recall, f->one_qps, f->cpu_us,
           f->p50_us, f->p99_us, f->batch_qps, f->batch_cpu_us);
}

/* ---- options ---------------------------------------------------------------------------------------- */

static void parse_recalls(struct options *options, const char *text)
{
    char *end;

    for (options->recall_count = 0; options->recall_count < POINTS_MAX; text = end + 1) {
        options->recalls[options->recall_count++] = strtod(text, &end);
        if (*end != ',')
            break;
    }
}

static void parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"base", required_argument, NULL, 'b'},    {"query", required_argument, NULL, 'q'},
        {"truth", required_argument, NULL, 't'},   {"spec", required_argument, NULL, 's'},
        {"metric", required_argument, NULL, 'm'},  {"limit", required_argument, NULL, 'l'},
        {"queries", required_argument, NULL, 'Q'}, {"recall", required_argument, NULL, 'r'},
        {"nprobe", required_argument, NULL, 'p'},  {"depth", required_argument, NULL, 'd'},
        {"batch", required_argument, NULL, 'B'},   {"threads", required_argument, NULL, 'T'},
        {"seconds", required_argument, NULL, 'S'}, {"json", no_argument, NULL, 'j'},
        {"index", required_argument, NULL, 'i'},   {NULL, 0, NULL, 0}};
    int c;

    *o = (struct options){.spec = "auto", .metric = "l2", .batch = 1000, .seconds = 2};
    parse_recalls(o, "0.9,0.95,0.99");
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1)
        switch (c) {
        case 'b':
            o->base = optarg;
            break;
        case 'q':
            o->query = optarg;
            break;
        case 't':
            o->truth = optarg;
            break;
        case 's':
            o->spec = optarg;
            break;
        case 'm':
            o->metric = optarg;
            break;
        case 'l':
            o->limit = strtoul(optarg, NULL, 10);
            break;
        case 'Q':
            o->queries = strtoul(optarg, NULL, 10);
            break;
        case 'r':
            parse_recalls(o, optarg);
            break;
        case 'p':
            o->nprobe = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'd':
            o->depth = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'B':
            o->batch = strtoul(optarg, NULL, 10);
            break;
        case 'T':
            o->threads = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'S':
            o->seconds = strtod(optarg, NULL);
            break;
        case 'j':
            o->json = true;
            break;
        case 'i':
            o->index = optarg;
            break;
        default:
            exit(2);
        }
    if (o->base == NULL || o->query == NULL || o->batch == 0) {
        fprintf(stderr,
                "usage: bench_index --base FILE --query FILE [--truth FILE] [--spec SPEC] [--json] ...\n");
        exit(2);
    }
    if (o->nprobe != 0)
        o->recall_count = 1;
}

int main(int argc, char **argv)
{
    struct options options;
    struct data data;
    struct build seconds = {0};
    sac_device_options device_options;
    sac_device *device;
    sac_index *index;
    sac_query *queries;
    sac_error err;

    parse(argc, argv, &options);
    read_data(&options, &data);
    sac_device_options_init(&device_options);
    device_options.threads = options.threads;
    check(sac_device_open(&device_options, &device, &err), &err);
    index = build(device, &options, &data, &seconds);
    queries = make_queries(&data);
    if (options.truth == NULL || options.limit > 0)
        compute_truth(index, &data, queries);
    print_build(&options, device, &data, index, &seconds);
    for (int i = 0; i < options.recall_count; i++) {
        struct figures f = measure(index, &options, &data, queries, (float)options.recalls[i]);
        print_point(&options, options.recalls[i], &f, i == 0);
    }
    if (options.json)
        printf("]}\n");
    free(queries[0].hits);
    free(queries);
    free(data.base);
    free(data.queries);
    free(data.truth);
    sac_index_close(index);
    sac_device_close(device);
    return 0;
}
