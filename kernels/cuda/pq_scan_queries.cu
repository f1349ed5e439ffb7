/* pq_scan_queries.cu -- the scan for few queries a list: each query looks its lists' codes up in its table.
 *
 *   tables f32 [query_count][m][2^nbits], probes, lists in pages in
 *   out_distance f32, out_slot u32 [query_count][depth_stride]      twin: ref/pq_scan.c
 *
 * Two kernels. The first: `split` blocks a query round its table to levels in shared memory
 * (pq_rounding.cuh), take chunks of its lists (pq_scan_walk.cuh), a chunk a warp and four entries a lane -
 * one 32-bit load of codes each sub-quantizer, a dozen and more of them in flight -, and push what is below
 * the block's threshold into its reservoir (select.cuh). What is in there in the end goes to global memory as
 * it is where it fits, with the least key of every 32. The second (pq_scan_finish.cuh): a block a query
 * selects among those minima first, reads only the groups that can matter, makes the distances of what is
 * kept exact, sorts, and scans the lists again where rounding has cut off too much. No block waits for
 * another, nothing has to be cleared beforehand, and results do not depend on timing: the candidates whose
 * distances are made exact are the kept(depth) smallest by (rounded distance, slot).
 *
 * Floors on an H200 for 64 probes of 2000 entries, 48 x 8 bits: 128 000 x 48 lookups at 3.7 T/s, 1.66 us a
 * query; 128 000 x (48 + 4) bytes at 4.3 TB/s, 1.55 us a query where no two share a list. (7.4 T/s up to 7
 * bits, whose rows of 128 bytes have no bank conflicts.) A lookup is three instructions - a byte put in the
 * place of an offset's lowest, the load, half an addition of three, and a quarter of the load of codes and
 * its predicate - of the four that a multiprocessor issues in the one or two cycles that the load takes. One
 * query is latency: probes, lists, chains, pages and codes are five loads one after the other, 2 us of
 * waiting that the rounding of the table hides in part; so it gets all registers of a multiprocessor
 * (ALONE: 24 loads of codes in flight, slots read with the codes) and a block on each.
 * Predicted from these, never run on a chip: 10 to 13 us for one query in a recording, of which 4.6 the first
 * kernel and 5 the second; 0.23 to 0.26 ms for 100 queries, 2.0 to 2.4 ms for 1000.
 *
 * nvcc 13.0, sm_90a, no spills: scan_kernel<4..8> 64 registers, two blocks (32 warps) on a multiprocessor;
 * <4..8, alone> 128 registers, one block; <0> 64. All have 9344 bytes of shared memory beside m * (2^nbits +
 * 4) (twice 2^nbits up to 6 bits) and 12 a place of the reservoir: 59 KB for m 48, 8 bits, depth 128.
 * finish_kernel 64 registers, 1152 bytes beside 12 a place: 80 KB for depth 128, two blocks; 4 bytes are
 * spilled around the call that scans lists again. */
#include "kernels/cuda/pq_scan_finish.cuh"

#include <assert.h>

enum {
    ROOM = 896,                /* further places of a reservoir, so that making room is rare: no more than
                                  fit beside a depth of 4096 in 99 KB, where tables are not rounded */
    FINISH_ROOM = 4096,        /* the same in the second kernel, */
    FINISH_ROOM_KEEP = 1024,   /* up to so many to keep */
    TILE_QUERIES = 1024,       /* of one pair of launches: bounds the scratch */
    BLOCKS_PER_PROCESSOR = 4,  /* two at a time: the others make up for queries of different length */
    SHARED_STATIC = 10 * 1024, /* static bytes, at most */
};

/* ---- the first kernel: chunks to candidates -------------------------------------------------------------
 */

/* Block: hands on what the reservoir holds, all of it where that fits, and the least key of every group. */
static __device__ __forceinline__ void candidates_write(const struct query_scan *s, struct sac_reservoir *r)
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

static __device__ __forceinline__ void rounding_write(const struct query_scan *s, const float *low,
                                                      const struct sac_rounding *rounding)
{
    float *to = s->rounding + (size_t)blockIdx.y * (s->a.pool.pq.m + 1);

    for (uint32_t j = threadIdx.x; j < s->a.pool.pq.m; j += THREADS)
        to[1 + j] = low[j];
    if (threadIdx.x == 0)
        to[0] = sac_rounding_unit(__uint_as_float(rounding->range), s->a.pool.pq.nbits);
}

/* Grid (split, queries): each block of a query takes every split-th chunk. */
template <uint32_t NBITS, bool ALONE>
static __global__ void __launch_bounds__(THREADS, ALONE ? 1 : 2) scan_kernel(const struct query_scan s)
{
    typedef typename sac_level<sac_levels_wide(NBITS)>::type level;
    SAC_SHARED_DYNAMIC(level, levels);
    __shared__ struct sac_reservoir_state state;
    __shared__ struct window window;
    __shared__ struct sac_rounding rounding;
    const sac_pq_shape *pq = &s.a.pool.pq;
    const size_t q = s.first + blockIdx.y;
    float *low = (float *)(void *)((unsigned char *)levels + sac_levels_bytes(pq->m, NBITS));
    const struct tables<level> t = {
        query_table(&s, q), levels, low, &rounding
    };
    uint64_t *keys = (uint64_t *)(void *)((unsigned char *)levels + table_bytes(&s));
    struct sac_reservoir r;

    if (threadIdx.x == 0)
        rounding.range = 0;
    sac_reservoir_init(&r, &state, keys, s.capacity, kept(s.a.depths[q]));
    r.tags = (uint32_t *)(void *)(keys + s.capacity);
    lists_walk<NBITS, ALONE>(&s, q, blockIdx.x, s.split, &t, &window, &r);
    if (NBITS != 0 && blockIdx.x == 0 && s.a.probe_counts[q] > 0)
        rounding_write(&s, low, &rounding);
    candidates_write(&s, &r);
}

/* ---- host -------------------------------------------------------------------------------------------------
 */

/* Everything about a scan but its memory. */
static struct query_scan scan_of(const sac_device *d, const struct sac_pq_scan_args *a)
{
    const uint32_t processors = ((const sac_cuda_device *)d)->multiprocessors, keep = kept(a->depth_stride);
    struct query_scan s = {};

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
    struct query_scan s;
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

template <uint32_t NBITS, bool ALONE>
static cudaError_t launch_scan(cudaStream_t stream, const struct query_scan *s, uint32_t n)
{
    size_t bytes = table_bytes(s) + s->capacity * PLACE_BYTES;
    cudaError_t error = sac_launch_shared(scan_kernel<NBITS, ALONE>, bytes);

    if (error != cudaSuccess)
        return error;
    return SAC_LAUNCH((scan_kernel<NBITS, ALONE>), dim3(s->split, n), THREADS, bytes, stream, *s);
}

template <uint32_t NBITS>
static cudaError_t launch_rounded(cudaStream_t stream, const struct query_scan *s, uint32_t n)
{
    return s->tile == 1 ? launch_scan<NBITS, true>(stream, s, n) : launch_scan<NBITS, false>(stream, s, n);
}

static cudaError_t launch_scans(cudaStream_t stream, const struct query_scan *s, uint32_t n)
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
static cudaError_t launch_finish(cudaStream_t stream, struct query_scan s, uint32_t n)
{
    uint32_t keep = kept(s.a.depth_stride), sorted = GROUP;
    cudaError_t error;
    size_t bytes;

    while (sorted < keep)
        sorted *= 2;
    s.capacity = keep + FINISH_ROUND + (keep <= FINISH_ROOM_KEEP ? FINISH_ROOM : 0);
    bytes = s.capacity * PLACE_BYTES + keep * sizeof(uint32_t);
    bytes = bytes > sorted * sizeof(uint64_t) ? bytes : sorted * sizeof(uint64_t);
    error = sac_launch_shared(finish_kernel, bytes);
    if (error != cudaSuccess)
        return error;
    return SAC_LAUNCH(finish_kernel, dim3(1, n), THREADS, bytes, stream, s);
}

extern "C" sac_status sac_pq_scan_queries_cuda(sac_stream *stream, const struct sac_pq_scan_args *a)
{
    const sac_pq_shape *pq = &a->pool.pq;
    cudaError_t error = cudaSuccess;
    size_t places, groups;
    struct query_scan s;

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
