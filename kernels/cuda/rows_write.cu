/* rows_write.cu -- vectors into chosen rows of a paged store, as f32, f16 or i8 with a scale.
 *
 *   x f32 [n][dim], rows u32 [n], distinct, in      pages      twin: ref/rows_write.c, equal to the bit,
 * but that an f16 NaN may be another NaN
 *
 * Floor for n rows on an H200: n (row bytes + 4 dim + 4) bytes at 4.3 TB/s, 0.14 ms for 1 M x 96 of f16. i8
 * looks at x twice, the second time from the cache.
 *
 * nvcc 13.0, sm_90a: 17 to 32 registers, no shared memory, no spills: a multiprocessor is full, 2048
 * threads. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

#include <assert.h>

enum { THREADS = 256 };

static __device__ __forceinline__ uint32_t pack_halves(float low, float high)
{
    return sac_float_to_half(low) | (uint32_t)sac_float_to_half(high) << 16;
}

/* The components of `row` from those of x, by LANES lanes; f32 and f16. */
template <sac_dtype DTYPE, uint32_t WIDTH, uint32_t LANES>
static __device__ __forceinline__ void write_floats(const float *x, uint32_t dim, unsigned char *row)
{
    for (uint32_t d = threadIdx.x % LANES * WIDTH; d < dim; d += LANES * WIDTH) {
        float v[8];

        sac_vector_load<WIDTH>(x, d, v);
        if constexpr (DTYPE == SAC_F32)
            sac_vector_store<WIDTH>((float *)row, d, v);
        else if constexpr (WIDTH == 8)
            ((uint4 *)row)[d / 8] = make_uint4(pack_halves(v[0], v[1]), pack_halves(v[2], v[3]),
                                               pack_halves(v[4], v[5]), pack_halves(v[6], v[7]));
        else
            ((uint16_t *)row)[d] = sac_float_to_half(v[0]);
    }
}

/* Components d .. d + 3, zeros beyond dim. */
template <uint32_t WIDTH>
static __device__ __forceinline__ void load_four(const float *x, uint32_t dim, uint32_t d, float *v)
{
    if constexpr (WIDTH == 4) {
        sac_vector_load<4>(x, d, v);
    } else {
#pragma unroll
        for (uint32_t j = 0; j < 4; j++)
            v[j] = d + j < dim ? x[d + j] : 0.0f;
    }
}

/* The same for i8, four components a word; lanes past the last row work on nothing, because they are needed
 * for the maximum. Where the scale is a subnormal number, its rounding can lead beyond 127. */
template <uint32_t WIDTH, uint32_t LANES>
static __device__ __forceinline__ void write_bytes(const float *x, uint32_t dim, unsigned char *row)
{
    uint32_t lane = threadIdx.x % LANES;
    float longest = 0.0f, scale, v[4];

    for (uint32_t d = lane * 4; d < dim; d += LANES * 4) {
        load_four<WIDTH>(x, dim, d, v);
#pragma unroll
        for (uint32_t j = 0; j < 4; j++)
            longest = fmaxf(longest, fabsf(v[j]));
    }
    scale = sac_lanes_max<LANES>(longest) / 127.0f;
    for (uint32_t d = lane * 4; d < dim; d += LANES * 4) {
        uint32_t word = 0;

        load_four<WIDTH>(x, dim, d, v);
#pragma unroll
        for (uint32_t j = 0; j < 4 && scale > 0.0f; j++)
            word |= (uint32_t)(uint8_t)(int8_t)rintf(fmaxf(-127.0f, fminf(127.0f, v[j] / scale))) << j * 8;
        ((uint32_t *)row)[1 + d / 4] = word;
    }
    if (lane == 0 && dim > 0)
        *(float *)row = scale;
}

template <sac_dtype DTYPE, bool WIDE, uint32_t LANES>
static __global__ void __launch_bounds__(THREADS)
    rows_write_kernel(const struct sac_rows store, const float *x, const uint32_t *rows, size_t n)
{
    const uint32_t together = THREADS / LANES;

    for (size_t first = (size_t)blockIdx.x * together; first < n; first += (size_t)gridDim.x * together) {
        size_t i = first + threadIdx.x / LANES;
        unsigned char *row = i < n ? (unsigned char *)sac_row_at(&store, rows[i]) : NULL;
        uint32_t dim = i < n ? store.dim : 0;

        if constexpr (DTYPE == SAC_I8)
            write_bytes<WIDE ? 4 : 1, LANES>(x + i * store.dim, dim, row);
        else
            write_floats<DTYPE, sac_rows_width(DTYPE, WIDE), LANES>(x + i * store.dim, dim, row);
    }
}

template <sac_dtype DTYPE> static cudaError_t launch(cudaStream_t stream, const struct sac_rows_write_args *a)
{
    struct sac_rows store = sac_rows_of(a->pages, a->page_rows, a->dtype, a->dim);
    uint32_t grid_short = sac_rows_grid(a->n, THREADS / 8), grid_long = sac_rows_grid(a->n, THREADS / 32);

    if (!sac_rows_wide(DTYPE, a->dim))
        return SAC_LAUNCH((rows_write_kernel<DTYPE, false, 32>), grid_long, THREADS, 0, stream, store, a->x,
                          a->rows, a->n);
    if (a->dim <= SAC_ROWS_SHORT)
        return SAC_LAUNCH((rows_write_kernel<DTYPE, true, 8>), grid_short, THREADS, 0, stream, store, a->x,
                          a->rows, a->n);
    return SAC_LAUNCH((rows_write_kernel<DTYPE, true, 32>), grid_long, THREADS, 0, stream, store, a->x,
                      a->rows, a->n);
}

extern "C" sac_status sac_rows_write_cuda(sac_stream *s, const struct sac_rows_write_args *a)
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
