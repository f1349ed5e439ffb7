/* Appends what is below the threshold: one compare and a mask for 8 distances. Twin: the loop in
 * ref/nearest.c. Floor: reads 4 bytes an entry from L1. */
#include "kernels/cpu/keys.h"
#include "kernels/cpu/reservoir.h"
#include "kernels/cpu/reservoir_simd.h"

#include <immintrin.h>

static void filter_avx2(struct sac_reservoir *r, const float *distance, uint32_t n, uint32_t first_index,
                        const uint64_t *live)
{
    const __m256 threshold = _mm256_set1_ps(r->threshold);
    uint32_t count = r->count;

    for (uint32_t i = 0; i < n; i += 8) {
        uint32_t mask = 0xff;
        __m256 d;

        if (n - i >= 8) {
            d = _mm256_loadu_ps(distance + i);
        } else {
            float rest[8] = {0};

            mask = (1u << (n - i)) - 1;
            for (uint32_t j = 0; j < n - i; j++)
                rest[j] = distance[i + j];
            d = _mm256_loadu_ps(rest);
        }
        if (live != NULL)
            mask &= (uint32_t)(live[i / 64] >> i % 64);
        mask &= (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(d, threshold, _CMP_NGE_UQ));
        for (; mask != 0; mask &= mask - 1) {
            uint32_t lane = (uint32_t)__builtin_ctz(mask);

            r->distance[count] = distance[i + lane];
            r->index[count++] = first_index + i + lane;
        }
    }
    r->count = count;
}

static void drop_avx2(struct sac_reservoir *r)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < r->count; i++) { /* without a branch: which ones stay is noise */
        r->distance[kept] = r->distance[i];
        r->index[kept] = r->index[i];
        if (r->tag != NULL)
            r->tag[kept] = r->tag[i];
        kept += !(r->distance[i] > r->threshold);
    }
    r->count = kept;
}

const struct sac_sieve sac_sieve_avx2 = {filter_avx2, bound, drop_avx2};
