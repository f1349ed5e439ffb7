/* Decoding and products of the list-major scan on tiles of 16 x 32 bf16 numbers (AMX). Twin: what a table
 * gives in ref/pq_scan.c, within the error that pq_scan_lists.c states. Floors, of a core: a tile
 * instruction takes a cycle for each of its queries, so a (query, row) costs depth / 512 cycles; a byte of a
 * code takes a load of 4 components, at best half a cycle, for all queries of the list together. */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/pq_scan_tiles.h"

#include <immintrin.h>

enum { ROWS = 16 }; /* of a tile: a quarter of a page */

/* Pairs of two neighbours, from registers of 8 entries each: the low one of all 16, then the high one. */
static inline void store_pairs(__m512i first, __m512i last, uint32_t *low, uint32_t *high)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);

    _mm512_store_si512(low, _mm512_permutex2var_epi32(first, even, last));
    _mm512_store_si512(high, _mm512_permutex2var_epi32(first, odd, last));
}

/* One byte of a page's codes to `pairs` lines of SAC_PAGE_ROWS pairs. Codes beyond the list's end may be
 * anything, hence the mask. */
static inline void decode_byte(const uint8_t *codes, const uint16_t *numbers, uint32_t count, uint32_t pairs,
                               uint32_t *to)
{
    const __m512i largest = _mm512_set1_epi32((int)count - 1);

    for (uint32_t row = 0; row < SAC_PAGE_ROWS; row += ROWS) {
        __m512i code = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(codes + row)));

        code = _mm512_and_si512(code, largest);
        if (pairs % 2 == 1) {
            for (uint32_t p = 0; p < pairs; p++)
                _mm512_store_si512(to + p * SAC_PAGE_ROWS + row,
                                   _mm512_i32gather_epi32(code, numbers + (size_t)p * count * 2, 4));
            continue;
        }
        for (uint32_t p = 0; p < pairs; p += 2) {
            const uint16_t *from = numbers + (size_t)p * count * 2;

            store_pairs(_mm512_i32gather_epi64(_mm512_castsi512_si256(code), from, 8),
                        _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(code, 1), from, 8),
                        to + p * SAC_PAGE_ROWS + row, to + (p + 1) * SAC_PAGE_ROWS + row);
        }
    }
}

/* All pages byte by byte, because a byte's code words stay in L1 and those of all bytes do not. */
void sac_pq_tiles_decode(const struct sac_pq_words *words, unsigned char *const *pages, uint32_t page_count,
                         uint16_t *rows)
{
    size_t page = (size_t)words->depth / 2 * SAC_PAGE_ROWS;

    for (uint32_t b = 0; b < words->bytes; b++) {
        const uint16_t *numbers = words->numbers + (size_t)b * words->pairs * words->count * 2;
        uint32_t *to = (uint32_t *)(void *)rows + (size_t)b * words->pairs * SAC_PAGE_ROWS;

        for (uint32_t i = 0; i < page_count; i++)
            decode_byte(pages[i] + b * SAC_PAGE_ROWS, numbers, words->count, words->pairs, to + i * page);
    }
}

/* Turns 16 bytes of 64 codes over: each round mixes a register with the one 8 further on, which moves the
 * highest bit of a byte's register number to the end of its place, and after four the two have changed
 * roles. Register i then holds entries i, i + 16, i + 32 and i + 48. */
static inline void turn_bytes(__m512i r[SAC_TILE_CODES])
{
    for (int round = 0; round < 4; round++) {
        __m512i t[SAC_TILE_CODES];

#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            t[2 * i] = _mm512_unpacklo_epi8(r[i], r[i + 8]);
            t[2 * i + 1] = _mm512_unpackhi_epi8(r[i], r[i + 8]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < SAC_TILE_CODES; i++)
            r[i] = t[i];
    }
}

void sac_pq_tiles_turn(const uint8_t *codes, uint32_t bytes, uint8_t *to, size_t stride)
{
    for (uint32_t first = 0; first < bytes; first += SAC_TILE_CODES) {
        __m512i r[SAC_TILE_CODES];

        for (uint32_t i = 0; i < SAC_TILE_CODES; i++)
            r[i] = first + i < bytes ? _mm512_loadu_si512(codes + (size_t)(first + i) * SAC_PAGE_ROWS)
                                     : _mm512_setzero_si512();
        turn_bytes(r);
        for (uint32_t i = 0; i < SAC_TILE_CODES; i++) {
            uint8_t *at = to + i * stride + first;

            _mm_store_si128((__m128i *)(void *)at, _mm512_castsi512_si128(r[i]));
            _mm_store_si128((__m128i *)(void *)(at + 16 * stride), _mm512_extracti32x4_epi32(r[i], 1));
            _mm_store_si128((__m128i *)(void *)(at + 32 * stride), _mm512_extracti32x4_epi32(r[i], 2));
            _mm_store_si128((__m128i *)(void *)(at + 48 * stride), _mm512_extracti32x4_epi32(r[i], 3));
        }
    }
}

/* Tiles 0 to 3 hold scores, 4 queries, 5 to 7 rows. */
void sac_pq_tiles_begin(uint32_t query_count)
{
    uint8_t rows[8];

    for (int i = 0; i < 8; i++)
        rows[i] = i < 5 ? (uint8_t)query_count : ROWS;
    sac_amx_configure(rows);
}

void sac_pq_tiles_end(void)
{
    _tile_release();
}

void sac_pq_tiles_multiply(const uint16_t *queries, const uint16_t *rows, uint32_t depth, const float *bias,
                           float *scores)
{
    const size_t line = SAC_PAGE_ROWS * 2 * sizeof(uint16_t);

    _tile_loadd(0, bias, 0); /* the same for all queries */
    _tile_loadd(1, bias + ROWS, 0);
    _tile_loadd(2, bias + 2 * ROWS, 0);
    _tile_loadd(3, bias + 3 * ROWS, 0);
    for (uint32_t d = 0; d < depth; d += SAC_TILE_DEPTH) {
        const uint16_t *from = rows + (size_t)d * SAC_PAGE_ROWS;

        _tile_loadd(4, queries + d, depth * sizeof(uint16_t));
        _tile_loadd(5, from, line);
        _tile_loadd(6, from + 2 * ROWS, line);
        _tile_loadd(7, from + 4 * ROWS, line);
        _tile_dpbf16ps(0, 4, 5);
        _tile_loadd(5, from + 6 * ROWS, line);
        _tile_dpbf16ps(1, 4, 6);
        _tile_dpbf16ps(2, 4, 7);
        _tile_dpbf16ps(3, 4, 5);
    }
    _tile_stored(0, scores, SAC_PAGE_ROWS * sizeof(float));
    _tile_stored(1, scores + ROWS, SAC_PAGE_ROWS * sizeof(float));
    _tile_stored(2, scores + 2 * ROWS, SAC_PAGE_ROWS * sizeof(float));
    _tile_stored(3, scores + 3 * ROWS, SAC_PAGE_ROWS * sizeof(float));
}

void sac_pq_tiles_sieve(const float *scores, uint32_t query_count, const float *limits, uint64_t *masks)
{
    for (uint32_t q = 0; q < query_count; q++, scores += SAC_PAGE_ROWS) {
        const __m512 limit = _mm512_set1_ps(limits[q]);
        uint64_t mask = 0;

        for (uint32_t row = 0; row < SAC_PAGE_ROWS; row += ROWS)
            mask |= (uint64_t)_mm512_cmp_ps_mask(_mm512_load_ps(scores + row), limit, _CMP_NGT_UQ) << row;
        masks[q] = mask;
    }
}
