/* Pictures on their way to an encoder, on the device that SACCADE_TEST_DEVICE names, else the CPU: the pool
 * of memory that they lie in, and that one which keeps its own size gives the same vector, to the bit, as one
 * that was scaled where it was decoded. */
#include "engine/prepared.h"
#include "engine/vit.h"

#include "tests/file.h"
#include "tests/picture.h"

#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)

static sac_device *device;

static int setup(void **state)
{
    sac_device_options options;

    (void)state;
    sac_device_options_init(&options);
    options.name = getenv("SACCADE_TEST_DEVICE");
    if (options.name == NULL)
        options.name = "cpu";
    return sac_device_open(&options, &device, NULL) == SAC_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    sac_device_close(device);
    return 0;
}

/* ---- the pool --------------------------------------------------------------------------------------- */

static void blocks_are_used_again(void **state)
{
    static const size_t sizes[] = {1, 65536, 65537, 81920, 100000, MIB, 3 * MIB - 1};
    sac_picture_pool pool;
    uint32_t class, again;

    (void)state;
    sac_picture_pool_init(&pool, device, 16 * MIB);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t before = pool.bytes;
        void *block = sac_picture_pool_take(&pool, sizes[i], &class);

        assert_non_null(block);
        memset(block, 0xee, sizes[i]);
        sac_picture_pool_give_back(&pool, block, class);
        assert_true(pool.bytes - before <= sizes[i] + sizes[i] / 4 + 65536);
        before = pool.bytes;
        assert_ptr_equal(sac_picture_pool_take(&pool, sizes[i], &again), block);
        assert_int_equal(again, class);
        assert_int_equal(pool.bytes, before);
        sac_picture_pool_give_back(&pool, block, class);
    }
    sac_picture_pool_free(&pool);
}

static void the_pool_is_bounded(void **state)
{
    sac_picture_pool pool;
    void *large[3], *small;
    uint32_t class, small_class;

    (void)state;
    sac_picture_pool_init(&pool, device, 4 * MIB);
    assert_null(sac_picture_pool_take(&pool, 5 * MIB, &class));
    assert_null(sac_picture_pool_take(&pool, SIZE_MAX, &class));
    for (int i = 0; i < 2; i++) {
        large[i] = sac_picture_pool_take(&pool, 2 * MIB, &class);
        assert_non_null(large[i]);
    }
    assert_null(sac_picture_pool_take(&pool, 1, &small_class));
    sac_picture_pool_give_back(&pool, large[0], class); /* idle memory makes room for another size */
    small = sac_picture_pool_take(&pool, 1, &small_class);
    assert_non_null(small);
    assert_null(sac_picture_pool_take(&pool, 2 * MIB, &class));
    sac_picture_pool_give_back(&pool, small, small_class);
    large[2] = sac_picture_pool_take(&pool, 2 * MIB, &class);
    assert_non_null(large[2]);
    assert_true(pool.bytes <= 4 * MIB);
    sac_picture_pool_give_back(&pool, large[1], class);
    sac_picture_pool_give_back(&pool, large[2], class);
    sac_picture_pool_free(&pool);
    sac_picture_pool_init(&pool, device, 0);
    assert_null(sac_picture_pool_take(&pool, 1, &class));
    sac_picture_pool_free(&pool);
}

/* ---- pictures --------------------------------------------------------------------------------------- */

struct encoder {
    sac_model_config config;
    sac_vit *vit;
    sac_preparation here, there; /* scaled where it is decoded; left to the device */
};

static void open_encoder(struct encoder *e, const char *folder)
{
    sac_weights *weights = NULL;
    sac_error err = {0};

    if (sac_model_config_load(folder, &e->config, &err) != SAC_OK ||
        sac_weights_open(folder, &weights, &err) != SAC_OK ||
        sac_vit_open(device, &e->config, weights, SAC_F32, 8, &e->vit, &err) != SAC_OK)
        fail_msg("%s: %s", folder, err.text);
    sac_weights_close(weights);
    e->here = (sac_preparation){.host = sac_device_host(device), .preprocess = e->config.preprocess};
    sac_image_limits_init(&e->here.limits);
    e->here.limits.milliseconds = 60000;
    e->there = e->here;
    e->there.own_size_max = 2 * MIB;
    sac_picture_pool_init(&e->here.pool, device, 0);
    sac_picture_pool_init(&e->there.pool, device, 4 * MIB);
}

static void close_encoder(struct encoder *e)
{
    sac_picture_pool_free(&e->here.pool);
    sac_picture_pool_free(&e->there.pool);
    sac_vit_close(e->vit);
}

static void check_same(struct encoder *e, sac_prepared *here, sac_prepared *there)
{
    const struct sac_placed_picture placed[2] = {here->placed, there->placed};
    float *vectors = calloc(2 * sac_vit_dim(e->vit), sizeof *vectors);
    sac_error err = {0};

    assert_non_null(vectors);
    if (sac_vit_embed(e->vit, 2, &(struct sac_vit_input){.pictures = placed}, vectors, NULL, &err) != SAC_OK)
        fail_msg("%s", err.text);
    assert_memory_equal(vectors, vectors + sac_vit_dim(e->vit), sac_vit_dim(e->vit) * sizeof *vectors);
    free(vectors);
    sac_prepared_free(here);
    sac_prepared_free(there);
}

static const sac_crop crops[] = {{0, 0, 0, 0}, {3, 5, 17, 11}, {8, 2, 3, 1}, {1, 1, 1000, 9}};

static void an_own_size_gives_the_same_vector(void **state)
{
    static const char *const models[] = {"clip_openai", "dinov2", "siglip", "timm"};
    static const sac_image sizes[] = {{40, 30, NULL}, {9, 120, NULL}, {28, 28, NULL}, {300, 200, NULL}};

    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        struct encoder e;
        char folder[128];

        snprintf(folder, sizeof folder, "tests/fixtures/encoder/%s", models[m]);
        open_encoder(&e, folder);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] * 4; i++) {
            sac_image image = sizes[i / 4];
            sac_prepared *here, *there;

            image.rgb = sac_test_picture(image.width, image.height);
            assert_int_equal(sac_prepared_copy(&e.here, &image, &crops[i % 4], &here, NULL), SAC_OK);
            assert_int_equal(sac_prepared_copy(&e.there, &image, &crops[i % 4], &there, NULL), SAC_OK);
            free(image.rgb);
            assert_true(there->pooled && !here->pooled);
            check_same(&e, here, there);
        }
        close_encoder(&e);
    }
}

static void files_are_decoded_into_the_pool(void **state)
{
    static const char *const names[] = {
        "colour.jpg", "progressive.jpg",  "cmyk.jpg",
#ifdef SACCADE_WITH_PNG
        "turned.png", "interlaced.png",
#endif
#ifdef SACCADE_WITH_WEBP
        "lossy.webp", "translucent.webp",
#endif
    };
    struct encoder e;

    (void)state;
    open_encoder(&e, "tests/fixtures/encoder/dinov2");
    for (size_t i = 0; i < sizeof names / sizeof names[0] * 2; i++) {
        struct sac_test_file file;
        sac_prepared *here, *there;
        char path[256];

        snprintf(path, sizeof path, "tests/fixtures/images/%s", names[i / 2]);
        file = sac_test_read(path);
        assert_int_equal(sac_prepared_read(&e.here, file.bytes, file.size, &crops[i % 2], &here, NULL),
                         SAC_OK);
        assert_int_equal(sac_prepared_read(&e.there, file.bytes, file.size, &crops[i % 2], &there, NULL),
                         SAC_OK);
        assert_int_equal(
            sac_prepared_read(&e.there, file.bytes, file.size / 2, NULL, &(sac_prepared *){NULL}, NULL),
            SAC_IMAGE_CORRUPT);
        free(file.bytes);
        assert_true(there->pooled);
        check_same(&e, here, there);
    }
    close_encoder(&e);
}

/* Over the bound, or with the pool used up, a picture is scaled at once. */
static void memory_stays_bounded(void **state)
{
    sac_image large = {1000, 900, sac_test_picture(1000, 900)}, small = {400, 500, large.rgb};
    sac_prepared *many[16], *one;
    struct encoder e;
    unsigned pooled = 0;

    (void)state;
    open_encoder(&e, "tests/fixtures/encoder/dinov2");
    assert_int_equal(sac_prepared_copy(&e.there, &large, NULL, &one, NULL), SAC_OK);
    assert_false(one->pooled);
    sac_prepared_free(one);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(sac_prepared_copy(&e.there, &small, NULL, &many[i], NULL), SAC_OK);
        pooled += many[i]->pooled;
    }
    assert_in_range(pooled, 4, 7);
    assert_true(e.there.pool.bytes <= 4 * MIB);
    check_same(&e, many[0], many[15]);
    for (int i = 1; i < 15; i++)
        sac_prepared_free(many[i]);
    free(large.rgb);
    close_encoder(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_used_again),
        cmocka_unit_test(the_pool_is_bounded),
        cmocka_unit_test(an_own_size_gives_the_same_vector),
        cmocka_unit_test(files_are_decoded_into_the_pool),
        cmocka_unit_test(memory_stays_bounded),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
