/* pq_scan_queries.cu -- the scan for few queries a list: each query looks its lists' codes up in its table.
 *
 *   tables f32 [query_count][m][2^nbits], probes, lists in pages in
 *   out_distance f32, out_slot u32 [query_count][depth_stride]      twin: ref/pq_scan.c
 */
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pq_rounding.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/page.h"

#include <assert.h>

enum {
    THREADS = 512,
    WARPS = THREADS / 32,
    LANE_ROWS = 4,                   /* entries of a lane: a 32-bit load of codes */
    CHUNK_ROWS = 32 * LANE_ROWS,     /* of a warp: half a page */
    ROUND_ROWS = WARPS * CHUNK_ROWS, /* of a block, between two looks at its reservoir */
    ROOM = 1024,                     /* further places, so that making room is rare */
    AHEAD = 12,                      /* loads of codes that a lane has in flight, */
    AHEAD_ALONE = 24,                /* and with one block on a multiprocessor */
    GROUP = 32,                      /* candidates that share a minimum */
    TILE_QUERIES = 1024,             /* of one pair of launches: bounds the scratch */
    BLOCKS_PER_PROCESSOR = 4,        /* two at a time: the others make up for lists of different length */
    AT_ONCE = 4,                     /* keys of a thread of the second kernel in flight */
    FINISH_ROUND = AT_ONCE * THREADS,
    FINISH_ROOM = 4096, /* further places there, up to a keep of: */
    FINISH_ROOM_KEEP = 1024,
    EXACT_LANES = 8,                                   /* that share the exact distance of a candidate */
    EXACT_TOGETHER = 4,                                /* candidates whose loads they have in flight */
    PLACE_BYTES = sizeof(uint64_t) + sizeof(uint32_t), /* of a reservoir: key and position */
    SHARED_UNASKED = 36 * 1024,                        /* dynamic bytes granted to all */
    SHARED_STATIC = 10 * 1024,                         /* static bytes, at most */
};

/* What both kernels are told. Scratch counts queries from `first` on. */
struct scan {
    struct sac_pq_scan_args a;
    size_t first;        /* query of the tile */
    uint32_t tile;       /* queries of a tile, at most */
    uint32_t split;      /* blocks of a query */
    uint32_t places;     /* candidates that a block hands on, at most: a multiple of GROUP */
    uint32_t capacity;   /* of a block's reservoir */
    uint32_t *positions; /* [tile][split][places], beside keys */
    bool rounded;        /* candidates' distances are those of rounded tables */
    uint64_t *keys;      /* [tile][split][places]: (distance, position); groups in use are filled up */
    uint64_t *minima;    /* [tile][places / GROUP][split]: the least of each group; NONE: not in use */
    float *rounding;     /* [tile][m + 1]: the unit, then low[] */
};

/* Candidates that are looked at again: rounding moves the order of nearby entries, and by how many places
 * grows with the number of places. */
static __host__ __device__ __forceinline__ uint32_t kept(uint32_t depth)
{
    return depth + depth / 8 + 16;
}

/* Shared bytes of a rounded table and its low[]: the reservoir's keys follow. */
static __host__ __device__ __forceinline__ size_t table_bytes(const struct scan *s)
{
    const sac_pq_shape *pq = &s->a.pool.pq;

    return s->rounded ? sac_levels_bytes(pq->m, pq->nbits) + (pq->m + pq->m % 2) * sizeof(float) : 0;
}

/* ---- which rows: probes in windows, chunks of their lists --------------------------------------------- */

/* Up to THREADS of a query's probes. Chunks are counted through all lists of the query, nearest first, and
 * dealt out to its blocks one by one, so that each gets its share of the nearest lists and finds a good
 * threshold at once. */
struct window {
    uint32_t starts[THREADS]; /* chunks before this probe */
    uint32_t first[THREADS], rows[THREADS];
    float base[THREADS];
    uint32_t sums[WARPS];
};

struct chunk {
    unsigned char *page;
    uint32_t position; /* of its first entry */
    uint32_t rows;     /* 1..CHUNK_ROWS */
    float base;
};

/* Block: probes p .. p + THREADS - 1; `before` is the number of chunks before them. Returns the number of
 * chunks up to their end. Starts and ends with a barrier. */
static __device__ __forceinline__ uint32_t window_fill(struct window *w, sac_probe probe, sac_list list,
                                                       uint32_t before)
{
    uint32_t chunks = list.row_count / CHUNK_ROWS + (list.row_count % CHUNK_ROWS != 0), sum, all = 0;
    uint32_t start = sac_warp_prefix(chunks, &sum) + before;

    __syncthreads();
    if (sac_lane() == 0)
        w->sums[sac_warp()] = sum;
    w->first[threadIdx.x] = list.first;
    w->rows[threadIdx.x] = list.row_count;
    w->base[threadIdx.x] = probe.base;
    __syncthreads();
    sum = sac_lane() < WARPS ? w->sums[sac_lane()] : 0;
    sum = sac_warp_prefix(sum, &all);
    w->starts[threadIdx.x] = start + __shfl_sync(SAC_WARP_ALL, sum, (int)sac_warp());
    __syncthreads();
    return before + all;
}

/* Warp: the last probe of the window that starts at or before chunk c. */
static __device__ __forceinline__ uint32_t window_find(const struct window *w, uint32_t c)
{
    const uint32_t stride = THREADS / 32;
    uint32_t coarse = (uint32_t)__popc(__ballot_sync(SAC_WARP_ALL, w->starts[sac_lane() * stride] <= c)) - 1;
    bool before = sac_lane() < stride && w->starts[coarse * stride + sac_lane() % stride] <= c;

    return coarse * stride + (uint32_t)__popc(__ballot_sync(SAC_WARP_ALL, before)) - 1;
}

/* Warp: where chunk c is. */
static __device__ __forceinline__ struct chunk chunk_locate(const sac_list_pool *pool, const struct window *w,
                                                            uint32_t c)
{
    uint32_t p = window_find(w, c), row = (c - w->starts[p]) * CHUNK_ROWS, left = w->rows[p] - row;
    uint32_t page = __ldg(pool->chains + w->first[p] + row / SAC_PAGE_ROWS);
    struct chunk chunk;

    chunk.page = pool->pages[page];
    chunk.position = page * SAC_PAGE_ROWS + row % SAC_PAGE_ROWS;
    chunk.rows = left < CHUNK_ROWS ? left : CHUNK_ROWS;
    chunk.base = w->base[p];
    return chunk;
}

/* ---- distances ------------------------------------------------------------------------------------------
 */

/* The levels of what one load of codes holds: of one sub-quantizer, or of two with 4 bits. It is load t of
 * the group whose rows start at byte `group` of the levels. */
template <uint32_t NBITS, class L>
static __device__ __forceinline__ void codes_add(const L *levels, uint32_t group, uint32_t t, uint32_t codes,
                                                 uint32_t *sums)
{
    const uint32_t row_bytes = sizeof(L) << NBITS;

    if constexpr (NBITS == 4) {
        sac_levels_add<NBITS>(levels, group, 2 * t * row_bytes, codes, sums);
        sac_levels_add<NBITS>(levels, group, (2 * t + 1) * row_bytes, codes >> 4, sums);
    } else {
        sac_levels_add<NBITS>(levels, group, t * row_bytes, codes, sums);
    }
}

static __device__ __forceinline__ uint32_t codes_load(const unsigned char *codes, uint32_t t)
{
    return __ldg((const uint32_t *)(const void *)(codes + t * SAC_BLOCK_ROWS));
}

/* The sums of levels of a lane's 4 entries, whose codes start at `codes`. As soon as a load has been used the
 * one AHEAD of it is asked for. */
template <uint32_t NBITS, uint32_t AHEAD, class L>
static __device__ __forceinline__ void levels_sum(const L *levels, uint32_t m, const unsigned char *codes,
                                                  uint32_t *sums)
{
    const uint32_t steps = NBITS == 4 ? (m + 1) / 2 : m;
    const uint32_t group_bytes = AHEAD * (NBITS == 4 ? 2 : 1) * (sizeof(L) << NBITS);
    uint32_t words[AHEAD], left = steps, group = 0;

    static_assert(group_bytes % 256 == 0, "see sac_levels_add()");
#pragma unroll
    for (uint32_t t = 0; t < AHEAD; t++)
        if (t < left)
            words[t] = codes_load(codes, t);
    for (; left >= AHEAD; group += group_bytes) {
        left -= AHEAD;
        codes += AHEAD * SAC_BLOCK_ROWS;
#pragma unroll
        for (uint32_t t = 0; t < AHEAD; t++) {
            codes_add<NBITS>(levels, group, t, words[t], sums);
            if (t < left)
                words[t] = codes_load(codes, t);
        }
    }
#pragma unroll
    for (uint32_t t = 0; t < AHEAD - 1; t++) {
        if (t == left)
            break;
        codes_add<NBITS>(levels, group, t, words[t], sums);
    }
}

/* The distances of a lane's 4 entries from the f32 table, in the twin's order of additions: for shapes whose
 * tables do not fit in shared memory. */
static __device__ __forceinline__ void exact_sum(const sac_pq_shape *pq, const float *table,
                                                 const unsigned char *codes, float *distances)
{
    const uint32_t mask = (1u << pq->nbits) - 1;

    for (uint32_t j = 0; j < pq->m; j++) {
        uint32_t byte = pq->nbits == 4 ? j / 2 : j;
        uint32_t word = __ldg((const uint32_t *)(codes + (size_t)byte * SAC_BLOCK_ROWS));

        word >>= pq->nbits == 4 ? j % 2 * 4 : 0;
#pragma unroll
        for (uint32_t r = 0; r < LANE_ROWS; r++)
            distances[r] += __ldg(table + ((size_t)j << pq->nbits) + (word >> r * 8 & mask));
    }
}

/* The distances of a lane's 4 entries. NBITS 0: `levels` is the f32 table. */
template <uint32_t NBITS, uint32_t AHEAD, class L>
static __device__ __forceinline__ void distances_of(const sac_pq_shape *pq, const unsigned char *codes,
                                                    float4 bias, float base, const L *levels,
                                                    const struct sac_rounding *rounding, float *distances)
{
    distances[0] = bias.x, distances[1] = bias.y, distances[2] = bias.z, distances[3] = bias.w;
    if constexpr (NBITS == 0) {
#pragma unroll
        for (uint32_t t = 0; t < LANE_ROWS; t++)
            distances[t] = base + distances[t];
        exact_sum(pq, levels, codes, distances);
    } else {
        float unit = sac_rounding_unit(__uint_as_float(rounding->range), NBITS);
        uint32_t sums[LANE_ROWS] = {0};

        levels_sum<NBITS, AHEAD>(levels, pq->m, codes, sums);
#pragma unroll
        for (uint32_t t = 0; t < LANE_ROWS; t++)
            distances[t] = fmaf(unit, (float)sums[t], distances[t] + (base + rounding->offset));
    }
}

/* Warp: a chunk's entries go to the reservoir, where the filter has them, tagged with their positions. ALONE:
 * nearly all of them will, and a wait for their slots would be seen. */
template <uint32_t NBITS, bool ALONE, class L>
static __device__ __forceinline__ void chunk_scan(const sac_pq_shape *pq, struct chunk chunk, const L *levels,
                                                  const struct sac_rounding *rounding, const uint64_t *filter,
                                                  struct sac_reservoir *r)
{
    const uint32_t row = sac_lane() * LANE_ROWS;
    /* lanes that have no entry read what the first one reads */
    const uint32_t line = chunk.position % SAC_PAGE_ROWS + (row < chunk.rows ? row : 0);
    const unsigned char *codes = chunk.page + sac_page_block(pq, line) + line % SAC_BLOCK_ROWS;
    const uint4 *slots = (const uint4 *)(const void *)(sac_page_slots(pq, chunk.page) + line);
    const float4 bias = __ldg((const float4 *)(const void *)(sac_page_bias(pq, chunk.page) + line));
    uint4 found = ALONE ? __ldg(slots) : make_uint4(0, 0, 0, 0);
    float distances[LANE_ROWS];
    bool wanted[LANE_ROWS], any = false;

    distances_of<NBITS, ALONE ? AHEAD_ALONE : AHEAD>(pq, codes, bias, chunk.base, levels, rounding,
                                                     distances);
#pragma unroll
    for (uint32_t t = 0; t < LANE_ROWS; t++) {
        wanted[t] = row + t < chunk.rows && !(distances[t] > r->limit);
        any = any || wanted[t];
    }
    if (!__any_sync(SAC_WARP_ALL, any))
        return;
    if (!ALONE && any)
        found = __ldg(slots);
#pragma unroll
    for (uint32_t t = 0; t < LANE_ROWS; t++) {
        uint32_t slot = t == 0 ? found.x : t == 1 ? found.y : t == 2 ? found.z : found.w;

        if (filter != NULL && wanted[t])
            wanted[t] = filter[slot / 64] >> slot % 64 & 1;
        sac_reservoir_push_tagged(r, wanted[t] ? sac_key(distances[t], slot) : SAC_KEY_NONE,
                                  chunk.position + row + t);
    }
}

/* ---- the first kernel: chunks to candidates -------------------------------------------------------------
 */

/* Block: hands on what the reservoir holds, all of it where that fits, and the least key of every group. */
static __device__ __forceinline__ void candidates_write(const struct scan *s, struct sac_reservoir *r)
{
    const size_t block = (size_t)blockIdx.y * s->split + blockIdx.x;
    uint64_t *minima = s->minima + (size_t)blockIdx.y * s->split * (s->places / GROUP) + blockIdx.x;
    uint32_t count;

    __syncthreads();
    sac_reservoir_shrink(r, s->places);
    count = r->state->count;
    for (uint32_t g = sac_warp(); g < s->places / GROUP; g += WARPS) {
        uint32_t i = g * GROUP + sac_lane();
        uint64_t key = i < count ? r->keys[i] : SAC_KEY_NONE, least = sac_warp_min(key);

        if (g * GROUP < count)
            s->keys[block * s->places + i] = key;
        if (i < count)
            s->positions[block * s->places + i] = r->tags[i];
        if (sac_lane() == 0)
            minima[(size_t)g * s->split] = least;
    }
}

static __device__ __forceinline__ void rounding_write(const struct scan *s, const float *low,
                                                      const struct sac_rounding *rounding)
{
    float *to = s->rounding + (size_t)blockIdx.y * (s->a.pool.pq.m + 1);

    for (uint32_t j = threadIdx.x; j < s->a.pool.pq.m; j += THREADS)
        to[1 + j] = low[j];
    if (threadIdx.x == 0)
        to[0] = sac_rounding_unit(__uint_as_float(rounding->range), s->a.pool.pq.nbits);
}

/* Grid (split, queries). Scans every split-th chunk of a query's lists. The loads of what depends on nothing
 * but the probes come first, and the table is rounded while the directories' loads are under way. */
template <uint32_t NBITS, bool ALONE>
static __global__ void __launch_bounds__(THREADS, ALONE ? 1 : 2) scan_kernel(const struct scan s)
{
    typedef typename sac_level<sac_levels_wide(NBITS)>::type level;
    SAC_SHARED_DYNAMIC(level, levels);
    __shared__ struct sac_reservoir_state state;
    __shared__ struct window window;
    __shared__ struct sac_rounding rounding;
    const sac_pq_shape *pq = &s.a.pool.pq;
    const size_t q = s.first + blockIdx.y;
    const float *table = s.a.tables + (q * pq->m << pq->nbits);
    const uint64_t *filter = s.a.filters != NULL ? s.a.filters[q] : NULL;
    const uint32_t probes = s.a.probe_counts[q];
    float *low = (float *)(void *)((unsigned char *)levels + sac_levels_bytes(pq->m, NBITS));
    uint64_t *keys = (uint64_t *)(void *)((unsigned char *)levels + table_bytes(&s));
    struct sac_reservoir r;
    uint32_t start = 0, end;

    if (threadIdx.x == 0)
        rounding.range = 0;
    sac_reservoir_init(&r, &state, keys, s.capacity, kept(s.a.depths[q]));
    r.tags = (uint32_t *)(void *)(keys + s.capacity);
    for (uint32_t p = 0; p < probes; p += THREADS, start = end) {
        sac_probe probe = {0, 0.0f};
        sac_list list = {0, 0};
        struct chunk next = {NULL, 0, 0, 0.0f};
        uint32_t i = start + (blockIdx.x + s.split - start % s.split) % s.split; /* the block's first chunk */

        if (p + threadIdx.x < probes) {
            probe = s.a.probes[q * s.a.probe_stride + p + threadIdx.x];
            list = s.a.pool.lists[probe.list];
        }
        if constexpr (NBITS != 0)
            if (p == 0)
                sac_rounding_measure<NBITS>(table, pq->m, low, &rounding);
        end = window_fill(&window, probe, list, start);
        if (i + sac_warp() * s.split < end)
            next = chunk_locate(&s.a.pool, &window, i + sac_warp() * s.split);
        if constexpr (NBITS != 0)
            if (p == 0)
                sac_rounding_fill<NBITS>(table, pq->m, low, &rounding, levels);
        for (; i < end; i += WARPS * s.split) {
            uint32_t c = i + sac_warp() * s.split;
            struct chunk now = next;

            sac_reservoir_room(&r, ROUND_ROWS);
            if (c >= end)
                continue;
            if (c + WARPS * s.split < end)
                next = chunk_locate(&s.a.pool, &window, c + WARPS * s.split);
            if constexpr (NBITS != 0)
                chunk_scan<NBITS, ALONE>(pq, now, levels, &rounding, filter, &r);
            else
                chunk_scan<NBITS, ALONE>(pq, now, table, &rounding, filter, &r);
        }
    }
    if (NBITS != 0 && blockIdx.x == 0 && probes > 0)
        rounding_write(&s, low, &rounding);
    candidates_write(&s, &r);
}

/* ---- the second kernel: candidates to results -----------------------------------------------------------
 */

/* Block: which groups may hold one of the k nearest. The k-th of the groups' minima bounds the k-th key, and
 * so no more than k groups have to be looked into, whatever the number of blocks. Returns how many and leaves
 * that bound in r; `groups` holds at least k. */
static __device__ __forceinline__ uint32_t groups_find(const struct scan *s, struct sac_reservoir *r,
                                                       uint32_t *groups, uint32_t *found)
{
    const uint32_t all = s->split * (s->places / GROUP);
    const uint64_t *minima = s->minima + (size_t)blockIdx.y * all;
    uint32_t end = 0;
    uint64_t bound;
    bool any = true;

    while (any && end < all) { /* a block's groups in use are its first ones */
        sac_reservoir_room(r, FINISH_ROUND);
        any = false;
#pragma unroll
        for (uint32_t t = 0; t < AT_ONCE; t++, end += THREADS) {
            uint64_t least = end + threadIdx.x < all ? minima[end + threadIdx.x] : SAC_KEY_NONE;

            any = any || least != SAC_KEY_NONE;
            sac_reservoir_push_key(r, least);
        }
        any = __syncthreads_or(any);
    }
    if (threadIdx.x == 0)
        *found = 0;
    sac_reservoir_settle(r);
    bound = r->threshold;
    for (uint32_t base = 0; base < end; base += THREADS) {
        uint64_t least = base + threadIdx.x < all ? minima[base + threadIdx.x] : SAC_KEY_NONE;
        bool wanted = least != SAC_KEY_NONE && least <= bound;
        uint32_t wanting = __ballot_sync(SAC_WARP_ALL, wanted), place;

        if (wanting == 0)
            continue;
        place = sac_reservoir_place(found, wanting);
        if (wanted && place < r->k) /* more than k only where a list was probed twice */
            groups[place] = base + threadIdx.x;
    }
    __syncthreads();
    return *found < r->k ? *found : r->k;
}

/* Block: the k nearest of what those groups hold. */
static __device__ __forceinline__ void groups_read(const struct scan *s, struct sac_reservoir *r,
                                                   const uint32_t *groups, uint32_t count)
{
    const size_t first = (size_t)blockIdx.y * s->split * s->places;

    for (uint32_t base = 0; base < count * GROUP; base += FINISH_ROUND) {
        uint64_t keys[AT_ONCE];
        uint32_t positions[AT_ONCE];

        sac_reservoir_room(r, FINISH_ROUND);
#pragma unroll
        for (uint32_t t = 0; t < AT_ONCE; t++) {
            uint32_t i = base + t * THREADS + threadIdx.x, group = i < count * GROUP ? groups[i / GROUP] : 0;
            size_t at = first + (size_t)(group % s->split) * s->places + group / s->split * GROUP + i % GROUP;

            keys[t] = i < count * GROUP ? s->keys[at] : SAC_KEY_NONE;
            positions[t] = i < count * GROUP ? s->positions[at] : 0;
        }
#pragma unroll
        for (uint32_t t = 0; t < AT_ONCE; t++)
            sac_reservoir_push_tagged(r, keys[t], positions[t]);
    }
}

/* Block: adds to the distances what rounding has left out of them. EXACT_LANES neighbouring lanes share a
 * candidate and have EXACT_TOGETHER of them under way, because each is three loads one after the other. */
static __device__ __forceinline__ void keys_finish(const struct scan *s, size_t q, uint64_t *keys,
                                                   const uint32_t *positions, uint32_t count)
{
    const sac_pq_shape *pq = &s->a.pool.pq;
    const float *table = s->a.tables + (q * pq->m << pq->nbits);
    const float *low = s->rounding + (size_t)blockIdx.y * (pq->m + 1) + 1, unit = low[-1];
    const uint32_t together = THREADS / EXACT_LANES, first = threadIdx.x / EXACT_LANES;

    for (uint32_t base = first; base - first < count; base += EXACT_TOGETHER * together) {
        unsigned char *pages[EXACT_TOGETHER];
        uint32_t lines[EXACT_TOGETHER];
        float rests[EXACT_TOGETHER] = {0.0f};

#pragma unroll
        for (uint32_t t = 0; t < EXACT_TOGETHER; t++) { /* those beyond the end repeat the last */
            uint32_t i = base + t * together, position = positions[i < count ? i : count - 1];

            pages[t] = s->a.pool.pages[position / SAC_PAGE_ROWS];
            lines[t] = position % SAC_PAGE_ROWS;
        }
        for (uint32_t j = threadIdx.x % EXACT_LANES; j < pq->m; j += EXACT_LANES) {
#pragma unroll
            for (uint32_t t = 0; t < EXACT_TOGETHER; t++) {
                uint32_t code = sac_page_code(pq, pages[t], lines[t], j) & ((1u << pq->nbits) - 1);
                float entry = __ldg(table + ((size_t)j << pq->nbits) + code);

                rests[t] += sac_rounding_rest(entry, low[j], unit, pq->nbits);
            }
        }
#pragma unroll
        for (uint32_t t = 0; t < EXACT_TOGETHER; t++) {
            uint32_t i = base + t * together;
            float rest = sac_lanes_sum<EXACT_LANES>(rests[t]);

            if (i < count && threadIdx.x % EXACT_LANES == 0)
                keys[i] = sac_key(sac_key_distance(keys[i]) + rest, sac_key_index(keys[i]));
        }
    }
}

/* A block a query: grid (1, queries). */
static __global__ void __launch_bounds__(THREADS) finish_kernel(const struct scan s)
{
    SAC_SHARED_DYNAMIC(uint64_t, keys);
    __shared__ struct sac_reservoir_state state;
    __shared__ uint32_t found;
    const size_t q = s.first + blockIdx.y;
    const uint32_t depth = s.a.depths[q];
    uint32_t *positions = (uint32_t *)(void *)(keys + s.capacity), *groups = positions + s.capacity;
    struct sac_reservoir r;
    uint64_t bound;
    uint32_t count;

    sac_reservoir_init(&r, &state, keys, s.capacity, kept(depth));
    count = groups_find(&s, &r, groups, &found);
    bound = r.threshold;
    sac_reservoir_init(&r, &state, keys, s.capacity, kept(depth));
    if (bound != SAC_KEY_NONE)
        sac_reservoir_lower(&r, bound + 1); /* it may be one of them itself */
    r.tags = positions;
    groups_read(&s, &r, groups, count);
    count = sac_reservoir_settle(&r);
    if (s.rounded)
        keys_finish(&s, q, keys, positions, count);
    sac_reservoir_sort(&r); /* may fill up over positions and groups, which have been used */
    r.filled = count < depth ? count : depth;
    sac_reservoir_write(&r, s.a.out_distance + q * s.a.depth_stride, s.a.out_slot + q * s.a.depth_stride,
                        depth);
}

/* ---- host -------------------------------------------------------------------------------------------------
 */

/* Everything about a scan but its memory. */
static struct scan scan_of(const sac_device *d, const struct sac_pq_scan_args *a)
{
    const uint32_t processors = ((const sac_cuda_device *)d)->multiprocessors, keep = kept(a->depth_stride);
    struct scan s = {};

    s.a = *a;
    s.tile = a->query_count < TILE_QUERIES ? (uint32_t)a->query_count : (uint32_t)TILE_QUERIES;
    s.split = (BLOCKS_PER_PROCESSOR * processors + s.tile - 1) / s.tile;
    s.split = s.split < processors ? s.split : processors;
    s.places = keep > ROUND_ROWS ? (keep + GROUP - 1) / GROUP * GROUP : (uint32_t)ROUND_ROWS;
    s.capacity = keep + ROUND_ROWS + ROOM;
    s.rounded = true;
    s.rounded = table_bytes(&s) + s.capacity * PLACE_BYTES + SHARED_STATIC <=
                ((const sac_cuda_device *)d)->shared_bytes_max;
    return s;
}

extern "C" size_t sac_pq_scan_queries_scratch_cuda(const sac_device *d, const struct sac_pq_scan_args *a)
{
    struct scan s;
    size_t blocks, bytes;

    if (a->query_count == 0)
        return 0;
    s = scan_of(d, a);
    blocks = (size_t)s.tile * s.split;
    bytes = sac_scratch_size(blocks * s.places, sizeof *s.keys);
    bytes = sac_scratch_add(bytes, sac_scratch_size(blocks * s.places, sizeof *s.positions));
    bytes = sac_scratch_add(bytes, sac_scratch_size(blocks * (s.places / GROUP), sizeof *s.minima));
    return sac_scratch_add(bytes, sac_scratch_size((size_t)s.tile * (a->pool.pq.m + 1), sizeof *s.rounding));
}

template <class... P> static cudaError_t allow_shared(void (*kernel)(P...), size_t bytes)
{
    if (bytes <= SHARED_UNASKED)
        return cudaSuccess;
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes);
}

template <uint32_t NBITS, bool ALONE>
static cudaError_t launch_scan(cudaStream_t stream, const struct scan *s, uint32_t n)
{
    size_t bytes = table_bytes(s) + s->capacity * PLACE_BYTES;
    cudaError_t error = allow_shared(scan_kernel<NBITS, ALONE>, bytes);

    if (error != cudaSuccess)
        return error;
    return SAC_LAUNCH((scan_kernel<NBITS, ALONE>), dim3(s->split, n), THREADS, bytes, stream, *s);
}

template <uint32_t NBITS>
static cudaError_t launch_rounded(cudaStream_t stream, const struct scan *s, uint32_t n)
{
    return s->tile == 1 ? launch_scan<NBITS, true>(stream, s, n) : launch_scan<NBITS, false>(stream, s, n);
}

static cudaError_t launch_scans(cudaStream_t stream, const struct scan *s, uint32_t n)
{
    if (!s->rounded)
        return launch_scan<0, false>(stream, s, n);
    switch (s->a.pool.pq.nbits) {
    case 4:
        return launch_rounded<4>(stream, s, n);
    case 5:
        return launch_rounded<5>(stream, s, n);
    case 6:
        return launch_rounded<6>(stream, s, n);
    case 7:
        return launch_rounded<7>(stream, s, n);
    default:
        return launch_rounded<8>(stream, s, n);
    }
}

/* Sorting wants a power of two of keys; the places of positions and groups serve too, for they are over. */
static cudaError_t launch_finish(cudaStream_t stream, struct scan s, uint32_t n)
{
    uint32_t keep = kept(s.a.depth_stride), sorted = GROUP;
    cudaError_t error;
    size_t bytes;

    while (sorted < keep)
        sorted *= 2;
    s.capacity = keep + FINISH_ROUND + (keep <= FINISH_ROOM_KEEP ? FINISH_ROOM : 0);
    bytes = s.capacity * PLACE_BYTES + keep * sizeof(uint32_t);
    bytes = bytes > sorted * sizeof(uint64_t) ? bytes : sorted * sizeof(uint64_t);
    error = allow_shared(finish_kernel, bytes);
    if (error != cudaSuccess)
        return error;
    return SAC_LAUNCH(finish_kernel, dim3(1, n), THREADS, bytes, stream, s);
}

extern "C" sac_status sac_pq_scan_queries_cuda(sac_stream *stream, const struct sac_pq_scan_args *a)
{
    const sac_pq_shape *pq = &a->pool.pq;
    cudaError_t error = cudaSuccess;
    size_t places, groups;
    struct scan s;

    if (a->query_count == 0)
        return SAC_OK;
    assert(pq->m >= 1 && pq->m <= 512 && pq->nbits >= 4 && pq->nbits <= 8);
    assert(a->depth_stride >= 1 && a->depth_stride <= 4096);
    s = scan_of(stream->device, a);
    places = (size_t)s.tile * s.split * s.places;
    groups = places / GROUP;
    sac_scratch_reset(stream);
    s.keys = (uint64_t *)sac_scratch_take(stream, places, sizeof *s.keys);
    s.positions = (uint32_t *)sac_scratch_take(stream, places, sizeof *s.positions);
    s.minima = (uint64_t *)sac_scratch_take(stream, groups, sizeof *s.minima);
    s.rounding = (float *)sac_scratch_take(stream, (size_t)s.tile * (pq->m + 1), sizeof *s.rounding);
    if (s.keys == NULL || s.positions == NULL || s.minima == NULL || s.rounding == NULL)
        return SAC_DEVICE_MEMORY;
    for (; s.first < a->query_count && error == cudaSuccess; s.first += s.tile) {
        size_t left = a->query_count - s.first;
        uint32_t n = left < s.tile ? (uint32_t)left : s.tile;

        error = launch_scans(sac_cuda_stream_of(stream), &s, n);
        if (error == cudaSuccess)
            error = launch_finish(sac_cuda_stream_of(stream), s, n);
    }
    return sac_cuda_status(stream->device, error);
}
