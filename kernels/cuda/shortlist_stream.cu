/* shortlist_stream.cu -- few queries: every row is read once and compared with up to 8 of them in f32.
 *
 * Floor for n rows on an H200: n (row bytes) at 4.3 TB/s, 4.5 us for 50 k x 96 of f32 (half that where they
 * are still in the 50 MB of L2), 0.12 ms for 1 M x 128; 2 operations for each component and query at 29 T/s
 * of f32: for 8 queries 0.07 ms for 1 M x 128, so up to 8 queries cost about what one does.
 *
 * A block has a slice of the rows and up to 8 queries, which lie in shared memory. 8 lanes take ROWS rows at
 * a time, each 16 bytes of every row; a load of a query (the four groups of a warp read the same: no bank
 * conflict) serves ROWS rows. Sums are folded across the lanes so that each ends with its share of them.
 *
 * nvcc 13.0, sm_90a: 72 to 96 registers for one query, 91 to 128 for 8; 256 bytes of shared memory and 4 dim
 * a query dynamic; no spills (sm_86 and sm_89: 4 bytes for 8 queries and f16): two blocks a multiprocessor; 8
 * loads of 16 bytes in flight a thread for one query, 32 KB a block, where 20 KB cover the memory's latency.
 */
#include "kernels/cuda/shortlist.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/row_distance.cuh"
#include "kernels/cuda/shortlist.cuh"

#include <assert.h>

enum { THREADS = 256, WARPS = THREADS / 32, QUERIES_MOST = 8, SHARED_MOST = 46 * 1024 };

#define NOT_A_NUMBER __int_as_float(0x7fffffff)
#define INFINITE __int_as_float(0x7f800000)

/* Rows that 8 lanes take at a time: 8 or 32 sums in registers. */
static constexpr __host__ __device__ uint32_t rows_together(uint32_t queries)
{
    return queries == 1 ? 8 : 4;
}

static constexpr __host__ __device__ uint32_t rows_a_step(uint32_t queries)
{
    return THREADS / 8 * rows_together(queries);
}
static_assert(rows_a_step(1) <= SAC_STREAM_STEP_MOST && rows_a_step(QUERIES_MOST) <= SAC_STREAM_STEP_MOST,
              "a list has room for a step");

struct stream {
    struct sac_row_source rows;
    size_t row_count;
    const float *queries;
    uint32_t query_count, dim;
    bool l2;
    const uint64_t *live;
    const uint64_t *const *filters;
    struct sac_stream_split split;
    const uint32_t *chosen, *chosen_count;
    uint32_t keep, roomy, capacity;
    uint64_t *keys;
    uint32_t *counts;
    uint64_t *nearest;
};

/* What a block shares about its queries. */
struct stream_queries {
    uint32_t ids[QUERIES_MOST]; /* UINT32_MAX: none */
    uint32_t counts[QUERIES_MOST];
    float limits[QUERIES_MOST];
    unsigned long long nearest[QUERIES_MOST];
};

template <uint32_t QUERIES>
static __device__ void queries_load(const struct stream *a, uint32_t first, uint32_t count,
                                    struct stream_queries *shared, float *queries)
{
    if (threadIdx.x < QUERIES) {
        uint32_t at = first + threadIdx.x;
        bool there = at < count;

        shared->ids[threadIdx.x] = !there ? UINT32_MAX : a->chosen != NULL ? a->chosen[at] : at;
        shared->counts[threadIdx.x] = 0;
        shared->limits[threadIdx.x] = there ? NOT_A_NUMBER : -INFINITE;
        shared->nearest[threadIdx.x] = SAC_KEY_NONE;
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < QUERIES * a->dim; i += THREADS) {
        uint32_t id = shared->ids[i / a->dim];

        queries[i] = id != UINT32_MAX ? a->queries[(size_t)id * a->dim + i % a->dim] : 0.0f;
    }
    __syncthreads();
}

/* Offers one distance; true where the query's list must be shortened before the next step. */
template <bool ONE>
static __device__ __forceinline__ bool offer(const struct stream *a, struct stream_queries *shared,
                                             uint32_t q, size_t list, float distance, size_t row)
{
    uint32_t id = shared->ids[q];

    if (ONE) {
        uint64_t key = sac_key(distance, (uint32_t)row);

        if (id != UINT32_MAX && key < shared->nearest[q])
            atomicMin(&shared->nearest[q], (unsigned long long)key);
        return false;
    }
    if (distance >= shared->limits[q] || id == UINT32_MAX || !sac_shortlist_allows(a->live, row) ||
        (a->filters != NULL && !sac_shortlist_allows(a->filters[id], row)))
        return false;
    return sac_shortlist_push(a->keys + list * a->capacity, &shared->counts[q], a->capacity,
                              SAC_STREAM_STEP_MOST, distance, (uint32_t)row);
}

/* One step: this warp's rows from `first` on, none of them `end` or later. */
template <sac_dtype DTYPE, uint32_t WIDTH, uint32_t QUERIES, bool ONE>
static __device__ bool step(const struct stream *a, struct stream_queries *shared, const float *queries,
                            size_t list, uint32_t slices, size_t first, size_t end)
{
    constexpr uint32_t ROWS = rows_together(QUERIES), SUMS = QUERIES * ROWS;
    const unsigned char *rows[ROWS];
    float sums[SUMS];
    bool full = false;

    first += threadIdx.x / 8 * ROWS;
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++)
        rows[r] = sac_row_source_at(&a->rows, first + r < end ? first + r : end - 1);
    if (a->l2)
        sac_row_distance_share<DTYPE, WIDTH, QUERIES, ROWS, true>(queries, a->dim, rows, a->dim, sums);
    else
        sac_row_distance_share<DTYPE, WIDTH, QUERIES, ROWS, false>(queries, a->dim, rows, a->dim, sums);
    sac_lanes_fold<SUMS>(sums);
#pragma unroll
    for (uint32_t i = 0; i < SUMS / 8; i++) {
        uint32_t at = threadIdx.x % 8 * (SUMS / 8) + i, q = at / ROWS;

        if (first + at % ROWS < end)
            full |= offer<ONE>(a, shared, q, list + (size_t)q * slices, sums[i], first + at % ROWS);
    }
    return full;
}

/* Warps: shortens the lists of more than `most` keys. */
static __device__ void shorten(const struct stream *a, struct stream_queries *shared, uint32_t queries,
                               size_t list, uint32_t slices, uint32_t most)
{
    for (uint32_t q = sac_warp(); q < queries; q += WARPS)
        if (shared->counts[q] > most)
            sac_shortlist_shrink(a->keys + (list + (size_t)q * slices) * a->capacity, &shared->counts[q],
                                 &shared->limits[q], a->keep, a->roomy);
}

template <uint32_t QUERIES, bool ONE>
static __device__ void queries_store(const struct stream *a, struct stream_queries *shared, uint32_t first,
                                     size_t list, uint32_t slices)
{
    uint32_t q = threadIdx.x;

    if (!ONE)
        shorten(a, shared, QUERIES, list, slices, a->roomy);
    __syncthreads();
    if (q >= QUERIES || shared->ids[q] == UINT32_MAX)
        return;
    if (ONE)
        atomicMin((unsigned long long *)&a->nearest[first + q], shared->nearest[q]);
    else
        a->counts[list + (size_t)q * slices] = shared->counts[q];
}

template <sac_dtype DTYPE, bool WIDE, uint32_t QUERIES, bool ONE>
static __global__ void __launch_bounds__(THREADS, 2) stream_kernel(const struct stream a)
{
    constexpr uint32_t WIDTH = sac_rows_width(DTYPE, WIDE), STEP = rows_a_step(QUERIES);
    SAC_SHARED_DYNAMIC(float, queries);
    __shared__ struct stream_queries shared;
    uint32_t count = a.chosen != NULL ? *a.chosen_count : a.query_count;
    uint32_t slices = sac_stream_slices(&a.split, count);
    uint32_t groups = (count + QUERIES - 1) / QUERIES;
    uint64_t steps = (a.row_count + STEP - 1) / STEP;

    for (size_t item = blockIdx.x; item < (size_t)groups * slices; item += gridDim.x) {
        uint32_t first = (uint32_t)(item / slices) * QUERIES, slice = (uint32_t)(item % slices);
        size_t list = (size_t)first * slices + slice;
        size_t row = (size_t)(steps * slice / slices) * STEP,
               end = (size_t)(steps * (slice + 1) / slices) * STEP;

        end = end < a.row_count ? end : a.row_count;
        queries_load<QUERIES>(&a, first, count, &shared, queries);
        for (; row < end; row += STEP) {
            if (__syncthreads_or(
                    step<DTYPE, WIDTH, QUERIES, ONE>(&a, &shared, queries, list, slices, row, end))) {
                shorten(&a, &shared, QUERIES, list, slices, a.roomy);
                __syncthreads();
            }
        }
        __syncthreads();
        queries_store<QUERIES, ONE>(&a, &shared, first, list, slices);
        __syncthreads();
    }
}

template <sac_dtype DTYPE, bool WIDE, uint32_t QUERIES>
static cudaError_t launch_queries(cudaStream_t stream, const struct stream *a)
{
    size_t bytes = (size_t)QUERIES * a->dim * sizeof(float);
    uint32_t grid = 2 * a->split.blocks; /* that is how many fit at once */

    if (a->nearest == NULL)
        return SAC_LAUNCH((stream_kernel<DTYPE, WIDE, QUERIES, false>), grid, THREADS, bytes, stream, *a);
    if constexpr (DTYPE == SAC_F32)
        return SAC_LAUNCH((stream_kernel<DTYPE, WIDE, QUERIES, true>), grid, THREADS, bytes, stream, *a);
    return cudaErrorInvalidValue;
}

template <sac_dtype DTYPE> static cudaError_t launch(cudaStream_t stream, const struct stream *a)
{
    bool wide = sac_rows_wide(DTYPE, a->dim), several = a->split.together > 1;

    return wide && several ? launch_queries<DTYPE, true, QUERIES_MOST>(stream, a)
           : wide          ? launch_queries<DTYPE, true, 1>(stream, a)
           : several       ? launch_queries<DTYPE, false, QUERIES_MOST>(stream, a)
                           : launch_queries<DTYPE, false, 1>(stream, a);
}

struct sac_stream_split sac_stream_split_of(const sac_device *d, uint32_t dim, size_t row_count, size_t count,
                                            uint32_t lists)
{
    bool several = count > 2 && (size_t)QUERIES_MOST * dim * sizeof(float) <= SHARED_MOST;
    uint32_t together = several ? QUERIES_MOST : 1, step = rows_a_step(together);
    struct sac_stream_split split = {together, (uint32_t)((row_count + step - 1) / step),
                                     ((const sac_cuda_device *)d)->multiprocessors, lists};

    return split;
}

cudaError_t sac_stream_rows_cuda(sac_stream *s, const struct sac_stream_args *a)
{
    const struct sac_shortlist_args *search = a->search;
    struct stream kernel = {search->rows,    search->row_count,
                            search->queries, (uint32_t)search->query_count,
                            search->dim,     search->distance == SAC_DISTANCE_L2SQ,
                            search->live,    search->filters,
                            a->split,        a->chosen,
                            a->chosen_count, a->keep,
                            a->roomy,        a->capacity,
                            a->keys,         a->counts,
                            a->nearest};
    cudaStream_t stream = sac_cuda_stream_of(s);

    assert(search->dim * sizeof(float) <= SHARED_MOST);
    return search->dtype == SAC_F32   ? launch<SAC_F32>(stream, &kernel)
           : search->dtype == SAC_F16 ? launch<SAC_F16>(stream, &kernel)
                                      : launch<SAC_I8>(stream, &kernel);
}
