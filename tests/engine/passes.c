/* Passes through a network on a device with memory of its own (SACCADE_TEST_DEVICE; else the CPU, where some
 * of this says little): recorded and played, in groups, short of memory, in a budget shared with others. */
#include "engine/encoder.h"
#include "engine/preprocess.h"
#include "engine/vit.h"
#include "kernels/backend.h"

#include "tests/picture.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { N_MAX = 24, BUDGET = 64 << 20 };

static const char *const models[] = {"clip_openai", "dinov2_registers", "siglip2"};
#define MODEL_COUNT (sizeof models / sizeof models[0])

struct network {
    sac_device *device;
    sac_model_config config;
    sac_vit *vit;
};

static sac_device *open_device(uint64_t memory)
{
    sac_device_options options;
    sac_device *device;
    sac_error err = {0};

    sac_device_options_init(&options);
    options.name = getenv("SACCADE_TEST_DEVICE");
    options.threads = 2;
    options.memory = memory;
    if (options.name == NULL)
        options.name = "cpu";
    if (sac_device_open(&options, &device, &err) != SAC_OK)
        fail_msg("%s", err.text);
    return device;
}

static sac_status load(struct network *net, sac_device *device, const char *model, uint32_t batch_max,
                       sac_error *err)
{
    char folder[128];
    sac_weights *weights = NULL;
    sac_status st;

    snprintf(folder, sizeof folder, "tests/fixtures/encoder/%s", model);
    net->device = device;
    st = sac_model_config_load(folder, &net->config, err);
    if (st == SAC_OK)
        st = sac_weights_open(folder, &weights, err);
    if (st == SAC_OK)
        st = sac_vit_open(device, &net->config, weights, SAC_F32, batch_max, &net->vit, err);
    sac_weights_close(weights);
    return st;
}

static struct network open_network(const char *model, uint32_t batch_max, uint64_t memory)
{
    struct network net = {0};
    sac_error err = {0};

    if (load(&net, open_device(memory), model, batch_max, &err) != SAC_OK)
        fail_msg("%s: %s", model, err.text);
    return net;
}

static void close_network(struct network *net)
{
    sac_vit_close(net->vit);
    sac_device_close(net->device);
}

static bool has_own_memory(const struct network *net)
{
    return !sac_device_host_visible(net->device);
}

static uint64_t used(const struct network *net)
{
    sac_device_memory memory;

    sac_device_memory_describe(net->device, &memory);
    return memory.used;
}

/* ---- pictures --------------------------------------------------------------------------------------- */

/* Pictures of several sizes, placed at their own and as they are when scaled beforehand. */
struct pictures {
    struct sac_placed_picture own[N_MAX], scaled[N_MAX];
    uint8_t *pixels[N_MAX], *input[N_MAX];
};

static void make_pictures(struct pictures *p, const struct network *net, uint32_t side)
{
    sac_device *host = sac_device_host(net->device);

    for (uint32_t i = 0; i < N_MAX; i++) {
        sac_image image = {side + 7 * i, side + 3 * (N_MAX - i), NULL};

        image.rgb = p->pixels[i] = sac_test_picture(image.width, image.height);
        for (uint32_t j = 0; j < image.width * image.height; j++)
            image.rgb[3 * j] = (uint8_t)(image.rgb[3 * j] + 11 * i); /* another one each */
        p->input[i] = malloc(sac_preprocess_bytes(&net->config.preprocess));
        assert_non_null(p->input[i]);
        assert_int_equal(sac_preprocess_place(&net->config.preprocess, &image, NULL, &p->own[i], NULL),
                         SAC_OK);
        assert_int_equal(sac_preprocess_scale(host, &net->config.preprocess, &p->own[i], p->input[i], NULL),
                         SAC_OK);
        p->scaled[i] = sac_preprocess_done(&net->config.preprocess, p->input[i]);
    }
}

static void free_pictures(struct pictures *p)
{
    for (int i = 0; i < N_MAX; i++) {
        free(p->pixels[i]);
        free(p->input[i]);
    }
}

static float *embed(const struct network *net, size_t n, const struct sac_placed_picture *pictures)
{
    float *vectors = calloc(n * sac_vit_dim(net->vit), sizeof *vectors);
    struct sac_vit_input input = {.pictures = pictures};
    sac_error err = {0};

    assert_non_null(vectors);
    if (sac_vit_embed(net->vit, n, &input, vectors, NULL, &err) != SAC_OK)
        fail_msg("%s", err.text);
    return vectors;
}

static void check_near(const struct network *net, size_t n, const float *want, const float *got)
{
    for (size_t i = 0; i < n * sac_vit_dim(net->vit); i++)
        if (!(fabsf(want[i] - got[i]) <= 1e-4f))
            fail_msg("component %zu of vector %zu is %g, wanted %g", i % sac_vit_dim(net->vit),
                     i / sac_vit_dim(net->vit), (double)got[i], (double)want[i]);
}

/* ---- tests ------------------------------------------------------------------------------------------ */

/* The first time is plain, the second is recorded, the others are played; sizes take turns. */
static void recorded_passes_give_the_same(void **state)
{
    (void)state;
    for (size_t m = 0; m < MODEL_COUNT; m++) {
        struct network net = open_network(models[m], 8, BUDGET);
        struct pictures pictures;
        float *first[9] = {NULL};

        make_pictures(&pictures, &net, 20);
        for (int turn = 0; turn < 3; turn++)
            for (size_t n = 1; n <= 8; n += n / 2 + 1) {
                /* Others than the last time, so that nothing is left over from there. */
                float *vectors, *others = embed(&net, n, pictures.own + 8);

                free(others);
                vectors = embed(&net, n, pictures.own);
                if (first[n] == NULL) {
                    first[n] = vectors;
                    continue;
                }
                assert_memory_equal(vectors, first[n], n * sac_vit_dim(net.vit) * sizeof *vectors);
                free(vectors);
            }
        for (size_t n = 1; n <= 8; n += n / 2 + 1) {
            check_near(&net, n, first[7], first[n]);
            free(first[n]);
        }
        free_pictures(&pictures);
        close_network(&net);
    }
}

/* Far more pixels than a pass has memory for, and more pictures than a pass takes. */
static void pictures_go_up_in_groups(void **state)
{
    struct network net = open_network(models[0], 10, (uint64_t)8 << 20);
    struct pictures pictures;
    float *want, *got;

    (void)state;
    make_pictures(&pictures, &net, 100);
    if (has_own_memory(&net))
        assert_in_range(sac_vit_picture_bytes_max(net.vit), 200000, 300000);
    want = embed(&net, N_MAX, pictures.scaled);
    for (int turn = 0; turn < 3; turn++) {
        got = embed(&net, N_MAX, pictures.own);
        check_near(&net, N_MAX, want, got);
        free(got);
    }
    free(want);
    free_pictures(&pictures);
    close_network(&net);
}

static void nothing_waits_until_it_is_fetched(void **state)
{
    struct network net = open_network(models[1], 4, BUDGET);
    struct sac_vit_input input[3];
    struct pictures pictures;
    sac_embeddings *flying[3];
    float *want, *got;
    sac_error err = {0};

    (void)state;
    make_pictures(&pictures, &net, 30);
    want = embed(&net, 12, pictures.own);
    got = calloc(12 * sac_vit_dim(net.vit), sizeof *got);
    assert_non_null(got);
    for (int i = 0; i < 3; i++) {
        input[i] = (struct sac_vit_input){.pictures = pictures.own + 4 * i};
        assert_int_equal(sac_vit_submit(net.vit, 4, &input[i], NULL, &flying[i], &err), SAC_OK);
        assert_true((flying[i]->ready != NULL) == has_own_memory(&net));
        assert_true(flying[i]->n == 4 && flying[i]->dim == sac_vit_dim(net.vit));
    }
    for (int i = 2; i >= 0; i--) {
        assert_int_equal(sac_embeddings_fetch(flying[i], got + 4 * i * sac_vit_dim(net.vit), &err), SAC_OK);
        sac_embeddings_release(flying[i]);
    }
    check_near(&net, 12, want, got);
    free(want);
    free(got);
    free_pictures(&pictures);
    close_network(&net);
}

static void memory_does_not_grow(void **state)
{
    struct network net = open_network(models[0], 8, BUDGET);
    struct pictures pictures;
    uint64_t before;

    (void)state;
    make_pictures(&pictures, &net, 20);
    for (size_t n = 1; n <= N_MAX; n++)
        free(embed(&net, n, pictures.own));
    before = used(&net);
    for (size_t i = 0; i < 60; i++)
        free(embed(&net, i * 7 % N_MAX + 1, i % 3 == 0 ? pictures.scaled : pictures.own));
    assert_int_equal(used(&net), before);
    free_pictures(&pictures);
    close_network(&net);
}

static void encoders_share_a_budget(void **state)
{
    sac_device *device = open_device((uint64_t)32 << 20);
    struct network nets[MODEL_COUNT];
    struct pictures pictures;
    sac_error err = {0};

    (void)state;
    for (size_t m = 0; m < MODEL_COUNT; m++)
        if (load(&nets[m], device, models[m], 8, &err) != SAC_OK)
            fail_msg("%s: %s", models[m], err.text);
    for (int turn = 0; turn < 2; turn++)
        for (size_t m = 0; m < MODEL_COUNT; m++) {
            struct network alone = open_network(models[m], 8, BUDGET);
            float *want, *got;

            make_pictures(&pictures, &nets[m], 40);
            want = embed(&alone, 8, pictures.own);
            got = embed(&nets[m], 8, pictures.own);
            check_near(&alone, 8, want, got);
            free(want);
            free(got);
            free_pictures(&pictures);
            close_network(&alone);
        }
    for (size_t m = 0; m < MODEL_COUNT; m++)
        sac_vit_close(nets[m].vit);
    if (!sac_device_host_visible(device)) {
        sac_device_idle_close(device); /* the arenas of streams */
        assert_int_equal(used(&nets[0]), 0);
    }
    sac_device_close(device);
}

static void too_small_a_budget_is_told(void **state)
{
    sac_device *device = open_device(40000);
    struct network net;
    sac_error err = {0};

    (void)state;
    if (sac_device_host_visible(device)) {
        sac_device_close(device);
        skip();
    }
    assert_int_equal(load(&net, device, models[0], 8, &err), SAC_DEVICE_MEMORY);
    assert_non_null(strstr(err.text, "are missing"));
    sac_device_close(device);
}

/* A pass of eight is in flight, and the budget is full: there is room for another one only where a pass of
 * one picture has been before. */
static void half_a_pass_will_do(void **state)
{
    struct network net = open_network(models[0], 8, BUDGET);
    struct sac_vit_input input;
    struct pictures pictures;
    sac_embeddings *eight, *one, *none;
    sac_device_memory memory;
    void *full = NULL;
    float *want, *got;
    sac_error err = {0};

    (void)state;
    if (!has_own_memory(&net)) {
        close_network(&net);
        skip();
    }
    make_pictures(&pictures, &net, 40);
    input = (struct sac_vit_input){.pictures = pictures.own};
    want = embed(&net, 8, pictures.own);
    got = calloc(8 * sac_vit_dim(net.vit), sizeof *got);
    assert_non_null(got);
    assert_int_equal(sac_vit_submit(net.vit, 8, &input, NULL, &eight, &err), SAC_OK);
    assert_int_equal(sac_vit_submit(net.vit, 1, &input, NULL, &one, &err), SAC_OK);
    sac_embeddings_release(one);
    sac_device_memory_describe(net.device, &memory);
    assert_int_equal(sac_buffer_alloc(net.device, (memory.budget - memory.used) / 512 * 512, 1, &full, &err),
                     SAC_OK);
    assert_int_equal(sac_vit_submit(net.vit, 8, &input, NULL, &none, &err), SAC_DEVICE_MEMORY);
    if (sac_vit_embed(net.vit, 8, &input, got, NULL, &err) != SAC_OK)
        fail_msg("%s", err.text);
    check_near(&net, 8, want, got);
    sac_buffer_free(net.device, full);
    sac_embeddings_release(eight);
    free(want);
    free(got);
    free_pictures(&pictures);
    close_network(&net);
}

#define WITH_FAULTS(test) cmocka_unit_test_setup_teardown(test, NULL, heal)

static int heal(void **state)
{
    (void)state;
    return unsetenv("SACCADE_HOST_CUDA__FAIL");
}

/* Every allocation, device's and host's, is refused once. */
static void any_allocation_may_fail(void **state)
{
    char fault[32];

    (void)state;
    for (int i = 1, good = 0; good < 3; i++) {
        struct network net = {.device = open_device(BUDGET)};
        struct pictures pictures;
        sac_error err = {0};
        sac_status st;

        if (!has_own_memory(&net)) {
            sac_device_close(net.device);
            skip();
        }
        snprintf(fault, sizeof fault, "memory:%d", i);
        setenv("SACCADE_HOST_CUDA__FAIL", fault, 1);
        st = load(&net, net.device, models[0], 4, &err);
        if (st == SAC_OK) {
            float *vectors = calloc(8 * sac_vit_dim(net.vit), sizeof *vectors);

            assert_non_null(vectors);
            make_pictures(&pictures, &net, 30);
            st = sac_vit_embed(net.vit, 8, &(struct sac_vit_input){.pictures = pictures.own}, vectors, NULL,
                               &err);
            free(vectors);
            free_pictures(&pictures);
        }
        good = st == SAC_OK ? good + 1 : 0;
        if (st != SAC_OK && st != SAC_DEVICE_MEMORY && st != SAC_NO_MEMORY)
            fail_msg("allocation %d: %s (%s)", i, sac_status_name(st), err.text);
        heal(NULL);
        sac_vit_close(net.vit);
        sac_device_close(net.device);
    }
}

/* ---- callers ---------------------------------------------------------------------------------------- */

struct caller {
    const struct network *net;
    const struct pictures *pictures;
    const float *want;
};

static void *call_often(void *arg)
{
    struct caller *c = arg;

    for (size_t i = 0; i < 4; i++) {
        size_t n = i * 5 % N_MAX + 1;
        float *got = embed(c->net, n, c->pictures->own);

        check_near(c->net, n, c->want, got);
        free(got);
    }
    return NULL;
}

static void many_callers_share_a_network(void **state)
{
    enum { CALLERS = 3 };
    struct network net = open_network(models[2], 8, BUDGET);
    struct pictures pictures;
    struct caller caller = {&net, &pictures, NULL};
    pthread_t threads[CALLERS];

    (void)state;
    make_pictures(&pictures, &net, 25);
    caller.want = embed(&net, N_MAX, pictures.own);
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &caller), 0);
    for (int i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    free((void *)caller.want);
    free_pictures(&pictures);
    close_network(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_passes_give_the_same),
        cmocka_unit_test(pictures_go_up_in_groups),
        cmocka_unit_test(nothing_waits_until_it_is_fetched),
        cmocka_unit_test(memory_does_not_grow),
        cmocka_unit_test(encoders_share_a_budget),
        cmocka_unit_test(too_small_a_budget_is_told),
        cmocka_unit_test(half_a_pass_will_do),
        WITH_FAULTS(any_allocation_may_fail),
        cmocka_unit_test(many_callers_share_a_network),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
