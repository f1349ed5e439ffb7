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
    const sac_recall_curve curve = {2, {{0.5f, 2, 20}, {0.9f, 8, 60}}};
    uint32_t nprobe, depth;

    (void)state;
    sac_recall_curve_pick(&curve, 0.4f, 10, 100, &nprobe, &depth);
    assert_int_equal(nprobe, 2);
    assert_int_equal(depth, 20);
    sac_recall_curve_pick(&curve, 0.8f, 1000, 100, &nprobe, &depth);
    assert_in_range(nprobe, 9, 100);
    assert_in_range(depth, 1000, 4096);
    sac_recall_curve_pick(&curve, 0.95f, 10, 100, &nprobe, &depth);
    assert_int_equal(nprobe, 100);
    assert_int_equal(depth, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_asked_for_is_given),
        cmocka_unit_test(without_a_curve_the_guess_is_cautious),
        cmocka_unit_test(more_results_probe_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
