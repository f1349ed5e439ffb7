#include "engine/allowed.h"

#include <stdlib.h>
#include <string.h>

/* Bitmaps of every shard, empty. */
static sac_status take_bitmaps(const sac_team *team, const sac_labels *labels, sac_allowed *allowed)
{
    allowed->bits = sac_workspace_host(team->ws[0], team->count, sizeof *allowed->bits);
    if (allowed->bits == NULL)
        return sac_workspace_failure(team->ws[0]);
    for (uint32_t s = 0; s < team->count; s++) {
        size_t words = ((size_t)sac_labels_slots_of(labels, s) + 63) / 64;
        if (!sac_workspace_span(team->ws[s], words, sizeof(uint64_t), &allowed->bits[s]))
            return sac_workspace_failure(team->ws[s]);
        memset(allowed->bits[s].host, 0, allowed->bits[s].bytes);
    }
    return SAC_OK;
}

static sac_status look_up(const sac_team *team, const sac_labels *labels, sac_allowed *allowed)
{
    sac_status st = take_bitmaps(team, labels, allowed);

    for (size_t i = 0; st == SAC_OK && i < allowed->allow_count; i++) {
        uint32_t slot = sac_labels_find(labels, allowed->allow[i]), local = slot / team->count;
        if (slot != SAC_NO_SLOT)
            ((uint64_t *)allowed->bits[slot % team->count].host)[local / 64] |= UINT64_C(1) << local % 64;
    }
    allowed->matching = 0;
    for (uint32_t s = 0; st == SAC_OK && s < team->count; s++) {
        const uint64_t *bits = allowed->bits[s].host;
        for (size_t w = 0; w < allowed->bits[s].bytes / sizeof *bits; w++)
            allowed->matching += (uint32_t)__builtin_popcountll(bits[w]);
        st = sac_span_push(team->ws[s], &allowed->bits[s]);
    }
    return st;
}

/* A query's place, sorted so that those with the same array meet. */
struct place {
    const uint64_t *allow;
    size_t allow_count, query;
};

static int compare_places(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (x->allow != y->allow)
        return (uintptr_t)x->allow < (uintptr_t)y->allow ? -1 : 1;
    return x->allow_count < y->allow_count ? -1 : x->allow_count > y->allow_count;
}

sac_status sac_allowed_make(const sac_team *team, const sac_labels *labels, sac_query *const *queries,
                            size_t n, sac_allowed **out)
{
    sac_workspace *ws = team->ws[0];
    struct place *places;
    size_t count = 0;
    sac_status st = SAC_OK;

    for (size_t i = 0; i < n; i++) {
        out[i] = NULL;
        count += queries[i]->allow != NULL;
    }
    if (count == 0)
        return SAC_OK;
    places = sac_workspace_host(ws, count, sizeof *places);
    if (places == NULL)
        return sac_workspace_failure(ws);
    count = 0;
    for (size_t i = 0; i < n; i++)
        if (queries[i]->allow != NULL)
            places[count++] = (struct place){queries[i]->allow, queries[i]->allow_count, i};
    qsort(places, count, sizeof *places, compare_places);
    for (size_t p = 0; st == SAC_OK && p < count; p++) {
        sac_allowed **place = &out[places[p].query];
        if (p > 0 && compare_places(&places[p - 1], &places[p]) == 0) {
            *place = out[places[p - 1].query];
            continue;
        }
        *place = sac_workspace_host(ws, 1, sizeof **place);
        if (*place == NULL)
            return sac_workspace_failure(ws);
        **place = (sac_allowed){.allow = places[p].allow, .allow_count = places[p].allow_count};
        st = look_up(team, labels, *place);
    }
    return st;
}

sac_status sac_allowed_push(const sac_team *team, uint32_t shard, sac_allowed *const *allowed, size_t n,
                            const uint64_t *const **out)
{
    sac_workspace *ws = team->ws[shard];
    bool any = false;
    sac_span span;

    *out = NULL;
    for (size_t i = 0; i < n; i++)
        any = any || allowed[i] != NULL;
    if (!any)
        return SAC_OK;
    if (!sac_workspace_span(ws, n, sizeof(uint64_t *), &span))
        return sac_workspace_failure(ws);
    for (size_t i = 0; i < n; i++)
        ((const uint64_t **)span.host)[i] = allowed[i] != NULL ? allowed[i]->bits[shard].device : NULL;
    *out = span.device;
    return sac_span_push(ws, &span);
}

static int compare_slots(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

uint32_t sac_allowed_slots(const sac_labels *labels, const uint64_t *allow, size_t count, uint32_t *slots)
{
    uint32_t found = 0, kept = 0;

    for (size_t i = 0; i < count; i++) {
        slots[found] = sac_labels_find(labels, allow[i]);
        found += slots[found] != SAC_NO_SLOT;
    }
    qsort(slots, found, sizeof *slots, compare_slots);
    for (uint32_t i = 0; i < found; i++)
        if (i == 0 || slots[i] != slots[i - 1])
            slots[kept++] = slots[i];
    return kept;
}
