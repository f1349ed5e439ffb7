/* Cases of layers: what rotates vectors, and networks on a device that does them. transformer.c goes deeper
 * on the CPU. */
#include "tests/kernels/cases.h"

#include "kernels/backend.h"
#include "kernels/half.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- linear: n rows of dim in the case's precision, k columns out ---- */

/* In every precision, to every type. */
#define TYPES(...)                                                                       \
    {__VA_ARGS__}, {__VA_ARGS__, .dtype = SAC_BF16}, {__VA_ARGS__, .y_dtype = SAC_BF16}, \
    {                                                                                    \
        __VA_ARGS__, .dtype = SAC_BF16, .y_dtype = SAC_BF16                              \
    }
#define ACTIVATIONS(...)                                                           \
    TYPES(__VA_ARGS__), TYPES(__VA_ARGS__, .activation = SAC_ACTIVATION_GELU_ERF), \
        TYPES(__VA_ARGS__, .activation = SAC_ACTIVATION_GELU_TANH),                \
        TYPES(__VA_ARGS__, .activation = SAC_ACTIVATION_GELU_QUICK),               \
        TYPES(__VA_ARGS__, .activation = SAC_ACTIVATION_SWIGLU)
#define RESIDUALS(...)                                                                         \
    {__VA_ARGS__, .flags = CASE_RESIDUAL}, {__VA_ARGS__, .flags = CASE_NORMS | CASE_RESIDUAL}, \
        {__VA_ARGS__, .dtype = SAC_BF16, .flags = CASE_RESIDUAL},                              \
    {                                                                                          \
        __VA_ARGS__, .dtype = SAC_BF16, .flags = CASE_NORMS | CASE_RESIDUAL                    \
    }

static const struct kernel_case linear_cases[] = {
    {.n = 0, .dim = 3, .k = 2},
    {.n = 0, .dim = 3, .k = 2, .activation = SAC_ACTIVATION_SWIGLU, .y_dtype = SAC_BF16},
    TYPES(.n = 1, .dim = 1, .k = 1),
    TYPES(.n = 1, .dim = 768, .k = 96, .flags = CASE_NORMS),
    ACTIVATIONS(.n = 40, .dim = 24, .k = 64, .flags = CASE_NORMS), /* 16 bytes at a time */
    ACTIVATIONS(.n = 37, .dim = 24, .k = 50),                      /* and not */
    ACTIVATIONS(.n = 19, .dim = 33, .k = 18, .flags = CASE_NORMS), /* nothing that tensor cores like */
    RESIDUALS(.n = 70, .dim = 32, .k = 64),
    RESIDUALS(.n = 70, .dim = 33, .k = 35),
    TYPES(.n = 3, .dim = 17, .k = 15),
    {.n = 17, .dim = 96, .k = 96},
    {.n = 130, .dim = 128, .k = 128},
    {.n = 65, .dim = 100, .k = 104},
    {.n = 65, .dim = 64, .k = 96, .dtype = SAC_BF16, .y_dtype = SAC_BF16, .flags = CASE_NORMS},
    /* More rows than a GPU finishes at a time. */
    {.n = 1100, .dim = 2, .k = 4096, .activation = SAC_ACTIVATION_SWIGLU, .flags = CASE_NORMS},
    {.n = 1100, .dim = 2, .k = 4096, .y_dtype = SAC_BF16, .flags = CASE_NORMS},
    {.n = 1000, .dim = 768, .k = 768, .flags = CASE_BENCH},
    {.n = 1000, .dim = 768, .k = 768, .dtype = SAC_BF16, .flags = CASE_BENCH | CASE_NORMS | CASE_RESIDUAL},
    {.n = 1000,
     .dim = 768,
     .k = 3072,
     .dtype = SAC_BF16,
     .y_dtype = SAC_BF16,
     .activation = SAC_ACTIVATION_GELU_ERF,
     .flags = CASE_BENCH | CASE_NORMS},
    {.n = 1000,
     .dim = 768,
     .k = 3072,
     .dtype = SAC_BF16,
     .y_dtype = SAC_BF16,
     .activation = SAC_ACTIVATION_GELU_QUICK,
     .flags = CASE_BENCH | CASE_NORMS},
};

/* CASE_NORMS gives it a bias. */
static void linear_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    struct sac_linear_params *p = &data->linear;
    uint32_t columns = c->activation == SAC_ACTIVATION_SWIGLU ? c->k / 2 : c->k;
    float *x = kernel_random_rows(data, c->n, c->dim), *y;
    uint16_t *halves = kernel_block(data, (size_t)c->n * c->dim, sizeof *halves);

    p->in = c->dim;
    p->out = c->k;
    p->weight = kernel_random_rows(data, c->k, c->dim);
    p->bias = c->flags & CASE_NORMS ? kernel_random_rows(data, 1, c->k) : NULL;
    p->precision = c->dtype;
    p->residual = (c->flags & CASE_RESIDUAL) != 0;
    p->y_dtype = c->y_dtype;
    p->activation = c->activation;
    for (size_t i = 0; i < (size_t)c->n * c->dim; i++)
        halves[i] = sac_f32_to_bf16(x[i]);
    y = kernel_output(data, (size_t)c->n * columns, p->y_dtype == SAC_BF16 ? 2 : 4);
    for (size_t i = 0; p->residual && i < (size_t)c->n * columns; i++)
        y[i] = kernel_random_float(data);
    data->args.linear =
        (struct sac_linear_args){.x = c->dtype == SAC_BF16 ? (const void *)halves : x, .rows = c->n, .y = y};
    data->bytes = 4.0 * c->k * c->dim;
    data->flops = 2.0 * c->n * c->k * c->dim;
}

/* Makes the layer, whose scratch is known only then, and for any number of rows. */
static sac_status linear_run(sac_stream *stream, const struct kernel_data *data,
                             const union kernel_args *args)
{
    sac_device *device = sac_stream_device(stream);
    const struct sac_ops *ops = sac_device_ops(device);
    struct sac_linear_args a = args->linear;
    sac_linear *linear;
    sac_status st;

    if (ops->linear == NULL)
        return SAC_UNSUPPORTED;
    st = ops->linear_open(device, &data->linear, &linear, NULL);
    if (st != SAC_OK)
        return st;
    a.linear = linear;
    st = sac_stream_reserve(
        stream, ops->linear_scratch(device, &(struct sac_linear_args){.linear = linear, .rows = 1}), NULL);
    if (st == SAC_OK)
        st = ops->linear(stream, &a);
    if (st == SAC_OK)
        st = sac_stream_wait(stream);
    ops->linear_close(linear);
    return st;
}

static const char *linear_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const struct sac_linear_params *p = &data->linear;
    bool bf16 = p->y_dtype == SAC_BF16, gated = p->activation == SAC_ACTIVATION_SWIGLU;
    size_t count = data->out_bytes[0] / (bf16 ? 2 : 4), columns = gated ? p->out / 2 : p->out;
    /* of |x||w|: a quarter of dim on average; two of them multiplied where it is gated */
    float sum = (float)data->c->dim * (gated ? 8.0f : 1.0f);

    for (size_t i = 0; i < count; i++) {
        float w = bf16 ? sac_bf16_to_f32(((const uint16_t *)want[0])[i]) : ((const float *)want[0])[i];
        float g = bf16 ? sac_bf16_to_f32(((const uint16_t *)got[0])[i]) : ((const float *)got[0])[i];
        float size = w < 0.0f ? -w : w, bias = p->bias != NULL ? p->bias[i % columns] : 0.0f;
        float rounding = bf16 ? 0x1p-7f * size + 0x1p-8f * (bias < 0.0f ? -bias : bias) : 0.0f;

        if (!kernel_near(w, g, 1.0f, 1e-5f * sum + rounding + (bf16 ? 5e-4f : 2e-6f) * (1.0f + size)))
            return "wrong result";
    }
    return NULL;
}

const struct kernel_op linear_op = {"linear",   linear_cases, COUNT(linear_cases), linear_make,
                                    linear_run, NULL,         linear_check};
