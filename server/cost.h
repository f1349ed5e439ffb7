/* cost.h -- how long a batch takes: a fixed part and a part for each of its members, learnt while it runs.
 *
 * A straight line through the batches seen so far, by least squares in which every batch counts a tenth less
 * than the next one. Before sizes have differed nothing tells the two parts apart, and the whole time is
 * taken for fixed: a server that has only met lone queries must not refuse the first burst.
 */
#ifndef SACCADE_SERVER_COST_H
#define SACCADE_SERVER_COST_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct sac_cost {
    _Atomic uint64_t fixed_ns, each_ns; /* what any thread reads; 0 and 0: nothing was measured */
    pthread_mutex_t lock;               /* the sums */
    double weight, n, t, nn, nt;
};

void sac_cost_init(struct sac_cost *cost);
void sac_cost_destroy(struct sac_cost *cost);
/* A batch of n took that long. */
void sac_cost_measure(struct sac_cost *cost, size_t n, uint64_t ns);

static inline uint64_t sac_cost_fixed(struct sac_cost *cost)
{
    return atomic_load_explicit(&cost->fixed_ns, memory_order_relaxed);
}

static inline uint64_t sac_cost_each(struct sac_cost *cost)
{
    return atomic_load_explicit(&cost->each_ns, memory_order_relaxed);
}

#endif
