/* Codes of 4 to 8 bits through 16-byte shuffles. Twin: ref/pq_scan.c.
 * 4 bits: one shuffle a code (Andre et al., "Quicker ADC"; FAISS calls it fast-scan). Floor: 64 bytes hold
 * 128 codes; 22 instructions, about 8 cycles: 24 GB/s a core at 3 GHz. 5 to 8 bits: the table is cut into
 * pieces of 16. Instead of choosing the right piece per lane, piece h holds the difference (xor) to piece
 * h-1, and a lane takes all pieces up to its own: vpshufb gives 0 where bit 7 of the index is set, which is
 * what code - 16 h does below zero. Three instructions a piece and 32 codes, so 16 cycles for 32 8-bit codes:
 * 6 GB/s a core, twice what scalar loads reach and immune to slow gathers. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/pq_scan.h"

#include <immintrin.h>

/* 32 sums in 16 bits; see pq_sums_avx512.h. */
struct sums32 {
    __m256i all, odd;
};

static inline void sums32_add(struct sums32 *s, __m256i bytes)
{
    s->all = _mm256_add_epi16(s->all, bytes);
    s->odd = _mm256_add_epi16(s->odd, _mm256_srli_epi16(bytes, 8));
}

static inline void distance8_store(__m128i sums, const float *bias, __m256 base, __m256 unit, float *distance)
{
    __m256 sum = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sums));

    _mm256_storeu_ps(distance, _mm256_fmadd_ps(unit, sum, _mm256_add_ps(base, _mm256_loadu_ps(bias))));
}

/* With factors: see struct sac_pq_scan_kernels. */
static inline void scaled8_store(__m128i sums, const struct sac_pq_bytes *bytes, const float *bias,
                                 const float *factors, float base, float *distance)
{
    __m256 sum = _mm256_fmadd_ps(_mm256_set1_ps(bytes->unit), _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(sums)),
                                 _mm256_set1_ps(bytes->offset));
    __m256 start = _mm256_add_ps(_mm256_set1_ps(base), _mm256_loadu_ps(bias));

    _mm256_storeu_ps(distance, _mm256_fmadd_ps(_mm256_loadu_ps(factors), sum, start));
}

static inline void sums32_store_scaled(const struct sums32 *s, const struct sac_pq_bytes *bytes,
                                       const float *bias, const float *factors, float base, float *distance)
{
    __m256i even = _mm256_sub_epi16(s->all, _mm256_slli_epi16(s->odd, 8));
    __m256i a = _mm256_unpacklo_epi16(even, s->odd), b = _mm256_unpackhi_epi16(even, s->odd);

    scaled8_store(_mm256_castsi256_si128(a), bytes, bias, factors, base, distance);
    scaled8_store(_mm256_castsi256_si128(b), bytes, bias + 8, factors + 8, base, distance + 8);
    scaled8_store(_mm256_extracti128_si256(a, 1), bytes, bias + 16, factors + 16, base, distance + 16);
    scaled8_store(_mm256_extracti128_si256(b, 1), bytes, bias + 24, factors + 24, base, distance + 24);
}

static inline void sums32_store(const struct sums32 *s, const float *bias, float base, float unit,
                                float *distance)
{
    __m256i even = _mm256_sub_epi16(s->all, _mm256_slli_epi16(s->odd, 8));
    __m256i a = _mm256_unpacklo_epi16(even, s->odd), b = _mm256_unpackhi_epi16(even, s->odd);
    __m256 bases = _mm256_set1_ps(base), units = _mm256_set1_ps(unit);

    distance8_store(_mm256_castsi256_si128(a), bias, bases, units, distance);
    distance8_store(_mm256_castsi256_si128(b), bias + 8, bases, units, distance + 8);
    distance8_store(_mm256_extracti128_si256(a, 1), bias + 16, bases, units, distance + 16);
    distance8_store(_mm256_extracti128_si256(b, 1), bias + 24, bases, units, distance + 24);
}

static inline __m256i load32(const uint8_t *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

static inline __m256i piece(const uint8_t *table)
{
    return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)table));
}

static void distances4_avx2(const struct sac_pq_bytes *bytes, unsigned char *const *pages,
                            uint32_t page_count, float base, float *distance)
{
    const __m256i nibble = _mm256_set1_epi8(0xf), zero = _mm256_setzero_si256();
    uint32_t pairs = (bytes->pq.m + 1) / 2;

    for (uint32_t p = 0; p < page_count; p++, distance += SAC_PAGE_ROWS) {
        struct sums32 sums[2] = {{zero, zero}, {zero, zero}};

        for (uint32_t j = 0; j < pairs; j++) {
            __m256i low = piece(bytes->table + (size_t)j * 32),
                    high = piece(bytes->table + (size_t)j * 32 + 16);

            for (uint32_t half = 0; half < 2; half++) {
                __m256i both = load32(pages[p] + j * SAC_PAGE_ROWS + half * 32);

                sums32_add(&sums[half], _mm256_shuffle_epi8(low, _mm256_and_si256(both, nibble)));
                sums32_add(&sums[half],
                           _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble)));
            }
        }
        for (uint32_t half = 0; half < 2; half++) {
            const float *bias = sac_page_bias(&bytes->pq, pages[p]) + half * 32;

            if (bytes->pq.factors)
                sums32_store_scaled(&sums[half], bytes, bias,
                                    sac_page_factors(&bytes->pq, pages[p]) + half * 32, base,
                                    distance + half * 32);
            else
                sums32_store(&sums[half], bias, base, bytes->unit, distance + half * 32);
        }
    }
}

/* Looks up two registers of codes in `pieces` pieces. Saturating subtraction keeps codes of 128 and more,
 * which are negative here, negative throughout: they take nothing. */
SAC_SPECIALIZE void lookup_pieces(const uint8_t *table, uint32_t pieces, __m256i a, __m256i b,
                                  __m256i found[2])
{
    const __m256i step = _mm256_set1_epi8(16);

    for (uint32_t h = 0; h < pieces; h++) {
        __m256i t = piece(table + h * 16);

        found[0] = _mm256_xor_si256(found[0], _mm256_shuffle_epi8(t, a));
        found[1] = _mm256_xor_si256(found[1], _mm256_shuffle_epi8(t, b));
        a = _mm256_subs_epi8(a, step);
        b = _mm256_subs_epi8(b, step);
    }
}

/* nbits is a constant in every caller, so that the loop over pieces unrolls. */
SAC_SPECIALIZE void distances(const struct sac_pq_bytes *bytes, uint32_t nbits, unsigned char *const *pages,
                              uint32_t page_count, float base, float *distance)
{
    const __m256i zero = _mm256_setzero_si256(), top = _mm256_set1_epi8((char)0x80);
    uint32_t pieces = nbits < 7 ? 1u << (nbits - 4) : 8;

    for (uint32_t p = 0; p < page_count; p++, distance += SAC_PAGE_ROWS) {
        struct sums32 sums[2] = {{zero, zero}, {zero, zero}};

        for (uint32_t j = 0; j < bytes->pq.m; j++) {
            const uint8_t *table = bytes->table + ((size_t)j << nbits);
            __m256i a = load32(pages[p] + j * SAC_PAGE_ROWS), b = load32(pages[p] + j * SAC_PAGE_ROWS + 32);
            __m256i found[2] = {zero, zero};

            lookup_pieces(table, pieces, a, b, found);
            if (nbits == 8)
                lookup_pieces(table + 128, pieces, _mm256_xor_si256(a, top), _mm256_xor_si256(b, top), found);
            sums32_add(&sums[0], found[0]);
            sums32_add(&sums[1], found[1]);
        }
        for (uint32_t half = 0; half < 2; half++)
            sums32_store(&sums[half], sac_page_bias(&bytes->pq, pages[p]) + half * 32, base, bytes->unit,
                         distance + half * 32);
    }
}

static void distances_avx2(const struct sac_pq_bytes *bytes, unsigned char *const *pages, uint32_t page_count,
                           float base, float *distance)
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

/* Pieces become differences to the piece before; each half of an 8-bit table starts anew. */
void sac_pq_arrange_avx2(uint8_t *table, uint32_t m, uint32_t nbits)
{
    for (uint32_t j = 0; j < m; j++) {
        uint8_t *t = table + ((size_t)j << nbits);

        for (uint32_t h = (1u << nbits) / 16 - 1; h > 0; h--) {
            __m128i own = _mm_load_si128((const __m128i *)(t + h * 16));

            if (h % 8 != 0)
                own = _mm_xor_si128(own, _mm_load_si128((const __m128i *)(t + h * 16 - 16)));
            _mm_store_si128((__m128i *)(t + h * 16), own);
        }
    }
}

static inline float min8(__m256 x)
{
    __m128 m = _mm_min_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

    m = _mm_min_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_min_ss(m, _mm_movehdup_ps(m)));
}

float sac_pq_ranges_avx2(const float *table, uint32_t m, uint32_t nbits, float *min)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    uint32_t count = 1u << nbits;
    float range = 0.0f;

    for (uint32_t j = 0; j < m; j++) {
        const float *t = table + (size_t)j * count;
        __m256 low = _mm256_loadu_ps(t), high = low;

        for (uint32_t c = 8; c < count; c += 8) {
            __m256 x = _mm256_loadu_ps(t + c);

            low = _mm256_min_ps(low, x);
            high = _mm256_max_ps(high, x);
        }
        min[j] = min8(low);
        range = __builtin_fmaxf(range, -min8(_mm256_xor_ps(high, sign)) - min[j]);
    }
    return range;
}

void sac_pq_round_avx2(const float *table, uint32_t m, uint32_t nbits, const float *min, float scale,
                       uint8_t *out)
{
    const __m256 scales = _mm256_set1_ps(scale);
    uint32_t count = 1u << nbits;

    for (uint32_t j = 0; j < m; j++) {
        __m256 low = _mm256_set1_ps(min[j]);

        for (uint32_t c = 0; c < count; c += 16) {
            const float *t = table + (size_t)j * count + c;
            __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(t), low), scales));
            __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(t + 8), low), scales));
            __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);

            _mm_store_si128(
                (__m128i *)(out + (size_t)j * count + c),
                _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
        }
    }
}

sac_status sac_pq_scan_avx2(sac_stream *s, const struct sac_pq_scan_args *a)
{
    static const struct sac_pq_scan_kernels kernels4 = {sac_pq_ranges_avx2, sac_pq_round_avx2, NULL,
                                                        distances4_avx2, &sac_sieve_avx2};
    static const struct sac_pq_scan_kernels kernels8 = {sac_pq_ranges_avx2, sac_pq_round_avx2,
                                                        sac_pq_arrange_avx2, distances_avx2, &sac_sieve_avx2};

    return sac_pq_scan_run(s, a, a->pool.pq.nbits == 4 ? &kernels4 : &kernels8);
}
