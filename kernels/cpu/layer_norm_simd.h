/* layer_norm_simd.h -- layer normalisation, for layer_norm_<isa>.c. Twin: ref/layer_norm.c. Rows are small
 * enough to stay in the first-level cache between the three passes, so memory is read once. */
#include "kernels/cpu/cpu.h"

#include <math.h>

static inline vf load_lanes(const float *x, uint32_t w, uint32_t width)
{
    return width - w >= VF_LANES ? vf_load(x + w) : vf_load_part(x + w, vf_first(width - w));
}

static inline vf deviation(vf x, vf mean, uint32_t w, uint32_t width)
{
    float lanes[VF_LANES];

    x = vf_sub(x, mean);
    if (width - w >= VF_LANES)
        return x;
    vf_store(lanes, x); /* lanes beyond the row must not count */
    return vf_load_part(lanes, vf_first(width - w));
}

static void normalise(const struct sac_layer_norm_args *a, size_t row)
{
    const float *x = a->x + row * a->x_stride;
    vf sum = vf_set(0.0f), squares = vf_set(0.0f), mean, scale;

    for (uint32_t w = 0; w < a->width; w += VF_LANES)
        sum = vf_add(sum, load_lanes(x, w, a->width));
    mean = vf_set(vf_sum(sum) / (float)a->width);
    for (uint32_t w = 0; w < a->width; w += VF_LANES) {
        vf d = deviation(load_lanes(x, w, a->width), mean, w, a->width);

        squares = vf_fma(d, d, squares);
    }
    scale = vf_set(1.0f / sqrtf(vf_sum(squares) / (float)a->width + a->eps));
    for (uint32_t w = 0; w < a->width; w += VF_LANES) {
        vf_part part = vf_first(a->width - w < VF_LANES ? a->width - w : VF_LANES);
        vf y = vf_mul(vf_sub(vf_load_part(x + w, part), mean), scale);

        y = vf_fma(y, vf_load_part(a->weight + w, part), vf_load_part(a->bias + w, part));
        if (a->y_dtype == SAC_F32)
            vf_store_part((float *)a->y + row * a->width + w, y, part);
        else
            vf_store_part_bf16((uint16_t *)a->y + row * a->width + w, y, part);
    }
}

enum { TASK_ELEMENTS = 32768 };

struct run {
    const struct sac_layer_norm_args *args;
    size_t task_rows;
};

static void task_run(void *context, uint32_t task, uint32_t worker)
{
    const struct run *run = context;
    size_t row = task * run->task_rows, end = row + run->task_rows;

    (void)worker;
    for (end = end < run->args->rows ? end : run->args->rows; row < end; row++)
        normalise(run->args, row);
}

sac_status VF_NAME(sac_layer_norm)(sac_stream *s, const struct sac_layer_norm_args *a)
{
    struct run run = {a, TASK_ELEMENTS / a->width + 1};

    sac_parallel_for(s, (uint32_t)((a->rows + run.task_rows - 1) / run.task_rows), task_run, &run);
    return SAC_OK;
}
