/* IVF-PQ over every shape: each m that divides the padded dimension, 4 to 8 bits, every metric; with all
 * lists and deep re-ranking it must give what exact search gives, and the codes alone must come close. */
#include "tests/engine/vector_set.h"

#include <math.h>

enum { N = 1200, QUERIES = 12 };

static void clustered(float *x, size_t n, uint32_t dim, uint64_t *seed)
{
    float middles[20 * 64];

    for (size_t i = 0; i < (size_t)20 * dim; i++)
        middles[i] = test_random(seed);
    for (size_t i = 0; i < n; i++)
        for (uint32_t d = 0; d < dim; d++)
            x[i * dim + d] = middles[i % 20 * dim + d] + 0.4f * test_random(seed);
}

static void expect_exact(sac_device *device, uint32_t dim, sac_metric metric, const char *spec,
                         const float *base, const float *vectors, const uint64_t *labels)
{
    sac_index *index = test_index(device, dim, metric, spec);
    sac_query *found = test_queries(vectors, QUERIES, dim, 30),
              *want = test_queries(vectors, QUERIES, dim, 30);
    size_t coded = 0;

    assert_ok(sac_index_train(index, N, base, 0, NULL, NULL, err));
    assert_ok(sac_index_add(index, N, base, labels, NULL, NULL, err));
    for (size_t i = 0; i < QUERIES; i++) {
        want[i].exact = true;
        found[i].nprobe = UINT32_MAX;
        found[i].depth = N;
    }
    assert_ok(sac_index_search(index, want, QUERIES, err));
    assert_ok(sac_index_search(index, found, QUERIES, err));
    for (size_t i = 0; i < QUERIES; i++) {
        assert_int_equal(found[i].hit_count, 30);
        assert_memory_equal(found[i].hits, want[i].hits, 30 * sizeof *want[i].hits);
        found[i].no_rescore = true;
    }
    assert_ok(sac_index_search(index, found, QUERIES, err));
    for (size_t i = 0; i < QUERIES; i++)
        for (uint32_t h = 0; h < 30; h++)
            for (uint32_t w = 0; w < 30; w++)
                coded += found[i].hits[h].label == want[i].hits[w].label;
    if (coded < 30 * QUERIES / 8) /* even one number of 4 bits orders better than chance, 9 */
        fail_msg("%s, metric %d: codes find %zu of %d", spec, (int)metric, coded, 30 * QUERIES);
    test_queries_free(found);
    test_queries_free(want);
    sac_index_close(index);
}

static void every_shape_works(void **state)
{
    static const uint32_t dims[] = {8, 12, 13};
    static float base[N * 16], vectors[QUERIES * 16];
    uint64_t labels[N], seed = 21;
    sac_device *device = test_device("cpu");
    unsigned turn = 0;

    (void)state;
    for (uint64_t i = 0; i < N; i++)
        labels[i] = N - i;
    for (size_t s = 0; s < sizeof dims / sizeof dims[0]; s++) {
        clustered(base, N, dims[s], &seed);
        memcpy(vectors, base, sizeof vectors);
        for (size_t i = 0; i < QUERIES * dims[s]; i++)
            vectors[i] += 0.05f * test_random(&seed);
        for (uint32_t m = 1; m <= dims[s]; m++)
            for (uint32_t nbits = 4; nbits <= 8; nbits++, turn++) {
                char spec[64];
                snprintf(spec, sizeof spec, "%sIVF%u,PQ%ux%u%s", "", 1 + turn % 9, m, nbits,
                         turn % 4 == 3   ? ",Refine(SQfp16)"
                         : turn % 4 == 1 ? ",Refine(SQ8)"
                                         : "");
                expect_exact(device, dims[s], (sac_metric)(turn % 3), spec, base, vectors, labels);
            }
    }
    expect_exact(device, 13, SAC_METRIC_L2, "OPQ4,IVF8,PQ4x6", base, vectors, labels);
    expect_exact(device, 13, SAC_METRIC_IP, "OPQ4_8,IVF8,PQ4", base, vectors, labels);
    sac_device_close(device);
}

static void a_thousand_results_come_back(void **state)
{
    struct vector_set set = vector_set_load("photosift10k");
    sac_device *device = test_device("cpu");
    sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, "IVF64,PQ32");
    sac_query *found = test_queries(set.queries, 50, set.dim, 1000),
              *want = test_queries(set.queries, 50, set.dim, 1000);
    size_t common = 0;

    (void)state;
    assert_ok(sac_index_measure(index, NULL, NULL, err));
    for (size_t i = 0; i < 50; i++)
        want[i].exact = true;
    assert_ok(sac_index_search(index, found, 50, err));
    assert_ok(sac_index_search(index, want, 50, err));
    for (size_t i = 0; i < 50; i++) {
        bool there[10000] = {false};
        assert_int_equal(found[i].hit_count, 1000);
        for (uint32_t h = 0; h < 1000; h++) {
            assert_false(there[found[i].hits[h].label]); /* nothing twice */
            there[found[i].hits[h].label] = true;
        }
        for (uint32_t h = 0; h < 1000; h++)
            common += there[want[i].hits[h].label];
    }
    assert_true(common > 50 * 900);
    test_queries_free(found);
    test_queries_free(want);
    sac_index_close(index);
    sac_device_close(device);
    vector_set_free(&set);
}

/* The same seed, data and kind of device give the same index, whatever the threads. */
static void training_is_repeatable(void **state)
{
    struct vector_set set = vector_set_load("tiny_vit");
    sac_query *answers[2];

    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        sac_device_options options;
        sac_device *device;
        sac_device_options_init(&options);
        options.name = test_device_name("cpu");
        options.threads = 1 + 2 * i;
        assert_ok(sac_device_open(&options, &device, err));
        sac_index *index = test_index_of(device, &set, SAC_METRIC_COSINE, "OPQ24,IVF24,PQ24x6");
        answers[i] = test_queries(set.queries, set.query_count, set.dim, 10);
        for (size_t q = 0; q < set.query_count; q++) {
            answers[i][q].no_rescore = true;
            answers[i][q].nprobe = 3;
        }
        assert_ok(sac_index_search(index, answers[i], set.query_count, err));
        sac_index_close(index);
        sac_device_close(device);
    }
    for (size_t q = 0; q < set.query_count; q++)
        assert_memory_equal(answers[0][q].hits, answers[1][q].hits, 10 * sizeof(sac_hit));
    test_queries_free(answers[0]);
    test_queries_free(answers[1]);
    vector_set_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_works),
        cmocka_unit_test(a_thousand_results_come_back),
        cmocka_unit_test(training_is_repeatable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
