/* layer_norm.cu -- layer normalisation of the rows of a residual stream.
 *
 *   x f32 [rows] strided in      weight, bias f32 [width] in      y f32 or bf16 [rows][width]
 *   twin: ref/layer_norm.c
 *
 * Floors for rows of `width` on an H200: (4 + 4) rows width bytes at 4.3 TB/s, 6 of them with bf16 out: 0.11
 * ms for the 100,864 tokens of 512 pictures of ViT-B/16 (768 wide) in bf16; 8 rows width operations at 60
 * TFLOP/s of f32, 0.01 ms. Memory bounds it: x is read once, into registers, for up to 2048 components; of
 * wider rows and of rows off 16-byte boundaries the second and third reading come from the caches. Weight and
 * bias, which all rows share, stay in the first-level cache: 12 bytes for 6 or 8 of memory, which it gives
 * four times as fast. The addition of the residual before it is the linear's; after it the stream must stay
 * in memory anyway.
 *
 * nvcc 13.0, sm_90a, no shared memory, no spills: held_kernel <8 lanes, 8 pieces> 78 registers, <32, 4> 56,
 * <32, 8> 63, <32, 16> 128: 24, 36, 32 and 16 warps a multiprocessor, which ask for 3 (width 192), 2, 3 or 4
 * and 6 to 8 KB each at once, where some 30 KB in all keep memory busy; read_kernel 26 to 31: 64 warps. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/half.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

#include <assert.h>

enum { THREADS = 128 };

/* WIDTH parameters, which no kernel writes. */
template <uint32_t WIDTH> static __device__ __forceinline__ void parameters_load(const float *from, float *to)
{
    if constexpr (WIDTH == 4) {
        float4 v = __ldg((const float4 *)from);

        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else {
        to[0] = __ldg(from);
    }
}

/* Components w .. w + WIDTH - 1 of a row of y, from their distances to the mean. A warp stores whole sectors
 * of 32 bytes, in bf16 too. */
template <uint32_t WIDTH, sac_dtype Y>
static __device__ __forceinline__ void finish(const struct sac_layer_norm_args &a, size_t row, uint32_t w,
                                              const float *deviation, float scale)
{
    const size_t at = row * a.width + w;
    float weight[WIDTH], bias[WIDTH], y[WIDTH];

    parameters_load<WIDTH>(a.weight + w, weight);
    parameters_load<WIDTH>(a.bias + w, bias);
#pragma unroll
    for (uint32_t j = 0; j < WIDTH; j++)
        y[j] = deviation[j] * scale * weight[j] + bias[j];
    if constexpr (Y == SAC_F32)
        sac_vector_store<WIDTH>((float *)a.y + at, 0, y);
    else if constexpr (WIDTH == 4)
        __stwb((uint2 *)((uint16_t *)a.y + at),
               make_uint2(sac_bf16_pair(y[0], y[1]), sac_bf16_pair(y[2], y[3])));
    else
        ((uint16_t *)a.y)[at] = (uint16_t)sac_bf16_pair(y[0], 0.0f);
}

static __device__ __forceinline__ float scale_of(float squares, const struct sac_layer_norm_args &a)
{
    return 1.0f / sqrtf(squares / (float)a.width + a.eps);
}

/* LANES neighbouring lanes hold a row of at most LANES * CHUNKS * 4 components. */
template <uint32_t LANES, uint32_t CHUNKS, sac_dtype Y>
static __global__ void __launch_bounds__(THREADS) held_kernel(struct sac_layer_norm_args a)
{
    const uint32_t lane = threadIdx.x % LANES, together = THREADS / LANES;

    for (size_t first = (size_t)blockIdx.x * together; first < a.rows;
         first += (size_t)gridDim.x * together) {
        const size_t row = first + threadIdx.x / LANES;
        const uint32_t width = row < a.rows ? a.width : 0;
        float x[CHUNKS][4], sum = 0.0f, squares = 0.0f, mean, scale;

#pragma unroll
        for (uint32_t c = 0; c < CHUNKS; c++) {
            uint32_t w = (c * LANES + lane) * 4;

            if (w < width)
                sac_vector_load<4>(a.x + row * a.x_stride, w, x[c]);
        }
#pragma unroll
        for (uint32_t c = 0; c < CHUNKS; c++)
            if ((c * LANES + lane) * 4 < width)
                sum += x[c][0] + x[c][1] + (x[c][2] + x[c][3]);
        mean = sac_lanes_sum<LANES>(sum) / (float)a.width;
#pragma unroll
        for (uint32_t c = 0; c < CHUNKS; c++) {
            if ((c * LANES + lane) * 4 >= width)
                break;
#pragma unroll
            for (uint32_t j = 0; j < 4; j++) {
                x[c][j] -= mean;
                squares += x[c][j] * x[c][j];
            }
        }
        scale = scale_of(sac_lanes_sum<LANES>(squares), a);
#pragma unroll
        for (uint32_t c = 0; c < CHUNKS; c++) {
            uint32_t w = (c * LANES + lane) * 4;

            if (w < width)
                finish<4, Y>(a, row, w, x[c], scale);
        }
    }
}

/* A warp a row of any width, WIDTH components a lane at a time. */
template <uint32_t WIDTH, sac_dtype Y>
static __global__ void __launch_bounds__(THREADS) read_kernel(struct sac_layer_norm_args a)
{
    const size_t warps = THREADS / 32;

    for (size_t row = blockIdx.x * warps + sac_warp(); row < a.rows; row += gridDim.x * warps) {
        const float *from = a.x + row * a.x_stride;
        float x[WIDTH], sum = 0.0f, squares = 0.0f, mean, scale;

        for (uint32_t w = sac_lane() * WIDTH; w < a.width; w += 32 * WIDTH) {
            sac_vector_load<WIDTH>(from, w, x);
#pragma unroll
            for (uint32_t j = 0; j < WIDTH; j++)
                sum += x[j];
        }
        mean = sac_warp_sum(sum) / (float)a.width;
        for (uint32_t w = sac_lane() * WIDTH; w < a.width; w += 32 * WIDTH) {
            sac_vector_load<WIDTH>(from, w, x);
#pragma unroll
            for (uint32_t j = 0; j < WIDTH; j++)
                squares += (x[j] - mean) * (x[j] - mean);
        }
        scale = scale_of(sac_warp_sum(squares), a);
        for (uint32_t w = sac_lane() * WIDTH; w < a.width; w += 32 * WIDTH) {
            sac_vector_load<WIDTH>(from, w, x);
#pragma unroll
            for (uint32_t j = 0; j < WIDTH; j++)
                x[j] -= mean;
            finish<WIDTH, Y>(a, row, w, x, scale);
        }
    }
}

template <uint32_t LANES, uint32_t CHUNKS, sac_dtype Y>
static cudaError_t launch_held(cudaStream_t stream, const struct sac_layer_norm_args *a)
{
    uint32_t grid = sac_rows_grid(a->rows, THREADS / LANES);

    return SAC_LAUNCH((held_kernel<LANES, CHUNKS, Y>), grid, THREADS, 0, stream, *a);
}

template <uint32_t WIDTH, sac_dtype Y>
static cudaError_t launch_read(cudaStream_t stream, const struct sac_layer_norm_args *a)
{
    uint32_t grid = sac_rows_grid(a->rows, THREADS / 32);

    return SAC_LAUNCH((read_kernel<WIDTH, Y>), grid, THREADS, 0, stream, *a);
}

template <sac_dtype Y> static cudaError_t launch(cudaStream_t stream, const struct sac_layer_norm_args *a)
{
    uintptr_t addresses = (uintptr_t)a->x | (uintptr_t)a->weight | (uintptr_t)a->bias | (uintptr_t)a->y;

    if (a->width % 4 != 0 || a->x_stride % 4 != 0 || addresses % 16 != 0)
        return launch_read<1, Y>(stream, a);
    if (a->width <= 256)
        return launch_held<8, 8, Y>(stream, a);
    if (a->width <= 512)
        return launch_held<32, 4, Y>(stream, a);
    if (a->width <= 1024)
        return launch_held<32, 8, Y>(stream, a);
    if (a->width <= 2048)
        return launch_held<32, 16, Y>(stream, a);
    return launch_read<4, Y>(stream, a);
}

extern "C" sac_status sac_layer_norm_cuda(sac_stream *s, const struct sac_layer_norm_args *a)
{
    cudaStream_t stream = sac_cuda_stream_of(s);

    if (a->rows == 0)
        return SAC_OK;
    assert(a->width > 0 && (a->y_dtype == SAC_F32 || a->y_dtype == SAC_BF16));
    return sac_cuda_status(s->device,
                           a->y_dtype == SAC_F32 ? launch<SAC_F32>(stream, a) : launch<SAC_BF16>(stream, a));
}
