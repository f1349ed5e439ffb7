/* Codes through vpshufb, for CPUs without VBMI. Twin: ref/pq_scan.c.
 * 4 bits: 64 bytes hold two codes of 64 entries.
 * Floors: 64 bytes of codes a register; 2 shuffles on one port and 9 other instructions on two: 5 to 6 cycles
 * a register, so about 30 GB/s a core at 3 GHz.
 * 5 to 8 bits: the pieces of pq_scan_avx2.c at twice the width; 8 bits: 51 instructions on two ports for 64
 * codes: 26 cycles, 7 GB/s a core. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/pq_sums_avx512.h"

void sac_pq_distances4_avx512(const struct sac_pq_bytes *bytes, unsigned char *const *pages,
                              uint32_t page_count, float base, float *distance)
{
    const __m512i nibble = _mm512_set1_epi8(0xf);
    uint32_t pairs = (bytes->pq.m + 1) / 2;

    for (uint32_t p = 0; p < page_count; p++, distance += SAC_PAGE_ROWS) {
        struct sums64 sums = {_mm512_setzero_si512(), _mm512_setzero_si512()};

        for (uint32_t j = 0; j < pairs; j++) {
            const __m128i *tables = (const __m128i *)(bytes->table + (size_t)j * 32);
            __m512i both = _mm512_loadu_si512(pages[p] + j * SAC_PAGE_ROWS);
            __m512i low = _mm512_and_si512(both, nibble);
            __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);

            sums64_add(&sums, _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(tables)), low));
            sums64_add(&sums, _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(tables + 1)), high));
        }
        if (bytes->pq.factors)
            sums64_store_scaled(&sums, bytes, sac_page_bias(&bytes->pq, pages[p]),
                                sac_page_factors(&bytes->pq, pages[p]), base, distance);
        else
            sums64_store(&sums, sac_page_bias(&bytes->pq, pages[p]), base, bytes->unit, distance);
    }
}

/* As lookup_pieces() of pq_scan_avx2.c, whose arrangement of the table it shares. */
SAC_SPECIALIZE __m512i lookup_pieces(const uint8_t *table, uint32_t pieces, __m512i codes, __m512i found)
{
    const __m512i step = _mm512_set1_epi8(16);

    for (uint32_t h = 0; h < pieces; h++) {
        __m512i t = _mm512_broadcast_i32x4(_mm_load_si128((const __m128i *)(table + (size_t)h * 16)));

        found = _mm512_xor_si512(found, _mm512_shuffle_epi8(t, codes));
        codes = _mm512_subs_epi8(codes, step);
    }
    return found;
}

/* nbits is a constant in every caller, so that the loop over pieces unrolls. */
SAC_SPECIALIZE void distances(const struct sac_pq_bytes *bytes, uint32_t nbits, unsigned char *const *pages,
                              uint32_t page_count, float base, float *distance)
{
    const __m512i zero = _mm512_setzero_si512(), top = _mm512_set1_epi8((char)0x80);
    uint32_t pieces = nbits < 7 ? 1u << (nbits - 4) : 8;

    for (uint32_t p = 0; p < page_count; p++, distance += SAC_PAGE_ROWS) {
        struct sums64 sums = {zero, zero};

        for (uint32_t j = 0; j < bytes->pq.m; j++) {
            const uint8_t *table = bytes->table + ((size_t)j << nbits);
            __m512i code = _mm512_loadu_si512(pages[p] + j * SAC_PAGE_ROWS);
            __m512i found = lookup_pieces(table, pieces, code, zero);

            if (nbits == 8)
                found = lookup_pieces(table + 128, pieces, _mm512_xor_si512(code, top), found);
            sums64_add(&sums, found);
        }
        sums64_store(&sums, sac_page_bias(&bytes->pq, pages[p]), base, bytes->unit, distance);
    }
}

static void distances_avx512(const struct sac_pq_bytes *bytes, unsigned char *const *pages,
                             uint32_t page_count, float base, float *distance)
{
    if (bytes->pq.nbits == 8)
        distances(bytes, 8, pages, page_count, base, distance);
    else if (bytes->pq.nbits == 7)
        distances(bytes, 7, pages, page_count, base, distance);
    else if (bytes->pq.nbits == 6)
        distances(bytes, 6, pages, page_count, base, distance);
    else
        distances(bytes, 5, pages, page_count, base, distance);
}

sac_status sac_pq_scan_avx512(sac_stream *s, const struct sac_pq_scan_args *a)
{
    static const struct sac_pq_scan_kernels kernels4 = {sac_pq_ranges_avx2, sac_pq_round_avx2, NULL,
                                                        sac_pq_distances4_avx512, &sac_sieve_avx512};
    static const struct sac_pq_scan_kernels kernels8 = {
        sac_pq_ranges_avx2, sac_pq_round_avx2, sac_pq_arrange_avx2, distances_avx512, &sac_sieve_avx512};

    return sac_pq_scan_run(s, a, a->pool.pq.nbits == 4 ? &kernels4 : &kernels8);
}
