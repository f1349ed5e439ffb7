/* bench_gpu_search -- recall and queries a second by batch size, on vectors that it makes (clusters.h), on
 * any device: the table that says what a GPU is worth.
 *
 *   bench_gpu_search [--device cuda:0] [--shape 1Mx96]... [--spec auto] [--recall 0.9,0.95,0.99]
 *                    [--batch 1,10,100,1000,10000] [--queries 10000] [--seconds 1]
 *                    [--base FILE --query FILE]
 *                    [--json FILE] [--dump DIR]
 *
 * A shape is ROWSxDIM, rows with k or M. --base and --query take vectors from files instead. The truth is
 * found by exact search on the same device; --dump leaves base, queries and truth as files (rows u32, dim
 * u32, then f32 or i32) for a peer to use and to check. One at a time (batch 1) also gives the percentiles of
 * the latency.
 */
#include "bench/gpu/clusters.h"
#include "bench/gpu/driver.h"
#include "engine/progress.h"
#include "engine/saccade.h"
#include "engine/vector_file.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { K = 10, LIST_MAX = 16, TRUTH_QUERIES = 1000, TIMES_MAX = 1 << 18 };
#define CHUNK_ROWS ((size_t)1 << 20)

struct list {
    double values[LIST_MAX];
    int count;
};

struct options {
    const char *device, *spec, *json, *dump, *base, *query;
    const char *shapes[LIST_MAX];
    int shape_count;
    struct list recalls, batches;
    size_t queries;
    double seconds;
};

/* One set of vectors and what is known of it. */
struct set {
    char name[64];
    uint32_t dim, threads;
    size_t rows, query_count;
    struct clusters clusters; /* unless base is there */
    float *base, *queries;
    uint64_t *truth; /* [TRUTH_QUERIES][K] */
};

struct point {
    size_t batch;
    double asked, recall, qps, p50_us, p99_us;
};

/* ---- vectors ---------------------------------------------------------------------------------------- */

static float *read_file(const char *path, size_t *rows, uint32_t *dim)
{
    sac_vector_file *file;
    sac_error err;
    float *vectors;

    check(sac_vector_file_open(path, &file, &err), &err);
    *rows = sac_vector_file_count(file);
    *dim = sac_vector_file_dim(file);
    vectors = need(*rows, *dim * sizeof *vectors);
    check(sac_vector_file_read(file, *rows, vectors, rows, &err), &err);
    sac_vector_file_close(file);
    return vectors;
}

static void set_from_files(struct set *set, const struct options *o)
{
    uint32_t dim;

    set->base = read_file(o->base, &set->rows, &set->dim);
    set->queries = read_file(o->query, &set->query_count, &dim);
    if (dim != set->dim || set->query_count == 0)
        fail("the queries have another dimension than the base");
    snprintf(set->name, sizeof set->name, "%.40s",
             strrchr(o->base, '/') ? strrchr(o->base, '/') + 1 : o->base);
}

static void set_from_shape(struct set *set, const char *shape, size_t queries)
{
    char *end;
    double rows = strtod(shape, &end);

    rows *= *end == 'M' ? 1e6 : *end == 'k' ? 1e3 : 1;
    end += *end == 'M' || *end == 'k';
    set->rows = (size_t)rows;
    set->dim = *end == 'x' ? (uint32_t)strtoul(end + 1, NULL, 10) : 0;
    if (set->rows < 1000 || set->dim == 0 || set->dim > SAC_DIM_MAX)
        fail("a shape is ROWSxDIM, 1Mx96 for example");
    set->query_count = queries;
    clusters_make(&set->clusters, set->dim, set->rows, 1);
    set->queries = need(set->query_count, set->dim * sizeof(float));
    clusters_rows(&set->clusters, 1, 0, set->query_count, set->threads, set->queries);
    snprintf(set->name, sizeof set->name, "%s", shape);
}

static void set_free(struct set *set)
{
    clusters_free(&set->clusters);
    free(set->base);
    free(set->queries);
    free(set->truth);
}

/* n rows from `first` on; memory of the set, or `buffer`. */
static const float *set_rows(const struct set *set, size_t first, size_t n, float *buffer)
{
    if (set->base != NULL)
        return set->base + first * set->dim;
    clusters_rows(&set->clusters, 0, first, n, set->threads, buffer);
    return buffer;
}

/* ---- building --------------------------------------------------------------------------------------- */

struct build {
    double train, add, measure; /* seconds; making the vectors is not counted */
};

static sac_index *build(sac_device *device, const struct options *o, const struct set *set,
                        struct build *seconds)
{
    size_t chunk = set->rows < CHUNK_ROWS ? set->rows : CHUNK_ROWS;
    float *buffer = need(chunk, set->dim * sizeof *buffer);
    uint64_t *labels = need(chunk, sizeof *labels);
    sac_index_params params;
    sac_index *index;
    sac_error err;
    double start;

    sac_index_params_init(&params);
    params.dim = set->dim;
    params.metric = SAC_METRIC_L2;
    params.spec = o->spec;
    check(sac_index_create(device, &params, &index, &err), &err);
    for (size_t first = 0; first < set->rows; first += chunk) {
        size_t n = set->rows - first < chunk ? set->rows - first : chunk;
        const float *rows = set_rows(set, first, n, buffer);

        start = sac_clock();
        if (first == 0) {
            check(sac_index_train(index, n, rows, set->rows, NULL, NULL, &err), &err);
            seconds->train = sac_clock() - start;
            start = sac_clock();
        }
        for (size_t i = 0; i < n; i++)
            labels[i] = first + i;
        check(sac_index_add(index, n, rows, labels, NULL, NULL, &err), &err);
        seconds->add += sac_clock() - start;
    }
    start = sac_clock();
    check(sac_index_measure(index, NULL, NULL, &err), &err);
    seconds->measure = sac_clock() - start;
    free(buffer);
    free(labels);
    return index;
}

/* ---- searching -------------------------------------------------------------------------------------- */

static size_t truth_count(const struct set *set)
{
    return set->query_count < TRUTH_QUERIES ? set->query_count : TRUTH_QUERIES;
}

static double find_truth(const sac_index *index, struct set *set, sac_query *queries)
{
    size_t n = truth_count(set);
    double start = sac_clock(), seconds;
    sac_error err;

    for (size_t q = 0; q < n; q++)
        queries[q].exact = true;
    check(sac_index_search(index, queries, n, &err), &err);
    seconds = sac_clock() - start;
    set->truth = need(n * K, sizeof *set->truth);
    for (size_t q = 0; q < n; q++) {
        queries[q].exact = false;
        for (uint32_t i = 0; i < queries[q].hit_count; i++)
            set->truth[q * K + i] = queries[q].hits[i].label;
    }
    return seconds;
}

static double recall_of(const struct set *set, const sac_query *queries)
{
    size_t n = truth_count(set), found = 0;

    for (size_t q = 0; q < n; q++)
        for (uint32_t h = 0; h < queries[q].hit_count; h++)
            for (int t = 0; t < K; t++)
                found += queries[q].hits[h].label == set->truth[q * K + (size_t)t];
    return (double)found / (double)(K * n);
}

/* Batches in order, again and again: at least one round over those with a truth, and until the time is up. */
static struct point run_batches(const sac_index *index, const struct set *set, sac_query *queries,
                                size_t batch, double recall, double seconds)
{
    static double times[TIMES_MAX];
    struct point out = {.batch = batch, .asked = recall};
    struct spread spread;
    size_t searches = 0, done = 0, at = 0, enough = truth_count(set);
    double start, now;
    sac_error err;

    for (size_t q = 0; q < set->query_count; q++)
        queries[q].recall = (float)recall;
    for (int warm = 0; warm < 3; warm++) /* memory is taken and the chain recorded at the first ones */
        check(sac_index_search(index, queries, batch < set->query_count ? batch : set->query_count, &err),
              &err);
    for (start = now = sac_clock(); searches < TIMES_MAX && (done < enough || now - start < seconds);
         searches++) {
        size_t n = set->query_count - at < batch ? set->query_count - at : batch;
        double before = now;

        check(sac_index_search(index, queries + at, n, &err), &err);
        at = at + n == set->query_count ? 0 : at + n;
        done += n;
        now = sac_clock();
        times[searches] = now - before;
    }
    out.qps = (double)done / (now - start);
    out.recall = recall_of(set, queries);
    spread = spread_of(times, searches);
    out.p50_us = spread.p50 * 1e6;
    out.p99_us = spread.p99 * 1e6;
    return out;
}

/* ---- what comes out --------------------------------------------------------------------------------- */

static void dump(const char *folder, const char *name, size_t rows, uint32_t dim, const void *values)
{
    uint32_t header[2] = {(uint32_t)rows, dim};
    char path[4096];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "wb");
    if (file == NULL || fwrite(header, sizeof header, 1, file) != 1 ||
        fwrite(values, (size_t)4 * dim, rows, file) != rows || fclose(file) != 0)
        fail("cannot write what --dump asks for");
}

static void dump_set(const struct options *o, const struct set *set)
{
    size_t n = truth_count(set);
    float *rows = need(set->rows, set->dim * sizeof *rows);
    int32_t *truth = need(n * K, sizeof *truth);

    for (size_t i = 0; i < n * K; i++)
        truth[i] = (int32_t)set->truth[i];
    dump(o->dump, "base.fbin", set->rows, set->dim, set_rows(set, 0, set->rows, rows));
    dump(o->dump, "query.fbin", set->query_count, set->dim, set->queries);
    dump(o->dump, "truth.ibin", n, K, truth);
    free(rows);
    free(truth);
}

static void print_build(FILE *json, const struct set *set, const sac_index *index, const struct build *b,
                        double exact_seconds)
{
    sac_index_info info;

    sac_index_describe(index, &info);
    printf(
        "\n%s  %s: train %.2f s, add %.2f s (%.0f vectors/s), measure %.2f s, exact search %.0f queries/s\n",
        set->name, info.spec, b->train, b->add, (double)set->rows / (b->train + b->add), b->measure,
        (double)truth_count(set) / exact_seconds);
    printf("codes %.1f MB, vectors %.1f MB, other %.1f MB, list imbalance %.2f\n",
           (double)info.bytes_codes / 1e6, (double)info.bytes_vectors / 1e6, (double)info.bytes_other / 1e6,
           info.list_imbalance);
    printf("%8s %7s %9s %12s %10s %10s\n", "batch", "asked", "recall@10", "queries/s", "p50 us", "p99 us");
    if (json != NULL)
        fprintf(json,
                "{\"set\": \"%s\", \"rows\": %zu, \"dim\": %u, \"spec\": \"%s\", \"train_s\": %.4f, "
                "\"add_s\": %.4f, "
                "\"measure_s\": %.4f, \"exact_qps\": %.1f, \"bytes_codes\": %llu, \"bytes_vectors\": %llu, "
                "\"imbalance\": %.3f, \"points\": [",
                set->name, set->rows, set->dim, info.spec, b->train, b->add, b->measure,
                (double)truth_count(set) / exact_seconds, (unsigned long long)info.bytes_codes,
                (unsigned long long)info.bytes_vectors, info.list_imbalance);
}

static void print_point(FILE *json, const struct point *p, bool first)
{
    printf("%8zu %7.3g %9.4f %12.0f %10.1f %10.1f\n", p->batch, p->asked, p->recall, p->qps, p->p50_us,
           p->p99_us);
    fflush(stdout);
    if (json != NULL)
        fprintf(json,
                "%s{\"batch\": %zu, \"asked\": %.4f, \"recall\": %.4f, \"qps\": %.1f, \"p50_us\": %.2f, "
                "\"p99_us\": %.2f}",
                first ? "" : ", ", p->batch, p->asked, p->recall, p->qps, p->p50_us, p->p99_us);
}

static void run_set(sac_device *device, const struct options *o, struct set *set, FILE *json)
{
    sac_query *queries = need(set->query_count, sizeof *queries);
    sac_hit *hits = need(set->query_count * K, sizeof *hits);
    struct build seconds = {0};
    sac_index *index = build(device, o, set, &seconds);

    for (size_t q = 0; q < set->query_count; q++) {
        sac_query_init(&queries[q]);
        queries[q].vector = set->queries + q * set->dim;
        queries[q].hits = hits + q * K;
    }
    print_build(json, set, index, &seconds, find_truth(index, set, queries));
    if (o->dump != NULL)
        dump_set(o, set);
    for (int b = 0; b < o->batches.count; b++)
        for (int r = 0; r < o->recalls.count; r++) {
            struct point p = run_batches(index, set, queries, (size_t)o->batches.values[b],
                                         o->recalls.values[r], o->seconds);
            print_point(json, &p, b == 0 && r == 0);
        }
    if (json != NULL)
        fprintf(json, "]}");
    sac_index_close(index);
    free(queries);
    free(hits);
}

/* ---- options ---------------------------------------------------------------------------------------- */

static void parse_list(struct list *list, const char *text)
{
    char *end;

    for (list->count = 0; list->count < LIST_MAX; text = end + 1) {
        double value = strtod(text, &end);
        if (end == text || value <= 0)
            fail("a list of numbers is wanted, 0.9,0.95 for example");
        list->values[list->count++] = value;
        if (*end != ',')
            break;
    }
}

static void parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"device", required_argument, NULL, 'd'},  {"shape", required_argument, NULL, 's'},
        {"spec", required_argument, NULL, 'S'},    {"recall", required_argument, NULL, 'r'},
        {"batch", required_argument, NULL, 'b'},   {"seconds", required_argument, NULL, 't'},
        {"json", required_argument, NULL, 'j'},    {"dump", required_argument, NULL, 'D'},
        {"base", required_argument, NULL, 'B'},    {"query", required_argument, NULL, 'q'},
        {"queries", required_argument, NULL, 'Q'}, {NULL, 0, NULL, 0}};
    int c;

    *o = (struct options){.device = "auto", .spec = "auto", .queries = 10000, .seconds = 1};
    parse_list(&o->recalls, "0.9,0.95,0.99");
    parse_list(&o->batches, "1,10,100,1000,10000");
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'd':
            o->device = optarg;
            break;
        case 's':
            if (o->shape_count < LIST_MAX)
                o->shapes[o->shape_count++] = optarg;
            break;
        case 'S':
            o->spec = optarg;
            break;
        case 'r':
            parse_list(&o->recalls, optarg);
            break;
        case 'b':
            parse_list(&o->batches, optarg);
            break;
        case 'Q':
            o->queries = strtoul(optarg, NULL, 10);
            break;
        case 't':
            o->seconds = strtod(optarg, NULL);
            break;
        case 'j':
            o->json = optarg;
            break;
        case 'D':
            o->dump = optarg;
            break;
        case 'B':
            o->base = optarg;
            break;
        case 'q':
            o->query = optarg;
            break;
        default:
            exit(2);
        }
    }
    if (optind != argc || (o->base == NULL) != (o->query == NULL) || o->queries == 0)
        fail("usage: bench_gpu_search [--device NAME] [--shape 1Mx96]... | --base FILE --query FILE ...");
    if (o->shape_count == 0 && o->base == NULL)
        o->shapes[o->shape_count++] = "1Mx96";
}

int main(int argc, char **argv)
{
    sac_device_options device_options;
    sac_device *device;
    struct options o;
    FILE *json = NULL;
    sac_error err;
    int sets;

    parse(argc, argv, &o);
    sac_device_options_init(&device_options);
    device_options.name = o.device;
    check(sac_device_open(&device_options, &device, &err), &err);
    printf("%s\n", sac_device_describe(device));
    if (o.json != NULL && (json = fopen(o.json, "w")) == NULL)
        fail("cannot write the file of --json");
    if (json != NULL)
        fprintf(json, "{\"device\": \"%s\", \"sets\": [", sac_device_describe(device));
    sets = o.base != NULL ? 1 : o.shape_count;
    for (int i = 0; i < sets; i++) {
        struct set set = {.threads = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN)};

        if (o.base != NULL)
            set_from_files(&set, &o);
        else
            set_from_shape(&set, o.shapes[i], o.queries);
        if (json != NULL && i > 0)
            fprintf(json, ", ");
        run_set(device, &o, &set, json);
        set_free(&set);
    }
    if (json != NULL && (fprintf(json, "]}\n") < 0 || fclose(json) != 0))
        fail("cannot write the file of --json");
    sac_device_close(device);
    return 0;
}
