/* What is saved comes back as it was, and a damaged file never does any harm. */
#include "engine/rabitq.h"
#include "tests/engine/index_image.h"
#include "tests/engine/vector_set.h"

#include <math.h>

static char path[256];

static sac_index *trained(sac_device *device, const struct vector_set *set, const char *spec)
{
    sac_index *index = test_index_of(device, set, SAC_METRIC_L2, spec);
    size_t removed;

    assert_ok(sac_index_delete(index, 100, set->labels + 7, &removed, err)); /* holes in the slots */
    assert_ok(sac_index_measure(index, NULL, NULL, err));
    return index;
}

static void expect_same_answers(const sac_index *a, const sac_index *b, const struct vector_set *set)
{
    size_t n = set->query_count < 60 ? set->query_count : 60;
    sac_query *x = test_queries(set->queries, n, set->dim, 20),
              *y = test_queries(set->queries, n, set->dim, 20);

    assert_ok(sac_index_search(a, x, n, err));
    assert_ok(sac_index_search(b, y, n, err));
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(x[i].hit_count, y[i].hit_count);
        assert_memory_equal(x[i].hits, y[i].hits, x[i].hit_count * sizeof *x[i].hits);
    }
    test_queries_free(x);
    test_queries_free(y);
}

static void a_loaded_index_answers_as_the_saved_one(void **state)
{
    static const char *const specs[] = {"Flat",
                                        "SQfp16",
                                        "SQ8",
                                        "IVF32,PQ32",
                                        "IVF32,PQ32,Refine(SQ8)",
                                        "OPQ16_64,IVF20,PQ16x5,Refine(SQfp16)",
                                        "IVF32,RaBitQ"};
    struct vector_set set = vector_set_load("sift5k");
    sac_device *device = test_device("cpu");

    (void)state;
    for (size_t s = 0; s < sizeof specs / sizeof specs[0]; s++) {
        if (strstr(specs[s], "RaBitQ") != NULL && !sac_has_rabitq(device))
            continue;
        sac_index *index = trained(device, &set, specs[s]), *loaded;
        sac_index_info a, b;
        sac_recall_point one[64], two[64];
        size_t removed;

        assert_ok(sac_index_save(index, path, true, err));
        assert_ok(sac_index_load(device, path, NULL, NULL, &loaded, err));
        expect_same_answers(index, loaded, &set);
        sac_index_describe(index, &a);
        sac_index_describe(loaded, &b);
        assert_string_equal(a.spec, b.spec);
        assert_int_equal(a.count, b.count);
        assert_true(a.trained == b.trained && a.measured == b.measured);
        size_t points = sac_index_recall_curve(index, one, 64);
        assert_int_equal(points, sac_index_recall_curve(loaded, two, 64));
        assert_memory_equal(one, two, points * sizeof *one);
        /* and it can be changed */
        assert_ok(sac_index_add(loaded, 50, set.base + 7 * set.dim, set.labels + 7, NULL, NULL, err));
        assert_ok(sac_index_delete(loaded, 4000, set.labels + 57, &removed, err));
        assert_int_equal(removed, 3950);
        sac_index_close(loaded);
        sac_index_close(index);
    }
    unlink(path);
    sac_device_close(device);
    vector_set_free(&set);
}

static bool give_vector(void *context, uint64_t label, float *vector)
{
    const struct vector_set *set = context;

    if (label == 4000)
        return false;
    memcpy(vector, set->base + label * set->dim, set->dim * sizeof *vector);
    return true;
}

static void vectors_may_come_from_elsewhere(void **state)
{
    struct vector_set set = vector_set_load("sift5k");
    sac_device *device = test_device("cpu");
    sac_index *index = trained(device, &set, "IVF32,PQ32"), *loaded;
    const uint64_t gone = 4000;
    sac_error problem;

    (void)state;
    assert_ok(sac_index_save(index, path, false, err));
    assert_int_equal(sac_index_load(device, path, NULL, NULL, &loaded, &problem), SAC_INVALID_ARGUMENT);
    assert_ok(sac_index_load(device, path, give_vector, &set, &loaded, err));
    assert_false(sac_index_contains(loaded, gone));
    assert_ok(sac_index_delete(index, 1, &gone, NULL, err));
    expect_same_answers(index, loaded, &set);
    sac_index_close(loaded);
    sac_index_close(index);
    unlink(path);
    sac_device_close(device);
    vector_set_free(&set);
}

static void empty_and_untrained_indexes_are_kept(void **state)
{
    static const char *const specs[] = {"auto", "Flat", "IVF8,PQ4"};
    sac_device *device = test_device("cpu");

    (void)state;
    for (size_t s = 0; s < 3; s++) {
        sac_index *index = test_index(device, 16, SAC_METRIC_COSINE, specs[s]), *loaded;
        sac_index_info info;

        assert_ok(sac_index_save(index, path, true, err));
        assert_ok(sac_index_load(device, path, NULL, NULL, &loaded, err));
        sac_index_describe(loaded, &info);
        assert_string_equal(info.spec, specs[s]);
        assert_int_equal(info.trained, s == 1);
        sac_index_close(loaded);
        sac_index_close(index);
    }
    unlink(path);
    sac_device_close(device);
}

/* ---- damage ----------------------------------------------------------------------------------------- */

/* Between them they have every section but groups. */
static const char *const small_specs[] = {"OPQ3,IVF3,PQ3x4,Refine(SQfp16)", "IVF3,RaBitQ"};

static sac_index *small_index(sac_device *device, const char *spec, float *base)
{
    sac_index *index = test_index(device, 6, SAC_METRIC_L2, spec);
    uint64_t seed = 9, labels[300];

    for (size_t i = 0; i < 300 * 6; i++)
        base[i] = test_random(&seed);
    for (size_t i = 0; i < 300; i++)
        labels[i] = i;
    assert_ok(sac_index_train(index, 300, base, 0, NULL, NULL, err));
    assert_ok(sac_index_add(index, 300, base, labels, NULL, NULL, err));
    assert_ok(sac_index_measure(index, NULL, NULL, err));
    return index;
}

/* Loads what is on disk now. It must fail with words, or give an index that answers. */
static bool survives(sac_device *device, const float *base)
{
    sac_error problem = {0};
    sac_index *index;
    sac_status st = sac_index_load(device, path, NULL, NULL, &index, &problem);

    if (st != SAC_OK) {
        assert_true(st == SAC_CORRUPT || st == SAC_VERSION_MISMATCH);
        assert_true(strstr(problem.text, path) != NULL);
        return false;
    }
    sac_query *q = test_queries(base, 3, 6, 10);
    q[1].exact = true;
    q[2].nprobe = 3;
    assert_ok(sac_index_search(index, q, 3, err));
    assert_int_equal(q[0].hit_count, 10);
    test_queries_free(q);
    sac_index_close(index);
    return true;
}

static void change_any_byte(sac_device *device, const char *spec)
{
    float base[300 * 6];
    sac_index *index = small_index(device, spec, base);
    size_t harmless = 0;

    assert_ok(sac_index_save(index, path, true, err));
    struct image image = image_read(path);
    assert_true(survives(device, base));
    for (size_t at = 0; at < image.size; at += at < 4096 && (at < 320 || at >= 4080) ? 1 : 61) {
        image.bytes[at] ^= (uint8_t)(1u << at % 8);
        image_write(path, &image);
        if (survives(device, base)) {
            harmless++; /* only the zeros between sections */
            assert_true(image.bytes[at] == 1u << at % 8);
        }
        image.bytes[at] ^= (uint8_t)(1u << at % 8);
    }
    assert_true(harmless < image.size / 61);
    for (size_t size = 0; size < image.size; size += 997) {
        image_write(path, &(struct image){image.bytes, size});
        assert_false(survives(device, base));
    }
    image_write(path, &image);
    assert_true(survives(device, base));
    free(image.bytes);
    unlink(path);
    sac_index_close(index);
}

static void any_changed_byte_is_found(void **state)
{
    sac_device *device = test_device("ref");

    (void)state;
    for (size_t i = 0; i < 2; i++)
        if (i == 0 || sac_has_rabitq(device))
            change_any_byte(device, small_specs[i]);
    sac_device_close(device);
}

/* A file made by an enemy has right checksums over wrong numbers. */
static void write_wrong_numbers(sac_device *device, const char *spec)
{
    float base[300 * 6];
    sac_index *index = small_index(device, spec, base);
    uint64_t seed = 77;

    assert_ok(sac_index_save(index, path, true, err));
    struct image image = image_read(path), changed = image_read(path);
    for (int i = 0; i < 3000; i++) {
        memcpy(changed.bytes, image.bytes, image.size);
        for (int k = 0; k < 1 + i % 3; k++) {
            size_t range = i % 2 == 0 ? 320 : image.size;
            size_t at = (size_t)((test_random(&seed) + 1) / 2 * (float)range);
            changed.bytes[at < image.size ? at : 0] = i % 5 == 0 ? 0xff : (uint8_t)(test_random(&seed) * 128);
        }
        image_sign(&changed);
        image_write(path, &changed);
        sac_error problem = {0};
        sac_index *loaded;
        if (sac_index_load(device, path, NULL, NULL, &loaded, &problem) == SAC_OK) {
            sac_index_info info;
            sac_index_describe(loaded, &info);
            sac_query *q = test_queries(base, 2, 6, 10);
            q[1].exact = true;
            if (info.dim <= 6 && info.trained)
                (void)sac_index_search(loaded, q, 2, &problem);
            test_queries_free(q);
        } else {
            assert_true(problem.text[0] != '\0');
        }
        sac_index_close(loaded);
    }
    free(image.bytes);
    free(changed.bytes);
    unlink(path);
    sac_index_close(index);
}

static void wrong_numbers_with_right_checksums_do_no_harm(void **state)
{
    sac_device *device = test_device("ref");

    (void)state;
    for (size_t i = 0; i < 2; i++)
        if (i == 0 || sac_has_rabitq(device))
            write_wrong_numbers(device, small_specs[i]);
    sac_device_close(device);
}

static void a_reach_that_makes_no_sense_is_refused(void **state)
{
    static const float wrong[] = {NAN, -NAN, 0.999f, -1, INFINITY, -INFINITY}, right[] = {0, 1, 3.5f, 1e30f};
    float base[300 * 6];
    sac_device *device = test_device("ref");
    sac_index *index = small_index(device, small_specs[0], base);
    sac_error problem;

    (void)state;
    assert_ok(sac_index_save(index, path, true, err));
    struct image image = image_read(path);
    uint8_t *reach =
        image.bytes + image_header(&image)->sections[SAC_SECTION_CURVE].offset + 12; /* of the first point */
    for (size_t i = 0; i < 6; i++) {
        sac_index *loaded;
        memcpy(reach, &wrong[i], 4);
        image_sign(&image);
        image_write(path, &image);
        assert_int_equal(sac_index_load(device, path, NULL, NULL, &loaded, &problem), SAC_CORRUPT);
        assert_non_null(strstr(problem.text, "recall curve"));
    }
    for (size_t i = 0; i < 4; i++) {
        memcpy(reach, &right[i], 4);
        image_sign(&image);
        image_write(path, &image);
        assert_true(survives(device, base));
    }
    free(image.bytes);
    unlink(path);
    sac_index_close(index);
    sac_device_close(device);
}

static void newer_version_and_missing_file_are_named(void **state)
{
    sac_device *device = test_device("ref");
    sac_index *index = test_index(device, 4, SAC_METRIC_L2, "Flat"), *loaded;
    sac_error problem;

    (void)state;
    assert_ok(sac_index_save(index, path, true, err));
    struct image image = image_read(path);
    ((sac_index_header *)(void *)image.bytes)->version = SAC_INDEX_FILE_VERSION + 1;
    image_sign(&image);
    image_write(path, &image);
    assert_int_equal(sac_index_load(device, path, NULL, NULL, &loaded, &problem), SAC_VERSION_MISMATCH);
    assert_null(loaded);
    assert_non_null(strstr(problem.text, "newer program"));
    unlink(path);
    assert_int_equal(sac_index_load(device, path, NULL, NULL, &loaded, &problem), SAC_NOT_FOUND);
    assert_int_equal(sac_index_save(index, "/nowhere/at/all", true, &problem), SAC_IO);
    free(image.bytes);
    sac_index_close(index);
    sac_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loaded_index_answers_as_the_saved_one),
        cmocka_unit_test(vectors_may_come_from_elsewhere),
        cmocka_unit_test(empty_and_untrained_indexes_are_kept),
        cmocka_unit_test(any_changed_byte_is_found),
        cmocka_unit_test(wrong_numbers_with_right_checksums_do_no_harm),
        cmocka_unit_test(a_reach_that_makes_no_sense_is_refused),
        cmocka_unit_test(newer_version_and_missing_file_are_named),
    };

    snprintf(path, sizeof path, "/tmp/saccade_index_file_%ld", (long)getpid());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
