/* Nearest codewords and norms: coding rows with a product quantizer.
 *
 * A block codes ROWS rows with one sub-quantizer, as a product tile would: both operands are staged slice by
 * slice in shared memory, every thread keeps the distances of 8 rows to 8 codewords in registers. Distances
 * are sums of squared differences in the twin's order, not |c|^2 - 2 x.c, so that equal codewords tie as they
 * do there; that costs one subtraction a component.
 *
 * Floors on an H200, for n rows of dim components and 2^nbits codewords: 4 n dim bytes at 4.3 TB/s, 0.09 us a
 * thousand rows of 96; 2 n dim 2^nbits f32 instructions at 29.6 T/s, 1.7 us a thousand of the same.
 * Arithmetic is what counts, and stays: the rows come over the bus first, at 8 us a thousand.
 *
 * nvcc 13.0, sm_90a: encode 128 registers, 8,448 bytes of shared memory, so 2 blocks and 16 warps a
 * multiprocessor; norm 32 registers. No spills.
 */
#include "kernels/cuda/cuda.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/warp.cuh"

#include <assert.h>

namespace
{

enum {
    THREADS = 256,
    ROWS = 128,  /* of a block */
    WORDS = 128, /* codewords looked at together */
    EACH = 8,    /* rows and codewords of a thread */
    SLICE = 8,   /* components staged at a time */
    PAD = 4,     /* floats: a row of the tile starts in another bank, and stays aligned to 16 bytes */
};

struct nearest_word {
    float distance;
    uint32_t word;
};

/* Components first..first+SLICE-1 of the block's rows, residuals where there are centroids; transposed, zeros
 * past the end. */
__device__ void stage_rows(const struct sac_pq_encode_args &a, uint32_t j, size_t row0, uint32_t first,
                           float (*tile)[ROWS + PAD])
{
    size_t dim = (size_t)a.pq.m * a.pq.dsub;

    for (uint32_t i = threadIdx.x; i < ROWS * SLICE; i += THREADS) {
        uint32_t d = first + i % SLICE;
        size_t row = row0 + i / SLICE, at = (size_t)j * a.pq.dsub + d;
        float value = 0.0f;

        if (row < a.n && d < a.pq.dsub) {
            value = a.x[row * dim + at];
            if (a.centroids != NULL)
                value -= a.centroids[(size_t)a.index[row] * dim + at];
        }
        tile[i % SLICE][i / SLICE] = value;
    }
}

__device__ void stage_words(const struct sac_pq_encode_args &a, uint32_t j, uint32_t word0, uint32_t first,
                            float (*tile)[WORDS + PAD])
{
    uint32_t count = 1u << a.pq.nbits;
    const float *words = a.codebook + (size_t)j * count * a.pq.dsub;

    for (uint32_t i = threadIdx.x; i < WORDS * SLICE; i += THREADS) {
        uint32_t d = first + i % SLICE, word = word0 + i / SLICE;

        tile[i % SLICE][i / SLICE] =
            word < count && d < a.pq.dsub ? words[(size_t)word * a.pq.dsub + d] : 0.0f;
    }
}

/* The thread's EACH values of a tile row: two quarters, WORDS / 2 apart, so that a warp's 16-byte reads of
 * neighbouring threads meet all banks. */
__device__ __forceinline__ void read_each(const float *row, uint32_t lane, float values[EACH])
{
    float4 low = *reinterpret_cast<const float4 *>(row + lane * 4);
    float4 high = *reinterpret_cast<const float4 *>(row + 64 + lane * 4);

    values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
    values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}

/* Which of the block's rows or codewords the thread's i-th is. */
__device__ __forceinline__ uint32_t each_at(uint32_t lane, uint32_t i)
{
    return (i / 4) * 64 + lane * 4 + i % 4;
}

/* Smaller distance, then smaller codeword; NaN is as far as infinity. */
__device__ __forceinline__ void offer(nearest_word &best, float distance, uint32_t word)
{
    if (distance < best.distance || (distance == best.distance && word < best.word)) {
        best.distance = distance;
        best.word = word;
    }
}

__global__ void __launch_bounds__(THREADS) encode_kernel(struct sac_pq_encode_args a)
{
    __shared__ __align__(16) float rows[SLICE][ROWS + PAD];
    __shared__ __align__(16) float words[SLICE][WORDS + PAD];
    uint32_t count = 1u << a.pq.nbits, j = blockIdx.y;
    uint32_t word_lane = threadIdx.x % 16, row_lane = threadIdx.x / 16;
    size_t row0 = (size_t)blockIdx.x * ROWS;
    nearest_word best[EACH];

    for (int r = 0; r < EACH; r++)
        best[r] = {INFINITY, 0};
    for (uint32_t word0 = 0; word0 < count; word0 += WORDS) {
        float distance[EACH][EACH] = {};

        for (uint32_t first = 0; first < a.pq.dsub; first += SLICE) {
            uint32_t depth = min((uint32_t)SLICE, a.pq.dsub - first);

            __syncthreads();
            stage_rows(a, j, row0, first, rows);
            stage_words(a, j, word0, first, words);
            __syncthreads();
            for (uint32_t d = 0; d < depth; d++) {
                float x[EACH], w[EACH];

                read_each(rows[d], row_lane, x);
                read_each(words[d], word_lane, w);
#pragma unroll
                for (int r = 0; r < EACH; r++)
#pragma unroll
                    for (int c = 0; c < EACH; c++) {
                        float difference = x[r] - w[c];
                        distance[r][c] += difference * difference;
                    }
            }
        }
#pragma unroll
        for (int r = 0; r < EACH; r++)
#pragma unroll
            for (int c = 0; c < EACH; c++) {
                uint32_t word = word0 + each_at(word_lane, c);
                if (word < count)
                    offer(best[r], distance[r][c], word);
            }
    }
#pragma unroll
    for (int r = 0; r < EACH; r++) {
        size_t row = row0 + each_at(row_lane, r);

        for (int step = 8; step > 0; step /= 2) { /* over the 16 threads that share the rows */
            float distance = __shfl_xor_sync(0xffffffffu, best[r].distance, step);
            uint32_t word = __shfl_xor_sync(0xffffffffu, best[r].word, step);
            offer(best[r], distance, word);
        }
        if (word_lane == 0 && row < a.n)
            a.codes[row * a.pq.m + j] = (uint8_t)best[r].word;
    }
}

/* |centroid + decoded residual|^2, a warp a row. */
__global__ void __launch_bounds__(THREADS) norm_kernel(struct sac_pq_encode_args a)
{
    uint32_t dim = a.pq.m * a.pq.dsub;
    size_t row = (size_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    const float *centroid;
    float sum = 0.0f;

    if (row >= a.n)
        return; /* the whole warp */
    centroid = a.centroids != NULL ? a.centroids + (size_t)a.index[row] * dim : NULL;
    for (uint32_t at = threadIdx.x % 32; at < dim; at += 32) {
        uint32_t j = at / a.pq.dsub, d = at % a.pq.dsub;
        uint32_t code = a.codes[row * a.pq.m + j];
        float value = a.codebook[(((size_t)j << a.pq.nbits) + code) * a.pq.dsub + d];

        if (centroid != NULL)
            value += centroid[at];
        sum += value * value;
    }
    sum = sac_warp_sum(sum);
    if (threadIdx.x % 32 == 0)
        a.norms[row] = sum;
}

} // namespace

extern "C" size_t sac_pq_encode_scratch_cuda(const sac_device *d, const struct sac_pq_encode_args *a)
{
    (void)d;
    (void)a;
    return 0;
}

extern "C" sac_status sac_pq_encode_cuda(sac_stream *s, const struct sac_pq_encode_args *a)
{
    dim3 tiles((unsigned)((a->n + ROWS - 1) / ROWS), a->pq.m);
    unsigned row_blocks = (unsigned)((a->n + THREADS / 32 - 1) / (THREADS / 32));
    cudaError_t error;

    assert((a->centroids == NULL) == (a->index == NULL) && a->pq.nbits >= 4 && a->pq.nbits <= 8);
    if (a->n == 0)
        return SAC_OK;
    error = SAC_LAUNCH(encode_kernel, tiles, THREADS, 0, sac_cuda_stream_of(s), *a);
    if (error == cudaSuccess && a->norms != NULL)
        error = SAC_LAUNCH(norm_kernel, row_blocks, THREADS, 0, sac_cuda_stream_of(s), *a);
    return sac_cuda_status(s->device, error);
}
