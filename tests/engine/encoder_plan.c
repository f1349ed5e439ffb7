/* sac_encoder_plan: what an encoder takes of the device under test (SACCADE_TEST_DEVICE) against what was
 * said of it before; on the CPU, which does not tell, only what is said. */
#include "engine/saccade.h"

#include "tests/data.h"

#include <string.h>

enum { BATCH = 8 };

static sac_device *device;

static int setup(void **state)
{
    sac_device_options options;

    (void)state;
    sac_device_options_init(&options);
    options.name = getenv("SACCADE_TEST_DEVICE") != NULL ? getenv("SACCADE_TEST_DEVICE") : "cpu";
    return sac_device_open(&options, &device, NULL) == SAC_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    sac_device_close(device);
    return 0;
}

static sac_encoder_options options_of(const char *precision)
{
    sac_encoder_options options;

    sac_encoder_options_init(&options);
    options.precision = precision;
    options.batch_max = BATCH;
    return options;
}

static uint64_t used(void)
{
    sac_device_memory memory;

    sac_device_memory_describe(device, &memory);
    return memory.used;
}

static sac_encoder_needs plan(const char *model, const char *precision)
{
    sac_encoder_options options = options_of(precision);
    sac_encoder_needs needs;
    sac_device_memory memory;
    sac_error err = {0};

    sac_device_memory_describe(device, &memory);
    if (sac_encoder_plan(model, &options, memory.budget, &needs, &err) != SAC_OK)
        fail_msg("%s: %s", model, err.text);
    return needs;
}

static void embed_some(sac_encoder *encoder)
{
    sac_image image = {40, 30, calloc(40 * 30, 3)};
    float *vectors = malloc(BATCH * sac_encoder_dim(encoder) * sizeof *vectors);
    sac_prepared *pictures[BATCH];
    sac_error err = {0};

    for (int i = 0; i < BATCH; i++) {
        image.rgb[i] = 200;
        assert_int_equal(sac_encoder_prepare_image(encoder, &image, NULL, &pictures[i], &err), SAC_OK);
    }
    if (sac_encoder_embed(encoder, BATCH, pictures, vectors, &err) != SAC_OK)
        fail_msg("%s", err.text);
    for (int i = 0; i < BATCH; i++)
        sac_prepared_free(pictures[i]);
    free(image.rgb);
    free(vectors);
}

/* rounding: bytes that many small buffers are rounded up by. */
static void compare(const char *model, const char *precision, uint64_t rounding)
{
    sac_encoder_options options = options_of(precision);
    sac_encoder_needs needs = plan(model, precision);
    uint64_t before = used(), open, embedded, said = needs.bytes_weights + needs.bytes_pass;
    sac_encoder *encoder;
    sac_error err = {0};

    if (sac_encoder_open(device, model, &options, &encoder, &err) != SAC_OK)
        fail_msg("%s: %s", model, err.text);
    open = used() - before;
    embed_some(encoder);
    embedded = used() - before;
    assert_int_equal(needs.dim, sac_encoder_dim(encoder));
    if (strcmp(model, "builtin") != 0)
        assert_string_equal(needs.name, sac_encoder_name(encoder));
    if (open > 0 && (open + open / 50 < said || open > said + said / 50 + rounding))
        fail_msg("%s in %s: %llu bytes were taken, %llu were said", model, precision,
                 (unsigned long long)open, (unsigned long long)said);
    if (embedded > said + said / 50 + rounding + needs.bytes_scratch)
        fail_msg("%s in %s: %llu bytes were taken to embed, %llu and %llu were said", model, precision,
                 (unsigned long long)embedded, (unsigned long long)said,
                 (unsigned long long)needs.bytes_scratch);
    sac_encoder_close(encoder);
}

static void families_take_what_their_plan_said(void **state)
{
    static const char *const families[] = {"timm",         "clip_openai",      "clip_laion", "dinov2",
                                           "dinov2_giant", "dinov2_registers", "siglip",     "siglip2"};
    char folder[128];

    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        snprintf(folder, sizeof folder, "tests/fixtures/encoder/%s", families[i]);
        compare(folder, "f32", 64 << 10);
        compare(folder, "bf16", 64 << 10);
    }
}

static void vit_tiny_takes_what_its_plan_said(void **state)
{
    const char *model = sac_test_data_need("models/vit_tiny_patch16_224");
    sac_encoder_needs needs = plan(model, "bf16");

    (void)state;
    assert_in_range(needs.bytes_weights, 11000000, 12000000); /* 5.5 M weights of two bytes */
    compare(model, "bf16", 64 << 10);
}

static void a_pass_shrinks_with_the_memory(void **state)
{
    const char *model = "tests/fixtures/encoder/timm";
    sac_encoder_needs small, large;

    (void)state;
    assert_int_equal(sac_encoder_plan(model, NULL, (uint64_t)1 << 20, &small, NULL), SAC_OK);
    assert_int_equal(sac_encoder_plan(model, NULL, (uint64_t)64 << 30, &large, NULL), SAC_OK);
    assert_true(small.pass < large.pass && small.bytes_pass < large.bytes_pass);
    assert_int_equal(small.bytes_weights, large.bytes_weights);
}

static void the_descriptor_takes_nothing(void **state)
{
    sac_encoder_needs needs = plan("builtin", "auto");

    (void)state;
    assert_true(needs.dim > 0);
    assert_int_equal(needs.bytes_weights + needs.bytes_pass + needs.bytes_scratch + needs.bytes_host, 0);
}

static void mistakes_are_told(void **state)
{
    sac_encoder_options options = options_of("int3");
    sac_encoder_needs needs;
    sac_error err = {0};

    (void)state;
    assert_int_equal(sac_encoder_plan("no/such/folder", NULL, 1, &needs, &err), SAC_NOT_FOUND);
    assert_int_equal(sac_encoder_plan("builtin", &options, 1, &needs, &err), SAC_INVALID_ARGUMENT);
    options = options_of("f32");
    options.batch_max = 5000;
    assert_int_equal(sac_encoder_plan("builtin", &options, 1, &needs, &err), SAC_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_take_what_their_plan_said),
        cmocka_unit_test(vit_tiny_takes_what_its_plan_said),
        cmocka_unit_test(a_pass_shrinks_with_the_memory),
        cmocka_unit_test(the_descriptor_takes_nothing),
        cmocka_unit_test(mistakes_are_told),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
