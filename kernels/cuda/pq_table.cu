/* pq_table.cu -- the tables of a batch of queries: what each codeword adds to a distance.
 *
 *   codebook f32 [m][2^nbits][dsub], queries f32 [query_count][m * dsub] in
 *   tables f32 [query_count][m][2^nbits]      twin: ref/pq_table.c
 *
 * Floors for n queries on an H200, 96 dimensions, m 48, 8 bits: 49 KB a query written at 4.3 TB/s, 11 us for
 * 1000; 2 * 96 * 256 operations a query at 60 TFLOP/s of f32, 0.8 us. One query: 98 KB of codebook, 0.02 us;
 * what counts then is one launch and two loads in a row.
 *
 * A thread owns a codeword, so that stores are coalesced and one query alone makes m * 2^nbits threads (48
 * blocks of the above). Where there are many queries it takes QUERIES of them at a time: the codeword is read
 * once for all, and their components are the same for a whole warp (8 bits) or few addresses of it (4).
 *
 * nvcc 13.0, sm_90a, no shared memory, no spills: registers <1, 1> 32, <1, 4> 34, <8, 1> 32, <8, 4> 50. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

#include <assert.h>

enum { THREADS = 256, QUERIES = 8 };

/* Products of codeword i with up to COUNT queries from q on. WIDTH components are read at once. */
template <uint32_t COUNT, uint32_t WIDTH>
static __device__ __forceinline__ void products(const struct sac_pq_table_args *a, uint32_t i, size_t q,
                                                float *sums)
{
    const uint32_t dsub = a->pq.dsub, dim = a->pq.m * dsub;
    const float *codeword = a->codebook + (size_t)i * dsub;
    const float *sub = a->queries + q * dim + (size_t)(i >> a->pq.nbits) * dsub;
    const uint32_t last = a->query_count - q < COUNT ? (uint32_t)(a->query_count - q) - 1 : COUNT - 1;

    for (uint32_t d = 0; d < dsub; d += WIDTH) {
        float c[WIDTH], x[WIDTH];

        sac_vector_load<WIDTH>(codeword, d, c);
#pragma unroll
        for (uint32_t t = 0; t < COUNT; t++) {
            sac_vector_load<WIDTH>(sub + (size_t)(t < last ? t : last) * dim, d, x);
#pragma unroll
            for (uint32_t w = 0; w < WIDTH; w++)
                sums[t] = fmaf(x[w], c[w], sums[t]);
        }
    }
}

template <uint32_t COUNT, uint32_t WIDTH>
static __global__ void __launch_bounds__(THREADS) pq_table_kernel(const struct sac_pq_table_args a)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x, codewords = a.pq.m << a.pq.nbits;

    for (size_t q = (size_t)blockIdx.y * COUNT; i < codewords && q < a.query_count;
         q += (size_t)gridDim.y * COUNT) {
        float sums[COUNT] = {0.0f};

        products<COUNT, WIDTH>(&a, i, q, sums);
#pragma unroll
        for (uint32_t t = 0; t < COUNT; t++)
            if (q + t < a.query_count)
                a.tables[(q + t) * codewords + i] = a.scale * sums[t];
    }
}

template <uint32_t COUNT, uint32_t WIDTH>
static cudaError_t launch(cudaStream_t stream, const struct sac_pq_table_args *a)
{
    size_t groups = (a->query_count + COUNT - 1) / COUNT;
    dim3 grid(((a->pq.m << a->pq.nbits) + THREADS - 1) / THREADS, groups < 65535 ? (uint32_t)groups : 65535);

    return SAC_LAUNCH((pq_table_kernel<COUNT, WIDTH>), grid, THREADS, 0, stream, *a);
}

extern "C" sac_status sac_pq_table_cuda(sac_stream *s, const struct sac_pq_table_args *a)
{
    cudaStream_t stream = sac_cuda_stream_of(s);
    bool wide = a->pq.dsub % 4 == 0;
    cudaError_t error;

    if (a->query_count == 0)
        return SAC_OK;
    assert(a->pq.m >= 1 && a->pq.dsub >= 1 && a->pq.nbits >= 4 && a->pq.nbits <= 8);
    if (a->query_count < QUERIES)
        error = wide ? launch<1, 4>(stream, a) : launch<1, 1>(stream, a);
    else
        error = wide ? launch<QUERIES, 4>(stream, a) : launch<QUERIES, 1>(stream, a);
    return sac_cuda_status(s->device, error);
}
