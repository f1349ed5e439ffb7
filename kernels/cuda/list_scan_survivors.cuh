/* list_scan_survivors.cuh -- what becomes of a page's sums: rows of a sample, or survivors, which are within
 * the limit of their query and wait with others of the warp's until they leave for the query's candidates.
 * For list_scan_items.cu alone.
 *
 * A query's filter is asked here, row by row of what survives, and not before the product: its bits are by
 * slot, anywhere, and most rows never come so far. So a row that the query may not find costs as much as
 * any other, and where the filter keeps one row in f, a limit that `depth` of its rows have made lets about f
 * times as many survivors through, each of them 4 bytes of slot and 8 of filter (two sectors of 32 bytes).
 * Where a sample of 1024 rows holds fewer than `depth` of them, f above 10 for a depth of 100, there is no
 * limit until so many candidates have come, and all rows till then are survivors. */
#ifndef SACCADE_CUDA_LIST_SCAN_SURVIVORS_CUH
#define SACCADE_CUDA_LIST_SCAN_SURVIVORS_CUH

#include "kernels/cuda/list_scan_item.cuh"
#include "kernels/cuda/list_scan_product.cuh"

enum { STAGED_FULL = 64 }; /* survivors that a warp sends on before it looks for more */

static __device__ __forceinline__ struct sac_lists_survivor *staged_survivors(const struct worker *w)
{
    return (struct sac_lists_survivor *)(w->shared + w->s->shape.staged_at) + sac_warp() * SAC_LISTS_STAGED;
}

/* Warp: lowers the limit of a query to what its histogram says by now. */
static __device__ void limit_lower(const struct sac_lists_scan *s, uint32_t query)
{
    struct sac_lists_bound *bound = &s->bounds[query];
    uint32_t bin = sac_lists_crossing(s->histograms + (size_t)query * SAC_LISTS_BINS, s->a.depths[query]);

    if (sac_lane() == 0 && bin < SAC_LISTS_BINS)
        atomicMin(&bound->limit, sac_lists_edge(bound, bin));
}

/* One survivor becomes a candidate, unless its query's limit has fallen below it meanwhile or its query may
 * not find it. Returns true where it is time to lower the limit. */
static __device__ bool candidate_add(const struct worker *w, const struct item *item,
                                     struct sac_lists_survivor survivor)
{
    const struct sac_lists_scan *s = w->s;
    uint32_t pair = survivor.where >> 16, row = survivor.where & 0xffff;
    uint32_t page = row / SAC_PAGE_ROWS, line = row % SAC_PAGE_ROWS, query = item->places[pair], place;
    const sac_list_pool *pool = &s->a.pool;
    struct sac_lists_bound *bound = &s->bounds[query];
    float limit = sac_lists_limit_distance(*(const volatile uint32_t *)&bound->limit);
    struct sac_lists_candidate candidate;

    candidate.base = item->bases[pair];
    candidate.distance = survivor.distance + candidate.base;
    if (candidate.distance > limit) {
        w->limits[sac_warp()][pair] = item_limit(limit, candidate.base);
        return false;
    }
    candidate.position = __ldg(pool->chains + item->list.first + item->first + page) * SAC_PAGE_ROWS + line;
    candidate.slot = __ldg(sac_page_slots(&pool->pq, item->pages[page]) + line);
    if (!sac_lists_passes(sac_lists_filter(s, query), candidate.slot))
        return false;
    atomicAdd(&s->histograms[(size_t)query * SAC_LISTS_BINS + sac_lists_bin(bound, candidate.distance)], 1u);
    place = atomicAdd(&bound->count, 1u);
    if (place < s->shape.capacity)
        s->candidates[(size_t)query * s->shape.capacity + place] = candidate;
    return (place + 1) % s->shape.refresh == 0;
}

/* Warp: what is staged leaves for the queries' candidates. */
static __device__ void staged_leave(const struct worker *w, const struct item *item, uint32_t count)
{
    const struct sac_lists_survivor *staged = staged_survivors(w);

    for (uint32_t first = 0; first < count; first += 32) {
        uint32_t i = first + sac_lane(), query = 0, lowering;
        bool due = false;

        if (i < count) {
            due = candidate_add(w, item, staged[i]);
            query = item->places[staged[i].where >> 16];
        }
        for (lowering = __ballot_sync(SAC_WARP_ALL, due); lowering != 0; lowering &= lowering - 1)
            limit_lower(w->s, __shfl_sync(SAC_WARP_ALL, query, __ffs((int)lowering) - 1));
    }
    __syncwarp();
    if (sac_lane() == 0)
        w->staged_counts[sac_warp()] = 0;
    __syncwarp();
}

/* Bias of rows 2 * lane and 2 * lane + 1 of a page: NaN past the end of the list, so that nothing comes of
 * them, and +inf where it is NaN, which orders as late as can be until the distance is computed again. */
static __device__ __forceinline__ float2 bias_load(const struct worker *w, const struct item *item,
                                                   uint32_t page)
{
    uint32_t row = page * SAC_PAGE_ROWS + 2 * sac_lane();
    float2 bias =
        __ldg((const float2 *)(const void *)sac_page_bias(&w->s->a.pool.pq, item->pages[page - item->first]) +
              sac_lane());

    bias.x = bias.x == bias.x ? bias.x : __int_as_float(0x7f800000);
    bias.y = bias.y == bias.y ? bias.y : __int_as_float(0x7f800000);
    bias.x = row < item->list.row_count ? bias.x : __int_as_float(0x7fffffff);
    bias.y = row + 1 < item->list.row_count ? bias.y : __int_as_float(0x7fffffff);
    return bias;
}

/* Warp: the bias of eight rows of the page from `row` on, which is the lane's own choice. */
static __device__ __forceinline__ void bias_spread(float2 bias, uint32_t row, float *of_rows)
{
#pragma unroll
    for (uint32_t x = 0; x < 8; x++)
        of_rows[x] = __shfl_sync(SAC_WARP_ALL, x % 2 == 0 ? bias.x : bias.y, (int)((row + x) / 2));
}

/* Lane: those of a step's eight rows whose bits are set wait as survivors of the query `pair`. */
static __device__ __forceinline__ void survivors_stage(const struct worker *w, const float *distances,
                                                       uint32_t mask, uint32_t where)
{
    struct sac_lists_survivor *to =
        staged_survivors(w) + atomicAdd(&w->staged_counts[sac_warp()], (uint32_t)__popc(mask));

#pragma unroll
    for (uint32_t x = 0; x < 8; x++) {
        if (mask >> x & 1) {
            to->distance = distances[x];
            to->where = where + x;
            to++;
        }
    }
}

/* Warp: keeps the page's rows that are within a query's limit. Which step is next is kept outside of the
 * unrolled loop, so that there is one place where survivors leave. */
template <uint32_t TILES>
static __device__ __forceinline__ void survivors_keep(const struct worker *w, const struct item *item,
                                                      uint32_t page, const struct sac_lists_sums<TILES> *sums,
                                                      float2 bias)
{
    uint32_t where = (page - item->first) * SAC_PAGE_ROWS;

    for (uint32_t next = 0; next < 4 * TILES;) {
        uint32_t staged = 0;
        float of_rows[8];

#pragma unroll
        for (uint32_t step = 0; step < 4 * TILES; step++) {
            uint32_t pair = sac_lists_step_query<TILES>(step), row = sac_lists_step_row<TILES>(step),
                     mask = 0;
            float limit, distances[8];

            if (step % (2 * TILES) == 0)
                bias_spread(bias, row, of_rows);
            if (step < next || staged > STAGED_FULL)
                continue;
            next = step + 1;
            limit = w->limits[sac_warp()][pair];
#pragma unroll
            for (uint32_t x = 0; x < 8; x++) {
                distances[x] = fmaf(w->s->a.scale, sac_lists_step_sum<TILES>(sums, step, x), of_rows[x]);
                mask |= distances[x] <= limit ? 1u << x : 0;
            }
            if (!__any_sync(SAC_WARP_ALL, mask != 0))
                continue;
            if (mask != 0)
                survivors_stage(w, distances, mask, pair << 16 | (where + row));
            __syncwarp();
            staged = __shfl_sync(SAC_WARP_ALL, w->staged_counts[sac_warp()], 0);
        }
        if (staged > 0)
            staged_leave(w, item, staged);
    }
}

/* Warp: writes the page's distances into the queries' samples. */
template <uint32_t TILES>
static __device__ __forceinline__ void sample_keep(const struct worker *w, const struct item *item,
                                                   uint32_t page, const struct sac_lists_sums<TILES> *sums,
                                                   float2 bias)
{
    float of_rows[8];

#pragma unroll
    for (uint32_t step = 0; step < 4 * TILES; step++) {
        uint32_t pair = sac_lists_step_query<TILES>(step), row = sac_lists_step_row<TILES>(step), place;
        float distances[8], *to;

        if (step % (2 * TILES) == 0)
            bias_spread(bias, row, of_rows);
        place = pair < item->pair_count ? item->places[pair] : 0;
        if (page >= place % 32) /* of the list's head this query takes less, or there is no query */
            continue;
        to = w->s->sample + (size_t)(place / 32 + page) * SAC_PAGE_ROWS + row;
#pragma unroll
        for (uint32_t x = 0; x < 8; x++)
            distances[x] =
                fmaf(w->s->a.scale, sac_lists_step_sum<TILES>(sums, step, x), of_rows[x]) + item->bases[pair];
        *(float4 *)to = make_float4(distances[0], distances[1], distances[2], distances[3]);
        *(float4 *)(to + 4) = make_float4(distances[4], distances[5], distances[6], distances[7]);
    }
}

#endif
