/* shortlist.cuh -- for each query of a block, the keys that may be among its nearest (keys: select.cuh).
 *
 * select.cuh's reservoir serves one query with a whole block. Here a block scans for up to 128 queries at
 * once, so each has a list of its own in global memory - written rarely, and then only to the cache - and
 * shared memory holds what every candidate is compared with: the limit, and the count. When a list is nearly
 * full, one warp shortens it:
 *
 *   sac_shortlist_push(list, ...)     a thread adds a key
 *   sac_shortlist_shrink(...)         a warp drops keys until keep..roomy are left, and lowers the limit
 *
 * A limit that is NaN lets everything pass. Candidates of a list must come in ascending order of their index
 * from one shrink to the next: then one that equals the limit cannot get in any more, and `<` is enough. */
#ifndef SACCADE_CUDA_SHORTLIST_CUH
#define SACCADE_CUDA_SHORTLIST_CUH

#include "kernels/cuda/select.cuh"
#include "kernels/cuda/warp.cuh"

/* Whether a bitmap has the row; NULL: it has all. */
static __device__ __forceinline__ bool sac_shortlist_allows(const uint64_t *bitmap, size_t row)
{
    return bitmap == NULL || (bitmap[row / 64] >> row % 64 & 1) != 0;
}

/* One thread. `room`: keys that a scan step may add; returns whether the list must be shortened first. */
static __device__ __forceinline__ bool sac_shortlist_push(uint64_t *list, uint32_t *count, uint32_t capacity,
                                                          uint32_t room, float distance, uint32_t index)
{
    uint32_t at = atomicAdd(count, 1u);

    list[at] = sac_key(distance, index);
    return at + 1 + room > capacity;
}

/* Warp: how many keys are not above `last`. */
static __device__ __forceinline__ uint32_t sac_shortlist_count(const uint64_t *list, uint32_t n,
                                                               uint64_t last)
{
    uint32_t count = 0;

    for (uint32_t i = sac_lane(); i < n; i += 32)
        count += list[i] <= last ? 1 : 0;
    return sac_warp_sum(count);
}

/* Warp: the keys up to the one returned are keep..most of the list's n > most. Halving the range of keys
 * takes few steps, as any place in keep..most will do. */
static inline __device__ uint64_t sac_shortlist_cut(const uint64_t *list, uint32_t n, uint32_t keep,
                                                    uint32_t most)
{
    uint64_t low = SAC_KEY_NONE, high = SAC_KEY_NONE; /* high as its complement, so that both are minima */

    for (uint32_t i = sac_lane(); i < n; i += 32) {
        uint64_t key = list[i];

        low = key < low ? key : low;
        high = ~key < high ? ~key : high;
    }
    low = sac_warp_min(low);
    high = ~sac_warp_min(high);
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        uint32_t count = sac_shortlist_count(list, n, middle);

        if (count < keep) {
            low = middle + 1;
        } else {
            high = middle;
            if (count <= most)
                break;
        }
    }
    return high;
}

/* Warp, between barriers: leaves a list of more than `most` keys with keep..most of them. */
static inline __device__ void sac_shortlist_shrink(uint64_t *list, uint32_t *count, float *limit,
                                                   uint32_t keep, uint32_t most)
{
    uint32_t n = *count, kept = 0;
    uint64_t last;

    if (n <= most)
        return;
    last = sac_shortlist_cut(list, n, keep, most);
    for (uint32_t base = 0; base < n; base += 32) {
        uint32_t i = base + sac_lane(), staying;
        uint64_t key = i < n ? list[i] : SAC_KEY_NONE;
        bool stays = i < n && key <= last;
        uint32_t place = kept + sac_warp_rank(stays, &staying);

        if (stays)
            list[place] = key;
        kept += staying;
        __syncwarp();
    }
    if (sac_lane() == 0) {
        *count = kept;
        *limit = sac_key_distance(last);
    }
}

#endif
