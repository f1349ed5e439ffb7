/* Vision transformers: every family against what `transformers` computes from the same random weights
 * (tests/fixtures/make_encoder_fixtures.py), and the real ViT-Tiny against its reference activations. */
#include "engine/vit.h"

#include "tests/data.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

struct network {
    sac_device *device;
    sac_model_config config;
    sac_vit *vit;
};

static void open_network(struct network *net, const char *device, const char *isa, uint32_t threads,
                         const char *folder, sac_dtype precision, uint32_t batch_max)
{
    sac_device_options options;
    sac_weights *weights = NULL;
    sac_error err = {0};

    sac_device_options_init(&options);
    options.name = device;
    options.isa = isa;
    options.threads = threads;
    assert_int_equal(sac_device_open(&options, &net->device, &err), SAC_OK);
    if (sac_model_config_load(folder, &net->config, &err) != SAC_OK ||
        sac_weights_open(folder, &weights, &err) != SAC_OK)
        fail_msg("%s: %s", folder, err.text);
    if (sac_vit_open(net->device, &net->config, weights, precision, batch_max, &net->vit, &err) != SAC_OK)
        fail_msg("%s: %s", folder, err.text);
    sac_weights_close(weights);
}

static void close_network(struct network *net)
{
    sac_vit_close(net->vit);
    sac_device_close(net->device);
}

static float *read_tensor(const char *path, const char *name, uint64_t *count)
{
    sac_safetensors *file;
    const sac_tensor *t;
    sac_error err = {0};
    float *values;

    if (sac_safetensors_open(path, &file, &err) != SAC_OK)
        fail_msg("%s", err.text);
    t = sac_safetensors_find(file, name);
    assert_non_null(t);
    *count = t->count;
    values = malloc(t->count * sizeof *values);
    assert_int_equal(sac_safetensors_read(file, t, values, &err), SAC_OK);
    sac_safetensors_close(file);
    return values;
}

static double cosine(const float *a, const float *b, size_t count)
{
    double dot = 0, aa = 0, bb = 0;

    for (size_t i = 0; i < count; i++) {
        dot += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return dot / sqrt(aa * bb);
}

/* ---- families --------------------------------------------------------------------------------------- */

static const char *const families[] = {
    "timm",
    "clip_openai",
    "clip_laion",
    "dinov2",
    "dinov2_interpolated",
    "dinov2_giant",
    "dinov2_registers",
    "dinov2_registers_interpolated",
    "siglip",
    "siglip2",
};
#define FAMILY_COUNT (sizeof families / sizeof families[0])

static void check_family(const char *family, const char *device, const char *isa, sac_dtype precision,
                         double least)
{
    char folder[128], expected_path[160];
    struct sac_vit_input input = {0};
    struct network net;
    sac_error err = {0};
    uint64_t value_count, count;
    float *values, *want, *got;
    size_t n;

    snprintf(folder, sizeof folder, "tests/fixtures/encoder/%s", family);
    snprintf(expected_path, sizeof expected_path, "%s/expected.safetensors", folder);
    open_network(&net, device, isa, 2, folder, precision, 8);
    values = read_tensor(expected_path, "pixel_values", &value_count);
    want = read_tensor(expected_path, "embedding", &count);
    n = value_count / (3 * net.config.preprocess.width * net.config.preprocess.height);
    assert_int_equal(count, n * sac_vit_dim(net.vit));
    got = malloc(count * sizeof *got);
    input.values = values;
    assert_int_equal(sac_vit_embed(net.vit, n, &input, got, NULL, &err), SAC_OK);
    for (size_t i = 0; i < n; i++) {
        double like = cosine(want + i * count / n, got + i * count / n, count / n);

        if (!(like >= least))
            fail_msg("%s on %s %s: picture %zu has cosine %.9f, at least %.9f was wanted", family, device,
                     isa != NULL ? isa : "", i, like, least);
    }
    free(values);
    free(want);
    free(got);
    close_network(&net);
}

/* NULL: all that this machine's processor has. */
static const char *device_under_test(void)
{
    return getenv("SACCADE_TEST_DEVICE");
}

static void test_families_f32(void **state)
{
    (void)state;
    for (size_t i = 0; i < FAMILY_COUNT; i++) {
        if (device_under_test() != NULL) {
            check_family(families[i], device_under_test(), NULL, SAC_F32, 0.999999);
            continue;
        }
        check_family(families[i], "ref", NULL, SAC_F32, 0.999999);
        check_family(families[i], "cpu", "base", SAC_F32, 0.999999);
        check_family(families[i], "cpu", "avx2", SAC_F32, 0.999999);
        check_family(families[i], "cpu", NULL, SAC_F32, 0.999999);
    }
}

static void test_families_bf16(void **state)
{
    (void)state;
    for (size_t i = 0; i < FAMILY_COUNT; i++)
        check_family(families[i], device_under_test() != NULL ? device_under_test() : "cpu", NULL, SAC_BF16,
                     0.999);
}

/* ---- the real one ----------------------------------------------------------------------------------- */

enum { PHOTOS = 4, BLOCKS = 12 };

struct watched {
    const char *path;
    double worst;
};

/* Relative to the largest value wanted, where that is over 1. */
static double worst_difference(const float *want, const float *got, size_t count)
{
    double worst = 0, largest = 0;

    for (size_t i = 0; i < count; i++) {
        assert_true(isfinite(got[i]));
        worst = fmax(worst, fabs((double)want[i] - got[i]));
        largest = fmax(largest, fabs((double)want[i]));
    }
    return worst / fmax(1, largest);
}

static void scale_to_one(float *vector, size_t count)
{
    double sum = 0;

    for (size_t i = 0; i < count; i++)
        sum += (double)vector[i] * vector[i];
    for (size_t i = 0; i < count; i++)
        vector[i] = (float)(vector[i] / sqrt(sum));
}

static void watch_block(void *context, uint32_t block, const float *tokens, size_t count)
{
    struct watched *w = context;
    char name[16];
    uint64_t want_count;
    float *want;

    if (block != 0 && block != BLOCKS - 1)
        return;
    snprintf(name, sizeof name, "block.%u", block);
    want = read_tensor(w->path, name, &want_count);
    assert_int_equal(count, want_count);
    w->worst = fmax(w->worst, worst_difference(want, tokens, count));
    free(want);
}

static void check_reference(const char *device, const char *isa, sac_dtype precision, double tolerance,
                            double least)
{
    char folder[1024];
    struct watched watched = {0};
    struct sac_vit_watch watch = {watch_block, &watched};
    struct sac_vit_input input = {0};
    float *values, *want, got[PHOTOS * 192];
    struct network net;
    sac_error err = {0};
    uint64_t count;

    snprintf(folder, sizeof folder, "%s", sac_test_data("models/vit_tiny_patch16_224"));
    watched.path = sac_test_data_need("models/vit_tiny_patch16_224/reference.safetensors");
    open_network(&net, device, isa, 0, folder, precision, 8);
    assert_int_equal(sac_vit_dim(net.vit), 192);
    values = read_tensor(watched.path, "pixel_values", &count);
    want = read_tensor(watched.path, "embedding", &count);
    input.values = values;
    assert_int_equal(sac_vit_embed(net.vit, PHOTOS, &input, got, &watch, &err), SAC_OK);
    for (int i = 0; i < PHOTOS; i++) {
        scale_to_one(want + i * 192, 192);
        watched.worst = fmax(watched.worst, worst_difference(want + i * 192, got + i * 192, 192));
    }
    print_message("%s %s %s: differs from the reference by %.2g at most\n", device,
                  isa != NULL ? isa : "best", precision == SAC_F32 ? "f32" : "bf16", watched.worst);
    assert_true(watched.worst <= tolerance);
    for (int i = 0; i < PHOTOS; i++)
        assert_true(cosine(want + i * 192, got + i * 192, 192) >= least);
    free(values);
    free(want);
    close_network(&net);
}

/* On another device: only if SACCADE_TEST_REFERENCE is set, for a kernel run on the host takes minutes. */
static void test_reference(void **state)
{
    const char *device = device_under_test() != NULL ? device_under_test() : "cpu";

    (void)state;
    if (device_under_test() != NULL && getenv("SACCADE_TEST_REFERENCE") == NULL)
        skip();
    check_reference(device, NULL, SAC_F32, 1e-4, 0.999999);
    if (device_under_test() == NULL)
        check_reference(device, "avx2", SAC_F32, 1e-4, 0.999999);
    check_reference(device, NULL, SAC_BF16, 0.1, 0.999);
}

/* ---- batches and threads ---------------------------------------------------------------------------- */

static uint8_t *random_pixels(size_t bytes)
{
    uint8_t *pixels = malloc(bytes);
    uint32_t seed = 3;

    for (size_t i = 0; i < bytes; i++) {
        seed = seed * 1664525u + 1013904223u;
        pixels[i] = (uint8_t)(seed >> 24);
    }
    return pixels;
}

/* To the bit: alone, in batches of any size, cut into passes, on one thread or more. */
static void test_batch_invariance(void **state)
{
    enum { N = 11 };
    (void)state;
    for (size_t f = 0; f < FAMILY_COUNT; f++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            char folder[128];
            sac_dtype precision = bf16 ? SAC_BF16 : SAC_F32;
            struct network one, many;
            struct sac_vit_input input;
            sac_error err = {0};
            size_t picture, dim;
            struct sac_placed_picture pictures[N];
            uint8_t *pixels;
            float *alone, *together;

            snprintf(folder, sizeof folder, "tests/fixtures/encoder/%s", families[f]);
            open_network(&one, "cpu", NULL, 1, folder, precision, 1);
            open_network(&many, "cpu", NULL, 3, folder, precision, 8);
            picture = (size_t)one.config.preprocess.width * one.config.preprocess.height * 3;
            dim = sac_vit_dim(one.vit);
            pixels = random_pixels(N * picture);
            alone = malloc(N * dim * sizeof *alone);
            together = malloc(N * dim * sizeof *together);
            for (size_t i = 0; i < N; i++)
                pictures[i] = sac_preprocess_done(&one.config.preprocess, pixels + i * picture);
            input = (struct sac_vit_input){.pictures = pictures};
            assert_int_equal(sac_vit_embed(one.vit, N, &input, alone, NULL, &err), SAC_OK);
            assert_int_equal(sac_vit_embed(many.vit, N, &input, together, NULL, &err), SAC_OK);
            if (memcmp(alone, together, N * dim * sizeof *alone) != 0)
                fail_msg("%s, %s: a batch gives other bits than its pictures alone", families[f],
                         bf16 ? "bf16" : "f32");
            free(pixels);
            free(alone);
            free(together);
            close_network(&one);
            close_network(&many);
        }
}

struct caller {
    sac_vit *vit;
    const struct sac_placed_picture *pictures;
    const float *want;
    size_t n, dim;
    bool same;
};

static void *call_often(void *arg)
{
    struct caller *c = arg;
    struct sac_vit_input input = {.pictures = c->pictures};
    float *got = malloc(c->n * c->dim * sizeof *got);
    sac_error err = {0};

    c->same = true;
    for (int i = 0; i < 20; i++)
        c->same = c->same && sac_vit_embed(c->vit, c->n, &input, got, NULL, &err) == SAC_OK &&
                  memcmp(got, c->want, c->n * c->dim * sizeof *got) == 0;
    free(got);
    return NULL;
}

static void test_many_callers(void **state)
{
    enum { CALLERS = 4, N = 3 };
    struct network net;
    struct sac_vit_input input;
    struct caller callers[CALLERS];
    pthread_t threads[CALLERS];
    sac_error err = {0};
    struct sac_placed_picture pictures[N];
    size_t dim, picture;
    uint8_t *pixels;
    float *want;

    (void)state;
    open_network(&net, "cpu", NULL, 2, "tests/fixtures/encoder/siglip", SAC_F32, 8);
    dim = sac_vit_dim(net.vit);
    picture = (size_t)net.config.preprocess.width * net.config.preprocess.height * 3;
    pixels = random_pixels(N * picture);
    for (size_t i = 0; i < N; i++)
        pictures[i] = sac_preprocess_done(&net.config.preprocess, pixels + i * picture);
    want = malloc(N * dim * sizeof *want);
    input = (struct sac_vit_input){.pictures = pictures};
    assert_int_equal(sac_vit_embed(net.vit, N, &input, want, NULL, &err), SAC_OK);
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){net.vit, pictures, want, N, dim, false};
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(callers[i].same);
    }
    free(pixels);
    free(want);
    close_network(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_families_f32), cmocka_unit_test(test_families_bf16),
        cmocka_unit_test(test_reference),    cmocka_unit_test(test_batch_invariance),
        cmocka_unit_test(test_many_callers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
