/* Preparing a picture for an encoder: Pillow's results, crops, tiny and endless pictures. */
#include "engine/preprocess.h"
#include "tests/picture.h"

#include <stdio.h>
#include <string.h>

static sac_device *open_device(void)
{
    sac_device *device;

    assert_int_equal(sac_device_open(NULL, &device, NULL), SAC_OK);
    return device;
}

struct fixture {
    sac_image image;
    sac_crop crop;
    sac_preprocess preprocess;
    unsigned long long checksum;
};

static bool read_fixture(FILE *file, struct fixture *f)
{
    char fit[8], filter[16], rounding[8];
    sac_preprocess *p = &f->preprocess;
    int got = fscanf(file, "%u %u %u %u %u %u %u %u %7s %u %15s %7s %llx", &f->image.width, &f->image.height,
                     &f->crop.x, &f->crop.y, &f->crop.w, &f->crop.h, &p->width, &p->height, fit, &p->shorter,
                     filter, rounding, &f->checksum);

    if (got == EOF)
        return false;
    assert_int_equal(got, 13);
    p->fit = strcmp(fit, "crop") == 0 ? SAC_FIT_CROP : SAC_FIT_SQUASH;
    p->filter = strcmp(filter, "bicubic") == 0 ? SAC_FILTER_BICUBIC : SAC_FILTER_BILINEAR;
    p->rounding = strcmp(rounding, "hf") == 0 ? SAC_ROUNDING_HF : SAC_ROUNDING_FLOOR;
    return true;
}

static void prepared_as_by_pillow(void **state)
{
    FILE *file = fopen("tests/fixtures/preprocess.txt", "r");
    sac_device *device = open_device();
    struct fixture f = {0};
    int count = 0;

    (void)state;
    assert_non_null(file);
    for (; read_fixture(file, &f); count++) {
        size_t size = (size_t)f.preprocess.width * f.preprocess.height * 3;
        uint8_t *pixels = malloc(size);
        sac_error err;

        assert_non_null(pixels);
        memset(pixels, 0xee, size);
        f.image.rgb = sac_test_picture(f.image.width, f.image.height);
        if (sac_preprocess_run(device, &f.preprocess, &f.image, &f.crop, pixels, &err) != SAC_OK)
            fail_msg("line %d: %s", count + 1, err.text);
        if (sac_test_checksum(pixels, size) != f.checksum)
            fail_msg("line %d: not what Pillow makes", count + 1);
        free(pixels);
        free(f.image.rgb);
    }
    assert_true(count > 20);
    fclose(file);
    sac_device_close(device);
}

static void crops_outside_the_picture_are_refused(void **state)
{
    static const sac_crop crops[] = {
        {40, 0, 1, 1}, {0, 30, 5, 5}, {UINT32_MAX, UINT32_MAX, 1, 1}, {3, 3, 5, 0}};
    sac_device *device = open_device();
    sac_image image = {40, 30, sac_test_picture(40, 30)};
    sac_preprocess preprocess = {.width = 16, .height = 16, .fit = SAC_FIT_CROP, .shorter = 16};
    uint8_t pixels[16 * 16 * 3];

    (void)state;
    for (size_t i = 0; i < sizeof crops / sizeof crops[0]; i++) {
        sac_error err;

        assert_int_equal(sac_preprocess_run(device, &preprocess, &image, &crops[i], pixels, &err),
                         SAC_INVALID_ARGUMENT);
        assert_non_null(strstr(err.text, "picture of 40x30"));
    }
    free(image.rgb);
    sac_device_close(device);
}

/* No crop, a crop of width 0 and a crop larger than the picture all mean the whole picture. */
static void the_whole_picture_has_many_names(void **state)
{
    static const sac_crop crops[] = {{7, 7, 0, 0}, {0, 0, 40, 30}, {0, 0, UINT32_MAX, UINT32_MAX}};
    sac_device *device = open_device();
    sac_image image = {40, 30, sac_test_picture(40, 30)};
    sac_preprocess preprocess = {.width = 16, .height = 16, .fit = SAC_FIT_CROP, .shorter = 18};
    uint8_t want[16 * 16 * 3], got[16 * 16 * 3];

    (void)state;
    assert_int_equal(sac_preprocess_run(device, &preprocess, &image, NULL, want, NULL), SAC_OK);
    for (size_t i = 0; i < sizeof crops / sizeof crops[0]; i++) {
        assert_int_equal(sac_preprocess_run(device, &preprocess, &image, &crops[i], got, NULL), SAC_OK);
        assert_memory_equal(want, got, sizeof want);
    }
    free(image.rgb);
    sac_device_close(device);
}

/* Scaled, these would be 4 million pixels long; only what shows is computed. */
static void endless_pictures_are_prepared(void **state)
{
    static const uint32_t sizes[][2] = {{16384, 1}, {1, 16384}, {16384, 16}, {16, 16384}};
    sac_device *device = open_device();
    sac_preprocess preprocess = {
        .width = 224, .height = 224, .fit = SAC_FIT_CROP, .shorter = 248, .filter = SAC_FILTER_BICUBIC};
    uint8_t *pixels = malloc(224 * 224 * 3);

    (void)state;
    assert_non_null(pixels);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        sac_image image = {sizes[i][0], sizes[i][1], NULL};

        image.rgb = sac_test_picture(image.width, image.height);
        assert_int_equal(sac_preprocess_run(device, &preprocess, &image, NULL, pixels, NULL), SAC_OK);
        free(image.rgb);
    }
    free(pixels);
    sac_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prepared_as_by_pillow),
        cmocka_unit_test(crops_outside_the_picture_are_refused),
        cmocka_unit_test(the_whole_picture_has_many_names),
        cmocka_unit_test(endless_pictures_are_prepared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
