/* Tuning: what is tried. */
#include "engine/rabitq.h"
#include "engine/tune.h"
#include "tests/engine/vector_set.h"

static int set_up(void **state)
{
    *state = test_device("cpu");
    return 0;
}

static int tear_down(void **state)
{
    sac_device_close(*state);
    return 0;
}

/* All that may be tried of so many vectors, where the first lists turn out best. */
static sac_tune_candidates candidates(sac_device *device, uint32_t dim, uint64_t count, uint64_t memory)
{
    sac_tune_params p;
    sac_tune_job job = {.device = device, .params = &p, .count = count};
    sac_tune_candidates c = {.count = 0};
    size_t lists = 0;
    sac_tune_trial best;

    sac_tune_params_init(&p);
    p.dim = dim;
    p.memory = memory;
    sac_tune_propose_first(&job, &c);
    while (lists < c.count && c.at[lists].nlist == 0)
        lists++;
    if (lists == c.count)
        return c;
    best = c.at[lists];
    sac_tune_propose_codes(&job, &c, &best);
    sac_tune_propose_shapes(&job, &c, &best);
    sac_tune_propose_storage(&job, &c, &best);
    return c;
}

static bool has(const sac_tune_candidates *c, const char *spec)
{
    for (size_t i = 0; i < c->count; i++)
        if (strcmp(c->at[i].result.spec, spec) == 0)
            return true;
    return false;
}

static size_t count_of(const sac_tune_candidates *c, const char *part)
{
    size_t n = 0;

    for (size_t i = 0; i < c->count; i++)
        n += strstr(c->at[i].result.spec, part) != NULL;
    return n;
}

static uint64_t bytes_of(uint32_t dim, uint64_t count, const char *spec)
{
    sac_index_params params;
    sac_plan plan;

    sac_index_params_init(&params);
    params.dim = dim;
    params.spec = spec;
    assert_ok(sac_index_plan(&params, count, 1, &plan, err));
    return plan.bytes_codes + plan.bytes_vectors + plan.bytes_other + plan.bytes_host;
}

static void lists_codes_rotations_and_storage_vary(void **state)
{
    sac_tune_candidates c = candidates(*state, 128, 1000000, 0);
    static const char *const wanted[] = {"Flat",
                                         "SQfp16",
                                         "SQ8",
                                         "IVF4000,PQ32",
                                         "IVF8000,PQ32",
                                         "IVF2000,PQ32",
                                         "IVF4000,PQ64",
                                         "IVF16000,PQ32",
                                         "IVF4000,PQ16",
                                         "IVF4000,PQ64x4",
                                         "IVF2832,PQ32",
                                         "IVF5664,PQ32",
                                         "OPQ32,IVF4000,PQ32",
                                         "IVF4000,PQ32,Refine(SQfp16)",
                                         "IVF4000,PQ32,Refine(SQ8)"};

    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!has(&c, wanted[i]))
            fail_msg("%s is not tried", wanted[i]);
    assert_int_equal(c.count, sizeof wanted / sizeof *wanted);
}

static void signs_are_for_long_vectors_and_devices_that_have_them(void **state)
{
    bool cpu = strncmp(test_device_name("cpu"), "cuda", 4) != 0;
    sac_tune_candidates c = candidates(*state, 768, 100000, 0);

    assert_true(sac_has_rabitq(*state) == cpu);
    assert_true(has(&c, "IVF1280,RaBitQ") == cpu);
    assert_true(has(&c, "IVF1280,PQ96"));
    c = candidates(*state, 96, 100000, 0);
    assert_int_equal(count_of(&c, "RaBitQ"), 0);
    c = candidates(*state, SAC_RABITQ_DIM_MAX + 1, 100000, 0);
    assert_int_equal(count_of(&c, "RaBitQ"), 0);
}

static void lists_of_signs_go_on_with_signs(void **state)
{
    sac_tune_params p;
    sac_tune_job job = {.device = *state, .params = &p, .count = 100000};
    sac_tune_candidates c = {.count = 0};
    sac_tune_trial best = {.nlist = 1280, .codec = "RaBitQ"};

    sac_tune_params_init(&p);
    p.dim = 768;
    sac_tune_propose_shapes(&job, &c, &best);
    sac_tune_propose_storage(&job, &c, &best);
    assert_int_equal(c.count, count_of(&c, "RaBitQ"));
    assert_true(has(&c, "IVF912,RaBitQ") && has(&c, "IVF1280,RaBitQ,Refine(SQ8)"));
    assert_int_equal(count_of(&c, "OPQ"), 0);
}

static void memory_is_a_bound(void **state)
{
    uint64_t least = bytes_of(128, 1000000, "IVF2000,PQ32,Refine(SQ8)");
    sac_tune_candidates c = candidates(*state, 128, 1000000, least);

    for (size_t i = 0; i < c.count; i++) {
        assert_true(c.at[i].result.bytes <= least);
        assert_int_equal(c.at[i].result.bytes, bytes_of(128, 1000000, c.at[i].result.spec));
    }
    assert_true(has(&c, "IVF2000,PQ32,Refine(SQ8)") && has(&c, "SQ8"));
    assert_true(c.least_bytes > least);
    c = candidates(*state, 128, 1000000, 1000);
    assert_int_equal(c.count, 0);
    assert_string_equal(c.least_spec, "SQ8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_codes_rotations_and_storage_vary),
        cmocka_unit_test(signs_are_for_long_vectors_and_devices_that_have_them),
        cmocka_unit_test(lists_of_signs_go_on_with_signs),
        cmocka_unit_test(memory_is_a_bound),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
