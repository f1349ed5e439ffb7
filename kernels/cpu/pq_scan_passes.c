/* The list-major scan's passes over lists: the sample that gives a query its first limit, the rows of a list
 * for all queries that probe it, and all lists of one query. */
#include "kernels/cpu/pq_scan_lists.h"
#include "kernels/page.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum {
    SAMPLE_ROWS = 128, /* of a query's first limit: at least so many, at least twice depth */
    SAMPLE_PAGES = SAMPLE_ROWS / SAC_PAGE_ROWS, /* of a list for it, at most */
    STEP_LEAST = 64, /* rows after which a limit is lowered: at least so many, at least twice depth */
};

/* ---- lists, page by page ---------------------------------------------------------------------------- */

/* Neighbouring pages of a list, and what belongs to their rows. */
struct neighbours {
    struct sac_pq_pages pages;
    const float *bias[SAC_TILE_PAGES];
    const uint32_t *slots[SAC_TILE_PAGES];
    uint64_t rows[SAC_TILE_PAGES]; /* those that there are */
};

/* What is done with them. */
typedef void pages_fn(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, void *context,
                      const struct neighbours *n);

/* Pages first..end-1 of a list, as many as there are; `next` will be looked at after those, or is NULL. What
 * comes ahead is taken to lie in one piece, as lists that were gathered do. */
static void walk_list(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, const sac_list *list,
                      uint32_t first, uint32_t end, const void *next, pages_fn *fn, void *context)
{
    const sac_list_pool *pool = &s->args->pool;
    const uint32_t *chain = pool->chains + list->first;
    uint32_t all = sac_page_count(list->row_count);
    struct neighbours n;

    end = all < end ? all : end;
    for (uint32_t i = first; i < end; i += n.pages.count) {
        n.pages.count = end - i < SAC_TILE_PAGES ? end - i : SAC_TILE_PAGES;
        for (uint32_t p = 0; p < n.pages.count; p++) {
            uint32_t left = list->row_count - (i + p) * SAC_PAGE_ROWS;
            unsigned char *page = pool->pages[chain[i + p]];

            n.pages.pages[p] = page;
            n.bias[p] = sac_page_bias(&pool->pq, page);
            n.slots[p] = sac_page_slots(&pool->pq, page);
            n.rows[p] = left >= SAC_PAGE_ROWS ? UINT64_MAX : (UINT64_C(1) << left) - 1;
        }
        n.pages.ahead = i + n.pages.count < end ? pool->pages[chain[i + n.pages.count]] : next;
        n.pages.ahead_bytes = n.pages.ahead != NULL ? SAC_TILE_PAGES * sac_page_bytes(&pool->pq) : 0;
        fn(s, w, context, &n);
    }
}

/* The first page of the list of a probe or part that comes next, or NULL. */
static const void *first_page(const sac_list_pool *pool, uint32_t list)
{
    return pool->lists[list].row_count > 0 ? pool->pages[pool->chains[pool->lists[list].first]] : NULL;
}

/* Of the rows of a mask those that query q may find. */
static uint64_t visible(const struct sac_tiles_scan *s, uint32_t q, const uint32_t *slots, uint64_t mask)
{
    const uint64_t *filter = s->args->filters != NULL ? s->args->filters[q] : NULL;

    if (filter == NULL)
        return mask;
    for (uint64_t left = mask; left != 0; left &= left - 1) {
        uint32_t row = (uint32_t)__builtin_ctzll(left), slot = slots[row];

        if (!(filter[slot / 64] >> slot % 64 & 1))
            mask &= ~(UINT64_C(1) << row);
    }
    return mask;
}

/* The limit of scores that base is added to: as little higher as rounding may take a distance that is the
 * query's limit. */
static float score_limit(const struct sac_tiles_scan *s, uint32_t q, float base)
{
    float limit = sac_tiles_limit(&s->queries[q]);

    return limit == -INFINITY ? limit : limit - base + 0x1p-22f * (fabsf(limit) + fabsf(base));
}

static struct sac_pq_numbers one_query(const struct sac_tiles_scan *s, uint32_t q)
{
    return (struct sac_pq_numbers){s->numbers + (size_t)q * s->levels.depth, &s->queries[q].levels.unit, 1,
                                   1};
}

/* ---- the first limit -------------------------------------------------------------------------------- */

/* Computed distances of the first rows of a query's nearest lists. */
struct sample {
    uint32_t query, count;
    float base;
};

static void sample_pages(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, void *context,
                         const struct neighbours *n)
{
    struct sample *sample = context;
    const float everything = INFINITY;
    const struct sac_pq_numbers query = one_query(s, sample->query);

    sac_pq_tiles_score(&s->levels, &query, &n->pages, n->bias, &everything, w->room);
    for (uint32_t p = 0; p < n->pages.count; p++) {
        uint64_t mask = visible(s, sample->query, n->slots[p], n->rows[p]);

        for (; mask != 0; mask &= mask - 1)
            w->distance[sample->count++] = sample->base + w->room->scores[p][0][__builtin_ctzll(mask)];
    }
}

/* What a sample that still wants so many rows will look at after probe p, or NULL: the next probe's page, or,
 * where it will have enough, the first of the next query. */
static const void *page_after(const struct sac_pq_scan_args *a, uint32_t q, uint32_t p, uint32_t want)
{
    const sac_probe *probes = a->probes + (size_t)q * a->probe_stride;

    if (p + 1 < a->probe_counts[q] && a->pool.lists[probes[p].list].row_count < want)
        return first_page(&a->pool, probes[p + 1].list);
    if (q + 1 < a->query_count && a->probe_counts[q + 1] > 0)
        return first_page(&a->pool, probes[a->probe_stride].list);
    return NULL;
}

/* Without it, lists come in no order, and a query would keep most of the first. */
static void set_first_limit(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, uint32_t q)
{
    const struct sac_pq_scan_args *a = s->args;
    const sac_probe *probes = a->probes + (size_t)q * a->probe_stride;
    uint32_t want = 2 * a->depths[q] > SAMPLE_ROWS ? 2 * a->depths[q] : SAMPLE_ROWS;
    struct sample sample = {.query = q};

    for (uint32_t p = 0; p < a->probe_counts[q] && sample.count < want; p++) {
        const void *next = page_after(a, q, p, want - sample.count);

        sample.base = probes[p].base + s->queries[q].levels.constant;
        walk_list(s, w, &a->pool.lists[probes[p].list], 0, SAMPLE_PAGES, next, sample_pages, &sample);
    }
    sac_tiles_lower_limit_from(s, w, q, sample.count);
}

static void start_query(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, uint32_t q)
{
    const struct sac_pq_scan_args *a = s->args;
    struct sac_tiles_query *query = &s->queries[q];

    assert(a->depths[q] >= 1 && a->depths[q] <= a->depth_stride);
    query->levels = sac_pq_levels_query(&s->levels, a->queries + (size_t)q * s->levels.components, a->scale,
                                        s->numbers + (size_t)q * s->levels.depth);
    query->limit = sac_tiles_limit_of(query->levels.fine ? NAN : -INFINITY);
    query->count = query->levels.fine ? 0 : s->capacity + 1;
    if (!query->levels.fine)
        return;
    memset(s->found + (size_t)q * s->capacity, 0xff, s->capacity * sizeof *s->found);
    set_first_limit(s, w, q);
}

void sac_tiles_start_queries(void *context, uint32_t task, uint32_t worker)
{
    const struct sac_tiles_scan *s = context;
    uint32_t q = task * SAC_TILES_STARTED, end = q + SAC_TILES_STARTED;

    sac_pq_tiles_begin(1);
    for (; q < end && q < s->args->query_count; q++)
        start_query(s, &s->workers[worker], q);
    sac_pq_tiles_end();
}

/* ---- rows of a list ---------------------------------------------------------------------------------- */

/* Queries that share decoded rows: limits are of scores, without what the pair's base and the query add. */
struct slab {
    const struct sac_tiles_pair *pairs;
    uint32_t count, group; /* queries; of a product */
    uint32_t staged;       /* rows of all of them */
    uint32_t counts[SAC_TILES_QUERIES];
    float units[SAC_TILES_QUERIES], bases[SAC_TILES_QUERIES], limits[SAC_TILES_QUERIES];
};

static void slab_make(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w,
                      const struct sac_tiles_pair *pairs, uint32_t count, struct slab *slab)
{
    size_t bytes = s->levels.depth;
    uint32_t groups = (count + SAC_TILE_QUERIES - 1) / SAC_TILE_QUERIES;

    slab->pairs = pairs;
    slab->count = count;
    slab->group = (count + groups - 1) / groups;
    slab->staged = 0;
    memset(slab->counts, 0, sizeof slab->counts);
    for (uint32_t i = 0; i < count; i++) {
        const struct sac_pq_level_query *levels = &s->queries[pairs[i].query].levels;

        memcpy(w->numbers + i * bytes, s->numbers + pairs[i].query * bytes, bytes);
        slab->units[i] = levels->unit;
        slab->bases[i] = pairs[i].base + levels->constant;
        slab->limits[i] = score_limit(s, pairs[i].query, slab->bases[i]);
    }
}

/* Gives the rows of a query of the slab places; returns the first, or capacity where there are too few. Their
 * memory was last seen lists ago, so it is asked for now. */
static uint32_t places_of(const struct sac_tiles_scan *s, const struct slab *slab, uint32_t i)
{
    uint32_t q = slab->pairs[i].query, n = slab->counts[i];
    uint32_t at = __atomic_fetch_add(&s->queries[q].count, n, __ATOMIC_RELAXED);

    if (n > s->capacity || at > s->capacity - n) {
        sac_tiles_lower_limit(&s->queries[q], -INFINITY); /* it is scanned again: no more of this */
        return s->capacity;
    }
    for (uint32_t e = 0; e < n; e += 64 / sizeof *s->found)
        __builtin_prefetch(s->found + (size_t)q * s->capacity + at + e, 1);
    return at;
}

/* Lowers the limit of a query of the slab where enough rows have come in, of which the last is before end. */
static void follow_limit(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, struct slab *slab,
                         uint32_t i, uint32_t end)
{
    uint32_t q = slab->pairs[i].query, depth = s->args->depths[q],
             step = 2 * depth > STEP_LEAST ? 2 * depth : STEP_LEAST;

    if (end <= s->capacity && (end - slab->counts[i]) / step != end / step)
        sac_tiles_refresh_limit(s, w, q, end);
    slab->limits[i] = score_limit(s, q, slab->bases[i]);
    slab->counts[i] = 0;
}

static void keep_staged(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, struct slab *slab)
{
    uint32_t places[SAC_TILES_QUERIES];

    for (uint32_t i = 0; i < slab->count; i++)
        places[i] = slab->counts[i] > 0 ? places_of(s, slab, i) : 0;
    for (uint32_t e = 0; e < slab->staged; e++) {
        const struct sac_tiles_staged *staged = &w->staged[e];
        uint32_t *place = &places[staged->query];

        if (*place < s->capacity)
            __atomic_store_n(s->found + (size_t)slab->pairs[staged->query].query * s->capacity + (*place)++,
                             sac_key(staged->distance, staged->slot), __ATOMIC_RELAXED);
    }
    for (uint32_t i = 0; i < slab->count; i++)
        if (slab->counts[i] > 0)
            follow_limit(s, w, slab, i, places[i]);
    slab->staged = 0;
}

/* Rows of a query that are not beyond its limit. */
static void stage_rows(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, struct slab *slab,
                       uint32_t i, const uint32_t *slots, const float *scores, uint64_t mask)
{
    mask = visible(s, slab->pairs[i].query, slots, mask);
    slab->counts[i] += (uint32_t)__builtin_popcountll(mask);
    for (; mask != 0; mask &= mask - 1) {
        uint32_t row = (uint32_t)__builtin_ctzll(mask);

        w->staged[slab->staged++] = (struct sac_tiles_staged){slab->bases[i] + scores[row], slots[row], i};
    }
}

static void scan_pages(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, void *context,
                       const struct neighbours *n)
{
    struct slab *slab = context;
    const struct sac_pq_numbers queries = {w->numbers, slab->units, slab->count, slab->group};

    sac_pq_tiles_score(&s->levels, &queries, &n->pages, n->bias, slab->limits, w->room);
    for (uint32_t p = 0; p < n->pages.count; p++)
        for (uint32_t i = 0; i < slab->count; i++) {
            uint64_t mask = w->room->masks[p][i] & n->rows[p];

            if (mask != 0)
                stage_rows(s, w, slab, i, n->slots[p], w->room->scores[p][i], mask);
            if (slab->staged > SAC_TILES_STAGED - SAC_PAGE_ROWS)
                keep_staged(s, w, slab);
        }
}

/* Item `item` of a list; `group` is for how many queries tiles are set up. */
static void scan_item(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w,
                      const struct sac_tiles_part *part, uint32_t item, uint32_t *group)
{
    uint32_t slabs = (part->pair_count + SAC_TILES_QUERIES - 1) / SAC_TILES_QUERIES;
    uint32_t each = (part->pair_count + slabs - 1) / slabs, begin = item * SAC_TILES_PAGES;
    const struct sac_tiles_part *last = s->parts + s->part_count - 1;
    const void *next = part < last ? first_page(&s->args->pool, part[1].list) : NULL;

    for (uint32_t first = 0; first < part->pair_count; first += each) {
        uint32_t left = part->pair_count - first;
        struct slab slab;

        slab_make(s, w, s->pairs + part->first_pair + first, left < each ? left : each, &slab);
        if (slab.group != *group)
            sac_pq_tiles_begin(*group = slab.group);
        walk_list(s, w, &s->args->pool.lists[part->list], begin, begin + SAC_TILES_PAGES, next, scan_pages,
                  &slab);
        keep_staged(s, w, &slab);
    }
}

/* The part that an item belongs to. */
static const struct sac_tiles_part *find_part(const struct sac_tiles_scan *s, uint32_t item)
{
    uint32_t low = 0, high = s->part_count - 1;

    while (low < high) { /* the last whose first item is not beyond; empty lists have none and lie before */
        uint32_t middle = low + (high - low + 1) / 2;

        if (s->parts[middle].first_item <= item)
            low = middle;
        else
            high = middle - 1;
    }
    return &s->parts[low];
}

void sac_tiles_scan_items(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, uint32_t first,
                          uint32_t end)
{
    const struct sac_tiles_part *part = find_part(s, first), *beyond = s->parts + s->part_count;
    uint32_t group = 0;

    for (uint32_t item = first; item < end; item++) {
        while (part + 1 < beyond && part[1].first_item <= item)
            part++;
        scan_item(s, w, part, item - part->first_item, &group);
    }
    sac_pq_tiles_end();
}

/* ---- a query by itself ------------------------------------------------------------------------------- */

/* What a query found in the lists that it has gone through: w->keys. */
struct alone {
    uint32_t query, count;
    float base;
};

static void alone_shrink(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w,
                         struct alone *alone)
{
    uint32_t depth = s->args->depths[alone->query];

    if (alone->count <= depth)
        return;
    sac_tiles_lower_limit(&s->queries[alone->query],
                          sac_key_distance(sac_keys_select(w->keys, alone->count, depth)));
    alone->count = depth;
}

static void alone_pages(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, void *context,
                        const struct neighbours *n)
{
    struct alone *alone = context;
    const float limit = score_limit(s, alone->query, alone->base);
    const struct sac_pq_numbers query = one_query(s, alone->query);

    if (alone->count > s->capacity - SAC_TILE_PAGES * SAC_PAGE_ROWS)
        alone_shrink(s, w, alone);
    sac_pq_tiles_score(&s->levels, &query, &n->pages, n->bias, &limit, w->room);
    for (uint32_t p = 0; p < n->pages.count; p++) {
        uint64_t mask = visible(s, alone->query, n->slots[p], w->room->masks[p][0] & n->rows[p]);

        for (; mask != 0; mask &= mask - 1) {
            uint32_t row = (uint32_t)__builtin_ctzll(mask);

            w->keys[alone->count++] = sac_key(alone->base + w->room->scores[p][0][row], n->slots[p][row]);
        }
    }
}

void sac_tiles_scan_alone(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, uint32_t q)
{
    const struct sac_pq_scan_args *a = s->args;
    const sac_probe *probes = a->probes + (size_t)q * a->probe_stride;
    struct alone alone = {.query = q};

    s->queries[q].limit = sac_tiles_limit_of(NAN);
    sac_pq_tiles_begin(1);
    for (uint32_t p = 0; p < a->probe_counts[q]; p++) {
        const sac_list *list = &a->pool.lists[probes[p].list];

        alone.base = probes[p].base + s->queries[q].levels.constant;
        walk_list(s, w, list, 0, UINT32_MAX, NULL, alone_pages, &alone);
    }
    sac_pq_tiles_end();
    alone_shrink(s, w, &alone);
    sac_keys_write(w->keys, alone.count, a->depths[q], a->out_distance + (size_t)q * a->depth_stride,
                   a->out_slot + (size_t)q * a->depth_stride);
}
