/* reservoir.h -- threshold first, selection last.
 *
 * A scan compares whole registers of distances against a bound and appends what is below it; only when the
 * reservoir is full is a new bound looked for, one that at least k entries are under. Distances may be
 * approximate: with |approximate - exact| <= error, whatever is beyond the k-th nearest approximate distance
 * + 2 * error cannot be among the k nearest exactly, so pruning with that margin loses nothing.
 */
#ifndef SACCADE_CPU_RESERVOIR_H
#define SACCADE_CPU_RESERVOIR_H

#include "kernels/backend.h"

enum { SAC_FILTER_ROWS = 256 }; /* distances that one filter call looks at, at most */

struct sac_reservoir {
    uint32_t k, capacity, count;
    float threshold; /* take what is below it; NaN takes everything */
    float *distance; /* [capacity], aligned; in the order of arrival */
    uint32_t *index; /* [capacity] */
    uint32_t *tag;   /* [capacity], or NULL: a second number per entry */
    uint64_t *keys; /* [2 * capacity], workspace; reservoirs that are used one after the other may share it */
};

/* The inner loops, per instruction set. */
struct sac_sieve {
    /* Appends the entries of distance[0..n-1] that are below the threshold, or not comparable with it, and
     * whose bit in live (NULL: all) is set; entry i gets index first_index + i. n <= SAC_FILTER_ROWS. There
     * must be room. */
    void (*filter)(struct sac_reservoir *r, const float *distance, uint32_t n, uint32_t first_index,
                   const uint64_t *live);
    /* A distance that k to about 1.1 k entries, or more where they tie, are not beyond. count > k. */
    float (*bound)(struct sac_reservoir *r);
    /* Drops entries beyond the threshold; those that stay keep their order. */
    void (*drop)(struct sac_reservoir *r);
};

extern const struct sac_sieve sac_sieve_avx2, sac_sieve_avx512;

/* Places for a reservoir of the k nearest. */
uint32_t sac_reservoir_capacity(uint32_t k);
size_t sac_reservoir_scratch(uint32_t k, bool tagged); /* without keys */
bool sac_reservoir_take(sac_stream *s, struct sac_reservoir *r, uint32_t k, bool tagged);

static inline void sac_reservoir_clear(struct sac_reservoir *r)
{
    r->count = 0;
    r->threshold = __builtin_nanf("");
}

static inline bool sac_reservoir_has_room(const struct sac_reservoir *r)
{
    return r->count + SAC_FILTER_ROWS <= r->capacity;
}

/* Lowers the threshold to bound + margin + relative * |bound| and drops what is beyond. Nothing happens up to
 * k entries. Nearly everything may stay where entries tie or are within the margin: then only
 * sac_reservoir_keep() helps. */
void sac_reservoir_prune(struct sac_reservoir *r, const struct sac_sieve *sieve, float margin,
                         float relative);

/* Keeps the k entries with the smallest of keys[0..count-1], which the caller has filled in and which are
 * distinct. Returns the k-th distance. count > k. */
float sac_reservoir_keep(struct sac_reservoir *r);

#endif
