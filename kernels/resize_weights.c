#include "kernels/resize_weights.h"
#include "kernels/backend.h"

#include <math.h>
#include <string.h>

/* Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -1/2. */
static double bicubic(double x)
{
    const double a = -0.5;

    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0)
        return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double axis_scale(const sac_resize_axis *axis)
{
    return (axis->to - axis->from) / axis->full;
}

/* Half the filter's width in source pixels. */
static double axis_support(const sac_resize_axis *axis)
{
    return (axis->filter == SAC_FILTER_BICUBIC ? 2.0 : 1.0) * fmax(axis_scale(axis), 1.0);
}

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
    double taps = 2.0 * ceil(axis_support(axis)) + 1.0;

    return taps < axis->size ? (uint32_t)taps : axis->size;
}

static int32_t to_fixed(double weight)
{
    return (int32_t)(weight * (1 << SAC_RESIZE_BITS) + (weight < 0 ? -0.5 : 0.5));
}

void sac_resize_weights(const sac_resize_axis *axis, uint32_t taps_max, uint32_t *starts, uint32_t *taps,
                        int32_t *weights, double *work)
{
    double (*filter)(double) = axis->filter == SAC_FILTER_BICUBIC ? bicubic : bilinear;
    double scale = axis_scale(axis), support = axis_support(axis), narrowing = 1.0 / fmax(scale, 1.0);

    memset(weights, 0, (size_t)axis->count * taps_max * sizeof *weights);
    for (uint32_t i = 0; i < axis->count; i++) {
        double center = axis->from + (axis->first + i + 0.5) * scale, sum = 0.0;
        double low = center - support + 0.5, high = center + support + 0.5;
        uint32_t start = low > 0.0 ? (uint32_t)low : 0;
        uint32_t end = high < axis->size ? (uint32_t)high : axis->size;

        starts[i] = start;
        taps[i] = end - start;
        for (uint32_t t = 0; t < taps[i]; t++) {
            work[t] = filter((t + start - center + 0.5) * narrowing);
            sum += work[t];
        }
        for (uint32_t t = 0; t < taps[i]; t++)
            weights[(size_t)i * taps_max + t] = to_fixed(sum != 0.0 ? work[t] / sum : work[t]);
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
    double span = ceil(axis->count * axis_scale(axis) + 2.0 * axis_support(axis)) + 2.0;

    return span < axis->size ? (size_t)span : axis->size;
}

void sac_resize_plan_span(const sac_resize_plan *plan, uint32_t count, uint32_t *first, uint32_t *end)
{
    *first = plan->starts[0];
    *end = plan->starts[count - 1] + plan->taps[count - 1];
}
