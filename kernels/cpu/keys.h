/* keys.h -- candidates as 64-bit keys: selecting and sorting them is then plain integer work.
 *
 * The upper half is the distance in an order-preserving form, the lower half an index, so that keys order as
 * the contract of ops.h wants: by distance, then by index, NaN last.
 */
#ifndef SACCADE_CPU_KEYS_H
#define SACCADE_CPU_KEYS_H

#include "kernels/half.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>

static inline uint64_t sac_key(float distance, uint32_t index)
{
    uint32_t bits;

    if (isnan(distance))
        return (uint64_t)UINT32_MAX << 32 | index;
    bits = sac_f32_bits(distance + 0.0f); /* -0 becomes +0: they are equal */
    bits ^= bits >> 31 != 0 ? UINT32_MAX : 0x80000000u;
    return (uint64_t)bits << 32 | index;
}

static inline float sac_key_distance(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);

    return sac_f32_from_bits(bits >> 31 != 0 ? bits ^ 0x80000000u : ~bits);
}

static inline uint32_t sac_key_index(uint64_t key)
{
    return (uint32_t)key;
}

/* Moves the k smallest of n keys to the front, in no order, and returns the largest of them. 1 <= k <= n. */
uint64_t sac_keys_select(uint64_t *keys, size_t n, size_t k);

/* Ascending. */
void sac_keys_sort(uint64_t *keys, size_t n);
/* The same for distinct keys, fast for few; work: [n]. */
void sac_keys_sort_avx512(uint64_t *keys, size_t n, uint64_t *work);

/* The k smallest of n keys, ascending, as distances and indices; places beyond n are marked unused. */
void sac_keys_write(uint64_t *keys, size_t n, size_t k, float *distances, uint32_t *indices);

#endif
