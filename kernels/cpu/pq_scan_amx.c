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

/* Where decoding of pages is. */
struct decoder {
    struct byte bytes[SAC_TILE_PAGES];
    const struct sac_pq_levels *levels;
    const uint8_t *table;
    const char *asked, *due, *end; /* of what comes ahead */
    size_t step;
    uint32_t left; /* components of the byte */
};

SAC_SPECIALIZE void decoder_make(struct decoder *d, const struct sac_pq_levels *levels,
                                 const struct sac_pq_pages *pages, uint32_t count)
{
    size_t steps = (levels->components + NEIGHBOURS - 1) / NEIGHBOURS;

    d->levels = levels;
    d->table = levels->table;
    d->left = levels->width;
    d->asked = d->due = pages->ahead;
    d->end = d->asked + pages->ahead_bytes;
    d->step = (pages->ahead_bytes + steps - 1) / steps;
    for (uint32_t p = 0; p < count; p++)
        byte_load(&d->bytes[p], pages->pages[p]);
}

/* Components first..first + SAC_TILE_DEPTH - 1, as many as there are. Lines are asked for a few at a time
 * between the permutations: all at once, they would have to wait for each other, and the permutations for
 * them. */
SAC_SPECIALIZE void decode(struct decoder *d, uint32_t count, uint32_t first, struct sac_tile_room *room)
{
    uint32_t end =
        d->levels->components - first < SAC_TILE_DEPTH ? d->levels->components - first : SAC_TILE_DEPTH;

    for (uint32_t i = 0; i < end; i += NEIGHBOURS) {
        __m512i found[SAC_TILE_PAGES][NEIGHBOURS];

        d->due += d->step;
        for (; d->asked < d->due && d->asked < d->end; d->asked += SAC_ALIGNMENT)
            __builtin_prefetch(d->asked, 0, SAC_PREFETCH_L2);
#pragma GCC unroll 4
        for (uint32_t n = 0; n < NEIGHBOURS; n++, d->left--, d->table += SAC_TILE_VALUES) {
            __m512i table[4];

            if (i + n >= end) {
                for (uint32_t p = 0; p < count; p++)
                    found[p][n] = _mm512_setzero_si512();
                continue;
            }
            if (d->left == 0) {
                d->left = d->levels->width;
                for (uint32_t p = 0; p < count; p++)
                    byte_load(&d->bytes[p], d->bytes[p].from + SAC_PAGE_ROWS);
            }
            for (uint32_t t = 0; t < 4; t++)
                table[t] = _mm512_load_si512(d->table + t * 64);
            for (uint32_t p = 0; p < count; p++)
                found[p][n] = look_up(&d->bytes[p], table);
        }
        for (uint32_t p = 0; p < count; p++)
            store_neighbours(found[p], room->rows[p][i / NEIGHBOURS][0]);
    }
}

/* Tiles 0 to 3 hold products with the quarters of a page, 4 queries, 6 and 7 rows. */
void sac_pq_tiles_begin(uint32_t group)
{
    uint8_t rows[8];

    for (int i = 0; i < 8; i++)
        rows[i] = i < 5 ? (uint8_t)group : ROWS;
    sac_amx_configure(rows);
}

void sac_pq_tiles_end(void)
{
    _tile_release();
}

/* Adds the products of SAC_TILE_DEPTH components: [group][SAC_PAGE_ROWS]. */
static inline void multiply(const int8_t *numbers, uint32_t depth, const void *rows, bool fresh,
                            void *products)
{
    const size_t line = SAC_PAGE_ROWS * NEIGHBOURS, tile = ROWS * NEIGHBOURS;
    const uint8_t *from = rows;
    uint8_t *to = products;

    if (fresh) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, to, line);
        _tile_loadd(1, to + tile, line);
        _tile_loadd(2, to + 2 * tile, line);
        _tile_loadd(3, to + 3 * tile, line);
    }
    _tile_loadd(4, numbers, depth);
    _tile_loadd(6, from, line);
    _tile_loadd(7, from + tile, line);
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_loadd(6, from + 2 * tile, line);
    _tile_loadd(7, from + 3 * tile, line);
    _tile_dpbsud(2, 4, 6);
    _tile_dpbsud(3, 4, 7);
    _tile_stored(0, to, line);
    _tile_stored(1, to + tile, line);
    _tile_stored(2, to + 2 * tile, line);
    _tile_stored(3, to + 3 * tile, line);
}

/* Tile by tile of components, so that decoded rows are still in L1, and written where they were before. */
SAC_SPECIALIZE void multiply_pages(const struct sac_pq_levels *levels, const struct sac_pq_numbers *queries,
                                   const struct sac_pq_pages *pages, uint32_t count,
                                   struct sac_tile_room *room)
{
    struct decoder decoder;

    decoder_make(&decoder, levels, pages, count);
    for (uint32_t i = 0; i < levels->components; i += SAC_TILE_DEPTH) {
        decode(&decoder, count, i, room);
        for (uint32_t q = 0; q < queries->count; q += queries->group)
            for (uint32_t p = 0; p < count; p++)
                multiply(queries->numbers + (size_t)q * levels->depth + i, levels->depth, room->rows[p],
                         i == 0, room->scores[p][q]);
    }
}

/* Products of a query become scores, where they are. */
static inline uint64_t score(float *scores, const float *bias, __m512 unit, __m512 limit)
{
    uint64_t mask = 0;

#pragma GCC unroll 4
    for (uint32_t row = 0; row < SAC_PAGE_ROWS; row += ROWS) {
        __m512 product = _mm512_cvtepi32_ps(_mm512_load_si512(scores + row));
        __m512 found = _mm512_fmadd_ps(product, unit, _mm512_loadu_ps(bias + row));

        _mm512_store_ps(scores + row, found);
        mask |= (uint64_t)_mm512_cmp_ps_mask(found, limit, _CMP_NGT_UQ) << row;
    }
    return mask;
}

void sac_pq_tiles_score(const struct sac_pq_levels *levels, const struct sac_pq_numbers *queries,
                        const struct sac_pq_pages *pages, const float *const *bias, const float *limits,
                        struct sac_tile_room *room)
{
    if (pages->count == SAC_TILE_PAGES)
        multiply_pages(levels, queries, pages, SAC_TILE_PAGES, room);
    else
        multiply_pages(levels, queries, pages, 1, room);
    for (uint32_t q = 0; q < queries->count; q++) {
        const __m512 limit = _mm512_set1_ps(limits[q]), unit = _mm512_set1_ps(queries->units[q]);

        for (uint32_t p = 0; p < pages->count; p++)
            room->masks[p][q] = score(room->scores[p][q], bias[p], unit, limit);
    }
}
