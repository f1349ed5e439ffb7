/* Bytes against bytes, both widened to 16 bits, for CPUs without VPDPBUSD. Twin: none, what is chosen is
 * compared (ref/probe.c). Floor, 128 components: 4 widenings, 4 products, 4 sums and 3 instructions to add up
 * a row's lanes, on two ports, are 7.5 cycles a row; memory needs 3.3 (rough_vnni.c). */
#include "kernels/cpu/rough_avx512.h"

typedef int16_t part;

#include "kernels/cpu/rough_simd.h"

SAC_SPECIALIZE __m512i add_products(__m512i sum, const unsigned char *bytes, __m512i q)
{
    __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)bytes));

    return _mm512_add_epi32(sum, _mm512_madd_epi16(wide, q));
}

SAC_SPECIALIZE void step_words(__m512i sums[16], const unsigned char *const rows[4], size_t row_bytes,
                               const struct sac_rough_query *query, uint32_t at)
{
    __m512i low = _mm512_load_si512((const int16_t *)query->parts + at);
    __m512i high = _mm512_load_si512((const int16_t *)query->parts + at + 32);

#pragma GCC unroll 16
    for (size_t i = 0; i < 16; i++) {
        const unsigned char *bytes = row_of(rows, row_bytes, i) + at;

        sums[i] = add_products(add_products(sums[i], bytes, low), bytes + 32, high);
    }
}

static void distances(const struct sac_rough_query *query, const void *rows, uint32_t n, uint32_t dim,
                      const float *norms, float *out)
{
    distances_by(step_words, query, rows, n, dim, 0, norms, out);
}

const struct sac_rough_kernels sac_rough_avx512 = {prepare, distances};
