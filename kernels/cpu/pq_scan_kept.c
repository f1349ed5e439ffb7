/* What the queries of a list-major scan keep: limits that fall as rows come in, and results in the end. */
#include "kernels/cpu/pq_scan.h"
#include "kernels/cpu/pq_scan_lists.h"

#include <math.h>

void sac_tiles_lower_limit(struct sac_tiles_query *query, float distance)
{
    uint32_t limit = sac_tiles_limit_of(distance), now = __atomic_load_n(&query->limit, __ATOMIC_RELAXED);

    while (limit < now &&
           !__atomic_compare_exchange_n(&query->limit, &now, limit, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
}

void sac_tiles_lower_limit_from(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, uint32_t q,
                                uint32_t n)
{
    struct sac_reservoir r = {.k = s->args->depths[q],
                              .capacity = s->capacity,
                              .count = n,
                              .distance = w->distance,
                              .keys = w->keys};

    if (n > r.k)
        sac_tiles_lower_limit(&s->queries[q], sac_sieve_avx512.bound(&r));
}

void sac_tiles_refresh_limit(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, uint32_t q,
                             uint32_t n)
{
    const uint64_t *from = s->found + (size_t)q * s->capacity;

    for (uint32_t i = 0; i < n; i++)
        w->distance[i] = sac_key_distance(__atomic_load_n(from + i, __ATOMIC_RELAXED));
    sac_tiles_lower_limit_from(s, w, q, n);
}

void sac_tiles_finish_query(void *context, uint32_t task, uint32_t worker)
{
    const struct sac_tiles_scan *s = context;
    const struct sac_pq_scan_args *a = s->args;
    uint64_t *keys = s->found + (size_t)task * s->capacity;
    uint32_t n = 0, count = s->queries[task].count, depth = a->depths[task], limit = s->queries[task].limit;

    (void)worker;
    if (count > s->capacity)
        return;
    for (uint32_t i = 0; i < count; i++) {
        keys[n] = keys[i];
        n += keys[i] >> 32 <= limit;
    }
    if (n > depth) {
        sac_keys_select(keys, n, depth);
        n = depth;
    }
    sac_keys_write(keys, n, depth, a->out_distance + (size_t)task * a->depth_stride,
                   a->out_slot + (size_t)task * a->depth_stride);
}
