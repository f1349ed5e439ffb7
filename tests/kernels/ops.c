/* Every operation against the plain C twin on every case: on every instruction set this CPU has with 1 to 3
 * threads, or on the device that --device or SACCADE_TEST_DEVICE names. Outputs start as NaN and end in guard
 * bytes. SACCADE_TEST_SEED=... repeats a run; the seed is printed. --small leaves out what takes long under a
 * tool that watches every access. */
#include "kernels/backend.h"
#include "kernels/half.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/open_device.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { WAYS_MAX = 3 };
#define SMALL_OPERATIONS 2e6 /* of a small case: products and sums, or look-ups */

static const char *const isas[] = {"base", "avx2", "avx512core", "avx512"};
enum { ISA_COUNT = sizeof isas / sizeof isas[0] };

/* What is compared with the twin: a device opened in several ways whose results must be the same to the bit,
 * as with 1 to 3 threads; or simply used again. */
struct subject {
    const char *name;
    sac_device *ways[WAYS_MAX];
    size_t way_count;
};

static struct {
    const char *device; /* NULL: the CPU */
    bool small;
    sac_device *ref;
    struct subject subjects[ISA_COUNT];
    size_t subject_count;
    uint64_t seed;
} fixture;

struct outputs {
    void *data[OUTPUTS_MAX];
};

static int open_devices(void **state)
{
    const char *seed = getenv("SACCADE_TEST_SEED");

    (void)state;
    fixture.seed = seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
    print_message("SACCADE_TEST_SEED=%llu\n", (unsigned long long)fixture.seed);
    fixture.ref = open_device("ref", NULL, 0);
    if (fixture.device != NULL) {
        sac_device *device = open_device(fixture.device, NULL, 0);

        print_message("%s\n", sac_device_describe(device));
        fixture.subjects[fixture.subject_count++] = (struct subject){fixture.device, {device, device}, 2};
        return 0;
    }
    for (; fixture.subject_count < ISA_COUNT; fixture.subject_count++) {
        struct subject *subject = &fixture.subjects[fixture.subject_count];

        subject->name = isas[fixture.subject_count];
        for (; subject->way_count < WAYS_MAX; subject->way_count++)
            subject->ways[subject->way_count] =
                open_device("cpu", subject->name, (uint32_t)subject->way_count + 1);
    }
    return 0;
}

static int close_devices(void **state)
{
    (void)state;
    sac_device_close(fixture.ref);
    for (size_t i = 0; i < fixture.subject_count; i++)
        for (size_t w = 0; w < fixture.subjects[i].way_count; w++)
            if (w == 0 || fixture.subjects[i].ways[w] != fixture.subjects[i].ways[0])
                sac_device_close(fixture.subjects[i].ways[w]);
    return 0;
}

static void outputs_free(struct outputs *out)
{
    for (size_t i = 0; i < OUTPUTS_MAX; i++)
        free(out->data[i]);
}

static void outputs_read(const struct kernel_data *data, const struct kernel_copy *copy, sac_stream *stream,
                         struct outputs *out)
{
    sac_status st;

    *out = (struct outputs){{NULL}};
    for (size_t i = 0; i < data->output_count; i++)
        assert_int_equal(posix_memalign(&out->data[i], 64, data->out_bytes[i] + OUTPUT_GUARD), 0);
    st = kernel_copy_read(copy, data, stream, out->data);
    if (st != SAC_OK)
        fail_msg("%s on %s: %s", data->op->name, sac_device_describe(copy->device), sac_status_text(st));
    for (size_t i = 0; i < data->output_count; i++)
        for (size_t b = 0; b < OUTPUT_GUARD; b++)
            if (((unsigned char *)out->data[i])[data->out_bytes[i] + b] != KERNEL_GUARD)
                fail_msg("%s on %s wrote past output %zu", data->op->name, sac_device_describe(copy->device),
                         i);
}

/* False, without data, for a case that is not to be tested. */
static bool case_make(struct kernel_data *data, const struct kernel_op *op, size_t i, uint64_t seed,
                      bool small)
{
    if (op->cases[i].flags & CASE_BENCH)
        return false;
    kernel_data_make(data, op, &op->cases[i], seed + i);
    data->twin = fixture.device == NULL;
    if (!small || data->flops <= SMALL_OPERATIONS)
        return true;
    kernel_data_free(data);
    return false;
}

/* False, without outputs, where the device has no such operation. */
static bool outputs_run(const struct kernel_data *data, sac_device *device, struct outputs *out)
{
    struct kernel_copy copy;
    sac_stream *stream;
    sac_status st;

    *out = (struct outputs){{NULL}};
    assert_int_equal(sac_stream_open(device, 0, &stream, NULL), SAC_OK);
    assert_int_equal(kernel_copy_make(&copy, data, stream), SAC_OK);
    assert_int_equal(kernel_reserve(data, &copy, stream), SAC_OK);
    st = kernel_run(data, &copy, stream);
    if (st == SAC_OK)
        outputs_read(data, &copy, stream, out);
    else
        sac_stream_wait(stream);
    kernel_copy_free(&copy);
    sac_stream_close(stream);
    if (st != SAC_UNSUPPORTED && st != SAC_OK)
        fail_msg("%s on %s: %s", data->op->name, sac_device_describe(device), sac_status_text(st));
    return st == SAC_OK;
}

/* False where the device leaves this case out. */
static bool subject_matches(const struct kernel_data *data, const struct subject *subject, size_t number,
                            const struct outputs *want)
{
    struct outputs first, other;
    const char *wrong;

    if (!outputs_run(data, subject->ways[0], &first))
        return false;
    wrong = data->op->check(data, want->data, first.data);
    if (wrong != NULL)
        fail_msg("%s, case %zu, %s: %s", data->op->name, number, subject->name, wrong);
    for (size_t w = 1; w < subject->way_count; w++) {
        assert_true(outputs_run(data, subject->ways[w], &other));
        for (size_t i = 0; i < data->output_count; i++)
            if (memcmp(first.data[i], other.data[i], data->out_bytes[i]) != 0)
                fail_msg("%s, case %zu, %s: another result with %zu threads, or the second time",
                         data->op->name, number, subject->name, w + 1);
        outputs_free(&other);
    }
    outputs_free(&first);
    return true;
}

static void op_matches_its_twin(void **state)
{
    const struct kernel_op *op = *state;
    size_t left_out = 0, total = 0;

    for (size_t i = 0; i < op->case_count; i++) {
        struct kernel_data data;
        struct outputs want;
        const char *wrong;

        if (!case_make(&data, op, i, fixture.seed, fixture.small))
            continue;
        assert_true(outputs_run(&data, fixture.ref, &want));
        wrong = op->check(&data, want.data, want.data);
        if (wrong != NULL)
            fail_msg("%s, case %zu: the twin itself: %s", op->name, i, wrong);
        for (size_t s = 0; s < fixture.subject_count; s++, total++)
            left_out += !subject_matches(&data, &fixture.subjects[s], i, &want);
        outputs_free(&want);
        kernel_data_free(&data);
    }
    if (left_out > 0)
        print_message("%s: %zu of %zu left out, because the device does not do them\n", op->name, left_out,
                      total);
}

/* Runs a case without the scratch that it wants; SAC_UNSUPPORTED where it wants none. */
static sac_status run_without_scratch(const struct kernel_data *data, sac_device *device)
{
    struct kernel_copy copy;
    sac_stream *stream;
    sac_status st = SAC_UNSUPPORTED;

    assert_int_equal(sac_stream_open(device, 0, &stream, NULL), SAC_OK);
    assert_int_equal(kernel_copy_make(&copy, data, stream), SAC_OK);
    if (data->op->scratch(device, &copy.args) > 0) {
        stream->scratch_bytes = 0;
        st = data->op->run(stream, data, &copy.args);
    }
    assert_int_equal(sac_stream_wait(stream), SAC_OK);
    kernel_copy_free(&copy);
    sac_stream_close(stream);
    return st;
}

static bool scratch_is_minded(const struct kernel_op *op, sac_device *device)
{
    bool wanted = false, refused = false;

    for (size_t i = 0; i < op->case_count && !refused; i++) {
        struct kernel_data data;
        sac_status st;

        if (!case_make(&data, op, i, fixture.seed, true))
            continue;
        st = run_without_scratch(&data, device);
        wanted = wanted || st != SAC_UNSUPPORTED;
        refused = st == SAC_NO_MEMORY || st == SAC_DEVICE_MEMORY; /* nothing to do needs nothing */
        kernel_data_free(&data);
    }
    if (wanted && !refused)
        fail_msg("%s does without the scratch that it wants", op->name);
    return refused;
}

static void too_little_scratch_is_refused(void **state)
{
    sac_device *device = fixture.subjects[fixture.subject_count - 1].ways[1];
    size_t count = 0;

    (void)state;
    for (size_t i = 0; i < kernel_op_count; i++)
        if (kernel_ops[i]->scratch != NULL)
            count += scratch_is_minded(kernel_ops[i], device);
    if (count == 0)
        skip(); /* the plain versions take none */
}

/* What one of several threads does on one device: all small cases of one operation, each on a stream of its
 * own. */
static void *run_concurrently(void *arg)
{
    const struct kernel_op *op = arg;
    const char *wrong = NULL;

    for (size_t i = 0; i < op->case_count && wrong == NULL; i++) {
        struct kernel_data data;
        struct outputs want, got;

        if (!case_make(&data, op, i, fixture.seed, fixture.device != NULL))
            continue;
        if (outputs_run(&data, fixture.subjects[fixture.subject_count - 1].ways[1], &got)) {
            outputs_run(&data, fixture.ref, &want);
            wrong = op->check(&data, want.data, got.data);
            outputs_free(&want);
        }
        outputs_free(&got);
        kernel_data_free(&data);
    }
    return (void *)wrong;
}

static void streams_of_one_device_do_not_meet(void **state)
{
    const struct kernel_op *const ops[] = {&nearest_op, &pq_scan_op, &pq_scan_op, &probe_op};
    pthread_t threads[4];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_concurrently, (void *)ops[i]), 0);
    for (size_t i = 0; i < 4; i++) {
        void *wrong;

        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        if (wrong != NULL)
            fail_msg("%s: %s", ops[i]->name, (const char *)wrong);
    }
}

/* Records an operation on one set of data and plays it on another in the same memory: what is put on a stream
 * may depend on the arguments' values, not on what they point to. False where the device does not do it. */
static bool recording_matches(const struct kernel_data *first, const struct kernel_data *other,
                              sac_device *device)
{
    sac_recording *recording = NULL;
    struct outputs want, got = {{NULL}};
    struct kernel_copy copy;
    sac_stream *stream;
    const char *wrong = NULL;
    sac_status st;

    assert_int_equal(sac_stream_open(device, 0, &stream, NULL), SAC_OK);
    assert_int_equal(kernel_copy_make(&copy, first, stream), SAC_OK);
    assert_int_equal(kernel_reserve(first, &copy, stream), SAC_OK);
    st = sac_stream_record_begin(stream);
    if (st == SAC_OK) {
        sac_status end;

        st = kernel_run(first, &copy, stream);
        end = sac_stream_record_end(stream, &recording);
        st = st == SAC_OK ? end : st;
    }
    if (st != SAC_OK && st != SAC_UNSUPPORTED)
        fail_msg("%s cannot be recorded: %s", first->op->name, sac_status_text(st));
    if (st == SAC_OK) {
        assert_int_equal(kernel_copy_upload(&copy, other, stream), SAC_OK);
        assert_int_equal(sac_recording_play(recording, stream), SAC_OK);
        outputs_read(other, &copy, stream, &got);
        assert_true(outputs_run(other, fixture.ref, &want));
        wrong = other->op->check(other, want.data, got.data);
        outputs_free(&want);
        outputs_free(&got);
    }
    sac_recording_free(recording);
    kernel_copy_free(&copy);
    sac_stream_close(stream);
    if (wrong != NULL)
        fail_msg("%s, played on other data: %s", first->op->name, wrong);
    return st == SAC_OK;
}

static void recordings_play_with_other_data(void **state)
{
    sac_device *device = fixture.subjects[fixture.subject_count - 1].ways[1];
    size_t played = 0;

    (void)state;
    for (size_t o = 0; o < kernel_op_count; o++) {
        const struct kernel_op *op = kernel_ops[o];

        if (op == &linear_op)
            continue; /* it makes its layer as it runs, which allocates */
        for (size_t i = 0; i < op->case_count; i++) {
            struct kernel_data first, other;

            if (!case_make(&first, op, i, fixture.seed, true))
                continue;
            assert_true(
                case_make(&other, op, i, fixture.seed + 1000, false)); /* whatever size its data makes it */
            played += recording_matches(&first, &other, device);
            kernel_data_free(&first);
            kernel_data_free(&other);
        }
    }
    if (played == 0)
        skip(); /* nothing is gained by recordings here */
    print_message("%zu cases played\n", played);
}

static void halves_convert_and_round(void **state)
{
    const struct {
        float from;
        uint16_t to;
    } known[] = {
        {0.0f, 0},
        {-0.0f, 0x8000},
        {1.0f, 0x3c00},
        {-2.0f, 0xc000},
        {65504.0f, 0x7bff},
        {65519.0f, 0x7bff},
        {65520.0f, 0x7c00},
        {1e30f, 0x7c00},
        {0x1p-24f, 1},
        {0x1p-25f, 0},
        {0x1.8p-25f, 1},
        {0x1p-14f, 0x0400},
        {0x1.ff8p-15f, 0x03ff},
        {0x1.ffcp-15f, 0x0400},
        {0x1.002p0f, 0x3c00},
        {0x1.006p0f, 0x3c02},
    };

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        assert_int_equal(sac_f32_to_f16(known[i].from), known[i].to);
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t half = (uint16_t)h;
        float wide = sac_f16_to_f32(half);

        if ((half & 0x7c00) == 0x7c00 && (half & 0x3ff) != 0)
            half |= 0x200; /* signalling becomes quiet */
        assert_int_equal(sac_f32_to_f16(wide), half);
    }
    assert_int_equal(sac_f32_to_bf16(1.0f), 0x3f80);
    assert_int_equal(sac_f32_to_bf16(0x1.01p0f), 0x3f80); /* a tie goes to even */
    assert_int_equal(sac_f32_to_bf16(0x1.03p0f), 0x3f82);
    assert_true(sac_bf16_to_f32(0xbf80) == -1.0f);
}

int main(int argc, char **argv)
{
    enum { OWN_TESTS = 4 };
    struct CMUnitTest tests[32] = {
        cmocka_unit_test(halves_convert_and_round),
        cmocka_unit_test(too_little_scratch_is_refused),
        cmocka_unit_test(streams_of_one_device_do_not_meet),
        cmocka_unit_test(recordings_play_with_other_data),
    };

    fixture.device = getenv("SACCADE_TEST_DEVICE");
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--small") == 0) {
            fixture.small = true;
        } else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc) {
            fixture.device = argv[++i];
        } else if (strcmp(argv[i], "--op") == 0 && i + 1 < argc) {
            cmocka_set_test_filter(argv[++i]);
        } else {
            fprintf(stderr, "usage: %s [--device NAME] [--op NAME] [--small]\n", argv[0]);
            return 2;
        }
    }
    for (size_t i = 0; i < kernel_op_count; i++)
        tests[OWN_TESTS + i] = (struct CMUnitTest){.name = kernel_ops[i]->name,
                                                   .test_func = op_matches_its_twin,
                                                   .initial_state = (void *)kernel_ops[i]};
    return _cmocka_run_group_tests("ops", tests, kernel_op_count + OWN_TESTS, open_devices, close_devices);
}
