/* Searchers beside a writer that adds, deletes and measures; run under TSan. */
#include "tests/engine/vector_set.h"

#include <pthread.h>
#include <stdatomic.h>

struct shared {
    struct vector_set set;
    sac_index *index;
    size_t fixed; /* labels below it are never touched */
    atomic_bool stop;
    atomic_size_t searches;
};

static void *search(void *context)
{
    struct shared *s = context;
    sac_query *queries = test_queries(s->set.queries, 8, s->set.dim, 10);
    sac_index_info info;

    for (size_t round = 0; !atomic_load(&s->stop); round++) {
        size_t n = 1 + round % 8;
        for (size_t i = 0; i < n; i++) {
            queries[i].vector = s->set.base + (round * 7 + i) % s->fixed * s->set.dim;
            queries[i].exact = round % 5 == 0;
            queries[i].nprobe = round % 2 == 0 ? 4 : 0;
        }
        assert_ok(sac_index_search(s->index, queries, n, err));
        for (size_t i = 0; i < n; i++) { /* a stored vector finds itself, whatever else changes */
            assert_int_equal(queries[i].hit_count, 10);
            assert_true(queries[i].hits[0].distance == 0);
        }
        sac_index_describe(s->index, &info);
        assert_true(info.count >= s->fixed);
        atomic_fetch_add(&s->searches, 1);
    }
    test_queries_free(queries);
    return NULL;
}

static void churn(struct shared *s, int rounds)
{
    size_t loose = s->set.n - s->fixed;
    const uint64_t *labels = s->set.labels + s->fixed;
    const float *vectors = s->set.base + s->fixed * s->set.dim;

    for (int round = 0; round < rounds || atomic_load(&s->searches) < 50; round++) {
        size_t from = (size_t)round * 311 % (loose / 2), count = loose / 4, removed;
        assert_ok(sac_index_delete(s->index, count, labels + from, &removed, err));
        assert_int_equal(removed, count);
        assert_ok(
            sac_index_add(s->index, count, vectors + from * s->set.dim, labels + from, NULL, NULL, err));
        if (round % 8 == 3)
            assert_ok(sac_index_measure(s->index, NULL, NULL, err));
    }
}

static void run(const char *spec, int rounds)
{
    struct shared s = {.set = vector_set_load("sift5k")};
    sac_device *device = test_device("cpu");
    pthread_t threads[3];

    s.fixed = 2000;
    s.index = test_index_of(device, &s.set, SAC_METRIC_L2, spec);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, search, &s), 0);
    churn(&s, rounds);
    atomic_store(&s.stop, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    sac_index_close(s.index);
    sac_device_close(device);
    vector_set_free(&s.set);
}

static void searches_beside_changes_flat(void **state)
{
    (void)state;
    run("Flat", 12);
}

static void searches_beside_changes_in_lists(void **state)
{
    (void)state;
    run("IVF16,PQ32", 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(searches_beside_changes_flat),
        cmocka_unit_test(searches_beside_changes_in_lists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
