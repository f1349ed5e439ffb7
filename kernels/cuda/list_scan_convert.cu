/* list_scan_convert.cu -- the list-major scan's codebook and queries, as its product wants them.
 *
 * Floors on an H200 (4.3 TB/s): the codebook is read and written once a search, 256 * dim * 6 bytes: 0.3 us
 * at 768 dimensions; queries 6 bytes a component: 10.7 us for 10,000 of 768. Arithmetic is nothing beside it.
 *
 * nvcc 13.0, sm_90a: 31 registers, 16 bytes of shared memory, no spills: a multiprocessor is full, 2048
 * threads. */
#include "kernels/cuda/list_scan.cuh"
#include "kernels/cuda/warp.cuh"

#include <cuda_bf16.h>

enum { THREADS = 128, WIDTH_MAX = 8 };

static __device__ __forceinline__ uint16_t bf16(float x)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

/* One code word's components from `first` on, `width` of them, to their place in the chunk (see
 * list_scan_product.cuh); zeros where there are none. */
static __device__ void word_place(const struct sac_lists_scan *s, uint32_t unit, uint32_t code,
                                  const float *word, uint32_t count)
{
    uint32_t width = s->shape.width, per_chunk = SAC_LISTS_CHUNK / width, per_thread = WIDTH_MAX / width;
    uint32_t thread = unit % per_chunk / per_thread, lookup = unit % per_thread;
    size_t table = (size_t)(unit / per_chunk) * per_thread + lookup;
    uint16_t *to = s->codebook + (((table << s->a.pool.pq.nbits) + code) * 4 + thread) * width;

    for (uint32_t i = 0; i < width; i++)
        to[i] = i < count ? bf16(word[i]) : (uint16_t)0;
}

/* Block: a sub-quantizer, or one of those that pad the last chunk. */
static __global__ void __launch_bounds__(THREADS)
    convert_codebook(const __grid_constant__ struct sac_lists_scan s)
{
    const sac_pq_shape *pq = &s.a.pool.pq;
    uint32_t j = blockIdx.x, parts = s.shape.parts, width = s.shape.width;
    uint32_t units = s.shape.chunks * (SAC_LISTS_CHUNK / width), words = 1u << pq->nbits;
    __shared__ float widest[THREADS / 32];
    float largest = 0.0f;

    for (uint32_t code = threadIdx.x; code < words; code += THREADS) {
        const float *word = s.a.codebook + ((size_t)j * words + code) * pq->dsub;
        float norm = 0.0f;

        for (uint32_t d = 0; j < pq->m && d < pq->dsub; d++)
            norm += word[d] * word[d];
        largest = fmaxf(largest, norm);
        for (uint32_t part = 0, unit = j * parts; part < parts && unit < units; part++, unit++) {
            uint32_t first = part * width, count = j < pq->m && first < pq->dsub ? pq->dsub - first : 0;

            word_place(&s, unit, code, word + (count > 0 ? first : 0), count);
        }
    }
    largest = sac_warp_max(largest);
    if (threadIdx.x % 32 == 0)
        widest[threadIdx.x / 32] = largest;
    __syncthreads();
    if (threadIdx.x == 0 && j < pq->m) {
        for (uint32_t warp = 1; warp < THREADS / 32; warp++)
            largest = fmaxf(largest, widest[warp]);
        s.widest[j] = sqrtf(largest);
    }
}

/* Warp: a query. Its components in bf16, padded as the code words are, in the order of the product; and twice
 * the bound on the error of its distances: bf16 has 8 bits, so each product is off by 2^-8 twice; sums in f32
 * on tensor cores by at most 2^-22 an addition. */
static __global__ void __launch_bounds__(THREADS)
    convert_queries(const __grid_constant__ struct sac_lists_scan s)
{
    const sac_pq_shape *pq = &s.a.pool.pq;
    uint32_t padded = s.shape.chunks * SAC_LISTS_CHUNK;
    uint32_t word = s.shape.width * s.shape.parts; /* a code word's components, padded */
    size_t q = (size_t)blockIdx.x * (THREADS / 32) + sac_warp();
    const float *query = s.a.queries + q * pq->m * pq->dsub;
    float widest = 0.0f;

    if (q >= s.a.query_count)
        return;
    for (uint32_t d = sac_lane(); d < padded; d += 32) {
        uint32_t j = d / word, i = d % word;
        float x = j < pq->m && i < pq->dsub ? query[j * pq->dsub + i] : 0.0f;

        s.queries[q * padded + (d & ~31u) + d % 8 / 2 * 8 + d % 32 / 8 * 2 + d % 2] = bf16(x);
    }
    for (uint32_t j = sac_lane(); j < pq->m; j += 32) {
        float norm = 0.0f;

        for (uint32_t d = 0; d < pq->dsub; d++)
            norm += query[j * pq->dsub + d] * query[j * pq->dsub + d];
        widest += sqrtf(norm) * s.widest[j];
    }
    widest = sac_warp_sum(widest);
    if (sac_lane() == 0)
        s.margins[q] = 2.0f * (0x1.02p-7f + 0x1p-22f * (float)padded) * fabsf(s.a.scale) * widest;
}

cudaError_t sac_lists_convert_codebook(const struct sac_lists_scan *s, cudaStream_t stream)
{
    uint32_t units = s->shape.chunks * (SAC_LISTS_CHUNK / s->shape.width);

    return SAC_LAUNCH((convert_codebook), (units + s->shape.parts - 1) / s->shape.parts, THREADS, 0, stream,
                      *s);
}

cudaError_t sac_lists_convert_queries(const struct sac_lists_scan *s, cudaStream_t stream)
{
    uint32_t warps = THREADS / 32;

    return SAC_LAUNCH((convert_queries), (uint32_t)((s->a.query_count + warps - 1) / warps), THREADS, 0,
                      stream, *s);
}
