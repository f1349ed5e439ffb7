/* gather_distances.cu -- exact distances of chosen rows to a query each: re-ranking.
 *
 *   queries f32 [query_count][dim], rows u32 [query_count][stride], pages of f32, f16 or i8 rows in
 *   out f32 [query_count][stride]      twin: ref/gather_distances.c
 *
 * Floors for c candidates in all on an H200: c (row bytes + 8) bytes at 4.3 TB/s, where rows that are no
 * multiple of 64 bytes cost up to twice that, since they come from anywhere: 0.05 to 0.09 ms for 10 k x 100
 * of 96 x f16; rows in the host's memory at the rate of the bus, 55 GB/s for PCIe 5. 3 c dim operations at
 * 60 TFLOP/s of f32: 0.005 ms.
 *
 * A block takes a chunk of one query's candidates, 8 or 32 lanes take four of them at a time: four loads are
 * in flight then where a lane would wait for one, and the query, which stays in the first-level cache, is
 * looked at a quarter as often. How many candidates there are is known on the device only, so blocks cover
 * `stride` and those past counts[q] end.
 *
 * nvcc 13.0, sm_90a: 46 to 56 registers, no shared memory, no spills: 4 blocks, 1024 threads a multiprocessor
 * with 64 bytes each in flight, twice what 4.3 TB/s need; i8 has 16 and may stop at two thirds of it. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

#include <assert.h>

enum { THREADS = 256, TOGETHER = 4 };

struct gather {
    struct sac_rows store;
    const float *queries;
    size_t query_count;
    const uint32_t *rows, *counts;
    uint32_t stride;
    float *out;
};

/* This lane's share of the sums over the components of TOGETHER rows. */
template <sac_dtype DTYPE, bool WIDE, uint32_t LANES, sac_distance DISTANCE>
static __device__ __forceinline__ void sum_up(const float *query, const unsigned char *const *row,
                                              uint32_t dim, float *sums)
{
    constexpr uint32_t WIDTH = sac_rows_width(DTYPE, WIDE);
    float scales[TOGETHER];

#pragma unroll
    for (uint32_t t = 0; t < TOGETHER; t++)
        scales[t] = sac_row_scale<DTYPE>(row[t]);
#pragma unroll(WIDTH == 1 ? 2 : 1) /* more would take registers that are not there */
    for (uint32_t d = threadIdx.x % LANES * WIDTH; d < dim; d += LANES * WIDTH) {
        float q[WIDTH], x[TOGETHER][WIDTH];

#pragma unroll
        for (uint32_t t = 0; t < TOGETHER; t++)
            sac_row_load<DTYPE, WIDTH>(row[t], d, x[t]);
        sac_vector_load<WIDTH>(query, d, q);
#pragma unroll
        for (uint32_t t = 0; t < TOGETHER; t++) {
#pragma unroll
            for (uint32_t j = 0; j < WIDTH; j++) {
                /* rounded before it is subtracted, so that what rows_read gives is at distance 0 */
                float component = DTYPE == SAC_I8 ? __fmul_rn(scales[t], x[t][j]) : x[t][j];
                float away = q[j] - component;

                sums[t] += DISTANCE == SAC_DISTANCE_L2SQ ? away * away : -(q[j] * component);
            }
        }
    }
}

template <sac_dtype DTYPE, bool WIDE, uint32_t LANES, sac_distance DISTANCE>
static __global__ void __launch_bounds__(THREADS, 4) gather_kernel(const struct gather g)
{
    const uint32_t groups = THREADS / LANES, group = threadIdx.x / LANES;
    const uint32_t chunk = groups * TOGETHER, chunks = (g.stride + chunk - 1) / chunk;
    const size_t tasks = g.query_count * chunks;

    for (size_t task = blockIdx.x; task < tasks; task += gridDim.x) {
        size_t q = task / chunks;
        uint32_t first = (uint32_t)(task % chunks) * chunk + group, count = g.counts[q];
        uint32_t index[TOGETHER], some = UINT32_MAX;
        const unsigned char *row[TOGETHER];
        float sums[TOGETHER] = {};

        if (first - group >= count)
            continue;
#pragma unroll
        for (uint32_t t = 0; t < TOGETHER; t++) {
            uint32_t i = first + t * groups;

            index[t] = i < count ? g.rows[q * g.stride + i] : UINT32_MAX;
            some = index[t] != UINT32_MAX ? index[t] : some;
        }
        if (some != UINT32_MAX) {
#pragma unroll
            for (uint32_t t = 0; t < TOGETHER; t++) /* in the place of one that is missing, another */
                row[t] = sac_row_at(&g.store, index[t] != UINT32_MAX ? index[t] : some);
            sum_up<DTYPE, WIDE, LANES, DISTANCE>(g.queries + q * g.store.dim, row, g.store.dim, sums);
        }
#pragma unroll
        for (uint32_t t = 0; t < TOGETHER; t++) {
            uint32_t i = first + t * groups;
            float sum = sac_lanes_sum<LANES>(sums[t]);

            if (threadIdx.x % LANES == 0 && i < count)
                g.out[q * g.stride + i] = index[t] != UINT32_MAX ? sum : __int_as_float(0x7f800000);
        }
    }
}

template <sac_dtype DTYPE, bool WIDE, uint32_t LANES>
static cudaError_t launch_lanes(cudaStream_t stream, const struct gather *g, sac_distance distance)
{
    uint32_t chunk = THREADS / LANES * TOGETHER, chunks = (g->stride + chunk - 1) / chunk;
    uint32_t grid = sac_rows_grid(g->query_count * chunks, 1);

    if (distance == SAC_DISTANCE_L2SQ)
        return SAC_LAUNCH((gather_kernel<DTYPE, WIDE, LANES, SAC_DISTANCE_L2SQ>), grid, THREADS, 0, stream,
                          *g);
    return SAC_LAUNCH((gather_kernel<DTYPE, WIDE, LANES, SAC_DISTANCE_NEG_IP>), grid, THREADS, 0, stream, *g);
}

template <sac_dtype DTYPE>
static cudaError_t launch(cudaStream_t stream, const struct gather *g, sac_distance distance)
{
    if (!sac_rows_wide(DTYPE, g->store.dim))
        return launch_lanes<DTYPE, false, 32>(stream, g, distance);
    if (g->store.dim <= SAC_ROWS_SHORT)
        return launch_lanes<DTYPE, true, 8>(stream, g, distance);
    return launch_lanes<DTYPE, true, 32>(stream, g, distance);
}

extern "C" sac_status sac_gather_distances_cuda(sac_stream *s, const struct sac_gather_distances_args *a)
{
    cudaStream_t stream = sac_cuda_stream_of(s);
    struct gather g = {sac_rows_of(a->pages, a->page_rows, a->dtype, a->dim),
                       a->queries,
                       a->query_count,
                       a->rows,
                       a->counts,
                       a->stride,
                       a->out};

    if (a->query_count == 0 || a->stride == 0)
        return SAC_OK;
    assert(a->dim > 0 && a->page_rows > 0);
    assert(a->dtype == SAC_F32 || a->dtype == SAC_F16 || a->dtype == SAC_I8);
    return sac_cuda_status(s->device, a->dtype == SAC_F32   ? launch<SAC_F32>(stream, &g, a->distance)
                                      : a->dtype == SAC_F16 ? launch<SAC_F16>(stream, &g, a->distance)
                                                            : launch<SAC_I8>(stream, &g, a->distance));
}
