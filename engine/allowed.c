#include "engine/allowed.h"

#include <stdlib.h>
#include <string.h>

static sac_status look_up(sac_workspace *ws, const sac_labels *labels, sac_allowed *allowed)
{
    size_t words = ((size_t)labels->slot_count + 63) / 64;
    uint64_t *bits;

    if (!sac_workspace_span(ws, words, sizeof *bits, &allowed->bits))
        return ws->status;
    bits = allowed->bits.host;
    memset(bits, 0, words * sizeof *bits);
    for (size_t i = 0; i < allowed->allow_count; i++) {
        uint32_t slot = sac_labels_find(labels, allowed->allow[i]);
        if (slot != SAC_NO_SLOT)
            bits[slot / 64] |= UINT64_C(1) << slot % 64;
    }
    allowed->matching = 0;
    for (size_t w = 0; w < words; w++)
        allowed->matching += (uint32_t)__builtin_popcountll(bits[w]);
    return sac_span_push(ws, &allowed->bits);
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

sac_status sac_allowed_make(sac_workspace *ws, const sac_labels *labels, sac_query *const *queries, size_t n,
                            sac_allowed **out)
{
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
        return ws->status;
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
            return ws->status;
        **place = (sac_allowed){.allow = places[p].allow, .allow_count = places[p].allow_count};
        st = look_up(ws, labels, *place);
    }
    return st;
}

sac_status sac_allowed_push(sac_workspace *ws, sac_allowed *const *allowed, size_t n,
                            const uint64_t *const **out)
{
    bool any = false;
    sac_span span;

    *out = NULL;
    for (size_t i = 0; i < n; i++)
        any = any || allowed[i] != NULL;
    if (!any)
        return SAC_OK;
    if (!sac_workspace_span(ws, n, sizeof(uint64_t *), &span))
        return ws->status;
    for (size_t i = 0; i < n; i++)
        ((const uint64_t **)span.host)[i] = allowed[i] != NULL ? allowed[i]->bits.device : NULL;
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
