/* RaBitQ: what its signs rank is near, whatever the metric and however vectors came in. */
#include "engine/rabitq.h"
#include "engine/random.h"
#include "tests/engine/vector_set.h"

#include <math.h>

enum { COUNT = 4000, QUERIES = 50, CLUSTERS = 25, LISTS = 16, K = 10 };

static float normal(sac_random *random)
{
    double sum = -6;

    for (int i = 0; i < 12; i++)
        sum += sac_random_unit(random);
    return (float)sum;
}

/* Clusters whose spread is as large as their distance, and off the origin: base rows, then queries. */
static struct vector_set clusters_make(uint32_t dim, uint64_t seed)
{
    struct vector_set set = {.dim = dim, .n = COUNT, .query_count = QUERIES};
    sac_random random = {seed};
    float *centres = calloc(CLUSTERS, dim * sizeof *centres);

    set.base = calloc(COUNT + QUERIES, dim * sizeof *set.base);
    set.queries = set.base + (size_t)COUNT * dim;
    set.labels = calloc(COUNT, sizeof *set.labels);
    assert_true(centres != NULL && set.base != NULL && set.labels != NULL);
    for (size_t i = 0; i < (size_t)CLUSTERS * dim; i++)
        centres[i] = 0.5f + normal(&random);
    for (size_t i = 0; i < COUNT + QUERIES; i++)
        for (uint32_t d = 0; d < dim; d++) /* components of very different size: the rotation must mix them */
            set.base[i * dim + d] =
                (centres[i % CLUSTERS * dim + d] + 0.8f * normal(&random)) * powf((float)d + 1, -0.4f);
    for (size_t i = 0; i < COUNT; i++)
        set.labels[i] = i;
    free(centres);
    return set;
}

static void clusters_free(struct vector_set *set)
{
    free(set->base);
    free(set->labels);
}

static sac_device *device_with_rabitq(void)
{
    sac_device *device = test_device("cpu");

    if (sac_has_rabitq(device))
        return device;
    sac_device_close(device);
    skip();
    return NULL;
}

/* Share of what an exact search finds among the hits of one that looks at `depth` candidates of all lists. */
static double recall_of(const sac_index *index, const struct vector_set *set, uint32_t depth)
{
    sac_query *exact = test_queries(set->queries, set->query_count, set->dim, K);
    sac_query *coded = test_queries(set->queries, set->query_count, set->dim, K);
    size_t found = 0;

    for (size_t q = 0; q < set->query_count; q++) {
        exact[q].exact = true;
        coded[q].nprobe = LISTS;
        coded[q].depth = depth;
    }
    assert_ok(sac_index_search(index, exact, set->query_count, err));
    assert_ok(sac_index_search(index, coded, set->query_count, err));
    for (size_t q = 0; q < set->query_count; q++) {
        assert_int_equal(coded[q].hit_count, K);
        for (uint32_t i = 0; i < K; i++)
            for (uint32_t j = 0; j < K; j++)
                found += exact[q].hits[i].label == coded[q].hits[j].label;
    }
    test_queries_free(exact);
    test_queries_free(coded);
    return (double)found / (double)(K * set->query_count);
}

static void signs_find_the_nearest(void **state)
{
    static const struct {
        uint32_t dim;
        sac_metric metric;
        const char *spec;
    } cases[] = {
        {512, SAC_METRIC_L2, "IVF16,RaBitQ"},
        {768, SAC_METRIC_COSINE, "IVF16,RaBitQ,Refine(SQfp16)"},
        {768, SAC_METRIC_IP, "IVF16,RaBitQ"},
        {1021, SAC_METRIC_L2, "IVF16,RaBitQ1"}, /* neither a multiple of 4 nor near a power of two */
    };
    sac_device *device = device_with_rabitq();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vector_set set = clusters_make(cases[i].dim, 5 + i);
        sac_index *index = test_index_of(device, &set, cases[i].metric, cases[i].spec);
        double shallow = recall_of(index, &set, 16), deep = recall_of(index, &set, 64);

        if (shallow < 0.80 || deep < 0.99)
            fail_msg("%s of %u: %.3f among 16, %.3f among 64", cases[i].spec, cases[i].dim, shallow, deep);
        sac_index_close(index);
        clusters_free(&set);
    }
    sac_device_close(device);
}

static void short_vectors_work_too(void **state)
{
    static const uint32_t dims[] = {1, 2, 3, 4, 5, 31, 32, 33};
    sac_device *device = device_with_rabitq();

    (void)state;
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        struct vector_set set = clusters_make(dims[i], 50 + i);
        sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, "IVF16,RaBitQ");

        assert_true(recall_of(index, &set, COUNT) > 0.999);
        sac_index_close(index);
        clusters_free(&set);
    }
    sac_device_close(device);
}

static void the_curve_gives_what_is_asked_for(void **state)
{
    sac_device *device = device_with_rabitq();
    struct vector_set set = clusters_make(512, 3);
    sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, "IVF16,RaBitQ");
    sac_query *exact = test_queries(set.queries, set.query_count, set.dim, K);
    sac_query *asked = test_queries(set.queries, set.query_count, set.dim, K);
    sac_index_info info;
    size_t found = 0;

    (void)state;
    assert_ok(sac_index_measure(index, NULL, NULL, err));
    for (size_t q = 0; q < set.query_count; q++) {
        exact[q].exact = true;
        asked[q].recall = 0.95f;
    }
    assert_ok(sac_index_search(index, exact, set.query_count, err));
    assert_ok(sac_index_search(index, asked, set.query_count, err));
    for (size_t q = 0; q < set.query_count; q++)
        for (uint32_t i = 0; i < K * K; i++)
            found += exact[q].hits[i / K].label == asked[q].hits[i % K].label;
    assert_true(found >= 0.94 * K * (double)set.query_count);
    sac_index_describe(index, &info);
    assert_string_equal(info.spec, "IVF16,RaBitQ");
    test_queries_free(exact);
    test_queries_free(asked);
    sac_index_close(index);
    clusters_free(&set);
    sac_device_close(device);
}

/* Holes are filled by moving entries, whose factors must move along. */
static void deleting_and_adding_leave_the_rest_findable(void **state)
{
    sac_device *device = device_with_rabitq();
    struct vector_set set = clusters_make(512, 9);
    sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, "IVF16,RaBitQ");
    double before = recall_of(index, &set, 32);
    size_t removed;

    (void)state;
    for (size_t i = 0; i < COUNT; i += 2)
        assert_ok(sac_index_delete(index, 1, &set.labels[i], &removed, err));
    assert_true(recall_of(index, &set, 32) > 0.9);
    for (size_t i = COUNT; i >= 2; i -= 2)
        assert_ok(sac_index_add(index, 1, set.base + (i - 2) * set.dim, &set.labels[i - 2], NULL, NULL, err));
    assert_true(fabs(recall_of(index, &set, 32) - before) < 0.005);
    sac_index_close(index);
    clusters_free(&set);
    sac_device_close(device);
}

static void training_is_repeatable_and_needs_few(void **state)
{
    sac_device *device = device_with_rabitq();
    struct vector_set set = clusters_make(64, 2);
    sac_index *index = test_index(device, set.dim, SAC_METRIC_L2, "IVF2,RaBitQ");
    float signs[2][SAC_ROTATE_ROUNDS * 64];
    size_t positive = 0;

    (void)state;
    assert_ok(sac_index_train(index, 2, set.base, 0, NULL, NULL, err)); /* as many as lists */
    sac_index_close(index);
    sac_rabitq_signs(7, 64, signs[0]);
    sac_rabitq_signs(7, 64, signs[1]);
    assert_memory_equal(signs[0], signs[1], sizeof signs[0]);
    for (size_t i = 0; i < SAC_ROTATE_ROUNDS * 64; i++)
        positive += signs[0][i] == 1;
    assert_in_range(positive, SAC_ROTATE_ROUNDS * 16, SAC_ROTATE_ROUNDS * 48);
    clusters_free(&set);
    sac_device_close(device);
}

static void a_device_without_it_refuses(void **state)
{
    sac_device *device = test_device("cpu");
    sac_index_params params;
    sac_error problem;
    sac_index *index;

    (void)state;
    sac_index_params_init(&params);
    params.dim = 512;
    params.spec = "IVF16,RaBitQ";
    if (!sac_has_rabitq(device)) {
        assert_int_equal(sac_index_create(device, &params, &index, &problem), SAC_UNSUPPORTED);
        assert_non_null(strstr(problem.text, "only on CPUs"));
    }
    sac_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_find_the_nearest),
        cmocka_unit_test(short_vectors_work_too),
        cmocka_unit_test(the_curve_gives_what_is_asked_for),
        cmocka_unit_test(deleting_and_adding_leave_the_rest_findable),
        cmocka_unit_test(training_is_repeatable_and_needs_few),
        cmocka_unit_test(a_device_without_it_refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
