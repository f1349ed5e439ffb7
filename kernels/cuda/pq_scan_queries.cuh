/* pq_scan_queries.cuh -- what the two kernels of the query-major scan agree on: how work is cut up, and what
 * the first hands on to the second. */
#ifndef SACCADE_CUDA_PQ_SCAN_QUERIES_CUH
#define SACCADE_CUDA_PQ_SCAN_QUERIES_CUH

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/pq_rounding.cuh"
#include "kernels/page.h"

enum {
    THREADS = 512,
    WARPS = THREADS / 32,
    LANE_ROWS = 4,                                     /* entries of a lane: a 32-bit load of codes */
    CHUNK_ROWS = 32 * LANE_ROWS,                       /* of a warp: two pages */
    ROUND_ROWS = WARPS * CHUNK_ROWS,                   /* of a block, between two looks at its reservoir */
    GROUP = 32,                                        /* candidates that share a minimum */
    PLACE_BYTES = sizeof(uint64_t) + sizeof(uint32_t), /* of a reservoir: key and position */
};

/* What both kernels are told. Scratch counts queries from `first` on. */
struct query_scan {
    struct sac_pq_scan_args a;
    size_t first;      /* query of the tile */
    uint32_t tile;     /* queries of a tile, at most */
    uint32_t split;    /* blocks of a query */
    uint32_t places;   /* candidates that a block hands on, at most: a multiple of GROUP */
    uint32_t capacity; /* of a block's reservoir */
    bool rounded;      /* candidates' distances are those of rounded tables */
    uint64_t *keys; /* [tile][split][places]: (distance, slot); NONE fills a group up, others are undefined */
    uint32_t *positions; /* [tile][split][places]: where the codes of each key are */
    uint64_t *minima;    /* [tile][places / GROUP][split]: the least key of each group; NONE: not in use */
    float *rounding;     /* [tile][m + 1]: the unit, then low[] */
};

/* Candidates kept until their distances are exact: more than `depth`, because rounding moves entries up and
 * down, by more places where more of them are near. Where that turns out to be too few, the last step looks
 * the lists up again, exactly (pq_scan_finish.cuh). */
static __host__ __device__ __forceinline__ constexpr uint32_t kept(uint32_t depth)
{
    return depth + depth / 8 + 48;
}

static __device__ __forceinline__ const float *query_table(const struct query_scan *s, size_t q)
{
    return s->a.tables + (q * s->a.pool.pq.m << s->a.pool.pq.nbits);
}

/* Shared bytes of a rounded table and its low[]: the reservoir's keys follow. */
static __host__ __device__ __forceinline__ size_t table_bytes(const struct query_scan *s)
{
    const sac_pq_shape *pq = &s->a.pool.pq;

    return s->rounded ? sac_levels_bytes(pq->m, pq->nbits) + (pq->m + pq->m % 2) * sizeof(float) : 0;
}

#endif
