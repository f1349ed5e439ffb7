/* What the queries of a list-major scan keep: limits that fall as rows come in, and exact results in the end.
 */
#include "kernels/cpu/pq.h"
#include "kernels/cpu/pq_scan.h"
#include "kernels/cpu/pq_scan_lists.h"

#include <math.h>
#include <string.h>

enum { EXACT_LANES = SAC_PQ_EXACT_LANES };

void sac_tiles_lower_limit(struct sac_tiles_query *query, float distance)
{
    uint32_t limit = sac_tiles_limit_of(distance), now = __atomic_load_n(&query->limit, __ATOMIC_RELAXED);

    while (limit < now &&
           !__atomic_compare_exchange_n(&query->limit, &now, limit, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        continue;
}

/* The limit that follows from n computed distances, NaN where there are too few. */
float sac_tiles_limit_from(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, uint32_t q,
                           float *distance, uint32_t n)
{
    struct sac_reservoir r = {
        .k = s->args->depths[q], .capacity = s->capacity, .count = n, .distance = distance, .keys = w->keys};
    const struct sac_pq_error *error = &s->queries[q].levels.error;
    float bound;

    if (n <= r.k)
        return NAN;
    bound = sac_sieve_avx512.bound(&r);
    return bound + error->margin + error->relative * fabsf(bound);
}

/* From what others have kept too; of what they are just writing less may be seen, and the limit is higher. */
void sac_tiles_refresh_limit(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, uint32_t q,
                             uint32_t n)
{
    const uint32_t *from = (const uint32_t *)(const void *)(s->distance + (size_t)q * s->capacity);
    float limit;

    for (uint32_t i = 0; i < n; i++)
        w->distance[i] = sac_f32_from_bits(__atomic_load_n(from + i, __ATOMIC_RELAXED));
    limit = sac_tiles_limit_from(s, w, q, w->distance, n);
    if (!isnan(limit))
        sac_tiles_lower_limit(&s->queries[q], limit);
}

void sac_tiles_table(const struct sac_tiles_scan *s, size_t q, float *table)
{
    const struct sac_pq_scan_args *a = s->args;

    sac_pq_table_make(&sac_pq_avx512, &a->pool.pq, a->codebook,
                      a->queries + q * a->pool.pq.m * a->pool.pq.dsub, a->scale, table);
}

/* Exact keys of the rows at[0..lanes-1], lanes <= EXACT_LANES. */
static void exact_keys(const struct sac_tiles_scan *s, const float *table, const unsigned char *const *at,
                       uint32_t lanes, uint64_t *keys)
{
    const uint8_t *codes[EXACT_LANES];
    float sums[EXACT_LANES];
    uint32_t slots[EXACT_LANES];

    for (uint32_t e = 0; e < EXACT_LANES; e++) {
        const unsigned char *from = at[e < lanes ? e : 0];
        struct sac_tiles_found found;

        memcpy(&found, from + s->code_stride, sizeof found);
        codes[e] = from;
        slots[e] = found.slot;
        sums[e] = found.start;
    }
    sac_pq_exact_lanes(&s->args->pool.pq, table, codes, 1, sums);
    for (uint32_t e = 0; e < lanes; e++)
        keys[e] = sac_key(sums[e], slots[e]);
}

void sac_tiles_finish_query(void *context, uint32_t task, uint32_t worker)
{
    const struct sac_tiles_scan *s = context;
    const struct sac_pq_scan_args *a = s->args;
    const struct sac_tiles_worker *w = &s->workers[worker];
    const unsigned char *at[EXACT_LANES];
    float *distance = s->distance + (size_t)task * s->capacity, limit;
    uint32_t n = s->queries[task].count, count = 0, lanes = 0;

    if (n > s->capacity)
        return;
    limit = sac_tiles_limit_from(s, w, task, distance, n);
    sac_tiles_table(s, task, w->table);
    for (uint32_t i = 0; i < n; i++) {
        if (distance[i] > limit)
            continue;
        at[lanes++] = s->found + ((size_t)task * s->capacity + i) * s->found_bytes;
        if (lanes == EXACT_LANES) {
            exact_keys(s, w->table, at, lanes, w->keys + count);
            count += lanes;
            lanes = 0;
        }
    }
    if (lanes > 0)
        exact_keys(s, w->table, at, lanes, w->keys + count);
    count += lanes;
    if (count > a->depths[task]) {
        sac_keys_select(w->keys, count, a->depths[task]);
        count = a->depths[task];
    }
    sac_keys_write(w->keys, count, a->depths[task], a->out_distance + (size_t)task * a->depth_stride,
                   a->out_slot + (size_t)task * a->depth_stride);
}
