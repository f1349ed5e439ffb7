/* rabitq.h -- from sums over the components of a residual to what is stored beside its signs.
 *
 * (Gao, Long, RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate
 * Nearest Neighbor Search, SIGMOD 2024.) Let x = c + r, s the signs of r, and f = |r|^2 / <s, r>. Over random
 * rotations f <s, y> estimates <r, y> without bias, with an error that falls as 1 / sqrt(dim). Taken for y =
 * q - c, which is short where q is near,
 *     <q, r> = <q - c, r> + <c, r>  ~  f <s, q> - f <s, c> + <c, r>
 * of which only the first part knows the query: the others are numbers of the entry, and go into its bias. So
 * one table a query serves every list, as with a product quantizer.
 */
#ifndef SACCADE_RABITQ_H
#define SACCADE_RABITQ_H

#include "kernels/ops.h"

/* Over all components. */
struct sac_rabitq_sums {
    double squares;           /* r^2 */
    double lengths;           /* |r|, which is <s, r> */
    double signed_centroid;   /* s c */
    double centroid_residual; /* c r */
    double centroid_squares;  /* c^2 */
};

static inline void sac_rabitq_finish(const struct sac_rabitq_sums *sums, sac_distance distance, float *bias,
                                     float *factor)
{
    double f = sums->lengths > 0.0 ? sums->squares / sums->lengths : 0.0, own = f * sums->signed_centroid;

    *factor = (float)f;
    *bias = distance == SAC_DISTANCE_L2SQ ? (float)(sums->centroid_squares + sums->squares + 2.0 * own)
                                          : (float)(own - sums->centroid_residual);
}

#endif
