/* norms.cu -- squared lengths of vectors.
 *
 *   x f32 [n][dim] in      out f32 [n]      twin: ref/norms.c
 *
 * Floors for n vectors on an H200: 4 n dim bytes at 4.3 TB/s, 0.09 ms for 1 M x 96; 2 n dim operations at 60
 * TFLOP/s of f32, 0.003 ms. Memory bounds it.
 *
 * nvcc 13.0, sm_90a: 30 registers (24 one component at a time), no shared memory, no spills: a multiprocessor
 * is full, 2048 threads with 16 to 64 bytes each in flight. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

#include <assert.h>

enum { THREADS = 256 };

/* LANES neighbouring lanes a row. */
template <uint32_t WIDTH, uint32_t LANES>
static __global__ void __launch_bounds__(THREADS)
    norms_kernel(const float *x, size_t n, uint32_t dim, float *out)
{
    const uint32_t lane = threadIdx.x % LANES, together = THREADS / LANES;

    for (size_t first = (size_t)blockIdx.x * together; first < n; first += (size_t)gridDim.x * together) {
        size_t i = first + threadIdx.x / LANES;
        const float *row = x + i * dim;
        float sum = 0.0f;

        for (uint32_t d = lane * WIDTH; i < n && d < dim; d += LANES * WIDTH) {
            float v[WIDTH];

            sac_vector_load<WIDTH>(row, d, v);
#pragma unroll
            for (uint32_t j = 0; j < WIDTH; j++)
                sum += v[j] * v[j];
        }
        sum = sac_lanes_sum<LANES>(sum);
        if (lane == 0 && i < n)
            out[i] = sum;
    }
}

template <uint32_t WIDTH, uint32_t LANES>
static cudaError_t launch(cudaStream_t stream, const struct sac_norms_args *a)
{
    uint32_t grid = sac_rows_grid(a->n, THREADS / LANES);

    return SAC_LAUNCH((norms_kernel<WIDTH, LANES>), grid, THREADS, 0, stream, a->x, a->n, a->dim, a->out);
}

extern "C" sac_status sac_norms_cuda(sac_stream *s, const struct sac_norms_args *a)
{
    cudaStream_t stream = sac_cuda_stream_of(s);
    cudaError_t error;

    if (a->n == 0)
        return SAC_OK;
    assert(a->dim > 0);
    if (!sac_rows_wide(SAC_F32, a->dim))
        error = launch<1, 32>(stream, a);
    else if (a->dim <= SAC_ROWS_SHORT)
        error = launch<4, 8>(stream, a);
    else
        error = launch<4, 32>(stream, a);
    return sac_cuda_status(s->device, error);
}
