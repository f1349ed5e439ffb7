/* resize_weights.h -- which source pixels make an output pixel, and with what weights, along one axis.
 *
 * Shared by every version of `resize` on the CPU, so that they differ in speed alone. The rules are in
 * resize_filter.h.
 */
#ifndef SACCADE_RESIZE_WEIGHTS_H
#define SACCADE_RESIZE_WEIGHTS_H

#include "kernels/resize_filter.h"

sac_resize_axis sac_resize_axis_x(const struct sac_resize_args *a);
sac_resize_axis sac_resize_axis_y(const struct sac_resize_args *a);

/* The most source pixels that one output takes. */
uint32_t sac_resize_taps_max(const sac_resize_axis *axis);

/* Output first + i is the sum over t < taps[i] of weights[i * taps_max + t] * source[starts[i] + t]; weights
 * past taps[i] are 0. work: [taps_max]. */
void sac_resize_weights(const sac_resize_axis *axis, uint32_t taps_max, uint32_t *starts, uint32_t *taps,
                        int32_t *weights, double *work);

/* What one axis takes of the stream's scratch: the arrays above. */
typedef struct sac_resize_plan {
    uint32_t taps_max;
    uint32_t *starts, *taps; /* [count] */
    int32_t *weights;        /* [count][taps_max] */
} sac_resize_plan;

size_t sac_resize_plan_scratch(const sac_resize_axis *axis);
/* Takes the arrays and fills them. SAC_NO_MEMORY where the scratch is too small. */
sac_status sac_resize_plan_make(sac_stream *s, const sac_resize_axis *axis, sac_resize_plan *out);

/* Source pixels *first .. *end - 1 are all that the outputs of a plan need; there are never more of them than
 * sac_resize_span_max() says beforehand. */
size_t sac_resize_span_max(const sac_resize_axis *axis);
void sac_resize_plan_span(const sac_resize_plan *plan, uint32_t count, uint32_t *first, uint32_t *end);

/* ---- placed pictures ---- */

/* A picture that is not scaled is copied. */
static inline bool sac_placed_is_scaled(const struct sac_placed_picture *p)
{
    return p->full_width != p->width || p->full_height != p->height;
}

/* The picture's window into `to`. */
struct sac_resize_args sac_placed_resize(const struct sac_placed_picture *p, sac_filter filter, uint8_t *to,
                                         size_t to_stride);

#endif
