/* list_scan_items.cu -- the scan itself: blocks take work items - a piece of a list and up to 32 of its
 * queries - until none is left.
 *
 * Floors on an H200, 100 M rows in 50,000 lists, every list probed by r queries of the batch:
 *                                                        96 dims, 48 codes             768 dims, 96 codes
 *   bytes: codes and bias once, 4.3 TB/s                 1.2 ms                        2.3 ms
 *   products: 2 * r * dims a row, 790 TFLOP/s            0.02, 0.10, 0.39 ms           0.19, 0.78, 3.1 ms
 *   shared memory, list_scan_product.cuh: cycles a row   5.2, 5.2, 5.2                 26, 26, 26
 *     on 132 multiprocessors at 1.755 GHz                2.2, 2.2, 2.2 ms              11.2, 11.2, 11.2 ms
 *   lookups of bytes instead: 3 and 6 cycles a row, * r  1.3, 5.2, 21 ms               2.6, 10.4, 41 ms
 * (r = 1, 4, 16). So the bound is shared memory, nearly whatever r is up to 32, and the two schedules' floors
 * cross at r = 1.7 and 4.3. Predicted, not measured: 60 % of the floor here, a tenth more for the sample, 0.1
 * ms for the pairs and what list_scan_finish.cu says; so 4.6 ms for 10,000 queries of 64 probes (r = 12.8) at
 * 96 dimensions, 20 ms at 768; and a crossing at r = 2 to 3 and 5 to 6.
 *
 * nvcc 13.0, sm_90a: 128 registers, so 16 warps a multiprocessor; 4,864 bytes of shared memory and what the
 * shape says: 82,944 at 96 dimensions of 48 codes (two blocks of 8 warps), 226,304 at 768 of 96 (one of 16,
 * the codebook in 5 slices). Instructions of the chunk loop for 32 queries, and bytes of spills stored:
 *   - lookups of 2 components: 266 and 8 where the codebook stays, 271 and 16 where it comes in slices;
 *   - of 4: 166 and 167, no spills;
 *   - of 8: 131 and 52, 122 and 16.
 * At four instructions a cycle that is less than shared memory takes. Only where the codebook stays do spills
 * reach that loop: one load with 2 components; four loads and a store with 8, as ptxas keeps all eight
 * lookups of 16 bytes in flight. The loops for 16 queries have none. Fewer warps of more registers would have
 * fewer loads of codes under way, and the shapes of pq_scan_lists.cu count on 8 and 16. sm_100 and 120 store
 * 20 and at most 52 bytes with 8 components, nothing else; sm_80 to 89 up to 112. */
#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/list_scan_survivors.cuh"

enum { RING = 4 }; /* work items a block knows: left behind, at hand, arriving, being looked up */

/* ---- slices ------------------------------------------------------------------------------------------ */

static __device__ __forceinline__ unsigned char *codebook_buffer(const struct worker *w, uint32_t buffer)
{
    return w->shared + buffer * w->s->shape.codebook_bytes;
}

static __device__ __forceinline__ unsigned char *queries_buffer(const struct worker *w, uint32_t buffer)
{
    return w->shared + w->s->shape.queries_at + buffer * (SAC_LISTS_QUERIES * w->s->shape.query_bytes);
}

static __device__ __forceinline__ uint32_t slice_chunks(const struct sac_lists_shape *shape, uint32_t slice)
{
    return min(shape->slice_chunks, shape->chunks - slice * shape->slice_chunks);
}

/* Block: a slice of the codebook on its way to `to`. */
static __device__ void codebook_load(const struct worker *w, unsigned char *to, uint32_t slice)
{
    const unsigned char *from =
        (const unsigned char *)w->s->codebook + (size_t)slice * w->s->shape.codebook_bytes;
    uint32_t bytes = slice_chunks(&w->s->shape, slice) * sac_lists_chunk_bytes(w->s->a.pool.pq.nbits);

    for (uint32_t i = threadIdx.x * 16; i < bytes; i += blockDim.x * 16)
        sac_copy_async<16>(to + i, from + i);
}

/* Block: the same slice of the item's queries. */
static __device__ void queries_load(const struct worker *w, const struct item *item, unsigned char *to,
                                    uint32_t slice)
{
    const struct sac_lists_shape *shape = &w->s->shape;
    uint32_t pieces = slice_chunks(shape, slice) * (SAC_LISTS_CHUNK * 2 / 16);
    uint32_t row_bytes = shape->chunks * SAC_LISTS_CHUNK * 2,
             skipped = slice * shape->slice_chunks * SAC_LISTS_CHUNK * 2;

    for (uint32_t i = threadIdx.x; i < item->pair_count * pieces; i += blockDim.x) {
        uint32_t row = i / pieces, piece = i % pieces;
        size_t query = item->places[row] >> w->p->place_shift;

        sac_copy_async<16>(to + row * shape->query_bytes + piece * 16,
                           (const unsigned char *)w->s->queries + query * row_bytes + skipped + piece * 16);
    }
}

/* Block: starts loading what the stage after this one needs, where there is one: the item's next slice, or
 * the first of the item after it. A group either way. */
static __device__ void stage_load(const struct worker *w, const struct item *item, uint32_t slice,
                                  uint32_t buffer)
{
    if (item->pair_count > 0) {
        if (w->s->shape.slices > 1)
            codebook_load(w, codebook_buffer(w, buffer), slice);
        queries_load(w, item, queries_buffer(w, buffer), slice);
    }
    sac_copy_async_commit();
}

/* ---- scanning ---------------------------------------------------------------------------------------- */

/* Warp: the next page of the item for it, its end where there is none. */
static __device__ __forceinline__ uint32_t page_take(struct item *item)
{
    uint32_t taken = 0;

    if (sac_lane() == 0)
        taken = atomicAdd(&item->taken, 1u);
    return min(item->first + __shfl_sync(SAC_WARP_ALL, taken, 0), item->end);
}

/* Warp: the sums of a page are complete. */
template <uint32_t TILES>
static __device__ __forceinline__ void page_finish(const struct worker *w, const struct item *item,
                                                   uint32_t page, const struct sac_lists_sums<TILES> *sums)
{
    float2 bias = bias_load(w, item, page);

    if (w->sampling)
        sample_keep<TILES>(w, item, page, sums, bias);
    else
        survivors_keep<TILES>(w, item, page, sums, bias);
}

/* What a warp multiplies: where in the item it is, and the codes that are on their way. */
template <uint32_t WIDTH> struct place {
    struct sac_lists_codes codes;
    struct sac_lists_lane_codes<WIDTH> ahead;
};

template <uint32_t WIDTH>
static __device__ __forceinline__ void page_start(const struct worker *w, const struct item *item,
                                                  uint32_t page, struct place<WIDTH> *place)
{
    if (page < item->end) {
        place->codes.page = item->pages[page - item->first];
        sac_lists_codes_load<WIDTH>(&place->ahead, &place->codes, 0);
    }
}

/* Warp: takes over an item's limits. */
static __device__ __forceinline__ void limits_copy(const struct worker *w, const struct item *item)
{
    __syncwarp();
    w->limits[sac_warp()][sac_lane()] = item->limits[sac_lane()];
    __syncwarp();
}

/* Warp: adds chunks [first, end) of a page's rows and the item's queries, which lie in the buffers. */
template <uint32_t WIDTH, uint32_t TILES>
static __device__ __forceinline__ void
slice_multiply(const struct worker *w, struct place<WIDTH> *place, uint32_t first, uint32_t end,
               const unsigned char *codebook, const unsigned char *queries,
               struct sac_lists_sums<TILES> *sums)
{
    uint32_t nbits = place->codes.nbits;

    for (uint32_t chunk = first; chunk < end; chunk++) {
        struct sac_lists_lane_codes<WIDTH> now = place->ahead;

        if (chunk + 1 < w->s->shape.chunks)
            sac_lists_codes_load<WIDTH>(&place->ahead, &place->codes, chunk + 1);
        if (nbits == 4)
            sac_lists_codes_split<WIDTH>(&now, &place->codes, chunk);
        chunk_product<WIDTH, TILES>(sums, codebook, nbits, &now, queries, w->s->shape.query_bytes);
        codebook += sac_lists_chunk_bytes(nbits);
        queries += SAC_LISTS_CHUNK * 2;
    }
}

/* Block: one work item, with the codebook and its queries in shared memory: warps take its pages as
 * they come. Meanwhile the queries of the item `after` arrive, and the first warp finds out what is `later`.
 */
template <uint32_t WIDTH, uint32_t TILES>
static __device__ __forceinline__ void item_scan(const struct worker *w, struct item *item,
                                                 const struct item *after, struct item *later, uint32_t stage)
{
    const sac_pq_shape *pq = &w->s->a.pool.pq;
    struct place<WIDTH> place = {
        {NULL, pq->m, pq->nbits, w->s->shape.part_rate},
        {
        }
    };
    uint32_t page = page_take(item);

    limits_copy(w, item);
    page_start<WIDTH>(w, item, page, &place);
    stage_load(w, after, 0, (stage + 1) % 2);
    sac_copy_async_wait<1>();
    __syncthreads();
    if (sac_warp() == 0)
        item_take(w, later);
    while (page < item->end) {
        struct sac_lists_sums<TILES> sums = {
        };
        uint32_t finished = page;

        slice_multiply<WIDTH, TILES>(w, &place, 0, w->s->shape.chunks, codebook_buffer(w, 0),
                                     queries_buffer(w, stage % 2), &sums);
        page = page_take(item);
        page_start<WIDTH>(w, item, page, &place);
        page_finish<TILES>(w, item, finished, &sums);
    }
    __syncthreads();
}

/* Block: one work item, while the codebook passes through shared memory in slices: each warp keeps the sums
 * of the one page that is its own. *stage counts slices. */
template <uint32_t WIDTH, uint32_t TILES>
static __device__ __forceinline__ void item_stream(const struct worker *w, struct item *item,
                                                   const struct item *after, struct item *later,
                                                   uint32_t *stage)
{
    const struct sac_lists_shape *shape = &w->s->shape;
    const sac_pq_shape *pq = &w->s->a.pool.pq;
    struct place<WIDTH> place = {
        {NULL, pq->m, pq->nbits, shape->part_rate},
        {
        }
    };
    struct sac_lists_sums<TILES> sums = {
    };
    uint32_t page = item->first + sac_warp();

    if (sac_warp() == 0)
        item_take(w, later);
    limits_copy(w, item);
    page_start<WIDTH>(w, item, page, &place);
    for (uint32_t slice = 0; slice < shape->slices; slice++, ++*stage) {
        uint32_t buffer = *stage % 2, first = slice * shape->slice_chunks;

        stage_load(w, slice + 1 < shape->slices ? item : after, slice + 1 < shape->slices ? slice + 1 : 0,
                   buffer ^ 1);
        sac_copy_async_wait<1>();
        __syncthreads();
        if (page < item->end)
            slice_multiply<WIDTH, TILES>(w, &place, first, first + slice_chunks(shape, slice),
                                         codebook_buffer(w, buffer), queries_buffer(w, buffer), &sums);
        __syncthreads();
    }
    if (page < item->end)
        page_finish<TILES>(w, item, page, &sums);
}

template <uint32_t WIDTH, uint32_t TILES, bool STREAMED>
static __device__ __forceinline__ void item_do(const struct worker *w, struct item *item,
                                               const struct item *after, struct item *later, uint32_t *stage)
{
    if (STREAMED)
        item_stream<WIDTH, TILES>(w, item, after, later, stage);
    else
        item_scan<WIDTH, TILES>(w, item, after, later, (*stage)++);
}

/* WIDTH: components that a lookup brings. STREAMED: the codebook does not fit into shared memory. */
template <uint32_t WIDTH, bool STREAMED>
static __global__ void __launch_bounds__(SAC_LISTS_WARPS * 32, 1)
    scan_items(const __grid_constant__ struct sac_lists_scan s, const bool sampling)
{
    __shared__ struct item items[RING];
    __shared__ uint32_t staged_counts[SAC_LISTS_WARPS];
    __shared__ float limits[SAC_LISTS_WARPS][SAC_LISTS_QUERIES];
    SAC_SHARED_DYNAMIC(unsigned char, shared);
    struct worker w;
    uint32_t stage = 0, at = 0;

    w.s = &s;
    w.p = sampling ? &s.sampled : &s.all;
    w.sampling = sampling;
    w.shared = shared;
    w.staged_counts = staged_counts;
    w.limits = limits;
    if (sac_lane() == 0)
        staged_counts[sac_warp()] = 0;
    if (sac_warp() == 0) {
        item_take(&w, &items[0]);
        item_take(&w, &items[1]);
    }
    if (!STREAMED)
        codebook_load(&w, shared, 0);
    __syncthreads();
    stage_load(&w, &items[0], 0, 0);
    for (; items[at].pair_count > 0; at = (at + 1) % RING) {
        struct item *item = &items[at], *after = &items[(at + 1) % RING], *later = &items[(at + 2) % RING];

        if (item->pair_count <= 16)
            item_do<WIDTH, 1, STREAMED>(&w, item, after, later, &stage);
        else
            item_do<WIDTH, 2, STREAMED>(&w, item, after, later, &stage);
    }
    sac_copy_async_wait<0>();
}

template <uint32_t WIDTH, bool STREAMED>
static cudaError_t scan_launch(const struct sac_lists_scan *s, bool sampling, uint32_t multiprocessors,
                               cudaStream_t stream)
{
    cudaError_t error = sac_launch_shared(scan_items<WIDTH, STREAMED>, s->shape.shared_bytes);

    if (error != cudaSuccess)
        return error;
    return SAC_LAUNCH((scan_items<WIDTH, STREAMED>), multiprocessors * s->shape.blocks, s->shape.warps * 32,
                      s->shape.shared_bytes, stream, *s, sampling);
}

template <uint32_t WIDTH>
static cudaError_t scan(const struct sac_lists_scan *s, bool sampling, uint32_t multiprocessors,
                        cudaStream_t stream)
{
    return s->shape.slices > 1 ? scan_launch<WIDTH, true>(s, sampling, multiprocessors, stream)
                               : scan_launch<WIDTH, false>(s, sampling, multiprocessors, stream);
}

cudaError_t sac_lists_scan_items(const struct sac_lists_scan *s, bool sampling, uint32_t multiprocessors,
                                 cudaStream_t stream)
{
    return s->shape.width == 2   ? scan<2>(s, sampling, multiprocessors, stream)
           : s->shape.width == 4 ? scan<4>(s, sampling, multiprocessors, stream)
                                 : scan<8>(s, sampling, multiprocessors, stream);
}
