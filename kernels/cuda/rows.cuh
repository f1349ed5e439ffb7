/* rows.cuh -- stored rows (ops.h: f32, f16, i8 with a scale, in pages): where one is, and its components.
 *
 * A row is read by 8 or 32 neighbouring lanes. 16 bytes a lane where rows lie on 16-byte boundaries, so that
 * 8 lanes ask for the 128 bytes that memory hands out at once; 4 bytes a lane for i8, whose scale shifts
 * rows off such boundaries; one component a lane for dimensions that divide by neither. */
#ifndef SACCADE_CUDA_ROWS_CUH
#define SACCADE_CUDA_ROWS_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/half.cuh"
#include "kernels/cuda/warp.cuh"

/* Up to this dimension 8 lanes share a row, beyond it 32. */
#define SAC_ROWS_SHORT 256u

/* Blocks for n rows, `together` of them a block and loop; kernels go on in steps of the grid. */
static inline uint32_t sac_rows_grid(size_t n, uint32_t together)
{
    size_t blocks = (n + together - 1) / together;

    return blocks < (1u << 30) ? (uint32_t)blocks : 1u << 30;
}

/* A paged store as kernels take it, by value. */
struct sac_rows {
    const void *const *pages;
    uint32_t page_rows, dim;
    size_t row_bytes;
};

static inline struct sac_rows sac_rows_of(const void *const *pages, uint32_t page_rows, sac_dtype dtype,
                                          uint32_t dim)
{
    struct sac_rows rows = {pages, page_rows, dim, sac_row_bytes(dtype, dim)};

    return rows;
}

/* Components that one lane takes at once where sac_rows_wide() says so; else 1. */
static inline __host__ __device__ constexpr uint32_t sac_rows_width(sac_dtype dtype, bool wide)
{
    return !wide ? 1 : dtype == SAC_F16 ? 8 : 4;
}

/* Whether every row, and f32 vectors of the same dimension, allow loads of sac_rows_width(dtype, true). */
static inline bool sac_rows_wide(sac_dtype dtype, uint32_t dim)
{
    return dim % sac_rows_width(dtype, true) == 0;
}

/* The same address, which the compiler is told to be in global memory: of one that was itself read from
 * memory it cannot know, and would use loads that find out each time. */
static __device__ __forceinline__ const unsigned char *sac_rows_global(const void *address)
{
#ifdef __CUDA_ARCH__
    __builtin_assume(__isGlobal(address));
#endif
    return (const unsigned char *)address;
}

static __device__ __forceinline__ const unsigned char *sac_row_at(const struct sac_rows *rows, uint32_t row)
{
    return sac_rows_global(rows->pages[row / rows->page_rows]) + row % rows->page_rows * rows->row_bytes;
}

/* What components of this row are to be multiplied with. */
template <sac_dtype DTYPE> static __device__ __forceinline__ float sac_row_scale(const unsigned char *row)
{
    return DTYPE == SAC_I8 ? *(const float *)row : 1.0f;
}

/* Components d .. d + WIDTH - 1, without the scale. WIDTH is 1 or that of sac_rows_width(); it divides d. */
template <sac_dtype DTYPE, uint32_t WIDTH>
static __device__ __forceinline__ void sac_row_load(const unsigned char *row, uint32_t d, float *x)
{
    if constexpr (DTYPE == SAC_F32 && WIDTH == 4) {
        float4 v = ((const float4 *)row)[d / 4];

        x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
    } else if constexpr (DTYPE == SAC_F32) {
        x[0] = ((const float *)row)[d];
    } else if constexpr (DTYPE == SAC_F16 && WIDTH == 8) {
        uint4 v = ((const uint4 *)row)[d / 8];
        uint32_t words[4] = {v.x, v.y, v.z, v.w};

#pragma unroll
        for (uint32_t i = 0; i < WIDTH; i++)
            x[i] = sac_half_to_float((uint16_t)(words[i / 2] >> i % 2 * 16));
    } else if constexpr (DTYPE == SAC_F16) {
        x[0] = sac_half_to_float(((const uint16_t *)row)[d]);
    } else if constexpr (WIDTH == 4) {
        uint32_t word = ((const uint32_t *)row)[1 + d / 4];

#pragma unroll
        for (uint32_t i = 0; i < WIDTH; i++)
            x[i] = (float)(int8_t)(word >> i * 8);
    } else {
        x[0] = (float)((const int8_t *)row)[4 + d];
    }
}

/* WIDTH components of an f32 vector, whose rows lie on 16-byte boundaries where WIDTH > 1. */
template <uint32_t WIDTH>
static __device__ __forceinline__ void sac_vector_load(const float *vector, uint32_t d, float *x)
{
    if constexpr (WIDTH == 1) {
        x[0] = vector[d];
    } else {
#pragma unroll
        for (uint32_t i = 0; i < WIDTH; i += 4)
            sac_row_load<SAC_F32, 4>((const unsigned char *)vector, d + i, x + i);
    }
}

/* To global memory. __stwb() is a plain store that the compiler leaves in one piece: of an assignment nvcc
 * sometimes makes four. */
template <uint32_t WIDTH>
static __device__ __forceinline__ void sac_vector_store(float *vector, uint32_t d, const float *x)
{
    if constexpr (WIDTH == 1) {
        vector[d] = x[0];
    } else {
#pragma unroll
        for (uint32_t i = 0; i < WIDTH; i += 4)
            __stwb((float4 *)vector + (d + i) / 4, make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]));
    }
}

/* The sum over each run of LANES lanes, in all of them. All lanes of the warp call it. */
template <uint32_t LANES> static __device__ __forceinline__ float sac_lanes_sum(float x)
{
#pragma unroll
    for (uint32_t away = LANES / 2; away > 0; away /= 2)
        x += __shfl_xor_sync(SAC_WARP_ALL, x, (int)away);
    return x;
}

template <uint32_t LANES> static __device__ __forceinline__ float sac_lanes_max(float x)
{
#pragma unroll
    for (uint32_t away = LANES / 2; away > 0; away /= 2)
        x = fmaxf(x, __shfl_xor_sync(SAC_WARP_ALL, x, (int)away));
    return x;
}

#endif
