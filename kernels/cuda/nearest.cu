/* nearest.cu -- the k nearest rows of each query, exactly.
 *
 *   queries f32 [query_count][dim], pages of f32, f16 or i8 rows, bitmaps in
 *   out f32, u32 [query_count][k]      twin: ref/nearest.c
 *
 * Floors on an H200 for 10 k queries, 1 M x 128 of f32: 2.6 TFLOP at 790 TFLOP/s, 3.2 ms; 0.5 GB at 4.3 TB/s,
 * 0.12 ms. One query: the 0.12 ms. How: shortlist.cu and shortlist_stream.cu.
 *
 * Batches choose by products of numbers of 16 bits, which bend a distance by at most
 *
 *     e = f (|q - q'| |x'| + |q| |x - x'|) + dim 2^-21 (|q| + |x|)^2,    f = 2 for L2, 1 for the inner
 * product
 *
 * with the largest |x| and |x - x'| of all rows (panel.cuh; the second part allows for sums in f32 in any
 * order, and sums of the tensor cores, which are cut off instead of rounded). A few more than k rows are
 * kept. If the nearest row that was not kept, less e, is still farther than the k-th exact distance, then the
 * answer is proven to be the exact one. Else - when more rows than kept lie within e of the k-th, as with
 * many equal vectors - the query goes through the stream.
 *
 * nvcc 13.0, sm_90a: 48 registers, 1.2 KB of shared memory and 8 bytes dynamic for each key that the lists of
 * a query can hold, no spills: five blocks of 256 a multiprocessor for batches, one of 1024 for few queries.
 * Expected, never measured: 10 k x 1 M x 128, k = 10, in 6 ms, nearly all of it products. */
#include "kernels/cuda/shortlist_finish.cuh"

#include "kernels/cuda/launch.cuh"

#include <assert.h>

struct nearest_finish {
    struct sac_shortlist_finish lists;
    uint32_t k;
    float *out_distance;
    uint32_t *out_index;
    /* Products only: what the panels tell, and the queries in doubt. */
    const float *lengths, *errors;
    const uint32_t *most;
    uint32_t *doubtful, *doubts;
};

/* How far a product's distance may be from the exact one. */
static __device__ float margin(const struct nearest_finish *a, uint32_t query)
{
    float length = __uint_as_float(a->most[0]), error = __uint_as_float(a->most[1]), own = a->lengths[query];
    float bent = a->errors[query] * (length + error) + own * error;

    return (a->lists.l2 ? 2.0f : 1.0f) * bent +
           (float)(a->lists.dim + 16) * 0x1p-21f * (own + length) * (own + length);
}

/* Block: whether a row that was left out may belong to the k nearest. NaN doubts. */
static __device__ bool doubted(const struct nearest_finish *a, uint32_t query, const uint64_t *keys,
                               uint32_t count, float cut)
{
    float own;

    if (a->doubts == NULL || count < a->lists.keep)
        return false;
    own = a->lists.l2 ? a->lengths[query] * a->lengths[query] : 0.0f;
    return !(cut - margin(a, query) > sac_key_distance(keys[a->k - 1]) - own);
}

template <sac_dtype DTYPE, bool WIDE>
static __global__ void __launch_bounds__(SAC_FINISH_FEW) nearest_kernel(const struct nearest_finish a)
{
    SAC_SHARED_DYNAMIC(uint64_t, keys);
    __shared__ struct sac_reservoir_state state;
    uint32_t queries = sac_shortlist_finish_count(&a.lists);

    for (uint32_t at = blockIdx.x; at < queries; at += gridDim.x) {
        uint32_t query = a.lists.chosen != NULL ? a.lists.chosen[at] : at;
        float cut;
        uint32_t count = sac_shortlist_sort<DTYPE, WIDE>(&a.lists, at, query, &state, keys, &cut);

        for (uint32_t i = threadIdx.x; i < a.k; i += blockDim.x) {
            size_t to = (size_t)query * a.k + i;

            a.out_distance[to] = i < count ? sac_key_distance(keys[i]) : __int_as_float(0x7f800000);
            a.out_index[to] = i < count ? sac_key_index(keys[i]) : UINT32_MAX;
        }
        if (threadIdx.x == 0 && doubted(&a, query, keys, count, cut))
            a.doubtful[atomicAdd(a.doubts, 1u)] = query;
    }
}

template <sac_dtype DTYPE, bool WIDE>
static cudaError_t launch(cudaStream_t stream, const struct nearest_finish *a, uint32_t threads)
{
    size_t bytes = sac_shortlist_finish_bytes(&a->lists);
    uint32_t grid = a->lists.query_count < 65536 ? a->lists.query_count : 65536;
    cudaError_t error = sac_launch_shared(nearest_kernel<DTYPE, WIDE>, bytes);

    return error != cudaSuccess ? error
                                : SAC_LAUNCH((nearest_kernel<DTYPE, WIDE>), grid, threads, bytes, stream, *a);
}

/* Orders what the lists hold; `again`: those of doubtful queries. */
static cudaError_t finish(sac_stream *s, const struct sac_nearest_args *a,
                          const struct sac_shortlist_args *search, const struct sac_shortlist_plan *plan,
                          const struct sac_shortlist *list, bool again)
{
    uint32_t threads;
    struct nearest_finish f = {sac_shortlist_finish_of(s->device, search, plan, list, again, &threads),
                               a->k,
                               a->out_distance,
                               a->out_index,
                               list->queries.lengths,
                               list->queries.errors,
                               list->most,
                               again ? NULL : list->doubtful,
                               again ? NULL : list->doubts};
    cudaStream_t stream = sac_cuda_stream_of(s);
    bool wide = sac_rows_wide(a->dtype, a->dim);

    if (a->dtype == SAC_F32)
        return wide ? launch<SAC_F32, true>(stream, &f, threads)
                    : launch<SAC_F32, false>(stream, &f, threads);
    if (a->dtype == SAC_F16)
        return wide ? launch<SAC_F16, true>(stream, &f, threads)
                    : launch<SAC_F16, false>(stream, &f, threads);
    return wide ? launch<SAC_I8, true>(stream, &f, threads) : launch<SAC_I8, false>(stream, &f, threads);
}

/* Rows beyond k that a short list holds, so that the proof succeeds. */
static struct sac_shortlist_args search_of(const struct sac_nearest_args *a)
{
    struct sac_row_source rows = {NULL, sac_rows_of(a->pages, a->page_rows, a->dtype, a->dim)};
    struct sac_shortlist_args search = {
        a->queries, a->query_count, a->dim,  a->distance, rows,
        a->dtype,   a->row_count,   a->live, a->filters,  a->k + (a->k < 128 ? 16 : a->k / 8)};

    return search;
}

static cudaError_t group_search(sac_stream *s, const struct sac_nearest_args *a,
                                const struct sac_shortlist_args *search,
                                const struct sac_shortlist_plan *plan, const struct sac_shortlist *list)
{
    cudaError_t error = sac_shortlist_fill(s, search, plan, list);

    if (error == cudaSuccess)
        error = finish(s, a, search, plan, list, false);
    if (error == cudaSuccess && plan->products)
        error = sac_shortlist_refill(s, search, plan, list);
    if (error == cudaSuccess && plan->products)
        error = finish(s, a, search, plan, list, true);
    return error;
}

/* No row at all: every place is unused. */
static __global__ void unused_kernel(float *distances, uint32_t *indices, size_t places)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < places;
         i += (size_t)gridDim.x * blockDim.x) {
        distances[i] = __int_as_float(0x7f800000);
        indices[i] = UINT32_MAX;
    }
}

extern "C" sac_status sac_nearest_cuda(sac_stream *s, const struct sac_nearest_args *a)
{
    struct sac_shortlist_args search = search_of(a);
    struct sac_nearest_args group = *a;
    struct sac_shortlist_plan plan;
    struct sac_shortlist list;
    size_t places = a->query_count * a->k;
    cudaError_t error = cudaSuccess;

    if (a->query_count == 0)
        return SAC_OK;
    assert(a->k >= 1 && a->k <= 4096 && a->dim > 0 && a->row_count < UINT32_MAX);
    if (a->row_count == 0)
        return sac_cuda_status(s->device, SAC_LAUNCH(unused_kernel, sac_rows_grid(places, SAC_FINISH_MANY),
                                                     SAC_FINISH_MANY, 0, sac_cuda_stream_of(s),
                                                     a->out_distance, a->out_index, places));
    sac_scratch_reset(s);
    sac_shortlist_plan(s->device, &search, &plan);
    if (!sac_shortlist_take(s, &search, &plan, &list))
        return SAC_DEVICE_MEMORY;
    for (size_t first = 0; first < a->query_count && error == cudaSuccess; first += plan.group) {
        search.queries = a->queries + first * a->dim;
        search.query_count = plan.group < a->query_count - first ? plan.group : a->query_count - first;
        search.filters = a->filters != NULL ? a->filters + first : NULL;
        group.out_distance = a->out_distance + first * a->k;
        group.out_index = a->out_index + first * a->k;
        error = group_search(s, &group, &search, &plan, &list);
    }
    return sac_cuda_status(s->device, error);
}

extern "C" size_t sac_nearest_scratch_cuda(const sac_device *d, const struct sac_nearest_args *a)
{
    struct sac_shortlist_args search = search_of(a);
    struct sac_shortlist_plan plan;

    if (a->query_count == 0 || a->row_count == 0)
        return 0;
    sac_shortlist_plan(d, &search, &plan);
    return sac_shortlist_scratch(&search, &plan);
}
