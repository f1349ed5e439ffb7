/* assign.cu -- the nearest centroid of every row: the step in which k-means spends its time.
 *
 *   x f32 [n][dim], centroids f32 [k][dim] in      index u32 [n], distance f32 [n] out      twin:
 * ref/assign.c
 *
 * Floors on an H200 for 1 M x 128 and 32768 centroids: 8.6 TFLOP at 790 TFLOP/s of f16, 10.9 ms; 0.53 GB at
 * 4.3 TB/s, 0.12 ms.
 *
 * One product of 16-bit numbers finds the few centroids that can be the nearest, f32 decides among them: that
 * costs a third of three products, and is exact. A product's distance is wrong by at most
 *
 *     e = 2 (|x - x'| |c'| + |x| |c - c'|) + dim 2^-21 (|x| + |c|)^2
 *
 * (panel.cuh, nearest.cu), with the largest |c| and |c - c'| of all centroids. So whatever is farther than 2
 * e behind the nearest so far is out for good; the others go to the row's list. On vectors of pictures that
 * leaves between one and two at the end: 2 e is about 8e-4 (|x|^2 + |c|^2), the gap to the second nearest
 * centroid some percent of |x - c|^2. A list that overflows - equal centroids, or ever so many of them in few
 * dimensions - is given up, and the row compared with all centroids in f32.
 *
 * Per 64 x 64 sums of a warp and dim 128: 256 mma of 6 cycles (the rate of mma.sync on Hopper, by what others
 * have measured) and 128 x (fma + min) beside them, which the other block's mma hide.
 *
 * nvcc 13.0, sm_90a, no spills. assign: 232 registers, 1.5 KB of shared memory and 82 KB dynamic up to 128
 * dimensions, two blocks of 4 warps a multiprocessor up to 192 (shortlist.cu). choice: 32 registers, 2048
 * threads a multiprocessor; doubtful: 28. Expected, never measured: 1 M x 128 to 32768 in 21 ms, 0.41
 * PFLOP/s. */
#include "kernels/cuda/shortlist.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/product_tile.cuh"
#include "kernels/cuda/row_distance.cuh"
#include "kernels/cuda/select.cuh"
#include "kernels/cuda/warp.cuh"

#include <assert.h>
#include <string.h>

enum {
    THREADS = SAC_PRODUCT_THREADS,
    WARPS = THREADS / 32,
    FINISH_THREADS = 256,
    PLACES = 32, /* of a list: a lane each. A count beyond it says that the list is given up */
    CHUNK_BYTES_MOST = 64 * 1024 * 1024, /* of a panel of x */
    SLAB_BYTES_MOST = 256 * 1024 * 1024, /* of a panel of centroids */
    STATIC_BYTES = 1536 + 64,
};

#define INFINITE __int_as_float(0x7f800000)

struct assign {
    struct sac_panel x, centroids;
    uint32_t n, first_centroid, k, tiles; /* centroids of this panel */
    uint32_t slices, dim;
    bool resident, begins;
    const uint32_t *most;
    uint64_t *keys; /* [n][slices][PLACES] */
    uint32_t *counts;
    float *limits; /* less the row's window, which grows with the centroids seen */
};

struct assign_rows {
    uint32_t counts[SAC_PANEL_TILE];
    float limits[SAC_PANEL_TILE], windows[SAC_PANEL_TILE];
};

static __device__ size_t list_of(const struct assign *a, uint32_t row)
{
    return (size_t)(blockIdx.x * SAC_PANEL_TILE + row) * a->slices + blockIdx.y;
}

/* 2 e of a row. */
static __device__ float window_of(const struct sac_panel *x, const uint32_t *most, uint32_t dim, size_t row)
{
    float length = __uint_as_float(most[0]), error = __uint_as_float(most[1]), own = x->lengths[row];
    float bent = 2.0f * (x->errors[row] * (length + error) + own * error);

    return 2.0f * (bent + (float)(dim + 16) * 0x1p-21f * (own + length) * (own + length));
}

/* Integers order as non-negative numbers do, and the other way round for negative ones. */
static __device__ void limit_lower(float *limit, float to)
{
    to += 0.0f; /* -0 would be the smallest integer */
    if (to >= 0.0f)
        atomicMin((int *)limit, __float_as_int(to));
    else
        atomicMax((unsigned *)limit, __float_as_uint(to));
}

/* Pushes those of a row's 16 distances that are within the limit; true where the list is half full. */
static __device__ __forceinline__ bool push(const struct assign *a, struct assign_rows *shared, uint32_t row,
                                            uint32_t tile, float limit, const float *distances)
{
    uint32_t passing = 0;
    bool full = false;

#pragma unroll
    for (uint32_t at = 0; at < 16; at++)
        passing |= distances[at] <= limit ? 1u << at : 0;
    while (passing != 0) {
        uint32_t bit = (uint32_t)__ffs((int)passing) - 1, place;
        uint32_t centroid = tile * SAC_PANEL_TILE + sac_product_column(bit / 2, bit % 2);

        passing &= passing - 1;
        if (centroid >= a->k)
            continue;
        place = atomicAdd(&shared->counts[row], 1u);
        if (place < PLACES)
            a->keys[list_of(a, row) * PLACES + place] =
                sac_key(sac_product_pick(distances, bit), a->first_centroid + centroid);
        full |= place >= PLACES / 2;
    }
    return full;
}

/* Warps: each 16 distances of 8 rows a thread, the columns of a row in 4 neighbouring lanes. */
static __device__ __forceinline__ bool tile_offer(const struct assign *a, struct assign_rows *shared,
                                                  uint32_t tile, const struct sac_product_sums *sums)
{
    bool full = false;

#pragma unroll
    for (uint32_t i = 0; i < 4; i++)
#pragma unroll
        for (uint32_t e = 0; e < 4; e += 2) {
            uint32_t row = sac_product_row(i, e);
            float limit = shared->limits[row], least = sums->of[i][0][e], mine[16];

#pragma unroll
            for (uint32_t at = 0; at < 16; at++) {
                mine[at] = sums->of[i][at / 2][e + at % 2];
                least = fminf(least, mine[at]);
            }
            if (!__any_sync(SAC_WARP_ALL, least <= limit))
                continue;
            least = fminf(least, __shfl_xor_sync(SAC_WARP_ALL, least, 1));
            least = fminf(least, __shfl_xor_sync(SAC_WARP_ALL, least, 2)) + shared->windows[row];
            if (least < limit) {
                limit = least;
                if (sac_lane() % 4 == 0)
                    limit_lower(&shared->limits[row], least);
            }
            full |= push(a, shared, row, tile, limit, mine);
        }
    return full;
}

/* Warps: drops what newer limits exclude. What has overflowed is not filled any further. */
static __device__ void prune(const struct assign *a, struct assign_rows *shared)
{
    for (uint32_t row = sac_warp(); row < SAC_PANEL_TILE; row += WARPS) {
        uint64_t *list = a->keys + list_of(a, row) * PLACES, key;
        uint32_t count = shared->counts[row], place, kept;
        bool stays;

        if (count <= PLACES / 2)
            continue;
        if (count > PLACES) {
            shared->limits[row] = -INFINITE;
            continue;
        }
        key = sac_lane() < count ? list[sac_lane()] : SAC_KEY_NONE;
        stays = sac_lane() < count && sac_key_distance(key) <= shared->limits[row];
        place = sac_warp_rank(stays, &kept);
        if (stays)
            list[place] = key;
        if (sac_lane() == 0)
            shared->counts[row] = kept;
    }
}

static __global__ void __launch_bounds__(THREADS, 2) assign_kernel(const struct assign a)
{
    SAC_SHARED_DYNAMIC(unsigned char, buffers);
    __shared__ struct assign_rows shared;
    uint32_t row = blockIdx.x * SAC_PANEL_TILE + threadIdx.x;
    struct sac_product p;
    struct sac_product_sums sums;
    bool full = false, goes_on = !a.begins && row < a.n;

    static_assert(THREADS == SAC_PANEL_TILE, "a thread a row");
    sac_product_begin(&p, &a.x, blockIdx.x, &a.centroids,
                      (uint32_t)((uint64_t)a.tiles * blockIdx.y / a.slices),
                      (uint32_t)((uint64_t)a.tiles * (blockIdx.y + 1) / a.slices), a.resident, buffers);
    shared.counts[threadIdx.x] = goes_on ? a.counts[list_of(&a, threadIdx.x)] : 0;
    shared.windows[threadIdx.x] = window_of(&a.x, a.most, a.dim, row);
    shared.limits[threadIdx.x] = goes_on ? a.limits[list_of(&a, threadIdx.x)] + shared.windows[threadIdx.x]
                                 : row < a.n ? INFINITE
                                             : -INFINITE;
    while (sac_product_next(&p, &sums, &full)) {
        if (full) {
            prune(&a, &shared);
            __syncthreads();
        }
        sac_product_distances(&p, -2.0f * a.x.unscale[blockIdx.x] * a.centroids.unscale[p.tile], &sums);
        full = tile_offer(&a, &shared, p.tile, &sums);
    }
    __syncthreads();
    if (row < a.n) {
        a.counts[list_of(&a, threadIdx.x)] = shared.counts[threadIdx.x];
        a.limits[list_of(&a, threadIdx.x)] = shared.limits[threadIdx.x] - shared.windows[threadIdx.x];
    }
}

/* ---- the exact choice --------------------------------------------------------------------------------- */

struct assign_choice {
    struct sac_panel x;
    const float *rows; /* [n][dim] */
    const float *centroids;
    uint32_t n, slices, dim;
    const uint32_t *most;
    const uint64_t *keys;
    const uint32_t *counts;
    uint32_t *index;
    float *distance; /* or NULL */
    uint32_t *doubtful, *doubts;
    uint64_t *nearest; /* of the doubtful */
};

/* Warp: the least key of a row's lists, SAC_KEY_NONE where there is none or a list was given up; *within: how
 * many keys are no farther than `limit`. */
static __device__ uint64_t lists_least(const struct assign_choice *a, size_t first, float limit,
                                       uint32_t *within)
{
    uint64_t least = SAC_KEY_NONE;
    uint32_t passing = 0;
    bool overflow = false;

    for (uint32_t slice = 0; slice < a->slices; slice++) {
        uint32_t count = a->counts[first + slice];

        overflow |= count > PLACES;
        if (sac_lane() < count) {
            uint64_t key = a->keys[(first + slice) * PLACES + sac_lane()];

            least = key < least ? key : least;
            passing += sac_key_distance(key) <= limit ? 1 : 0;
        }
    }
    *within = sac_warp_sum(passing);
    least = sac_warp_min(least);
    return overflow ? SAC_KEY_NONE : least;
}

/* Warp: the nearest of the keys within the limit by exact distance, four at a time. */
template <uint32_t WIDTH>
static __device__ uint64_t lists_exact(const struct assign_choice *a, size_t row, float limit)
{
    const float *x = a->rows + row * a->dim;
    uint64_t best = SAC_KEY_NONE;

    for (uint32_t slice = 0; slice < a->slices; slice++) {
        size_t list = row * a->slices + slice;
        uint64_t key = sac_lane() < a->counts[list] ? a->keys[list * PLACES + sac_lane()] : SAC_KEY_NONE;
        uint32_t passing = __ballot_sync(SAC_WARP_ALL, sac_key_distance(key) <= limit);

        while (passing != 0) {
            uint32_t mine = passing, centroid;
            uint64_t exact;

            for (uint32_t skip = sac_lane() / 8; skip > 0 && (mine & (mine - 1)) != 0; skip--)
                mine &= mine - 1; /* the last one may be taken twice */
            centroid = __shfl_sync(SAC_WARP_ALL, sac_key_index(key), __ffs((int)mine) - 1);
            exact = sac_key(
                sac_row_distance<SAC_F32, WIDTH>(
                    x, (const unsigned char *)(a->centroids + (size_t)centroid * a->dim), a->dim, true),
                centroid);
            best = exact < best ? exact : best;
            for (uint32_t taken = 0; taken < 4; taken++)
                passing &= passing - 1;
        }
    }
    return sac_warp_min(best);
}

template <bool WIDE>
static __global__ void __launch_bounds__(FINISH_THREADS) choice_kernel(const struct assign_choice a)
{
    constexpr uint32_t WIDTH = sac_rows_width(SAC_F32, WIDE);

    for (size_t row = blockIdx.x * (FINISH_THREADS / 32) + sac_warp(); row < a.n;
         row += (size_t)gridDim.x * (FINISH_THREADS / 32)) {
        float length = a.x.lengths[row], limit;
        uint32_t within;
        uint64_t best = lists_least(&a, row * a.slices, 0.0f, &within);

        if (length != length) {
            best = sac_key(length, 0);
        } else if (best == SAC_KEY_NONE || !(length < INFINITE)) {
            if (sac_lane() == 0)
                a.doubtful[atomicAdd(a.doubts, 1u)] = (uint32_t)row;
            continue;
        } else {
            limit = sac_key_distance(best) + window_of(&a.x, a.most, a.dim, row);
            lists_least(&a, row * a.slices, limit, &within);
            if (within > 1 || a.distance != NULL)
                best = lists_exact<WIDTH>(&a, row, limit);
        }
        if (sac_lane() == 0) {
            a.index[row] = sac_key_index(best);
            if (a.distance != NULL)
                a.distance[row] = sac_key_distance(best);
        }
    }
}

static __global__ void __launch_bounds__(FINISH_THREADS) doubtful_kernel(const struct assign_choice a)
{
    for (uint32_t i = blockIdx.x * FINISH_THREADS + threadIdx.x; i < *a.doubts;
         i += gridDim.x * FINISH_THREADS) {
        uint32_t row = a.doubtful[i];

        a.index[row] = sac_key_index(a.nearest[i]);
        if (a.distance != NULL)
            a.distance[row] = sac_key_distance(a.nearest[i]);
    }
}

/* ---- the host's side ---------------------------------------------------------------------------------- */

struct assign_plan {
    uint32_t chunk_tiles; /* of x at a time */
    uint32_t slices;
    uint32_t slab_tiles; /* of centroids at a time */
};

/* Chunks are whole waves of blocks; where there are too few rows for one, slices of the centroids fill it. */
static struct assign_plan plan_of(const sac_device *d, const struct sac_assign_args *a)
{
    size_t tile_bytes = SAC_PANEL_TILE * sizeof(uint16_t) * sac_panel_stride(a->dim);
    uint32_t wave = 2 * ((const sac_cuda_device *)d)->multiprocessors;
    size_t tiles = (a->n + SAC_PANEL_TILE - 1) / SAC_PANEL_TILE,
           chunk = CHUNK_BYTES_MOST / tile_bytes / wave * wave;
    size_t slab = SLAB_BYTES_MOST / tile_bytes;
    uint32_t centroid_tiles = sac_panel_tiles(a->k);
    struct assign_plan plan;

    chunk = chunk > 0 ? chunk : wave;
    plan.chunk_tiles = (uint32_t)(chunk < tiles ? chunk : tiles);
    plan.slices = wave / plan.chunk_tiles;
    plan.slices = plan.slices < centroid_tiles ? plan.slices : centroid_tiles;
    plan.slices = plan.slices > 0 ? plan.slices : 1;
    plan.slab_tiles = slab < centroid_tiles ? (uint32_t)slab : centroid_tiles;
    return plan;
}

struct assign_memory {
    struct sac_panel x, centroids;
    uint64_t *keys, *nearest;
    uint32_t *counts, *doubtful, *most; /* most [2], then how many are doubtful */
    float *limits;
};

static size_t rows_of(const struct assign_plan *plan)
{
    return (size_t)plan->chunk_tiles * SAC_PANEL_TILE;
}

extern "C" size_t sac_assign_scratch_cuda(const sac_device *d, const struct sac_assign_args *a)
{
    struct assign_plan plan;
    size_t lists, bytes;

    if (a->n == 0)
        return 0;
    plan = plan_of(d, a);
    lists = rows_of(&plan) * plan.slices;
    struct sac_panel_shape x = {plan.chunk_tiles, a->dim, true}, centroids = {plan.slab_tiles, a->dim, false};
    bytes = sac_scratch_add(sac_panel_scratch(&x), sac_panel_scratch(&centroids));
    bytes = sac_scratch_add(bytes, sac_scratch_size(lists * PLACES, sizeof(uint64_t)));
    bytes = sac_scratch_add(bytes, sac_scratch_size(rows_of(&plan), sizeof(uint64_t)));
    bytes = sac_scratch_add(bytes, sac_scratch_size(rows_of(&plan), sizeof(uint32_t)));
    bytes = sac_scratch_add(bytes, sac_scratch_size(4, sizeof(uint32_t)));
    return sac_scratch_add(bytes, sac_scratch_add(sac_scratch_size(lists, sizeof(uint32_t)),
                                                  sac_scratch_size(lists, sizeof(float))));
}

static bool memory_take(sac_stream *s, const struct sac_assign_args *a, const struct assign_plan *plan,
                        struct assign_memory *m)
{
    struct sac_panel_shape x = {plan->chunk_tiles, a->dim, true},
                           centroids = {plan->slab_tiles, a->dim, false};
    size_t rows = rows_of(plan), lists = rows * plan->slices;

    m->keys = (uint64_t *)sac_scratch_take(s, lists * PLACES, sizeof(uint64_t));
    m->nearest = (uint64_t *)sac_scratch_take(s, rows, sizeof(uint64_t));
    m->doubtful = (uint32_t *)sac_scratch_take(s, rows, sizeof(uint32_t));
    m->most = (uint32_t *)sac_scratch_take(s, 4, sizeof(uint32_t));
    m->counts = (uint32_t *)sac_scratch_take(s, lists, sizeof(uint32_t));
    m->limits = (float *)sac_scratch_take(s, lists, sizeof(float));
    return m->keys != NULL && m->nearest != NULL && m->doubtful != NULL && m->most != NULL &&
           m->counts != NULL && m->limits != NULL && sac_panel_take(s, &x, &m->x) &&
           sac_panel_take(s, &centroids, &m->centroids);
}

static cudaError_t centroids_fill(sac_stream *s, const struct sac_assign_args *a,
                                  const struct assign_memory *m, size_t first, size_t count)
{
    struct sac_panel_fill_args fill = {
        sac_row_source_dense(a->centroids, a->dim), first, count, NULL, true, m->centroids, m->most};

    return sac_panel_fill_cuda(sac_cuda_stream_of(s), SAC_F32, &fill);
}

/* Products of the panel of x with all centroids, a panel of them at a time. */
static cudaError_t products(sac_stream *s, const struct sac_assign_args *a, const struct assign_plan *plan,
                            const struct assign_memory *m, size_t first_row, uint32_t n)
{
    size_t slab = (size_t)plan->slab_tiles * SAC_PANEL_TILE, bytes;
    struct assign kernel;
    dim3 grid(sac_panel_tiles(n), plan->slices);
    cudaError_t error = cudaSuccess;

    memset(&kernel, 0, sizeof kernel);
    kernel.x = m->x;
    kernel.centroids = m->centroids;
    kernel.n = n;
    kernel.slices = plan->slices;
    kernel.dim = a->dim;
    kernel.most = m->most;
    kernel.keys = m->keys;
    kernel.counts = m->counts;
    kernel.limits = m->limits;
    bytes = sac_product_shared_bytes(m->x.stride, sac_cuda_device_of(s)->shared_bytes_max - STATIC_BYTES,
                                     &kernel.resident);
    error = sac_launch_shared(assign_kernel, bytes);
    for (size_t first = 0; first < a->k && error == cudaSuccess; first += slab) {
        kernel.first_centroid = (uint32_t)first;
        kernel.k = (uint32_t)(slab < a->k - first ? slab : a->k - first);
        kernel.tiles = sac_panel_tiles(kernel.k);
        kernel.begins = first == 0;
        if (slab < a->k || first_row == 0) /* one panel of all centroids is filled once */
            error = centroids_fill(s, a, m, first, kernel.k);
        if (error == cudaSuccess)
            error = SAC_LAUNCH(assign_kernel, grid, THREADS, bytes, sac_cuda_stream_of(s), kernel);
    }
    return error;
}

static cudaError_t choose(sac_stream *s, const struct sac_assign_args *a, const struct assign_plan *plan,
                          const struct assign_memory *m, size_t first, uint32_t n)
{
    struct assign_choice choice = {m->x,
                                   a->x + first * a->dim,
                                   a->centroids,
                                   n,
                                   plan->slices,
                                   a->dim,
                                   m->most,
                                   m->keys,
                                   m->counts,
                                   a->index + first,
                                   a->distance != NULL ? a->distance + first : NULL,
                                   m->doubtful,
                                   m->most + 2,
                                   m->nearest};
    struct sac_shortlist_args search;
    struct sac_stream_args stream;
    cudaStream_t to = sac_cuda_stream_of(s);
    uint32_t grid = sac_rows_grid(n, FINISH_THREADS / 32);
    cudaError_t error = sac_rows_wide(SAC_F32, a->dim)
                            ? SAC_LAUNCH(choice_kernel<true>, grid, FINISH_THREADS, 0, to, choice)
                            : SAC_LAUNCH(choice_kernel<false>, grid, FINISH_THREADS, 0, to, choice);

    memset(&search, 0, sizeof search);
    search.queries = choice.rows;
    search.query_count = n;
    search.dim = a->dim;
    search.distance = SAC_DISTANCE_L2SQ;
    search.rows = sac_row_source_dense(a->centroids, a->dim);
    search.dtype = SAC_F32;
    search.row_count = a->k;
    memset(&stream, 0, sizeof stream);
    stream.search = &search;
    stream.split = sac_stream_split_of(s->device, a->dim, a->k, n, UINT32_MAX);
    stream.chosen = m->doubtful;
    stream.chosen_count = choice.doubts;
    stream.nearest = m->nearest;
    if (error == cudaSuccess)
        error = sac_stream_rows_cuda(s, &stream);
    return error != cudaSuccess
               ? error
               : SAC_LAUNCH(doubtful_kernel, sac_rows_grid(n, FINISH_THREADS), FINISH_THREADS, 0, to, choice);
}

static cudaError_t chunk_assign(sac_stream *s, const struct sac_assign_args *a,
                                const struct assign_plan *plan, const struct assign_memory *m, size_t first,
                                uint32_t n)
{
    struct sac_panel_fill_args x = {sac_row_source_dense(a->x, a->dim), first, n, NULL, true, m->x, NULL};
    cudaStream_t stream = sac_cuda_stream_of(s);
    cudaError_t error = cudaMemsetAsync(m->most + 2, 0, sizeof(uint32_t), stream);

    if (error == cudaSuccess)
        error = cudaMemsetAsync(m->nearest, 0xff, n * sizeof(uint64_t), stream);
    if (error == cudaSuccess)
        error = sac_panel_fill_cuda(stream, SAC_F32, &x);
    if (error == cudaSuccess)
        error = products(s, a, plan, m, first, n);
    return error != cudaSuccess ? error : choose(s, a, plan, m, first, n);
}

extern "C" sac_status sac_assign_cuda(sac_stream *s, const struct sac_assign_args *a)
{
    struct assign_plan plan;
    struct assign_memory memory;
    cudaError_t error;

    if (a->n == 0)
        return SAC_OK;
    assert(a->k >= 1 && a->dim > 0);
    sac_scratch_reset(s);
    plan = plan_of(s->device, a);
    if (!memory_take(s, a, &plan, &memory))
        return SAC_DEVICE_MEMORY;
    error = cudaMemsetAsync(memory.most, 0, 2 * sizeof(uint32_t), sac_cuda_stream_of(s));
    for (size_t first = 0; first < a->n && error == cudaSuccess; first += rows_of(&plan))
        error = chunk_assign(s, a, &plan, &memory, first,
                             (uint32_t)(rows_of(&plan) < a->n - first ? rows_of(&plan) : a->n - first));
    return sac_cuda_status(s->device, error);
}
