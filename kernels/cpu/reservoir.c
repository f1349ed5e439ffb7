#include "kernels/cpu/reservoir.h"

#include "kernels/cpu/keys.h"

#include <math.h>
#include <string.h>

uint32_t sac_reservoir_capacity(uint32_t k)
{
    return 2 * k + 4 * SAC_FILTER_ROWS;
}

size_t sac_reservoir_scratch(uint32_t k, bool tagged)
{
    return (tagged ? 3 : 2) * sac_scratch_size(sac_reservoir_capacity(k), sizeof(uint32_t));
}

bool sac_reservoir_take(sac_stream *s, struct sac_reservoir *r, uint32_t k, bool tagged)
{
    r->k = k;
    r->capacity = sac_reservoir_capacity(k);
    r->distance = sac_scratch_take(s, r->capacity, sizeof *r->distance);
    r->index = sac_scratch_take(s, r->capacity, sizeof *r->index);
    r->tag = tagged ? sac_scratch_take(s, r->capacity, sizeof *r->tag) : NULL;
    sac_reservoir_clear(r);
    return r->distance != NULL && r->index != NULL && (r->tag != NULL || !tagged);
}

void sac_reservoir_prune(struct sac_reservoir *r, const struct sac_sieve *sieve, float margin, float relative)
{
    float bound;

    if (r->count <= r->k)
        return;
    bound = sieve->bound(r);
    r->threshold = bound + margin + relative * fabsf(bound);
    sieve->drop(r);
}

float sac_reservoir_keep(struct sac_reservoir *r)
{
    uint64_t *copy = r->keys + r->capacity;
    uint64_t largest;
    uint32_t kept = 0;

    memcpy(copy, r->keys, r->count * sizeof *copy);
    largest = sac_keys_select(copy, r->count, r->k);
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->keys[i] > largest)
            continue;
        r->distance[kept] = r->distance[i];
        r->index[kept] = r->index[i];
        if (r->tag != NULL)
            r->tag[kept] = r->tag[i];
        kept++;
    }
    r->count = kept;
    return sac_key_distance(largest);
}
