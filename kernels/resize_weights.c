#include "kernels/resize_weights.h"
#include "kernels/backend.h"

#include <string.h>

sac_resize_axis sac_resize_axis_x(const struct sac_resize_args *a)
{
    return (sac_resize_axis){a->from_width, a->box[0],       a->box[2], a->full_width,
                             a->window_x,   a->window_width, a->filter};
}

sac_resize_axis sac_resize_axis_y(const struct sac_resize_args *a)
{
    return (sac_resize_axis){a->from_height, a->box[1],        a->box[3], a->full_height,
                             a->window_y,    a->window_height, a->filter};
}

uint32_t sac_resize_taps_max(const sac_resize_axis *axis)
{
    double taps = 2.0 * ceil(sac_resize_curve_of(axis).support) + 1.0;

    return taps < axis->size ? (uint32_t)taps : axis->size;
}

void sac_resize_weights(const sac_resize_axis *axis, uint32_t taps_max, uint32_t *starts, uint32_t *taps,
                        int32_t *weights, double *work)
{
    sac_resize_curve curve = sac_resize_curve_of(axis);

    memset(weights, 0, (size_t)axis->count * taps_max * sizeof *weights);
    for (uint32_t i = 0; i < axis->count; i++) {
        sac_resize_taps of = sac_resize_taps_of(axis, &curve, i);
        double sum = 0.0;

        starts[i] = of.start;
        taps[i] = of.count;
        for (uint32_t t = 0; t < of.count; t++) {
            work[t] = sac_resize_value(&curve, &of, t);
            sum += work[t];
        }
        for (uint32_t t = 0; t < of.count; t++)
            weights[(size_t)i * taps_max + t] = sac_resize_weight(work[t], sum);
    }
}

size_t sac_resize_plan_scratch(const sac_resize_axis *axis)
{
    size_t taps_max = sac_resize_taps_max(axis);
    size_t bytes = 2 * sac_scratch_size(axis->count, sizeof(uint32_t));

    bytes = sac_scratch_add(bytes, sac_scratch_size(axis->count * taps_max, sizeof(int32_t)));
    return sac_scratch_add(bytes, sac_scratch_size(taps_max, sizeof(double)));
}

sac_status sac_resize_plan_make(sac_stream *s, const sac_resize_axis *axis, sac_resize_plan *out)
{
    double *work;

    out->taps_max = sac_resize_taps_max(axis);
    out->starts = sac_scratch_take(s, axis->count, sizeof *out->starts);
    out->taps = sac_scratch_take(s, axis->count, sizeof *out->taps);
    out->weights = sac_scratch_take(s, (size_t)axis->count * out->taps_max, sizeof *out->weights);
    work = sac_scratch_take(s, out->taps_max, sizeof *work);
    if (out->starts == NULL || out->taps == NULL || out->weights == NULL || work == NULL)
        return SAC_NO_MEMORY;
    sac_resize_weights(axis, out->taps_max, out->starts, out->taps, out->weights, work);
    return SAC_OK;
}

size_t sac_resize_span_max(const sac_resize_axis *axis)
{
    sac_resize_curve curve = sac_resize_curve_of(axis);
    double span = ceil(axis->count * curve.scale + 2.0 * curve.support) + 2.0;

    return span < axis->size ? (size_t)span : axis->size;
}

void sac_resize_plan_span(const sac_resize_plan *plan, uint32_t count, uint32_t *first, uint32_t *end)
{
    *first = plan->starts[0];
    *end = plan->starts[count - 1] + plan->taps[count - 1];
}

struct sac_resize_args sac_placed_resize(const struct sac_placed_picture *p, sac_filter filter, uint8_t *to,
                                         size_t to_stride)
{
    return (struct sac_resize_args){.from = p->pixels,
                                    .from_width = p->width,
                                    .from_height = p->height,
                                    .from_stride = p->stride,
                                    .box = {0, 0, p->width, p->height},
                                    .full_width = p->full_width,
                                    .full_height = p->full_height,
                                    .window_x = p->window_x,
                                    .window_y = p->window_y,
                                    .window_width = p->window_width,
                                    .window_height = p->window_height,
                                    .to = to,
                                    .to_stride = to_stride,
                                    .filter = filter};
}
