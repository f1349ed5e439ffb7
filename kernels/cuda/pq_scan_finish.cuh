/* pq_scan_finish.cuh -- the second kernel of the query-major scan: candidates to results, a block a query.
 *
 * Were kept(depth) candidates enough? Those that were cut off are at least as far, as rounded, as the last
 * one kept. So the results are complete but for entries that rounding has moved outwards by more than the gap
 * between the two cuts: the depth-th exact distance and the last rounded one. How far rounding moves entries
 * of this query is seen on the candidates themselves. Where the gap is under a quarter of the farthest move,
 * or the candidates lie closer together than two such moves, the block scans the query's lists again, alone,
 * from the f32 table. On 400,000 SIFT vectors (m 32, depths 10 to 1280) that happened to 0.3 % of the queries
 * at most, and of the candidates of the others at most 0.02 % were not the right ones; where one component is
 * a thousand times as wide as the others it happens to nearly all, and up to nine tenths would have been
 * wrong. It takes as long as a block needs for a query's lists: some 0.3 ms for 128 000 entries of 48 codes,
 * by the rate of the lookups. */
#ifndef SACCADE_CUDA_PQ_SCAN_FINISH_CUH
#define SACCADE_CUDA_PQ_SCAN_FINISH_CUH

#include "kernels/cuda/pq_scan_walk.cuh"
#include "kernels/cuda/rows.cuh"

enum {
    AT_ONCE = 4, /* keys that a thread has in flight */
    FINISH_ROUND = AT_ONCE * THREADS,
    EXACT_LANES = 8,    /* that share the exact distance of a candidate, */
    EXACT_TOGETHER = 4, /* and have the loads of so many candidates in flight */
};

/* Block: which groups may hold one of the k nearest. The k-th of the groups' minima bounds the k-th key, and
 * so no more than k groups have to be looked into, whatever the number of blocks. Returns how many and leaves
 * that bound in r; `groups` holds at least k. */
static __device__ __forceinline__ uint32_t groups_find(const struct query_scan *s, struct sac_reservoir *r,
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
static __device__ __forceinline__ void groups_read(const struct query_scan *s, struct sac_reservoir *r,
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

/* What rounding did to a query's candidates. */
struct moves {
    uint32_t last;     /* of their rounded distances: the high half of a key */
    uint32_t farthest; /* of the differences to the exact ones: the bits of a float >= 0 */
};

/* Block: adds to the distances what rounding has left out of them. EXACT_LANES neighbouring lanes share a
 * candidate and have EXACT_TOGETHER of them under way, because each is three loads one after the other. The
 * fields of `moves` are 0, and a barrier has passed since; one must follow before they are read. */
static __device__ __forceinline__ void keys_finish(const struct query_scan *s, size_t q, uint64_t *keys,
                                                   const uint32_t *positions, uint32_t count,
                                                   struct moves *moves)
{
    const sac_pq_shape *pq = &s->a.pool.pq;
    const float *table = query_table(s, q);
    const float *low = s->rounding + (size_t)blockIdx.y * (pq->m + 1) + 1, unit = low[-1];
    const uint32_t together = THREADS / EXACT_LANES, first = threadIdx.x / EXACT_LANES;
    uint32_t last = 0, farthest = 0;

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

            if (i < count && threadIdx.x % EXACT_LANES == 0) {
                last = max(last, (uint32_t)(keys[i] >> 32));
                farthest = max(farthest, __float_as_uint(fabsf(rest)));
                keys[i] = sac_key(sac_key_distance(keys[i]) + rest, sac_key_index(keys[i]));
            }
        }
    }
    last = __reduce_max_sync(SAC_WARP_ALL, last);
    farthest = __reduce_max_sync(SAC_WARP_ALL, farthest);
    if (sac_lane() == 0) {
        atomicMax(&moves->last, last);
        atomicMax(&moves->farthest, farthest);
    }
}

/* Whether rounding may have cut off what belongs to the nearest (see above). NaN, which comes last anyway, is
 * no doubt. */
static __device__ __forceinline__ bool moves_doubtful(const struct moves *moves, uint64_t nearest,
                                                      uint64_t cut)
{
    float last = sac_key_distance((uint64_t)moves->last << 32);
    float farthest = __uint_as_float(moves->farthest);

    return last - sac_key_distance(cut) < 0.25f * farthest ||
           last - sac_key_distance(nearest) < 2.0f * farthest;
}

static __device__ __forceinline__ void results_write(const struct query_scan *s, size_t q,
                                                     const struct sac_reservoir *r)
{
    sac_reservoir_write(r, s->a.out_distance + q * s->a.depth_stride, s->a.out_slot + q * s->a.depth_stride,
                        s->a.depths[q]);
}

/* Block: the results from all of the query's entries, by the f32 table. The window takes the place that tags
 * have elsewhere. Not inlined: it would take registers from those who never come here. */
static __device__ __attribute__((noinline)) void
lists_finish(const struct query_scan *s, size_t q, uint64_t *keys, struct sac_reservoir_state *state)
{
    const struct tables<const float> t = {
        query_table(s, q), NULL, NULL, NULL
    };
    struct sac_reservoir r;

    static_assert(sizeof(struct window) <= (FINISH_ROUND + kept(1)) * sizeof(uint32_t), "no room");
    static_assert(FINISH_ROUND + 0u >= ROUND_ROWS + 0u, "or walking needs more room");
    sac_reservoir_init(&r, state, keys, s->capacity, s->a.depths[q]);
    lists_walk<0, false>(s, q, 0, 1, &t, (struct window *)(void *)(keys + s->capacity), &r);
    sac_reservoir_sort(&r);
    results_write(s, q, &r);
}

/* A block a query: grid (1, queries). */
static __global__ void __launch_bounds__(THREADS, 2)
    finish_kernel(const __grid_constant__ struct query_scan s)
{
    SAC_SHARED_DYNAMIC(uint64_t, keys);
    __shared__ struct sac_reservoir_state state;
    __shared__ struct moves moves;
    __shared__ uint32_t found;
    const size_t q = s.first + blockIdx.y;
    const uint32_t depth = s.a.depths[q];
    uint32_t *positions = (uint32_t *)(void *)(keys + s.capacity), *groups = positions + s.capacity;
    struct sac_reservoir r;
    uint64_t bound;
    uint32_t count;

    if (threadIdx.x == 0)
        moves.last = moves.farthest = 0;
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
        keys_finish(&s, q, keys, positions, count, &moves);
    sac_reservoir_sort(&r); /* may fill up over positions and groups, which have been used */
    if (s.rounded && count == kept(depth) && moves_doubtful(&moves, keys[0], keys[depth - 1])) {
        lists_finish(&s, q, keys, &state);
        return;
    }
    r.filled = count < depth ? count : depth;
    results_write(&s, q, &r);
}

#endif
