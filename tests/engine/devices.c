/* Whole searches on the device under test (SACCADE_TEST_DEVICE, else "cpu") beside the plain C twins: an
 * index is made on one, carried over in its file, and both are asked the same in every way that there is.
 * What is re-ranked must come back the same; distances of codes may differ as far as the scan's contract
 * allows. */
#include "engine/calibrate.h"
#include "tests/engine/vector_set.h"

#include <math.h>
#include <unistd.h>

enum { N = 300, DIM = 12, QUERIES = 5, K = 7 };

static const char path[] = "/tmp/saccade_test_devices.index";

struct pair {
    sac_device *ref, *device;
    sac_index *want, *got;
    float base[2 * N * DIM], queries[QUERIES * DIM];
    uint64_t labels[2 * N];
};

/* Clusters, some vectors twice, so that there are ties. */
static void fill(struct pair *p, uint64_t seed)
{
    for (size_t i = 0; i < 2 * N; i++) {
        p->labels[i] = i * 7919 % 100003;
        for (size_t d = 0; d < DIM; d++)
            p->base[i * DIM + d] =
                (float)(i % 10 * (d + 1) % 5) + roundf(64 * 0.7f * test_random(&seed)) / 64;
        if (i % 9 == 8)
            memcpy(p->base + i * DIM, p->base + (i - 1) * DIM, DIM * sizeof(float));
    }
    memcpy(p->queries, p->base, sizeof p->queries);
    for (size_t i = 0; i < QUERIES * DIM; i++)
        p->queries[i] += roundf(64 * 0.2f * test_random(&seed)) / 64;
}

/* Made on `maker`, loaded on both. */
static struct pair *make(bool by_ref, sac_metric metric, const char *spec)
{
    struct pair *p = calloc(1, sizeof *p);
    sac_device_options options;
    sac_index *made;

    fill(p, 17);
    sac_device_options_init(&options);
    options.name = "ref";
    assert_ok(sac_device_open(&options, &p->ref, err));
    p->device = test_device("cpu");
    made = test_index(by_ref ? p->ref : p->device, DIM, metric, spec);
    assert_ok(sac_index_train(made, N, p->base, 0, NULL, NULL, err));
    assert_ok(sac_index_add(made, N, p->base, p->labels, NULL, NULL, err));
    assert_ok(sac_index_save(made, path, true, err));
    assert_ok(sac_index_load(p->ref, path, NULL, NULL, &p->want, err));
    if (by_ref)
        assert_ok(sac_index_load(p->device, path, NULL, NULL, &p->got, err));
    else
        p->got = made;
    if (by_ref)
        sac_index_close(made);
    unlink(path);
    return p;
}

static void discard(struct pair *p)
{
    sac_index_close(p->want);
    sac_index_close(p->got);
    sac_device_close(p->device);
    sac_device_close(p->ref);
    free(p);
}

static void expect_same_hits(const sac_query *want, const sac_query *got)
{
    assert_int_equal(got->hit_count, want->hit_count);
    for (uint32_t h = 0; h < want->hit_count; h++) {
        float tolerance = (want->no_rescore ? 0.05f : 1e-4f) * fmaxf(1, fabsf(want->hits[h].distance));
        if (!(fabsf(got->hits[h].distance - want->hits[h].distance) <= tolerance))
            fail_msg("hit %u: %g, wanted %g", h, (double)got->hits[h].distance,
                     (double)want->hits[h].distance);
        if (!want->no_rescore && got->hits[h].label != want->hits[h].label &&
            got->hits[h].distance == want->hits[h].distance)
            fail_msg("hit %u: label %lu, wanted %lu", h, (unsigned long)got->hits[h].label,
                     (unsigned long)want->hits[h].label);
    }
}

/* Both are asked for the same; the device twice more, because what it has done before it may do otherwise. */
static void ask_both(const struct pair *p, size_t n, const sac_query *settings)
{
    sac_query *want = test_queries(p->queries, n, DIM, settings->k);
    sac_query *got = test_queries(p->queries, n, DIM, settings->k);

    for (size_t i = 0; i < n; i++) {
        sac_hit *want_hits = want[i].hits, *got_hits = got[i].hits;
        const float *vector = want[i].vector;
        want[i] = got[i] = *settings;
        want[i].vector = got[i].vector = vector;
        want[i].hits = want_hits;
        got[i].hits = got_hits;
        if (settings->allow == p->labels && i % 2 == 1) /* a filter of its own, and some with none */
            want[i].allow = got[i].allow = i % 4 == 1 ? p->labels + 1 : NULL;
        if (want[i].allow == NULL)
            want[i].allow_count = got[i].allow_count = 0;
    }
    assert_ok(sac_index_search(p->want, want, n, err));
    for (int time = 0; time < 3; time++) {
        assert_ok(sac_index_search(p->got, got, n, err));
        for (size_t i = 0; i < n; i++)
            expect_same_hits(&want[i], &got[i]);
        for (size_t i = 0; i + 1 < n; i++) { /* other queries in the same places */
            sac_query swapped = want[i];
            want[i] = want[i + 1];
            want[i + 1] = swapped;
            got[i].vector = want[i].vector;
            got[i].allow = want[i].allow;
            got[i].allow_count = want[i].allow_count;
            got[i + 1].vector = want[i + 1].vector;
            got[i + 1].allow = want[i + 1].allow;
            got[i + 1].allow_count = want[i + 1].allow_count;
        }
    }
    for (size_t i = 0; i < n; i++) /* test_queries_free() looks at the first */
        if (want[i].hits < want[0].hits)
            want[0].hits = want[i].hits;
    test_queries_free(want);
    test_queries_free(got);
}

static void ask_everything(const struct pair *p)
{
    sac_query settings;

    for (int way = 0; way < 8; way++) {
        sac_query_init(&settings);
        settings.k = way == 1 ? 1 : way == 2 ? 60 : K;
        settings.nprobe = way == 5 ? 1 : 3;
        settings.depth = way == 3 ? 250 : 80;
        settings.exact = way == 4;
        settings.no_rescore = way == 6;
        if (way == 7) {
            settings.allow = p->labels;
            settings.allow_count = N / 2;
        }
        ask_both(p, 1, &settings);
        ask_both(p, way % 2 == 0 ? QUERIES : 2, &settings);
    }
}

static void a_device_answers_as_the_twins_do(void **state)
{
    static const char *const specs[] = {"IVF6,PQ6x4", "Flat", "OPQ4,IVF6,PQ4x4,Refine(SQ8)",
                                        "IVF5,PQ5x5,Refine(SQfp16)"};

    (void)state;
    for (size_t s = 0; s < sizeof specs / sizeof specs[0]; s++) {
        struct pair *p = make(s != 0, (sac_metric)(s % 3), specs[s]);
        ask_everything(p);
        discard(p);
    }
}

static void it_follows_changes(void **state)
{
    struct pair *p = make(true, SAC_METRIC_L2, "IVF6,PQ6x4");
    sac_query settings;
    float x[DIM], y[DIM];

    (void)state;
    sac_query_init(&settings);
    settings.k = 12;
    settings.nprobe = 6;
    settings.depth = 200;
    for (int step = 0; step < 4; step++) {
        uint64_t *labels = p->labels + N + step * 70;
        for (int i = 0; i < 2; i++) {
            sac_index *index = i == 0 ? p->want : p->got;
            assert_ok(sac_index_add(index, 70, p->base + (N + step * 70) * DIM, labels, NULL, NULL, err));
            assert_ok(sac_index_delete(index, 60, p->labels + step * 80, NULL, err));
        }
        ask_both(p, 1, &settings);
        settings.exact = step % 2 == 0;
        ask_both(p, 3, &settings);
        settings.exact = false;
        assert_ok(sac_index_reconstruct(p->want, labels[3], x, err));
        assert_ok(sac_index_reconstruct(p->got, labels[3], y, err));
        assert_memory_equal(x, y, sizeof x);
    }
    discard(p);
}

static void it_measures_and_keeps_what_it_holds(void **state)
{
    struct pair *p = make(true, SAC_METRIC_L2, "IVF6,PQ6x4");
    sac_recall_point curve[64], loaded_curve[64];
    sac_index *loaded;
    sac_query settings;
    size_t points;

    (void)state;
    assert_ok(sac_index_measure(p->got, NULL, NULL, err));
    points = sac_index_recall_curve(p->got, curve, 64);
    assert_true(points > 0 && curve[points - 1].recall > 0.9f);
    assert_ok(sac_index_save(p->got, path, true, err));
    assert_ok(sac_index_load(p->device, path, NULL, NULL, &loaded, err));
    unlink(path);
    sac_index_close(p->got);
    p->got = loaded;
    assert_int_equal(sac_index_recall_curve(loaded, loaded_curve, 64), points);
    sac_query_init(&settings);
    settings.k = K;
    settings.nprobe = 6;
    settings.depth = 100;
    ask_both(p, 3, &settings);
    discard(p);
}

/* Where a device has both schedules, either may be taken for any batch. */
static void lists_are_scanned_either_way(void **state)
{
    struct pair *p = make(true, SAC_METRIC_COSINE, "OPQ4,IVF6,PQ4x5");
    sac_workspace *ws;
    sac_error error;

    (void)state;
    if ((sac_device_ops(p->device)->pq_scan_schedules & 1u << SAC_LIST_MAJOR) != 0) {
        p->got->shards[0].ivf->list_major_from = 0;
        ask_everything(p);
        assert_ok(sac_workspace_borrow(&p->got->shards[0].workspaces, &ws, &error));
        assert_int_equal(sac_index_calibrate(p->got, ws), SAC_OK);
        sac_workspace_give_back(&p->got->shards[0].workspaces, ws);
        assert_true(p->got->shards[0].ivf->list_major_from > 0);
    }
    discard(p);
}

static void assert_near(const sac_query *got, const sac_query *want, float tolerance)
{
    assert_int_equal(got->hit_count, want->hit_count);
    for (uint32_t h = 0; h < want->hit_count; h++) {
        assert_true(tolerance > 0 || got->hits[h].label == want->hits[h].label);
        assert_true(fabsf(got->hits[h].distance - want->hits[h].distance) <= tolerance);
    }
}

/* A batch that is scanned list by list, more of it than a tile that is scanned query by query holds, against
 * each query alone, by distances that come from the codes. On the CPU they do not depend on what else is in
 * the batch, to the bit. */
static void a_batch_by_lists_answers_as_each_query_alone(void **state)
{
    enum { ROWS = 1500, WIDE = 16, ASKED = 600, ASKED_ELSEWHERE = 20 };
    static float base[ROWS * WIDE];
    static uint64_t labels[ROWS];
    sac_device *device = test_device("cpu");
    sac_index *index = test_index(device, WIDE, SAC_METRIC_L2, "IVF12,PQ8");
    bool host = sac_device_host_visible(device);
    size_t asked = host ? ASKED : ASKED_ELSEWHERE;
    uint64_t seed = 11;
    sac_query *alone, *batch, *part;

    (void)state;
    for (size_t i = 0; i < ROWS * WIDE; i++)
        base[i] = test_random(&seed);
    for (uint64_t i = 0; i < ROWS; i++)
        labels[i] = i;
    assert_ok(sac_index_train(index, ROWS, base, 0, NULL, NULL, err));
    assert_ok(sac_index_add(index, ROWS, base, labels, NULL, NULL, err));
    alone = test_queries(base, asked, WIDE, 5);
    batch = test_queries(base, asked, WIDE, 5);
    part = test_queries(base, asked, WIDE, 5);
    for (size_t q = 0; q < asked; q++) {
        alone[q].nprobe = batch[q].nprobe = part[q].nprobe = 1 + (uint32_t)q % 7;
        alone[q].no_rescore = batch[q].no_rescore = part[q].no_rescore = true;
    }
    index->shards[0].ivf->list_major_from = INFINITY;
    for (size_t q = 0; q < asked; q++)
        assert_ok(sac_index_search(index, &alone[q], 1, err));
    if ((sac_device_ops(device)->pq_scan_schedules & 1u << SAC_LIST_MAJOR) != 0)
        index->shards[0].ivf->list_major_from = 0;
    assert_ok(sac_index_search(index, batch, asked, err));
    assert_ok(sac_index_search(index, part, asked / 3, err));
    assert_ok(sac_index_search(index, part + asked / 3, asked - asked / 3, err));
    for (size_t q = 0; q < asked; q++) {
        assert_near(&batch[q], &alone[q], host ? 0.05f : 0.02f);
        assert_near(&part[q], &batch[q], host ? 0 : 0.02f);
    }
    test_queries_free(alone);
    test_queries_free(batch);
    test_queries_free(part);
    sac_index_close(index);
    sac_device_close(device);
}

/* Where one component dwarfs the others, all that tells neighbours apart is less than what a query's table is
 * rounded by: the nearest must be found all the same, by either schedule. */
static void a_component_that_dwarfs_the_others_hides_nobody(void **state)
{
    enum { ROWS = 1500, WIDE = 8, STEP = 50 };
    static float base[ROWS][WIDE];
    static uint64_t labels[ROWS];
    sac_device *device = test_device("cpu");
    sac_index *index = test_index(device, WIDE, SAC_METRIC_L2, "IVF4,PQ4");
    sac_query *q;

    (void)state;
    for (uint64_t i = 0; i < ROWS; i++) {
        labels[i] = i;
        base[i][0] = (float)(2 * i);
        for (unsigned d = 1; d < WIDE; d++)
            base[i][d] = (float)((i * 2654435761u >> d) % 7);
    }
    assert_ok(sac_index_train(index, ROWS, base[0], 0, NULL, NULL, err));
    assert_ok(sac_index_add(index, ROWS, base[0], labels, NULL, NULL, err));
    for (int schedule = 0; schedule < 2; schedule++) {
        bool by_list = (sac_device_ops(device)->pq_scan_schedules & 1u << SAC_LIST_MAJOR) != 0;
        index->shards[0].ivf->list_major_from = schedule == 1 && by_list ? 0 : INFINITY;
        for (uint64_t i = 0; i < ROWS; i += STEP) {
            q = test_queries(base[i], 1, WIDE, 1);
            q->nprobe = 2;
            q->depth = 16;
            assert_ok(sac_index_search(index, q, 1, err));
            assert_int_equal(q->hits[0].label, i);
            test_queries_free(q);
        }
    }
    sac_index_close(index);
    sac_device_close(device);
}

/* More than a device has room for: what is added comes in chunks, and the last pages stay on the host. */
static void what_does_not_fit_stays_on_the_host(void **state)
{
    enum { ROWS = 1800, WIDE = 1024 };
    sac_device_options options;
    sac_device *device;
    sac_index_info info;
    float *x = calloc((size_t)ROWS * WIDE, sizeof *x);
    uint64_t seed = 3, labels[ROWS];
    sac_query *q = test_queries(x + (ROWS - 3) * WIDE, 2, WIDE, 3);
    sac_index *index;

    (void)state;
    for (size_t i = 0; i < (size_t)ROWS * WIDE; i++)
        x[i] = test_random(&seed);
    for (uint64_t i = 0; i < ROWS; i++)
        labels[i] = i;
    sac_device_options_init(&options);
    options.name = test_device_name("cpu");
    options.memory = 7 << 20;
    assert_ok(sac_device_open(&options, &device, err));
    index = test_index(device, WIDE, SAC_METRIC_L2, "Flat");
    assert_ok(sac_index_add(index, ROWS, x, labels, NULL, NULL, err));
    sac_index_describe(index, &info);
    assert_true((info.bytes_vectors_host > 0) == !sac_device_host_visible(device));
    for (int time = 0; time < 3; time++) {
        assert_ok(sac_index_search(index, q, 2, err));
        for (uint64_t i = 0; i < 2; i++) {
            assert_int_equal(q[i].hits[0].label, ROWS - 3 + i);
            assert_true(q[i].hits[0].distance == 0);
        }
    }
    test_queries_free(q);
    sac_index_close(index);
    sac_device_close(device);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_answers_as_the_twins_do),
        cmocka_unit_test(lists_are_scanned_either_way),
        cmocka_unit_test(a_batch_by_lists_answers_as_each_query_alone),
        cmocka_unit_test(a_component_that_dwarfs_the_others_hides_nobody),
        cmocka_unit_test(it_follows_changes),
        cmocka_unit_test(it_measures_and_keeps_what_it_holds),
        cmocka_unit_test(what_does_not_fit_stays_on_the_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
