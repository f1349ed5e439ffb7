/* The built-in encoder: length, sameness to the bit, and copies that find each other. */
#include "engine/descriptor.h"
#include "tests/data.h"
#include "tests/file.h"
#include "tests/picture.h"

#include <math.h>
#include <string.h>

enum { SIDE = 128, DIM_MAX = 512 };

/* A change of the method changes vectors that people have stored: give it another SAC_DESCRIPTOR_NAME. */
static const uint64_t builtin_1_checksum = 0x1cadcd37fef0ee90;

static void compute(const uint8_t *pixels, float *vector)
{
    float guarded[DIM_MAX + 4];
    uint32_t dim = sac_descriptor_dim();

    assert_in_range(dim, 256, DIM_MAX);
    for (uint32_t i = 0; i < dim + 4; i++)
        guarded[i] = NAN;
    sac_descriptor_compute(pixels, guarded);
    for (uint32_t i = 0; i < dim; i++)
        assert_true(isfinite(guarded[i]));
    for (uint32_t i = dim; i < dim + 4; i++)
        assert_true(isnan(guarded[i]));
    memcpy(vector, guarded, dim * sizeof *vector);
}

static float dot(const float *a, const float *b)
{
    float sum = 0.0f;

    for (uint32_t i = 0; i < sac_descriptor_dim(); i++)
        sum += a[i] * b[i];
    return sum;
}

static void the_input_is_as_announced(void **state)
{
    sac_preprocess p;

    (void)state;
    sac_descriptor_preprocess(&p);
    assert_int_equal(p.width, SIDE);
    assert_int_equal(p.height, SIDE);
    assert_int_equal(p.fit, SAC_FIT_SQUASH);
}

static void vectors_have_length_1(void **state)
{
    uint8_t *pixels = sac_test_picture(SIDE, SIDE);
    float vector[DIM_MAX];

    (void)state;
    compute(pixels, vector);
    assert_true(fabsf(dot(vector, vector) - 1.0f) < 1e-5f);
    for (int flat = 0; flat < 256; flat += 51) {
        memset(pixels, flat, (size_t)SIDE * SIDE * 3);
        compute(pixels, vector);
        assert_true(fabsf(dot(vector, vector) - 1.0f) < 1e-5f);
    }
    free(pixels);
}

static void the_bits_never_change(void **state)
{
    uint8_t *pixels = sac_test_picture(SIDE, SIDE);
    float vector[DIM_MAX], again[DIM_MAX];
    uint64_t checksum;

    (void)state;
    compute(pixels, vector);
    compute(pixels, again);
    assert_memory_equal(vector, again, sac_descriptor_dim() * sizeof *vector);
    checksum = sac_test_checksum((const uint8_t *)vector, sac_descriptor_dim() * sizeof *vector);
    if (checksum != builtin_1_checksum)
        fail_msg("%s gives other vectors than it used to: checksum 0x%llx", SAC_DESCRIPTOR_NAME,
                 (unsigned long long)checksum);
    free(pixels);
}

/* Waves whose directions, lengths and colours depend on the seed: a stand-in for photographs. */
static void make_scene(uint32_t seed, uint8_t *pixels)
{
    for (uint32_t y = 0; y < SIDE; y++)
        for (uint32_t x = 0; x < SIDE; x++)
            for (uint32_t c = 0; c < 3; c++) {
                float a = (float)(x * (seed % 7 + 1) + y * (seed % 5 + c)) / 23.0f;
                float b = (float)(x * (seed % 3) + y * (seed % 11)) / 31.0f + (float)seed;

                pixels[(y * SIDE + x) * 3 + c] =
                    (uint8_t)(128.0f + 60.0f * sinf(a) + 60.0f * sinf(b + (float)c));
            }
}

static void a_recoloured_copy_is_nearer_than_others(void **state)
{
    enum { SCENES = 24 };
    static float vectors[SCENES][DIM_MAX];
    uint8_t *pixels = malloc((size_t)SIDE * SIDE * 3);
    float copy[DIM_MAX];

    (void)state;
    assert_non_null(pixels);
    for (uint32_t i = 0; i < SCENES; i++) {
        make_scene(i, pixels);
        compute(pixels, vectors[i]);
    }
    for (uint32_t i = 0; i < SCENES; i++) {
        make_scene(i, pixels);
        for (uint32_t p = 0; p < SIDE * SIDE * 3; p++)
            pixels[p] = (uint8_t)(pixels[p] * (p % 3 == 2 ? 0.8f : 0.9f) + 8.0f);
        compute(pixels, copy);
        for (uint32_t j = 0; j < SCENES; j++)
            if (j != i)
                assert_true(dot(copy, vectors[i]) > dot(copy, vectors[j]));
    }
    free(pixels);
}

static void describe_file(sac_device *device, const char *name, float *vector)
{
    struct sac_test_file file = sac_test_read(sac_test_data(name));
    static uint8_t pixels[SIDE * SIDE * 3];
    sac_image_limits limits;
    sac_preprocess preprocess;
    sac_image *image;

    sac_image_limits_init(&limits);
    limits.milliseconds = 60000;
    assert_int_equal(sac_image_decode(file.bytes, file.size, &limits, &image, NULL), SAC_OK);
    sac_descriptor_preprocess(&preprocess);
    assert_int_equal(sac_preprocess_run(device, &preprocess, image, NULL, pixels, NULL), SAC_OK);
    compute(pixels, vector);
    sac_image_free(image);
    free(file.bytes);
}

/* Blurred, sharpened, recoloured, shrunk and squared copies of one photo lie nearer to it than all others. */
static void copies_of_a_photo_come_first(void **state)
{
    static const char *const copies[] = {"blur-a-little",   "blur-a-lot",       "high-contrast",
                                         "high-saturation", "sharpen-a-little", "sharpen-a-lot",
                                         "shrink-a-little", "shrink-a-lot",     "square-128x128",
                                         "square-256x256",  "square-512x512"};
    static const char *const others[] = {"labelme_q0003", "labelme_q0004", "labelme_q0122", "labelme_q0291",
                                         "labelme_q0746", "labelme_q1050", "labelme_q2821"};
    float original[DIM_MAX], vector[DIM_MAX], least = 1.0f, most = -1.0f;
    sac_device *device;
    char name[64];

    (void)state;
    sac_test_data_need("near/aaa-orig.jpg");
    assert_int_equal(sac_device_open(NULL, &device, NULL), SAC_OK);
    describe_file(device, "near/aaa-orig.jpg", original);
    for (size_t i = 0; i < sizeof copies / sizeof copies[0]; i++) {
        snprintf(name, sizeof name, "near/%s.jpg", copies[i]);
        describe_file(device, name, vector);
        least = fminf(least, dot(original, vector));
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        snprintf(name, sizeof name, "near/%s.jpg", others[i]);
        describe_file(device, name, vector);
        most = fmaxf(most, dot(original, vector));
    }
    if (!(least > most + 0.1f))
        fail_msg("the farthest copy has cosine %.3f, the nearest other photo %.3f", (double)least,
                 (double)most);
    sac_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_input_is_as_announced),
        cmocka_unit_test(vectors_have_length_1),
        cmocka_unit_test(the_bits_never_change),
        cmocka_unit_test(a_recoloured_copy_is_nearer_than_others),
        cmocka_unit_test(copies_of_a_photo_come_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
