/* The CUDA backend's promises where memory ends and chips fail, on the stand-in's GPUs: what is described
 * here cannot be provoked on a real one. */
#include "kernels/device.h"
#include "kernels/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)

static void set(const char *name, const char *value)
{
    char variable[64];

    snprintf(variable, sizeof variable, "SACCADE_HOST_CUDA__%s", name);
    assert_int_equal(value != NULL ? setenv(variable, value, 1) : unsetenv(variable), 0);
}

static int usual_chip(void **state)
{
    (void)state;
    set("FAIL", NULL);
    set("ARCH", NULL);
    set("DEVICES", "2");
    set("MEMORY", "268435456");
    return 0;
}

static sac_status try_open(const char *name, size_t memory, sac_device **out, sac_error *err)
{
    sac_device_options options;

    sac_device_options_init(&options);
    options.name = name;
    options.threads = 1;
    options.memory = memory;
    return sac_device_open(&options, out, err);
}

static sac_device *open_gpu(const char *name, size_t memory)
{
    sac_device *device;
    sac_error err;

    if (try_open(name, memory, &device, &err) != SAC_OK)
        fail_msg("%s: %s", name, err.text);
    return device;
}

static uint64_t used(const sac_device *device)
{
    sac_device_memory memory;

    sac_device_memory_describe(device, &memory);
    return memory.used;
}

static uint64_t budget(const sac_device *device)
{
    sac_device_memory memory;

    sac_device_memory_describe(device, &memory);
    return memory.budget;
}

/* ---- memory ------------------------------------------------------------------------------------------ */

static void memory_is_counted_against_the_budget(void **state)
{
    sac_device *device = open_gpu("cuda:0", 0);
    char missing[64];
    void *a, *b;
    sac_error err;

    (void)state;
    assert_int_equal(budget(device), 256 * MIB - 256 * MIB / 20);
    assert_int_equal(used(device), 0);
    assert_int_equal(sac_buffer_alloc(device, 100 * MIB, 1, &a, &err), SAC_OK);
    assert_int_equal(sac_buffer_alloc(device, 1, 1, &b, &err), SAC_OK);
    assert_in_range(used(device), 100 * MIB + 1, 100 * MIB + 4096);
    sac_buffer_free(device, b);
    assert_int_equal(used(device), 100 * MIB);
    assert_int_equal(sac_buffer_alloc(device, 200 * MIB, 1, &b, &err), SAC_DEVICE_MEMORY);
    assert_null(b);
    snprintf(missing, sizeof missing, "%llu are missing",
             (unsigned long long)(200 * MIB - (budget(device) - 100 * MIB)));
    assert_non_null(strstr(err.text, missing));
    assert_non_null(strstr(err.text, "smaller batch"));
    assert_false(sac_device_lost(device));
    sac_buffer_free(device, a);
    assert_int_equal(used(device), 0);
    assert_int_equal(sac_buffer_alloc(device, 200 * MIB, 1, &b, &err), SAC_OK);
    sac_buffer_free(device, b);
    sac_device_close(device);
}

static void devices_on_one_chip_divide_its_memory(void **state)
{
    sac_device *device = open_gpu("cuda:0,cuda:1,cuda:0", 0);
    const uint64_t all = 256 * MIB - 256 * MIB / 20;

    (void)state;
    assert_int_equal(budget(device), all / 2);
    assert_int_equal(budget(sac_device_shard(device, 1)), all);
    assert_int_equal(budget(sac_device_shard(device, 2)), all / 2);
    sac_device_close(device);
    device = open_gpu("cuda:1", 10 * MIB);
    assert_int_equal(budget(device), 10 * MIB);
    sac_device_close(device);
}

static void a_chip_with_less_than_its_budget_is_not_lost(void **state)
{
    sac_device *device = open_gpu("cuda:0", 1024 * MIB);
    sac_error err;
    void *buffer;

    (void)state;
    assert_int_equal(sac_buffer_alloc(device, 512 * MIB, 1, &buffer, &err), SAC_DEVICE_MEMORY);
    assert_non_null(strstr(err.text, "other processes"));
    assert_int_equal(used(device), 0);
    assert_false(sac_device_lost(device));
    assert_int_equal(sac_buffer_alloc(device, MIB, 1, &buffer, &err), SAC_OK);
    sac_buffer_free(device, buffer);
    sac_device_close(device);
}

static void idle_arenas_go_before_anybody_is_refused(void **state)
{
    sac_device *device = open_gpu("cuda:0", 100 * MIB);
    sac_stream *stream;
    void *buffer;

    (void)state;
    assert_int_equal(sac_stream_borrow(device, 60 * MIB, &stream, NULL), SAC_OK);
    sac_stream_give_back(stream);
    assert_int_equal(used(device), 64 * MIB);
    assert_int_equal(sac_buffer_alloc(device, 90 * MIB, 1, &buffer, NULL), SAC_OK);
    assert_int_equal(used(device), 90 * MIB);
    sac_buffer_free(device, buffer);
    sac_device_close(device);
}

static void an_arena_grows_where_there_is_no_room_for_two(void **state)
{
    sac_device *device = open_gpu("cuda:0", 150 * MIB);
    sac_stream *stream;

    (void)state;
    assert_int_equal(sac_stream_open(device, 64 * MIB, &stream, NULL), SAC_OK);
    assert_int_equal(sac_stream_reserve(stream, 100 * MIB, NULL), SAC_OK);
    assert_int_equal(used(device), 128 * MIB);
    assert_int_equal(sac_stream_reserve(stream, 140 * MIB, NULL), SAC_DEVICE_MEMORY);
    assert_int_equal(used(device), 128 * MIB);
    sac_stream_close(stream);
    assert_int_equal(used(device), 0);
    sac_device_close(device);
}

/* Uses everything that allocates; SAC_OK where all of it worked. */
static sac_status use_device(void)
{
    sac_device *device;
    sac_stream *stream = NULL;
    sac_event *event = NULL;
    void *buffer = NULL, *locked = NULL;
    unsigned char bytes[1000] = {0};
    sac_status st = try_open("cuda:0", 0, &device, NULL);

    if (st != SAC_OK)
        return st;
    st = sac_stream_borrow(device, 10000, &stream, NULL);
    if (st == SAC_OK)
        st = sac_buffer_alloc(device, sizeof bytes, 1, &buffer, NULL);
    if (st == SAC_OK)
        st = sac_host_alloc(device, sizeof bytes, 1, &locked, NULL);
    if (st == SAC_OK)
        st = sac_event_open(device, &event, NULL);
    if (st == SAC_OK)
        st = sac_stream_upload(stream, buffer, bytes, sizeof bytes);
    if (st == SAC_OK)
        st = sac_stream_wait(stream);
    assert_false(sac_device_lost(device));
    sac_event_close(event);
    sac_host_free(device, locked);
    sac_buffer_free(device, buffer);
    sac_stream_close(stream);
    assert_int_equal(used(device), 0);
    sac_device_close(device);
    return st;
}

static void every_failing_allocation_is_survived(void **state)
{
    sac_status st = SAC_DEVICE_MEMORY;
    int n = 0;

    (void)state;
    while (st != SAC_OK) {
        char text[32];

        snprintf(text, sizeof text, "memory:%d", ++n);
        set("FAIL", text);
        st = use_device();
        assert_true(st == SAC_OK || st == SAC_DEVICE_MEMORY || st == SAC_NO_MEMORY);
        assert_in_range(n, 1, 20);
    }
    assert_in_range(n, 5, 20); /* scratch, buffer, page-locked memory, the ring, and then none */
}

/* A layer, made and used once; its y goes nowhere. */
static sac_status use_layer(sac_device *device)
{
    static const float weight[8 * 8], bias[8];
    const struct sac_ops *ops = sac_device_ops(device);
    const struct sac_linear_params params = {.in = 8,
                                             .out = 8,
                                             .weight = weight,
                                             .bias = bias,
                                             .precision = SAC_BF16,
                                             .y_dtype = SAC_BF16,
                                             .activation = SAC_ACTIVATION_SWIGLU};
    struct sac_linear_args args = {.rows = 2};
    sac_linear *linear = NULL;
    sac_stream *stream = NULL;
    void *memory = NULL;
    sac_status st = sac_buffer_alloc(device, 1024, 1, &memory, NULL);

    if (st == SAC_OK)
        st = ops->linear_open(device, &params, &linear, NULL);
    if (st == SAC_OK) {
        args.linear = linear;
        args.x = memory;
        args.y = (char *)memory + 512;
        st = sac_stream_open(device, ops->linear_scratch(device, &args), &stream, NULL);
    }
    if (st == SAC_OK)
        st = ops->linear(stream, &args);
    if (st == SAC_OK)
        st = sac_stream_wait(stream);
    set("FAIL", NULL); /* memory of a lost chip cannot be freed */
    sac_stream_close(stream);
    ops->linear_close(linear);
    sac_buffer_free(device, memory);
    return st;
}

static void a_layer_survives_every_failing_allocation(void **state)
{
    sac_status st = SAC_DEVICE_MEMORY;
    int n = 0;

    (void)state;
    while (st != SAC_OK) {
        sac_device *device = open_gpu("cuda:0", 0);
        char text[32];

        snprintf(text, sizeof text, "memory:%d", ++n);
        set("FAIL", text);
        st = use_layer(device);
        assert_true(st == SAC_OK || st == SAC_DEVICE_MEMORY);
        assert_int_equal(used(device), 0);
        assert_false(sac_device_lost(device));
        assert_int_equal(use_layer(device), SAC_OK);
        sac_device_close(device);
    }
    assert_int_equal(n, 6); /* buffer, weight, bias, the library, scratch, and then none */
}

static void a_layer_sees_its_device_lost(void **state)
{
    sac_device *device = open_gpu("cuda:0", 0);

    (void)state;
    assert_int_equal(use_layer(device), SAC_OK);
    set("FAIL", "lost:1");
    assert_int_equal(use_layer(device), SAC_DEVICE_LOST);
    assert_true(sac_device_lost(device));
    sac_device_close(device);
}

/* ---- faults ------------------------------------------------------------------------------------------ */

/* One operation with a launch, and the wait for it. */
static sac_status run_norms(sac_device *device, sac_stream *stream, float *buffer)
{
    const float x[2] = {3, 4};
    float norm = 0;
    struct sac_norms_args args = {.x = buffer, .n = 1, .dim = 2, .out = buffer + 16};
    sac_status st = sac_stream_upload(stream, buffer, x, sizeof x);

    if (st == SAC_OK)
        st = sac_device_ops(device)->norms(stream, &args);
    if (st == SAC_OK)
        st = sac_stream_download(stream, &norm, buffer + 16, sizeof norm);
    if (st == SAC_OK)
        st = sac_stream_wait(stream);
    if (st == SAC_OK)
        assert_true(norm == 25);
    return st;
}

static void a_lost_device_stays_lost(void **state)
{
    sac_device *device = open_gpu("cuda:0,cuda:1", 0), *other = sac_device_shard(device, 1);
    sac_stream *stream, *none;
    sac_error err;
    void *buffer, *more;

    (void)state;
    assert_int_equal(sac_stream_open(device, 0, &stream, NULL), SAC_OK);
    assert_int_equal(sac_buffer_alloc(device, 256, 1, &buffer, NULL), SAC_OK);
    assert_int_equal(run_norms(device, stream, buffer), SAC_OK);
    assert_null(sac_device_lost_reason(device));
    set("FAIL", "lost:1");
    assert_int_equal(run_norms(device, stream, buffer), SAC_DEVICE_LOST);
    assert_true(sac_device_lost(device));
    assert_non_null(strstr(sac_device_lost_reason(device), "CUDA error 700"));
    set("FAIL", NULL); /* whatever the chip says now */
    assert_int_equal(run_norms(device, stream, buffer), SAC_DEVICE_LOST);
    assert_int_equal(sac_stream_wait(stream), SAC_DEVICE_LOST);
    assert_int_equal(sac_buffer_alloc(device, 1, 1, &more, &err), SAC_DEVICE_LOST);
    assert_non_null(strstr(err.text, "a new process"));
    assert_int_equal(sac_stream_borrow(device, 0, &none, &err), SAC_DEVICE_LOST);
    assert_null(none);
    assert_false(sac_device_lost(other));
    sac_stream_close(stream);
    sac_buffer_free(device, buffer);
    sac_device_close(device);
}

static void a_recording_takes_no_ordinary_memory(void **state)
{
    sac_device *device = open_gpu("cuda:0", 0);
    float ordinary[64] = {0};
    sac_recording *recording;
    sac_stream *stream;
    void *buffer;

    (void)state;
    assert_int_equal(sac_stream_open(device, 0, &stream, NULL), SAC_OK);
    assert_int_equal(sac_buffer_alloc(device, 256, 1, &buffer, NULL), SAC_OK);
    assert_int_equal(sac_stream_record_begin(stream), SAC_OK);
    assert_int_not_equal(sac_stream_upload(stream, buffer, ordinary, sizeof ordinary), SAC_OK);
    assert_int_not_equal(sac_stream_record_end(stream, &recording), SAC_OK);
    assert_null(recording);
    assert_int_equal(sac_stream_record_begin(stream), SAC_OK);
    assert_int_not_equal(sac_stream_wait(stream), SAC_OK);
    assert_int_not_equal(sac_stream_record_end(stream, &recording), SAC_OK);
    assert_null(recording);
    assert_false(sac_device_lost(device));
    assert_int_equal(run_norms(device, stream, buffer), SAC_OK);
    sac_stream_close(stream);
    sac_buffer_free(device, buffer);
    sac_device_close(device);
}

/* ---- what is there ----------------------------------------------------------------------------------- */

static void what_is_not_there_is_said_in_plain_words(void **state)
{
    sac_device_options options;
    sac_device *device;
    sac_error err;

    (void)state;
    assert_int_equal(try_open("cuda:2", 0, &device, &err), SAC_UNSUPPORTED);
    assert_non_null(strstr(err.text, "2 GPUs are here"));
    assert_int_equal(try_open("cuda:0,cuda:2", 0, &device, &err), SAC_UNSUPPORTED);
    assert_null(device);
    set("ARCH", "75");
    assert_int_equal(try_open("cuda:0", 0, &device, &err), SAC_UNSUPPORTED);
    assert_non_null(strstr(err.text, "compute capability 7.5"));
    set("DEVICES", "0");
    assert_int_equal(try_open("cuda:0", 0, &device, &err), SAC_UNSUPPORTED);
    assert_non_null(strstr(err.text, "no GPU"));
    assert_int_equal(try_open("auto", 0, &device, &err), SAC_OK);
    assert_non_null(strstr(sac_device_describe(device), "; no GPU: the NVIDIA driver shows no GPU"));
    sac_device_close(device);
    sac_device_options_init(&options);
    options.require_gpu = true;
    assert_int_equal(sac_device_open(&options, &device, &err), SAC_UNSUPPORTED);
    assert_non_null(strstr(err.text, "a GPU is required"));
}

static void the_best_device_is_the_gpu(void **state)
{
    sac_device *device = open_gpu("auto", 0);

    (void)state;
    assert_memory_equal(sac_device_describe(device), "cuda:0: ", 8);
    assert_non_null(strstr(sac_device_describe(device), "multiprocessors, 0 GiB, module for CUDA"));
    assert_false(sac_device_host_visible(device));
    assert_ptr_not_equal(sac_device_host(device), device);
    sac_device_close(device);
}

static void marks_hold_between_chips(void **state)
{
    sac_device *device = open_gpu("cuda:0,cuda:1", 0), *other = sac_device_shard(device, 1);
    unsigned char want[3000], back[3000];
    sac_stream *here, *there;
    sac_event *event;
    void *a, *b;

    (void)state;
    for (size_t i = 0; i < sizeof want; i++)
        want[i] = (unsigned char)(i * 7 + i / 256);
    assert_int_equal(sac_stream_open(device, 0, &here, NULL), SAC_OK);
    assert_int_equal(sac_stream_open(other, 0, &there, NULL), SAC_OK);
    assert_int_equal(sac_event_open(other, &event, NULL), SAC_OK);
    assert_int_equal(sac_buffer_alloc(device, sizeof want, 1, &a, NULL), SAC_OK);
    assert_int_equal(sac_buffer_alloc(other, sizeof want, 1, &b, NULL), SAC_OK);
    assert_int_equal(sac_stream_upload(there, b, want, sizeof want), SAC_OK);
    assert_int_equal(sac_event_record(event, there), SAC_OK);
    assert_int_equal(sac_stream_await(here, event), SAC_OK);
    assert_int_equal(sac_stream_copy(here, a, b, sizeof want), SAC_OK);
    assert_int_equal(sac_stream_download(here, back, a, sizeof back), SAC_OK);
    assert_int_equal(sac_stream_wait(here), SAC_OK);
    assert_memory_equal(back, want, sizeof want);
    sac_event_close(event);
    sac_stream_close(here);
    sac_stream_close(there);
    sac_buffer_free(device, a);
    sac_buffer_free(other, b);
    sac_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(memory_is_counted_against_the_budget, usual_chip),
        cmocka_unit_test_setup(devices_on_one_chip_divide_its_memory, usual_chip),
        cmocka_unit_test_setup(a_chip_with_less_than_its_budget_is_not_lost, usual_chip),
        cmocka_unit_test_setup(idle_arenas_go_before_anybody_is_refused, usual_chip),
        cmocka_unit_test_setup(an_arena_grows_where_there_is_no_room_for_two, usual_chip),
        cmocka_unit_test_setup(every_failing_allocation_is_survived, usual_chip),
        cmocka_unit_test_setup(a_layer_survives_every_failing_allocation, usual_chip),
        cmocka_unit_test_setup(a_layer_sees_its_device_lost, usual_chip),
        cmocka_unit_test_setup(a_lost_device_stays_lost, usual_chip),
        cmocka_unit_test_setup(a_recording_takes_no_ordinary_memory, usual_chip),
        cmocka_unit_test_setup(what_is_not_there_is_said_in_plain_words, usual_chip),
        cmocka_unit_test_setup(the_best_device_is_the_gpu, usual_chip),
        cmocka_unit_test_setup(marks_hold_between_chips, usual_chip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
