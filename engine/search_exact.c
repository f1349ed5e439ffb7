/* Exact search: every vector is compared, more of them are asked for where the last hits are equally far. */
#include "engine/recorded.h"
#include "engine/search.h"

/* On one shard. */
struct exact_search {
    const sac_tile *tile;
    uint32_t shard, width;
    const uint64_t *const *filters;
    float *rough, *distance; /* device [n][width]: as the search computed them, and exact */
    uint32_t *slot;          /* device [n][width] */
    sac_span counts;
};

static sac_status prepare_exact(const sac_tile *tile, uint32_t shard, uint32_t width, struct exact_search *s)
{
    sac_workspace *ws = tile->team->ws[shard];
    sac_candidates *found = &tile->found[shard];

    *s = (struct exact_search){.tile = tile, .shard = shard, .width = width};
    s->rough = sac_workspace_device(ws, tile->n * width, sizeof *s->rough);
    if (s->rough == NULL || !sac_candidates_take(ws, tile->n, width, found) ||
        !sac_workspace_span(ws, tile->n, sizeof(uint32_t), &s->counts))
        return sac_workspace_failure(ws);
    s->distance = found->distance.device;
    s->slot = found->slot.device;
    if (tile->team->count > 1) { /* sorted once more, from here */
        s->distance = sac_workspace_device(ws, tile->n * width, sizeof *s->distance);
        s->slot = sac_workspace_device(ws, tile->n * width, sizeof *s->slot);
        if (s->distance == NULL || s->slot == NULL)
            return sac_workspace_failure(ws);
    }
    for (size_t i = 0; i < tile->n; i++)
        ((uint32_t *)s->counts.host)[i] = width;
    return sac_allowed_push(tile->team, shard, tile->allowed, tile->n, &s->filters);
}

/* In the order of their exact distances, for merging. */
static sac_status sort_exact(const struct exact_search *s, const sac_candidates *found)
{
    return sac_run_select(s->tile->team->ws[s->shard],
                          &(struct sac_select_args){.distance = s->distance,
                                                    .index = s->slot,
                                                    .query_count = s->tile->n,
                                                    .stride = s->width,
                                                    .keep = s->width,
                                                    .out_distance = found->distance.device,
                                                    .out_index = found->slot.device});
}

static sac_status submit_exact(void *context)
{
    const struct exact_search *s = context;
    const sac_tile *tile = s->tile;
    const sac_index *index = tile->index;
    const sac_vectors *vectors = &index->shards[s->shard].vectors;
    const float *x = tile->x[s->shard].device;
    sac_workspace *ws = tile->team->ws[s->shard];
    sac_distance distance = sac_index_distance(index);
    sac_status st = sac_span_push(ws, &s->counts);

    if (st == SAC_OK)
        st = sac_tile_push(tile, s->shard);
    if (st == SAC_OK)
        st = sac_vectors_nearest(vectors, ws, distance, tile->n, x, index->labels.live[s->shard].copy,
                                 sac_labels_slots_of(&index->labels, s->shard), s->filters, s->width,
                                 s->rough, s->slot);
    if (st == SAC_OK)
        st = sac_vectors_distances(vectors, ws, distance, tile->n, x, s->slot, s->counts.device, s->width,
                                   s->distance);
    if (st != SAC_OK)
        return st;
    return tile->team->count == 1 ? sac_candidates_fetch(ws, tile->found)
                                  : sort_exact(s, &tile->found[s->shard]);
}

static sac_status exact_pass_on(const sac_tile *tile, uint32_t shard, uint32_t width)
{
    struct exact_search s;
    sac_shape shape = {{sac_search_shape(tile, 2), sac_index_layout(tile->index, shard),
                        tile->n << 32 | width, sac_labels_slots_of(&tile->index->labels, shard)}};
    sac_status st = prepare_exact(tile, shard, width, &s);

    if (st != SAC_OK)
        return st;
    if (tile->n > SAC_RECORDED_QUERIES || s.filters != NULL)
        return submit_exact(&s);
    return sac_submit_recorded(tile->team->ws[shard], &shape, submit_exact, &s);
}

static sac_status exact_pass(sac_tile *tile, uint32_t width, bool *cut)
{
    sac_status st = SAC_OK;

    for (uint32_t s = 0; st == SAC_OK && s < tile->team->count; s++)
        st = exact_pass_on(tile, s, width);
    if (st == SAC_OK)
        st = sac_tile_collect(tile, width);
    *cut = false;
    for (size_t i = 0; st == SAC_OK && i < tile->n; i++)
        *cut = sac_candidates_hits(tile, i, &tile->answer, width) || *cut;
    return st;
}

sac_status sac_search_exactly(sac_tile *tile)
{
    uint32_t live = tile->index->labels.live_count, limit = live < SAC_DEPTH_MAX ? live : SAC_DEPTH_MAX;
    bool cut = true;
    sac_status st = sac_tile_allow(tile);

    if (st == SAC_OK)
        st = sac_tile_prepare(tile);
    for (uint32_t width = sac_ranking_keep(tile); st == SAC_OK && cut; width *= 4) {
        uint32_t taken = width < limit ? width : limit;
        st = exact_pass(tile, taken, &cut);
        cut = cut && taken < limit;
    }
    return st;
}
