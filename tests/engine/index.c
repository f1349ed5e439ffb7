/* The index through its public interface: exact search against the ground truth of real sets, every setting
 * of every metric, and what is refused. */
#include "tests/engine/vector_set.h"

#include <math.h>

static const char *const sets[] = {"sift5k", "photosift10k", "tiny_vit"};

static double squared_distance(const float *a, const float *b, uint32_t dim)
{
    double sum = 0;

    for (uint32_t d = 0; d < dim; d++)
        sum += ((double)a[d] - b[d]) * ((double)a[d] - b[d]);
    return sum;
}

/* The hits are the true ones in their order; two of them may only change places where single precision cannot
 * tell their distances apart (never for SIFT, which is whole numbers). */
static void expect_truth(const struct vector_set *set, const sac_query *queries, uint32_t k)
{
    for (size_t q = 0; q < set->query_count; q++) {
        const float *x = set->queries + q * set->dim;

        assert_int_equal(queries[q].hit_count, k);
        for (uint32_t h = 0; h < k; h++) {
            uint64_t got = queries[q].hits[h].label, want = (uint64_t)set->truth[q * set->truth_width + h];
            double got_distance = squared_distance(x, set->base + got * set->dim, set->dim);
            double want_distance = squared_distance(x, set->base + want * set->dim, set->dim);

            if (got != want &&
                (got_distance == want_distance || fabs(got_distance - want_distance) > 1e-6 * want_distance))
                fail_msg("query %zu hit %u: label %lu at %.9g, truth %lu at %.9g", q, h, (unsigned long)got,
                         got_distance, (unsigned long)want, want_distance);
        }
    }
}

static void flat_equals_ground_truth(void **state)
{
    (void)state;
    for (size_t s = 0; s < 3; s++) {
        struct vector_set set = vector_set_load(sets[s]);
        sac_device *device = test_device("cpu");
        sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, "Flat");
        sac_query *queries = test_queries(set.queries, set.query_count, set.dim, set.truth_width);

        assert_ok(sac_index_search(index, queries, set.query_count, err));
        expect_truth(&set, queries, set.truth_width);
        test_queries_free(queries);
        sac_index_close(index);
        sac_device_close(device);
        vector_set_free(&set);
    }
}

static void all_lists_and_deep_ranking_equal_flat(void **state)
{
    static const char *const specs[] = {"IVF32,PQ32", "IVF32,PQ16x4", "OPQ32,IVF32,PQ32x5"};

    (void)state;
    for (size_t s = 0; s < 3; s++) {
        struct vector_set set = vector_set_load(sets[s]);
        sac_device *device = test_device("cpu");
        sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, specs[s]);
        sac_query *queries = test_queries(set.queries, set.query_count, set.dim, 10);

        for (size_t q = 0; q < set.query_count; q++) {
            queries[q].nprobe = 32;
            queries[q].depth = SAC_DEPTH_MAX;
        }
        assert_ok(sac_index_search(index, queries, set.query_count, err));
        expect_truth(&set, queries, 10);
        for (size_t q = 0; q < set.query_count; q++) {
            queries[q].nprobe = queries[q].depth = 0;
            queries[q].exact = true;
            queries[q].k = 10;
        }
        assert_ok(sac_index_search(index, queries, set.query_count, err));
        expect_truth(&set, queries, 10);
        test_queries_free(queries);
        sac_index_close(index);
        sac_device_close(device);
        vector_set_free(&set);
    }
}

/* ---- metrics ---------------------------------------------------------------------------------------- */

static double dot(const float *a, const float *b, uint32_t dim)
{
    double sum = 0;

    for (uint32_t d = 0; d < dim; d++)
        sum += (double)a[d] * b[d];
    return sum;
}

static double true_distance(sac_metric metric, const float *a, const float *b, uint32_t dim)
{
    if (metric == SAC_METRIC_L2)
        return dot(a, a, dim) + dot(b, b, dim) - 2 * dot(a, b, dim);
    if (metric == SAC_METRIC_IP)
        return -dot(a, b, dim);
    return 1 - dot(a, b, dim) / sqrt(dot(a, a, dim) * dot(b, b, dim));
}

static void distances_and_scores_follow_the_metric(void **state)
{
    static const char *const specs[] = {
        "Flat", "SQfp16", "SQ8", "IVF4,PQ5", "IVF4,PQ7x4,Refine(SQfp16)", "IVF4,PQ7,Refine(SQ8)"};
    enum { N = 700, DIM = 21, QUERIES = 5 };
    static float base[N * DIM], queries[QUERIES * DIM];
    static uint64_t labels[N];
    uint64_t seed = 5;
    sac_device *device = test_device("cpu");

    (void)state;
    for (size_t i = 0; i < N * DIM; i++)
        base[i] = test_random(&seed);
    for (size_t i = 0; i < QUERIES * DIM; i++)
        queries[i] = test_random(&seed);
    for (size_t i = 0; i < N; i++)
        labels[i] = 1000000007u * i;
    for (size_t s = 0; s < sizeof specs / sizeof specs[0]; s++)
        for (sac_metric metric = SAC_METRIC_L2; metric <= SAC_METRIC_COSINE; metric++) {
            double tolerance = strstr(specs[s], "fp16") != NULL  ? 2e-2
                               : strstr(specs[s], "SQ8") != NULL ? 0.1
                                                                 : 1e-4;
            sac_index *index = test_index(device, DIM, metric, specs[s]);
            sac_query *q = test_queries(queries, QUERIES, DIM, N);

            assert_ok(sac_index_train(index, N, base, 0, NULL, NULL, err));
            assert_ok(sac_index_add(index, N, base, labels, NULL, NULL, err));
            for (size_t i = 0; i < QUERIES; i++)
                q[i].nprobe = 4;
            assert_ok(sac_index_search(index, q, QUERIES, err));
            for (size_t i = 0; i < QUERIES; i++) {
                assert_int_equal(q[i].hit_count, N);
                for (uint32_t h = 0; h < N; h++) {
                    const sac_hit *hit = &q[i].hits[h];
                    double want =
                        true_distance(metric, queries + i * DIM, base + hit->label / 1000000007u * DIM, DIM);
                    assert_true(fabs(hit->distance - want) < tolerance);
                    assert_true(fabs(hit->score - (metric == SAC_METRIC_COSINE ? 1 - want : -want)) <
                                tolerance);
                    assert_true(h == 0 || hit[-1].distance < hit->distance ||
                                (hit[-1].distance == hit->distance && hit[-1].label < hit->label));
                }
            }
            test_queries_free(q);
            sac_index_close(index);
        }
    sac_device_close(device);
}

static void equal_distances_order_by_label(void **state)
{
    enum { N = 300 };
    static float base[N * 2];
    static uint64_t labels[N];
    sac_device *device = test_device("cpu");
    sac_index *index = test_index(device, 2, SAC_METRIC_L2, "Flat");
    const float origin[2] = {0, 0};
    sac_query *q = test_queries(origin, 1, 2, 10);
    size_t removed;

    (void)state;
    for (size_t i = 0; i < N; i++) {
        base[2 * i] = i < 250 ? 1 : 2;
        labels[i] = 10 * N - i;
    }
    assert_ok(sac_index_add(index, N, base, labels, NULL, NULL, err));
    assert_ok(sac_index_search(index, q, 1, err));
    for (uint32_t h = 0; h < 10; h++)
        assert_int_equal(q->hits[h].label, 10 * N - 249 + h);
    assert_ok(sac_index_delete(index, 1, &labels[249], &removed, err));
    assert_int_equal(removed, 1);
    assert_ok(sac_index_search(index, q, 1, err));
    assert_int_equal(q->hits[0].label, 10 * N - 248);
    test_queries_free(q);
    sac_index_close(index);
    sac_device_close(device);
}

static void threshold_leaves_out_what_is_below(void **state)
{
    struct vector_set set = vector_set_load("tiny_vit");
    sac_device *device = test_device("cpu");
    sac_index *index = test_index_of(device, &set, SAC_METRIC_COSINE, "IVF16,PQ48");
    sac_query *q = test_queries(set.queries, 20, set.dim, 50);
    size_t kept = 0, left_out = 0;

    (void)state;
    for (size_t i = 0; i < 20; i++) {
        q[i].score_threshold = 0.5f;
        q[i].exact = i % 2;
    }
    assert_ok(sac_index_search(index, q, 20, err));
    for (size_t i = 0; i < 20; i++) {
        kept += q[i].hit_count;
        left_out += 50 - q[i].hit_count;
        for (uint32_t h = 0; h < q[i].hit_count; h++)
            assert_true(q[i].hits[h].score >= 0.5f);
    }
    assert_true(kept > 0 && left_out > 0);
    test_queries_free(q);
    sac_index_close(index);
    sac_device_close(device);
    vector_set_free(&set);
}

/* ---- batches ---------------------------------------------------------------------------------------- */

static void vary(sac_query *q, size_t i)
{
    static const uint32_t ks[] = {1, 10, 37, 100};

    q->k = ks[i % 4];
    q->exact = i % 7 == 3;
    q->no_rescore = i % 11 == 5;
    q->nprobe = i % 3 == 0 ? 1 + (uint32_t)i % 20 : 0;
    q->recall = i % 3 == 1 ? 0.5f + 0.1f * (float)(i % 5) : 0;
    q->depth = i % 5 == 0 ? 64 : 0;
    q->score_threshold = i % 13 == 0 ? -80000 : -INFINITY;
}

static const sac_hit *hit_of(const sac_query *q, uint64_t label)
{
    for (uint32_t h = 0; h < q->hit_count; h++)
        if (q->hits[h].label == label)
            return &q->hits[h];
    return NULL;
}

/* All but what lies at the edge of a scan: lists of a batch may be scanned in another way than one query's,
 * and what comes of codes differs by rounding. */
static void a_mixed_batch_gives_what_each_query_gets_alone(void **state)
{
    size_t hits = 0, others = 0;
    struct vector_set set = vector_set_load("photosift10k");
    sac_device *device = test_device("cpu");
    sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, "IVF64,PQ32");
    sac_query *batch = test_queries(set.queries, set.query_count, set.dim, 100);
    sac_query *alone = test_queries(set.queries, set.query_count, set.dim, 100);

    (void)state;
    assert_ok(sac_index_measure(index, NULL, NULL, err));
    for (size_t i = 0; i < set.query_count; i++) {
        vary(&batch[i], i);
        vary(&alone[i], i);
        assert_ok(sac_index_search(index, &alone[i], 1, err));
    }
    assert_ok(sac_index_search(index, batch, set.query_count, err));
    for (size_t i = 0; i < set.query_count; i++) {
        assert_int_equal(batch[i].hit_count, alone[i].hit_count);
        hits += batch[i].hit_count;
        for (uint32_t h = 0; h < batch[i].hit_count; h++) {
            const sac_hit *same = hit_of(&alone[i], batch[i].hits[h].label);
            float distance = alone[i].hits[h].distance;

            others += same == NULL;
            assert_true(same == NULL || batch[i].no_rescore || batch[i].hits[h].distance == same->distance);
            assert_true(!batch[i].exact || batch[i].hits[h].distance == distance);
            assert_true(fabsf(batch[i].hits[h].distance - distance) <= 0.05f * distance);
        }
    }
    assert_true(others <= hits / 100);
    test_queries_free(batch);
    test_queries_free(alone);
    sac_index_close(index);
    sac_device_close(device);
    vector_set_free(&set);
}

/* One crowded far list, and nothing near: probing one list must still find k. */
static void short_lists_widen_the_probing(void **state)
{
    struct vector_set set = vector_set_load("sift5k");
    sac_device *device = test_device("cpu");
    sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, "IVF64,PQ16");
    sac_query *q = test_queries(set.queries, set.query_count, set.dim, 40);
    size_t removed;

    (void)state;
    assert_ok(sac_index_delete(index, set.n - 48, set.labels, &removed, err));
    assert_int_equal(removed, set.n - 48);
    for (size_t i = 0; i < set.query_count; i++)
        q[i].nprobe = 1;
    assert_ok(sac_index_search(index, q, set.query_count, err));
    for (size_t i = 0; i < set.query_count; i++) {
        assert_int_equal(q[i].hit_count, 40);
        for (uint32_t h = 0; h < 40; h++)
            assert_true(q[i].hits[h].label >= set.n - 48);
    }
    test_queries_free(q);
    sac_index_close(index);
    sac_device_close(device);
    vector_set_free(&set);
}

/* ---- changes ---------------------------------------------------------------------------------------- */

static void churn_keeps_memory_and_answers(void **state)
{
    struct vector_set set = vector_set_load("sift5k");
    sac_device *device = test_device("cpu");
    sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, "IVF32,PQ32");
    sac_query *q = test_queries(set.queries, set.query_count, set.dim, 10);
    sac_index_info before, after;
    uint64_t seed = 3;

    (void)state;
    sac_index_describe(index, &before);
    for (int round = 0; round < 20; round++) {
        uint64_t chosen[500];
        size_t count = 0, removed;
        for (size_t i = 0; i < 500; i++) {
            uint64_t label = (uint64_t)((test_random(&seed) + 1) / 2 * (float)set.n);
            if (label < set.n && sac_index_contains(index, label)) {
                chosen[count++] = label;
                assert_ok(sac_index_delete(index, 1, &label, &removed, err));
                assert_false(sac_index_contains(index, label));
            }
        }
        for (size_t i = count; i-- > 0;)
            assert_ok(sac_index_add(index, 1, set.base + chosen[i] * set.dim, &chosen[i], NULL, NULL, err));
    }
    sac_index_describe(index, &after);
    assert_int_equal(after.count, set.n);
    assert_true(after.bytes_codes <= before.bytes_codes + before.bytes_codes / 4);
    assert_true(after.bytes_vectors == before.bytes_vectors);
    for (size_t i = 0; i < set.query_count; i++) {
        q[i].nprobe = 32;
        q[i].depth = SAC_DEPTH_MAX;
    }
    assert_ok(sac_index_search(index, q, set.query_count, err));
    expect_truth(&set, q, 10);
    test_queries_free(q);
    sac_index_close(index);
    sac_device_close(device);
    vector_set_free(&set);
}

static bool count_label(void *context, uint64_t label)
{
    uint64_t *sum = context;

    *sum += label;
    return true;
}

static void labels_and_vectors_come_back(void **state)
{
    struct vector_set set = vector_set_load("sift5k");
    sac_device *device = test_device("cpu");
    sac_index *index = test_index_of(device, &set, SAC_METRIC_L2, "Flat");
    float vector[128];
    uint64_t sum = 0;

    (void)state;
    for (uint64_t label = 0; label < set.n; label += 97) {
        assert_ok(sac_index_reconstruct(index, label, vector, err));
        assert_memory_equal(vector, set.base + label * set.dim, sizeof vector);
    }
    assert_int_equal(sac_index_reconstruct(index, set.n, vector, NULL), SAC_NOT_FOUND);
    sac_index_each_label(index, count_label, &sum);
    assert_int_equal(sum, set.n * (set.n - 1) / 2);
    sac_index_close(index);
    sac_device_close(device);
    vector_set_free(&set);
}

static bool stop_soon(void *context, const sac_progress *progress)
{
    (void)context;
    return progress->done < progress->total;
}

/* ---- refusals --------------------------------------------------------------------------------------- */

static void expect_refusal(sac_status st, sac_status want, const sac_error *err, const char *word)
{
    assert_int_equal(st, want);
    if (strstr(err->text, word) == NULL)
        fail_msg("'%s' does not mention '%s'", err->text, word);
}

static void bad_calls_are_refused_by_name(void **state)
{
    const float good[4] = {1, 2, 3, 4}, bad[4] = {1, NAN, 3, 4}, huge[4] = {1e30f, 0, 0, 0}, zero[4] = {0};
    const uint64_t labels[2] = {7, 7}, other = 8;
    sac_device *device = test_device("cpu");
    sac_index *index = test_index(device, 4, SAC_METRIC_COSINE, "Flat"), *none;
    sac_index_params params = {.dim = 5000, .spec = "Flat"};
    sac_query *q = test_queries(good, 1, 4, 1);
    sac_error err = {0};
    float twice[8] = {1, 2, 3, 4, 5, 6, 7, 8};

    (void)state;
    expect_refusal(sac_index_create(device, &params, &none, &err), SAC_INVALID_ARGUMENT, &err, "4096");
    assert_null(none);
    expect_refusal(sac_index_add(index, 2, twice, labels, NULL, NULL, &err), SAC_ALREADY_EXISTS, &err,
                   "twice");
    expect_refusal(sac_index_add(index, 1, bad, labels, NULL, NULL, &err), SAC_INVALID_ARGUMENT, &err,
                   "finite");
    expect_refusal(sac_index_add(index, 1, huge, labels, NULL, NULL, &err), SAC_INVALID_ARGUMENT, &err,
                   "1e36");
    expect_refusal(sac_index_add(index, 1, zero, labels, NULL, NULL, &err), SAC_INVALID_ARGUMENT, &err,
                   "length 0");
    assert_int_equal(sac_index_add(index, 1, good, labels, stop_soon, NULL, &err), SAC_CANCELLED);
    expect_refusal(sac_index_add(index, 1, good, labels, NULL, NULL, &err), SAC_ALREADY_EXISTS, &err,
                   "label 7");
    expect_refusal(sac_index_train(index, 1, good, 0, NULL, NULL, &err), SAC_INVALID_ARGUMENT, &err, "again");
    q->k = 1001;
    expect_refusal(sac_index_search(index, q, 1, &err), SAC_INVALID_ARGUMENT, &err, "1000");
    q->k = 1;
    q->recall = 1.5f;
    expect_refusal(sac_index_search(index, q, 1, &err), SAC_INVALID_ARGUMENT, &err, "recall");
    q->recall = 0;
    q->vector = bad;
    expect_refusal(sac_index_search(index, q, 1, &err), SAC_INVALID_ARGUMENT, &err, "query 0");
    sac_index_close(index);

    index = test_index(device, 4, SAC_METRIC_L2, "IVF16,PQ4");
    q->vector = good;
    expect_refusal(sac_index_search(index, q, 1, &err), SAC_INVALID_ARGUMENT, &err, "trained");
    expect_refusal(sac_index_add(index, 1, good, &other, NULL, NULL, &err), SAC_INVALID_ARGUMENT, &err,
                   "trained");
    expect_refusal(sac_index_train(index, 1, good, 0, NULL, NULL, &err), SAC_INVALID_ARGUMENT, &err, "256");
    sac_index_close(index);
    test_queries_free(q);
    sac_device_close(device);
}

static void an_empty_index_answers_nothing(void **state)
{
    const float x[4] = {1, 2, 3, 4};
    sac_device *device = test_device("cpu");
    sac_index *index = test_index(device, 4, SAC_METRIC_IP, "auto");
    sac_query *q = test_queries(x, 1, 4, 5);
    sac_index_info info;
    const uint64_t label = UINT64_MAX;

    (void)state;
    assert_ok(sac_index_search(index, q, 1, err));
    assert_int_equal(q->hit_count, 0);
    assert_false(sac_index_trained(index));
    assert_ok(sac_index_add(index, 1, x, &label, NULL, NULL, err));
    assert_true(sac_index_trained(index));
    assert_ok(sac_index_search(index, q, 1, err));
    assert_int_equal(q->hit_count, 1);
    assert_true(q->hits[0].label == label && q->hits[0].score == 30 && q->hits[0].distance == -30);
    sac_index_describe(index, &info);
    assert_string_equal(info.spec, "Flat");
    test_queries_free(q);
    sac_index_close(index);
    sac_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flat_equals_ground_truth),
        cmocka_unit_test(all_lists_and_deep_ranking_equal_flat),
        cmocka_unit_test(distances_and_scores_follow_the_metric),
        cmocka_unit_test(equal_distances_order_by_label),
        cmocka_unit_test(threshold_leaves_out_what_is_below),
        cmocka_unit_test(a_mixed_batch_gives_what_each_query_gets_alone),
        cmocka_unit_test(short_lists_widen_the_probing),
        cmocka_unit_test(churn_keeps_memory_and_answers),
        cmocka_unit_test(labels_and_vectors_come_back),
        cmocka_unit_test(bad_calls_are_refused_by_name),
        cmocka_unit_test(an_empty_index_answers_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
