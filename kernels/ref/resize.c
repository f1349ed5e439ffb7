#include "kernels/ref/ref.h"
#include "kernels/resize_weights.h"

#include <assert.h>

/* One sample: taps source samples that are `step` bytes apart. */
static uint8_t sample(const uint8_t *from, size_t step, const int32_t *weights, uint32_t taps)
{
    int32_t sum = SAC_RESIZE_HALF;

    for (uint32_t t = 0; t < taps; t++)
        sum += from[t * step] * weights[t];
    return sac_resize_byte(sum);
}

size_t sac_resize_scratch_ref(const sac_device *d, const struct sac_resize_args *a)
{
    sac_resize_axis x = sac_resize_axis_x(a), y = sac_resize_axis_y(a);
    size_t bytes = sac_scratch_add(sac_resize_plan_scratch(&x), sac_resize_plan_scratch(&y));

    (void)d;
    return sac_scratch_add(bytes, sac_scratch_size(sac_resize_span_max(&y) * a->window_width, 3));
}

sac_status sac_resize_ref(sac_stream *s, const struct sac_resize_args *a)
{
    sac_resize_axis x = sac_resize_axis_x(a), y = sac_resize_axis_y(a);
    size_t stride = (size_t)a->window_width * 3;
    sac_resize_plan across, down;
    uint32_t first, end;
    uint8_t *narrow; /* the rows needed, at the final width */

    assert(a->box[0] >= 0 && a->box[0] < a->box[2] && a->box[2] <= a->from_width);
    assert(a->box[1] >= 0 && a->box[1] < a->box[3] && a->box[3] <= a->from_height);
    assert((uint64_t)a->window_x + a->window_width <= a->full_width);
    assert((uint64_t)a->window_y + a->window_height <= a->full_height);
    if (a->window_width == 0 || a->window_height == 0)
        return SAC_OK;
    sac_scratch_reset(s);
    if (sac_resize_plan_make(s, &x, &across) != SAC_OK || sac_resize_plan_make(s, &y, &down) != SAC_OK)
        return SAC_NO_MEMORY;
    sac_resize_plan_span(&down, y.count, &first, &end);
    narrow = sac_scratch_take(s, (size_t)(end - first) * a->window_width, 3);
    if (narrow == NULL)
        return SAC_NO_MEMORY;

    for (uint32_t r = first; r < end; r++)
        for (uint32_t i = 0; i < x.count; i++)
            for (uint32_t c = 0; c < 3; c++)
                narrow[(r - first) * stride + 3 * i + c] =
                    sample(a->from + r * a->from_stride + 3 * (size_t)across.starts[i] + c, 3,
                           across.weights + (size_t)i * across.taps_max, across.taps[i]);
    for (uint32_t i = 0; i < y.count; i++)
        for (uint32_t b = 0; b < stride; b++)
            a->to[i * a->to_stride + b] = sample(narrow + (down.starts[i] - first) * stride + b, stride,
                                                 down.weights + (size_t)i * down.taps_max, down.taps[i]);
    return SAC_OK;
}
