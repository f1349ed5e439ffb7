/* Appends what is below the threshold: one compare and, rarely, one compress for 16 distances. Twin: the loop
 * in ref/nearest.c. Floor: reads 4 bytes an entry from L1. */
#include "kernels/cpu/keys.h"
#include "kernels/cpu/reservoir.h"
#include "kernels/cpu/reservoir_simd.h"

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

const struct sac_sieve sac_sieve_avx512 = {filter_avx512, bound, drop_avx512};
