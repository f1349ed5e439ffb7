/* tokens.cu -- the tokens of each picture: prefix, then patches, each with its position added.
 *
 *   patches f32 [n][patch_count][width] in      prefix f32 [prefix_count][width] in
 *   position f32 [prefix_count + patch_count][width] in      out f32 [n][prefix_count + patch_count][width]
 *   twin: ref/tokens.c
 *
 * Floors for n pictures of t tokens on an H200: 8 n t width bytes at 4.3 TB/s, 0.14 ms for 512 pictures of
 * ViT-B/16 (197 x 768); n t width additions at 60 TFLOP/s of f32, 0.001 ms. Memory bounds it. A thread keeps
 * its piece of `position` for PICTURES pictures, whose pieces it asks for at once.
 *
 * The normalisation that CLIP does next is not fused into this: it would save one reading and one writing of
 * the tokens, as long as all of this takes, in a network that goes over them some hundred times - 0.14 of
 * about 40 ms for those 512 pictures - and would need rows of `out` in one warp, with all widths of
 * layer_norm.cu again.
 *
 * nvcc 13.0, sm_90a: 40 registers (32 one component at a time), no shared memory, no spills: 48 warps a
 * multiprocessor, which ask for 2 KB each at once. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"

#include <assert.h>

enum { THREADS = 256, PICTURES = 4 };
#define GRID_Y_MAX 65535u

/* A thread has the same WIDTH components of all its pictures; `prefix` and `picture` are counts of floats. */
template <uint32_t WIDTH>
static __global__ void __launch_bounds__(THREADS)
    tokens_kernel(struct sac_tokens_args a, size_t prefix, size_t picture)
{
    const size_t at = ((size_t)blockIdx.x * THREADS + threadIdx.x) * WIDTH;
    const float *from = at < prefix ? a.prefix + at : a.patches + (at - prefix);
    const size_t step = at < prefix ? 0 : picture - prefix;
    float position[WIDTH];

    if (at >= picture)
        return;
    sac_vector_load<WIDTH>(a.position + at, 0, position);
    for (size_t first = (size_t)blockIdx.y * PICTURES; first < a.n; first += (size_t)gridDim.y * PICTURES) {
        float x[PICTURES][WIDTH];

#pragma unroll
        for (uint32_t i = 0; i < PICTURES; i++)
            if (first + i < a.n)
                sac_vector_load<WIDTH>(from + (first + i) * step, 0, x[i]);
#pragma unroll
        for (uint32_t i = 0; i < PICTURES; i++) {
            if (first + i >= a.n)
                break;
#pragma unroll
            for (uint32_t j = 0; j < WIDTH; j++)
                x[i][j] += position[j];
            sac_vector_store<WIDTH>(a.out + (first + i) * picture + at, 0, x[i]);
        }
    }
}

template <uint32_t WIDTH> static cudaError_t launch(cudaStream_t stream, const struct sac_tokens_args *a)
{
    const size_t prefix = (size_t)a->prefix_count * a->width;
    const size_t picture = prefix + (size_t)a->patch_count * a->width, blocks = (a->n - 1) / PICTURES + 1;
    const dim3 grid((uint32_t)((picture - 1) / (THREADS * WIDTH) + 1),
                    blocks < GRID_Y_MAX ? (uint32_t)blocks : GRID_Y_MAX);

    return SAC_LAUNCH((tokens_kernel<WIDTH>), grid, THREADS, 0, stream, *a, prefix, picture);
}

extern "C" sac_status sac_tokens_cuda(sac_stream *s, const struct sac_tokens_args *a)
{
    cudaStream_t stream = sac_cuda_stream_of(s);
    uintptr_t addresses =
        (uintptr_t)a->patches | (uintptr_t)a->prefix | (uintptr_t)a->position | (uintptr_t)a->out;

    if (a->n == 0)
        return SAC_OK;
    assert(a->width > 0 && a->prefix_count + a->patch_count > 0);
    return sac_cuda_status(s->device, a->width % 4 == 0 && addresses % 16 == 0 ? launch<4>(stream, a)
                                                                               : launch<1>(stream, a));
}
