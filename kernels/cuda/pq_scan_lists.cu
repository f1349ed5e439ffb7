/* pq_scan_lists.cu -- the list-major schedule of pq_scan: what it needs, and its steps (list_scan.cuh). */
#include "kernels/cuda/list_scan.cuh"

#include <assert.h>
#include <string.h>

enum {
    BATCH_MAX = 1 << 16,
    STATIC_SHARED = 6144, /* bytes at most, of a scanning block, and 1024 that the driver takes for each */
    PIECES = 19,
};

/* Bytes that a batch may take beside what the lists need: what 10,000 queries of depth 100 want, and less of
 * a small GPU. */
static size_t batch_budget(const sac_cuda_device *device)
{
    const size_t most = (size_t)384 << 20, least = (size_t)1 << 20;
    uint64_t share = device->budget / 64;

    return share > most ? most : share < least ? least : (size_t)share;
}

/* ---- shape ------------------------------------------------------------------------------------------- */

/* Lays out a scanning block's shared memory; false where it takes more than `limit`. */
static bool block_fits(struct sac_lists_shape *shape, uint32_t nbits, uint32_t warps, uint32_t slice_chunks,
                       size_t limit)
{
    size_t at;

    shape->warps = warps;
    shape->slice_chunks = slice_chunks;
    shape->slices = (shape->chunks + slice_chunks - 1) / slice_chunks;
    shape->codebook_bytes = slice_chunks * sac_lists_chunk_bytes(nbits);
    /* a matrix is fetched as 16 bytes of each of eight queries: an odd number of 16 bytes from one to the
     * other puts them into different banks */
    shape->query_bytes = slice_chunks * SAC_LISTS_CHUNK * 2 + 16;
    at = (size_t)shape->codebook_bytes * (shape->slices > 1 ? 2 : 1);
    shape->queries_at = (uint32_t)at;
    at += (size_t)2 * SAC_LISTS_QUERIES * shape->query_bytes;
    shape->staged_at = (uint32_t)at;
    at += (size_t)warps * SAC_LISTS_STAGED * sizeof(struct sac_lists_survivor);
    shape->shared_bytes = (uint32_t)at;
    return at + STATIC_SHARED <= limit;
}

/* Two blocks a multiprocessor where two codebooks fit, so that one works while the other waits at a barrier;
 * one of twice the warps where one fits; else slices of the codebook, as large as they can be. */
static void block_choose(struct sac_lists_shape *shape, uint32_t nbits, size_t limit)
{
    uint32_t warps = SAC_LISTS_WARPS;

    shape->blocks = 2;
    if (block_fits(shape, nbits, warps / 2, shape->chunks, limit / 2))
        return;
    shape->blocks = 1;
    if (block_fits(shape, nbits, warps, shape->chunks, limit))
        return;
    for (; warps > 1; warps /= 2)
        for (uint32_t chunks = shape->chunks - 1; chunks > 1 || (warps < SAC_LISTS_WARPS && chunks > 0);
             chunks--)
            if (block_fits(shape, nbits, warps, chunks, limit))
                return;
    assert(!"a GPU of the kinds this is built for has 99 KB of shared memory and more");
}

/* Components of a lookup and lookups of a code word: words are padded to 2, 4 or 8 components or a multiple
 * of 8. */
static void word_choose(struct sac_lists_shape *shape, const sac_pq_shape *pq)
{
    shape->width = pq->dsub <= 2 ? 2 : pq->dsub <= 4 ? 4 : 8;
    shape->parts = (pq->dsub + shape->width - 1) / shape->width;
    shape->part_rate = (1u << 31) / shape->parts + 1;
    shape->chunks = (pq->m * shape->parts * shape->width + SAC_LISTS_CHUNK - 1) / SAC_LISTS_CHUNK;
}

static size_t query_bytes(const struct sac_lists_shape *shape, uint32_t probe_stride)
{
    return (size_t)shape->chunks * SAC_LISTS_CHUNK * 2 + sizeof(float) +
           ((size_t)SAC_LISTS_SAMPLE + probe_stride) * sizeof(struct sac_lists_pair) +
           SAC_LISTS_SAMPLE * SAC_PAGE_ROWS * sizeof(float) + sizeof(struct sac_lists_bound) +
           SAC_LISTS_BINS * sizeof(uint32_t) + shape->capacity * sizeof(struct sac_lists_candidate);
}

static struct sac_lists_shape shape_of(const sac_cuda_device *device, const struct sac_pq_scan_args *a)
{
    struct sac_lists_shape shape;
    size_t most;

    word_choose(&shape, &a->pool.pq);
    block_choose(&shape, a->pool.pq.nbits, device->shared_bytes_max);
    shape.item_pages = shape.slices > 1 ? shape.warps : (uint32_t)SAC_LISTS_PIECE;
    shape.capacity = 8 * a->depth_stride + 1024;
    for (shape.refresh = 16; shape.refresh < 256 && shape.refresh * 4 < a->depth_stride;)
        shape.refresh *= 2;
    most = batch_budget(device) / query_bytes(&shape, a->probe_stride);
    most = most < 1 ? 1 : most > (size_t)BATCH_MAX ? (size_t)BATCH_MAX : most;
    most = (a->query_count + most - 1) / most; /* parts */
    shape.batch = (uint32_t)((a->query_count + most - 1) / most);
    return shape;
}

/* ---- workspace --------------------------------------------------------------------------------------- */

struct piece {
    void **at;
    size_t count, size;
};

static uint32_t pairs_pieces(struct sac_lists_pairs *p, uint32_t nlist, size_t pairs, struct piece *pieces)
{
    size_t groups = sac_lists_groups(nlist) + 1;

    pieces[0] = {(void **)&p->cursors, nlist, sizeof *p->cursors};
    pieces[1] = {(void **)&p->items, nlist, sizeof *p->items};
    pieces[2] = {(void **)&p->group_pairs, groups, sizeof *p->group_pairs};
    pieces[3] = {(void **)&p->group_items, groups, sizeof *p->group_items};
    pieces[4] = {(void **)&p->pairs, pairs, sizeof *p->pairs};
    return 5;
}

/* All that the steps hand each other. */
static void scan_pieces(struct sac_lists_scan *s, struct piece *pieces)
{
    const struct sac_lists_shape *shape = &s->shape;
    const sac_list_pool *pool = &s->a.pool;
    uint32_t n = 0;

    pieces[n++] = {(void **)&s->codebook, shape->chunks, sac_lists_chunk_bytes(pool->pq.nbits)};
    pieces[n++] = {(void **)&s->widest, pool->pq.m, sizeof *s->widest};
    pieces[n++] = {(void **)&s->queries, shape->batch, (size_t)shape->chunks * SAC_LISTS_CHUNK * 2};
    pieces[n++] = {(void **)&s->margins, shape->batch, sizeof *s->margins};
    n += pairs_pieces(&s->sampled, pool->nlist, (size_t)shape->batch * SAC_LISTS_SAMPLE, pieces + n);
    n += pairs_pieces(&s->all, pool->nlist, (size_t)shape->batch * s->a.probe_stride, pieces + n);
    pieces[n++] = {(void **)&s->zeroed, s->zeroed_bytes, 1};
    pieces[n++] = {(void **)&s->sample, shape->batch, SAC_LISTS_SAMPLE * SAC_PAGE_ROWS * sizeof *s->sample};
    pieces[n++] = {(void **)&s->bounds, shape->batch, sizeof *s->bounds};
    pieces[n++] = {(void **)&s->histograms, shape->batch, SAC_LISTS_BINS * sizeof *s->histograms};
    pieces[n++] = {(void **)&s->candidates, shape->batch, shape->capacity * sizeof *s->candidates};
    assert(n == PIECES);
}

static struct sac_lists_scan scan_of(const sac_cuda_device *device, const struct sac_pq_scan_args *a)
{
    struct sac_lists_scan s;

    memset(&s, 0, sizeof s);
    s.a = *a;
    s.shape = shape_of(device, a);
    s.sampled.place_shift = 9;
    s.sampled.pages = s.shape.warps;
    s.all.pages = UINT32_MAX;
    s.zeroed_bytes = 2 * (sizeof *s.all.next + (size_t)a->pool.nlist * sizeof *s.all.counts);
    return s;
}

static sac_status scan_take(struct sac_lists_scan *s, sac_stream *stream)
{
    struct piece pieces[PIECES];
    unsigned long long *counters;

    scan_pieces(s, pieces);
    sac_scratch_reset(stream);
    for (uint32_t i = 0; i < PIECES; i++) {
        *pieces[i].at = sac_scratch_take(stream, pieces[i].count, pieces[i].size);
        if (*pieces[i].at == NULL)
            return SAC_DEVICE_MEMORY;
    }
    counters = (unsigned long long *)(void *)s->zeroed;
    s->sampled.next = counters;
    s->all.next = counters + 1;
    s->sampled.counts = (uint32_t *)(void *)(counters + 2);
    s->all.counts = s->sampled.counts + s->a.pool.nlist;
    return SAC_OK;
}

size_t sac_pq_scan_lists_scratch_cuda(const sac_device *d, const struct sac_pq_scan_args *a)
{
    struct piece pieces[PIECES];
    struct sac_lists_scan s;
    size_t bytes = 0;

    if (a->query_count == 0)
        return 0;
    s = scan_of((const sac_cuda_device *)d, a);
    scan_pieces(&s, pieces);
    for (uint32_t i = 0; i < PIECES; i++)
        bytes = sac_scratch_add(bytes, sac_scratch_size(pieces[i].count, pieces[i].size));
    return bytes;
}

/* ---- the steps --------------------------------------------------------------------------------------- */

/* Queries [first, first + count) of the batch. */
static struct sac_lists_scan scan_part(const struct sac_lists_scan *s, size_t first, size_t count)
{
    struct sac_lists_scan part = *s;
    struct sac_pq_scan_args *a = &part.a;

    a->queries += first * a->pool.pq.m * a->pool.pq.dsub;
    a->query_count = count;
    a->probes += first * a->probe_stride;
    a->probe_counts += first;
    a->depths += first;
    a->filters += a->filters != NULL ? first : 0;
    a->out_distance += first * a->depth_stride;
    a->out_slot += first * a->depth_stride;
    return part;
}

static cudaError_t part_scan(const struct sac_lists_scan *part, uint32_t multiprocessors, cudaStream_t stream)
{
    cudaError_t error = cudaMemsetAsync(part->zeroed, 0, part->zeroed_bytes, stream);

    if (error == cudaSuccess)
        error = sac_lists_convert_queries(part, stream);
    if (error == cudaSuccess)
        error = sac_lists_sort_pairs(part, stream);
    if (error == cudaSuccess)
        error = sac_lists_scan_items(part, true, multiprocessors, stream);
    if (error == cudaSuccess)
        error = sac_lists_bound_queries(part, stream);
    if (error == cudaSuccess)
        error = sac_lists_scan_items(part, false, multiprocessors, stream);
    if (error == cudaSuccess)
        error = sac_lists_finish(part, stream);
    return error;
}

sac_status sac_pq_scan_lists_cuda(sac_stream *stream, const struct sac_pq_scan_args *a)
{
    const sac_cuda_device *device = sac_cuda_device_of(stream);
    struct sac_lists_scan s;
    cudaError_t error;
    sac_status st;

    assert(a->schedule == SAC_LIST_MAJOR && a->depth_stride >= 1 && a->depth_stride <= 4096);
    if (a->query_count == 0)
        return SAC_OK;
    s = scan_of(device, a);
    st = scan_take(&s, stream);
    if (st != SAC_OK)
        return st;
    error = sac_lists_convert_codebook(&s, sac_cuda_stream_of(stream));
    for (size_t first = 0; error == cudaSuccess && first < a->query_count; first += s.shape.batch) {
        size_t left = a->query_count - first;
        struct sac_lists_scan part = scan_part(&s, first, left < s.shape.batch ? left : s.shape.batch);

        error = part_scan(&part, device->multiprocessors, sac_cuda_stream_of(stream));
    }
    return sac_cuda_status(stream->device, error);
}
