/* Searching among chosen labels: exact search with a filter against a plain loop over the same labels, lists
 * against exact search, k results whenever k rows match, and a batch against each query alone. */
#include "tests/engine/vector_set.h"

#include <math.h>

enum { K = 20, QUERIES = 12 };

/* Every `step`-th label, `count` of them, with some that nobody holds and some twice. */
static uint64_t *labels_every(size_t n, size_t step, size_t *count)
{
    uint64_t *labels = calloc(2 * n / step + 8, sizeof *labels);

    *count = 0;
    for (size_t i = step / 2; i < n; i += step) {
        labels[(*count)++] = i;
        if (i % 7 == 0)
            labels[(*count)++] = i % 14 == 0 ? i : n + i;
    }
    return labels;
}

static bool among(const uint64_t *labels, size_t count, uint64_t label)
{
    for (size_t i = 0; i < count; i++)
        if (labels[i] == label)
            return true;
    return false;
}

/* The true nearest of those that are allowed, from the complete order of all of them. */
static void expect_nearest(const struct vector_set *set, const sac_query *q, const uint64_t *labels,
                           size_t count)
{
    double last = -1;
    size_t nearer = 0;

    for (uint32_t h = 0; h < q->hit_count; h++) {
        assert_true(among(labels, count, q->hits[h].label));
        assert_true(
            h == 0 || q->hits[h - 1].distance < q->hits[h].distance ||
            (q->hits[h - 1].distance == q->hits[h].distance && q->hits[h - 1].label < q->hits[h].label));
        last = q->hits[h].distance;
    }
    for (uint64_t i = 0; i < set->n; i++) {
        double distance = 0;
        if (!among(labels, count, i))
            continue;
        for (uint32_t d = 0; d < set->dim; d++)
            distance += pow((double)q->vector[d] - set->base[i * set->dim + d], 2);
        nearer += distance < last;
    }
    assert_true(nearer < q->hit_count || q->hit_count == 0);
}

static sac_query *ask(const sac_index *index, const struct vector_set *set, const uint64_t *labels,
                      size_t count, bool exact)
{
    sac_query *queries = test_queries(set->queries, QUERIES, set->dim, K);

    for (size_t q = 0; q < QUERIES; q++) {
        queries[q].allow = labels;
        queries[q].allow_count = count;
        queries[q].exact = exact;
    }
    assert_ok(sac_index_search(index, queries, QUERIES, err));
    return queries;
}

static void only_what_is_allowed_is_found(void **state)
{
    static const char *const specs[] = {"Flat", "IVF100,PQ32"};
    static const size_t steps[] = {1, 2, 9, 130, 1700, 6000};
    struct vector_set set = vector_set_load("photosift10k");
    sac_device *device = test_device("cpu");

    (void)state;
    for (size_t s = 0; s < 2; s++) {
        sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, specs[s]);
        for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
            size_t count, matching = (set.n - steps[i] / 2 + steps[i] - 1) / steps[i];
            uint64_t *labels = labels_every(set.n, steps[i], &count);
            sac_query *exact = ask(index, &set, labels, count, true);
            sac_query *found = ask(index, &set, labels, count, false);
            size_t common = 0;

            for (size_t q = 0; q < QUERIES; q++) {
                assert_int_equal(exact[q].hit_count, matching < K ? matching : K);
                assert_int_equal(found[q].hit_count, exact[q].hit_count);
                if (q < 2)
                    expect_nearest(&set, &exact[q], labels, count);
                for (uint32_t h = 0; h < found[q].hit_count; h++) {
                    assert_true(among(labels, count, found[q].hits[h].label));
                    for (uint32_t w = 0; w < exact[q].hit_count; w++)
                        common += found[q].hits[h].label == exact[q].hits[w].label;
                }
            }
            assert_true(common >= QUERIES * exact[0].hit_count * 85 / 100);
            test_queries_free(exact);
            test_queries_free(found);
            free(labels);
        }
        sac_index_close(index);
    }
    sac_device_close(device);
    vector_set_free(&set);
}

/* A filter that lets almost nothing through where the query looks: the search goes on until k are found. */
static void k_results_come_back_from_afar(void **state)
{
    struct vector_set set = vector_set_load("photosift10k");
    sac_device *device = test_device("cpu");
    sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, "IVF100,PQ16");
    uint64_t *far = calloc(set.n, sizeof *far);
    sac_query *order = test_queries(set.queries, 1, set.dim, 1000);
    size_t count = 0;

    (void)state;
    order[0].exact = true;
    assert_ok(sac_index_search(index, order, 1, err));
    for (uint64_t i = 0; i < set.n; i++) { /* all but the nearest thousand, and of those the last */
        bool near = false;
        for (uint32_t h = 0; h < 999; h++)
            near = near || order[0].hits[h].label == i;
        if (!near)
            far[count++] = i;
    }
    for (int rescore = 0; rescore < 2; rescore++) {
        sac_query *q = test_queries(set.queries, 1, set.dim, K);
        q[0].allow = far;
        q[0].allow_count = count;
        q[0].nprobe = 1;
        q[0].no_rescore = !rescore;
        assert_ok(sac_index_search(index, q, 1, err));
        assert_int_equal(q[0].hit_count, K);
        for (uint32_t h = 0; h < K; h++)
            assert_true(among(far, count, q[0].hits[h].label));
        test_queries_free(q);
    }
    test_queries_free(order);
    free(far);
    sac_index_close(index);
    sac_device_close(device);
    vector_set_free(&set);
}

static void a_batch_of_filters_is_its_queries_alone(void **state)
{
    struct vector_set set = vector_set_load("photosift10k");
    sac_device *device = test_device("cpu");
    sac_index *index = test_index_of(device, &set, SAC_METRIC_COSINE, "IVF60,PQ32x4");
    sac_query *together = test_queries(set.queries, QUERIES, set.dim, K);
    uint64_t *labels[4];
    size_t counts[4];

    (void)state;
    for (size_t f = 0; f < 4; f++)
        labels[f] = labels_every(set.n, f * f + 1, &counts[f]);
    for (size_t q = 0; q < QUERIES; q++) {
        together[q].allow = q % 5 == 4 ? NULL : labels[q % 5];
        together[q].allow_count = q % 5 == 4 ? 0 : counts[q % 5];
        together[q].exact = q % 7 == 6;
        together[q].no_rescore = q % 3 == 2;
    }
    assert_ok(sac_index_search(index, together, QUERIES, err));
    for (size_t q = 0; q < QUERIES; q++) {
        sac_query *alone = test_queries(together[q].vector, 1, set.dim, K);
        sac_hit *hits = alone[0].hits;
        alone[0] = together[q];
        alone[0].hits = hits;
        assert_ok(sac_index_search(index, alone, 1, err));
        assert_int_equal(alone[0].hit_count, together[q].hit_count);
        assert_memory_equal(hits, together[q].hits, alone[0].hit_count * sizeof *hits);
        test_queries_free(alone);
    }
    test_queries_free(together);
    for (size_t f = 0; f < 4; f++)
        free(labels[f]);
    sac_index_close(index);
    sac_device_close(device);
    vector_set_free(&set);
}

static void deleted_vectors_are_not_allowed(void **state)
{
    struct vector_set set = vector_set_load("sift5k");
    sac_device *device = test_device("cpu");
    sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, "IVF20,PQ16");

    (void)state;
    assert_ok(sac_index_delete(index, set.n - 30, set.labels + 30, NULL, err));
    for (size_t count = 10; count <= set.n; count += set.n - 10) {
        sac_query *q = ask(index, &set, set.labels, count, false);
        for (size_t i = 0; i < QUERIES; i++) {
            assert_int_equal(q[i].hit_count, count == 10 ? 10 : K);
            for (uint32_t h = 0; h < q[i].hit_count; h++)
                assert_true(q[i].hits[h].label < 30);
        }
        test_queries_free(q);
    }
    sac_query *none = ask(index, &set, set.labels, 0, false);
    assert_int_equal(none[0].hit_count, 0);
    none[0].allow = NULL;
    none[0].allow_count = 1;
    assert_int_equal(sac_index_search(index, none, 1, NULL), SAC_INVALID_ARGUMENT);
    test_queries_free(none);
    sac_index_close(index);
    sac_device_close(device);
    vector_set_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_is_allowed_is_found),
        cmocka_unit_test(k_results_come_back_from_afar),
        cmocka_unit_test(a_batch_of_filters_is_its_queries_alone),
        cmocka_unit_test(deleted_vectors_are_not_allowed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
