/* list_scan.cuh -- the list-major scan: what its steps hand each other.
 *
 * Every inverted list is read once for all queries of the batch that probe it: a warp decodes a page of 64
 * rows straight into the registers of a matrix instruction and multiplies them with up to 32 queries.
 * Distances are never written down; a row is kept only where it beats what its query is known to have
 * already. On the stream:
 *
 *   convert   codebook and queries as bf16, in the order in which the product reads them list_scan_convert.cu
 *   pairs     (query, probe) pairs sorted by list; work items counted                      list_scan_pairs.cu
 *   sample    distances of the first rows of each query's nearest lists                    list_scan_items.cu
 *   bounds    from them the range of a query's histogram and its first limit              list_scan_bounds.cu
 *   items     all rows of all pairs: those within the limit become candidates              list_scan_items.cu
 *   finish    exact distances of the candidates within the last limit, sorted             list_scan_finish.cu
 *
 * Why nothing is lost. Products of bf16 numbers are off by at most e = 2^-7 |scale| times the sum over
 * sub-quantizers of |q_j| and the largest |r_j|, and a little for sums in f32. Where `depth` rows of a query
 * have computed distances of at most x, the depth-th nearest row is at x + e at most, so its computed
 * distance is at most x + 2 e: that is a limit. Each query has a histogram of its candidates' distances;
 * whenever some more have come in, whoever added them reads off the smallest edge with `depth` candidates
 * below it and lowers the limit. Limits only fall, and one read late is only less sharp. Random orders of
 * rows bring depth * (1 + ln(rows / depth)) candidates; a query has room for more, and for one that still
 * gets too many (equal rows by the thousands, say) the last step scans its lists again, alone, exactly. In
 * which order the blocks come does not show in the results: what is kept is exact.
 *
 * Memory: all but the codebook is per query - candidates (16 bytes each, 8 * depth + 1024 of them), 8 bytes a
 * probe, 5 KB of sample and histogram, the query itself - or per list (32 bytes). A batch that would take
 * more than pq_scan_lists.cu's batch_budget() is done in equal parts. */
#ifndef SACCADE_CUDA_LIST_SCAN_CUH
#define SACCADE_CUDA_LIST_SCAN_CUH

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/select.cuh"
#include "kernels/cuda/warp.cuh"
#include "kernels/page.h"

enum {
    SAC_LISTS_QUERIES = 32, /* of a work item at most: two tiles of the matrix instruction */
    SAC_LISTS_CHUNK = 32,   /* components that are multiplied at a time: two matrix instructions deep */
    SAC_LISTS_SAMPLE = 16,  /* pages of a query's sample */
    SAC_LISTS_BINS = 256,   /* of a query's histogram */
    SAC_LISTS_GROUP = 1024, /* lists whose work one block adds up */
    SAC_LISTS_WARPS = 16,   /* of a block that scans, at most */
    SAC_LISTS_PIECE = 32,   /* pages of a work item, at most */
    SAC_LISTS_STAGED = 320, /* survivors that a warp may hold back: 64, and what one more step can add */
};

/* What follows from the shape of the arguments and from the device alone. */
struct sac_lists_shape {
    uint32_t width;          /* components that one lookup brings: 2, 4 or 8 */
    uint32_t parts;          /* lookups that a code word takes: 1 unless it has more than 8 components */
    uint32_t part_rate;      /* 2^31 / parts + 1: i * part_rate >> 31 is i / parts where i * parts < 2^31 */
    uint32_t chunks;         /* of 32 components: the padded dimension */
    uint32_t slice_chunks;   /* of them in shared memory at a time */
    uint32_t slices;         /* 1: the codebook stays in shared memory */
    uint32_t warps;          /* of a scanning block */
    uint32_t blocks;         /* scanning blocks that a multiprocessor holds */
    uint32_t item_pages;     /* pages of a work item */
    uint32_t codebook_bytes; /* of a slice, in a scanning block's shared memory */
    uint32_t query_bytes;    /* from query to query there */
    uint32_t queries_at;     /* where its queries begin, SAC_LISTS_QUERIES of them twice */
    uint32_t staged_at;      /* and the places of what survives */
    uint32_t shared_bytes;   /* in all */
    uint32_t capacity;       /* candidates that a query has room for */
    uint32_t refresh;        /* candidates after which a limit is lowered, a power of two */
    uint32_t batch;          /* queries done at a time */
};

/* Bytes of the codebook of a chunk: 32 components of 2^nbits words in bf16. */
static inline __host__ __device__ uint32_t sac_lists_chunk_bytes(uint32_t nbits)
{
    return SAC_LISTS_CHUNK * 2u << nbits;
}

/* A query's part in a list: for all pairs place is the query; in the sample place is pages of the
 * list's head to take, below 32, + 32 * page of the sample where they go + 512 * the query. */
struct __align__(8) sac_lists_pair
{
    uint32_t place;
    float base;
};

/* The pairs of a pass - sample or all - sorted by list. Sums are in two levels: within a group of
 * SAC_LISTS_GROUP lists, and over groups. */
struct sac_lists_pairs {
    uint32_t *counts;                /* [nlist] pairs */
    uint32_t *cursors;               /* [nlist] within the group, where its pairs end (begin, until placed) */
    unsigned long long *items;       /* [nlist] work items of the lists before it in the group */
    uint32_t *group_pairs;           /* [groups + 1] of the groups before it; the last holds the total */
    unsigned long long *group_items; /* [groups + 1] */
    struct sac_lists_pair *pairs;    /* [queries][probes] at most */
    unsigned long long *next;        /* the next work item nobody has taken */
    uint32_t place_shift;            /* place >> place_shift is the query */
    uint32_t pages;                  /* of each list that count: UINT32_MAX unless a sample */
};

/* What is known of a query's depth-th distance. */
struct sac_lists_bound {
    float low, width; /* bin b holds low + b * width and more; the first and last also what is beyond */
    float rate;       /* 1 / width */
    float margin;     /* 2 e */
    uint32_t limit;   /* high half of a key: computed distances above it are of no interest */
    uint32_t count;   /* candidates that wanted a place */
};

struct __align__(16) sac_lists_candidate
{
    float distance; /* as computed, off by e */
    float base;
    uint32_t position, slot;
};

/* What a scanning warp holds back until it has several. */
struct __align__(8) sac_lists_survivor
{
    float distance; /* without its base */
    uint32_t where; /* bits 0-15: row of the work item; 16 up: pair of the item */
};

/* A part of the batch on its way: a's pointers and query_count are those of the part. */
struct sac_lists_scan {
    struct sac_pq_scan_args a;
    struct sac_lists_shape shape;
    uint16_t *codebook; /* [chunks][sac_lists_chunk_bytes]: see list_scan_product.cuh */
    float *widest;      /* [m]: the largest norm of its code words */
    uint16_t *queries;  /* [query_count][chunks * 32] */
    float *margins;     /* [query_count] */
    struct sac_lists_pairs sampled, all;
    unsigned char *zeroed; /* their counts and counters, to be cleared before each part: zeroed_bytes */
    size_t zeroed_bytes;
    float *sample;                          /* [query_count][SAC_LISTS_SAMPLE][64] */
    struct sac_lists_bound *bounds;         /* [query_count] */
    uint32_t *histograms;                   /* [query_count][SAC_LISTS_BINS] */
    struct sac_lists_candidate *candidates; /* [query_count][capacity] */
};

/* The steps. Each puts its kernels on the stream. */
cudaError_t sac_lists_convert_codebook(const struct sac_lists_scan *s, cudaStream_t stream);
cudaError_t sac_lists_convert_queries(const struct sac_lists_scan *s, cudaStream_t stream);
cudaError_t sac_lists_sort_pairs(const struct sac_lists_scan *s, cudaStream_t stream);
cudaError_t sac_lists_scan_items(const struct sac_lists_scan *s, bool sampling, uint32_t multiprocessors,
                                 cudaStream_t stream);
cudaError_t sac_lists_bound_queries(const struct sac_lists_scan *s, cudaStream_t stream);
cudaError_t sac_lists_finish(const struct sac_lists_scan *s, cudaStream_t stream);

/* Groups of lists; the last may be empty. */
static inline __host__ __device__ uint32_t sac_lists_groups(uint32_t nlist)
{
    return nlist / SAC_LISTS_GROUP + 1;
}

/* Pages of a list, at most so many; and the pieces of at most item_pages they are cut into. */
static inline __device__ uint32_t sac_lists_pages(uint32_t row_count, uint32_t most)
{
    return min(sac_page_count(row_count), most);
}

static inline __device__ uint32_t sac_lists_pieces(uint32_t pages, uint32_t item_pages)
{
    return (pages + item_pages - 1) / item_pages;
}

/* ---- samples ---- */

/* What a lane's probe gives to its query's sample: pages of the list's head, none where the lane has
 * no probe or the sample is full without it; and the page of the sample where they go. */
struct sac_lists_share {
    uint32_t pages, at;
};

/* Warp: the shares of 32 probes, p = 0, 32, ... + lane in turn; *filled is the same in all lanes, and 0 at
 * first. Many lists give a little where lists are short, one block of warps' rows at most where they are
 * long. */
static inline __device__ struct sac_lists_share sac_lists_share_of(const struct sac_lists_scan *s, size_t q,
                                                                   uint32_t p, uint32_t *filled)
{
    struct sac_lists_share share = {0, 0};
    uint32_t total;

    if (*filled >= SAC_LISTS_SAMPLE)
        return share;
    if (p < s->a.probe_counts[q])
        share.pages = sac_lists_pages(s->a.pool.lists[s->a.probes[q * s->a.probe_stride + p].list].row_count,
                                      s->sampled.pages);
    share.at = *filled + sac_warp_prefix(share.pages, &total);
    share.pages = min(share.pages, SAC_LISTS_SAMPLE - min(share.at, (uint32_t)SAC_LISTS_SAMPLE));
    *filled += total;
    return share;
}

/* ---- histograms and limits ---- */

static __device__ __forceinline__ uint32_t sac_lists_limit_of(float distance)
{
    return (uint32_t)(sac_key(distance, 0) >> 32);
}

static __device__ __forceinline__ float sac_lists_limit_distance(uint32_t limit)
{
    return sac_key_distance((uint64_t)limit << 32);
}

static __device__ __forceinline__ uint32_t sac_lists_bin(const struct sac_lists_bound *bound, float distance)
{
    float bin = (distance - bound->low) * bound->rate;

    return (uint32_t)fminf(fmaxf(bin, 0.0f), SAC_LISTS_BINS - 1);
}

/* The limit that follows where the bins up to `bin` hold `depth` rows; bin may be SAC_LISTS_BINS: they never
 * do. A sixteenth of a bin allows for the rounding of sac_lists_bin(). */
static __device__ __forceinline__ uint32_t sac_lists_edge(const struct sac_lists_bound *bound, uint32_t bin)
{
    if (bin + 1 >= SAC_LISTS_BINS)
        return sac_lists_limit_of(__int_as_float(0x7f800000));
    return sac_lists_limit_of(bound->low + ((float)bin + 1.0625f) * bound->width + bound->margin);
}

/* Warp: the first bin up to which the histogram holds at least depth, SAC_LISTS_BINS where none is. Others
 * may be counting meanwhile: what they add late is only missed. */
static inline __device__ uint32_t sac_lists_crossing(const volatile uint32_t *histogram, uint32_t depth)
{
    enum { PER_LANE = SAC_LISTS_BINS / 32 };
    uint32_t lane = threadIdx.x % 32, bins[PER_LANE], sum = 0, before, bin = SAC_LISTS_BINS;

#pragma unroll
    for (uint32_t b = 0; b < PER_LANE; b++)
        sum += bins[b] = histogram[lane * PER_LANE + b];
    before = sum;
    for (uint32_t away = 1; away < 32; away *= 2) {
        uint32_t left = __shfl_up_sync(SAC_WARP_ALL, before, away);

        before += lane >= away ? left : 0;
    }
    before -= sum;
#pragma unroll
    for (uint32_t b = 0; b < PER_LANE; b++) {
        if (before < depth && depth <= before + bins[b])
            bin = lane * PER_LANE + b;
        before += bins[b];
    }
    return __reduce_min_sync(SAC_WARP_ALL, bin);
}

static __device__ __forceinline__ bool sac_lists_passes(const uint64_t *filter, uint32_t slot)
{
    return filter == NULL || (filter[slot / 64] >> slot % 64 & 1) != 0;
}

static __device__ __forceinline__ const uint64_t *sac_lists_filter(const struct sac_lists_scan *s,
                                                                   uint32_t query)
{
    return s->a.filters != NULL ? s->a.filters[query] : NULL;
}

#endif
