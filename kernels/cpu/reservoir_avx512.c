/* Appends what is below the threshold: one compare and, rarely, one compress for 16 distances. Twin: the loop
 * in ref/nearest.c. Floor: reads 4 bytes an entry from L1. */
#include "kernels/cpu/keys.h"
#include "kernels/cpu/reservoir.h"

#include <immintrin.h>

static void filter_avx512(struct sac_reservoir *r, const float *distance, uint32_t n, uint32_t first_index,
                          const uint64_t *live)
{
    const __m512 threshold = _mm512_set1_ps(r->threshold);
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    uint32_t count = r->count;

    for (uint32_t i = 0; i < n; i += 16) {
        __mmask16 mask = n - i >= 16 ? 0xffff : (__mmask16)((1u << (n - i)) - 1);
        __m512 d = _mm512_maskz_loadu_ps(mask, distance + i);

        if (live != NULL)
            mask &= (__mmask16)(live[i / 64] >> i % 64);
        mask = _mm512_mask_cmp_ps_mask(mask, d, threshold, _CMP_NGE_UQ);
        if (mask == 0)
            continue;
        _mm512_mask_compressstoreu_ps(r->distance + count, mask, d);
        _mm512_mask_compressstoreu_epi32(r->index + count, mask,
                                         _mm512_add_epi32(lanes, _mm512_set1_epi32((int)(first_index + i))));
        count += (uint32_t)__builtin_popcount(mask);
    }
    r->count = count;
}

/* Distances as integers of the same order, NaN last: bisection then needs no care for infinities. */
static inline uint32_t ordered(float distance)
{
    uint32_t bits = sac_f32_bits(distance);
    uint32_t flip = (uint32_t)((int32_t)bits >> 31) | 0x80000000u;

    return distance == distance ? bits ^ flip : UINT32_MAX;
}

/* Bisection: a pass over the reservoir is 16 entries an instruction from L1, and about ten passes do. */
static float bound_avx512(struct sac_reservoir *r)
{
    uint32_t *restrict keys = (uint32_t *)(void *)r->keys;
    const float *restrict distance = r->distance;
    uint32_t n = r->count, low = UINT32_MAX, high = 0, enough = r->k + r->k / 8;

    for (uint32_t i = 0; i < n; i++) {
        keys[i] = ordered(distance[i]);
        low = keys[i] < low ? keys[i] : low;
        high = keys[i] > high ? keys[i] : high;
    }
    while (low < high) { /* at least k are <= high; fewer than k are < low */
        uint32_t middle = low + (high - low) / 2, count = 0;

        for (uint32_t i = 0; i < n; i++)
            count += keys[i] <= middle;
        if (count < r->k) {
            low = middle + 1;
            continue;
        }
        high = middle;
        if (count <= enough)
            break;
    }
    return sac_key_distance((uint64_t)high << 32);
}

static void drop_avx512(struct sac_reservoir *r)
{
    const __m512 threshold = _mm512_set1_ps(r->threshold);
    uint32_t kept = 0;

    for (uint32_t i = 0; i < r->count; i += 16) {
        __mmask16 mask = r->count - i >= 16 ? 0xffff : (__mmask16)((1u << (r->count - i)) - 1);
        __m512 d = _mm512_maskz_loadu_ps(mask, r->distance + i);
        __mmask16 stay = _mm512_mask_cmp_ps_mask(mask, d, threshold, _CMP_NGT_UQ);

        _mm512_mask_compressstoreu_ps(r->distance + kept, stay, d);
        _mm512_mask_compressstoreu_epi32(r->index + kept, stay, _mm512_maskz_loadu_epi32(mask, r->index + i));
        if (r->tag != NULL)
            _mm512_mask_compressstoreu_epi32(r->tag + kept, stay, _mm512_maskz_loadu_epi32(mask, r->tag + i));
        kept += (uint32_t)__builtin_popcount(stay);
    }
    r->count = kept;
}

const struct sac_sieve sac_sieve_avx512 = {filter_avx512, bound_avx512, drop_avx512};
