/* reach.h -- when probing stops: the one formula, for the CPU and the GPU. */
#ifndef SACCADE_REACH_H
#define SACCADE_REACH_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define SAC_REACH_INLINE static inline __host__ __device__
#else
#define SAC_REACH_INLINE static inline
#endif

/* Whether the p-th nearest list, p from 0, is within reach: sqrt(d_p / d_0) * (p + 1)^0.1 <= reach, where d_p
 * is its squared distance and d_0 that of the nearest. Once a list is not, none behind it is. */
SAC_REACH_INLINE bool sac_within_reach(float d_p, uint32_t p, float d_0, float reach)
{
    return d_0 == 0 || d_p * powf((float)(p + 1), 0.2f) <= reach * reach * d_0;
}

/* The reach that ends with the p-th list; d_0 is not 0. */
SAC_REACH_INLINE float sac_reach_of(float d_p, uint32_t p, float d_0)
{
    return sqrtf(d_p / d_0) * powf((float)(p + 1), 0.1f);
}

#endif
