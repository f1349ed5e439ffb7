/* linear_finish_simd.h -- bias, activation, residual and conversion of a tile, for linear_finish_<isa>.c. */
#include "kernels/cpu/linear.h"
#include "kernels/cpu/simd_math.h"

static inline vf activate(sac_activation activation, vf x)
{
    switch (activation) {
    case SAC_ACTIVATION_GELU_ERF:
        return vf_gelu_erf(x);
    case SAC_ACTIVATION_GELU_TANH:
        return vf_gelu_tanh(x);
    case SAC_ACTIVATION_GELU_QUICK:
        return vf_silu(x, 1.702f);
    case SAC_ACTIVATION_SWIGLU:
        return vf_silu(x, 1.0f);
    case SAC_ACTIVATION_NONE:
        break;
    }
    return x;
}

/* One register of results; the activation is a constant where this is inlined. */
static inline void finish_lanes(const struct sac_linear_finish_args *a, sac_activation activation, uint32_t r,
                                uint32_t j, vf_part part)
{
    const float *sums = a->sums + r * a->sums_stride + j;
    float *y32 = (float *)a->y + r * a->y_stride + j;
    uint16_t *y16 = (uint16_t *)a->y + r * a->y_stride + j;
    vf x = activate(activation, vf_add(vf_load_part(sums, part), vf_load_part(a->bias + j, part)));

    if (activation == SAC_ACTIVATION_SWIGLU)
        x = vf_mul(x, vf_add(vf_load_part(sums + a->gate, part), vf_load_part(a->bias + a->gate + j, part)));
    if (a->residual)
        x = vf_add(x, vf_load_part(y32, part));
    if (a->y_dtype == SAC_F32)
        vf_store_part(y32, x, part);
    else
        vf_store_part_bf16(y16, x, part);
}

static inline void finish_rows(const struct sac_linear_finish_args *a, sac_activation activation)
{
    const vf_part all = vf_first(VF_LANES);
    uint32_t whole = a->columns / VF_LANES * VF_LANES;

    for (uint32_t r = 0; r < a->rows; r++) {
        for (uint32_t j = 0; j < whole; j += VF_LANES)
            finish_lanes(a, activation, r, j, all);
        if (whole < a->columns)
            finish_lanes(a, activation, r, whole, vf_first(a->columns - whole));
    }
}

void VF_NAME(sac_linear_finish)(const struct sac_linear_finish_args *a)
{
    switch (a->activation) {
    case SAC_ACTIVATION_NONE:
        finish_rows(a, SAC_ACTIVATION_NONE);
        return;
    case SAC_ACTIVATION_GELU_ERF:
        finish_rows(a, SAC_ACTIVATION_GELU_ERF);
        return;
    case SAC_ACTIVATION_GELU_TANH:
        finish_rows(a, SAC_ACTIVATION_GELU_TANH);
        return;
    case SAC_ACTIVATION_GELU_QUICK:
        finish_rows(a, SAC_ACTIVATION_GELU_QUICK);
        return;
    case SAC_ACTIVATION_SWIGLU:
        finish_rows(a, SAC_ACTIVATION_SWIGLU);
        return;
    }
}
