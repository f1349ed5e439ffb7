/* random.h -- repeatable random numbers for training: SplitMix64 (Steele, Lea, Flood 2014). */
#ifndef SACCADE_RANDOM_H
#define SACCADE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

typedef struct sac_random {
    uint64_t state; /* the seed, whatever it is */
} sac_random;

static inline uint64_t sac_mix64(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline uint64_t sac_random_next(sac_random *random)
{
    return sac_mix64(random->state += 0x9e3779b97f4a7c15u);
}

/* In [0, 1). */
static inline double sac_random_unit(sac_random *random)
{
    return (double)(sac_random_next(random) >> 11) * 0x1p-53;
}

/* In [0, n), for n up to 2^32: the bias of the multiplication is below n / 2^32. */
static inline uint64_t sac_random_below(sac_random *random, uint64_t n)
{
    return (sac_random_next(random) >> 32) * n >> 32;
}

/* `want` distinct numbers below n, ascending, each set of them as likely (selection sampling, Knuth 3.4.2 S).
 * want <= n. */
static inline void sac_random_sample(sac_random *random, size_t n, size_t want, uint64_t *out)
{
    size_t taken = 0;

    for (size_t i = 0; taken < want; i++)
        if (sac_random_unit(random) * (double)(n - i) < (double)(want - taken))
            out[taken++] = i;
}

#endif
