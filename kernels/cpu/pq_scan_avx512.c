/* 4-bit codes through vpshufb: 64 bytes hold two codes of 64 entries. Twin: ref/pq_scan.c.
 * Floors: 64 bytes of codes a register; 2 shuffles on one port and 9 other instructions on two: 5 to 6 cycles
 * a register, so about 30 GB/s a core at 3 GHz. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/pq_sums_avx512.h"

void sac_pq_distances4_avx512(const struct sac_pq_bytes *bytes, const uint8_t *codes, const float *bias,
                              float base, uint32_t block_count, float *distance)
{
    const __m512i nibble = _mm512_set1_epi8(0xf);
    uint32_t pairs = (bytes->m + 1) / 2;

    for (uint32_t block = 0; block < block_count; block++) {
        const uint8_t *from = codes + (size_t)block * pairs * SAC_BLOCK_ROWS;
        struct sums64 sums = {_mm512_setzero_si512(), _mm512_setzero_si512()};

        for (uint32_t j = 0; j < pairs; j++) {
            const __m128i *tables = (const __m128i *)(bytes->table + (size_t)j * 32);
            __m512i both = _mm512_loadu_si512(from + (size_t)j * SAC_BLOCK_ROWS);
            __m512i low = _mm512_and_si512(both, nibble);
            __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);

            sums64_add(&sums, _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(tables)), low));
            sums64_add(&sums, _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(tables + 1)), high));
        }
        sums64_store(&sums, bias + block * SAC_BLOCK_ROWS, base, bytes->unit,
                     distance + block * SAC_BLOCK_ROWS);
    }
}

/* Longer codes need VBMI to be faster here than in AVX2. */
sac_status sac_pq_scan_avx512(sac_stream *s, const struct sac_pq_scan_args *a)
{
    static const struct sac_pq_scan_kernels kernels4 = {sac_pq_ranges_avx2, sac_pq_round_avx2, NULL,
                                                        sac_pq_distances4_avx512, &sac_sieve_avx512};
    static const struct sac_pq_scan_kernels kernels8 = {
        sac_pq_ranges_avx2, sac_pq_round_avx2, sac_pq_arrange_avx2, sac_pq_distances_avx2, &sac_sieve_avx512};

    return sac_pq_scan_run(s, a, a->pq.nbits == 4 ? &kernels4 : &kernels8);
}
