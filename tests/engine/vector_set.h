/* vector_set.h -- a base, queries and the true neighbours, from the test data; and recall against them. */
#ifndef SACCADE_TESTS_VECTOR_SET_H
#define SACCADE_TESTS_VECTOR_SET_H

#include "engine/saccade.h"
#include "engine/vector_file.h"
#include "kernels/ops.h"
#include "tests/data.h"

#include <stdlib.h>
#include <string.h>

struct vector_set {
    uint32_t dim, truth_width;
    size_t n, query_count;
    float *base, *queries;
    int32_t *truth;   /* [query_count][truth_width] */
    uint64_t *labels; /* [n]: the row number */
};

#define assert_ok(call)                           \
    do {                                          \
        sac_error assert_err = {0};               \
        sac_error *err = &assert_err;             \
        if ((call) != SAC_OK)                     \
            fail_msg("%s: %s", #call, err->text); \
    } while (0)

static inline void *vector_set_read(const char *name, const char *part, bool whole, size_t *n, uint32_t *dim)
{
    char path[128];
    sac_vector_file *file;
    void *values;
    size_t got;

    snprintf(path, sizeof path, "vectors/%s_%s", name, part);
    assert_ok(sac_vector_file_open(sac_test_data_need(path), &file, err));
    *n = sac_vector_file_count(file);
    *dim = sac_vector_file_dim(file);
    values = calloc(*n * *dim, 4);
    assert_non_null(values);
    if (whole)
        assert_ok(sac_vector_file_read_int32(file, *n, values, &got, err));
    else
        assert_ok(sac_vector_file_read(file, *n, values, &got, err));
    assert_int_equal(got, *n);
    sac_vector_file_close(file);
    return values;
}

static inline struct vector_set vector_set_load(const char *name)
{
    struct vector_set set;
    size_t rows;

    set.base = vector_set_read(name, "base.fvecs", false, &set.n, &set.dim);
    set.queries = vector_set_read(name, "query.fvecs", false, &set.query_count, &set.dim);
    set.truth = vector_set_read(name, "groundtruth.ivecs", true, &rows, &set.truth_width);
    set.labels = calloc(set.n, sizeof *set.labels);
    for (size_t i = 0; i < set.n; i++)
        set.labels[i] = i;
    return set;
}

static inline void vector_set_free(struct vector_set *set)
{
    free(set->base);
    free(set->queries);
    free(set->truth);
    free(set->labels);
}

/* The device that the environment wants engines to be tested on, or the test's own choice. */
static inline const char *test_device_name(const char *own)
{
    const char *wanted = getenv("SACCADE_TEST_DEVICE");

    return wanted != NULL ? wanted : own;
}

static inline sac_device *test_device_exactly(const char *name)
{
    sac_device_options options;
    sac_device *device;

    sac_device_options_init(&options);
    options.name = name;
    assert_ok(sac_device_open(&options, &device, err));
    return device;
}

static inline sac_device *test_device(const char *name)
{
    return test_device_exactly(test_device_name(name));
}

static inline sac_index *test_index(sac_device *device, uint32_t dim, sac_metric metric, const char *spec)
{
    sac_index_params params;
    sac_index *index;

    sac_index_params_init(&params);
    params.dim = dim;
    params.metric = metric;
    params.spec = spec;
    assert_ok(sac_index_create(device, &params, &index, err));
    return index;
}

/* A trained index that holds the whole set. */
static inline sac_index *test_index_of(sac_device *device, const struct vector_set *set, sac_metric metric,
                                       const char *spec)
{
    sac_index *index = test_index(device, set->dim, metric, spec);

    assert_ok(sac_index_train(index, set->n, set->base, 0, NULL, NULL, err));
    assert_ok(sac_index_add(index, set->n, set->base, set->labels, NULL, NULL, err));
    return index;
}

/* n queries for those vectors with k hits each, one block: free(queries[0].hits), then free(queries). */
static inline sac_query *test_queries(const float *vectors, size_t n, uint32_t dim, uint32_t k)
{
    sac_query *queries = calloc(n, sizeof *queries);
    sac_hit *hits = calloc(n * k, sizeof *hits);

    for (size_t i = 0; i < n; i++) {
        sac_query_init(&queries[i]);
        queries[i].vector = vectors + i * dim;
        queries[i].k = k;
        queries[i].hits = hits + i * k;
    }
    return queries;
}

static inline void test_queries_free(sac_query *queries)
{
    free(queries[0].hits);
    free(queries);
}

/* Share of the true 10 nearest among the first 10 hits. */
static inline double test_recall(const struct vector_set *set, const sac_query *queries)
{
    size_t found = 0;

    for (size_t q = 0; q < set->query_count; q++)
        for (uint32_t h = 0; h < 10 && h < queries[q].hit_count; h++)
            for (uint32_t t = 0; t < 10; t++)
                found += queries[q].hits[h].label == (uint64_t)set->truth[q * set->truth_width + t];
    return (double)found / (double)(10 * set->query_count);
}

/* Repeatable numbers in [-1, 1). */
static inline float test_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(*state >> 40) / (1 << 23) - 1);
}

#endif
