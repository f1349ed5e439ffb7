/* pq_scan_chunks.cuh -- which rows a block of the query-major scan looks at.
 *
 * Chunks - two pages of a list, as a warp takes them - are counted through all lists of a query, nearest
 * first, and dealt out to the query's blocks one by one. So each block gets its share of the nearest lists
 * and finds a good threshold in its first round, without asking the others, and shares differ by one chunk at
 * most. Probes are looked at in windows of THREADS. */
#ifndef SACCADE_CUDA_PQ_SCAN_CHUNKS_CUH
#define SACCADE_CUDA_PQ_SCAN_CHUNKS_CUH

#include "kernels/cuda/pq_scan_queries.cuh"

struct window {
    uint32_t starts[THREADS]; /* chunks before this probe */
    uint32_t first[THREADS], rows[THREADS];
    float base[THREADS];
    uint32_t sums[WARPS];
};

/* A lane's part: LANE_ROWS entries of one of the two pages. */
struct chunk {
    unsigned char *page;
    uint32_t position; /* of the page's first entry */
    uint32_t rows;     /* of the chunk: 1..CHUNK_ROWS */
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

/* Warp: where chunk c is. Lanes that have no entry are given the last page. */
static __device__ __forceinline__ struct chunk chunk_locate(const sac_list_pool *pool, const struct window *w,
                                                            uint32_t c)
{
    uint32_t p = window_find(w, c), row = (c - w->starts[p]) * CHUNK_ROWS, left = w->rows[p] - row;
    uint32_t lane_row = min(sac_lane() * LANE_ROWS, left - 1);
    uint32_t page = __ldg(pool->chains + w->first[p] + (row + lane_row) / SAC_PAGE_ROWS);
    struct chunk chunk;

    chunk.page = pool->pages[page];
    chunk.position = page * SAC_PAGE_ROWS;
    chunk.rows = left < CHUNK_ROWS ? left : CHUNK_ROWS;
    chunk.base = w->base[p];
    return chunk;
}

#endif
