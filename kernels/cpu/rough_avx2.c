/* Bytes against bytes, both widened to 16 bits, 8 rows at a time. Twin: none, what is chosen is compared
 * (ref/probe.c). Floor, 128 components: 8 widenings on one port, 8 products and 8 sums on three: 8 cycles a
 * row, and 2 to add up its lanes. */
#include "kernels/backend.h"
#include "kernels/cpu/rough.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

typedef int16_t part;

#include "kernels/cpu/rough_simd.h"

SAC_SPECIALIZE __m256i add_products(__m256i sum, const unsigned char *bytes, __m256i q)
{
    __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)bytes));

    return _mm256_add_epi32(sum, _mm256_madd_epi16(wide, q));
}

/* Lane i of the result is the sum of sums[i]. */
static inline __m256i fold8(const __m256i sums[8])
{
    __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]));
    __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(sums[4], sums[5]), _mm256_hadd_epi32(sums[6], sums[7]));

    return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

static void distances(const struct sac_rough_query *query, const void *rows, uint32_t n, uint32_t dim,
                      const float *norms, float *out)
{
    size_t row_bytes = sac_row_bytes(SAC_I8, dim);
    float factor = norms != NULL ? -2.0f * query->scale : -query->scale;

    for (uint32_t i = 0; i < n; i += 8) {
        const unsigned char *each[8];
        uint32_t count = n - i < 8 ? n - i : 8;
        int32_t products[8];
        __m256i sums[8];

#pragma GCC unroll 8
        for (uint32_t r = 0; r < 8; r++) {
            each[r] = (const unsigned char *)rows + (i + (r < count ? r : 0)) * row_bytes;
            sums[r] = _mm256_setzero_si256();
        }
        for (uint32_t at = 0; at < dim; at += 16) {
            __m256i q = _mm256_load_si256((const __m256i *)query->parts + at / 16);

#pragma GCC unroll 8
            for (int r = 0; r < 8; r++)
                sums[r] = add_products(sums[r], each[r] + sizeof(float) + at, q);
        }
        _mm256_storeu_si256((__m256i *)(void *)products, fold8(sums));
        for (uint32_t r = 0; r < count; r++) {
            float scale;

            memcpy(&scale, each[r], sizeof scale);
            out[i + r] = (norms != NULL ? norms[i + r] : 0.0f) + factor * scale * (float)products[r];
        }
    }
}

const struct sac_rough_kernels sac_rough_avx2 = {prepare, distances};
