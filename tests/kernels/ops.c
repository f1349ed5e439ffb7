/* Every operation, every instruction set this CPU has, 1 to 3 threads: against the plain C twin on every
 * case. Outputs start as NaN and end in guard bytes. SACCADE_TEST_SEED=... repeats a run; the seed is
 * printed. */
#include "kernels/half.h"
#include "tests/kernels/cases.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { POISON = 0xff, GUARD = 0xa5, THREADS_MAX = 3 };

static const char *const isas[] = {"base", "avx2", "avx512core", "avx512"};
enum { ISA_COUNT = sizeof isas / sizeof isas[0] };

static struct {
    sac_device *ref, *cpu[ISA_COUNT][THREADS_MAX];
    uint64_t seed;
} fixture;

struct outputs {
    void *data[OUTPUTS_MAX];
};

static sac_device *open_device(const char *name, const char *isa, uint32_t threads)
{
    sac_device_options options;
    sac_device *device;
    sac_error err;

    sac_device_options_init(&options);
    options.name = name;
    options.isa = isa;
    options.threads = threads;
    if (sac_device_open(&options, &device, &err) != SAC_OK)
        fail_msg("%s", err.text);
    return device;
}

static int open_devices(void **state)
{
    const char *seed = getenv("SACCADE_TEST_SEED");

    (void)state;
    fixture.seed = seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
    print_message("SACCADE_TEST_SEED=%llu\n", (unsigned long long)fixture.seed);
    fixture.ref = open_device("ref", NULL, 0);
    for (size_t i = 0; i < ISA_COUNT; i++)
        for (uint32_t t = 0; t < THREADS_MAX; t++)
            fixture.cpu[i][t] = open_device("cpu", isas[i], t + 1);
    return 0;
}

static int close_devices(void **state)
{
    (void)state;
    sac_device_close(fixture.ref);
    for (size_t i = 0; i < ISA_COUNT; i++)
        for (uint32_t t = 0; t < THREADS_MAX; t++)
            sac_device_close(fixture.cpu[i][t]);
    return 0;
}

static void outputs_run(const struct kernel_data *data, sac_device *device, struct outputs *out)
{
    sac_stream *stream;
    sac_status st;

    for (size_t i = 0; i < OUTPUTS_MAX; i++) {
        out->data[i] = NULL;
        assert_int_equal(posix_memalign(&out->data[i], 64, data->out_bytes[i] + OUTPUT_GUARD), 0);
        memset(out->data[i], POISON, data->out_bytes[i]);
        memset((unsigned char *)out->data[i] + data->out_bytes[i], GUARD, OUTPUT_GUARD);
    }
    assert_int_equal(sac_stream_open(device, 0, &stream, NULL), SAC_OK);
    st = data->op->run(data, stream, out->data);
    assert_int_equal(st, SAC_OK);
    sac_stream_close(stream);
    for (size_t i = 0; i < OUTPUTS_MAX; i++)
        for (size_t b = 0; b < OUTPUT_GUARD; b++)
            if (((unsigned char *)out->data[i])[data->out_bytes[i] + b] != GUARD)
                fail_msg("%s on %s wrote past output %zu", data->op->name, sac_device_describe(device), i);
}

static void outputs_free(struct outputs *out)
{
    for (size_t i = 0; i < OUTPUTS_MAX; i++)
        free(out->data[i]);
}

static void isa_matches(const struct kernel_data *data, size_t isa, size_t number, const struct outputs *want)
{
    struct outputs alone, shared;
    const char *wrong;

    outputs_run(data, fixture.cpu[isa][0], &alone);
    wrong = data->op->check(data, want->data, alone.data);
    if (wrong != NULL)
        fail_msg("%s, case %zu, %s: %s", data->op->name, number, isas[isa], wrong);
    for (uint32_t t = 1; t < THREADS_MAX; t++) {
        outputs_run(data, fixture.cpu[isa][t], &shared);
        for (size_t i = 0; i < OUTPUTS_MAX; i++)
            if (memcmp(alone.data[i], shared.data[i], data->out_bytes[i]) != 0)
                fail_msg("%s, case %zu, %s: %u threads give another result than one", data->op->name, number,
                         isas[isa], t + 1);
        outputs_free(&shared);
    }
    outputs_free(&alone);
}

static void op_matches_its_twin(void **state)
{
    const struct kernel_op *op = *state;

    for (size_t i = 0; i < op->case_count; i++) {
        struct kernel_data data;
        struct outputs want;

        if (op->cases[i].flags & CASE_BENCH)
            continue;
        kernel_data_make(&data, op, &op->cases[i], fixture.seed + i);
        outputs_run(&data, fixture.ref, &want);
        for (size_t isa = 0; isa < ISA_COUNT; isa++)
            isa_matches(&data, isa, i, &want);
        outputs_free(&want);
        kernel_data_free(&data);
    }
}

static void too_little_scratch_is_refused(void **state)
{
    sac_device *device = fixture.cpu[ISA_COUNT - 1][1];
    const struct sac_ops *ops = sac_device_ops(device);
    const struct kernel_op *const scratchy[] = {&assign_op, &nearest_op, &pq_encode_op, &pq_scan_op};
    sac_stream *stream;

    (void)state;
    if (sac_device_ops(fixture.cpu[0][0])->nearest == ops->nearest)
        skip(); /* the plain versions take none */
    assert_int_equal(sac_stream_open(device, 0, &stream, NULL), SAC_OK);
    for (size_t i = 0; i < sizeof scratchy / sizeof scratchy[0]; i++) {
        struct kernel_data data;
        sac_status st;

        kernel_data_make(&data, scratchy[i], &scratchy[i]->cases[3], fixture.seed);
        if (scratchy[i] == &assign_op)
            st = ops->assign(stream, &data.args.assign);
        else if (scratchy[i] == &nearest_op)
            st = ops->nearest(stream, &data.args.nearest);
        else if (scratchy[i] == &pq_encode_op)
            st = ops->pq_encode(stream, &data.args.pq_encode);
        else
            st = ops->pq_scan(stream, &data.args.pq_scan);
        assert_int_equal(st, SAC_NO_MEMORY);
        kernel_data_free(&data);
    }
    sac_stream_close(stream);
}

/* What one of several threads does on one device: all small cases of one operation, each on a borrowed
 * stream. */
static void *run_concurrently(void *arg)
{
    const struct kernel_op *op = arg;
    const char *wrong = NULL;

    for (size_t i = 0; i < op->case_count && wrong == NULL; i++) {
        struct kernel_data data;
        struct outputs want, got;

        if (op->cases[i].flags & CASE_BENCH)
            continue;
        kernel_data_make(&data, op, &op->cases[i], fixture.seed + i);
        outputs_run(&data, fixture.ref, &want);
        outputs_run(&data, fixture.cpu[ISA_COUNT - 1][1], &got);
        wrong = op->check(&data, want.data, got.data);
        outputs_free(&want);
        outputs_free(&got);
        kernel_data_free(&data);
    }
    return (void *)wrong;
}

static void streams_of_one_device_do_not_meet(void **state)
{
    const struct kernel_op *const ops[] = {&nearest_op, &pq_scan_op, &pq_scan_op, &assign_op};
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

int main(void)
{
    enum { OWN_TESTS = 3 };
    struct CMUnitTest tests[32] = {
        cmocka_unit_test(halves_convert_and_round),
        cmocka_unit_test(too_little_scratch_is_refused),
        cmocka_unit_test(streams_of_one_device_do_not_meet),
    };

    for (size_t i = 0; i < kernel_op_count; i++)
        tests[OWN_TESTS + i] = (struct CMUnitTest){.name = kernel_ops[i]->name,
                                                   .test_func = op_matches_its_twin,
                                                   .initial_state = (void *)kernel_ops[i]};
    return _cmocka_run_group_tests("ops", tests, kernel_op_count + OWN_TESTS, open_devices, close_devices);
}
