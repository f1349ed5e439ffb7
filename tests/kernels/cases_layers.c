/* Cases of what lies between the products of a network: layer_norm, tokens, unit_rows. */
#include "tests/kernels/cases.h"

#include "kernels/half.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static void random_fill(struct kernel_data *data, float *to, size_t count, float scale)
{
    for (size_t i = 0; i < count; i++)
        to[i] = kernel_random_float(data) * scale;
}

/* ---- layer_norm: n rows of dim, k floats between them, to dtype ---- */

static const struct kernel_case layer_norm_cases[] = {
    {.n = 0, .dim = 8},
    {.n = 1, .dim = 1},
    {.n = 2, .dim = 3, .dtype = SAC_BF16},
    {.n = 5, .dim = 4},
    {.n = 15, .dim = 28, .dtype = SAC_BF16},
    {.n = 16, .dim = 32},
    {.n = 17, .dim = 36, .k = 4, .dtype = SAC_BF16},
    {.n = 33, .dim = 33},
    {.n = 18, .dim = 192, .dtype = SAC_BF16},
    {.n = 31, .dim = 192, .k = 5 * 192},
    {.n = 5, .dim = 252},
    {.n = 17, .dim = 256, .dtype = SAC_BF16},
    {.n = 3, .dim = 257, .dtype = SAC_BF16},
    {.n = 7, .dim = 260},
    {.n = 4, .dim = 384, .dtype = SAC_BF16},
    {.n = 5, .dim = 512},
    {.n = 3, .dim = 516, .dtype = SAC_BF16},
    {.n = 9, .dim = 768, .k = 768, .dtype = SAC_BF16},
    {.n = 9, .dim = 768, .k = 2},
    {.n = 6, .dim = 1000},
    {.n = 4, .dim = 1024, .dtype = SAC_BF16},
    {.n = 5, .dim = 1028},
    {.n = 3, .dim = 1152, .dtype = SAC_BF16},
    {.n = 2, .dim = 1536},
    {.n = 5, .dim = 2048, .dtype = SAC_BF16},
    {.n = 5, .dim = 2052},
    {.n = 2, .dim = 2052, .dtype = SAC_BF16},
    {.n = 2, .dim = 5000, .k = 3},
    {.n = 2, .dim = 6144},
    {.n = 33, .dim = 192, .flags = CASE_IN_PLACE},
    {.n = 5, .dim = 768, .flags = CASE_IN_PLACE | CASE_NAN},
    {.n = 6, .dim = 2056, .flags = CASE_IN_PLACE},
    {.n = 6, .dim = 77, .flags = CASE_IN_PLACE | CASE_NAN},
    {.n = 23, .dim = 192, .dtype = SAC_BF16, .flags = CASE_NAN},
    {.n = 100864, .dim = 768, .dtype = SAC_BF16, .flags = CASE_BENCH},
    {.n = 12608, .dim = 768, .dtype = SAC_BF16, .flags = CASE_BENCH},
    {.n = 16448, .dim = 1024, .dtype = SAC_BF16, .flags = CASE_BENCH},
    {.n = 12608, .dim = 192, .dtype = SAC_BF16, .flags = CASE_BENCH},
};

/* A residual stream: a few components are much larger than the rest, and the mean is not 0. */
static void stream_fill(struct kernel_data *data, float *x, size_t rows, uint32_t width, size_t stride)
{
    for (size_t i = 0; i < rows; i++) {
        float mean = kernel_random_float(data);

        for (uint32_t w = 0; w < width; w++)
            x[i * stride + w] = kernel_random_float(data) * (w % 97 == 5 ? 100.0f : 3.0f) + mean;
        if (data->c->flags & CASE_NAN && i % 5 == 2)
            x[i * stride + kernel_random(data, width)] = i % 2 == 0 ? NAN : INFINITY;
    }
}

static void layer_norm_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    size_t stride = (size_t)c->dim + c->k, element = c->dtype == SAC_BF16 ? 2 : 4;
    float *weight = kernel_block(data, c->dim, sizeof *weight);
    float *bias = kernel_block(data, c->dim, sizeof *bias), *x;
    void *y = kernel_output(data, (size_t)c->n * c->dim, element);

    random_fill(data, weight, c->dim, 1.0f);
    random_fill(data, bias, c->dim, 1.0f);
    /* It ends with the last row. */
    x = c->flags & CASE_IN_PLACE ? y : kernel_block(data, c->n > 0 ? c->n * stride - c->k : 0, sizeof *x);
    for (size_t i = 0; i + 1 < c->n && c->k > 0; i++) /* what lies between rows is not theirs */
        memset(x + i * stride + c->dim, KERNEL_POISON, c->k * sizeof *x);
    stream_fill(data, x, c->n, c->dim, stride);
    data->args.layer_norm = (struct sac_layer_norm_args){.x = x,
                                                         .x_stride = stride,
                                                         .rows = c->n,
                                                         .width = c->dim,
                                                         .weight = weight,
                                                         .bias = bias,
                                                         .eps = 1e-6f,
                                                         .y = y,
                                                         .y_dtype = c->dtype};
    data->bytes = (4.0 + (double)element) * c->n * c->dim;
    data->flops = 8.0 * c->n * c->dim;
}

KERNEL_RUN(layer_norm)

static const char *layer_norm_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    bool bf16 = data->c->dtype == SAC_BF16;

    for (size_t i = 0; i < (size_t)data->c->n * data->c->dim; i++) {
        float w = bf16 ? sac_bf16_to_f32(((const uint16_t *)want[0])[i]) : ((const float *)want[0])[i];
        float g = bf16 ? sac_bf16_to_f32(((const uint16_t *)got[0])[i]) : ((const float *)got[0])[i];

        if (!kernel_near(w, g, 1.0f, 1e-5f * (1.0f + fabsf(w)) + (bf16 ? 0x1p-7f * fabsf(w) : 0.0f)))
            return "wrong result";
    }
    return NULL;
}

const struct kernel_op layer_norm_op = {"layer_norm",    layer_norm_cases, COUNT(layer_norm_cases),
                                        layer_norm_make, layer_norm_run,   NULL,
                                        layer_norm_check};

/* ---- tokens: n pictures of k patches of dim, after `queries` rows of prefix ---- */

static const struct kernel_case tokens_cases[] = {
    {.n = 0, .dim = 8, .k = 4, .queries = 1},
    {.n = 1, .dim = 1, .k = 1},
    {.n = 1, .dim = 4, .queries = 1},
    {.n = 3, .dim = 7, .k = 5, .queries = 1},
    {.n = 4, .dim = 8, .k = 9, .queries = 5},
    {.n = 5, .dim = 33, .k = 49},
    {.n = 8, .dim = 192, .k = 49, .queries = 1},
    {.n = 9, .dim = 255, .k = 3, .queries = 1},
    {.n = 3, .dim = 256, .k = 3, .queries = 1},
    {.n = 2, .dim = 260, .k = 3, .queries = 1},
    {.n = 13, .dim = 16, .k = 16, .queries = 4},
    {.n = 6, .dim = 12, .k = 7, .queries = 2, .flags = CASE_NAN},
    {.n = 512, .dim = 768, .k = 196, .queries = 1, .flags = CASE_BENCH},
};

static void tokens_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    size_t tokens = (size_t)c->queries + c->k;
    struct sac_tokens_args *a = &data->args.tokens;

    *a =
        (struct sac_tokens_args){.n = c->n, .prefix_count = c->queries, .patch_count = c->k, .width = c->dim};
    a->patches = kernel_random_rows(data, (size_t)c->n * c->k, c->dim);
    a->prefix = c->queries > 0 ? kernel_random_rows(data, c->queries, c->dim) : NULL;
    a->position = kernel_random_rows(data, tokens, c->dim);
    a->out = kernel_output(data, c->n * tokens * c->dim, sizeof(float));
    data->bytes = 8.0 * c->n * (double)tokens * c->dim;
    data->flops = 1.0 * c->n * (double)tokens * c->dim;
}

KERNEL_RUN(tokens)

static const char *tokens_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const float *sums = want[0], *got_sums = got[0];

    for (size_t i = 0; i < data->out_bytes[0] / sizeof(float); i++)
        if (!kernel_near(sums[i], got_sums[i], 0.0f, 0.0f))
            return "wrong sum";
    return NULL;
}

const struct kernel_op tokens_op = {"tokens",   tokens_cases, COUNT(tokens_cases), tokens_make,
                                    tokens_run, NULL,         tokens_check};

/* ---- unit_rows: n rows of dim ---- */

static const struct kernel_case unit_rows_cases[] = {
    {.n = 0, .dim = 8},
    {.n = 1, .dim = 1},
    {.n = 3, .dim = 7},
    {.n = 4, .dim = 8},
    {.n = 5, .dim = 31},
    {.n = 31, .dim = 127},
    {.n = 9, .dim = 128},
    {.n = 7, .dim = 129},
    {.n = 5, .dim = 132},
    {.n = 64, .dim = 768},
    {.n = 80, .dim = 512, .flags = CASE_NAN},
    {.n = 40, .dim = 1, .flags = CASE_EXTREMES},
    {.n = 40, .dim = 3, .flags = CASE_EXTREMES},
    {.n = 41, .dim = 4, .flags = CASE_EXTREMES},
    {.n = 80, .dim = 77, .flags = CASE_EXTREMES},
    {.n = 80, .dim = 1024, .flags = CASE_EXTREMES},
    {.n = 512, .dim = 768, .flags = CASE_BENCH},
};

static void extremes_fill(struct kernel_data *data, float *row, uint32_t width, size_t i)
{
    static const float scales[] = {0.0f, -0.0f, 1.0f, 1e30f, FLT_MAX, 1e-30f, FLT_MIN, 1e-40f};
    uint32_t at = kernel_random(data, width);

    for (uint32_t w = 0; w < width; w++)
        row[w] = scales[i % COUNT(scales)] * kernel_random_float(data);
    if (i % 16 == 2)
        row[at] = INFINITY;
    else if (i % 16 == 10)
        row[at] = -INFINITY;
    else if (i % 16 == 11)
        row[at] = NAN;
    else if (i % 16 == 15)
        row[at] = FLT_TRUE_MIN;
}

static void unit_rows_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    struct sac_unit_rows_args *a = &data->args.unit_rows;
    const float *rows = kernel_random_rows(data, c->n, c->dim);

    *a = (struct sac_unit_rows_args){.rows = c->n, .width = c->dim};
    a->x = kernel_output(data, (size_t)c->n * c->dim, sizeof(float));
    a->spoiled = kernel_output(data, 1, sizeof(uint32_t));
    memcpy(a->x, rows, (size_t)c->n * c->dim * sizeof(float));
    for (size_t i = 0; c->flags & CASE_EXTREMES && i < c->n; i++)
        extremes_fill(data, a->x + i * c->dim, c->dim, i);
    data->bytes = 8.0 * c->n * c->dim;
    data->flops = 4.0 * c->n * c->dim;
}

KERNEL_RUN(unit_rows)

/* The inputs are still in the arguments. */
static const char *unit_row_check(const float *x, const float *want, const float *got, uint32_t width,
                                  uint32_t *spoiled)
{
    double sum = kernel_dot(x, x, width), length = 0.0;

    if (!(sum > 0.0 && isfinite(sum))) {
        ++*spoiled;
        return memcmp(x, got, width * sizeof *x) == 0 ? NULL : "a row without a length has changed";
    }
    for (uint32_t w = 0; w < width; w++)
        if (!kernel_near(want[w], got[w], 1.0f, 1e-6f * fabsf(want[w]) + FLT_TRUE_MIN))
            return "wrong component";
    length = sqrt(kernel_dot(got, got, width));
    return fabs(length - 1.0) <= 1e-6 ? NULL : "the length is not 1";
}

static const char *unit_rows_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const struct sac_unit_rows_args *a = &data->args.unit_rows;
    uint32_t spoiled = 0;

    for (size_t i = 0; i < a->rows; i++) {
        size_t at = i * a->width;
        const char *wrong = unit_row_check(a->x + at, (const float *)want[0] + at, (const float *)got[0] + at,
                                           a->width, &spoiled);

        if (wrong != NULL)
            return wrong;
    }
    return *(const uint32_t *)got[1] == spoiled ? NULL : "wrong count of rows without a length";
}

const struct kernel_op unit_rows_op = {"unit_rows",    unit_rows_cases, COUNT(unit_rows_cases),
                                       unit_rows_make, unit_rows_run,   NULL,
                                       unit_rows_check};
