/* row_distance.cuh -- a query's exact distance to a row, by 8 lanes: sum (q-x)^2, or -sum q x, in f32.
 *
 * However it is asked for - one query or several, one row or several - the same components meet in the same
 * order, so that a distance has the same bits everywhere. */
#ifndef SACCADE_CUDA_ROW_DISTANCE_CUH
#define SACCADE_CUDA_ROW_DISTANCE_CUH

#include "kernels/cuda/rows.cuh"

/* This lane's share of the distances of QUERIES queries ([QUERIES][dim], `apart` from each other, in shared
 * or global memory) to ROWS rows: sums[q * ROWS + r]. */
template <sac_dtype DTYPE, uint32_t WIDTH, uint32_t QUERIES, uint32_t ROWS, bool L2>
static __device__ __forceinline__ void sac_row_distance_share(const float *queries, uint32_t apart,
                                                              const unsigned char *const *rows, uint32_t dim,
                                                              float *sums)
{
    float scales[ROWS];

#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++)
        scales[r] = sac_row_scale<DTYPE>(rows[r]);
#pragma unroll
    for (uint32_t i = 0; i < QUERIES * ROWS; i++)
        sums[i] = 0.0f;
    for (uint32_t d = threadIdx.x % 8 * WIDTH; d < dim; d += 8 * WIDTH) {
        float x[ROWS][WIDTH];

#pragma unroll
        for (uint32_t r = 0; r < ROWS; r++)
            sac_row_load<DTYPE, WIDTH>(rows[r], d, x[r]);
#pragma unroll
        for (uint32_t r = 0; r < ROWS && DTYPE == SAC_I8; r++)
#pragma unroll
            for (uint32_t j = 0; j < WIDTH; j++)
                x[r][j] = __fmul_rn(x[r][j], scales[r]); /* rounded, as rows_read gives it, before it is
                                                            subtracted: nvcc would fuse the two */
#pragma unroll
        for (uint32_t q = 0; q < QUERIES; q++) {
            float y[WIDTH];

            sac_vector_load<WIDTH>(queries + (size_t)q * apart, d, y);
#pragma unroll
            for (uint32_t r = 0; r < ROWS; r++)
#pragma unroll
                for (uint32_t j = 0; j < WIDTH; j++) {
                    float away = y[j] - x[r][j], *sum = &sums[q * ROWS + r];

                    *sum = L2 ? fmaf(away, away, *sum) : fmaf(-y[j], x[r][j], *sum);
                }
        }
    }
}

/* Adds N sums of 8 lanes, N a multiple of 8: v[i], i < N / 8, becomes the total of sum lane * N / 8 + i. Each
 * step halves what a lane holds: 7 N / 8 shuffles instead of 3 N, added in the order of sac_lanes_sum<8>. */
template <uint32_t N, uint32_t AWAY = 4> static __device__ __forceinline__ void sac_lanes_fold(float *v)
{
    if constexpr (AWAY > 0) {
        bool upper = (threadIdx.x & AWAY) != 0;

#pragma unroll
        for (uint32_t i = 0; i < N / 2; i++) {
            float low = v[i], high = v[N / 2 + i];

            v[i] = (upper ? high : low) + __shfl_xor_sync(0xffffffffu, upper ? low : high, (int)AWAY);
        }
        sac_lanes_fold<N / 2, AWAY / 2>(v);
    }
}

/* The distance, in all 8 lanes. All lanes of the warp call it. */
template <sac_dtype DTYPE, uint32_t WIDTH>
static __device__ __forceinline__ float sac_row_distance(const float *query, const unsigned char *row,
                                                         uint32_t dim, bool l2)
{
    float sum;

    if (l2)
        sac_row_distance_share<DTYPE, WIDTH, 1, 1, true>(query, dim, &row, dim, &sum);
    else
        sac_row_distance_share<DTYPE, WIDTH, 1, 1, false>(query, dim, &row, dim, &sum);
    return sac_lanes_sum<8>(sum);
}

#endif
