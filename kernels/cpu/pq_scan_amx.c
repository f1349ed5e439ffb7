/* Decoding and products of the list-major scan on tiles of 16 x 64 bytes (AMX). Twin: what a table gives in
 * ref/pq_scan.c, within the error that pq_scan_levels.c tells. Floors, of a core: a component of a page's
 * rows takes two permutations of two registers and two that bring neighbours together, 6 cycles of the one
 * unit that permutes, whatever the codes' width, so 128 components take 12 cycles a row; a tile instruction
 * takes a cycle for each of its queries, so a (query, row) costs depth / 1024 cycles. */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/pq_scan_tiles.h"

#include <immintrin.h>

enum {
    ROWS = 16,     /* of a tile: a quarter of a page */
    NEIGHBOURS = 4 /* components that lie side by side */
};

/* 64 codes, so ordered that store_neighbours() brings them back into theirs. */
static inline __m512i load_codes(const uint8_t *codes)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);

    return _mm512_permutexvar_epi32(order, _mm512_loadu_si512(codes));
}

/* The byte of each of 64 codes whose components are looked up. */
struct byte {
    __m512i codes;
    const uint8_t *from;
    __mmask64 upper; /* the codes' highest bits */
};

static inline void byte_load(struct byte *b, const uint8_t *from)
{
    b->from = from;
    b->codes = load_codes(from);
    b->upper = _mm512_movepi8_mask(b->codes);
}

static inline __m512i look_up(const struct byte *b, const __m512i table[4])
{
    return _mm512_mask_mov_epi8(_mm512_permutex2var_epi8(table[0], b->codes, table[1]), b->upper,
                                _mm512_permutex2var_epi8(table[2], b->codes, table[3]));
}

static inline void store_neighbours(const __m512i levels[NEIGHBOURS], uint8_t *to)
{
    __m512i low = _mm512_unpacklo_epi8(levels[0], levels[1]),
            high = _mm512_unpackhi_epi8(levels[0], levels[1]);
    __m512i low2 = _mm512_unpacklo_epi8(levels[2], levels[3]),
            high2 = _mm512_unpackhi_epi8(levels[2], levels[3]);

    _mm512_store_si512(to, _mm512_unpacklo_epi16(low, low2));
    _mm512_store_si512(to + 64, _mm512_unpackhi_epi16(low, low2));
    _mm512_store_si512(to + 128, _mm512_unpacklo_epi16(high, high2));
    _mm512_store_si512(to + 192, _mm512_unpackhi_epi16(high, high2));
}

/* Lines are asked for a few at a time between the permutations: all at once, they would have to wait for each
 * other, and the permutations for them. */
SAC_SPECIALIZE void decode(const struct sac_pq_levels *levels, unsigned char *const *pages, uint32_t count,
                           const void *ahead, size_t ahead_bytes, uint8_t *rows)
{
    size_t steps = (levels->components + NEIGHBOURS - 1) / NEIGHBOURS,
           step = (ahead_bytes + steps - 1) / steps;
    size_t row_bytes = (size_t)levels->depth * SAC_PAGE_ROWS;
    const char *asked = ahead, *due = asked, *end = asked + ahead_bytes;
    const uint8_t *from = levels->table;
    uint32_t left = levels->width; /* components of the byte */
    struct byte bytes[SAC_TILE_PAGES];

    for (uint32_t p = 0; p < count; p++)
        byte_load(&bytes[p], pages[p]);
    for (uint32_t i = 0; i < levels->components; i += NEIGHBOURS, rows += NEIGHBOURS * SAC_PAGE_ROWS) {
        __m512i found[SAC_TILE_PAGES][NEIGHBOURS];

        due += step;
        for (; asked < due && asked < end; asked += SAC_ALIGNMENT)
            __builtin_prefetch(asked, 0, SAC_PREFETCH_L2);
#pragma GCC unroll 4
        for (uint32_t n = 0; n < NEIGHBOURS; n++, left--, from += SAC_TILE_VALUES) {
            __m512i table[4];

            if (i + n >= levels->components) {
                for (uint32_t p = 0; p < count; p++)
                    found[p][n] = _mm512_setzero_si512();
                continue;
            }
            if (left == 0) {
                left = levels->width;
                for (uint32_t p = 0; p < count; p++)
                    byte_load(&bytes[p], bytes[p].from + SAC_PAGE_ROWS);
            }
            for (uint32_t t = 0; t < 4; t++)
                table[t] = _mm512_load_si512(from + t * 64);
            for (uint32_t p = 0; p < count; p++)
                found[p][n] = look_up(&bytes[p], table);
        }
        for (uint32_t p = 0; p < count; p++)
            store_neighbours(found[p], rows + p * row_bytes);
    }
}

void sac_pq_tiles_decode(const struct sac_pq_levels *levels, unsigned char *const *pages, uint32_t count,
                         const void *ahead, size_t ahead_bytes, uint8_t *rows)
{
    if (count == SAC_TILE_PAGES)
        decode(levels, pages, SAC_TILE_PAGES, ahead, ahead_bytes, rows);
    else
        decode(levels, pages, 1, ahead, ahead_bytes, rows);
}

/* Tiles 0 to 3 hold products with the quarters of a page, 4 queries, 6 and 7 rows. */
void sac_pq_tiles_begin(uint32_t query_count)
{
    uint8_t rows[8];

    for (int i = 0; i < 8; i++)
        rows[i] = i < 6 ? (uint8_t)query_count : ROWS;
    sac_amx_configure(rows);
}

void sac_pq_tiles_end(void)
{
    _tile_release();
}

struct products {
    _Alignas(64) int32_t of[SAC_PAGE_ROWS / ROWS][SAC_TILE_QUERIES][ROWS];
};

static inline void multiply(const int8_t *numbers, const uint8_t *rows, uint32_t depth, struct products *out)
{
    const size_t line = SAC_PAGE_ROWS * NEIGHBOURS, tile = ROWS * NEIGHBOURS;

    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (uint32_t d = 0; d < depth; d += SAC_TILE_DEPTH) {
        const uint8_t *from = rows + (size_t)d * SAC_PAGE_ROWS;

        _tile_loadd(4, numbers + d, depth);
        _tile_loadd(6, from, line);
        _tile_loadd(7, from + tile, line);
        _tile_dpbsud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
        _tile_loadd(6, from + 2 * tile, line);
        _tile_loadd(7, from + 3 * tile, line);
        _tile_dpbsud(2, 4, 6);
        _tile_dpbsud(3, 4, 7);
    }
    _tile_stored(0, out->of[0], sizeof out->of[0][0]);
    _tile_stored(1, out->of[1], sizeof out->of[0][0]);
    _tile_stored(2, out->of[2], sizeof out->of[0][0]);
    _tile_stored(3, out->of[3], sizeof out->of[0][0]);
}

static inline uint64_t score_page(const struct products *products, const float *bias, uint32_t q, __m512 unit,
                                  __m512 limit, float *scores)
{
    uint64_t mask = 0;

#pragma GCC unroll 4
    for (uint32_t t = 0; t < SAC_PAGE_ROWS / ROWS; t++) {
        __m512 product = _mm512_cvtepi32_ps(_mm512_load_si512(products->of[t][q]));
        __m512 score = _mm512_fmadd_ps(product, unit, _mm512_loadu_ps(bias + t * ROWS));

        _mm512_store_ps(scores + t * ROWS, score);
        mask |= (uint64_t)_mm512_cmp_ps_mask(score, limit, _CMP_NGT_UQ) << t * ROWS;
    }
    return mask;
}

/* All products first: those of a page take no part of what turns the others' into scores. */
void sac_pq_tiles_score(const struct sac_pq_numbers *queries, uint32_t depth,
                        const struct sac_tile_page *pages, uint32_t count, const float *limits,
                        float (*scores)[SAC_TILE_QUERIES][SAC_PAGE_ROWS],
                        uint64_t (*masks)[SAC_TILE_QUERIES])
{
    struct products products[SAC_TILE_PAGES];

    for (uint32_t p = 0; p < count; p++)
        multiply(queries->numbers, pages[p].decoded, depth, &products[p]);
    for (uint32_t q = 0; q < queries->count; q++) {
        const __m512 limit = _mm512_set1_ps(limits[q]), unit = _mm512_set1_ps(queries->units[q]);

        for (uint32_t p = 0; p < count; p++)
            masks[p][q] = score_page(&products[p], pages[p].bias, q, unit, limit, scores[p][q]);
    }
}
