/* list_scan_item.cuh -- a work item of the list-major scan: a piece of a list and up to 32 of the queries
 * that probe it. Which is next is found by two binary searches in the sums of list_scan_pairs.cu, by one
 * warp. For list_scan_items.cu alone. */
#ifndef SACCADE_CUDA_LIST_SCAN_ITEM_CUH
#define SACCADE_CUDA_LIST_SCAN_ITEM_CUH

#include "kernels/cuda/list_scan.cuh"
#include "kernels/cuda/warp.cuh"

/* A work item, in shared memory. */
struct item {
    uint32_t first, end; /* pages of the list */
    uint32_t taken;      /* of them by warps so far */
    sac_list list;
    uint32_t pair_count;                   /* 0: there is no more work */
    unsigned char *pages[SAC_LISTS_PIECE]; /* from the first on */
    uint32_t places[SAC_LISTS_QUERIES];
    float bases[SAC_LISTS_QUERIES];
    float limits[SAC_LISTS_QUERIES]; /* of distances without their base; NaN where there is no query */
};

/* What a thread of a scanning block works with. */
struct worker {
    const struct sac_lists_scan *s;
    const struct sac_lists_pairs *p;
    bool sampling;
    unsigned char *shared;              /* dynamic shared memory, laid out by the shape */
    uint32_t *staged_counts;            /* [warps], 0 between uses */
    float (*limits)[SAC_LISTS_QUERIES]; /* [warps]: the item's, as each warp lowers them */
};

/* Warp: the last of n ascending starts that is at most x; the first is. */
static __device__ uint32_t last_start(const unsigned long long *starts, uint32_t n, unsigned long long x)
{
    uint32_t low = 0, high = n;

    while (high - low > 1) {
        uint32_t step = (high - low + 31) / 32, at = low + sac_lane() * step;
        uint32_t before = __ballot_sync(SAC_WARP_ALL, at < high && starts[at] <= x);

        low += ((uint32_t)__popc(before) - 1) * step;
        high = low + step < high ? low + step : high;
    }
    return low;
}

/* A limit of distances without their base; what the difference loses in rounding must not cost a row. */
static __device__ __forceinline__ float item_limit(float limit, float base)
{
    return (limit - base) + 0x1p-21f * (fabsf(limit) + fabsf(base));
}

/* Warp: queries, bases and limits of `count` pairs from `first` on. */
static __device__ void item_pairs(const struct worker *w, struct item *item, size_t first, uint32_t count)
{
    uint32_t lane = sac_lane();
    float limit = __int_as_float(0x7fffffff);

    if (lane < count) {
        struct sac_lists_pair pair = w->p->pairs[first + lane];

        item->places[lane] = pair.place;
        item->bases[lane] = pair.base;
        if (!w->sampling) {
            const volatile uint32_t *known = &w->s->bounds[pair.place].limit;

            limit = item_limit(sac_lists_limit_distance(*known), pair.base);
        }
    }
    item->limits[lane] = limit;
}

/* Warp: pages [first, end) of a list, and where they are. */
static __device__ void item_pages(const struct worker *w, struct item *item, sac_list list, uint32_t first,
                                  uint32_t end)
{
    const sac_list_pool *pool = &w->s->a.pool;

    if (first + sac_lane() < end)
        item->pages[sac_lane()] = pool->pages[pool->chains[list.first + first + sac_lane()]];
    if (sac_lane() == 0) {
        item->first = first;
        item->end = end;
        item->taken = 0;
        item->list = list;
    }
}

/* Warp: the next work item nobody has taken. */
static __device__ void item_take(const struct worker *w, struct item *item)
{
    const struct sac_lists_pairs *p = w->p;
    uint32_t nlist = w->s->a.pool.nlist, groups = sac_lists_groups(nlist);
    uint32_t group, first, number, count, tiles, tile, page, piece, pages, pieces;
    unsigned long long index = 0;
    sac_list list;

    if (sac_lane() == 0)
        index = atomicAdd(p->next, 1ull);
    index = __shfl_sync(SAC_WARP_ALL, index, 0);
    if (index >= p->group_items[groups]) {
        if (sac_lane() == 0)
            item->pair_count = 0;
        return;
    }
    group = last_start(p->group_items, groups, index);
    index -= p->group_items[group];
    first = group * SAC_LISTS_GROUP;
    number = first + last_start(p->items + first, min(nlist - first, (uint32_t)SAC_LISTS_GROUP), index);
    index -= p->items[number];
    list = w->s->a.pool.lists[number];
    count = p->counts[number];
    tiles = (count + SAC_LISTS_QUERIES - 1) / SAC_LISTS_QUERIES;
    tile = (uint32_t)index % tiles; /* neighbours share a piece: its codes come from the second-level cache */
    piece = (uint32_t)index / tiles;
    pages = sac_lists_pages(list.row_count, p->pages);
    pieces = sac_lists_pieces(pages, w->s->shape.item_pages);
    page = pages / pieces * piece + min(pages % pieces, piece);
    item_pages(w, item, list, page, page + pages / pieces + (piece < pages % pieces));
    first = p->group_pairs[group] + p->cursors[number] - count + tile * SAC_LISTS_QUERIES;
    count = min(count - tile * SAC_LISTS_QUERIES, (uint32_t)SAC_LISTS_QUERIES);
    item_pairs(w, item, first, count);
    if (sac_lane() == 0)
        item->pair_count = count;
}

#endif
