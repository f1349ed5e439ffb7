/* The public encoder, on the device that SACCADE_TEST_DEVICE names, else the CPU: what it refuses, its
 * fingerprint, and photos through both of its kinds. */
#include "engine/saccade.h"

#include "tests/data.h"
#include "tests/scratch.h"

#include <math.h>
#include <string.h>

static sac_device *device;

static int setup(void **state)
{
    sac_device_options options;

    (void)state;
    sac_device_options_init(&options);
    options.name = getenv("SACCADE_TEST_DEVICE");
    return sac_device_open(&options, &device, NULL) == SAC_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    sac_device_close(device);
    return 0;
}

static sac_encoder *open_encoder_on(sac_device *on, const char *model, const char *precision)
{
    sac_encoder_options options;
    sac_encoder *encoder;
    sac_error err = {0};

    sac_encoder_options_init(&options);
    options.precision = precision;
    if (sac_encoder_open(on, model, &options, &encoder, &err) != SAC_OK)
        fail_msg("%s: %s", model != NULL ? model : "builtin", err.text);
    return encoder;
}

static sac_encoder *open_encoder(const char *model, const char *precision)
{
    return open_encoder_on(device, model, precision);
}

static double length_of(const float *vector, uint32_t dim)
{
    double sum = 0;

    for (uint32_t i = 0; i < dim; i++)
        sum += (double)vector[i] * vector[i];
    return sqrt(sum);
}

static double cosine(const float *a, const float *b, uint32_t dim)
{
    double dot = 0;

    for (uint32_t i = 0; i < dim; i++)
        dot += (double)a[i] * b[i];
    return dot / length_of(a, dim) / length_of(b, dim);
}

/* ---- files ------------------------------------------------------------------------------------------ */

static void *read_file(const char *path, size_t *size)
{
    FILE *in = fopen(path, "rb");
    char *bytes;

    if (in == NULL)
        fail_msg("%s cannot be read", path);
    fseek(in, 0, SEEK_END);
    *size = (size_t)ftell(in);
    rewind(in);
    bytes = malloc(*size + 1);
    assert_int_equal(fread(bytes, 1, *size, in), *size);
    bytes[*size] = '\0';
    fclose(in);
    return bytes;
}

static void write_file(const char *folder, const char *name, const void *bytes, size_t size)
{
    char path[SAC_SCRATCH_PATH_MAX + 64];
    FILE *out;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, size, out), size);
    fclose(out);
}

/* Copies a file of a fixture, with the first `from` in it replaced by `to` (of any length in JSON, of the
 * same length in weights). NULL: as it is. */
static void copy_file(const char *fixture, const char *name, const char *folder, const char *from,
                      const char *to)
{
    char path[256];
    size_t size, at = 0;
    char *bytes, *changed;

    snprintf(path, sizeof path, "tests/fixtures/encoder/%s/%s", fixture, name);
    bytes = read_file(path, &size);
    if (from == NULL) {
        write_file(folder, name, bytes, size);
        free(bytes);
        return;
    }
    while (at + strlen(from) <= size && memcmp(bytes + at, from, strlen(from)) != 0)
        at++;
    assert_true(at + strlen(from) <= size);
    changed = malloc(size + strlen(to));
    memcpy(changed, bytes, at);
    memcpy(changed + at, to, strlen(to));
    memcpy(changed + at + strlen(to), bytes + at + strlen(from), size - at - strlen(from));
    write_file(folder, name, changed, size + strlen(to) - strlen(from));
    free(bytes);
    free(changed);
}

/* A copy of a fixture with one of its files changed must be refused in these words. */
static void check_refused(const char *fixture, const char *file, const char *from, const char *to,
                          sac_status status, const char *word)
{
    static const char *const files[] = {"config.json", "preprocessor_config.json", "model.safetensors"};
    char folder[SAC_SCRATCH_PATH_MAX];
    sac_encoder *encoder;
    sac_error err = {0};
    sac_status st;

    sac_scratch_make(folder);
    for (int i = 0; i < 3; i++) {
        bool change = strcmp(files[i], file) == 0;

        if (change && from == NULL)
            continue;
        copy_file(fixture, files[i], folder, change ? from : NULL, to);
    }
    st = sac_encoder_open(device, folder, NULL, &encoder, &err);
    if (st != status || strstr(err.text, word) == NULL)
        fail_msg("%s with %s for %s: status %d (%d wanted), \"%s\" does not say \"%s\"", fixture, to, from,
                 st, status, err.text, word);
    assert_null(encoder);
    sac_scratch_remove(folder);
}

static void test_refused(void **state)
{
    sac_encoder_options options;
    sac_encoder *encoder;
    sac_error err = {0};

    (void)state;
    assert_int_equal(sac_encoder_open(device, "no/such/folder", NULL, &encoder, &err), SAC_NOT_FOUND);
    sac_encoder_options_init(&options);
    options.precision = "f64";
    assert_int_equal(sac_encoder_open(device, "tests/fixtures/encoder/clip_openai", &options, &encoder, &err),
                     SAC_INVALID_ARGUMENT);
    assert_int_equal(sac_encoder_open(device, "builtin", &options, &encoder, &err), SAC_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "\"f32\", \"bf16\" or \"auto\""));
    options.precision = "f32";
    options.batch_max = 0;
    assert_int_equal(sac_encoder_open(device, "builtin", &options, &encoder, &err), SAC_INVALID_ARGUMENT);

    check_refused("dinov2", "config.json", NULL, NULL, SAC_NOT_FOUND, "config.json");
    check_refused("dinov2", "preprocessor_config.json", NULL, NULL, SAC_NOT_FOUND,
                  "preprocessor_config.json");
    check_refused("dinov2", "model.safetensors", NULL, NULL, SAC_NOT_FOUND, "model.safetensors");
    check_refused("dinov2", "config.json", "{", "[", SAC_MALFORMED, "config.json");
    check_refused("dinov2", "config.json", "\"dinov2\"", "\"resnet\"", SAC_UNSUPPORTED, "resnet");
    check_refused("dinov2", "config.json", "\"num_attention_heads\": 2", "\"num_attention_heads\": 7",
                  SAC_MALFORMED, "fit");
    check_refused("dinov2", "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1",
                  SAC_UNSUPPORTED, "encoder.layer.1");
    check_refused("dinov2", "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3",
                  SAC_MALFORMED, "encoder.layer.2");
    check_refused("dinov2", "config.json", "\"mlp_ratio\": 2", "\"mlp_ratio\": 3", SAC_MALFORMED,
                  "mlp.fc1.weight");
    check_refused("dinov2", "preprocessor_config.json", "\"resample\": 3", "\"resample\": 1", SAC_UNSUPPORTED,
                  "resample 1");
    check_refused("dinov2", "model.safetensors", "embeddings.cls_token", "embeddings.cls_tokem",
                  SAC_MALFORMED, "embeddings.cls_token");
    check_refused("clip_openai", "config.json", "\"image_size\": 28", "\"image_size\": 35", SAC_MALFORMED,
                  "35x35");
}

/* ---- fingerprint ------------------------------------------------------------------------------------ */

static void test_fingerprint(void **state)
{
    static const char *const models[] = {
        "builtin",
        "tests/fixtures/encoder/timm",
        "tests/fixtures/encoder/clip_openai",
        "tests/fixtures/encoder/dinov2",
        "tests/fixtures/encoder/siglip2",
    };
    enum { COUNT = sizeof models / sizeof models[0] };
    char prints[COUNT][65], folder[SAC_SCRATCH_PATH_MAX];
    sac_encoder *encoder;

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        encoder = open_encoder(models[i], "f32");
        snprintf(prints[i], sizeof prints[i], "%s", sac_encoder_fingerprint(encoder));
        assert_int_equal(strlen(prints[i]), 64);
        sac_encoder_close(encoder);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(prints[i], prints[j]);
    }
    /* Precision is no part of it, the way pictures are prepared is. */
    encoder = open_encoder(models[3], "bf16");
    assert_string_equal(sac_encoder_fingerprint(encoder), prints[3]);
    sac_encoder_close(encoder);
    sac_scratch_make(folder);
    copy_file("dinov2", "config.json", folder, NULL, NULL);
    copy_file("dinov2", "model.safetensors", folder, NULL, NULL);
    copy_file("dinov2", "preprocessor_config.json", folder, "0.48145466", "0.485");
    encoder = open_encoder(folder, "f32");
    assert_string_not_equal(sac_encoder_fingerprint(encoder), prints[3]);
    sac_encoder_close(encoder);
    sac_scratch_remove(folder);
}

/* ---- photos ----------------------------------------------------------------------------------------- */

/* Every `step`-th photo of photos/labels.csv. Both encoders must agree on each within the cosine. */
static void compare_photos(sac_encoder *a, sac_encoder *b, unsigned step, double least)
{
    const char *labels = sac_test_data_need("photos/labels.csv");
    uint32_t dim = sac_encoder_dim(a);
    float *va = malloc(dim * sizeof *va), *vb = malloc(dim * sizeof *vb);
    char line[512], name[600];
    FILE *in = fopen(labels, "r");
    unsigned seen = 0, compared = 0;
    double worst = 1;

    assert_non_null(in);
    assert_non_null(fgets(line, sizeof line, in)); /* the heading */
    for (; fgets(line, sizeof line, in) != NULL; seen++) {
        sac_error err = {0};
        sac_prepared *of_a = NULL, *of_b = NULL;
        size_t size;
        char *bytes;

        if (seen % step != 0)
            continue;
        line[strcspn(line, ",")] = '\0';
        snprintf(name, sizeof name, "photos/%s", line);
        bytes = read_file(sac_test_data(name), &size);
        if (sac_encoder_prepare(a, bytes, size, NULL, &of_a, &err) != SAC_OK ||
            sac_encoder_prepare(b, bytes, size, NULL, &of_b, &err) != SAC_OK)
            fail_msg("%s: %s", name, err.text);
        free(bytes);
        assert_int_equal(sac_encoder_embed(a, 1, &of_a, va, &err), SAC_OK);
        assert_int_equal(sac_encoder_embed(b, 1, &of_b, vb, &err), SAC_OK);
        sac_prepared_free(of_a);
        sac_prepared_free(of_b);
        assert_true(fabs(length_of(va, dim) - 1) < 1e-5 && fabs(length_of(vb, dim) - 1) < 1e-5);
        worst = fmin(worst, cosine(va, vb, dim));
        compared++;
    }
    fclose(in);
    print_message("%u photos, least cosine %.6f\n", compared, worst);
    assert_true(worst >= least);
    free(va);
    free(vb);
}

/* bf16 against f32 on the CPU. All photos instead of one in fifty: SACCADE_TEST_ALL_PHOTOS=1. Three where the
 * device is another: a kernel run on the host takes seconds for each. */
static void test_photos(void **state)
{
    char model[1024];
    sac_encoder *f32, *bf16;
    unsigned step = 50;

    (void)state;
    snprintf(model, sizeof model, "%s", sac_test_data_need("models/vit_tiny_patch16_224"));
    f32 = open_encoder_on(sac_device_host(device), model, "f32");
    bf16 = open_encoder(model, "bf16");
    assert_string_equal(sac_encoder_name(f32), "vit_tiny_patch16_224");
    assert_int_equal(sac_encoder_dim(f32), 192);
    assert_int_equal(sac_encoder_pixel_bytes(f32), 224 * 224 * 3);
    if (getenv("SACCADE_TEST_ALL_PHOTOS") != NULL)
        step = 1;
    else if (!sac_device_host_visible(device))
        step = 1200;
    compare_photos(f32, bf16, step, 0.999);
    sac_encoder_close(f32);
    sac_encoder_close(bf16);
}

static void test_builtin(void **state)
{
    sac_encoder *encoder = open_encoder(NULL, "auto");
    sac_image image = {60, 40, calloc(60 * 40, 3)};
    sac_prepared *pictures[2];
    float *vectors = malloc(2 * sac_encoder_dim(encoder) * sizeof *vectors);
    sac_error err = {0};

    (void)state;
    assert_int_equal(sac_encoder_prepare_image(encoder, &image, NULL, &pictures[0], &err), SAC_OK);
    image.rgb[100] = 255;
    assert_int_equal(sac_encoder_prepare_image(encoder, &image, NULL, &pictures[1], &err), SAC_OK);
    free(image.rgb);
    assert_int_equal(sac_encoder_embed(encoder, 2, pictures, vectors, &err), SAC_OK);
    for (int i = 0; i < 2; i++) {
        assert_true(fabs(length_of(vectors + i * sac_encoder_dim(encoder), sac_encoder_dim(encoder)) - 1) <
                    1e-5);
        sac_prepared_free(pictures[i]);
    }
    free(vectors);
    sac_encoder_close(encoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_photos),
        cmocka_unit_test(test_builtin),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
