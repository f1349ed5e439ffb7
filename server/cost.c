#include "server/cost.h"

#include <string.h>

#define MEMORY 0.9 /* what is left of a batch's weight when the next one comes */

void sac_cost_init(struct sac_cost *cost)
{
    memset(cost, 0, sizeof *cost);
    pthread_mutex_init(&cost->lock, NULL);
}

void sac_cost_destroy(struct sac_cost *cost)
{
    pthread_mutex_destroy(&cost->lock);
}

void sac_cost_measure(struct sac_cost *cost, size_t n, uint64_t ns)
{
    double size = (double)n, time = (double)ns;

    pthread_mutex_lock(&cost->lock);
    cost->weight = cost->weight * MEMORY + 1;
    cost->n = cost->n * MEMORY + size;
    cost->t = cost->t * MEMORY + time;
    cost->nn = cost->nn * MEMORY + size * size;
    cost->nt = cost->nt * MEMORY + size * time;
    double mean_n = cost->n / cost->weight, mean_t = cost->t / cost->weight;
    double variance = cost->nn / cost->weight - mean_n * mean_n;
    double each = (double)sac_cost_each(cost);
    if (variance > 0.01 * mean_n * mean_n)
        each = (cost->nt / cost->weight - mean_n * mean_t) / variance;
    if (each > mean_t / mean_n)
        each = mean_t / mean_n;
    if (each < 0)
        each = 0;
    atomic_store_explicit(&cost->each_ns, (uint64_t)each, memory_order_relaxed);
    atomic_store_explicit(&cost->fixed_ns, (uint64_t)(mean_t - each * mean_n), memory_order_relaxed);
    pthread_mutex_unlock(&cost->lock);
}
