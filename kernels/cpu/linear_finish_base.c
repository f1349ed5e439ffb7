/* linear_finish_base.c -- for CPUs without AVX2. */
#include "kernels/cpu/linear.h"

#include "kernels/half.h"

#include <math.h>

static float activate(sac_activation activation, float x)
{
    switch (activation) {
    case SAC_ACTIVATION_GELU_ERF:
        return x * 0.5f * (1.0f + erff(x * 0.70710678f));
    case SAC_ACTIVATION_GELU_TANH:
        return x / (1.0f + expf(-1.59576912f * x * (1.0f + 0.044715f * x * x)));
    case SAC_ACTIVATION_GELU_QUICK:
        return x / (1.0f + expf(-1.702f * x));
    case SAC_ACTIVATION_SWIGLU:
        return x / (1.0f + expf(-x));
    case SAC_ACTIVATION_NONE:
        break;
    }
    return x;
}

void sac_linear_finish_base(const struct sac_linear_finish_args *a)
{
    for (uint32_t r = 0; r < a->rows; r++)
        for (uint32_t j = 0; j < a->columns; j++) {
            const float *sums = a->sums + r * a->sums_stride + j;
            size_t to = r * a->y_stride + j;
            float x = activate(a->activation, sums[0] + a->bias[j]);

            if (a->activation == SAC_ACTIVATION_SWIGLU)
                x *= sums[a->gate] + a->bias[a->gate + j];
            if (a->y_dtype == SAC_F32)
                ((float *)a->y)[to] = a->residual ? ((float *)a->y)[to] + x : x;
            else
                ((uint16_t *)a->y)[to] = sac_f32_to_bf16(x);
        }
}
