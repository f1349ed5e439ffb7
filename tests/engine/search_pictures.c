/* Searching with pictures, on the device under test (SACCADE_TEST_DEVICE, else "cpu"): in one call the same
 * is found as by embedding the pictures first, whatever the index is made of and whoever changes it
 * meanwhile. */
#include "tests/engine/picture_search.h"

#include "engine/safetensors.h"
#include "tests/file.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

static const char model[] = "tests/fixtures/encoder/timm";

/* Distances may differ as far as products of other batches do. */
static void expect_same(const struct picture_search *s, const sac_results *want, const sac_results *got,
                        size_t n, unsigned with)
{
    for (size_t q = 0; q < n; q++) {
        size_t wanted, count;
        const sac_found *a = sac_results_get(want, q, &wanted), *b = sac_results_get(got, q, &count);

        assert_int_equal(count, wanted);
        for (size_t i = 0; i < count; i++) {
            if (!(fabsf(a[i].distance - b[i].distance) <= 1e-5f))
                fail_msg("query %zu, hit %zu: distance %g, wanted %g", q, i, (double)b[i].distance,
                         (double)a[i].distance);
            if (i + 1 < count && i > 0 && a[i].distance - a[i - 1].distance > 1e-4f &&
                a[i + 1].distance - a[i].distance > 1e-4f)
                assert_int_equal(b[i].id.number, a[i].id.number);
            assert_int_equal(b[i].item != NULL, with != 0);
            if (with & SAC_WITH_SOURCE)
                assert_memory_equal(b[i].item->source, "here", 4);
            if (with & SAC_WITH_VECTOR)
                assert_true(isfinite(b[i].item->vector[s->dim - 1]));
        }
    }
}

/* Queries first .. first + n - 1 of all that differ in their settings, with the pictures of an encoder. */
static void ask_with(const struct picture_search *s, sac_encoder *encoder, sac_prepared *const *pictures,
                     size_t first, size_t n, unsigned with)
{
    sac_query queries[PICTURES];
    sac_results *want, *got;

    for (size_t i = 0; i < n; i++) {
        size_t way = (first + i) * 5 % 7;
        sac_query_init(&queries[i]);
        queries[i].k = way == 0 ? 1 : way == 1 ? 40 : 7;
        queries[i].exact = way == 2;
        queries[i].nprobe = way == 3 ? 1 : 3;
        queries[i].no_rescore = way == 4;
        queries[i].depth = 60;
        queries[i].vector = s->vectors + (first + i) * s->dim;
    }
    assert_ok(sac_collection_search(s->collection, queries, n, with, &want, err));
    for (size_t i = 0; i < n; i++)
        queries[i].vector = NULL;
    assert_ok(sac_collection_search_pictures(s->collection, encoder, pictures + first, queries, n, with, &got,
                                             err));
    expect_same(s, want, got, n, with);
    sac_results_free(want);
    sac_results_free(got);
}

static void ask(const struct picture_search *s, size_t first, size_t n, unsigned with)
{
    ask_with(s, s->encoder, s->pictures, first, n, with);
}

static void ask_everything(const struct picture_search *s)
{
    for (size_t one = 0; one < 7; one++)
        ask(s, one, 1, one == 2 ? SAC_WITH_SOURCE : 0);
    ask(s, 0, 1, 0); /* played from what was recorded for another picture */
    ask(s, 3, PASS, SAC_WITH_VECTOR | SAC_WITH_SOURCE);
    ask(s, 0, PICTURES, 0); /* in three passes */
}

static const struct {
    sac_metric metric;
    const char *spec;
} kinds[] = {
    {SAC_METRIC_COSINE, "IVF4,PQ6x4"},
    {SAC_METRIC_L2, "Flat"},
    {SAC_METRIC_IP, "OPQ4,IVF4,PQ4x4,Refine(SQ8)"},
    {SAC_METRIC_COSINE, "IVF3,PQ5x4,Refine(SQfp16)"}, /* coded with zeros appended */
};

static void pictures_find_what_their_vectors_find(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct picture_search *s = make_picture_search(kinds[i].metric, kinds[i].spec, model);
        ask_everything(s);
        free_picture_search(s);
    }
}

static void they_follow_changes(void **state)
{
    struct picture_search *s = make_picture_search(SAC_METRIC_COSINE, "IVF4,PQ6x4", model);
    sac_query query;
    sac_results *results;
    size_t count, removed;

    (void)state;
    for (uint64_t i = 0; i < ITEMS; i += 4) { /* what is near them */
        sac_id id = {.number = i};
        assert_ok(sac_collection_delete(s->collection, &id, 1, &removed, err));
        assert_int_equal(removed, 1);
    }
    ask_everything(s);
    for (uint64_t i = 0; i < PICTURES; i++)
        assert_int_equal(test_put(s, i, s->vectors + i * s->dim), SAC_OK); /* new ones, and others anew */
    ask_everything(s);
    sac_query_init(&query);
    query.k = 1;
    for (uint64_t i = 0; i < PICTURES; i++) {
        assert_ok(sac_collection_search_pictures(s->collection, s->encoder, &s->pictures[i], &query, 1, 0,
                                                 &results, err));
        const sac_found *found = sac_results_get(results, 0, &count);
        assert_int_equal(count, 1);
        assert_true(found->distance < 1e-4f);
        sac_results_free(results);
    }
    free_picture_search(s);
}

struct changing {
    const struct picture_search *search;
    atomic_bool stop;
};

static void *put_again_and_again(void *context)
{
    struct changing *c = context;

    while (!atomic_load(&c->stop))
        for (uint64_t i = 0; i < PICTURES; i++)
            test_put(c->search, 1000 + i, c->search->vectors + i * c->search->dim);
    return NULL;
}

/* An item that is being replaced is found in its old form or its new one. */
static void an_item_that_is_replaced_is_found(void **state)
{
    struct picture_search *s = make_picture_search(SAC_METRIC_COSINE, "Flat", model);
    struct changing changing = {.search = s};
    sac_query queries[PICTURES];
    pthread_t thread;

    (void)state;
    for (uint64_t i = 0; i < PICTURES; i++) {
        assert_int_equal(test_put(s, 1000 + i, s->vectors + i * s->dim), SAC_OK);
        sac_query_init(&queries[i]);
        queries[i].k = 2;
    }
    assert_int_equal(pthread_create(&thread, NULL, put_again_and_again, &changing), 0);
    for (int time = 0; time < 20; time++) {
        size_t n = time % 2 == 0 ? 1 : PASS + 2, count;
        sac_results *results;

        assert_ok(sac_collection_search_pictures(s->collection, s->encoder, s->pictures, queries, n, 0,
                                                 &results, err));
        for (size_t q = 0; q < n; q++) {
            const sac_found *found = sac_results_get(results, q, &count);
            assert_int_equal(count, 2);
            assert_true(found->distance < 1e-4f);
        }
        sac_results_free(results);
    }
    atomic_store(&changing.stop, true);
    pthread_join(thread, NULL);
    free_picture_search(s);
}

/* Encoder and index need not be in one place: then vectors go by way of the host. */
static void any_device_may_embed_for_any_other(void **state)
{
    const char *names[] = {"cpu", test_device_name("cpu")};
    struct picture_search *s = make_picture_search(SAC_METRIC_COSINE, "IVF4,PQ6x4", model);
    bool on_gpu = !sac_device_host_visible(s->device);

    (void)state;
    assert_int_equal(sac_collection_shares_device(s->collection, s->encoder), on_gpu);
    for (int i = 0; i < 2; i++) { /* another handle of the same device is another device */
        sac_device *device = test_device_exactly(names[i]);
        sac_encoder *encoder = test_encoder(device, model);
        sac_prepared *pictures[PICTURES];

        assert_false(sac_collection_shares_device(s->collection, encoder));
        test_pictures(encoder, pictures);
        ask_with(s, encoder, pictures, 0, 1, 0);
        ask_with(s, encoder, pictures, 1, PASS + 3, 0);
        for (size_t p = 0; p < PICTURES; p++)
            sac_prepared_free(pictures[p]);
        sac_encoder_close(encoder);
        sac_device_close(device);
    }
    free_picture_search(s);
}

static void what_does_not_fit_together_is_refused(void **state)
{
    struct picture_search *s = make_picture_search(SAC_METRIC_L2, "Flat", model);
    sac_encoder *other = test_encoder(s->device, "tests/fixtures/encoder/dinov2"),
                *builtin = test_encoder(s->device, NULL);
    sac_query query;
    sac_results *results;
    sac_error error;

    (void)state;
    sac_query_init(&query);
    assert_int_equal(
        sac_collection_search_pictures(s->collection, other, s->pictures, &query, 1, 0, &results, &error),
        SAC_VERSION_MISMATCH);
    assert_null(results);
    assert_int_equal(
        sac_collection_search_pictures(s->collection, builtin, s->pictures, &query, 1, 0, &results, &error),
        SAC_VERSION_MISMATCH);
    query.k = 0;
    assert_int_equal(sac_collection_search_pictures(s->collection, s->encoder, s->pictures, &query, 1, 0,
                                                    &results, &error),
                     SAC_INVALID_ARGUMENT);
    query.k = 3;
    query.depth = SAC_DEPTH_MAX + 1;
    assert_int_equal(sac_collection_search_pictures(s->collection, s->encoder, s->pictures, &query, 1, 0,
                                                    &results, &error),
                     SAC_INVALID_ARGUMENT);
    assert_null(results);
    assert_ok(
        sac_collection_search_pictures(s->collection, s->encoder, s->pictures, &query, 0, 0, &results, err));
    sac_results_free(results);
    sac_encoder_close(other);
    sac_encoder_close(builtin);
    free_picture_search(s);
}

/* Weights of the last layer: the file's path, and its bytes, of which the first 8 tell where the header ends.
 */
static void overflow(const char *path, struct sac_test_file *file)
{
    const float large = 3e38f;
    const sac_tensor *weight;
    sac_safetensors *header;
    uint64_t at;

    memcpy(&at, file->bytes, sizeof at);
    assert_ok(sac_safetensors_open(path, &header, err));
    weight = sac_safetensors_find(header, "norm.weight");
    assert_non_null(weight);
    assert_int_equal(weight->type, SAC_TENSOR_F32);
    for (uint64_t i = 0; i < weight->count; i++)
        memcpy(file->bytes + 8 + at + weight->begin + i * sizeof large, &large, sizeof large);
    sac_safetensors_close(header);
}

/* The network with weights so large that its embeddings are infinite. */
static void write_broken_network(const char *folder)
{
    static const char *const names[] = {"config.json", "model.safetensors"};

    for (size_t i = 0; i < 2; i++) {
        char path[SAC_SCRATCH_PATH_MAX + 64];
        struct sac_test_file file;
        FILE *to;

        snprintf(path, sizeof path, "%s/%s", model, names[i]);
        file = sac_test_read(path);
        if (i == 1)
            overflow(path, &file);
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        to = fopen(path, "wb");
        assert_non_null(to);
        assert_int_equal(fwrite(file.bytes, 1, file.size, to), file.size);
        fclose(to);
        free(file.bytes);
    }
}

static void unusable_weights_are_told(void **state)
{
    struct picture_search *s = make_picture_search(SAC_METRIC_COSINE, "Flat", model);
    char folder[SAC_SCRATCH_PATH_MAX];
    sac_prepared *pictures[PICTURES];
    sac_collection_params params;
    sac_collection *broken_ones;
    sac_encoder *broken;
    sac_results *results;
    sac_query query;
    sac_error error;

    (void)state;
    sac_scratch_make(folder);
    write_broken_network(folder);
    broken = test_encoder(s->device, folder);
    test_pictures(broken, pictures);
    sac_collection_params_init(&params);
    params.dim = s->dim;
    params.model = "";
    params.fingerprint = sac_encoder_fingerprint(broken);
    assert_ok(sac_database_create(s->db, "broken", &params, err));
    assert_ok(sac_collection_acquire(s->db, "broken", &broken_ones, err));
    sac_query_init(&query);
    for (int filled = 0; filled < 2; filled++) {
        sac_item item = {.id = {.number = 1}, .vector = s->vectors};
        if (filled)
            assert_ok(sac_collection_put(broken_ones, &item, 1, err));
        assert_int_equal(
            sac_collection_search_pictures(broken_ones, broken, pictures, &query, 1, 0, &results, &error),
            SAC_INTERNAL);
        assert_non_null(strstr(error.text, "the model's weights are unusable"));
    }
    for (size_t i = 0; i < PICTURES; i++)
        sac_prepared_free(pictures[i]);
    sac_encoder_close(broken);
    sac_collection_release(broken_ones);
    sac_scratch_remove(folder);
    ask(s, 0, 1, 0);
    free_picture_search(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_find_what_their_vectors_find),
        cmocka_unit_test(they_follow_changes),
        cmocka_unit_test(an_item_that_is_replaced_is_found),
        cmocka_unit_test(any_device_may_embed_for_any_other),
        cmocka_unit_test(what_does_not_fit_together_is_refused),
        cmocka_unit_test(unusable_weights_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
