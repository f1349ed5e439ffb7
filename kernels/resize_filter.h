/* resize_filter.h -- the formula of the weights of `resize`, for the host and for kernels: it is compiled for
 * both, so that both get the same bits.
 *
 * The rules are Pillow's: the filter is stretched by the scale when shrinking, cut at the edges of the
 * source, made to sum to 1 in double, then rounded to fixed point. Every operation is rounded by itself and
 * sums are taken in order. nvcc fuses a product with the sum behind it unless both are written as functions;
 * the host's compilers are told not to.
 */
#ifndef SACCADE_RESIZE_FILTER_H
#define SACCADE_RESIZE_FILTER_H

#include "kernels/ops.h"

#include <math.h>

/* Fraction bits of a weight. A sum over any part of an output's taps fits 32 bits: 8 bits of pixel, 22 of
 * fraction, and weights that sum to 1 have positive parts that sum to less than 2. */
#define SAC_RESIZE_BITS 22

#ifdef __CUDACC__
#define SAC_RESIZE_FN static __device__ __forceinline__
#define SAC_RESIZE_ADD(a, b) __dadd_rn(a, b)
#define SAC_RESIZE_MULTIPLY(a, b) __dmul_rn(a, b)
#else
#define SAC_RESIZE_FN static inline
#define SAC_RESIZE_ADD(a, b) ((a) + (b))
#define SAC_RESIZE_MULTIPLY(a, b) ((a) * (b))
#endif

typedef struct sac_resize_axis {
    uint32_t size;         /* of the source */
    double from, to;       /* the box */
    uint32_t full;         /* pixels that the box becomes */
    uint32_t first, count; /* those wanted */
    sac_filter filter;
} sac_resize_axis;

/* The filter, stretched for an axis. */
typedef struct sac_resize_curve {
    double scale;     /* source pixels to an output */
    double support;   /* half the filter's width in source pixels */
    double narrowing; /* source pixels to the filter's own unit */
    sac_filter filter;
} sac_resize_curve;

/* The source pixels that make an output. */
typedef struct sac_resize_taps {
    double center;
    uint32_t start, count;
} sac_resize_taps;

SAC_RESIZE_FN sac_resize_curve sac_resize_curve_of(const sac_resize_axis *axis)
{
    double scale = SAC_RESIZE_ADD(axis->to, -axis->from) / axis->full, stretch = scale > 1.0 ? scale : 1.0;
    sac_resize_curve curve;

    curve.scale = scale;
    curve.support = SAC_RESIZE_MULTIPLY(axis->filter == SAC_FILTER_BICUBIC ? 2.0 : 1.0, stretch);
    curve.narrowing = 1.0 / stretch;
    curve.filter = axis->filter;
    return curve;
}

/* Of output number first + i. */
SAC_RESIZE_FN sac_resize_taps sac_resize_taps_of(const sac_resize_axis *axis, const sac_resize_curve *curve,
                                                 uint32_t i)
{
    double center =
        SAC_RESIZE_ADD(axis->from, SAC_RESIZE_MULTIPLY(SAC_RESIZE_ADD(axis->first + i, 0.5), curve->scale));
    double low = SAC_RESIZE_ADD(SAC_RESIZE_ADD(center, -curve->support), 0.5);
    double high = SAC_RESIZE_ADD(SAC_RESIZE_ADD(center, curve->support), 0.5);
    sac_resize_taps taps;

    taps.center = center;
    taps.start = low > 0.0 ? (uint32_t)low : 0;
    taps.count = (high < axis->size ? (uint32_t)high : axis->size) - taps.start;
    return taps;
}

/* Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -1/2. */
SAC_RESIZE_FN double sac_resize_bicubic(double x)
{
    const double a = -0.5;
    double sum;

    if (x < 1.0) {
        sum = SAC_RESIZE_ADD(SAC_RESIZE_MULTIPLY(a + 2.0, x), -(a + 3.0));
        return SAC_RESIZE_ADD(SAC_RESIZE_MULTIPLY(SAC_RESIZE_MULTIPLY(sum, x), x), 1.0);
    }
    if (x < 2.0) {
        sum = SAC_RESIZE_ADD(SAC_RESIZE_MULTIPLY(SAC_RESIZE_ADD(x, -5.0), x), 8.0);
        return SAC_RESIZE_MULTIPLY(SAC_RESIZE_ADD(SAC_RESIZE_MULTIPLY(sum, x), -4.0), a);
    }
    return 0.0;
}

/* The filter at source pixel start + t: a weight, before all are made to sum to 1. */
SAC_RESIZE_FN double sac_resize_value(const sac_resize_curve *curve, const sac_resize_taps *taps, uint32_t t)
{
    double from_center = SAC_RESIZE_ADD(SAC_RESIZE_ADD(t + taps->start, -taps->center), 0.5);
    double x = fabs(SAC_RESIZE_MULTIPLY(from_center, curve->narrowing));

    if (curve->filter == SAC_FILTER_BICUBIC)
        return sac_resize_bicubic(x);
    return x < 1.0 ? SAC_RESIZE_ADD(1.0, -x) : 0.0;
}

/* sum: of the values of all taps, added in their order. */
SAC_RESIZE_FN int32_t sac_resize_weight(double value, double sum)
{
    double weight = sum != 0.0 ? value / sum : value;

    return (int32_t)SAC_RESIZE_ADD(SAC_RESIZE_MULTIPLY(weight, (double)(1 << SAC_RESIZE_BITS)),
                                   weight < 0.0 ? -0.5 : 0.5);
}

/* A sum of weighted bytes as a byte; the sum has begun at one half. */
#define SAC_RESIZE_HALF (1 << (SAC_RESIZE_BITS - 1))

SAC_RESIZE_FN uint8_t sac_resize_byte(int32_t sum)
{
    sum >>= SAC_RESIZE_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

#endif
