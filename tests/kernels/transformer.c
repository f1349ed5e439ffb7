/* The operations of a transformer: every variant this machine can run against the plain C twin, at sizes
 * around its registers and tiles, with poison in and guards behind every output. */
#include "kernels/half.h"
#include "kernels/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GUARD_BYTES = 64, GUARD = 0xa5 };

static const char *const isas[] = {"base", "avx2", "avx512"};
#define ISA_COUNT (sizeof isas / sizeof isas[0])

struct fixture {
    sac_device *ref, *variants[ISA_COUNT];
    sac_stream *ref_stream, *streams[ISA_COUNT];
};

static uint32_t seed = 1;

static float uniform(void) /* -1..1 */
{
    seed = seed * 1664525u + 1013904223u;
    return (float)(int32_t)seed / 2147483648.0f;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    sac_device_options options;
    sac_error err;

    sac_device_options_init(&options);
    options.name = "ref";
    assert_int_equal(sac_device_open(&options, &f->ref, &err), SAC_OK);
    assert_int_equal(sac_stream_open(f->ref, 1 << 20, &f->ref_stream, &err), SAC_OK);
    options.name = "cpu";
    options.threads = 3;
    for (size_t i = 0; i < ISA_COUNT; i++) {
        options.isa = isas[i];
        assert_int_equal(sac_device_open(&options, &f->variants[i], &err), SAC_OK);
        assert_int_equal(sac_stream_open(f->variants[i], 1 << 20, &f->streams[i], &err), SAC_OK);
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < ISA_COUNT; i++) {
        sac_stream_close(f->streams[i]);
        sac_device_close(f->variants[i]);
    }
    sac_stream_close(f->ref_stream);
    sac_device_close(f->ref);
    free(f);
    return 0;
}

static size_t size_of(sac_dtype dtype)
{
    return dtype == SAC_F32 ? 4 : 2;
}

static float get(const void *array, sac_dtype dtype, size_t i)
{
    return dtype == SAC_F32 ? ((const float *)array)[i] : sac_bf16_to_f32(((const uint16_t *)array)[i]);
}

/* Values times `scale`, in whatever type. Ends exactly at the end of its memory, so that ASan sees reads
 * beyond. */
static void *random_array(sac_dtype dtype, size_t count, float scale)
{
    void *array = malloc(count * size_of(dtype) + 1);

    for (size_t i = 0; i < count; i++) {
        float value = uniform() * scale;

        if (dtype == SAC_F32)
            ((float *)array)[i] = value;
        else
            ((uint16_t *)array)[i] = sac_f32_to_bf16(value);
    }
    return array;
}

/* An output full of NaN, with guards behind it. */
static void *poisoned(sac_dtype dtype, size_t count)
{
    unsigned char *array = malloc(count * size_of(dtype) + GUARD_BYTES);

    memset(array, 0xff, count * size_of(dtype));
    memset(array + count * size_of(dtype), GUARD, GUARD_BYTES);
    return array;
}

static void check_guards(const void *array, sac_dtype dtype, size_t count)
{
    const unsigned char *guard = (const unsigned char *)array + count * size_of(dtype);

    for (int i = 0; i < GUARD_BYTES; i++)
        assert_int_equal(guard[i], GUARD);
}

/* |want - got| <= absolute + relative * |want|, and a NaN passes nothing. */
static void check_near(const void *want, const void *got, sac_dtype dtype, size_t count, float absolute,
                       float relative, const char *what)
{
    for (size_t i = 0; i < count; i++) {
        float w = get(want, dtype, i), g = get(got, dtype, i);

        if (!(fabsf(w - g) <= absolute + relative * fabsf(w)))
            fail_msg("%s: element %zu of %zu is %.9g, the twin's %.9g", what, i, count, g, w);
    }
    check_guards(got, dtype, count);
}

/* ---- linear ----------------------------------------------------------------------------------------- */

struct linear_case {
    uint32_t in, out;
    size_t rows;
    sac_activation activation;
    sac_dtype precision, y_dtype;
    bool residual, bias;
};

static void run_linear(sac_device *device, sac_stream *stream, const struct sac_linear_params *p,
                       const void *x, size_t rows, void *y)
{
    const struct sac_ops *ops = sac_device_ops(device);
    struct sac_linear_args args = {.x = x, .rows = rows, .y = y};
    sac_linear *linear;
    sac_error err = {0};

    if (ops->linear_open(device, p, &linear, &err) != SAC_OK)
        fail_msg("linear_open: %s", err.text);
    args.linear = linear;
    assert_int_equal(sac_stream_reserve(stream, ops->linear_scratch(device, &args), &err), SAC_OK);
    assert_int_equal(ops->linear(stream, &args), SAC_OK);
    ops->linear_close(linear);
}

static void check_linear(struct fixture *f, const struct linear_case *c)
{
    size_t columns = c->activation == SAC_ACTIVATION_SWIGLU ? c->out / 2 : c->out;
    size_t count = c->rows * columns;
    void *x = random_array(c->precision, c->rows * c->in, 2.0f);
    float *weight = random_array(SAC_F32, (size_t)c->in * c->out, 1.0f);
    float *bias = random_array(SAC_F32, c->out, 1.0f);
    float *before = random_array(SAC_F32, count, 1.0f);
    struct sac_linear_params params = {c->in,        c->out,     weight,        c->bias ? bias : NULL,
                                       c->precision, c->y_dtype, c->activation, c->residual};
    void *want = poisoned(c->y_dtype, count);
    float sum = (float)c->in; /* of |x||w|: half of 2 * 1 * in at most on average */
    float tolerance = c->activation == SAC_ACTIVATION_SWIGLU ? 1e-5f * sum * 8 : 1e-5f * sum;

    if (c->residual)
        memcpy(want, before, count * sizeof(float));
    run_linear(f->ref, f->ref_stream, &params, x, c->rows, want);
    for (size_t i = 0; i < ISA_COUNT; i++) {
        void *got = poisoned(c->y_dtype, count);
        char what[128];

        snprintf(what, sizeof what, "linear %s %ux%u rows %zu activation %d precision %d y %d", isas[i],
                 c->in, c->out, c->rows, c->activation, c->precision, c->y_dtype);
        if (c->residual)
            memcpy(got, before, count * sizeof(float));
        run_linear(f->variants[i], f->streams[i], &params, x, c->rows, got);
        check_near(want, got, c->y_dtype, count, tolerance + (c->y_dtype == SAC_F32 ? 2e-6f : 2e-4f),
                   c->y_dtype == SAC_F32 ? 2e-6f : 0x1p-7f, what);
        free(got);
    }
    free(x);
    free(weight);
    free(bias);
    free(before);
    free(want);
}

static void test_linear_sizes(void **state)
{
    static const struct {
        uint32_t in, out;
        size_t rows;
    } sizes[] = {{1, 1, 1},    {3, 2, 2},    {16, 16, 16},    {17, 15, 17},  {147, 32, 63},   {64, 33, 64},
                 {64, 64, 65}, {96, 300, 5}, {192, 576, 197}, {31, 513, 49}, {128, 256, 256}, {33, 48, 130}};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int bf16 = 0; bf16 < 2; bf16++)
            for (int mode = 0; mode < 3; mode++) /* plain f32, residual, the precision's own type */
                check_linear(*state, &(struct linear_case){.in = sizes[i].in,
                                                           .out = sizes[i].out,
                                                           .rows = sizes[i].rows,
                                                           .precision = bf16 ? SAC_BF16 : SAC_F32,
                                                           .y_dtype = mode == 2 && bf16 ? SAC_BF16 : SAC_F32,
                                                           .residual = mode == 1,
                                                           .bias = mode != 0});
}

static void test_linear_activations(void **state)
{
    for (int activation = SAC_ACTIVATION_NONE; activation <= SAC_ACTIVATION_SWIGLU; activation++)
        for (int bf16 = 0; bf16 < 2; bf16++)
            for (uint32_t out = 22; out < 700; out *= 5)
                check_linear(*state, &(struct linear_case){.in = 24,
                                                           .out = out,
                                                           .rows = 37,
                                                           .activation = (sac_activation)activation,
                                                           .precision = bf16 ? SAC_BF16 : SAC_F32,
                                                           .y_dtype = bf16 ? SAC_BF16 : SAC_F32,
                                                           .bias = true});
}

/* Arguments far outside of what layers give: the activation alone, through an identity. */
static void test_activation_range(void **state)
{
    enum { COUNT = 4001 };
    struct fixture *f = *state;
    float one = 1.0f, *x = malloc(COUNT * sizeof *x);
    float *want = poisoned(SAC_F32, COUNT);

    for (int i = 0; i < COUNT; i++)
        x[i] = (float)(i - COUNT / 2) * (i % 7 == 0 ? 0.1f : 0.004f);
    for (int activation = SAC_ACTIVATION_GELU_ERF; activation <= SAC_ACTIVATION_GELU_QUICK; activation++) {
        struct sac_linear_params params = {
            .in = 1, .out = 1, .weight = &one, .activation = (sac_activation)activation};

        run_linear(f->ref, f->ref_stream, &params, x, COUNT, want);
        for (size_t i = 0; i < ISA_COUNT; i++) {
            float *got = poisoned(SAC_F32, COUNT);

            run_linear(f->variants[i], f->streams[i], &params, x, COUNT, got);
            check_near(want, got, SAC_F32, COUNT, 2e-6f, 2e-6f, isas[i]);
            free(got);
        }
    }
    free(x);
    free(want);
}

/* A row gives the same bits alone, among others, and on one thread. */
static void test_linear_rows_independent(void **state)
{
    enum { IN = 768, OUT = 200, ROWS = 333 };
    struct fixture *f = *state;
    float *weight = random_array(SAC_F32, (size_t)IN * OUT, 1.0f);

    for (int bf16 = 0; bf16 < 2; bf16++) {
        sac_dtype precision = bf16 ? SAC_BF16 : SAC_F32;
        unsigned char *x = random_array(precision, (size_t)IN * ROWS, 1.0f);
        struct sac_linear_params params = {.in = IN,
                                           .out = OUT,
                                           .weight = weight,
                                           .precision = precision,
                                           .activation = SAC_ACTIVATION_GELU_ERF};

        for (size_t i = 0; i < ISA_COUNT; i++) {
            float *together = poisoned(SAC_F32, (size_t)ROWS * OUT), alone[OUT];

            run_linear(f->variants[i], f->streams[i], &params, x, ROWS, together);
            for (size_t row = 0; row < ROWS; row += 83) {
                run_linear(f->variants[i], f->streams[i], &params, x + row * IN * size_of(precision), 1,
                           alone);
                assert_memory_equal(alone, together + row * OUT, sizeof alone);
            }
            free(together);
        }
        free(x);
    }
    free(weight);
}

/* ---- the others ------------------------------------------------------------------------------------- */

static void test_layer_norm(void **state)
{
    static const uint32_t widths[] = {1, 7, 8, 9, 15, 16, 17, 31, 33, 192, 768, 1000};
    struct fixture *f = *state;

    for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            uint32_t width = widths[w], stride = width + 5;
            size_t rows = 41, count = rows * width;
            sac_dtype dtype = bf16 ? SAC_BF16 : SAC_F32;
            float *x = random_array(SAC_F32, (rows - 1) * stride + width, 3.0f);
            float *weight = random_array(SAC_F32, width, 1.0f), *bias = random_array(SAC_F32, width, 1.0f);
            void *want = poisoned(dtype, count);
            struct sac_layer_norm_args args = {x, stride, rows, width, weight, bias, 1e-6f, want, dtype};

            assert_int_equal(sac_device_ops(f->ref)->layer_norm(f->ref_stream, &args), SAC_OK);
            for (size_t i = 0; i < ISA_COUNT; i++) {
                void *got = poisoned(dtype, count);

                args.y = got;
                assert_int_equal(sac_device_ops(f->variants[i])->layer_norm(f->streams[i], &args), SAC_OK);
                check_near(want, got, dtype, count, 2e-5f, bf16 ? 0x1p-7f : 1e-5f, isas[i]);
                free(got);
            }
            free(x);
            free(weight);
            free(bias);
            free(want);
        }
}

static void run_attention(sac_device *device, sac_stream *stream, const struct sac_attention_args *args)
{
    const struct sac_ops *ops = sac_device_ops(device);
    sac_error err;

    assert_int_equal(sac_stream_reserve(stream, ops->attention_scratch(device, args), &err), SAC_OK);
    assert_int_equal(ops->attention(stream, args), SAC_OK);
}

static void check_attention(struct fixture *f, uint32_t tokens, uint32_t heads, uint32_t head_dim,
                            sac_dtype dtype, float range, bool pooling)
{
    size_t n = 2, width = (size_t)heads * head_dim, stride = 3 * width + 3;
    uint32_t q_tokens = pooling ? 1 : tokens;
    size_t count = n * q_tokens * width;
    unsigned char *qkv = random_array(dtype, n * tokens * stride, range);
    void *want = poisoned(dtype, count);
    struct sac_attention_args args = {.q = qkv,
                                      .k = qkv + width * size_of(dtype),
                                      .v = qkv + 2 * width * size_of(dtype),
                                      .q_stride = pooling ? 0 : stride,
                                      .kv_stride = stride,
                                      .n = n,
                                      .q_tokens = q_tokens,
                                      .kv_tokens = tokens,
                                      .heads = heads,
                                      .head_dim = head_dim,
                                      .scale = 1.0f / sqrtf((float)head_dim),
                                      .dtype = dtype,
                                      .y = want};

    run_attention(f->ref, f->ref_stream, &args);
    for (size_t i = 0; i < ISA_COUNT; i++) {
        void *got = poisoned(dtype, count);
        char what[96];

        snprintf(what, sizeof what, "attention %s tokens %u heads %u x %u dtype %d range %g", isas[i], tokens,
                 heads, head_dim, dtype, (double)range);
        args.y = got;
        run_attention(f->variants[i], f->streams[i], &args);
        check_near(want, got, dtype, count, (dtype == SAC_F32 ? 1e-5f : 0x1p-7f) * range, 0.0f, what);
        free(got);
    }
    free(qkv);
    free(want);
}

static void test_attention(void **state)
{
    static const uint32_t tokens[] = {1, 2, 5, 15, 16, 17, 31, 32, 33, 50, 65, 197, 257};
    static const uint32_t dims[] = {1, 8, 16, 24, 64, 72, 80, 128};

    for (size_t t = 0; t < sizeof tokens / sizeof tokens[0]; t++)
        for (size_t d = 0; d < sizeof dims / sizeof dims[0]; d++)
            for (int bf16 = 0; bf16 < 2; bf16++) {
                if (tokens[t] > 60 && dims[d] != 64 && dims[d] != 72)
                    continue;
                check_attention(*state, tokens[t], 1 + tokens[t] % 3, dims[d], bf16 ? SAC_BF16 : SAC_F32,
                                1.0f, d % 2 == 1);
                check_attention(*state, tokens[t], 2, dims[d], bf16 ? SAC_BF16 : SAC_F32, 5.0f, false);
            }
}

static void test_tokens(void **state)
{
    struct fixture *f = *state;

    for (uint32_t prefix_count = 0; prefix_count <= 5; prefix_count += prefix_count == 0 ? 1 : 4) {
        uint32_t width = 33, patch_count = 9, count = (prefix_count + patch_count) * width;
        size_t n = 4;
        float *patches = random_array(SAC_F32, n * patch_count * width, 1.0f);
        float *prefix = random_array(SAC_F32, (size_t)prefix_count * width, 1.0f);
        float *position = random_array(SAC_F32, count, 1.0f), *want = poisoned(SAC_F32, n * count);
        struct sac_tokens_args args = {
            patches, prefix_count > 0 ? prefix : NULL, position, n, prefix_count, patch_count, width, want};

        assert_int_equal(sac_device_ops(f->ref)->tokens(f->ref_stream, &args), SAC_OK);
        for (size_t i = 0; i < ISA_COUNT; i++) {
            float *got = poisoned(SAC_F32, n * count);

            args.out = got;
            assert_int_equal(sac_device_ops(f->variants[i])->tokens(f->streams[i], &args), SAC_OK);
            check_near(want, got, SAC_F32, n * count, 0.0f, 0.0f, isas[i]);
            free(got);
        }
        free(patches);
        free(prefix);
        free(position);
        free(want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear_sizes),     cmocka_unit_test(test_linear_activations),
        cmocka_unit_test(test_activation_range), cmocka_unit_test(test_linear_rows_independent),
        cmocka_unit_test(test_layer_norm),       cmocka_unit_test(test_attention),
        cmocka_unit_test(test_tokens),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
