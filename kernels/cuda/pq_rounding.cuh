/* pq_rounding.cuh -- a query's table in shared memory: rounded to whole units, and looked up there.
 *
 * Entry c of sub-quantizer j is low[j] + unit * level, with low[j] the least entry of its row and the unit
 * that of the row with the largest range; so a sum of entries is offset + unit * (sum of levels), and levels
 * are added as integers, which is exact: 512 * 65535 fits 32 bits. Levels have 8 bits where a row has 128 or
 * 256 entries and 16 where it has up to 64: rows of 128 bytes or fewer have one word a bank, so any 32
 * lookups in one row are served at once. 256 bytes have two words a bank: two turns for nearly any 32
 * lookups. (16 bits there would take 2.8 turns: PERFORMANCE.md, 6.1.) All lanes of a warp look in the same
 * row at a time; lanes in different rows would meet in banks.
 *
 * What is kept in the end gets the rest, sum over j of entry - (low + unit * level), from the f32 table: see
 * sac_rounding_rest(). */
#ifndef SACCADE_CUDA_PQ_ROUNDING_CUH
#define SACCADE_CUDA_PQ_ROUNDING_CUH

#include "kernels/cuda/select.cuh"
#include "kernels/cuda/warp.cuh"

template <bool WIDE> struct sac_level {
    typedef uint8_t type;
};
template <> struct sac_level<true> {
    typedef uint16_t type;
};

static inline __host__ __device__ constexpr bool sac_levels_wide(uint32_t nbits)
{
    return nbits <= 6;
}

/* Bytes of a table: with 4 bits, rows come in pairs. */
static inline __host__ __device__ constexpr size_t sac_levels_bytes(uint32_t m, uint32_t nbits)
{
    return (size_t)(nbits == 4 ? m + m % 2 : m) << (nbits + (sac_levels_wide(nbits) ? 1 : 0));
}

struct sac_rounding {
    uint32_t range; /* the bits of a float >= 0, which order like it */
    float offset;   /* the sum of low[] */
};

static __device__ __forceinline__ float sac_rounding_unit(float range, uint32_t nbits)
{
    return range / (sac_levels_wide(nbits) ? 65535.0f : 255.0f);
}

/* The level of an entry: every user of a table gets the same. */
static __device__ __forceinline__ uint32_t sac_rounding_level(float entry, float low, float inverse,
                                                              uint32_t nbits)
{
    uint32_t level = __float2uint_rn((entry - low) * inverse), most = sac_levels_wide(nbits) ? 65535 : 255;

    return level < most ? level : most;
}

static __device__ __forceinline__ float sac_rounding_inverse(float unit)
{
    return unit > 0.0f ? 1.0f / unit : 0.0f;
}

/* Block: low[] and rounding->range, a warp a row. rounding->range is 0, and a barrier has passed since. A
 * barrier must follow before either is read. */
template <uint32_t NBITS>
static inline __device__ void sac_rounding_measure(const float *table, uint32_t m, float *low,
                                                   struct sac_rounding *rounding)
{
    const uint32_t entries = 1u << NBITS, lane = sac_lane();
    float widest = 0.0f;

#pragma unroll 2
    for (uint32_t j = sac_warp(); j < m; j += blockDim.x / 32) {
        uint32_t least = UINT32_MAX, most = 0;

#pragma unroll
        for (uint32_t c = 0; c < entries; c += 32) {
            uint32_t at = entries < 32 ? lane % entries : c + lane;
            uint32_t order = (uint32_t)(sac_key(__ldg(table + (size_t)j * entries + at), 0) >> 32);

            least = order < least ? order : least;
            most = order > most ? order : most;
        }
        least = __reduce_min_sync(SAC_WARP_ALL, least);
        most = __reduce_max_sync(SAC_WARP_ALL, most);
        widest =
            fmaxf(widest, sac_key_distance((uint64_t)most << 32) - sac_key_distance((uint64_t)least << 32));
        if (lane == 0)
            low[j] = sac_key_distance((uint64_t)least << 32);
    }
    if (lane == 0)
        atomicMax(&rounding->range, __float_as_uint(widest));
}

/* Block: the levels, four at a time, and rounding->offset. A barrier must follow. */
template <uint32_t NBITS>
static inline __device__ void sac_rounding_fill(const float *table, uint32_t m, const float *low,
                                                struct sac_rounding *rounding,
                                                typename sac_level<sac_levels_wide(NBITS)>::type *levels)
{
    const float inverse = sac_rounding_inverse(sac_rounding_unit(__uint_as_float(rounding->range), NBITS));
    const float4 *fours = (const float4 *)table;

#pragma unroll 2
    for (uint32_t i = threadIdx.x; i < m << (NBITS - 2); i += blockDim.x) {
        float4 t = __ldg(fours + i);
        float l = low[i >> (NBITS - 2)];
        uint32_t a = sac_rounding_level(t.x, l, inverse, NBITS),
                 b = sac_rounding_level(t.y, l, inverse, NBITS);
        uint32_t c = sac_rounding_level(t.z, l, inverse, NBITS),
                 d = sac_rounding_level(t.w, l, inverse, NBITS);

        if constexpr (sac_levels_wide(NBITS))
            ((uint2 *)(void *)levels)[i] = make_uint2(a | b << 16, c | d << 16);
        else
            ((uint32_t *)(void *)levels)[i] = a | b << 8 | c << 16 | d << 24;
    }
    if (NBITS == 4 && m % 2 == 1 && threadIdx.x < 16) /* the partner of the last row adds nothing */
        levels[m * 16 + threadIdx.x] = 0;
    if (sac_warp() == 0) {
        float sum = 0.0f;

        for (uint32_t j = sac_lane(); j < m; j += 32)
            sum += low[j];
        sum = sac_warp_sum(sum);
        if (sac_lane() == 0)
            rounding->offset = sum;
    }
}

/* Adds to the sums of 4 entries their levels in a row: byte r of `codes` is entry r's code. The row is the
 * one `within` bytes behind `group`, a multiple of 256: so a byte of codes only has to be put in the place of
 * the group's lowest to be an offset, which is one instruction. */
template <uint32_t NBITS, class L>
static __device__ __forceinline__ void sac_levels_add(const L *levels, uint32_t group, uint32_t within,
                                                      uint32_t codes, uint32_t *sums)
{
    const uint32_t mask = ((1u << NBITS) - 1) * 0x01010101u; /* what lies past a list's end may be anything */

    codes = sizeof(L) == 2 ? codes << 1 & mask << 1 : codes & mask; /* they count bytes */
#pragma unroll
    for (uint32_t r = 0; r < 4; r++) {
        uint32_t offset = __byte_perm(codes, group, 0x7650 | r);

        sums[r] += *(const L *)(const void *)((const unsigned char *)levels + offset + within);
    }
}

/* What rounding has left out of one entry of the table. */
static __device__ __forceinline__ float sac_rounding_rest(float entry, float low, float unit, uint32_t nbits)
{
    uint32_t level = sac_rounding_level(entry, low, sac_rounding_inverse(unit), nbits);

    return fmaf(-unit, (float)level, entry - low);
}

#endif
