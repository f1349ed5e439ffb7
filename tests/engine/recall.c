/* Asking for recall gives it, on queries that the index has never seen. */
#include "engine/recall_curve.h"
#include "tests/engine/vector_set.h"

static double recall_at(const sac_index *index, const struct vector_set *set, float wanted)
{
    sac_query *queries = test_queries(set->queries, set->query_count, set->dim, 10);
    double recall;

    for (size_t q = 0; q < set->query_count; q++)
        queries[q].recall = wanted;
    assert_ok(sac_index_search(index, queries, set->query_count, err));
    recall = test_recall(set, queries);
    test_queries_free(queries);
    return recall;
}

static void what_is_asked_for_is_given(void **state)
{
    static const char *const sets[] = {"sift5k", "photosift10k", "tiny_vit"};
    static const char *const specs[] = {"IVF64,PQ32", "IVF100,PQ16x6", "OPQ24,IVF64,PQ24x4"};
    static const float wanted[] = {0.8f, 0.9f, 0.95f, 0.99f};

    (void)state;
    for (size_t s = 0; s < 3; s++) {
        struct vector_set set = vector_set_load(sets[s]);
        sac_device *device = test_device("cpu");
        for (size_t i = 0; i < 3; i++) {
            sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, specs[i]);
            sac_recall_point points[SAC_CURVE_MAX];
            sac_index_info info;
            size_t count;

            assert_ok(sac_index_measure(index, NULL, NULL, err));
            for (size_t w = 0; w < 4; w++) {
                double got = recall_at(index, &set, wanted[w]);
                if (got < wanted[w] - (wanted[w] < 0.99f ? 0.01 : 0))
                    fail_msg("%s %s: asked for %.2f, got %.4f", sets[s], specs[i], (double)wanted[w], got);
            }
            assert_true(recall_at(index, &set, 0) >= 0.94);
            count = sac_index_recall_curve(index, points, SAC_CURVE_MAX);
            assert_in_range(count, 5, SAC_CURVE_MAX);
            for (size_t p = 1; p < count; p++)
                assert_true(points[p].recall > points[p - 1].recall);
            sac_index_describe(index, &info);
            assert_true(info.measured);
            sac_index_close(index);
        }
        sac_device_close(device);
        vector_set_free(&set);
    }
}

static void without_a_curve_the_guess_is_cautious(void **state)
{
    struct vector_set set = vector_set_load("photosift10k");
    sac_device *device = test_device("cpu");
    sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, "IVF64,PQ32");

    (void)state;
    assert_true(recall_at(index, &set, 0.9f) >= 0.85);
    assert_true(recall_at(index, &set, 0.99f) >= 0.95);
    assert_true(recall_at(index, &set, 1) == 1);
    sac_index_close(index);
    sac_device_close(device);
    vector_set_free(&set);
}

static void more_results_probe_more(void **state)
{
    const sac_recall_curve curve = {2, {{0.5f, 2, 20, 0}, {0.9f, 8, 60, 1.5f}}};
    sac_recall_point point = sac_recall_curve_pick(&curve, 0.4f, 10, 100);

    (void)state;
    assert_int_equal(point.nprobe, 2);
    assert_int_equal(point.depth, 20);
    assert_true(point.reach == 0);
    point = sac_recall_curve_pick(&curve, 0.89f, 10, 100); /* and not 0.9 */
    assert_true(point.nprobe == 8 && point.depth == 60 && point.reach == 1.5f);
    point = sac_recall_curve_pick(&curve, 0.8f, 1000, 100);
    assert_in_range(point.nprobe, 9, 100);
    assert_in_range(point.depth, 1000, 4096);
    assert_true(point.reach > 1.6f && point.reach < 3);
    point = sac_recall_curve_pick(&curve, 0.95f, 10, 100);
    assert_int_equal(point.nprobe, 100);
    assert_int_equal(point.depth, 4096);
    assert_true(point.reach == 0);
}

/* Of `truth`, what is among the hits of a query that may find every step-th label only. */
static double recall_among(const sac_index *index, const struct vector_set *set, size_t step, float wanted)
{
    size_t n = set->query_count, count = (set->n + step - 1) / step;
    uint64_t *allow = calloc(count, sizeof *allow);
    sac_query *queries = test_queries(set->queries, n, set->dim, 10),
              *exact = test_queries(set->queries, n, set->dim, 10);
    size_t found = 0;

    for (size_t i = 0; i < count; i++)
        allow[i] = i * step;
    for (size_t q = 0; q < n; q++) {
        queries[q].recall = wanted;
        exact[q].exact = true;
        queries[q].allow = exact[q].allow = allow;
        queries[q].allow_count = exact[q].allow_count = count;
    }
    assert_ok(sac_index_search(index, queries, n, err));
    assert_ok(sac_index_search(index, exact, n, err));
    for (size_t q = 0; q < n; q++) {
        assert_int_equal(queries[q].hit_count, 10);
        for (uint32_t i = 0; i < 100; i++)
            found += queries[q].hits[i / 10].label == exact[q].hits[i % 10].label;
    }
    test_queries_free(queries);
    test_queries_free(exact);
    free(allow);
    return (double)found / (double)(n * 10);
}

static void filters_go_beyond_reach(void **state)
{
    struct vector_set set = vector_set_load("photosift10k");
    sac_device *device = test_device("cpu");
    sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, "IVF64,PQ32");

    (void)state;
    assert_ok(sac_index_measure(index, NULL, NULL, err));
    assert_true(recall_among(index, &set, 2, 0.9f) >= 0.89); /* 5000 labels are more than are compared */
    assert_true(recall_among(index, &set, 2, 0.99f) >= 0.98);
    assert_true(recall_among(index, &set, 1, 0.9f) >= 0.89);
    sac_index_close(index);
    sac_device_close(device);
    vector_set_free(&set);
}

/* What searches of so many lists find is what they found before there was a curve. */
static void an_nprobe_that_is_asked_for_is_kept(void **state)
{
    struct vector_set set = vector_set_load("photosift10k");
    sac_device *device = test_device("cpu");
    sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, "IVF64,PQ32");
    sac_query *one = test_queries(set.queries, set.query_count, set.dim, 10),
              *two = test_queries(set.queries, set.query_count, set.dim, 10);
    sac_recall_point points[SAC_CURVE_MAX];
    size_t count, limited = 0;

    (void)state;
    for (size_t q = 0; q < set.query_count; q++) {
        one[q].nprobe = two[q].nprobe = 1 + (uint32_t)q % 40;
        one[q].depth = two[q].depth = 100;
        one[q].recall = two[q].recall = 0.5f;
    }
    assert_ok(sac_index_search(index, one, set.query_count, err));
    assert_ok(sac_index_measure(index, NULL, NULL, err));
    assert_ok(sac_index_search(index, two, set.query_count, err));
    for (size_t q = 0; q < set.query_count; q++)
        assert_memory_equal(one[q].hits, two[q].hits, 10 * sizeof *one[q].hits);
    count = sac_index_recall_curve(index, points, SAC_CURVE_MAX);
    for (size_t p = 0; p < count; p++) {
        assert_true(points[p].reach == 0 || points[p].reach >= 1);
        limited += points[p].reach > 0;
    }
    assert_true(limited > count / 2);
    test_queries_free(one);
    test_queries_free(two);
    sac_index_close(index);
    sac_device_close(device);
    vector_set_free(&set);
}

/* Inner products are no distances: there is nothing to reach by. */
static void inner_products_have_no_reach(void **state)
{
    struct vector_set set = vector_set_load("tiny_vit");
    sac_device *device = test_device("cpu");
    sac_index *index = test_index_of(device, &set, SAC_METRIC_IP, "IVF64,PQ32");
    sac_recall_point points[SAC_CURVE_MAX];
    size_t count;

    (void)state;
    assert_ok(sac_index_measure(index, NULL, NULL, err));
    count = sac_index_recall_curve(index, points, SAC_CURVE_MAX);
    assert_true(count > 0 && points[count - 1].recall > 0.99f);
    for (size_t p = 0; p < count; p++)
        assert_true(points[p].reach == 0);
    assert_true(recall_at(index, &set, 0.9f) >= 0.89); /* of length 1: the same neighbours */
    sac_index_close(index);
    sac_device_close(device);
    vector_set_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_asked_for_is_given),
        cmocka_unit_test(without_a_curve_the_guess_is_cautious),
        cmocka_unit_test(more_results_probe_more),
        cmocka_unit_test(filters_go_beyond_reach),
        cmocka_unit_test(an_nprobe_that_is_asked_for_is_kept),
        cmocka_unit_test(inner_products_have_no_reach),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
