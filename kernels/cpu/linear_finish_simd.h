/* linear_finish_simd.h -- bias, activation, residual and conversion of a tile, for linear_finish_<isa>.c.
 * What is done to a tile is constant where finish_tile() is inlined, so the loops hold no decisions. */
#include "kernels/cpu/linear.h"
#include "kernels/cpu/simd_math.h"

static inline vf activate(sac_activation activation, sac_dtype y_dtype, vf x)
{
    bool rough = y_dtype == SAC_BF16;

    switch (activation) {
    case SAC_ACTIVATION_GELU_ERF:
        return rough ? vf_gelu_erf_rough(x) : vf_gelu_erf(x);
    case SAC_ACTIVATION_GELU_TANH:
        return rough ? vf_gelu_tanh_rough(x) : vf_gelu_tanh(x);
    case SAC_ACTIVATION_GELU_QUICK:
        return rough ? vf_silu_rough(x, 1.702f) : vf_silu(x, 1.702f);
    case SAC_ACTIVATION_SWIGLU:
        return rough ? vf_silu_rough(x, 1.0f) : vf_silu(x, 1.0f);
    case SAC_ACTIVATION_NONE:
        break;
    }
    return x;
}

/* One register of results. */
static inline __attribute__((always_inline)) void finish_lanes(const float *sums, const float *bias,
                                                               uint32_t gate, sac_activation activation,
                                                               bool residual, sac_dtype y_dtype, void *y,
                                                               vf_part part)
{
    vf x = activate(activation, y_dtype, vf_add(vf_load_part(sums, part), vf_load_part(bias, part)));

    if (activation == SAC_ACTIVATION_SWIGLU)
        x = vf_mul(x, vf_add(vf_load_part(sums + gate, part), vf_load_part(bias + gate, part)));
    if (residual)
        x = vf_add(x, vf_load_part(y, part));
    if (y_dtype == SAC_F32)
        vf_store_part(y, x, part);
    else
        vf_store_part_bf16(y, x, part);
}

static inline __attribute__((always_inline)) void finish_tile(const struct sac_linear_finish_args *a,
                                                              sac_activation activation, bool residual,
                                                              sac_dtype y_dtype)
{
    const vf_part all = vf_first(VF_LANES), last = vf_first(a->columns % VF_LANES);
    const uint32_t rows = a->rows, columns = a->columns, gate = a->gate,
                   whole = columns / VF_LANES * VF_LANES;
    const size_t element = y_dtype == SAC_F32 ? 4 : 2;

    for (uint32_t r = 0; r < rows; r++) {
        const float *sums = a->sums + r * a->sums_stride, *bias = a->bias;
        unsigned char *y = (unsigned char *)a->y + r * a->y_stride * element;

        for (uint32_t j = 0; j < whole; j += VF_LANES)
            finish_lanes(sums + j, bias + j, gate, activation, residual, y_dtype, y + j * element, all);
        if (whole < columns)
            finish_lanes(sums + whole, bias + whole, gate, activation, residual, y_dtype, y + whole * element,
                         last);
    }
}

static inline __attribute__((always_inline)) void finish_typed(const struct sac_linear_finish_args *a,
                                                               sac_activation activation)
{
    if (a->y_dtype == SAC_F32)
        finish_tile(a, activation, false, SAC_F32);
    else
        finish_tile(a, activation, false, SAC_BF16);
}

void VF_NAME(sac_linear_finish)(const struct sac_linear_finish_args *a)
{
    switch (a->activation) {
    case SAC_ACTIVATION_NONE:
        if (a->residual)
            finish_tile(a, SAC_ACTIVATION_NONE, true, SAC_F32);
        else
            finish_typed(a, SAC_ACTIVATION_NONE);
        return;
    case SAC_ACTIVATION_GELU_ERF:
        finish_typed(a, SAC_ACTIVATION_GELU_ERF);
        return;
    case SAC_ACTIVATION_GELU_TANH:
        finish_typed(a, SAC_ACTIVATION_GELU_TANH);
        return;
    case SAC_ACTIVATION_GELU_QUICK:
        finish_typed(a, SAC_ACTIVATION_GELU_QUICK);
        return;
    case SAC_ACTIVATION_SWIGLU:
        finish_typed(a, SAC_ACTIVATION_SWIGLU);
        return;
    }
}
