/* One layer in many hands: any number of rows with the scratch of one, in any order, again and again,
 * recorded at first sight, and from several threads; on the CPU, or on the device that SACCADE_TEST_DEVICE
 * names. */
#include "kernels/backend.h"
#include "kernels/half.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    IN = 24,
    OUT = 32,
    ROWS_MAX = 80, /* more than a device keeps plans for */
    THREADS = 4,
};

static float weight[OUT * IN], bias[OUT], x[(ROWS_MAX + 1) * IN];

/* A layer, and the same one of the twin. */
struct layer {
    sac_device *device, *ref;
    struct sac_linear_params params;
    sac_linear *linear, *twin;
};

static sac_device *open_device(const char *name)
{
    sac_device_options options;
    sac_device *device;
    sac_error err;

    sac_device_options_init(&options);
    options.name = name;
    options.threads = 2;
    if (sac_device_open(&options, &device, &err) != SAC_OK)
        fail_msg("%s", err.text);
    return device;
}

static uint32_t columns_of(const struct layer *layer)
{
    return layer->params.activation == SAC_ACTIVATION_SWIGLU ? OUT / 2 : OUT;
}

static size_t element(sac_dtype dtype)
{
    return dtype == SAC_F32 ? 4 : 2;
}

static void layer_open(struct layer *layer, sac_dtype dtype, sac_activation activation)
{
    const char *name = getenv("SACCADE_TEST_DEVICE");

    layer->device = open_device(name != NULL ? name : "cpu");
    layer->ref = open_device("ref");
    layer->params = (struct sac_linear_params){.in = IN,
                                               .out = OUT,
                                               .weight = weight,
                                               .bias = bias,
                                               .precision = dtype,
                                               .y_dtype = dtype,
                                               .activation = activation};
    assert_int_equal(
        sac_device_ops(layer->device)->linear_open(layer->device, &layer->params, &layer->linear, NULL),
        SAC_OK);
    assert_int_equal(sac_device_ops(layer->ref)->linear_open(layer->ref, &layer->params, &layer->twin, NULL),
                     SAC_OK);
}

static void layer_close(struct layer *layer)
{
    sac_device_ops(layer->device)->linear_close(layer->linear);
    sac_device_ops(layer->ref)->linear_close(layer->twin);
    sac_device_close(layer->device);
    sac_device_close(layer->ref);
}

/* What one thread works with. */
struct desk {
    const struct layer *layer;
    sac_stream *stream;
    unsigned char *x, *y; /* of the device, with room for a misplaced x */
    unsigned char host_x[sizeof x], host_y[ROWS_MAX * OUT * 4], want[ROWS_MAX * OUT * 4];
    size_t x_offset; /* elements */
};

static void desk_open(struct desk *desk, const struct layer *layer)
{
    const struct sac_ops *ops = sac_device_ops(layer->device);
    const struct sac_linear_args one = {.linear = layer->linear, .rows = 1};
    void *device_x, *device_y;

    memset(desk, 0, sizeof *desk);
    desk->layer = layer;
    assert_int_equal(
        sac_stream_open(layer->device, ops->linear_scratch(layer->device, &one), &desk->stream, NULL),
        SAC_OK);
    assert_int_equal(sac_buffer_alloc(layer->device, sizeof desk->host_x, 1, &device_x, NULL), SAC_OK);
    assert_int_equal(sac_buffer_alloc(layer->device, sizeof desk->host_y, 1, &device_y, NULL), SAC_OK);
    desk->x = device_x;
    desk->y = device_y;
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
        if (layer->params.precision == SAC_F32)
            ((float *)desk->host_x)[i] = x[i];
        else
            ((uint16_t *)desk->host_x)[i] = sac_f32_to_bf16(x[i]);
    assert_int_equal(sac_stream_upload(desk->stream, desk->x, desk->host_x, sizeof desk->host_x), SAC_OK);
}

static void desk_close(struct desk *desk)
{
    sac_stream_close(desk->stream);
    sac_buffer_free(desk->layer->device, desk->x);
    sac_buffer_free(desk->layer->device, desk->y);
}

static sac_status run(const struct desk *desk, size_t rows)
{
    const struct layer *layer = desk->layer;

    return sac_device_ops(layer->device)
        ->linear(desk->stream,
                 &(struct sac_linear_args){.linear = layer->linear,
                                           .x = desk->x + desk->x_offset * element(layer->params.precision),
                                           .rows = rows,
                                           .y = desk->y});
}

static float value(const struct layer *layer, const unsigned char *y, size_t i)
{
    return layer->params.y_dtype == SAC_F32 ? ((const float *)y)[i]
                                            : sac_bf16_to_f32(((const uint16_t *)y)[i]);
}

/* Whether what lies in y is right; no assertions, for threads of ours come here. */
static bool is_right(struct desk *desk, size_t rows)
{
    const struct layer *layer = desk->layer;
    size_t count = rows * columns_of(layer);
    float coarse = layer->params.y_dtype == SAC_BF16 ? 0x1p-6f : 1e-4f;
    sac_stream *stream;
    sac_status st = sac_stream_open(layer->ref, 0, &stream, NULL);

    if (st == SAC_OK) {
        st = sac_device_ops(layer->ref)
                 ->linear(stream, &(struct sac_linear_args){
                                      .linear = layer->twin,
                                      .x = desk->host_x + desk->x_offset * element(layer->params.precision),
                                      .rows = rows,
                                      .y = desk->want});
        sac_stream_close(stream);
    }
    if (st == SAC_OK)
        st = sac_stream_download(desk->stream, desk->host_y, desk->y, count * element(layer->params.y_dtype));
    if (st == SAC_OK)
        st = sac_stream_wait(desk->stream);
    for (size_t i = 0; st == SAC_OK && i < count; i++) {
        float want = value(layer, desk->want, i);

        if (!(fabsf(want - value(layer, desk->host_y, i)) <= coarse * (1.0f + fabsf(want))))
            return false;
    }
    return st == SAC_OK;
}

static void many_numbers_of_rows(sac_dtype dtype, sac_activation activation)
{
    struct layer layer;
    struct desk desk;

    layer_open(&layer, dtype, activation);
    desk_open(&desk, &layer);
    for (int again = 0; again < 2; again++)
        for (size_t rows = 1; rows <= ROWS_MAX; rows++) {
            desk.x_offset = rows % 5 == 0; /* where nothing but its element's alignment is left */
            assert_int_equal(run(&desk, rows), SAC_OK);
            assert_true(is_right(&desk, rows));
        }
    desk_close(&desk);
    layer_close(&layer);
}

static void one_scratch_is_enough_for_any_rows(void **state)
{
    (void)state;
    many_numbers_of_rows(SAC_F32, SAC_ACTIVATION_NONE);
    many_numbers_of_rows(SAC_BF16, SAC_ACTIVATION_GELU_TANH);
    many_numbers_of_rows(SAC_BF16, SAC_ACTIVATION_SWIGLU);
}

static void a_recording_may_meet_new_rows(void **state)
{
    struct layer layer;
    struct desk desk;
    sac_recording *recording;
    sac_status st;

    (void)state;
    layer_open(&layer, SAC_BF16, SAC_ACTIVATION_GELU_QUICK);
    desk_open(&desk, &layer);
    st = sac_stream_record_begin(desk.stream);
    if (st == SAC_OK) {
        assert_int_equal(run(&desk, 7), SAC_OK);
        assert_int_equal(sac_stream_record_end(desk.stream, &recording), SAC_OK);
        assert_int_equal(run(&desk, 3), SAC_OK);
        assert_int_equal(sac_recording_play(recording, desk.stream), SAC_OK);
        assert_true(is_right(&desk, 7));
        sac_recording_free(recording);
    }
    desk_close(&desk);
    layer_close(&layer);
    if (st != SAC_OK)
        skip(); /* nothing is gained by recordings here */
}

static void *work(void *arg)
{
    struct desk *desk = arg;

    for (size_t i = 0; i < 100; i++) {
        size_t rows = 1 + (i * 7 + (size_t)desk->x_offset * 11) % 70;

        if (run(desk, rows) != SAC_OK || !is_right(desk, rows))
            return "wrong";
    }
    return NULL;
}

static void threads_share_a_layer(void **state)
{
    static struct desk desks[THREADS];
    pthread_t threads[THREADS];
    struct layer layer;

    (void)state;
    layer_open(&layer, SAC_F32, SAC_ACTIVATION_GELU_ERF);
    for (size_t i = 0; i < THREADS; i++) {
        desk_open(&desks[i], &layer);
        desks[i].x_offset = i;
        assert_int_equal(pthread_create(&threads[i], NULL, work, &desks[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        void *wrong;

        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
        desk_close(&desks[i]);
    }
    layer_close(&layer);
}

static int fill(void **state)
{
    uint32_t seed = 1;
    struct {
        float *values;
        size_t count;
    } all[] = {{weight, OUT * IN}, {bias, OUT}, {x, sizeof x / sizeof x[0]}};

    (void)state;
    for (size_t a = 0; a < 3; a++)
        for (size_t i = 0; i < all[a].count; i++) {
            seed = seed * 1664525u + 1013904223u;
            all[a].values[i] = (float)(int32_t)seed / 2147483648.0f;
        }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_scratch_is_enough_for_any_rows),
        cmocka_unit_test(a_recording_may_meet_new_rows),
        cmocka_unit_test(threads_share_a_layer),
    };

    return cmocka_run_group_tests_name("linear", tests, fill, NULL);
}
