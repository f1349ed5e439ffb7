/* Distances of rows and codewords on tiles of 16 x 32 bf16 numbers (AMX), as good as f32. A number is the sum
 * of three of bf16, to 2^-23 of it (high, middle, low: h, m, l below; those of -2 c are H, M, L), and of the
 * nine products of two numbers the six largest are kept: h H + h M + m H + m M + h L + l H leave out 2^-21 of
 * it. The squared lengths of both are added as products with 1, so what comes out is the distance and no
 * register has to be touched for it. Sub-vectors are short, so all that is still one or two steps of 32
 * numbers.
 *
 * Codewords are the left side and rows the right, so that a register of a product holds 16 rows' distances
 * from one codeword. The last four bits of a distance (2^-20 of it) make room for which of 16 codewords it
 * is, and the least of 16 is found by one instruction for each of them besides. Twin: ref/pq_encode.c.
 *
 * Floor, of 16 rows and 16 codewords of up to 4 components, side by side: 16 cycles of the tiles; 16 for
 * storing the distances; 16 for the least (two instructions on two ports). That is 512 cycles a row of 128
 * components in 32 sub-vectors; measured, 0.43 of the time of the f32 version, whose floor is 2,800. */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/pq_encode_tiles.h"

#include <assert.h>
#include <math.h>

enum { TILE = 16, TILE_NUMBERS = TILE * SAC_PQ_ENCODE_STEP, INDEX_BITS = 0xf };

/* ---- pieces ----------------------------------------------------------------------------------------- */

/* Of 16 numbers; each is in the upper half of its word, zeros below. */
struct pieces {
    __m512i high, middle, low;
};

static inline __m512i upper(__m512 x)
{
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32((int)0xffff0000));
}

static inline struct pieces cut(__m512 x)
{
    struct pieces p;

    p.high = upper(x);
    x = _mm512_sub_ps(x, _mm512_castsi512_ps(p.high));
    p.middle = upper(x);
    x = _mm512_sub_ps(x, _mm512_castsi512_ps(p.middle));
    p.low = upper(x);
    return p;
}

/* The number that comes first is in the lower half. */
static inline __m512i pair(__m512i first, __m512i second)
{
    return _mm512_or_si512(_mm512_srli_epi32(first, 16), second);
}

/* What a pair of pieces meets on the other side is in the same place there. Each function returns where the
 * next goes. */
static inline __m512i *put_row_component(__m512i *to, struct pieces x)
{
    to[0] = pair(x.high, x.high);
    to[1] = pair(x.middle, x.middle);
    to[2] = pair(x.high, x.low);
    return to + 3;
}

static inline __m512i *put_word_component(__m512i *to, struct pieces c)
{
    to[0] = to[1] = pair(c.high, c.middle);
    to[2] = pair(c.low, c.high);
    return to + 3;
}

static inline __m512i ones(void)
{
    return _mm512_castps_si512(_mm512_set1_ps(1));
}

static inline __m512i *put_row_length(__m512i *to, struct pieces x)
{
    to[0] = pair(ones(), ones());
    to[1] = pair(ones(), x.high);
    to[2] = pair(x.middle, x.low);
    return to + 3;
}

static inline __m512i *put_word_length(__m512i *to, struct pieces c)
{
    to[0] = pair(c.high, c.middle);
    to[1] = pair(c.low, ones());
    to[2] = pair(ones(), ones());
    return to + 3;
}

/* ---- packing ---------------------------------------------------------------------------------------- */

/* 16 codewords, step by step a tile. */
static void pack_words(const float *codewords, uint32_t dsub, uint32_t steps, uint16_t *tiles)
{
    __m512i turned[SAC_PQ_ENCODE_STEPS_MAX * TILE], *to = turned + 3, *end = turned + steps * TILE;
    __m512i lanes =
        _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                           _mm512_set1_epi32((int)dsub));
    __m512 length = _mm512_setzero_ps();

    for (uint32_t d = 0; d < dsub; d++) {
        __m512 c = _mm512_i32gather_ps(lanes, codewords + d, 4);

        length = _mm512_fmadd_ps(c, c, length);
        to = put_word_component(to, cut(_mm512_mul_ps(c, _mm512_set1_ps(-2))));
    }
    while (to < end)
        *to++ = _mm512_setzero_si512();
    (void)put_word_length(turned, cut(length));
    for (uint32_t s = 0; s < steps; s++) {
        sac_amx_transpose(turned + s * TILE);
        for (int i = 0; i < TILE; i++, tiles += SAC_PQ_ENCODE_STEP)
            _mm512_storeu_si512(tiles, turned[s * TILE + i]);
    }
}

void sac_pq_encode_tiles_words(const float *codewords, uint32_t count, uint32_t dsub, uint16_t *words)
{
    uint32_t steps = sac_pq_encode_steps(dsub);

    assert(count % SAC_PQ_ENCODE_PAIR == 0);
    for (uint32_t c = 0; c < count; c += TILE)
        pack_words(codewords + (size_t)c * dsub, dsub, steps, words + (size_t)c * steps * SAC_PQ_ENCODE_STEP);
}

void sac_pq_encode_tiles_turn(const float *const *x, const float *const *centroids, uint32_t rows,
                              uint32_t dim, float *to)
{
    for (uint32_t d = 0; d < dim; d += TILE) {
        uint32_t count = dim - d < TILE ? dim - d : TILE;
        __mmask16 mask = (__mmask16)((1u << count) - 1);
        __m512i r[TILE];

        for (uint32_t i = 0; i < TILE; i++) {
            __m512 row = _mm512_maskz_loadu_ps(i < rows ? mask : 0, x[i < rows ? i : 0] + d);

            if (centroids != NULL && i < rows)
                row = _mm512_sub_ps(row, _mm512_maskz_loadu_ps(mask, centroids[i] + d));
            r[i] = _mm512_castps_si512(row);
        }
        sac_amx_transpose(r);
        for (uint32_t i = 0; i < count; i++)
            _mm512_storeu_si512(to + (size_t)(d + i) * TILE, r[i]);
    }
}

/* The right side of products: two groups of 16 rows. */
struct packed_rows {
    __m512i tiles[2][SAC_PQ_ENCODE_STEPS_MAX * TILE];
    uint32_t steps;
};

static void pack_rows(const float *components, uint32_t dsub, uint32_t steps, __m512i *tile)
{
    __m512 length = _mm512_setzero_ps();
    __m512i *to = tile + 3, *end = tile + steps * TILE;

    for (uint32_t d = 0; d < dsub; d++) {
        __m512 x = _mm512_loadu_ps(components + (size_t)d * TILE);

        length = _mm512_fmadd_ps(x, x, length);
        to = put_row_component(to, cut(x));
    }
    while (to < end)
        *to++ = _mm512_setzero_si512();
    (void)put_row_length(tile, cut(length));
}

/* ---- products --------------------------------------------------------------------------------------- */

void sac_pq_encode_tiles_begin(void)
{
    sac_amx_configure_whole();
}

void sac_pq_encode_tiles_end(void)
{
    _tile_release();
}

/* Which of two pairs of tiles (0 and 1, 2 and 3) gets the products of 16 codewords and two groups of rows, is
 * a constant in every caller. Rows of one step stay in their tiles, 6 and 7. */
static inline __attribute__((always_inline)) void multiply(int side, const uint16_t *words,
                                                           const struct packed_rows *rows)
{
    if (side == 0) {
        _tile_zero(0);
        _tile_zero(1);
    } else {
        _tile_zero(2);
        _tile_zero(3);
    }
    for (uint32_t s = 0; s < rows->steps; s++, words += TILE_NUMBERS) {
        if (rows->steps > 1) {
            _tile_loadd(6, rows->tiles[0] + s * TILE, 64);
            _tile_loadd(7, rows->tiles[1] + s * TILE, 64);
        }
        if (side == 0) {
            _tile_loadd(4, words, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
        } else {
            _tile_loadd(5, words, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
}

static inline __attribute__((always_inline)) void store(int side, float *sums)
{
    if (side == 0) {
        _tile_stored(0, sums, 64);
        _tile_stored(1, sums + TILE * TILE, 64);
    } else {
        _tile_stored(2, sums, 64);
        _tile_stored(3, sums + TILE * TILE, 64);
    }
}

/* The nearest codeword so far of each of 16 rows. */
struct nearest {
    __m512 distance; /* its last bits are 0 */
    __m512i code;
};

/* Among equals the first stays. */
static inline void keep_nearer(struct nearest *n, __m512 least, uint32_t first)
{
    __m512i bits = _mm512_castps_si512(least), last = _mm512_set1_epi32(INDEX_BITS);
    __m512 distance = _mm512_castsi512_ps(_mm512_andnot_si512(last, bits));
    __mmask16 less = _mm512_cmp_ps_mask(distance, n->distance, _CMP_LT_OQ);

    n->distance = _mm512_mask_mov_ps(n->distance, less, distance);
    n->code = _mm512_mask_mov_epi32(
        n->code, less, _mm512_or_si512(_mm512_and_si512(bits, last), _mm512_set1_epi32((int)first)));
}

/* Looks at the distances of 32 rows from codewords first .. first + 15; a NaN is never the least. Two chains
 * for each group, so that none waits for another. */
static inline __attribute__((always_inline)) void look(struct nearest nearest[2], const float *sums,
                                                       uint32_t first)
{
    const __m512i last = _mm512_set1_epi32(INDEX_BITS);
    __m512 least[2][2];

    for (int g = 0; g < 2; g++)
        least[g][0] = least[g][1] = _mm512_set1_ps(INFINITY);
#pragma GCC unroll 16
    for (int i = 0; i < TILE; i++)
        for (int g = 0; g < 2; g++) {
            __m512i bits = _mm512_load_si512(sums + (g * TILE + i) * TILE);

            bits = _mm512_or_si512(_mm512_andnot_si512(last, bits), _mm512_set1_epi32(i));
            least[g][i % 2] = _mm512_min_ps(_mm512_castsi512_ps(bits), least[g][i % 2]);
        }
    for (int g = 0; g < 2; g++)
        keep_nearer(&nearest[g], _mm512_min_ps(least[g][0], least[g][1]), first);
}

/* While the tiles are busy with one pair, the other is stored, and the one before that is looked at. */
void sac_pq_encode_tiles_nearest(const uint16_t *words, uint32_t count, uint32_t dsub,
                                 const float *const groups[2], uint8_t codes[SAC_PQ_ENCODE_PAIR])
{
    struct packed_rows rows = {.steps = sac_pq_encode_steps(dsub)};
    size_t size = (size_t)rows.steps * TILE_NUMBERS;
    _Alignas(64) float sums[2][2 * TILE * TILE];
    struct nearest nearest[2];

    for (int g = 0; g < 2; g++) {
        pack_rows(groups[g], dsub, rows.steps, rows.tiles[g]);
        nearest[g] = (struct nearest){_mm512_set1_ps(INFINITY), _mm512_setzero_si512()};
    }
    _tile_loadd(6, rows.tiles[0], 64);
    _tile_loadd(7, rows.tiles[1], 64);
    multiply(0, words, &rows);
    for (uint32_t c = 0; c < count; c += 2 * TILE, words += 2 * size) {
        multiply(1, words + size, &rows);
        store(0, sums[0]);
        if (c > 0)
            look(nearest, sums[1], c - TILE);
        if (c + 2 * TILE < count)
            multiply(0, words + 2 * size, &rows);
        store(1, sums[1]);
        look(nearest, sums[0], c);
    }
    look(nearest, sums[1], count - TILE);
    for (int g = 0; g < 2; g++)
        _mm_storeu_si128((__m128i *)(codes + g * TILE), _mm512_cvtepi32_epi8(nearest[g].code));
}
