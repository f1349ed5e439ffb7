/* reservoir_simd.h -- the bound of a reservoir, for reservoir_<isa>.c: plain C that each file's flags make
 * vectors of. */
#ifndef SACCADE_RESERVOIR_SIMD_H
#define SACCADE_RESERVOIR_SIMD_H

#include "kernels/cpu/keys.h"
#include "kernels/cpu/reservoir.h"
#include "kernels/half.h"

/* Distances as integers of the same order, NaN last: bisection then needs no care for infinities. */
static inline uint32_t ordered(float distance)
{
    uint32_t bits = sac_f32_bits(distance);
    uint32_t flip = (uint32_t)((int32_t)bits >> 31) | 0x80000000u;
    uint32_t nan = 0u - (uint32_t)((bits & 0x7fffffffu) > 0x7f800000u); /* by its bits: no branch */

    return (bits ^ flip) | nan;
}

/* Bisection: a pass over the reservoir is a register of entries an instruction from L1, and about ten passes
 * do. */
static inline float bound(struct sac_reservoir *r)
{
    uint32_t *restrict keys = (uint32_t *)(void *)r->keys;
    const float *restrict distance = r->distance;
    uint32_t n = r->count, low = UINT32_MAX, high = 0, enough = r->k + r->k / 8;

    for (uint32_t i = 0; i < n; i++) {
        keys[i] = ordered(distance[i]);
        low = keys[i] < low ? keys[i] : low;
        high = keys[i] > high ? keys[i] : high;
    }
    while (low < high) { /* at least k are <= high; fewer than k are < low */
        uint32_t middle = low + (high - low) / 2, count = 0;

        for (uint32_t i = 0; i < n; i++)
            count += keys[i] <= middle;
        if (count < r->k) {
            low = middle + 1;
            continue;
        }
        high = middle;
        if (count <= enough)
            break;
    }
    return sac_key_distance((uint64_t)high << 32);
}

#endif
