/* rabitq.h -- RaBitQ (kernels/rabitq.h) as the codec of inverted lists: vectors are rotated at random, and of
 * each component of a residual its sign is kept. Nothing is learnt.
 *
 * More bits a component are not offered. On generated clusters of 768 components the true ten nearest are
 * among the nearest 17 by one bit in 99 of 100 cases, among 13 by two and 11 by four bits (22 by PQ192x4 and
 * 21 by PQ96x8, which take as many bytes as one bit): comparing the stored vectors of four more candidates
 * costs less than reading another 96 bytes of every candidate.
 */
#ifndef SACCADE_RABITQ_ENGINE_H
#define SACCADE_RABITQ_ENGINE_H

#include "kernels/ops.h"

#define SAC_RABITQ_DIM_MAX (512 * SAC_RABITQ_DSUB) /* sums of table entries must fit 16 bits */

/* Whether indexes on the device can have it. */
static inline bool sac_has_rabitq(sac_device *device)
{
    return sac_device_ops(sac_device_shard(device, 0))->rabitq_encode != NULL;
}

/* The signs of a random rotation [SAC_ROTATE_ROUNDS][dim]; the same for the same seed. */
void sac_rabitq_signs(uint64_t seed, uint32_t dim, float *signs);

/* The codebook that makes a table of signs: [m][16][SAC_RABITQ_DSUB]. */
void sac_rabitq_codebook(uint32_t m, float *codebook);

#endif
