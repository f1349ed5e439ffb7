/* Tuning: what it chooses does what was asked for, on queries that it has never seen, and its bounds hold. */
#include "engine/saccade.h"
#include "tests/engine/vector_set.h"

#include <math.h>
#include <time.h>

enum { ROWS = 4000, DIM = 16, CLUSTERS = 80, K = 10 };

struct clusters {
    sac_device *device;
    float *rows, *asked; /* [ROWS][DIM]; as many again that nobody tunes with */
};

static void fill(float *rows, size_t n, uint64_t seed)
{
    float centres[CLUSTERS][DIM];
    uint64_t made = 7;

    for (size_t c = 0; c < CLUSTERS; c++)
        for (size_t d = 0; d < DIM; d++)
            centres[c][d] = 4 * test_random(&made);
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < DIM; d++)
            rows[i * DIM + d] = centres[i % CLUSTERS][d] + test_random(&seed) + test_random(&seed);
}

static int set_up(void **state)
{
    struct clusters *c = calloc(1, sizeof *c);

    c->device = test_device("cpu");
    c->rows = calloc((size_t)ROWS * DIM, sizeof *c->rows);
    c->asked = calloc((size_t)ROWS * DIM, sizeof *c->asked);
    fill(c->rows, ROWS, 1);
    fill(c->asked, ROWS, 2);
    *state = c;
    return 0;
}

static int tear_down(void **state)
{
    struct clusters *c = *state;

    free(c->rows);
    free(c->asked);
    sac_device_close(c->device);
    free(c);
    return 0;
}

static sac_tune_params params_of(const struct clusters *c)
{
    sac_tune_params p;

    sac_tune_params_init(&p);
    p.dim = DIM;
    p.metric = SAC_METRIC_L2;
    p.n = ROWS;
    p.vectors = c->rows;
    p.seconds = 0.2;
    return p;
}

static sac_tuning *tune(const struct clusters *c, const sac_tune_params *p)
{
    sac_tuning *t;

    assert_ok(sac_tune(c->device, p, NULL, NULL, &t, err));
    assert_true(t->count > 0);
    return t;
}

static const sac_tuned *find(const sac_tuning *t, const char *spec)
{
    for (size_t i = 0; i < t->count; i++)
        if (strcmp(t->at[i].spec, spec) == 0)
            return &t->at[i];
    fail_msg("%s was not tried", spec);
    return NULL;
}

/* ---- the goal --------------------------------------------------------------------------------------- */

/* The share of the true neighbours of fresh queries that are found as a tuned index says. */
static double fresh_recall(const struct clusters *c, const sac_tuned *tuned, size_t n)
{
    struct vector_set set = {
        .dim = DIM, .truth_width = K, .n = ROWS, .query_count = n, .base = c->rows, .queries = c->asked};
    sac_query *queries = test_queries(c->asked, n, DIM, K);
    sac_index *index;
    double recall;

    set.truth = calloc(n * K, sizeof *set.truth);
    set.labels = calloc(ROWS, sizeof *set.labels);
    for (size_t i = 0; i < ROWS; i++)
        set.labels[i] = i;
    index = test_index_of(c->device, &set, SAC_METRIC_L2, tuned->spec);
    if (tuned->ask > 0)
        assert_ok(sac_index_measure(index, NULL, NULL, err));
    for (size_t q = 0; q < n; q++)
        queries[q].exact = true;
    assert_ok(sac_index_search(index, queries, n, err));
    for (size_t i = 0; i < n * K; i++)
        set.truth[i] = (int32_t)queries[i / K].hits[i % K].label;
    for (size_t q = 0; q < n; q++) {
        queries[q].exact = false;
        queries[q].recall = tuned->ask;
        queries[q].nprobe = tuned->ask > 0 ? 0 : tuned->nprobe;
        queries[q].depth = tuned->ask > 0 ? 0 : tuned->depth;
    }
    assert_ok(sac_index_search(index, queries, n, err));
    recall = test_recall(&set, queries);
    test_queries_free(queries);
    sac_index_close(index);
    free(set.truth);
    free(set.labels);
    return recall;
}

static void what_is_chosen_reaches_the_recall(void **state)
{
    const struct clusters *c = *state;
    static const float wanted[] = {0.8f, 0.95f, 1};

    for (size_t i = 0; i < 3; i++) {
        sac_tune_params p = params_of(c);
        sac_tuning *t;

        p.recall = wanted[i];
        t = tune(c, &p);
        assert_true(t->at[0].reaches && t->held_back && !t->at[0].extrapolated);
        assert_int_equal(t->query_count, ROWS / 10);
        assert_true(t->at[0].recall + 2 * t->at[0].recall_error >= wanted[i]);
        assert_true(fresh_recall(c, &t->at[0], 500) >= (double)wanted[i] - 0.04);
        for (size_t j = 0; j < t->count; j++) {
            assert_true(t->at[j].seconds_mean > 0 && t->at[j].seconds_p99 >= t->at[j].seconds_p50);
            assert_true(t->at[j].bytes > 0 && t->at[j].rows <= ROWS);
        }
        assert_true(find(t, "Flat")->recall == 1);
        sac_tuning_free(t);
    }
}

static void queries_of_the_caller_s_are_asked(void **state)
{
    const struct clusters *c = *state;
    sac_tune_params p = params_of(c);
    sac_tuning *t;

    p.queries = c->asked;
    p.query_count = 60;
    p.recall = 0.9f;
    t = tune(c, &p);
    assert_false(t->held_back);
    assert_int_equal(t->query_count, 60);
    assert_true(t->at[0].reaches);
    sac_tuning_free(t);
}

static void a_latency_is_kept_where_it_can_be(void **state)
{
    const struct clusters *c = *state;
    sac_tune_params p = params_of(c);
    sac_tuning *t;

    p.recall = 0;
    p.latency = 1; /* so long that exact search is in time */
    t = tune(c, &p);
    assert_true(t->at[0].reaches && t->at[0].seconds_p99 <= 1);
    assert_true(t->at[0].recall >= 0.99f);
    sac_tuning_free(t);

    p.latency = 1e-9;
    t = tune(c, &p);
    assert_false(t->at[0].reaches);
    sac_tuning_free(t);

    p.recall = 0.9f; /* nothing keeps both */
    t = tune(c, &p);
    assert_false(t->at[0].reaches);
    sac_tuning_free(t);
}

/* ---- bounds ----------------------------------------------------------------------------------------- */

static void memory_is_a_bound(void **state)
{
    const struct clusters *c = *state;
    sac_tune_params p = params_of(c);
    sac_tuning *t;
    sac_error e;

    p.recall = 0.8f;
    p.memory = ROWS * DIM * 3;
    t = tune(c, &p);
    for (size_t i = 0; i < t->count; i++)
        assert_true(t->at[i].bytes <= p.memory);
    assert_true(t->at[0].reaches);
    sac_tuning_free(t);

    p.memory = 1000;
    assert_int_equal(sac_tune(c->device, &p, NULL, NULL, &t, &e), SAC_INVALID_ARGUMENT);
    assert_null(t);
    assert_non_null(strstr(e.text, "the smallest, "));
}

static void time_is_a_bound(void **state)
{
    const struct clusters *c = *state;
    sac_tune_params p = params_of(c);
    sac_tuning *t;

    p.seconds = 1e-3;
    t = tune(c, &p);
    assert_true(t->out_of_time && t->at[0].reaches); /* exact search */
    assert_string_equal(t->at[0].spec, "Flat");
    sac_tuning_free(t);
}

static void a_sample_stands_for_more(void **state)
{
    const struct clusters *c = *state;
    sac_tune_params p = params_of(c);
    sac_tuning *few, *many;

    few = tune(c, &p);
    p.count = 100 * ROWS;
    p.seconds = 1;
    many = tune(c, &p);
    assert_false(find(few, "Flat")->extrapolated);
    assert_true(find(many, "Flat")->extrapolated);
    assert_true(find(many, "Flat")->seconds_mean > 5 * find(few, "Flat")->seconds_mean);
    assert_true(find(many, "Flat")->bytes > 50 * find(few, "Flat")->bytes);
    for (size_t i = 0; i < many->count; i++) { /* lists as for 400,000 vectors: 2 to 16 times the root */
        unsigned nlist;
        if (sscanf(many->at[i].spec, "IVF%u", &nlist) == 1)
            assert_in_range(nlist, 1264, 10128);
    }
    sac_tuning_free(few);
    sac_tuning_free(many);
}

/* ---- signs ------------------------------------------------------------------------------------------ */

enum { FEW = 1000, LONG = 512, LONG_CLUSTERS = 20 };

static void fill_long(float *rows)
{
    float *centres = calloc((size_t)LONG_CLUSTERS * LONG, sizeof *centres);
    uint64_t seed = 3;

    for (size_t i = 0; i < (size_t)LONG_CLUSTERS * LONG; i++)
        centres[i] = test_random(&seed);
    for (size_t i = 0; i < FEW; i++)
        for (size_t d = 0; d < LONG; d++)
            rows[i * LONG + d] = centres[i % LONG_CLUSTERS * LONG + d] + 0.5f * test_random(&seed);
    free(centres);
}

static uint64_t planned(const sac_tune_params *p, const char *spec)
{
    sac_index_params params = {.dim = p->dim, .metric = p->metric, .spec = spec};
    sac_plan plan;

    assert_ok(sac_index_plan(&params, p->n, 1, &plan, err));
    return plan.bytes_codes + plan.bytes_vectors + plan.bytes_other + plan.bytes_host;
}

/* Few long vectors: codebooks that are learnt take more than the codes. */
static void signs_are_tried_where_memory_leaves_nothing_else(void **state)
{
    const struct clusters *c = *state;
    sac_tune_params p = params_of(c);
    float *rows = calloc((size_t)FEW * LONG, sizeof *rows);
    const sac_tuned *signs;
    sac_tuning *t;

    fill_long(rows);
    p.dim = LONG;
    p.n = FEW;
    p.vectors = rows;
    p.recall = 0.9f;
    p.seconds = 10; /* what is tried takes less */
    p.memory = planned(&p, "IVF125,RaBitQ,Refine(SQ8)");
    t = tune(c, &p);
    for (size_t i = 0; i < t->count; i++)
        assert_null(strstr(t->at[i].spec, "PQ"));
    signs = find(t, "IVF125,RaBitQ,Refine(SQ8)");
    assert_true(signs->reaches && signs->recall + 2 * signs->recall_error >= 0.9f);
    assert_true(signs->bytes <= p.memory && t->at[0].reaches);
    for (size_t i = 1; i < t->count; i++) /* whatever is chosen is the fastest */
        if (t->at[i].verified && t->at[i].reaches)
            assert_true(t->at[0].seconds_mean <= t->at[i].seconds_mean);
    sac_tuning_free(t);
    free(rows);
}

/* ---- stopping, refusing ----------------------------------------------------------------------------- */

struct patience {
    int calls;
};

static bool stop_soon(void *context, const sac_progress *progress)
{
    struct patience *p = context;

    assert_non_null(progress->stage);
    assert_true(progress->done <= progress->total);
    return p->calls-- > 0;
}

static void the_caller_stops_it(void **state)
{
    const struct clusters *c = *state;

    for (int calls = 0; calls < 3; calls++) {
        sac_tune_params p = params_of(c);
        struct patience patience = {calls};
        sac_tuning *t;
        assert_int_equal(sac_tune(c->device, &p, stop_soon, &patience, &t, NULL), SAC_CANCELLED);
        assert_null(t);
    }
}

static void refuse(const struct clusters *c, const sac_tune_params *p, const char *said)
{
    sac_tuning *t;
    sac_error e = {0};

    assert_int_equal(sac_tune(c->device, p, NULL, NULL, &t, &e), SAC_INVALID_ARGUMENT);
    assert_null(t);
    if (strstr(e.text, said) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", e.text, said);
}

static void what_makes_no_sense_is_refused(void **state)
{
    struct clusters *c = *state;
    sac_tune_params p = params_of(c);
    float kept = c->rows[5 * DIM + 3];

    p.n = 99;
    refuse(c, &p, "99 vectors");
    p = params_of(c);
    p.recall = 0;
    refuse(c, &p, "no goal");
    p.recall = 1.5f;
    refuse(c, &p, "recall=1.5");
    p = params_of(c);
    p.k = 0;
    refuse(c, &p, "k=0");
    p = params_of(c);
    p.count = ROWS - 1;
    refuse(c, &p, "use the number of all");
    p = params_of(c);
    p.seconds = NAN;
    refuse(c, &p, "seconds");
    p = params_of(c);
    c->rows[5 * DIM + 3] = NAN;
    refuse(c, &p, "vector 5 has a component that is not a finite number");
    c->rows[5 * DIM + 3] = kept;
    c->asked[0] = INFINITY;
    p.queries = c->asked;
    p.query_count = 10;
    refuse(c, &p, "query 0");
    fill(c->asked, ROWS, 2);
}

/* ---- odd data --------------------------------------------------------------------------------------- */

static void equal_vectors_are_all_as_near(void **state)
{
    const struct clusters *c = *state;
    sac_tune_params p = params_of(c);
    float *same = calloc((size_t)1000 * DIM, sizeof *same);
    sac_tuning *t;

    for (size_t i = 0; i < 1000 * DIM; i++)
        same[i] = 0.25f;
    p.n = 1000;
    p.vectors = same;
    for (int metric = SAC_METRIC_L2; metric <= SAC_METRIC_COSINE; metric++) {
        p.metric = (sac_metric)metric;
        t = tune(c, &p);
        assert_true(t->at[0].reaches);
        assert_true(t->at[0].recall == 1);
        sac_tuning_free(t);
    }
    free(same);
}

static void few_and_short_vectors_are_enough(void **state)
{
    const struct clusters *c = *state;

    for (uint32_t dim = 1; dim <= 7; dim += 3) {
        sac_tune_params p = params_of(c);
        sac_tuning *t;
        p.dim = dim;
        p.n = 100;
        p.k = 100; /* more than are left when queries are held back */
        t = tune(c, &p);
        assert_true(t->at[0].reaches);
        assert_int_equal(t->query_count, 10);
        sac_tuning_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_chosen_reaches_the_recall),
        cmocka_unit_test(queries_of_the_caller_s_are_asked),
        cmocka_unit_test(a_latency_is_kept_where_it_can_be),
        cmocka_unit_test(memory_is_a_bound),
        cmocka_unit_test(time_is_a_bound),
        cmocka_unit_test(a_sample_stands_for_more),
        cmocka_unit_test(signs_are_tried_where_memory_leaves_nothing_else),
        cmocka_unit_test(the_caller_stops_it),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(equal_vectors_are_all_as_near),
        cmocka_unit_test(few_and_short_vectors_are_enough),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
