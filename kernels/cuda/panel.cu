/* panel.cu -- fills a panel (panel.cuh): rows as scaled binary16 for the tensor cores.
 *
 *   rows f32, f16 or i8 in      values f16, bias, unscale, lengths, errors out
 *
 * Floor for n rows on an H200: n (row bytes + 2 dim + 16) bytes at 4.3 TB/s: 7 us for 50 k x 96 of f32, and
 * nothing to speak of beside the product that follows. Rows are read twice, the second time from the cache.
 * One block a tile, one warp a row.
 *
 * nvcc 13.0, sm_90a: 32 to 34 registers, 4 bytes of shared memory, no spills: 2048 threads a multiprocessor.
 */
#include "kernels/cuda/panel.cuh"

#include "kernels/cuda/launch.cuh"

#include <assert.h>

enum { THREADS = 256, WARPS = THREADS / 32 };

#define INFINITE __int_as_float(0x7f800000)

/* The power of two that brings `largest` to [2^14, 2^15), as far as an f32 can hold it and its inverse. */
static __device__ float scale_of(float largest)
{
    int exponent = (int)(__float_as_uint(largest) >> 23); /* biased by 127 */
    int scale = 127 + 127 + 14 - exponent;

    if (exponent == 0)
        return 1.0f;
    return __uint_as_float((uint32_t)(scale < 1 ? 1 : scale > 253 ? 253 : scale) << 23);
}

/* Of finite components: one that is not spoils its own row only. */
template <sac_dtype DTYPE, uint32_t WIDTH>
static __device__ float row_largest(const unsigned char *row, uint32_t dim)
{
    float largest = 0.0f, scale = sac_row_scale<DTYPE>(row);

    for (uint32_t d = threadIdx.x % 32 * WIDTH; d < dim; d += 32 * WIDTH) {
        float x[WIDTH];

        sac_row_load<DTYPE, WIDTH>(row, d, x);
#pragma unroll
        for (uint32_t j = 0; j < WIDTH; j++) {
            float size = fabsf(scale * x[j]);

            largest = size < INFINITE ? fmaxf(largest, size) : largest;
        }
    }
    return sac_lanes_max<32>(largest);
}

template <uint32_t WIDTH> static __device__ __forceinline__ void store(uint16_t *to, const uint16_t *halves)
{
    if constexpr (WIDTH == 1) {
        to[0] = halves[0];
    } else {
#pragma unroll
        for (uint32_t j = 0; j < WIDTH; j += 4)
            __stwb((uint2 *)(to + j), make_uint2(halves[j] | (uint32_t)halves[j + 1] << 16,
                                                 halves[j + 2] | (uint32_t)halves[j + 3] << 16));
    }
}

/* Writes one row and tells its squared length and its squared error, the latter scaled. */
template <sac_dtype DTYPE, uint32_t WIDTH>
static __device__ float2 row_convert(const unsigned char *row, uint32_t dim, float scale, uint16_t *to,
                                     uint32_t stride)
{
    float norm = 0.0f, error = 0.0f, row_scale = row != NULL ? sac_row_scale<DTYPE>(row) : 0.0f;
    uint32_t present = row != NULL ? dim : 0;

    for (uint32_t d = threadIdx.x % 32 * WIDTH; d < present; d += 32 * WIDTH) {
        float x[WIDTH];

        uint16_t halves[WIDTH];

        sac_row_load<DTYPE, WIDTH>(row, d, x);
#pragma unroll
        for (uint32_t j = 0; j < WIDTH; j++) {
            float v = DTYPE == SAC_I8 ? row_scale * x[j] : x[j], lost;

            halves[j] = sac_float_to_half(v * scale);
            lost = v * scale - sac_half_to_float(halves[j]);
            norm += v * v;
            error += lost * lost;
        }
        store<WIDTH>(to + d, halves);
    }
    for (uint32_t d = present + threadIdx.x % 32; d < stride; d += 32)
        to[d] = 0;
    return make_float2(sac_lanes_sum<32>(norm), sac_lanes_sum<32>(error));
}

template <sac_dtype DTYPE, bool WIDE>
__global__ void __launch_bounds__(THREADS) panel_kernel(const struct sac_panel_fill_args a)
{
    constexpr uint32_t WIDTH = sac_rows_width(DTYPE, WIDE);
    __shared__ uint32_t largest; /* bits: they order as non-negative numbers do */
    uint32_t warp = threadIdx.x / 32, dim = a.from.store.dim;
    size_t tile = blockIdx.x, base = tile * SAC_PANEL_TILE;
    float scale, length_most = 0.0f, error_most = 0.0f;

    if (threadIdx.x == 0)
        largest = 0;
    __syncthreads();
    for (size_t i = base + warp; i < base + SAC_PANEL_TILE && i < a.count; i += WARPS) {
        float mine = row_largest<DTYPE, WIDTH>(sac_row_source_at(&a.from, a.first + i), dim);

        if (threadIdx.x % 32 == 0)
            atomicMax(&largest, __float_as_uint(mine));
    }
    __syncthreads();
    scale = scale_of(__uint_as_float(largest));
    for (size_t i = base + warp; i < base + SAC_PANEL_TILE; i += WARPS) {
        size_t row = a.first + i;
        bool present = i < a.count && (a.live == NULL || (a.live[row / 64] >> row % 64 & 1) != 0);
        float2 sums = row_convert<DTYPE, WIDTH>(present ? sac_row_source_at(&a.from, row) : NULL, dim, scale,
                                                a.to.values + i * a.to.stride, a.to.stride);
        float length = sqrtf(sums.x), error = sqrtf(sums.y) / scale;

        length_most = fmaxf(length_most, length);
        error_most = fmaxf(error_most, error);
        if (threadIdx.x % 32 == 0) {
            a.to.bias[i] = !present ? INFINITE : a.l2 ? sums.x : 0.0f;
            if (a.to.lengths != NULL) {
                a.to.lengths[i] = length;
                a.to.errors[i] = error;
            }
        }
    }
    if (threadIdx.x == 0)
        a.to.unscale[tile] = 1.0f / scale;
    if (a.most != NULL && threadIdx.x % 32 == 0) {
        atomicMax(&a.most[0], __float_as_uint(length_most));
        atomicMax(&a.most[1], __float_as_uint(error_most));
    }
}

extern "C" size_t sac_panel_scratch(const struct sac_panel_shape *shape)
{
    size_t rows = shape->tiles * SAC_PANEL_TILE, each = sac_scratch_size(rows, sizeof(float));
    size_t bytes = sac_scratch_size(rows * sac_panel_stride(shape->dim), sizeof(uint16_t));

    bytes = sac_scratch_add(bytes, sac_scratch_size(shape->tiles, sizeof(float)));
    return sac_scratch_add(bytes, shape->measured ? 3 * each : each);
}

extern "C" bool sac_panel_take(sac_stream *s, const struct sac_panel_shape *shape, struct sac_panel *out)
{
    size_t rows = shape->tiles * SAC_PANEL_TILE;

    out->stride = sac_panel_stride(shape->dim);
    out->values = (uint16_t *)sac_scratch_take(s, rows * out->stride, sizeof(uint16_t));
    out->bias = (float *)sac_scratch_take(s, rows, sizeof(float));
    out->unscale = (float *)sac_scratch_take(s, shape->tiles, sizeof(float));
    out->lengths = shape->measured ? (float *)sac_scratch_take(s, rows, sizeof(float)) : NULL;
    out->errors = shape->measured ? (float *)sac_scratch_take(s, rows, sizeof(float)) : NULL;
    return out->values != NULL && out->bias != NULL && out->unscale != NULL &&
           (!shape->measured || (out->lengths != NULL && out->errors != NULL));
}

template <sac_dtype DTYPE> static cudaError_t launch(cudaStream_t stream, const struct sac_panel_fill_args *a)
{
    uint32_t tiles = sac_panel_tiles(a->count);

    if (sac_rows_wide(DTYPE, a->from.store.dim))
        return SAC_LAUNCH((panel_kernel<DTYPE, true>), tiles, THREADS, 0, stream, *a);
    return SAC_LAUNCH((panel_kernel<DTYPE, false>), tiles, THREADS, 0, stream, *a);
}

extern "C" cudaError_t sac_panel_fill_cuda(cudaStream_t stream, sac_dtype dtype,
                                           const struct sac_panel_fill_args *a)
{
    assert(a->count > 0 && a->to.stride == sac_panel_stride(a->from.store.dim));
    return dtype == SAC_F32   ? launch<SAC_F32>(stream, a)
           : dtype == SAC_F16 ? launch<SAC_F16>(stream, a)
                              : launch<SAC_I8>(stream, a);
}
