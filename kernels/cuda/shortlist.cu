/* shortlist.cu -- batches: the product of queries and rows on the tensor cores, with the choice in its
 * epilogue.
 *
 * Floors on an H200: 2 queries x rows x dim operations at 790 TFLOP/s of f16; rows (row bytes + 4 dim) bytes
 * at 4.3 TB/s. 10 k queries x 50 k rows x 96: 96 GFLOP, 0.12 ms; 28 MB, 0.007 ms. No distance is written but
 * those that pass a query's limit: of r rows in a slice about keep (1 + ln(r / keep)), 8 bytes each.
 *
 * A block has 128 queries and a slice of the rows, of which it takes 128 at a time. A thread holds 16
 * distances of each of 8 queries; their minimum against the query's limit decides whether anybody looks
 * closer, which becomes rare after a few tiles. Then each that passes is checked against the bitmaps and
 * pushed.
 *
 * nvcc 13.0, sm_90a: 235 registers, 1 KB of shared memory and 82 KB dynamic up to 128 dimensions (98 KB up to
 * 192, 16 KB more for each 64 beyond), no spills: two blocks of 4 warps a multiprocessor up to 192
 * dimensions, one beyond. In the loop 32 HMMA for 8 LDSM, fetched ahead.
 *
 * Expected, never measured: mma.sync reaches about 0.62 of the rate that Hopper has with wgmma, so 10 k x 50
 * k x 96 takes 0.25 ms, twice the floor; lists and limits are a tenth of it. */
#include "kernels/cuda/shortlist.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/product_tile.cuh"
#include "kernels/cuda/shortlist.cuh"

#include <assert.h>
#include <string.h>

enum {
    THREADS = SAC_PRODUCT_THREADS,
    WARPS = THREADS / 32,
    STREAM_QUERIES_MOST = 16, /* up to here the stream is quicker: see shortlist_stream.cu */
    LIST_BYTES_MOST = 256 * 1024 * 1024,
    SLAB_BYTES_MOST = 64 * 1024 * 1024, /* of a panel of rows: more than L2 keeps would not help */
    STATIC_BYTES = 1024 + 64,           /* that the kernel has beside the product's */
};

#define NOT_A_NUMBER __int_as_float(0x7fffffff)
#define INFINITE __int_as_float(0x7f800000)

struct product {
    struct sac_panel queries, rows;
    size_t first_row;   /* of the panel of rows */
    uint32_t row_count; /* of it */
    uint32_t row_tiles; /* of it */
    uint32_t query_count, slices;
    float factor; /* -2 for L2, -1 for the inner product */
    bool resident, begins;
    const uint64_t *live;
    const uint64_t *const *filters;
    uint32_t keep, roomy, capacity;
    uint64_t *keys;
    uint32_t *counts;
    float *limits;
};

/* What a block shares about its queries. */
struct product_queries {
    uint32_t counts[SAC_PANEL_TILE];
    float limits[SAC_PANEL_TILE];
};

static __device__ size_t list_of(const struct product *a, uint32_t q)
{
    return (size_t)(blockIdx.x * SAC_PANEL_TILE + q) * a->slices + blockIdx.y;
}

/* Pushes those of a query's 16 distances, at rows column(bit / 2, bit % 2) of the tile, whose bit is set. */
static __device__ __forceinline__ bool push(const struct product *a, struct product_queries *shared,
                                            uint32_t q, uint32_t tile, uint32_t passing,
                                            const float *distances)
{
    const uint32_t query = blockIdx.x * SAC_PANEL_TILE + q;
    const uint64_t *filter;
    bool full = false;

    if (query >= a->query_count) /* which has no list: where f32 ends, zeros meet infinity, and NaN passes */
        return false;
    filter = a->filters != NULL ? a->filters[query] : NULL;
    while (passing != 0) {
        uint32_t bit = (uint32_t)__ffs((int)passing) - 1;
        uint32_t at = tile * SAC_PANEL_TILE + sac_product_column(bit / 2, bit % 2);
        size_t row = a->first_row + at;

        passing &= passing - 1;
        if (at >= a->row_count || !sac_shortlist_allows(a->live, row) || !sac_shortlist_allows(filter, row))
            continue;
        full |= sac_shortlist_push(a->keys + list_of(a, q) * a->capacity, &shared->counts[q], a->capacity,
                                   SAC_PANEL_TILE, sac_product_pick(distances, bit), (uint32_t)row);
    }
    return full;
}

/* Offers the distances of a tile; true where a list must be shortened before the next. */
static __device__ __forceinline__ bool tile_offer(const struct product *a, struct product_queries *shared,
                                                  uint32_t tile, const struct sac_product_sums *sums)
{
    bool full = false;

#pragma unroll
    for (uint32_t i = 0; i < 4; i++)
#pragma unroll
        for (uint32_t e = 0; e < 4; e += 2) {
            uint32_t q = sac_product_row(i, e), passing = 0;
            float limit = shared->limits[q], least = sums->of[i][0][e], mine[16];

#pragma unroll
            for (uint32_t at = 0; at < 16; at++) {
                mine[at] = sums->of[i][at / 2][e + at % 2];
                least = fminf(least, mine[at]);
            }
            if (least >= limit)
                continue;
#pragma unroll
            for (uint32_t at = 0; at < 16; at++)
                passing |= mine[at] >= limit ? 0 : 1u << at;
            full |= push(a, shared, q, tile, passing, mine);
        }
    return full;
}

/* Warps: shortens the lists of more than `most` keys. */
static __device__ void shorten(const struct product *a, struct product_queries *shared, uint32_t most)
{
    for (uint32_t q = sac_warp(); q < SAC_PANEL_TILE; q += WARPS)
        if (shared->counts[q] > most)
            sac_shortlist_shrink(a->keys + list_of(a, q) * a->capacity, &shared->counts[q],
                                 &shared->limits[q], a->keep, a->roomy);
}

static __global__ void __launch_bounds__(THREADS, 2) product_kernel(const struct product a)
{
    SAC_SHARED_DYNAMIC(unsigned char, buffers);
    __shared__ struct product_queries shared;
    uint32_t query = blockIdx.x * SAC_PANEL_TILE + threadIdx.x;
    struct sac_product p;
    struct sac_product_sums sums;
    bool full = false;

    static_assert(THREADS == SAC_PANEL_TILE, "a thread a query");
    sac_product_begin(&p, &a.queries, blockIdx.x, &a.rows,
                      (uint32_t)((uint64_t)a.row_tiles * blockIdx.y / a.slices),
                      (uint32_t)((uint64_t)a.row_tiles * (blockIdx.y + 1) / a.slices), a.resident, buffers);
    shared.counts[threadIdx.x] = a.begins || query >= a.query_count ? 0 : a.counts[list_of(&a, threadIdx.x)];
    shared.limits[threadIdx.x] = query >= a.query_count ? -INFINITE
                                 : a.begins             ? NOT_A_NUMBER
                                                        : a.limits[list_of(&a, threadIdx.x)];
    while (sac_product_next(&p, &sums, &full)) {
        if (full) {
            shorten(&a, &shared, a.capacity - SAC_PANEL_TILE);
            __syncthreads();
        }
        sac_product_distances(&p, a.factor * a.queries.unscale[blockIdx.x] * a.rows.unscale[p.tile], &sums);
        full = tile_offer(&a, &shared, p.tile, &sums);
    }
    __syncthreads();
    shorten(&a, &shared, a.roomy);
    __syncthreads();
    if (query < a.query_count) {
        a.counts[list_of(&a, threadIdx.x)] = shared.counts[threadIdx.x];
        a.limits[list_of(&a, threadIdx.x)] = shared.limits[threadIdx.x];
    }
}

/* ---- the plan ----------------------------------------------------------------------------------------- */

/* Queries at a time and slices, so that blocks fill the device and lists fit into LIST_BYTES_MOST. More
 * slices than that takes would mean more lists, each of which lets rows pass until it has its limit. */
static void plan_products(const struct sac_cuda_device *d, const struct sac_shortlist_args *a,
                          struct sac_shortlist_plan *plan)
{
    size_t lists = LIST_BYTES_MOST / (plan->capacity * sizeof(uint64_t)), groups, tiles;
    uint32_t row_tiles = sac_panel_tiles(a->row_count), slices;
    size_t tile_bytes = SAC_PANEL_TILE * sizeof(uint16_t) * sac_panel_stride(a->dim);

    lists = lists > SAC_PANEL_TILE ? lists : SAC_PANEL_TILE;
    groups = (a->query_count + lists - 1) / lists;
    tiles = sac_panel_tiles((a->query_count + groups - 1) / groups);
    plan->group = tiles * SAC_PANEL_TILE < a->query_count ? tiles * SAC_PANEL_TILE : a->query_count;
    slices = (uint32_t)(2 * d->multiprocessors / tiles);
    slices = slices > lists / plan->group ? (uint32_t)(lists / plan->group) : slices;
    slices = slices > row_tiles ? row_tiles : slices;
    plan->slices = slices > 0 ? slices : 1;
    plan->slab_tiles = (uint32_t)(SLAB_BYTES_MOST / tile_bytes);
    plan->slab_tiles = plan->slab_tiles > row_tiles ? row_tiles : plan->slab_tiles;
}

void sac_shortlist_plan(const sac_device *d, const struct sac_shortlist_args *a,
                        struct sac_shortlist_plan *plan)
{
    memset(plan, 0, sizeof *plan);
    plan->keep = a->keep;
    plan->roomy = a->keep + a->keep / 4 + 32;
    plan->capacity = (plan->roomy + SAC_STREAM_STEP_MOST + 63) / 64 * 64;
    plan->products = a->query_count > STREAM_QUERIES_MOST;
    if (plan->products) {
        plan_products((const struct sac_cuda_device *)d, a, plan);
        plan->split =
            sac_stream_split_of(d, a->dim, a->row_count, plan->group, (uint32_t)plan->group * plan->slices);
    } else {
        plan->group = a->query_count;
        plan->split = sac_stream_split_of(d, a->dim, a->row_count, a->query_count, UINT32_MAX);
        plan->split.lists =
            (uint32_t)a->query_count * sac_stream_slices(&plan->split, (uint32_t)a->query_count);
    }
}

static size_t list_count(const struct sac_shortlist_plan *plan)
{
    return plan->products ? plan->group * plan->slices : plan->split.lists;
}

static struct sac_panel_shape queries_shape(const struct sac_shortlist_args *a,
                                            const struct sac_shortlist_plan *plan)
{
    struct sac_panel_shape shape = {sac_panel_tiles(plan->group), a->dim, true};

    return shape;
}

static struct sac_panel_shape rows_shape(const struct sac_shortlist_args *a,
                                         const struct sac_shortlist_plan *plan)
{
    struct sac_panel_shape shape = {plan->slab_tiles, a->dim, false};

    return shape;
}

size_t sac_shortlist_scratch(const struct sac_shortlist_args *a, const struct sac_shortlist_plan *plan)
{
    struct sac_panel_shape queries = queries_shape(a, plan), rows = rows_shape(a, plan);
    size_t lists = list_count(plan), bytes = sac_scratch_size(lists * plan->capacity, sizeof(uint64_t));

    bytes = sac_scratch_add(bytes, sac_scratch_size(lists, sizeof(uint32_t)));
    if (!plan->products)
        return bytes;
    bytes = sac_scratch_add(bytes, sac_scratch_size(lists, sizeof(float)));
    bytes = sac_scratch_add(bytes, sac_scratch_size(plan->group, sizeof(uint32_t)));
    bytes = sac_scratch_add(bytes, sac_scratch_size(4, sizeof(uint32_t)));
    return sac_scratch_add(bytes, sac_scratch_add(sac_panel_scratch(&queries), sac_panel_scratch(&rows)));
}

bool sac_shortlist_take(sac_stream *s, const struct sac_shortlist_args *a,
                        const struct sac_shortlist_plan *plan, struct sac_shortlist *out)
{
    struct sac_panel_shape queries = queries_shape(a, plan), rows = rows_shape(a, plan);
    size_t lists = list_count(plan);

    memset(out, 0, sizeof *out);
    out->keys = (uint64_t *)sac_scratch_take(s, lists * plan->capacity, sizeof(uint64_t));
    out->counts = (uint32_t *)sac_scratch_take(s, lists, sizeof(uint32_t));
    if (out->keys == NULL || out->counts == NULL || !plan->products)
        return out->keys != NULL && out->counts != NULL;
    out->limits = (float *)sac_scratch_take(s, lists, sizeof(float));
    out->doubtful = (uint32_t *)sac_scratch_take(s, plan->group, sizeof(uint32_t));
    out->most = (uint32_t *)sac_scratch_take(s, 4, sizeof(uint32_t));
    out->doubts = out->most + 2;
    return out->limits != NULL && out->doubtful != NULL && out->most != NULL &&
           sac_panel_take(s, &queries, &out->queries) && sac_panel_take(s, &rows, &out->rows);
}

/* ---- on the stream ------------------------------------------------------------------------------------ */

/* Products of all queries with the panel of rows `first` on. */
static cudaError_t slab_search(sac_stream *s, const struct sac_shortlist_args *a,
                               const struct sac_shortlist_plan *plan, const struct sac_shortlist *list,
                               size_t first, size_t count)
{
    const struct sac_cuda_device *d = sac_cuda_device_of(s);
    bool l2 = a->distance == SAC_DISTANCE_L2SQ;
    struct sac_panel_fill_args fill = {a->rows, first, count, a->live, l2, list->rows, list->most};
    struct product product;
    dim3 grid(sac_panel_tiles(a->query_count), plan->slices);
    size_t bytes;
    cudaError_t error = sac_panel_fill_cuda(sac_cuda_stream_of(s), a->dtype, &fill);

    if (error != cudaSuccess)
        return error;
    memset(&product, 0, sizeof product);
    product.queries = list->queries;
    product.rows = list->rows;
    product.first_row = first;
    product.row_count = (uint32_t)count;
    product.row_tiles = sac_panel_tiles(count);
    product.query_count = (uint32_t)a->query_count;
    product.slices = plan->slices;
    product.factor = l2 ? -2.0f : -1.0f;
    product.begins = first == 0;
    product.live = a->live;
    product.filters = a->filters;
    product.keep = plan->keep;
    product.roomy = plan->roomy;
    product.capacity = plan->capacity;
    product.keys = list->keys;
    product.counts = list->counts;
    product.limits = list->limits;
    bytes =
        sac_product_shared_bytes(list->rows.stride, d->shared_bytes_max - STATIC_BYTES, &product.resident);
    error = sac_launch_shared(product_kernel, bytes);
    return error != cudaSuccess
               ? error
               : SAC_LAUNCH(product_kernel, grid, THREADS, bytes, sac_cuda_stream_of(s), product);
}

cudaError_t sac_shortlist_fill(sac_stream *s, const struct sac_shortlist_args *a,
                               const struct sac_shortlist_plan *plan, const struct sac_shortlist *list)
{
    struct sac_panel_fill_args queries = {sac_row_source_dense(a->queries, a->dim),
                                          0,
                                          a->query_count,
                                          NULL,
                                          a->distance == SAC_DISTANCE_L2SQ,
                                          list->queries,
                                          NULL};
    size_t slab = (size_t)plan->slab_tiles * SAC_PANEL_TILE;
    cudaError_t error;

    if (!plan->products) {
        struct sac_stream_args stream = {a,           plan->split,    NULL,       NULL,         plan->keep,
                                         plan->roomy, plan->capacity, list->keys, list->counts, NULL};

        return sac_stream_rows_cuda(s, &stream);
    }
    error = cudaMemsetAsync(list->most, 0, 4 * sizeof(uint32_t), sac_cuda_stream_of(s));
    if (error == cudaSuccess)
        error = sac_panel_fill_cuda(sac_cuda_stream_of(s), SAC_F32, &queries);
    for (size_t first = 0; first < a->row_count && error == cudaSuccess; first += slab)
        error =
            slab_search(s, a, plan, list, first, slab < a->row_count - first ? slab : a->row_count - first);
    return error;
}

cudaError_t sac_shortlist_refill(sac_stream *s, const struct sac_shortlist_args *a,
                                 const struct sac_shortlist_plan *plan, const struct sac_shortlist *list)
{
    struct sac_stream_args stream = {a,           plan->split,    list->doubtful, list->doubts, plan->keep,
                                     plan->roomy, plan->capacity, list->keys,     list->counts, NULL};

    return sac_stream_rows_cuda(s, &stream);
}
