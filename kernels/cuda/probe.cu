/* probe.cu -- the lists that each query probes: coarse search.
 *
 *   queries f32 [query_count][dim], centroids f32 [nlist][dim] in
 *   probes {list, base} [query_count][width], counts, held out      twin: ref/probe.c
 *
 * Floors on an H200. 10 k queries, 50 k lists, 96: 96 GFLOP at 790 TFLOP/s of f16, 0.12 ms; 24 MB at 4.3
 * TB/s, 0.006 ms; reading the 64 + 16 centroids of each query again for exact distances, 0.3 GB from L2, 0.06
 * ms. One query: 19 MB, 4.5 us from memory, half that from L2.
 *
 * Groups of lists are not looked at: products with all centroids cost less than finding out which to leave
 * out.
 *
 * Batches choose by products of 16-bit numbers (shortlist.cu), few queries directly (shortlist_stream.cu);
 * then a block a query computes the exact distances of what was chosen, sorts, and takes from the front until
 * both nprobes and needs are met. A product's distance is wrong by at most 2^-10 (|q|^2 + |c|^2) (panel.cuh),
 * a fifth of what the contract allows two of them together, and a few more than `width` are chosen besides.
 *
 * nvcc 13.0, sm_90a: 46 registers, 1.4 KB of shared memory and 8 bytes dynamic for each key that the lists of
 * a query can hold, no spills (sm_120: 4 bytes): five blocks of 256 a multiprocessor for batches, one of 1024
 * for few queries. Expected, never measured: 0.4 ms for the batch above (0.25 products, 0.13 here, the rest
 * panels and launches), 15 us for the one query (5 the stream, 6 here, two launches). */
#include "kernels/cuda/shortlist_finish.cuh"

#include "kernels/cuda/launch.cuh"
#include "kernels/reach.h"

#include <assert.h>

enum { SPARE = 16 };

struct probe_finish {
    struct sac_shortlist_finish lists;
    const float *centroid_norms;
    const sac_list *pool;
    const uint32_t *nprobes, *needs;
    const float *reaches; /* or NULL */
    uint32_t width;
    sac_probe *probes;
    uint32_t *counts, *held;
};

/* What a block shares while it adds up what lists hold. */
struct probe_sums {
    uint64_t warps[SAC_FINISH_FEW / 32];
};

/* Block: the sum of the threads before this one; *total that of all. Ends with a barrier. */
static __device__ uint64_t block_prefix(uint64_t value, struct probe_sums *shared, uint64_t *total)
{
    uint64_t sum = value, before = 0;

    for (uint32_t away = 1; away < 32; away *= 2) {
        uint64_t below = __shfl_up_sync(SAC_WARP_ALL, sum, away);

        sum += sac_lane() >= away ? below : 0;
    }
    if (sac_lane() == 31)
        shared->warps[sac_warp()] = sum;
    __syncthreads();
    *total = 0;
    for (uint32_t w = 0; w < blockDim.x / 32; w++) {
        before += w < sac_warp() ? shared->warps[w] : 0;
        *total += shared->warps[w];
    }
    __syncthreads();
    return before + sum - value;
}

/* Block: takes lists from the front of the sorted keys. A list is taken if there are fewer than nprobes
 * before it and it is within reach, or those before it hold fewer than needs: whoever is not taken, nobody
 * behind is. */
static __device__ void take(const struct probe_finish *a, uint32_t query, const uint64_t *keys,
                            struct probe_sums *shared)
{
    float nearest = sac_key_distance(keys[0]), reach = a->reaches != NULL ? a->reaches[query] : INFINITY;
    uint64_t held = 0;
    uint32_t count = 0;
    bool more = true;

    for (uint32_t first = 0; first < a->width && more; first += blockDim.x) {
        uint32_t i = first + threadIdx.x, taken, list = i < a->width ? sac_key_index(keys[i]) : 0;
        uint32_t rows = i < a->width ? a->pool[list].row_count : 0;
        uint64_t total, before = held + block_prefix(rows, shared, &total);
        float distance = i < a->width ? sac_key_distance(keys[i]) : 0.0f;
        bool near = isinf(reach) || sac_within_reach(distance, i, nearest, reach);
        bool takes = i < a->width && ((i < a->nprobes[query] && near) || before < a->needs[query]);

        if (takes) {
            sac_probe probe = {list, a->lists.l2 ? distance - a->centroid_norms[list] : distance};

            a->probes[(size_t)query * a->width + i] = probe;
        }
        taken = (uint32_t)__syncthreads_count(takes);
        more = taken == blockDim.x;
        if (!more)
            block_prefix(takes ? rows : 0, shared, &total);
        count += taken;
        held += total;
    }
    if (threadIdx.x == 0) {
        a->counts[query] = count;
        a->held[query] = held < UINT32_MAX ? (uint32_t)held : UINT32_MAX;
    }
}

template <bool WIDE>
static __global__ void __launch_bounds__(SAC_FINISH_FEW) probe_kernel(const struct probe_finish a)
{
    SAC_SHARED_DYNAMIC(uint64_t, keys);
    __shared__ struct sac_reservoir_state state;
    __shared__ struct probe_sums sums;

    for (uint32_t query = blockIdx.x; query < a.lists.query_count; query += gridDim.x) {
        float cut;

        sac_shortlist_sort<SAC_F32, WIDE>(&a.lists, query, query, &state, keys, &cut);
        take(&a, query, keys, &sums);
    }
}

static cudaError_t finish(sac_stream *s, const struct sac_probe_args *a,
                          const struct sac_shortlist_args *search, const struct sac_shortlist_plan *plan,
                          const struct sac_shortlist *list, size_t first)
{
    uint32_t threads;
    struct probe_finish f = {sac_shortlist_finish_of(s->device, search, plan, list, false, &threads),
                             a->centroid_norms,
                             a->lists,
                             a->nprobes + first,
                             a->needs + first,
                             a->reaches != NULL ? a->reaches + first : NULL,
                             a->width,
                             a->probes + first * a->width,
                             a->counts + first,
                             a->held + first};
    size_t bytes = sac_shortlist_finish_bytes(&f.lists);
    uint32_t grid = f.lists.query_count < 65536 ? f.lists.query_count : 65536;
    bool wide = sac_rows_wide(SAC_F32, a->dim);
    cudaError_t error =
        wide ? sac_launch_shared(probe_kernel<true>, bytes) : sac_launch_shared(probe_kernel<false>, bytes);

    if (error != cudaSuccess)
        return error;
    return wide ? SAC_LAUNCH(probe_kernel<true>, grid, threads, bytes, sac_cuda_stream_of(s), f)
                : SAC_LAUNCH(probe_kernel<false>, grid, threads, bytes, sac_cuda_stream_of(s), f);
}

static struct sac_shortlist_args search_of(const struct sac_probe_args *a)
{
    struct sac_shortlist_args search = {
        a->queries, a->query_count, a->dim, a->distance, sac_row_source_dense(a->centroids, a->dim),
        SAC_F32,    a->nlist,       NULL,   NULL,        a->width + SPARE};

    return search;
}

extern "C" sac_status sac_probe_cuda(sac_stream *s, const struct sac_probe_args *a)
{
    struct sac_shortlist_args search = search_of(a);
    struct sac_shortlist_plan plan;
    struct sac_shortlist list;
    cudaError_t error = cudaSuccess;

    if (a->query_count == 0)
        return SAC_OK;
    assert(a->width >= 1 && a->width <= a->nlist && a->width <= 4096 && a->dim > 0);
    assert(a->reaches == NULL || a->distance == SAC_DISTANCE_L2SQ);
    sac_scratch_reset(s);
    sac_shortlist_plan(s->device, &search, &plan);
    if (!sac_shortlist_take(s, &search, &plan, &list))
        return SAC_DEVICE_MEMORY;
    for (size_t first = 0; first < a->query_count && error == cudaSuccess; first += plan.group) {
        search.queries = a->queries + first * a->dim;
        search.query_count = plan.group < a->query_count - first ? plan.group : a->query_count - first;
        error = sac_shortlist_fill(s, &search, &plan, &list);
        if (error == cudaSuccess)
            error = finish(s, a, &search, &plan, &list, first);
    }
    return sac_cuda_status(s->device, error);
}

extern "C" size_t sac_probe_scratch_cuda(const sac_device *d, const struct sac_probe_args *a)
{
    struct sac_shortlist_args search = search_of(a);
    struct sac_shortlist_plan plan;

    if (a->query_count == 0)
        return 0;
    sac_shortlist_plan(d, &search, &plan);
    return sac_shortlist_scratch(&search, &plan);
}
