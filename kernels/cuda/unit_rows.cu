/* unit_rows.cu -- embeddings divided by their lengths.
 *
 *   x f32 [rows][width] in and out      spoiled u32 out      twin: ref/unit_rows.c
 *
 * Floors on an H200: 8 rows width bytes at 4.3 TB/s, 1 us for 512 x 1024; 4 rows width operations at 30
 * TFLOP/s of f64, 0.1 us. A launch takes longer than either, so this is simple: a warp a row, which it reads
 * twice, the second time from a cache. Squares and scale are f64, in which no length of f32 components
 * overflows or vanishes; chips that do a 64th of their f32 rate in it still need 3 us.
 *
 * nvcc 13.0, sm_90a: 32 registers (30 one component at a time), no shared memory, no spills. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

#include <assert.h>
#include <math.h>

enum { THREADS = 128 };

template <uint32_t WIDTH>
static __global__ void __launch_bounds__(THREADS) unit_rows_kernel(struct sac_unit_rows_args a)
{
    const size_t warps = THREADS / 32;

    for (size_t i = blockIdx.x * warps + sac_warp(); i < a.rows; i += gridDim.x * warps) {
        float *row = a.x + i * a.width, x[WIDTH];
        double sum = 0.0, scale;

        for (uint32_t w = sac_lane() * WIDTH; w < a.width; w += 32 * WIDTH) {
            sac_vector_load<WIDTH>(row, w, x);
#pragma unroll
            for (uint32_t j = 0; j < WIDTH; j++)
                sum += (double)x[j] * x[j];
        }
        sum = sac_warp_sum(sum);
        if (!(sum > 0.0 && sum < INFINITY)) {
            if (sac_lane() == 0)
                atomicAdd(a.spoiled, 1u);
            continue;
        }
        scale = 1.0 / sqrt(sum);
        for (uint32_t w = sac_lane() * WIDTH; w < a.width; w += 32 * WIDTH) {
            sac_vector_load<WIDTH>(row, w, x);
#pragma unroll
            for (uint32_t j = 0; j < WIDTH; j++)
                x[j] = (float)(x[j] * scale);
            sac_vector_store<WIDTH>(row, w, x);
        }
    }
}

template <uint32_t WIDTH> static cudaError_t launch(cudaStream_t stream, const struct sac_unit_rows_args *a)
{
    uint32_t grid = sac_rows_grid(a->rows, THREADS / 32);

    return SAC_LAUNCH((unit_rows_kernel<WIDTH>), grid, THREADS, 0, stream, *a);
}

extern "C" sac_status sac_unit_rows_cuda(sac_stream *s, const struct sac_unit_rows_args *a)
{
    cudaStream_t stream = sac_cuda_stream_of(s);
    cudaError_t error = cudaMemsetAsync(a->spoiled, 0, sizeof *a->spoiled, stream);

    assert(a->width > 0);
    if (error == cudaSuccess && a->rows > 0)
        error = a->width % 4 == 0 && (uintptr_t)a->x % 16 == 0 ? launch<4>(stream, a) : launch<1>(stream, a);
    return sac_cuda_status(s->device, error);
}
