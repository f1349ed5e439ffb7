/* select.cu -- the best of each query's candidates.
 *
 *   distance f32, index u32 [query_count][stride], counts u32 [query_count] in
 *   out_distance f32, out_index u32 [query_count][keep]      twin: ref/select.c, equal to the bit
 *
 * Floor for c candidates in all on an H200: 8 c bytes at 4.3 TB/s, 0.002 ms for 10 k x 100; a comparison a
 * candidate is nothing. What counts for few candidates a query is the latency of a block - loads, one or two
 * passes of a radix selection, a sort of `keep` - and how many blocks a multiprocessor holds.
 *
 * One block a query; where there are fewer queries than the chip has room for blocks and rows are long,
 * several blocks a query, each of a part of its row, and a second pass over the keys that they kept.
 *
 * nvcc 13.0, sm_90a: 40 registers, both kernels, no spills; 1152 bytes of shared memory and 8 a place of the
 * reservoir: 9.9 KB for the best 10 of short rows (12 blocks of 128 threads a multiprocessor), 83 KB for the
 * best 4096 of long ones (2 of 256), 97 KB at most, which is what the smallest chips allow a block. */
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/select.cuh"

#include <assert.h>

enum {
    AT_ONCE = 4,              /* candidates that a thread has in flight */
    SHORT_ROW = 1024,         /* up to here half a block's threads are enough, and more blocks fit */
    LONG_ROW = 8192,          /* keys from which on a second pass has twice the threads */
    PART = 8192,              /* candidates that are worth a block of their own */
    BLOCKS_PER_PROCESSOR = 2, /* how many blocks to cut few queries into */
};

struct selection {
    const float *distance;
    const uint32_t *index, *counts;
    size_t query_count;
    uint32_t stride, keep, parts, part, capacity; /* `parts` a query, of `part` candidates */
    uint64_t *keys;                               /* [query_count][parts][keep], or NULL with parts 1 */
    float *out_distance;
    uint32_t *out_index;
};

/* Pushes those of candidates from .. to - 1 that are any. */
static __device__ __forceinline__ void push_candidates(struct sac_reservoir *r, const float *distance,
                                                       const uint32_t *index, uint32_t from, uint32_t to)
{
    const uint32_t round = AT_ONCE * blockDim.x;

    for (uint32_t base = from; base < to; base += round) {
        float distances[AT_ONCE];
        uint32_t indices[AT_ONCE];

#pragma unroll
        for (uint32_t t = 0; t < AT_ONCE; t++) {
            uint32_t i = base + t * blockDim.x + threadIdx.x;

            indices[t] = i < to ? index[i] : UINT32_MAX;
            distances[t] = i < to ? distance[i] : 0.0f;
        }
#pragma unroll
        for (uint32_t t = 0; t < AT_ONCE; t++)
            sac_reservoir_push(r, indices[t] != UINT32_MAX, distances[t], indices[t]);
        if (to - base > round)
            sac_reservoir_room(r, round);
    }
}

static __global__ void __launch_bounds__(256, 6) select_kernel(const struct selection a)
{
    SAC_SHARED_DYNAMIC(uint64_t, keys);
    __shared__ struct sac_reservoir_state state;
    struct sac_reservoir r;

    for (size_t task = blockIdx.x; task < a.query_count * a.parts; task += gridDim.x) {
        size_t q = task / a.parts;
        uint32_t from = (uint32_t)(task % a.parts) * a.part;
        uint32_t count = a.counts != NULL ? a.counts[q] : a.stride;
        uint32_t to = count > from && count - from > a.part ? from + a.part : count;

        sac_reservoir_init(&r, &state, keys, a.capacity, a.keep);
        push_candidates(&r, a.distance + q * a.stride, a.index + q * a.stride, from, to);
        if (a.keys != NULL) {
            sac_reservoir_settle(&r);
            sac_reservoir_write_keys(&r, a.keys + task * a.keep, a.keep);
        } else {
            sac_reservoir_sort(&r);
            sac_reservoir_write(&r, a.out_distance + q * a.keep, a.out_index + q * a.keep, a.keep);
        }
    }
}

/* The second pass: the best of each query's row of keys. */
static __global__ void __launch_bounds__(512) select_keys_kernel(const struct selection a)
{
    SAC_SHARED_DYNAMIC(uint64_t, keys);
    __shared__ struct sac_reservoir_state state;
    const uint32_t round = AT_ONCE * blockDim.x, stride = a.parts * a.keep;
    struct sac_reservoir r;

    for (size_t q = blockIdx.x; q < a.query_count; q += gridDim.x) {
        const uint64_t *row = a.keys + q * stride;

        sac_reservoir_init(&r, &state, keys, a.capacity, a.keep);
        for (uint32_t base = 0; base < stride; base += round) {
            uint64_t taken[AT_ONCE];

#pragma unroll
            for (uint32_t t = 0; t < AT_ONCE; t++) {
                uint32_t i = base + t * blockDim.x + threadIdx.x;

                taken[t] = i < stride ? row[i] : SAC_KEY_NONE;
            }
#pragma unroll
            for (uint32_t t = 0; t < AT_ONCE; t++)
                sac_reservoir_push_key(&r, taken[t]);
            if (stride - base > round)
                sac_reservoir_room(&r, round);
        }
        sac_reservoir_sort(&r);
        sac_reservoir_write(&r, a.out_distance + q * a.keep, a.out_index + q * a.keep, a.keep);
    }
}

/* Parts that a row is cut into. */
static uint32_t part_count(const sac_device *d, const struct sac_select_args *a)
{
    const sac_cuda_device *device = (const sac_cuda_device *)d;
    uint32_t part = 4 * a->keep > PART ? 4 * a->keep : (uint32_t)PART, worthwhile = a->stride / part;
    size_t wanted = a->query_count > 0 ? BLOCKS_PER_PROCESSOR * device->multiprocessors / a->query_count : 1;
    size_t parts = wanted < worthwhile ? wanted : worthwhile;

    return parts > 1 ? (uint32_t)parts : 1;
}

extern "C" size_t sac_select_scratch_cuda(const sac_device *d, const struct sac_select_args *a)
{
    uint32_t parts = part_count(d, a);

    return parts > 1 ? sac_scratch_size(a->query_count * parts, a->keep * sizeof(uint64_t)) : 0;
}

/* Starts a pass over `tasks` rows. */
static cudaError_t launch(void (*kernel)(struct selection), cudaStream_t stream, size_t tasks,
                          uint32_t threads, struct selection w)
{
    uint32_t grid = tasks < (1u << 30) ? (uint32_t)tasks : 1u << 30;
    size_t bytes;
    cudaError_t error;

    w.capacity = sac_reservoir_capacity(w.keep, AT_ONCE * threads);
    bytes = w.capacity * sizeof(uint64_t);
    error = sac_launch_shared(kernel, bytes);
    return error == cudaSuccess ? SAC_LAUNCH(kernel, grid, threads, bytes, stream, w) : error;
}

extern "C" sac_status sac_select_cuda(sac_stream *s, const struct sac_select_args *a)
{
    cudaStream_t stream = sac_cuda_stream_of(s);
    struct selection w = {};
    cudaError_t error;

    if (a->query_count == 0)
        return SAC_OK;
    assert(a->keep >= 1 && a->keep <= 4096);
    sac_scratch_reset(s);
    w.distance = a->distance;
    w.index = a->index;
    w.counts = a->counts;
    w.query_count = a->query_count;
    w.stride = a->stride;
    w.keep = a->keep;
    w.parts = part_count(s->device, a);
    w.part = (a->stride + w.parts - 1) / w.parts;
    w.out_distance = a->out_distance;
    w.out_index = a->out_index;
    if (w.parts > 1) {
        w.keys = (uint64_t *)sac_scratch_take(s, a->query_count * w.parts, a->keep * sizeof *w.keys);
        if (w.keys == NULL)
            return SAC_DEVICE_MEMORY;
    }
    error = launch(select_kernel, stream, a->query_count * w.parts, w.part <= SHORT_ROW ? 128 : 256, w);
    if (error == cudaSuccess && w.parts > 1)
        error =
            launch(select_keys_kernel, stream, a->query_count, w.parts * a->keep <= LONG_ROW ? 256 : 512, w);
    return sac_cuda_status(s->device, error);
}
