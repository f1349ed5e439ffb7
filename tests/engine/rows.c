/* Queries whose vectors lie in device memory, on the device under test (SACCADE_TEST_DEVICE, else "cpu"):
 * they find what the same vectors find that come from the host, in every way that there is to ask. */
#include "engine/index_state.h"
#include "tests/engine/made_rows.h"

#include <math.h>
#include <unistd.h>

enum { N = 300, DIM = 12, QUERIES = 40, K = 9, ALLOWED = 5000 };

struct test {
    sac_device *cpu, *device;
    sac_index *index;
    float base[N * DIM], queries[QUERIES * DIM];
    uint64_t labels[N];
    uint64_t some[ALLOWED]; /* so many that they become a bitmap; a few of them are held */
};

static void scale(float *x)
{
    float sum = 0;

    for (size_t d = 0; d < DIM; d++)
        sum += x[d] * x[d];
    for (size_t d = 0; d < DIM; d++)
        x[d] /= sqrtf(sum);
}

/* Clusters, some vectors twice, so that there are ties. */
static void fill(struct test *t)
{
    uint64_t seed = 29;

    for (size_t i = 0; i < N; i++) {
        t->labels[i] = i * 7919 % 100003;
        for (size_t d = 0; d < DIM; d++)
            t->base[i * DIM + d] = (float)(i % 10 * (d + 1) % 5) - 2 + test_random(&seed);
        if (i % 9 == 8)
            memcpy(t->base + i * DIM, t->base + (i - 1) * DIM, DIM * sizeof(float));
    }
    memcpy(t->queries, t->base, sizeof t->queries);
    for (size_t i = 0; i < QUERIES * DIM; i++)
        t->queries[i] += 0.3f * test_random(&seed);
    for (size_t i = 0; i < QUERIES; i++)
        scale(t->queries + i * DIM);
    for (size_t i = 0; i < ALLOWED; i++)
        t->some[i] = i < 30 ? t->labels[i * 7] : 200000 + i;
}

/* Made on the CPU and carried over in its file: training is long where kernels run on the host. */
static struct test *make(sac_metric metric, const char *spec)
{
    struct test *t = calloc(1, sizeof *t);
    char path[64];
    sac_index *made;

    snprintf(path, sizeof path, "/tmp/saccade_test_rows_%d.index", (int)getpid());
    fill(t);
    t->cpu = test_device_exactly("cpu");
    t->device = test_device("cpu");
    made = test_index(t->cpu, DIM, metric, spec);
    assert_ok(sac_index_train(made, N, t->base, 0, NULL, NULL, err));
    assert_ok(sac_index_add(made, N, t->base, t->labels, NULL, NULL, err));
    assert_ok(sac_index_save(made, path, true, err));
    sac_index_close(made);
    assert_ok(sac_index_load(t->device, path, NULL, NULL, &t->index, err));
    unlink(path);
    return t;
}

static void discard(struct test *t)
{
    sac_index_close(t->index);
    sac_device_close(t->device);
    sac_device_close(t->cpu);
    free(t);
}

/* ---- asking ----------------------------------------------------------------------------------------- */

/* Cosine scales what comes from the host once more, which may change a last bit. */
static void expect_same_hits(const sac_query *want, const sac_query *got, sac_metric metric)
{
    float tolerance = metric == SAC_METRIC_COSINE ? 1e-6f : 0;

    assert_int_equal(got->hit_count, want->hit_count);
    for (uint32_t h = 0; h < want->hit_count; h++) {
        if (!(fabsf(got->hits[h].distance - want->hits[h].distance) <= tolerance))
            fail_msg("hit %u: %g, wanted %g", h, (double)got->hits[h].distance,
                     (double)want->hits[h].distance);
        if (tolerance == 0)
            assert_int_equal(got->hits[h].label, want->hits[h].label);
    }
}

/* n queries from the first-th on, each as `set` makes it. */
static void ask(const struct test *t, size_t first, size_t n,
                void (*set)(const struct test *t, size_t i, int way, sac_query *q), int way)
{
    sac_query *want = test_queries(t->queries + first * DIM, n, DIM, 60);
    sac_query *got = test_queries(t->queries + first * DIM, n, DIM, 60);
    struct made_rows made = make_rows(t->device, n, DIM, t->queries + first * DIM, 0);

    for (size_t i = 0; i < n; i++) {
        set(t, first + i, way, &want[i]);
        set(t, first + i, way, &got[i]);
        got[i].vector = NULL;
    }
    assert_ok(sac_index_search_rows(t->index, got, n, &made.rows, err));
    assert_ok(sac_index_search(t->index, want, n, err));
    for (size_t i = 0; i < n; i++)
        expect_same_hits(&want[i], &got[i], t->index->metric);
    free_rows(&made);
    test_queries_free(want);
    test_queries_free(got);
}

enum { WAYS = 8 };

static void set_way(const struct test *t, size_t i, int way, sac_query *q)
{
    (void)i;
    q->k = way == 1 ? 1 : way == 2 ? 60 : K; /* 60: the lists probed first hold too little */
    q->nprobe = way == 2 || way == 5 ? 1 : 3;
    q->depth = way == 3 ? 250 : 80;
    q->exact = way == 4;
    q->no_rescore = way == 6;
    if (way == 7) { /* lists are widened until 9 of 30 are found */
        q->nprobe = 1;
        q->allow = t->some;
        q->allow_count = ALLOWED;
    }
}

/* Neighbours differ, so that a pass takes rows from here and there. */
static void set_mixed(const struct test *t, size_t i, int way, sac_query *q)
{
    set_way(t, i, (int)(i * i + (size_t)way) % WAYS, q);
    if (i % 5 == 3) { /* compared one by one */
        q->allow = t->labels;
        q->allow_count = 20 + i;
    }
}

static const struct {
    sac_metric metric;
    const char *spec;
} kinds[] = {
    {SAC_METRIC_L2, "Flat"},
    {SAC_METRIC_COSINE, "IVF6,PQ6x4"},
    {SAC_METRIC_IP, "OPQ4,IVF6,PQ4x4,Refine(SQ8)"},
    {SAC_METRIC_L2, "IVF7,PQ5x5,Refine(SQfp16)"}, /* coded with 15 components */
};

static void rows_find_what_vectors_find(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct test *t = make(kinds[i].metric, kinds[i].spec);
        for (int way = 0; way < WAYS; way++) {
            for (size_t one = 0; one < 3; one++) /* plain, recorded, played: with rows of others, elsewhere */
                ask(t, one, 1, set_way, way);
            ask(t, 3, 5, set_way, way);
        }
        for (int way = 0; way < 2; way++)
            ask(t, 0, QUERIES, set_mixed, way);
        discard(t);
    }
}

/* Rows that are no numbers stop the call, not the device. */
static void rows_without_length_are_told(void **state)
{
    float x[2 * DIM];

    (void)state;
    for (size_t i = 0; i < 2 * DIM; i++)
        x[i] = i < DIM ? NAN : i % 2 == 0 ? INFINITY : 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct test *t = make(kinds[i].metric, kinds[i].spec);
        for (int way = 0; way < WAYS; way++) {
            struct made_rows made = make_rows(t->device, 2, DIM, x, 2);
            sac_query *q = test_queries(x, 2, DIM, 60);
            sac_error error = {0};

            for (size_t j = 0; j < 2; j++)
                set_way(t, j, way, &q[j]);
            assert_int_equal(sac_index_search_rows(t->index, q, 2, &made.rows, &error), SAC_INTERNAL);
            assert_non_null(strstr(error.text, "the model's weights are unusable"));
            free_rows(&made);
            test_queries_free(q);
        }
        ask(t, 0, 2, set_way, 0);
        discard(t);
    }
}

/* An index without vectors finds nothing, and waits for the rows all the same. */
static void an_empty_index_takes_them_too(void **state)
{
    struct test *t = make(SAC_METRIC_L2, "Flat");
    struct made_rows made = make_rows(t->device, 3, DIM, t->queries, 0);
    sac_query *q = test_queries(t->queries, 3, DIM, K);

    (void)state;
    assert_ok(sac_index_delete(t->index, N, t->labels, NULL, err));
    assert_ok(sac_index_search_rows(t->index, q, 3, &made.rows, err));
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(q[i].hit_count, 0);
    free_rows(&made);
    test_queries_free(q);
    discard(t);
}

/* A host's rows are vectors like any other. */
static void an_index_takes_rows_of_the_host(void **state)
{
    struct test *t = make(SAC_METRIC_IP, "Flat");
    struct made_rows made = make_rows(t->cpu, 3, DIM, t->queries, 0);
    sac_query *want = test_queries(t->queries, 3, DIM, K), *got = test_queries(t->queries, 3, DIM, K);

    (void)state;
    assert_ok(sac_index_search(t->index, want, 3, err));
    assert_ok(sac_index_search_rows(t->index, got, 3, &made.rows, err));
    for (size_t i = 0; i < 3; i++)
        expect_same_hits(&want[i], &got[i], SAC_METRIC_IP);
    free_rows(&made);
    test_queries_free(want);
    test_queries_free(got);
    discard(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_find_what_vectors_find),
        cmocka_unit_test(rows_without_length_are_told),
        cmocka_unit_test(an_empty_index_takes_them_too),
        cmocka_unit_test(an_index_takes_rows_of_the_host),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
