/* Sorting a few keys without a branch: a key's place is the number of keys below it. Twin: sac_keys_sort().
 * Floor: n^2 / 8 comparisons, one a cycle; a misjudged branch, of which sorting n keys by comparisons has
 * about n log n / 4, costs 15. */
#include "kernels/cpu/keys.h"

#include <immintrin.h>
#include <string.h>

enum { FEW = 128 };

void sac_keys_sort_avx512(uint64_t *keys, size_t n, uint64_t *work)
{
    const __m512i one = _mm512_set1_epi64(1);

    if (n > FEW) {
        sac_keys_sort(keys, n);
        return;
    }
    for (size_t i = 0; i < n; i += 8) {
        __mmask8 mask = n - i >= 8 ? 0xff : (__mmask8)((1u << (n - i)) - 1);
        __m512i mine = _mm512_maskz_loadu_epi64(mask, keys + i), place = _mm512_setzero_si512();

        for (size_t j = 0; j < n; j++) {
            __mmask8 below = _mm512_cmplt_epu64_mask(_mm512_set1_epi64((long long)keys[j]), mine);

            place = _mm512_mask_add_epi64(place, below, place, one);
        }
        _mm512_mask_i64scatter_epi64(work, mask, place, mine, 8);
    }
    memcpy(keys, work, n * sizeof *keys);
}
