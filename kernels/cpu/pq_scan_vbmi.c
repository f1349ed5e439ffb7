/* 5- to 8-bit codes at full width: a table of 256 bytes is four registers, and two vpermi2b look up 64 codes
 * in it (the idea of Quicker ADC, Andre et al. 2019, taken to 8 bits by VBMI). Twin: ref/pq_scan.c. Floors:
 * 64 bytes of codes a register; 8 bits: 4 shuffle-port and 7 other instructions on two ports, 5 to 6 cycles a
 * register (30 to 35 GB/s a core at 3 GHz); 6 bits: 1 and 3, so memory. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/pq_sums_avx512.h"

SAC_SPECIALIZE __m512i lookup(const uint8_t *table, __m512i codes, uint32_t nbits)
{
    const __m512i *t = (const __m512i *)table;
    __m512i low, high;

    if (nbits <= 6)
        return _mm512_permutexvar_epi8(codes, t[0]);
    low = _mm512_permutex2var_epi8(t[0], codes, t[1]);
    if (nbits == 7)
        return low;
    high = _mm512_permutex2var_epi8(t[2], codes, t[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high);
}

/* nbits is a constant in every caller, so that each gets a loop of its own. */
SAC_SPECIALIZE void distances(const struct sac_pq_bytes *bytes, uint32_t nbits, unsigned char *const *pages,
                              uint32_t page_count, float base, float *distance)
{
    const sac_pq_shape *pq = &bytes->pq;
    size_t stride = nbits <= 6 ? 64 : (size_t)1 << nbits;

    for (; page_count >= 2; page_count -= 2) { /* two pages share the loads of a table */
        struct sums64 a = {_mm512_setzero_si512(), _mm512_setzero_si512()}, b = a;

        for (uint32_t j = 0; j < pq->m; j++) {
            const uint8_t *table = bytes->table + j * stride;

            sums64_add(&a, lookup(table, _mm512_loadu_si512(pages[0] + j * SAC_PAGE_ROWS), nbits));
            sums64_add(&b, lookup(table, _mm512_loadu_si512(pages[1] + j * SAC_PAGE_ROWS), nbits));
        }
        sums64_store(&a, sac_page_bias(pq, pages[0]), base, bytes->unit, distance);
        sums64_store(&b, sac_page_bias(pq, pages[1]), base, bytes->unit, distance + SAC_PAGE_ROWS);
        pages += 2;
        distance += 2 * SAC_PAGE_ROWS;
    }
    if (page_count == 1) {
        struct sums64 a = {_mm512_setzero_si512(), _mm512_setzero_si512()};

        for (uint32_t j = 0; j < pq->m; j++)
            sums64_add(&a, lookup(bytes->table + j * stride, _mm512_loadu_si512(pages[0] + j * SAC_PAGE_ROWS),
                                  nbits));
        sums64_store(&a, sac_page_bias(pq, pages[0]), base, bytes->unit, distance);
    }
}

static void distances_vbmi(const struct sac_pq_bytes *bytes, unsigned char *const *pages, uint32_t page_count,
                           float base, float *distance)
{
    if (bytes->pq.nbits <= 6)
        distances(bytes, 6, pages, page_count, base, distance);
    else if (bytes->pq.nbits == 7)
        distances(bytes, 7, pages, page_count, base, distance);
    else
        distances(bytes, 8, pages, page_count, base, distance);
}

/* Tables of 32 bytes move to a register each. */
static void arrange_vbmi(uint8_t *table, uint32_t m, uint32_t nbits)
{
    if (nbits != 5)
        return;
    for (uint32_t j = m; j-- > 0;)
        _mm512_storeu_si512(table + (size_t)j * 64, _mm512_zextsi256_si512(_mm256_loadu_si256(
                                                        (const __m256i *)(table + (size_t)j * 32))));
}

sac_status sac_pq_scan_vbmi(sac_stream *s, const struct sac_pq_scan_args *a)
{
    static const struct sac_pq_scan_kernels kernels4 = {sac_pq_ranges_avx2, sac_pq_round_avx2, NULL,
                                                        sac_pq_distances4_avx512, &sac_sieve_avx512};
    static const struct sac_pq_scan_kernels kernels8 = {sac_pq_ranges_avx2, sac_pq_round_avx2, arrange_vbmi,
                                                        distances_vbmi, &sac_sieve_avx512};

    return sac_pq_scan_run(s, a, a->pool.pq.nbits == 4 ? &kernels4 : &kernels8);
}
