/* list_scan_finish.cu -- from candidates to results: the distances of those within the last limit, exactly,
 * and the nearest of them in order.
 *
 * A candidate's codes lie in m places 64 bytes apart, so its distance takes m sectors of 32 bytes: 1.5 KB at
 * 48 codes, 3 KB at 96, and as many code words (from the second-level cache). Floor on an H200 for 10,000
 * queries of depth 100, 130 candidates each within the last limit: 2 GB, 0.46 ms (48 codes); 4 GB, 0.93 ms
 * (96 codes).
 *
 * Always the same additions in the same order, whether a row came as a candidate or its list is scanned here:
 * which of the two is chance, and must not show.
 *
 * nvcc 13.0, sm_90a: 79 registers, 2,176 bytes of shared memory and 8 a place of the reservoir (2 * (depth +
 * 512)) and 4 a component, no spills: 3 blocks, 768 threads a multiprocessor. */
#include "kernels/cuda/list_scan.cuh"

enum {
    THREADS = 256,
    BATCH = 512
}; /* rows or candidates that are looked at between two looks at the reservoir */

/* A block's query. */
struct finish {
    const struct sac_lists_scan *s;
    const float *query; /* in shared memory */
    const uint64_t *filter;
    float limit; /* of distances; +inf where there is none */
    size_t q;
    struct sac_reservoir *nearest;
};

/* scale * <query, one code word>, a few components at a time as alignment allows. */
static __device__ __forceinline__ float word_product(const float *query, const float *word, uint32_t dsub,
                                                     float sum)
{
    uint32_t d = 0;

    if (dsub % 4 == 0) {
        for (; d < dsub; d += 4) {
            float4 x = *(const float4 *)(query + d), y = __ldg((const float4 *)(word + d));

            sum = fmaf(x.w, y.w, fmaf(x.z, y.z, fmaf(x.y, y.y, fmaf(x.x, y.x, sum))));
        }
    } else if (dsub % 2 == 0) {
        for (; d < dsub; d += 2) {
            float2 x = *(const float2 *)(query + d), y = __ldg((const float2 *)(word + d));

            sum = fmaf(x.y, y.y, fmaf(x.x, y.x, sum));
        }
    } else {
        for (; d < dsub; d++)
            sum = fmaf(query[d], __ldg(word + d), sum);
    }
    return sum;
}

/* The distance of a line of a page. */
static __device__ float line_distance(const struct finish *f, unsigned char *page, uint32_t line, float base)
{
    const sac_pq_shape *pq = &f->s->a.pool.pq;
    const float *words = f->s->a.codebook;
    float sum = 0.0f;

#pragma unroll 4
    for (uint32_t j = 0; j < pq->m; j++) {
        uint32_t code = sac_page_code(pq, page, line, j);

        sum = word_product(f->query + j * pq->dsub, words + (((size_t)j << pq->nbits) + code) * pq->dsub,
                           pq->dsub, sum);
    }
    return fmaf(f->s->a.scale, sum, base + sac_page_bias(pq, page)[line]);
}

/* Block: the candidates that are still within the limit. Those of a batch are listed first, so that all
 * threads have one to compute. */
static __device__ void candidates_finish(const struct finish *f, uint32_t count)
{
    __shared__ uint16_t listed[BATCH];
    __shared__ uint32_t listed_count;
    const struct sac_lists_candidate *candidates = f->s->candidates + f->q * f->s->shape.capacity;

    for (uint32_t first = 0; first < count; first += BATCH) {
        if (threadIdx.x == 0)
            listed_count = 0;
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < BATCH && first + i < count; i += THREADS)
            if (candidates[first + i].distance <= f->limit)
                listed[atomicAdd(&listed_count, 1u)] = (uint16_t)i;
        __syncthreads();
        for (uint32_t at = threadIdx.x; at < (listed_count + 31) / 32 * 32; at += THREADS) {
            bool wanted = at < listed_count;
            struct sac_lists_candidate candidate = {0.0f, 0.0f, 0, UINT32_MAX};
            float distance = 0.0f;

            if (wanted) {
                candidate = candidates[first + listed[at]];
                distance = line_distance(f, f->s->a.pool.pages[candidate.position / SAC_PAGE_ROWS],
                                         candidate.position % SAC_PAGE_ROWS, candidate.base);
            }
            sac_reservoir_push(f->nearest, wanted, distance, candidate.slot);
        }
        sac_reservoir_room(f->nearest, BATCH);
    }
}

/* Block: all rows of a list, for a query that had more candidates than room. */
static __device__ void list_finish(const struct finish *f, sac_probe probe)
{
    const sac_list_pool *pool = &f->s->a.pool;
    sac_list list = pool->lists[probe.list];

    for (uint32_t first = 0; first < list.row_count; first += THREADS) {
        uint32_t row = first + threadIdx.x, line = row % SAC_PAGE_ROWS, slot = 0;
        bool wanted = row < list.row_count;
        float distance = 0.0f;

        if (wanted) {
            unsigned char *page = pool->pages[pool->chains[list.first + row / SAC_PAGE_ROWS]];

            slot = sac_page_slots(&pool->pq, page)[line];
            wanted = sac_lists_passes(f->filter, slot);
            if (wanted)
                distance = line_distance(f, page, line, probe.base);
            wanted = wanted && (distance <= f->limit || f->limit == __int_as_float(0x7f800000));
        }
        sac_reservoir_push(f->nearest, wanted, distance, slot);
        sac_reservoir_room(f->nearest, THREADS);
    }
}

/* Block: a query. */
static __global__ void __launch_bounds__(THREADS, 3)
    finish_query(const __grid_constant__ struct sac_lists_scan s)
{
    __shared__ struct sac_reservoir_state state;
    __shared__ uint32_t limit;
    SAC_SHARED_DYNAMIC(uint64_t, keys);
    uint32_t k = s.a.depths[blockIdx.x], dim = s.a.pool.pq.m * s.a.pool.pq.dsub;
    uint32_t capacity = sac_reservoir_capacity(s.a.depth_stride, BATCH);
    const struct sac_lists_bound *bound = &s.bounds[blockIdx.x];
    float *query = (float *)(keys + capacity);
    struct sac_reservoir nearest;
    struct finish f = {&s, query, sac_lists_filter(&s, blockIdx.x), 0.0f, blockIdx.x, &nearest};

    for (uint32_t d = threadIdx.x; d < dim; d += THREADS)
        query[d] = s.a.queries[(size_t)blockIdx.x * dim + d];
    if (threadIdx.x < 32) {
        uint32_t edge =
            sac_lists_edge(bound, sac_lists_crossing(s.histograms + (size_t)blockIdx.x * SAC_LISTS_BINS, k));

        if (threadIdx.x == 0)
            limit = min(edge, bound->limit);
    }
    sac_reservoir_init(&nearest, &state, keys, capacity, k);
    f.limit = sac_lists_limit_distance(limit);
    if (bound->count <= s.shape.capacity)
        candidates_finish(&f, bound->count);
    else
        for (uint32_t p = 0; p < s.a.probe_counts[blockIdx.x]; p++)
            list_finish(&f, s.a.probes[(size_t)blockIdx.x * s.a.probe_stride + p]);
    sac_reservoir_sort(&nearest);
    sac_reservoir_write(&nearest, s.a.out_distance + (size_t)blockIdx.x * s.a.depth_stride,
                        s.a.out_slot + (size_t)blockIdx.x * s.a.depth_stride, k);
}

cudaError_t sac_lists_finish(const struct sac_lists_scan *s, cudaStream_t stream)
{
    size_t bytes = sac_reservoir_capacity(s->a.depth_stride, BATCH) * sizeof(uint64_t) +
                   (size_t)s->a.pool.pq.m * s->a.pool.pq.dsub * sizeof(float);
    cudaError_t error = sac_launch_shared(finish_query, bytes);

    if (error != cudaSuccess)
        return error;
    return SAC_LAUNCH((finish_query), (uint32_t)s->a.query_count, THREADS, bytes, stream, *s);
}
