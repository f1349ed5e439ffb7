/* select.cuh -- keeping the k nearest: candidates as 64-bit keys, and a block's reservoir for them.
 *
 * A key holds a distance in an order-preserving form in its high half and an index in its low half, so that
 * keys order as ops.h wants: by distance, then by index, NaN after everything. SAC_KEY_NONE, the largest,
 * means "nothing".
 *
 * A scanning kernel compares candidates with a threshold and pushes the few that pass into a reservoir; only
 * when that is full does the block look for a better threshold:
 *
 *     SAC_SHARED_DYNAMIC(uint64_t, keys);                     sac_reservoir_capacity(k, MORE) of them
 *     __shared__ struct sac_reservoir_state state;
 *     struct sac_reservoir r;
 *
 *     sac_reservoir_init(&r, &state, keys, capacity, k);     block
 *     for (each tile) {
 *         for (each of a thread's candidates of this tile)
 *             sac_reservoir_push(&r, there_is_one, distance, index);    warp
 *         sac_reservoir_room(&r, MORE);                      block; MORE: what a whole tile may push
 *     }
 *     sac_reservoir_sort(&r);                                block
 *     sac_reservoir_write(&r, distances, indices, k);        block, no barrier
 *
 *   - "block": every thread of the block calls it, in uniform control flow. "warp": all 32 lanes do. Blocks
 *     are one-dimensional, of whole warps.
 *   - init leaves room for capacity keys; room() leaves room for MORE, the same or not from call to call.
 *   - struct sac_reservoir is one copy for each thread, in registers. threshold and limit are the same in all
 *     threads until somebody lowers them; they change in room() and sort() only.
 *   - Keys may lie in shared memory or, where k is so large that it does not fit beside the kernel's own
 *     needs, in the block's own piece of global memory: the same code, slower. State is always shared.
 *   - Results are exact and do not depend on the order in which candidates arrive. Equal keys are equal.
 *   - Several blocks for one query: each ends with sac_reservoir_settle() and sac_reservoir_write_keys() into
 *     its part of a row of keys, and a second kernel takes the best of the row, as in select.cu. A k-th key
 *     that one block has found bounds all of them: sac_reservoir_lower().
 *
 * Cost on a chip, by reasoning: a push that nothing passes is a comparison and a vote; one that something
 * passes adds one atomic and one 8-byte store to shared memory. room() is one barrier as long as there is
 * room. Making room is a radix selection over n keys: from the highest bit in which they differ, 8 bits a
 * pass, each pass n reads and counts and two barriers, until few enough are left that fit well - one or two
 * passes as a rule, for a sort would be log2(n)^2 / 2 of them. Then one pass to close the gaps. Sorting is
 * done once, of what is kept: bitonic, since 2^j keys with every thread busy and no branches beat anything
 * cleverer at such sizes; exchanges over less than 32 places are shuffles, so that 1024 keys take 22 barriers
 * instead of 56.
 *
 * Twin: cpu/reservoir.h and cpu/keys.h do the same for a core. */
#ifndef SACCADE_CUDA_SELECT_CUH
#define SACCADE_CUDA_SELECT_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/warp.cuh"

/* ---- keys ------------------------------------------------------------------------------------------- */

#define SAC_KEY_NONE UINT64_MAX

static __device__ __forceinline__ uint64_t sac_key(float distance, uint32_t index)
{
    uint32_t bits = __float_as_uint(distance + 0.0f); /* -0 becomes +0: they are equal */

    bits ^= bits >> 31 != 0 ? UINT32_MAX : 0x80000000u;
    if (distance != distance)
        bits = UINT32_MAX;
    return (uint64_t)bits << 32 | index;
}

static __device__ __forceinline__ float sac_key_distance(uint64_t key)
{
    uint32_t bits = (uint32_t)(key >> 32);

    return __uint_as_float(bits >> 31 != 0 ? bits ^ 0x80000000u : ~bits);
}

static __device__ __forceinline__ uint32_t sac_key_index(uint64_t key)
{
    return (uint32_t)key;
}

/* A step of a bitonic network across a warp: each lane keeps the smaller or the larger of its key and that of
 * the lane `stride` away. */
static __device__ __forceinline__ uint64_t sac_key_exchange(uint64_t key, uint32_t stride, bool ascending)
{
    uint64_t other = __shfl_xor_sync(SAC_WARP_ALL, key, (int)stride);
    bool lower = (threadIdx.x & stride) == 0;

    return (lower == ascending) == (key < other) ? key : other;
}

/* Sorts n keys, n a power of two and at least 32, across the block. A barrier ends it; one must precede. */
static inline __device__ void sac_keys_sort(uint64_t *keys, uint32_t n)
{
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
        uint64_t key = keys[i];

        for (uint32_t size = 2; size <= 32; size *= 2)
            for (uint32_t stride = size / 2; stride > 0; stride /= 2)
                key = sac_key_exchange(key, stride, (i & size) == 0);
        keys[i] = key;
    }
    __syncthreads();
    for (uint32_t size = 64; size <= n; size *= 2) {
        for (uint32_t stride = size / 2; stride >= 32; stride /= 2) {
            for (uint32_t t = threadIdx.x; t < n / 2; t += blockDim.x) {
                uint32_t i = 2 * t - (t & (stride - 1)); /* t with a zero put in at the bit of stride */
                uint64_t a = keys[i], b = keys[i + stride];

                if ((a > b) == ((i & size) == 0)) {
                    keys[i] = b;
                    keys[i + stride] = a;
                }
            }
            __syncthreads();
        }
        for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
            uint64_t key = keys[i];

            for (uint32_t stride = 16; stride > 0; stride /= 2)
                key = sac_key_exchange(key, stride, (i & size) == 0);
            keys[i] = key;
        }
        __syncthreads();
    }
}

/* ---- reservoir --------------------------------------------------------------------------------------- */

struct sac_reservoir_state {
    uint32_t histogram[256];       /* zero between uses, as are differ and ties */
    uint32_t differ[2];            /* low and high half: bits in which keys differ */
    uint32_t ties;                 /* keys equal to the cut that have been let through */
    uint32_t count;                /* of keys in the reservoir */
    uint32_t digit, below, inside; /* where a pass found the k-th key: how many are before and in its bin */
};

struct sac_reservoir {
    struct sac_reservoir_state *state;
    uint64_t *keys;
    uint32_t
        *tags; /* one a key, which goes where it goes; or NULL. Set it after init(). sort() leaves them */
    uint32_t capacity, k;
    uint32_t filled;    /* places that this warp knows to be taken: the largest over the block is count */
    uint64_t threshold; /* only smaller keys can still be among the k smallest */
    float limit;        /* the threshold's distance; NaN: everything may pass */
};

/* Keys that a reservoir should hold, so that making room is rare: a multiple of 64. Less works, from
 * max(k + more, the power of two >= k, 64). */
static inline __host__ __device__ uint32_t sac_reservoir_capacity(uint32_t k, uint32_t more)
{
    return (2 * (k + more) + 63) / 64 * 64;
}

static __device__ __forceinline__ void sac_reservoir_lower(struct sac_reservoir *r, uint64_t threshold)
{
    if (threshold < r->threshold) {
        r->threshold = threshold;
        r->limit = sac_key_distance(threshold);
    }
}

/* Empties the reservoir. May be called again for the next query; starts and ends with a barrier. */
static inline __device__ void sac_reservoir_init(struct sac_reservoir *r, struct sac_reservoir_state *state,
                                                 uint64_t *keys, uint32_t capacity, uint32_t k)
{
    r->state = state;
    r->keys = keys;
    r->tags = NULL;
    r->capacity = capacity;
    r->k = k;
    r->filled = 0;
    r->threshold = SAC_KEY_NONE;
    r->limit = sac_key_distance(SAC_KEY_NONE);
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < 256; i += blockDim.x)
        state->histogram[i] = 0;
    if (threadIdx.x == 0)
        state->differ[0] = state->differ[1] = state->ties = state->count = 0;
    __syncthreads();
}

/* Warp: places for those lanes that want one, numbered from *count on, with one atomic. */
static __device__ __forceinline__ uint32_t sac_reservoir_place(uint32_t *count, uint32_t wanting)
{
    uint32_t base = 0;

    if (sac_lane() == 0)
        base = atomicAdd(count, (uint32_t)__popc(wanting));
    base = __shfl_sync(SAC_WARP_ALL, base, 0);
    return base + (uint32_t)__popc(wanting & ((1u << sac_lane()) - 1));
}

/* Warp: takes the lanes' keys that are below the threshold, with their tags where there are tags;
 * SAC_KEY_NONE never is. */
static __device__ __forceinline__ void sac_reservoir_push_tagged(struct sac_reservoir *r, uint64_t key,
                                                                 uint32_t tag)
{
    bool wanted = key < r->threshold;
    uint32_t wanting = __ballot_sync(SAC_WARP_ALL, wanted);
    uint32_t place;

    if (wanting == 0)
        return;
    place = sac_reservoir_place(&r->state->count, wanting);
    if (wanted)
        r->keys[place] = key;
    if (wanted && r->tags != NULL)
        r->tags[place] = tag;
    /* what lane 0 got, past all of the warp's: some warp's is the block's count */
    r->filled = __shfl_sync(SAC_WARP_ALL, place, 0) + (uint32_t)__popc(wanting);
}

static __device__ __forceinline__ void sac_reservoir_push_key(struct sac_reservoir *r, uint64_t key)
{
    sac_reservoir_push_tagged(r, key, 0);
}

/* Warp: the same for candidates, of those lanes that have one. */
static __device__ __forceinline__ void sac_reservoir_push(struct sac_reservoir *r, bool wanted,
                                                          float distance, uint32_t index)
{
    wanted = wanted && !(distance > r->limit);
    if (__any_sync(SAC_WARP_ALL, wanted))
        sac_reservoir_push_key(r, wanted ? sac_key(distance, index) : SAC_KEY_NONE);
}

/* Finds the `last` key to stay, so that at least k stay and at most `most` unless that needs the full 64
 * bits: of the keys equal to it `ties` stay. Returns how many do. n > k. */
static inline __device__ uint32_t sac_reservoir_cut(struct sac_reservoir *r, uint32_t n, uint32_t most,
                                                    uint64_t *last, uint32_t *ties)
{
    struct sac_reservoir_state *state = r->state;
    uint64_t value = r->keys[0], differ = 0, mask = 0;
    uint32_t needed = r->k, shift;

    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
        differ |= r->keys[i] ^ value;
    for (int away = 16; away > 0; away /= 2)
        differ |= __shfl_xor_sync(SAC_WARP_ALL, differ, away);
    if (sac_lane() == 0) {
        atomicOr(&state->differ[0], (uint32_t)differ);
        atomicOr(&state->differ[1], (uint32_t)(differ >> 32));
    }
    __syncthreads();
    differ = (uint64_t)state->differ[1] << 32 | state->differ[0];
    shift = differ >> 8 != 0 ? 56 - (uint32_t)__clzll((long long)differ) : 0;
    for (;; shift = shift > 8 ? shift - 8 : 0) {
        for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
            if (((r->keys[i] ^ value) & mask) == 0)
                atomicAdd(&state->histogram[r->keys[i] >> shift & 255], 1u);
        __syncthreads();
        if (threadIdx.x < 32) {
            uint32_t bins[8], sum = 0, before, all;

            for (uint32_t b = 0; b < 8; b++) {
                sum += bins[b] = state->histogram[sac_lane() * 8 + b];
                state->histogram[sac_lane() * 8 + b] = 0;
            }
            before = sac_warp_prefix(sum, &all);
            for (uint32_t b = 0; b < 8; before += bins[b++]) {
                if (before < needed && needed <= before + bins[b]) {
                    state->digit = sac_lane() * 8 + b;
                    state->below = before;
                    state->inside = bins[b];
                }
            }
        }
        __syncthreads();
        needed -= state->below;
        mask |= (uint64_t)255 << shift;
        value = (value & ~((uint64_t)255 << shift)) | (uint64_t)state->digit << shift;
        if (shift == 0 || r->k - needed + state->inside <= most)
            break;
    }
    *last = value | (((uint64_t)1 << shift) - 1);
    *ties = r->k - needed + state->inside <= most ? state->inside : needed;
    return r->k - needed + *ties;
}

/* Block, after a barrier: drops keys that are not among the k smallest, until at most `most` >= k are left.
 * Closes the gaps a block's worth at a time: what a round writes, it and those before it have read. */
static inline __device__ void sac_reservoir_shrink(struct sac_reservoir *r, uint32_t most)
{
    struct sac_reservoir_state *state = r->state;
    uint32_t n = state->count, ties, kept;
    uint64_t last;

    if (n <= most)
        return;
    kept = sac_reservoir_cut(r, n, most, &last, &ties);
    if (threadIdx.x == 0)
        state->count = 0; /* all have read it, several barriers ago */
    for (uint32_t base = 0; base < n; base += blockDim.x) {
        uint32_t i = base + threadIdx.x;
        uint64_t key = i < n ? r->keys[i] : SAC_KEY_NONE;
        uint32_t tag = i < n && r->tags != NULL ? r->tags[i] : 0;
        bool stays = i < n && (key < last || (key == last && atomicAdd(&state->ties, 1u) < ties));
        uint32_t staying = __ballot_sync(SAC_WARP_ALL, stays), place;

        __syncthreads();
        place = sac_reservoir_place(&state->count, staying);
        if (stays)
            r->keys[place] = key;
        if (stays && r->tags != NULL)
            r->tags[place] = tag;
    }
    __syncthreads();
    if (threadIdx.x == 0)
        state->differ[0] = state->differ[1] = state->ties = 0; /* used again after a barrier */
    r->filled = kept;
    sac_reservoir_lower(r, last);
}

/* Block: sees to it that `more` keys can be pushed. k + more <= capacity. Whoever pushed last knows the
 * count, so one barrier tells all. */
static __device__ __forceinline__ void sac_reservoir_room(struct sac_reservoir *r, uint32_t more)
{
    if (__syncthreads_or(r->filled + more > r->capacity)) {
        uint32_t roomy = r->k + (r->capacity - r->k) / 4, enough = r->capacity - more;

        sac_reservoir_shrink(r, roomy < enough ? roomy : enough);
    }
}

/* Block: the k smallest to the front, in no order. Returns how many there are. */
static inline __device__ uint32_t sac_reservoir_settle(struct sac_reservoir *r)
{
    uint32_t count;

    __syncthreads();
    sac_reservoir_shrink(r, r->k);
    count = r->state->count;
    __syncthreads(); /* nobody pushes before all have read it */
    r->filled = count;
    return count;
}

/* Block: the k smallest, ascending; places up to the next power of two hold SAC_KEY_NONE. Returns how many
 * there are. */
static inline __device__ uint32_t sac_reservoir_sort(struct sac_reservoir *r)
{
    uint32_t count = sac_reservoir_settle(r), places = 32;

    while (places < count)
        places *= 2;
    for (uint32_t i = count + threadIdx.x; i < places; i += blockDim.x)
        r->keys[i] = SAC_KEY_NONE;
    __syncthreads();
    sac_keys_sort(r->keys, places);
    return count;
}

/* Block, after sort() or settle(): fills `places` places of an output row, the last ones as unused. */
static inline __device__ void sac_reservoir_write(const struct sac_reservoir *r, float *distances,
                                                  uint32_t *indices, uint32_t places)
{
    for (uint32_t i = threadIdx.x; i < places; i += blockDim.x) {
        bool used = i < r->filled;

        distances[i] = used ? sac_key_distance(r->keys[i]) : __int_as_float(0x7f800000);
        indices[i] = used ? sac_key_index(r->keys[i]) : UINT32_MAX;
    }
}

static inline __device__ void sac_reservoir_write_keys(const struct sac_reservoir *r, uint64_t *keys,
                                                       uint32_t places)
{
    for (uint32_t i = threadIdx.x; i < places; i += blockDim.x)
        keys[i] = i < r->filled ? r->keys[i] : SAC_KEY_NONE;
}

#endif
