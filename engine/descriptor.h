/* descriptor.h -- the built-in encoder: a classical descriptor that needs no weights.
 *
 * Colour layout and oriented gradients over a spatial pyramid, scaled to length 1. It finds near copies and
 * scenes of like layout; it knows nothing of what is in the picture. The method, number by number, stands in
 * descriptor.c; any change to it changes SAC_DESCRIPTOR_NAME and so the fingerprint.
 */
#ifndef SACCADE_DESCRIPTOR_H
#define SACCADE_DESCRIPTOR_H

#include "engine/preprocess.h"

#define SAC_DESCRIPTOR_NAME "builtin-1"

/* Components of the descriptor: between 256 and 512. */
uint32_t sac_descriptor_dim(void);

/* How pictures are prepared for it. mean and std are not used. */
void sac_descriptor_preprocess(sac_preprocess *out);

/* One prepared picture [height][width][3] -> vector [dim] of length 1. Thread-safe, does not allocate. A
 * picture without any structure (one flat colour) still gives a vector of length 1. */
void sac_descriptor_compute(const uint8_t *pixels, float *vector);

#endif
