/* How often the host waits: a picture is searched for, from its pixels to the ids, with one wait at the end.
 * The stand-in counts them where work runs late (SACCADE_HOST_CUDA__LATE), and takes the device away at the
 * N-th. */
#include "tests/engine/picture_search.h"

static const char *const fail = "SACCADE_HOST_CUDA__FAIL";

static sac_status search(const struct picture_search *s, size_t first, size_t n)
{
    sac_query queries[PICTURES];
    sac_results *results;
    sac_error error;
    sac_status st;

    for (size_t i = 0; i < n; i++) {
        sac_query_init(&queries[i]);
        queries[i].k = 5;
        queries[i].nprobe = 2;
    }
    st = sac_collection_search_pictures(s->collection, s->encoder, s->pictures + first, queries, n, 0,
                                        &results, &error);
    sac_results_free(results);
    return st;
}

static void search_waits_once(const char *spec, size_t n)
{
    struct picture_search *s = make_picture_search(SAC_METRIC_COSINE, spec, "tests/fixtures/encoder/timm");

    assert_true(sac_collection_shares_device(s->collection, s->encoder));
    for (size_t i = 0; i < 4; i++) /* plain, recorded, played: from then on all memory is there */
        assert_int_equal(search(s, i, n), SAC_OK);
    setenv(fail, "wait:2", 1);
    assert_int_equal(search(s, 1, n), SAC_OK);
    setenv(fail, "wait:1", 1);
    assert_int_equal(search(s, 2, n), SAC_DEVICE_LOST);
    unsetenv(fail);
    free_picture_search(s);
}

static void a_picture_is_searched_for_with_one_wait(void **state)
{
    (void)state;
    search_waits_once("Flat", 1);
    search_waits_once("IVF4,PQ6x4", 1);
    search_waits_once("OPQ4,IVF4,PQ4x4", 1);
}

static void so_is_a_batch(void **state)
{
    (void)state;
    search_waits_once("IVF4,PQ5x4", PASS);
}

/* Embedding first is what it is compared with: vectors come to the host, and go back. */
static void two_calls_wait_twice(void **state)
{
    struct picture_search *s =
        make_picture_search(SAC_METRIC_COSINE, "IVF4,PQ6x4", "tests/fixtures/encoder/timm");
    sac_results *results = NULL;
    sac_query query;
    sac_error error;

    (void)state;
    sac_query_init(&query);
    query.vector = s->vectors;
    for (int time = 0; time < 6; time++) {
        bool wait_lost = time == 5;
        sac_status st;

        if (time >= 4)
            setenv(fail, wait_lost ? "wait:2" : "wait:3", 1);
        st = sac_encoder_embed(s->encoder, 1, s->pictures, s->vectors, &error);
        assert_int_equal(st, SAC_OK);
        st = sac_collection_search(s->collection, &query, 1, 0, &results, &error);
        assert_int_equal(st, wait_lost ? SAC_DEVICE_LOST : SAC_OK);
        sac_results_free(results);
    }
    unsetenv(fail);
    free_picture_search(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_picture_is_searched_for_with_one_wait),
        cmocka_unit_test(so_is_a_batch),
        cmocka_unit_test(two_calls_wait_twice),
    };

    setenv("SACCADE_TEST_DEVICE", "cuda:0", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
