/* The best of each query's candidates, by keys: what is nearer than the bound is kept, and when twice as many
 * as wanted have come together, the better half stays and sets the bound. Twin: ref/select.c. Floor: reading
 * 8 bytes a candidate. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/keys.h"

#include <assert.h>

enum { SPARE = 64 }; /* beyond twice as many as wanted, so that few are not sifted again and again */

struct select {
    const struct sac_select_args *args;
    uint64_t *keys; /* [threads][capacity] */
    uint32_t capacity;
};

static uint32_t capacity_of(const struct sac_select_args *a)
{
    return 2 * a->keep + SPARE;
}

static void select_query(void *context, uint32_t q, uint32_t worker)
{
    const struct select *select = context;
    const struct sac_select_args *a = select->args;
    const float *distance = a->distance + (size_t)q * a->stride;
    const uint32_t *index = a->index + (size_t)q * a->stride;
    uint64_t *keys = select->keys + (size_t)worker * select->capacity, bound = UINT64_MAX;
    uint32_t candidates = a->counts != NULL ? a->counts[q] : a->stride, count = 0;

    for (uint32_t i = 0; i < candidates; i++) {
        uint64_t key = sac_key(distance[i], index[i]);

        if (key >= bound || index[i] == UINT32_MAX)
            continue;
        keys[count++] = key;
        if (count == select->capacity) {
            bound = sac_keys_select(keys, count, a->keep);
            count = a->keep;
        }
    }
    sac_keys_write(keys, count, a->keep, a->out_distance + (size_t)q * a->keep,
                   a->out_index + (size_t)q * a->keep);
}

sac_status sac_select_cpu(sac_stream *s, const struct sac_select_args *a)
{
    struct select select = {.args = a, .capacity = capacity_of(a)};

    assert(a->keep >= 1 && a->query_count <= UINT32_MAX);
    if (a->query_count == 0)
        return SAC_OK;
    sac_scratch_reset(s);
    select.keys = sac_scratch_take(s, (size_t)s->device->threads * select.capacity, sizeof *select.keys);
    if (select.keys == NULL)
        return SAC_NO_MEMORY;
    sac_parallel_for(s, (uint32_t)a->query_count, select_query, &select);
    return SAC_OK;
}

size_t sac_select_scratch_cpu(const sac_device *d, const struct sac_select_args *a)
{
    return sac_scratch_size((size_t)d->threads * capacity_of(a), sizeof(uint64_t));
}
