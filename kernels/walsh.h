/* walsh.h -- the plain Walsh-Hadamard transform, for the twin of `rotate` and for what is shorter than a
 * register. */
#ifndef SACCADE_WALSH_H
#define SACCADE_WALSH_H

#include <stdint.h>

/* The largest power of two up to dim >= 1: components that a round of `rotate` mixes. */
static inline uint32_t sac_walsh_size(uint32_t dim)
{
    return 1u << (31 - __builtin_clz(dim));
}

/* x becomes its transform, without a scale: numbers 1, 2, 4, .. apart become their sum and difference, in
 * that order. n is a power of two. */
static inline void sac_walsh(float *x, uint32_t n)
{
    for (uint32_t apart = 1; apart < n; apart *= 2)
        for (uint32_t first = 0; first < n; first += 2 * apart)
            for (uint32_t i = first; i < first + apart; i++) {
                float a = x[i], b = x[i + apart];

                x[i] = a + b;
                x[i + apart] = a - b;
            }
}

#endif
