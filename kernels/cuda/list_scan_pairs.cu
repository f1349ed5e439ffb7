/* list_scan_pairs.cu -- (query, probe) pairs sorted by list, and the work items that follow.
 *
 * A counting sort by list: count, add up, place. The sample's pairs - those of each query's first probes -
 * are sorted in the same kernels.
 *
 * Floors on an H200: 10,000 queries of 64 probes are 640,000 pairs: 8 bytes of each read twice and 8 written,
 * 15 MB: 3.6 us at 4.3 TB/s; 1.3 M atomics, about one a cycle in each of some 90 slices of L2: 8 us, more
 * where many queries want one list (one a cycle then). 50,000 lists: 32 bytes each, below 1 us.
 *
 * nvcc 13.0, sm_90a: 32 to 40 registers, 128 bytes of shared memory, no spills: a multiprocessor is full, or
 * 1536 threads of it. */
#include "kernels/cuda/list_scan.cuh"

enum { THREADS = 256, LISTS_EACH = SAC_LISTS_GROUP / THREADS, WARPS = THREADS / 32 };

/* Warp: a query's probes. */
static __global__ void __launch_bounds__(THREADS) count_pairs(const __grid_constant__ struct sac_lists_scan s)
{
    size_t q = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    uint32_t filled = 0;

    if (q >= s.a.query_count)
        return;
    for (uint32_t first = 0; first < s.a.probe_counts[q]; first += 32) {
        uint32_t p = first + sac_lane();
        struct sac_lists_share share = sac_lists_share_of(&s, q, p, &filled);

        if (p < s.a.probe_counts[q])
            atomicAdd(&s.all.counts[s.a.probes[q * s.a.probe_stride + p].list], 1u);
        if (share.pages > 0)
            atomicAdd(&s.sampled.counts[s.a.probes[q * s.a.probe_stride + p].list], 1u);
    }
}

/* What the lists before one hold. */
struct sums {
    uint32_t pairs;
    unsigned long long items;
};

/* Block: what the threads before this one have, of what each has; *total of all. */
static __device__ struct sums sums_before(struct sums mine, struct sums *total)
{
    __shared__ struct sums warps[WARPS];
    struct sums sum = mine;
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;

    for (uint32_t away = 1; away < 32; away *= 2) {
        uint32_t pairs = __shfl_up_sync(SAC_WARP_ALL, sum.pairs, away);
        unsigned long long items = __shfl_up_sync(SAC_WARP_ALL, sum.items, away);

        sum.pairs += lane >= away ? pairs : 0;
        sum.items += lane >= away ? items : 0;
    }
    __syncthreads(); /* the last call's readers are done */
    if (lane == 31)
        warps[warp] = sum;
    __syncthreads();
    sum.pairs -= mine.pairs;
    sum.items -= mine.items;
    total->pairs = 0;
    total->items = 0;
    for (uint32_t w = 0; w < WARPS; w++) {
        if (w == warp) {
            sum.pairs += total->pairs;
            sum.items += total->items;
        }
        total->pairs += warps[w].pairs;
        total->items += warps[w].items;
    }
    return sum;
}

static __device__ unsigned long long
list_items(const struct sac_lists_scan *s, const struct sac_lists_pairs *p, uint32_t list, uint32_t pairs)
{
    uint32_t pages = sac_lists_pages(s->a.pool.lists[list].row_count, p->pages);

    return (unsigned long long)sac_lists_pieces(pages, s->shape.item_pages) *
           ((pairs + SAC_LISTS_QUERIES - 1) / SAC_LISTS_QUERIES);
}

/* Block: a group of lists, of the sample or of all pairs. */
static __global__ void __launch_bounds__(THREADS) sum_lists(const __grid_constant__ struct sac_lists_scan s)
{
    const struct sac_lists_pairs *p = blockIdx.y == 0 ? &s.sampled : &s.all;
    uint32_t first = blockIdx.x * SAC_LISTS_GROUP + threadIdx.x * LISTS_EACH, counts[LISTS_EACH];
    unsigned long long items[LISTS_EACH];
    struct sums mine = {0, 0}, before, total;

#pragma unroll
    for (uint32_t i = 0; i < LISTS_EACH; i++) {
        counts[i] = first + i < s.a.pool.nlist ? p->counts[first + i] : 0;
        items[i] = counts[i] > 0 ? list_items(&s, p, first + i, counts[i]) : 0;
        mine.pairs += counts[i];
        mine.items += items[i];
    }
    before = sums_before(mine, &total);
#pragma unroll
    for (uint32_t i = 0; i < LISTS_EACH; i++) {
        if (first + i < s.a.pool.nlist) {
            p->cursors[first + i] = before.pairs;
            p->items[first + i] = before.items;
        }
        before.pairs += counts[i];
        before.items += items[i];
    }
    if (threadIdx.x == 0) {
        p->group_pairs[blockIdx.x] = total.pairs;
        p->group_items[blockIdx.x] = total.items;
    }
}

/* Block: all groups, of the sample or of all pairs. */
static __global__ void __launch_bounds__(THREADS) sum_groups(const __grid_constant__ struct sac_lists_scan s)
{
    const struct sac_lists_pairs *p = blockIdx.x == 0 ? &s.sampled : &s.all;
    uint32_t groups = sac_lists_groups(s.a.pool.nlist);
    struct sums carried = {0, 0};

    for (uint32_t first = 0; first < groups; first += THREADS) {
        uint32_t group = first + threadIdx.x;
        struct sums mine = {0, 0}, before, total;

        if (group < groups) {
            mine.pairs = p->group_pairs[group];
            mine.items = p->group_items[group];
        }
        before = sums_before(mine, &total);
        if (group < groups) {
            p->group_pairs[group] = carried.pairs + before.pairs;
            p->group_items[group] = carried.items + before.items;
        }
        carried.pairs += total.pairs;
        carried.items += total.items;
    }
    if (threadIdx.x == 0) {
        p->group_pairs[groups] = carried.pairs;
        p->group_items[groups] = carried.items;
    }
}

static __device__ void pair_place(const struct sac_lists_pairs *p, uint32_t list, uint32_t place, float base)
{
    uint32_t at = p->group_pairs[list / SAC_LISTS_GROUP] + atomicAdd(&p->cursors[list], 1u);

    p->pairs[at].place = place;
    p->pairs[at].base = base;
}

/* Warp: a query's probes. Their order within a list is that of arrival, and of no consequence. */
static __global__ void __launch_bounds__(THREADS) place_pairs(const __grid_constant__ struct sac_lists_scan s)
{
    size_t q = (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
    uint32_t filled = 0;

    if (q >= s.a.query_count)
        return;
    for (uint32_t first = 0; first < s.a.probe_counts[q]; first += 32) {
        uint32_t p = first + sac_lane();
        struct sac_lists_share share = sac_lists_share_of(&s, q, p, &filled);
        sac_probe probe;

        if (p >= s.a.probe_counts[q])
            break;
        probe = s.a.probes[q * s.a.probe_stride + p];
        pair_place(&s.all, probe.list, (uint32_t)q, probe.base);
        if (share.pages > 0)
            pair_place(&s.sampled, probe.list, (uint32_t)q * 512 + share.at * 32 + share.pages, probe.base);
    }
}

cudaError_t sac_lists_sort_pairs(const struct sac_lists_scan *s, cudaStream_t stream)
{
    uint32_t query_blocks = (uint32_t)((s->a.query_count + WARPS - 1) / WARPS);
    dim3 groups(sac_lists_groups(s->a.pool.nlist), 2);
    cudaError_t error = SAC_LAUNCH((count_pairs), query_blocks, THREADS, 0, stream, *s);

    if (error == cudaSuccess)
        error = SAC_LAUNCH((sum_lists), groups, THREADS, 0, stream, *s);
    if (error == cudaSuccess)
        error = SAC_LAUNCH((sum_groups), 2, THREADS, 0, stream, *s);
    if (error == cudaSuccess)
        error = SAC_LAUNCH((place_pairs), query_blocks, THREADS, 0, stream, *s);
    return error;
}
