/* Bytes against bytes by VPDPBUSD, whose one side has no sign: a row's byte has 128 added to it, by flipping
 * its highest bit, and what that adds to the product is 128 times the sum of the query. Twin: none, what is
 * chosen is compared (ref/probe.c).
 *
 * Floor, 128 components: 132 bytes a row from L2 (some 40 bytes a cycle) are 3.3 cycles; 2 flips, 2 products
 * and 3 instructions to add up a row's lanes, on two ports, are 3.5. */
#include "kernels/cpu/rough_avx512.h"

typedef int8_t part;

#include "kernels/cpu/rough_simd.h"

SAC_SPECIALIZE void step_bytes(__m512i sums[16], const unsigned char *const rows[4], size_t row_bytes,
                               const struct sac_rough_query *query, uint32_t at)
{
    const __m512i flip = _mm512_set1_epi8(INT8_MIN);
    __m512i q = _mm512_load_si512((const int8_t *)query->parts + at);

#pragma GCC unroll 16
    for (size_t i = 0; i < 16; i++) {
        __m512i bytes = _mm512_loadu_si512(row_of(rows, row_bytes, i) + at);

        sums[i] = _mm512_dpbusd_epi32(sums[i], _mm512_xor_si512(flip, bytes), q);
    }
}

static void distances(const struct sac_rough_query *query, const void *rows, uint32_t n, uint32_t dim,
                      const float *norms, float *out)
{
    distances_by(step_bytes, query, rows, n, dim, 128 * query->sum, norms, out);
}

const struct sac_rough_kernels sac_rough_vnni = {prepare, distances};
