/* pq_scan_walk.cuh -- a block's way through the lists of a query: its chunks, their distances, and what of
 * them goes into its reservoir. */
#ifndef SACCADE_CUDA_PQ_SCAN_WALK_CUH
#define SACCADE_CUDA_PQ_SCAN_WALK_CUH

#include "kernels/cuda/pq_scan_chunks.cuh"

enum {
    AHEAD = 12,       /* loads of codes that a lane has in flight, */
    AHEAD_ALONE = 24, /* and with one block on a multiprocessor */
};

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
    return __ldg((const uint32_t *)(const void *)(codes + t * SAC_PAGE_ROWS));
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
        codes += AHEAD * SAC_PAGE_ROWS;
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
        uint32_t word = __ldg((const uint32_t *)(codes + (size_t)byte * SAC_PAGE_ROWS));

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
    /* lanes that have no entry read what the first one of their page reads */
    const uint32_t line = row < chunk.rows ? row % SAC_PAGE_ROWS : 0;
    const unsigned char *codes = chunk.page + line;
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
                                  chunk.position + line + t);
    }
}

/* ---- chunk after chunk ------------------------------------------------------------------------------------
 */

/* A query's table: f32 in global memory and, unless NBITS is 0, rounded in shared memory. */
template <class L> struct tables {
    const float *exact;
    L *levels;
    float *low;
    struct sac_rounding *rounding; /* range is 0 at first */
};

/* Block: pushes the entries of every split-th chunk of query q's lists, from chunk `turn` on. The loads of
 * what depends on nothing but the probes come first, and the table is rounded while the directories' loads
 * are under way. */
template <uint32_t NBITS, bool ALONE, class L>
static __device__ __forceinline__ void lists_walk(const struct query_scan *s, size_t q, uint32_t turn,
                                                  uint32_t split, const struct tables<L> *t,
                                                  struct window *window, struct sac_reservoir *r)
{
    const sac_pq_shape *pq = &s->a.pool.pq;
    const uint64_t *filter = s->a.filters != NULL ? s->a.filters[q] : NULL;
    const uint32_t probes = s->a.probe_counts[q];
    uint32_t start = 0, end;

    for (uint32_t p = 0; p < probes; p += THREADS, start = end) {
        sac_probe probe = {0, 0.0f};
        sac_list list = {0, 0};
        struct chunk next = {NULL, 0, 0, 0.0f};
        uint32_t i = start + (turn + split - start % split) % split; /* the block's first chunk */

        if (p + threadIdx.x < probes) {
            probe = s->a.probes[q * s->a.probe_stride + p + threadIdx.x];
            list = s->a.pool.lists[probe.list];
        }
        if constexpr (NBITS != 0)
            if (p == 0)
                sac_rounding_measure<NBITS>(t->exact, pq->m, t->low, t->rounding);
        end = window_fill(window, probe, list, start);
        if (i + sac_warp() * split < end)
            next = chunk_locate(&s->a.pool, window, i + sac_warp() * split);
        if constexpr (NBITS != 0)
            if (p == 0)
                sac_rounding_fill<NBITS>(t->exact, pq->m, t->low, t->rounding, t->levels);
        for (; i < end; i += WARPS * split) {
            uint32_t c = i + sac_warp() * split;
            struct chunk now = next;

            sac_reservoir_room(r, ROUND_ROWS);
            if (c >= end)
                continue;
            if (c + WARPS * split < end)
                next = chunk_locate(&s->a.pool, window, c + WARPS * split);
            if constexpr (NBITS != 0)
                chunk_scan<NBITS, ALONE>(pq, now, t->levels, t->rounding, filter, r);
            else
                chunk_scan<NBITS, ALONE>(pq, now, t->exact, t->rounding, filter, r);
        }
    }
}

#endif
