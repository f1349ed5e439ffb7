/* bench_collection -- what durability costs: items a second put in groups of several sizes, single puts and
 * searches, a build, and how long opening takes with the checkpoint and without.
 *
 *   bench_collection --base base.fvecs [--data DIR] [--limit N] [--group 1000] [--spec auto] [--no-build]
 *
 * The directory (default: a new one under /tmp) is on the disk that is measured, and is left there. */
#include "engine/progress.h"
#include "engine/saccade.h"
#include "engine/vector_file.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
    const char *base, *data, *spec;
    size_t limit, group;
    bool build;
};

static sac_device *device;
static sac_database *db;
static sac_collection *collection;

static void check(sac_status st, const sac_error *err)
{
    if (st == SAC_OK)
        return;
    fprintf(stderr, "bench_collection: %s\n", err->text);
    exit(1);
}

static void open_collection(const char *path, uint32_t dim, const char *spec)
{
    sac_collection_params params;
    sac_error err;

    sac_collection_params_init(&params);
    params.dim = dim;
    params.metric = SAC_METRIC_L2;
    params.spec = spec;
    check(sac_database_open(device, path, SAC_OPEN_CREATE, &db, &err), &err);
    check(sac_database_create(db, "bench", &params, &err), &err);
    check(sac_collection_acquire(db, "bench", &collection, &err), &err);
}

static void close_collection(void)
{
    sac_collection_release(collection);
    sac_database_close(db);
}

static double reopen(const char *path, uint32_t dim, const char *spec)
{
    double began;

    close_collection();
    began = sac_clock();
    open_collection(path, dim, spec);
    return sac_clock() - began;
}

static double put_all(const float *vectors, uint32_t dim, size_t n, uint64_t first, size_t group)
{
    sac_item *items = calloc(group, sizeof *items);
    double began = sac_clock();
    sac_error err;

    if (items == NULL)
        abort();
    for (size_t at = 0; at < n; at += group) {
        size_t part = n - at < group ? n - at : group;

        for (size_t i = 0; i < part; i++)
            items[i] = (sac_item){.id = {first + at + i, NULL, 0}, .vector = vectors + (at + i) * dim};
        check(sac_collection_put(collection, items, part, &err), &err);
    }
    free(items);
    return sac_clock() - began;
}

static double search_one_by_one(const float *vectors, uint32_t dim, size_t n)
{
    double began = sac_clock();
    sac_results *results;
    sac_query query;
    sac_error err;

    sac_query_init(&query);
    for (size_t i = 0; i < n; i++) {
        query.vector = vectors + i * dim;
        check(sac_collection_search(collection, &query, 1, 0, &results, &err), &err);
        sac_results_free(results);
    }
    return sac_clock() - began;
}

static void run(const struct options *options, const float *vectors, size_t n, uint32_t dim)
{
    size_t some = n < 200 ? n : 200;
    sac_collection_info info;
    sac_error err;
    double seconds;

    open_collection(options->data, dim, options->spec);
    seconds = put_all(vectors, dim, n, 0, options->group);
    printf("put in groups of %zu     %9.0f items/s (%.1f s)\n", options->group, (double)n / seconds, seconds);
    seconds = put_all(vectors, dim, some, n, 1);
    printf("put one by one           %9.2f ms each\n", 1e3 * seconds / (double)some);
    seconds = search_one_by_one(vectors, dim, some / 10);
    printf("search, not built        %9.3f ms each\n", 1e4 * seconds / (double)some);
    printf("open, nothing saved      %9.2f s\n", reopen(options->data, dim, options->spec));
    if (options->build) {
        seconds = sac_clock();
        check(sac_collection_build(collection, NULL, NULL, NULL, &err), &err);
        sac_collection_stats(collection, &info);
        printf("build %-18s %9.1f s\n", info.index.spec, sac_clock() - seconds);
        seconds = search_one_by_one(vectors, dim, some);
        printf("search, built            %9.3f ms each\n", 1e3 * seconds / (double)some);
        seconds = put_all(vectors, dim, n < 10000 ? n : 10000, 0, options->group);
        printf("replace, built           %9.0f items/s\n", (double)(n < 10000 ? n : 10000) / seconds);
        printf("open, checkpoint behind  %9.2f s\n", reopen(options->data, dim, options->spec));
        check(sac_collection_checkpoint(collection, &err), &err);
        printf("open, checkpoint saved   %9.2f s\n", reopen(options->data, dim, options->spec));
    }
    sac_collection_stats(collection, &info);
    printf("store %.0f MB, %.0f bytes an item; %zu items of %u components\n", (double)info.bytes_store / 1e6,
           (double)info.bytes_store / (double)info.count, (size_t)info.count, dim);
    close_collection();
}

static void parse(int argc, char **argv, struct options *options)
{
    static const struct option table[] = {{"base", required_argument, NULL, 'b'},
                                          {"data", required_argument, NULL, 'd'},
                                          {"limit", required_argument, NULL, 'l'},
                                          {"group", required_argument, NULL, 'g'},
                                          {"spec", required_argument, NULL, 's'},
                                          {"no-build", no_argument, NULL, 'n'},
                                          {NULL, 0, NULL, 0}};
    int option;

    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        switch (option) {
        case 'b':
            options->base = optarg;
            break;
        case 'd':
            options->data = optarg;
            break;
        case 'l':
            options->limit = strtoull(optarg, NULL, 10);
            break;
        case 'g':
            options->group = strtoull(optarg, NULL, 10);
            break;
        case 's':
            options->spec = optarg;
            break;
        case 'n':
            options->build = false;
            break;
        default:
            exit(2);
        }
    }
    if (options->base == NULL || options->group == 0) {
        fprintf(stderr, "bench_collection: --base FILE.fvecs is needed\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static char fresh[] = "/tmp/bench-collection-XXXXXX";
    struct options options = {.spec = "auto", .group = 1000, .build = true};
    sac_vector_file *file;
    sac_error err;
    float *vectors;
    uint32_t dim;
    size_t n;

    parse(argc, argv, &options);
    if (options.data == NULL)
        options.data = mkdtemp(fresh);
    check(sac_vector_file_open(options.base, &file, &err), &err);
    dim = sac_vector_file_dim(file);
    n = sac_vector_file_count(file);
    n = options.limit > 0 && options.limit < n ? options.limit : n;
    vectors = reallocarray(NULL, n, dim * sizeof *vectors);
    if (vectors == NULL || options.data == NULL)
        abort();
    check(sac_vector_file_read(file, n, vectors, &n, &err), &err);
    sac_vector_file_close(file);
    check(sac_device_open(NULL, &device, &err), &err);
    printf("%s, %s\n", sac_device_describe(device), options.data);
    run(&options, vectors, n, dim);
    sac_device_close(device);
    free(vectors);
    return 0;
}
