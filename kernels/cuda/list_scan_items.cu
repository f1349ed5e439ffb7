/* list_scan_items.cu -- the scan itself: blocks take work items - a piece of a list and up to 32 of its
 * queries - until none is left.
 *
 * Floors on an H200, 100 M rows in 50,000 lists, every list probed by r queries of the batch:
 *                                                        96 dims, 48 codes             768 dims, 96 codes
 *   bytes: codes and bias once, 4.3 TB/s                 1.2 ms                        2.3 ms
 *   products: 2 * r * dims a row, 790 TFLOP/s            0.02, 0.10, 0.39 ms           0.19, 0.78, 3.1 ms
 *   shared memory, list_scan_product.cuh: cycles a row   5.0, 5.0, 5.2                 25, 25, 26
 *     on 132 multiprocessors at 1.755 GHz                2.2, 2.2, 2.2 ms              10.7, 10.7, 11.3 ms
 *   lookups of bytes instead: 3 and 6 cycles a row, * r  1.3, 5.2, 21 ms               2.6, 10.4, 41 ms
 * (r = 1, 4, 16). So the bound is shared memory, nearly whatever r is up to 32, and the two schedules' floors
 * cross at r = 1.7 and 4.1. Predicted, not measured: 60 % of the floor here, a tenth more for the sample, 0.1
 * ms for the pairs and what list_scan_finish.cu says; so 4.6 ms for 10,000 queries of 64 probes (r = 12.8) at
 * 96 dimensions, 20 ms at 768; and a crossing at r = 2 to 3 and 5 to 6.
 *
 * nvcc 13.0, sm_90a: 128 registers, so 16 warps a multiprocessor; 4,224 bytes of shared memory and what the
 * shape says: 82,944 at 96 dimensions of 48 codes (two blocks of 8 warps), 192,512 at 768 of 96 (one of 16).
 * Spills: 20 to 80 bytes stored, 48 to 148 loaded, once a work item or a 64-row block but for up to 5 words
 * in the chunk loops of 32 queries, where 64 sums and 32 registers of queries and codes leave that few. */
#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/list_scan_product.cuh"

enum {
    RING = 4,         /* work items a block knows: left behind, at hand, arriving, being looked up */
    STAGED_FULL = 64, /* survivors that a warp sends on before it looks for more */
    PAGE_BLOCKS = SAC_PAGE_ROWS / SAC_BLOCK_ROWS,
};

/* A work item, in shared memory. */
struct item {
    uint32_t block, block_end;         /* 64-row blocks of the list */
    uint32_t taken;                    /* of them by warps so far */
    uint32_t rows;                     /* of the list */
    uint32_t pair_count;               /* 0: there is no more work */
    uint32_t numbers[SAC_LISTS_PAGES]; /* of its pages, from that of the first block on */
    unsigned char *pages[SAC_LISTS_PAGES];
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

static __device__ __forceinline__ unsigned char *codebook_buffer(const struct worker *w, uint32_t buffer)
{
    return w->shared + buffer * w->s->shape.codebook_bytes;
}

static __device__ __forceinline__ unsigned char *queries_buffer(const struct worker *w, uint32_t buffer)
{
    return w->shared + w->s->shape.queries_at + buffer * (SAC_LISTS_QUERIES * w->s->shape.query_bytes);
}

static __device__ __forceinline__ struct sac_lists_survivor *staged_survivors(const struct worker *w)
{
    return (struct sac_lists_survivor *)(w->shared + w->s->shape.staged_at) + sac_warp() * SAC_LISTS_STAGED;
}

/* ---- work items -------------------------------------------------------------------------------------- */

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

/* Warp: 64-row blocks [block, end) of a list, and where its pages are. */
static __device__ void item_rows(const struct worker *w, struct item *item, sac_list list, uint32_t block,
                                 uint32_t end)
{
    const sac_list_pool *pool = &w->s->a.pool;
    uint32_t page = block / PAGE_BLOCKS + sac_lane();

    if (page <= (end - 1) / PAGE_BLOCKS) {
        uint32_t number = pool->chains[list.first + page];

        item->numbers[sac_lane()] = number;
        item->pages[sac_lane()] = pool->pages[number];
    }
    if (sac_lane() == 0) {
        item->block = block;
        item->block_end = end;
        item->taken = 0;
        item->rows = list.row_count;
    }
}

/* Warp: the next work item nobody has taken. */
static __device__ void item_take(const struct worker *w, struct item *item)
{
    const struct sac_lists_pairs *p = w->p;
    uint32_t nlist = w->s->a.pool.nlist, groups = sac_lists_groups(nlist);
    uint32_t group, first, number, count, tiles, tile, block, piece, row_blocks, pieces;
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
    row_blocks = sac_lists_row_blocks(list.row_count, p->row_blocks);
    pieces = sac_lists_pieces(row_blocks, w->s->shape.item_blocks);
    block = row_blocks / pieces * piece + min(row_blocks % pieces, piece);
    item_rows(w, item, list, block, block + row_blocks / pieces + (piece < row_blocks % pieces));
    first = p->group_pairs[group] + p->cursors[number] - count + tile * SAC_LISTS_QUERIES;
    count = min(count - tile * SAC_LISTS_QUERIES, (uint32_t)SAC_LISTS_QUERIES);
    item_pairs(w, item, first, count);
    if (sac_lane() == 0)
        item->pair_count = count;
}

/* ---- slices ------------------------------------------------------------------------------------------ */

static __device__ __forceinline__ uint32_t slice_chunks(const struct sac_lists_shape *shape, uint32_t slice)
{
    return min(shape->slice_chunks, shape->chunks - slice * shape->slice_chunks);
}

/* Block: a slice of the codebook on its way to `to`. */
static __device__ void codebook_load(const struct worker *w, unsigned char *to, uint32_t slice)
{
    const unsigned char *from =
        (const unsigned char *)w->s->codebook + (size_t)slice * w->s->shape.codebook_bytes;
    uint32_t bytes = slice_chunks(&w->s->shape, slice) * sac_lists_chunk_bytes(w->s->a.pool.pq.nbits);

    for (uint32_t i = threadIdx.x * 16; i < bytes; i += blockDim.x * 16)
        sac_copy_async<16>(to + i, from + i);
}

/* Block: the same slice of the item's queries. */
static __device__ void queries_load(const struct worker *w, const struct item *item, unsigned char *to,
                                    uint32_t slice)
{
    const struct sac_lists_shape *shape = &w->s->shape;
    uint32_t pieces = slice_chunks(shape, slice) * (SAC_LISTS_CHUNK * 2 / 16);
    uint32_t row_bytes = shape->chunks * SAC_LISTS_CHUNK * 2,
             skipped = slice * shape->slice_chunks * SAC_LISTS_CHUNK * 2;

    for (uint32_t i = threadIdx.x; i < item->pair_count * pieces; i += blockDim.x) {
        uint32_t row = i / pieces, piece = i % pieces;
        size_t query = item->places[row] >> w->p->place_shift;

        sac_copy_async<16>(to + row * shape->query_bytes + piece * 16,
                           (const unsigned char *)w->s->queries + query * row_bytes + skipped + piece * 16);
    }
}

/* Block: starts loading what the stage after this one needs, where there is one: the item's next slice, or
 * the first of the item after it. A group either way. */
static __device__ void stage_load(const struct worker *w, const struct item *item, uint32_t slice,
                                  uint32_t buffer)
{
    if (item->pair_count > 0) {
        if (w->s->shape.slices > 1)
            codebook_load(w, codebook_buffer(w, buffer), slice);
        queries_load(w, item, queries_buffer(w, buffer), slice);
    }
    sac_copy_async_commit();
}

/* ---- what survives ----------------------------------------------------------------------------------- */

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
    uint32_t pair = survivor.where >> 16, page = survivor.where >> 8 & 255, line = survivor.where & 255;
    uint32_t query = item->places[pair], place;
    struct sac_lists_bound *bound = &s->bounds[query];
    float limit = sac_lists_limit_distance(*(const volatile uint32_t *)&bound->limit);
    struct sac_lists_candidate candidate;

    candidate.base = item->bases[pair];
    candidate.distance = survivor.distance + candidate.base;
    if (candidate.distance > limit) {
        w->limits[sac_warp()][pair] = item_limit(limit, candidate.base);
        return false;
    }
    candidate.position = item->numbers[page] * SAC_PAGE_ROWS + line;
    candidate.slot = __ldg(sac_page_slots(&s->a.pool.pq, item->pages[page]) + line);
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

/* Bias of rows 2 * lane and 2 * lane + 1 of a block: NaN past the end of the list, so that nothing comes of
 * them, and +inf where it is NaN, which orders as late as can be until the distance is computed again. */
static __device__ __forceinline__ float2 bias_load(const struct worker *w, const struct item *item,
                                                   uint32_t block)
{
    const unsigned char *page = item->pages[block / PAGE_BLOCKS - item->block / PAGE_BLOCKS];
    uint32_t row = block * SAC_BLOCK_ROWS + 2 * sac_lane();
    float2 bias = __ldg(
        (const float2 *)(page + sac_page_code_bytes(&w->s->a.pool.pq) + row % SAC_PAGE_ROWS * sizeof(float)));

    bias.x = bias.x == bias.x ? bias.x : __int_as_float(0x7f800000);
    bias.y = bias.y == bias.y ? bias.y : __int_as_float(0x7f800000);
    bias.x = row < item->rows ? bias.x : __int_as_float(0x7fffffff);
    bias.y = row + 1 < item->rows ? bias.y : __int_as_float(0x7fffffff);
    return bias;
}

/* Warp: keeps the block's rows that are within a query's limit. Which step of 8 rows and 4 queries is next is
 * kept outside of the unrolled loop, so that there is one place where survivors leave. */
template <uint32_t TILES>
static __device__ __forceinline__ void
survivors_keep(const struct worker *w, const struct item *item, uint32_t block,
               const struct sac_lists_sums<TILES> *sums, const float *bias)
{
    uint32_t g = sac_lane() / 4, t = sac_lane() % 4;
    uint32_t where = (block / PAGE_BLOCKS - item->block / PAGE_BLOCKS) << 8 |
                     (block % PAGE_BLOCKS * SAC_BLOCK_ROWS + 8 * g);

    for (uint32_t next = 0; next < 2 * TILES;) {
        uint32_t staged = 0;

#pragma unroll
        for (uint32_t step = 0; step < 2 * TILES; step++) {
            uint32_t pair = step / 2 * 8 + 2 * t + step % 2, mask = 0;
            float limit = w->limits[sac_warp()][pair], distances[8];

            if (step < next || staged > STAGED_FULL)
                continue;
            next = step + 1;
#pragma unroll
            for (uint32_t x = 0; x < 8; x++) {
                distances[x] = fmaf(w->s->a.scale, sums->at[x / 2][step / 2][x % 2 * 2 + step % 2], bias[x]);
                mask |= distances[x] <= limit ? 1u << x : 0;
            }
            if (!__any_sync(SAC_WARP_ALL, mask != 0))
                continue;
            if (mask != 0) {
                struct sac_lists_survivor *to =
                    staged_survivors(w) + atomicAdd(&w->staged_counts[sac_warp()], (uint32_t)__popc(mask));

#pragma unroll
                for (uint32_t x = 0; x < 8; x++) {
                    if (mask >> x & 1) {
                        to->distance = distances[x];
                        to->where = pair << 16 | (where + x);
                        to++;
                    }
                }
            }
            __syncwarp();
            staged = __shfl_sync(SAC_WARP_ALL, w->staged_counts[sac_warp()], 0);
        }
        if (staged > 0)
            staged_leave(w, item, staged);
    }
}

/* Warp: writes the block's distances into the queries' samples. */
template <uint32_t TILES>
static __device__ __forceinline__ void sample_keep(const struct worker *w, const struct item *item,
                                                   uint32_t block, const struct sac_lists_sums<TILES> *sums,
                                                   const float *bias)
{
    uint32_t g = sac_lane() / 4, t = sac_lane() % 4;

#pragma unroll
    for (uint32_t step = 0; step < 2 * TILES; step++) {
        uint32_t pair = step / 2 * 8 + 2 * t + step % 2, place;
        float distances[8], *to;

        place = pair < item->pair_count ? item->places[pair] : 0;
        if (block >= place % 32) /* of the list's head this query takes less, or there is no query */
            continue;
        to = w->s->sample + (size_t)(place / 32 + block) * SAC_BLOCK_ROWS + 8 * g;
#pragma unroll
        for (uint32_t x = 0; x < 8; x++)
            distances[x] = fmaf(w->s->a.scale, sums->at[x / 2][step / 2][x % 2 * 2 + step % 2], bias[x]) +
                           item->bases[pair];
        *(float4 *)to = make_float4(distances[0], distances[1], distances[2], distances[3]);
        *(float4 *)(to + 4) = make_float4(distances[4], distances[5], distances[6], distances[7]);
    }
}

/* ---- scanning ---------------------------------------------------------------------------------------- */

/* Warp: the next 64-row block of the item for it, block_end where there is none. */
static __device__ __forceinline__ uint32_t block_take(struct item *item)
{
    uint32_t taken = 0;

    if (sac_lane() == 0)
        taken = atomicAdd(&item->taken, 1u);
    return min(item->block + __shfl_sync(SAC_WARP_ALL, taken, 0), item->block_end);
}

static __device__ __forceinline__ const unsigned char *block_codes(const struct worker *w,
                                                                   const struct item *item, uint32_t block)
{
    const sac_pq_shape *pq = &w->s->a.pool.pq;

    return item->pages[block / PAGE_BLOCKS - item->block / PAGE_BLOCKS] +
           sac_page_block(pq, block % PAGE_BLOCKS * SAC_BLOCK_ROWS);
}

/* Warp: the sums of a block are complete. */
template <uint32_t TILES>
static __device__ __forceinline__ void block_finish(const struct worker *w, const struct item *item,
                                                    uint32_t block, const struct sac_lists_sums<TILES> *sums)
{
    float2 pair = bias_load(w, item, block);
    float bias[8];

#pragma unroll
    for (uint32_t x = 0; x < 8; x++)
        bias[x] = __shfl_sync(SAC_WARP_ALL, x % 2 == 0 ? pair.x : pair.y, (int)(sac_lane() / 4 * 4 + x / 2));
    if (w->sampling)
        sample_keep<TILES>(w, item, block, sums, bias);
    else
        survivors_keep<TILES>(w, item, block, sums, bias);
}

/* What a warp multiplies: where in the item it is, and the codes that are on their way. */
template <uint32_t WIDTH> struct place {
    struct sac_lists_codes codes;
    struct sac_lists_lane_codes<WIDTH> ahead;
};

template <uint32_t WIDTH>
static __device__ __forceinline__ void block_start(const struct worker *w, const struct item *item,
                                                   uint32_t block, struct place<WIDTH> *place)
{
    if (block < item->block_end) {
        place->codes.block = block_codes(w, item, block);
        sac_lists_codes_load<WIDTH>(&place->ahead, &place->codes, 0);
    }
}

/* Warp: takes over an item's limits. */
static __device__ __forceinline__ void limits_copy(const struct worker *w, const struct item *item)
{
    __syncwarp();
    w->limits[sac_warp()][sac_lane()] = item->limits[sac_lane()];
    __syncwarp();
}

/* Warp: adds chunks [first, end) of a block's rows and the item's queries, which lie in the buffers. */
template <uint32_t WIDTH, uint32_t TILES>
static __device__ __forceinline__ void
slice_multiply(const struct worker *w, struct place<WIDTH> *place, uint32_t first, uint32_t end,
               const unsigned char *codebook, const unsigned char *queries,
               struct sac_lists_sums<TILES> *sums)
{
    uint32_t nbits = place->codes.nbits;

    for (uint32_t chunk = first; chunk < end; chunk++) {
        struct sac_lists_lane_codes<WIDTH> now = place->ahead;

        if (chunk + 1 < w->s->shape.chunks)
            sac_lists_codes_load<WIDTH>(&place->ahead, &place->codes, chunk + 1);
        if (nbits == 4)
            sac_lists_codes_split<WIDTH>(&now, &place->codes, chunk);
        chunk_product<WIDTH, TILES>(sums, codebook, nbits, &now, queries, w->s->shape.query_bytes);
        codebook += sac_lists_chunk_bytes(nbits);
        queries += SAC_LISTS_CHUNK * 2;
    }
}

/* Block: one work item, with the codebook and its queries in shared memory: warps take its 64-row blocks as
 * they come. Meanwhile the queries of the item `after` arrive, and the first warp finds out what is `later`.
 */
template <uint32_t WIDTH, uint32_t TILES>
static __device__ __forceinline__ void item_scan(const struct worker *w, struct item *item,
                                                 const struct item *after, struct item *later, uint32_t stage)
{
    const sac_pq_shape *pq = &w->s->a.pool.pq;
    struct place<WIDTH> place = {
        {NULL, pq->m, pq->nbits, w->s->shape.parts},
        {
        }
    };
    uint32_t block = block_take(item);

    limits_copy(w, item);
    block_start<WIDTH>(w, item, block, &place);
    stage_load(w, after, 0, (stage + 1) % 2);
    sac_copy_async_wait<1>();
    __syncthreads();
    if (sac_warp() == 0)
        item_take(w, later);
    while (block < item->block_end) {
        struct sac_lists_sums<TILES> sums = {
        };
        uint32_t finished = block;

        slice_multiply<WIDTH, TILES>(w, &place, 0, w->s->shape.chunks, codebook_buffer(w, 0),
                                     queries_buffer(w, stage % 2), &sums);
        block = block_take(item);
        block_start<WIDTH>(w, item, block, &place);
        block_finish<TILES>(w, item, finished, &sums);
    }
    __syncthreads();
}

/* Block: one work item, while the codebook passes through shared memory in slices: each warp keeps the sums
 * of the one 64-row block that is its own. *stage counts slices. */
template <uint32_t WIDTH, uint32_t TILES>
static __device__ __forceinline__ void item_stream(const struct worker *w, struct item *item,
                                                   const struct item *after, struct item *later,
                                                   uint32_t *stage)
{
    const struct sac_lists_shape *shape = &w->s->shape;
    const sac_pq_shape *pq = &w->s->a.pool.pq;
    struct place<WIDTH> place = {
        {NULL, pq->m, pq->nbits, shape->parts},
        {
        }
    };
    struct sac_lists_sums<TILES> sums = {
    };
    uint32_t block = item->block + sac_warp();

    if (sac_warp() == 0)
        item_take(w, later);
    limits_copy(w, item);
    block_start<WIDTH>(w, item, block, &place);
    for (uint32_t slice = 0; slice < shape->slices; slice++, ++*stage) {
        uint32_t buffer = *stage % 2, first = slice * shape->slice_chunks;

        stage_load(w, slice + 1 < shape->slices ? item : after, slice + 1 < shape->slices ? slice + 1 : 0,
                   buffer ^ 1);
        sac_copy_async_wait<1>();
        __syncthreads();
        if (block < item->block_end)
            slice_multiply<WIDTH, TILES>(w, &place, first, first + slice_chunks(shape, slice),
                                         codebook_buffer(w, buffer), queries_buffer(w, buffer), &sums);
        __syncthreads();
    }
    if (block < item->block_end)
        block_finish<TILES>(w, item, block, &sums);
}

template <uint32_t WIDTH, uint32_t TILES, bool STREAMED>
static __device__ __forceinline__ void item_do(const struct worker *w, struct item *item,
                                               const struct item *after, struct item *later, uint32_t *stage)
{
    if (STREAMED)
        item_stream<WIDTH, TILES>(w, item, after, later, stage);
    else
        item_scan<WIDTH, TILES>(w, item, after, later, (*stage)++);
}

/* WIDTH: components that a lookup brings. STREAMED: the codebook does not fit into shared memory. */
template <uint32_t WIDTH, bool STREAMED>
static __global__ void __launch_bounds__(SAC_LISTS_WARPS * 32, 1)
    scan_items(const __grid_constant__ struct sac_lists_scan s, const bool sampling)
{
    __shared__ struct item items[RING];
    __shared__ uint32_t staged_counts[SAC_LISTS_WARPS];
    __shared__ float limits[SAC_LISTS_WARPS][SAC_LISTS_QUERIES];
    SAC_SHARED_DYNAMIC(unsigned char, shared);
    struct worker w;
    uint32_t stage = 0, at = 0;

    w.s = &s;
    w.p = sampling ? &s.sampled : &s.all;
    w.sampling = sampling;
    w.shared = shared;
    w.staged_counts = staged_counts;
    w.limits = limits;
    if (sac_lane() == 0)
        staged_counts[sac_warp()] = 0;
    if (sac_warp() == 0) {
        item_take(&w, &items[0]);
        item_take(&w, &items[1]);
    }
    if (!STREAMED)
        codebook_load(&w, shared, 0);
    __syncthreads();
    stage_load(&w, &items[0], 0, 0);
    for (; items[at].pair_count > 0; at = (at + 1) % RING) {
        struct item *item = &items[at], *after = &items[(at + 1) % RING], *later = &items[(at + 2) % RING];

        if (item->pair_count <= 8)
            item_do<WIDTH, 1, STREAMED>(&w, item, after, later, &stage);
        else if (item->pair_count <= 16)
            item_do<WIDTH, 2, STREAMED>(&w, item, after, later, &stage);
        else
            item_do<WIDTH, 4, STREAMED>(&w, item, after, later, &stage);
    }
    sac_copy_async_wait<0>();
}

template <uint32_t WIDTH, bool STREAMED>
static cudaError_t scan_launch(const struct sac_lists_scan *s, bool sampling, uint32_t multiprocessors,
                               cudaStream_t stream)
{
    cudaError_t error = sac_launch_shared(scan_items<WIDTH, STREAMED>, s->shape.shared_bytes);

    if (error != cudaSuccess)
        return error;
    return SAC_LAUNCH((scan_items<WIDTH, STREAMED>), multiprocessors * s->shape.blocks, s->shape.warps * 32,
                      s->shape.shared_bytes, stream, *s, sampling);
}

template <uint32_t WIDTH>
static cudaError_t scan(const struct sac_lists_scan *s, bool sampling, uint32_t multiprocessors,
                        cudaStream_t stream)
{
    return s->shape.slices > 1 ? scan_launch<WIDTH, true>(s, sampling, multiprocessors, stream)
                               : scan_launch<WIDTH, false>(s, sampling, multiprocessors, stream);
}

cudaError_t sac_lists_scan_items(const struct sac_lists_scan *s, bool sampling, uint32_t multiprocessors,
                                 cudaStream_t stream)
{
    return s->shape.width == 2   ? scan<2>(s, sampling, multiprocessors, stream)
           : s->shape.width == 4 ? scan<4>(s, sampling, multiprocessors, stream)
                                 : scan<8>(s, sampling, multiprocessors, stream);
}
