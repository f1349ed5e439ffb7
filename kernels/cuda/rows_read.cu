/* rows_read.cu -- chosen rows of a paged store as f32.
 *
 *   pages of f32, f16 or i8 rows, rows u32 [n] in      out f32 [n][dim]      twin: ref/rows_read.c
 *
 * Floor for n rows on an H200: n (row bytes + 4 dim + 4) bytes at 4.3 TB/s, 0.14 ms for 1 M x 96 of f16;
 * arithmetic is none to speak of. Pages in the host's memory come at the rate of the bus.
 *
 * nvcc 13.0, sm_90a: 20 to 32 registers, no shared memory, no spills: a multiprocessor is full, 2048 threads.
 * Three loads wait for one another - row, page, components - so that two thirds of the bandwidth are what to
 * expect. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

#include <assert.h>

enum { THREADS = 256 };

template <sac_dtype DTYPE, bool WIDE, uint32_t LANES>
static __global__ void __launch_bounds__(THREADS)
    rows_read_kernel(const struct sac_rows store, const uint32_t *rows, size_t n, float *out)
{
    constexpr uint32_t WIDTH = sac_rows_width(DTYPE, WIDE);
    const uint32_t lane = threadIdx.x % LANES, together = THREADS / LANES;

    for (size_t i = (size_t)blockIdx.x * together + threadIdx.x / LANES; i < n;
         i += (size_t)gridDim.x * together) {
        const unsigned char *row = sac_row_at(&store, rows[i]);
        float scale = sac_row_scale<DTYPE>(row), *to = out + i * store.dim;

        for (uint32_t d = lane * WIDTH; d < store.dim; d += LANES * WIDTH) {
            float x[WIDTH];

            sac_row_load<DTYPE, WIDTH>(row, d, x);
#pragma unroll
            for (uint32_t j = 0; j < WIDTH; j++)
                x[j] = DTYPE == SAC_I8 ? scale * x[j] : x[j];
            sac_vector_store<WIDTH>(to, d, x);
        }
    }
}

template <sac_dtype DTYPE> static cudaError_t launch(cudaStream_t stream, const struct sac_rows_read_args *a)
{
    struct sac_rows store = sac_rows_of(a->pages, a->page_rows, a->dtype, a->dim);
    uint32_t grid_short = sac_rows_grid(a->n, THREADS / 8), grid_long = sac_rows_grid(a->n, THREADS / 32);

    if (!sac_rows_wide(DTYPE, a->dim))
        return SAC_LAUNCH((rows_read_kernel<DTYPE, false, 32>), grid_long, THREADS, 0, stream, store, a->rows,
                          a->n, a->out);
    if (a->dim <= SAC_ROWS_SHORT)
        return SAC_LAUNCH((rows_read_kernel<DTYPE, true, 8>), grid_short, THREADS, 0, stream, store, a->rows,
                          a->n, a->out);
    return SAC_LAUNCH((rows_read_kernel<DTYPE, true, 32>), grid_long, THREADS, 0, stream, store, a->rows,
                      a->n, a->out);
}

extern "C" sac_status sac_rows_read_cuda(sac_stream *s, const struct sac_rows_read_args *a)
{
    cudaStream_t stream = sac_cuda_stream_of(s);

    if (a->n == 0)
        return SAC_OK;
    assert(a->dim > 0 && a->page_rows > 0);
    assert(a->dtype == SAC_F32 || a->dtype == SAC_F16 || a->dtype == SAC_I8);
    return sac_cuda_status(s->device, a->dtype == SAC_F32   ? launch<SAC_F32>(stream, a)
                                      : a->dtype == SAC_F16 ? launch<SAC_F16>(stream, a)
                                                            : launch<SAC_I8>(stream, a));
}
