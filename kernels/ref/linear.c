/* linear.c -- the matrix product as three loops, its sums in f64: this is what other devices are held
 * against. */
#include "kernels/ref/ref.h"
#include "kernels/ref/typed.h"

#include <math.h>
#include <stdlib.h>

struct sac_linear {
    struct sac_linear_params params; /* weight and bias point to the copies below */
    float *weight;                   /* [out][in], rounded to the precision */
    float *bias;                     /* [out], zeros where there is none */
};

sac_dtype sac_linear_precision_ref(const sac_device *d)
{
    (void)d;
    return SAC_F32;
}

sac_status sac_linear_open_ref(sac_device *d, const struct sac_linear_params *p, sac_linear **out,
                               sac_error *err)
{
    size_t count = (size_t)p->in * p->out;
    sac_linear *linear = calloc(1, sizeof *linear);

    (void)d;
    *out = NULL;
    if (linear == NULL)
        goto no_memory;
    linear->params = *p;
    linear->weight = malloc(count * sizeof(float));
    linear->bias = calloc(p->out, sizeof(float));
    if (linear->weight == NULL || linear->bias == NULL)
        goto no_memory;
    for (size_t i = 0; i < count; i++)
        linear->weight[i] =
            p->precision == SAC_BF16 ? sac_bf16_to_f32(sac_f32_to_bf16(p->weight[i])) : p->weight[i];
    for (uint32_t j = 0; p->bias != NULL && j < p->out; j++)
        linear->bias[j] = p->bias[j];
    *out = linear;
    return SAC_OK;
no_memory:
    sac_linear_close_ref(linear);
    return sac_fail(err, SAC_NO_MEMORY, "no memory for a layer of %u times %u weights", p->out, p->in);
}

void sac_linear_close_ref(sac_linear *linear)
{
    if (linear == NULL)
        return;
    free(linear->weight);
    free(linear->bias);
    free(linear);
}

static double product(const sac_linear *l, const void *x, size_t row, uint32_t j)
{
    double sum = l->bias[j];

    for (uint32_t i = 0; i < l->params.in; i++)
        sum += (double)sac_typed_get(x, l->params.precision, row * l->params.in + i) *
               (double)l->weight[(size_t)j * l->params.in + i];
    return sum;
}

static double activate(sac_activation activation, double x)
{
    switch (activation) {
    case SAC_ACTIVATION_GELU_ERF:
        return x / 2 * (1 + erf(x * sqrt(0.5)));
    case SAC_ACTIVATION_GELU_TANH:
        return x / 2 * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case SAC_ACTIVATION_GELU_QUICK:
        return x / (1 + exp(-1.702 * x));
    case SAC_ACTIVATION_SWIGLU: /* of its first half */
        return x / (1 + exp(-x));
    case SAC_ACTIVATION_NONE:
        break;
    }
    return x;
}

sac_status sac_linear_ref(sac_stream *s, const struct sac_linear_args *a)
{
    const struct sac_linear_params *p = &a->linear->params;
    uint32_t columns = p->activation == SAC_ACTIVATION_SWIGLU ? p->out / 2 : p->out;

    (void)s;
    for (size_t r = 0; r < a->rows; r++)
        for (uint32_t j = 0; j < columns; j++) {
            double value = activate(p->activation, product(a->linear, a->x, r, j));

            if (p->activation == SAC_ACTIVATION_SWIGLU)
                value *= product(a->linear, a->x, r, columns + j);
            if (p->residual)
                value += ((float *)a->y)[r * columns + j];
            sac_typed_set(a->y, p->y_dtype, r * columns + j, (float)value);
        }
    return SAC_OK;
}

size_t sac_linear_scratch_ref(const sac_device *d, const struct sac_linear_args *a)
{
    (void)d;
    (void)a;
    return 0;
}
