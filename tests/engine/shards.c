/* An index over several devices - here, over one several times - beside the same index on one: the same
 * labels at the same distances, whatever is done to both. */
#include "tests/engine/vector_set.h"

#include <pthread.h>
#include <unistd.h>

enum { N = 300, DIM = 12, QUERIES = 3, K = 11, THREADS = 2 };

static const char path[] = "/tmp/saccade_test_shards.index";

/* One index on one device, the other on several of the same kind. */
struct pair {
    sac_device *one, *many;
    sac_index *want, *got;
    float base[N * DIM], queries[QUERIES * DIM];
    uint64_t labels[N];
};

/* Clusters of whole numbers, some vectors twice, so that distances are exact and ties are everywhere. */
static void fill(struct pair *p)
{
    uint64_t seed = 23;

    for (size_t i = 0; i < N; i++) {
        p->labels[i] = i * 7919 % 100003;
        for (size_t d = 0; d < DIM; d++)
            p->base[i * DIM + d] = (float)(i % 12 * (d + 3) % 17) + (float)(int)(4 * test_random(&seed));
        if (i % 9 == 8)
            memcpy(p->base + i * DIM, p->base + (i - 3) * DIM, DIM * sizeof(float));
    }
    for (size_t i = 0; i < QUERIES * DIM; i++)
        p->queries[i] = p->base[i * 5] + (float)(int)(2 * test_random(&seed));
}

static sac_device *open_times(uint32_t count)
{
    const char *kind = test_device_name("cpu");
    char name[128] = "";

    for (uint32_t i = 0; i < count; i++)
        snprintf(name + strlen(name), sizeof name - strlen(name), "%s%s", i > 0 ? "," : "", kind);
    return test_device_exactly(name);
}

/* Puts what `from` holds, by its file, on another device. */
static sac_index *carry(const sac_index *from, sac_device *to)
{
    sac_index *index;

    assert_ok(sac_index_save(from, path, true, err));
    assert_ok(sac_index_load(to, path, NULL, NULL, &index, err));
    unlink(path);
    return index;
}

static sac_index *build(const struct pair *p, sac_device *device, sac_metric metric, const char *spec)
{
    sac_index *index = test_index(device, DIM, metric, spec);

    assert_ok(sac_index_train(index, N, p->base, 0, NULL, NULL, err));
    assert_ok(sac_index_add(index, N, p->base, p->labels, NULL, NULL, err));
    return index;
}

static struct pair *make(uint32_t shards, sac_metric metric, const char *spec)
{
    struct pair *p = calloc(1, sizeof *p);

    fill(p);
    p->one = open_times(1);
    p->many = open_times(shards);
    assert_int_equal(sac_device_shard_count(p->many), shards);
    if (getenv("SACCADE_TEST_DEVICE") != NULL) { /* training is long where kernels run on the host */
        sac_device *cpu = test_device_exactly("cpu");
        sac_index *built = build(p, cpu, metric, spec);
        p->want = carry(built, p->one);
        p->got = carry(built, p->many);
        sac_index_close(built);
        sac_device_close(cpu);
    } else {
        p->want = build(p, p->one, metric, spec);
        p->got = build(p, p->many, metric, spec);
    }
    return p;
}

static void discard(struct pair *p)
{
    sac_index_close(p->want);
    sac_index_close(p->got);
    sac_device_close(p->one);
    sac_device_close(p->many);
    free(p);
}

static void expect_same_hits(const sac_query *want, const sac_query *got)
{
    assert_int_equal(got->hit_count, want->hit_count);
    for (uint32_t h = 0; h < want->hit_count; h++) {
        assert_int_equal(got->hits[h].label, want->hits[h].label);
        assert_true(got->hits[h].distance == want->hits[h].distance);
    }
}

/* n queries, each like `settings`; time and again, since small searches are recorded. */
static void ask(const struct pair *p, size_t n, const sac_query *settings)
{
    sac_query *want = test_queries(p->queries, n, DIM, settings->k);
    sac_query *got = test_queries(p->queries, n, DIM, settings->k);

    for (size_t i = 0; i < n; i++) {
        sac_query *both[2] = {&want[i], &got[i]};
        for (int side = 0; side < 2; side++) {
            const float *vector = both[side]->vector;
            sac_hit *hits = both[side]->hits;
            *both[side] = *settings;
            both[side]->vector = vector;
            both[side]->hits = hits;
        }
    }
    assert_ok(sac_index_search(p->want, want, n, err));
    for (int time = 0; time < (n == 1 ? 3 : 1); time++) {
        assert_ok(sac_index_search(p->got, got, n, err));
        for (size_t i = 0; i < n; i++)
            expect_same_hits(&want[i], &got[i]);
    }
    test_queries_free(want);
    test_queries_free(got);
}

/* Every list is probed and every candidate re-ranked, so nothing depends on where vectors lie. */
static void ask_everything(const struct pair *p)
{
    const uint32_t ks[] = {1, K, 50};
    sac_query settings;

    for (int way = 0; way < 12; way += 1 + way % 2) {
        sac_query_init(&settings);
        settings.k = ks[(way + way / 3) % 3];
        settings.nprobe = 1000;
        settings.depth = N;
        settings.exact = way / 3 == 1;
        if (way / 3 == 2) { /* few, which are compared one by one */
            settings.allow = p->labels + 3;
            settings.allow_count = 40;
        } else if (way / 3 == 3) { /* a bitmap */
            settings.allow = p->labels;
            settings.allow_count = N / 2;
            settings.exact = way % 2 == 0;
        }
        ask(p, 1, &settings);
        ask(p, QUERIES, &settings);
    }
}

static const struct {
    uint32_t shards;
    sac_metric metric;
    const char *spec;
} kinds[] = {
    {2, SAC_METRIC_L2, "Flat"},
    {3, SAC_METRIC_IP, "IVF7,PQ6x4"},
    {2, SAC_METRIC_L2, "OPQ4,IVF6,PQ4x5,Refine(SQ8)"},
    {3, SAC_METRIC_L2, "IVF5,PQ3x4,Refine(SQfp16)"},
};
#define KINDS (sizeof kinds / sizeof kinds[0])

static void several_devices_answer_as_one_does(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct pair *p = make(kinds[i].shards, kinds[i].metric, kinds[i].spec);
        ask_everything(p);
        discard(p);
    }
}

/* Deletes from both, most of it from one shard, and adds half of it again. */
static void change(const struct pair *p, uint32_t shards)
{
    uint64_t labels[N];
    float x[N * DIM];
    size_t removed, other_removed, count = 0;

    for (size_t i = 0; i < N; i++)
        if (i % shards == 1 ? i % 5 != 0 : i % 11 == 0)
            labels[count++] = p->labels[i];
    assert_ok(sac_index_delete(p->want, count, labels, &other_removed, err));
    assert_ok(sac_index_delete(p->got, count, labels, &removed, err));
    assert_int_equal(removed, other_removed);
    for (size_t i = 0; i < count / 2; i++)
        for (size_t d = 0; d < DIM; d++)
            x[i * DIM + d] = p->base[i * DIM + d] + 1;
    assert_ok(sac_index_add(p->want, count / 2, x, labels, NULL, NULL, err));
    assert_ok(sac_index_add(p->got, count / 2, x, labels, NULL, NULL, err));
}

static void they_follow_changes(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct pair *p = make(kinds[i].shards, kinds[i].metric, kinds[i].spec);
        change(p, kinds[i].shards);
        ask_everything(p);
        discard(p);
    }
}

static void vectors_come_back(void **state)
{
    struct pair *p = make(3, SAC_METRIC_L2, "IVF7,PQ6x4");
    float x[DIM];

    (void)state;
    for (size_t i = 0; i < N; i += 7) {
        assert_ok(sac_index_reconstruct(p->got, p->labels[i], x, err));
        assert_memory_equal(x, p->base + i * DIM, sizeof x);
    }
    discard(p);
}

static void files_know_no_shards(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct pair *p = make(kinds[i].shards, kinds[i].metric, kinds[i].spec);
        sac_index *on_one, *on_many;

        change(p, kinds[i].shards);
        on_one = carry(p->got, p->one);
        on_many = carry(on_one, p->many);
        sac_index_close(p->got);
        p->got = on_one;
        ask_everything(p);
        p->got = on_many;
        ask_everything(p);
        change(p, kinds[i].shards);
        ask_everything(p);
        sac_index_close(on_one);
        discard(p);
    }
}

/* One by one, what was given. */
static bool give(void *context, uint64_t label, float *vector)
{
    const struct pair *p = context;

    for (size_t i = 0; i < N; i++)
        if (p->labels[i] == label) {
            memcpy(vector, p->base + i * DIM, DIM * sizeof *vector);
            return i % 13 != 4;
        }
    return false;
}

static void vectors_may_come_from_elsewhere(void **state)
{
    struct pair *p = make(3, SAC_METRIC_L2, "IVF7,PQ6x4");
    sac_index_info want, got;

    (void)state;
    assert_ok(sac_index_save(p->got, path, false, err));
    sac_index_close(p->got);
    sac_index_close(p->want);
    assert_ok(sac_index_load(p->one, path, give, p, &p->want, err));
    assert_ok(sac_index_load(p->many, path, give, p, &p->got, err));
    unlink(path);
    ask_everything(p);
    sac_index_describe(p->want, &want);
    sac_index_describe(p->got, &got);
    assert_int_equal(got.count, want.count);
    assert_true(got.count < N);
    discard(p);
}

static void recall_is_measured_over_all(void **state)
{
    struct pair *p = make(3, SAC_METRIC_L2, "IVF7,PQ6x4");
    sac_recall_point want[64], got[64];
    size_t want_count, got_count;

    (void)state;
    assert_ok(sac_index_measure(p->want, NULL, NULL, err));
    assert_ok(sac_index_measure(p->got, NULL, NULL, err));
    want_count = sac_index_recall_curve(p->want, want, 64);
    got_count = sac_index_recall_curve(p->got, got, 64);
    assert_true(want_count > 0 && got_count > 0);
    assert_true(got[got_count - 1].recall >= want[want_count - 1].recall - 0.02f);
    discard(p);
}

/* Searches with few lists find no less than those of one device: each shard re-ranks as many. */
static void few_lists_are_the_same_lists(void **state)
{
    struct pair *p = make(2, SAC_METRIC_L2, "IVF7,PQ6x4");
    sac_query *want = test_queries(p->queries, QUERIES, DIM, K);
    sac_query *got = test_queries(p->queries, QUERIES, DIM, K);

    (void)state;
    for (size_t i = 0; i < QUERIES; i++) {
        want[i].nprobe = got[i].nprobe = 1;
        want[i].depth = got[i].depth = 30;
    }
    assert_ok(sac_index_search(p->want, want, QUERIES, err));
    assert_ok(sac_index_search(p->got, got, QUERIES, err));
    for (size_t i = 0; i < QUERIES; i++) {
        assert_int_equal(got[i].hit_count, K);
        for (uint32_t h = 0; h < K; h++) {
            assert_true(got[i].hits[h].distance <= want[i].hits[h].distance);
            for (uint32_t other = 0; other < h; other++)
                assert_true(got[i].hits[other].label != got[i].hits[h].label);
        }
    }
    test_queries_free(want);
    test_queries_free(got);
    discard(p);
}

static void *search_often(void *context)
{
    for (int i = 0; i < 3; i++) {
        sac_query settings;
        sac_query_init(&settings);
        settings.k = K;
        settings.nprobe = 1000;
        settings.depth = N;
        ask(context, i % 2 == 0 ? 1 : QUERIES, &settings);
    }
    return NULL;
}

static void many_search_at_once(void **state)
{
    struct pair *p = make(2, SAC_METRIC_L2, "IVF7,PQ6x4");
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, search_often, p), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    discard(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_devices_answer_as_one_does),
        cmocka_unit_test(they_follow_changes),
        cmocka_unit_test(vectors_come_back),
        cmocka_unit_test(files_know_no_shards),
        cmocka_unit_test(vectors_may_come_from_elsewhere),
        cmocka_unit_test(recall_is_measured_over_all),
        cmocka_unit_test(few_lists_are_the_same_lists),
        cmocka_unit_test(many_search_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
