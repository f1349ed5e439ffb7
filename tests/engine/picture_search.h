/* picture_search.h -- a collection of vectors of a tiny network, and pictures to search it with. */
#ifndef SACCADE_TESTS_PICTURE_SEARCH_H
#define SACCADE_TESTS_PICTURE_SEARCH_H

#include "tests/engine/vector_set.h"
#include "tests/picture.h"
#include "tests/scratch.h"

enum { ITEMS = 90, PICTURES = 12, PASS = 5 };

struct picture_search {
    char folder[SAC_SCRATCH_PATH_MAX];
    sac_device *device;
    sac_encoder *encoder;
    sac_database *db;
    sac_collection *collection;
    uint32_t dim;
    sac_metric metric;
    sac_prepared *pictures[PICTURES];
    float *vectors; /* [PICTURES][dim] of the pictures; a quarter of the items are near them */
};

static inline sac_encoder *test_encoder(sac_device *device, const char *model)
{
    sac_encoder_options options;
    sac_encoder *encoder;

    sac_encoder_options_init(&options);
    options.precision = "f32";
    options.batch_max = PASS;
    options.limits.milliseconds = 60000;
    assert_ok(sac_encoder_open(device, model, &options, &encoder, err));
    return encoder;
}

/* Procedural ones of several sizes. */
static inline void test_pictures(sac_encoder *encoder, sac_prepared **pictures)
{
    for (uint32_t i = 0; i < PICTURES; i++) {
        sac_image image = {.width = 28 + 3 * i, .height = 50 - 2 * i};

        image.rgb = sac_test_picture(image.width, image.height);
        assert_ok(sac_encoder_prepare_image(encoder, &image, NULL, &pictures[i], err));
        free(image.rgb);
    }
}

static inline sac_status test_put(const struct picture_search *s, uint64_t id, const float *vector)
{
    sac_item item = {.id = {.number = id}, .vector = vector, .source = "here", .source_size = 4};
    sac_error error;

    return sac_collection_put(s->collection, &item, 1, &error);
}

static inline void fill_collection(const struct picture_search *s)
{
    float vectors[ITEMS][64];
    sac_item items[ITEMS];
    uint64_t seed = 41;

    for (size_t i = 0; i < ITEMS; i++) {
        for (size_t d = 0; d < s->dim; d++)
            vectors[i][d] = i % 4 == 0
                                ? s->vectors[i / 4 % PICTURES * s->dim + d] + 0.02f * test_random(&seed)
                                : 0.3f * test_random(&seed);
        items[i] = (sac_item){.id = {.number = i}, .vector = vectors[i], .source = "here", .source_size = 4};
    }
    assert_ok(sac_collection_put(s->collection, items, ITEMS, err));
}

static inline void open_collection(struct picture_search *s, sac_device *device)
{
    s->device = device;
    assert_ok(sac_database_open(s->device, s->folder, SAC_OPEN_CREATE, &s->db, err));
    assert_ok(sac_collection_acquire(s->db, "c", &s->collection, err));
}

static inline void close_collection(struct picture_search *s)
{
    sac_collection_release(s->collection);
    sac_database_close(s->db);
    sac_device_close(s->device);
}

/* Built on the CPU, then opened on the device under test with an encoder of its own there. */
static inline struct picture_search *make_picture_search(sac_metric metric, const char *spec,
                                                         const char *model)
{
    struct picture_search *s = calloc(1, sizeof *s);
    sac_device *cpu = test_device_exactly("cpu"), *device = test_device("cpu");
    sac_collection_params params;

    s->metric = metric;
    s->encoder = test_encoder(device, model);
    s->dim = sac_encoder_dim(s->encoder);
    assert_in_range(s->dim, 1, 64);
    test_pictures(s->encoder, s->pictures);
    s->vectors = calloc(PICTURES * s->dim, sizeof *s->vectors);
    assert_ok(sac_encoder_embed(s->encoder, PICTURES, s->pictures, s->vectors, err));
    sac_scratch_make(s->folder);
    sac_collection_params_init(&params);
    params.dim = s->dim;
    params.metric = metric;
    params.model = model;
    params.fingerprint = sac_encoder_fingerprint(s->encoder);
    assert_ok(sac_database_open(cpu, s->folder, SAC_OPEN_CREATE, &s->db, err));
    assert_ok(sac_database_create(s->db, "c", &params, err));
    assert_ok(sac_collection_acquire(s->db, "c", &s->collection, err));
    s->device = cpu;
    fill_collection(s);
    assert_ok(sac_collection_build(s->collection, spec, NULL, NULL, err));
    close_collection(s);
    open_collection(s, device);
    return s;
}

static inline void free_picture_search(struct picture_search *s)
{
    for (size_t i = 0; i < PICTURES; i++)
        sac_prepared_free(s->pictures[i]);
    sac_encoder_close(s->encoder);
    close_collection(s);
    sac_scratch_remove(s->folder);
    free(s->vectors);
    free(s);
}

#endif
