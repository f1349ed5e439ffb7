/* Scores of rows and queries on tiles of 16 x 32 bf16 numbers (AMX), for a search that lets go only of what
 * rounding cannot have moved (nearest.c). Queries are the left side and rows the right, so that a query's
 * scores lie side by side. Twin: ref/nearest.c. Floor: 512 products a cycle; rounding and turning 256 rows
 * over takes as long as multiplying them with some 150 queries. */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/load_avx512.h"
#include "kernels/cpu/nearest_tiles.h"

enum { TILE = 16, TILE_NUMBERS = TILE * SAC_NEAREST_STEP };

/* ---- packing ---------------------------------------------------------------------------------------- */

/* Up to 32 components of a row, from `at` on. */
static inline __attribute__((always_inline)) __m512i round_step(const void *row, uint32_t at, uint32_t dim,
                                                                sac_dtype dtype, __m512 scale)
{
    uint32_t mask = dim - at < 32 ? (1u << (dim - at)) - 1 : UINT32_MAX;
    __m512 low = load16(row, at, (__mmask16)mask, dtype);
    __m512 high = load16(row, at + 16, (__mmask16)(mask >> 16), dtype);

    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(high, scale), _mm512_mul_ps(low, scale));
}

/* 16 rows, for both steps of a pack's tile; dtype is a constant in every caller. */
static inline __attribute__((always_inline)) void pack_tile(const void *const *rows, uint32_t n, uint32_t dim,
                                                            uint32_t at, sac_dtype dtype, float scale,
                                                            bool turned, uint16_t *tile)
{
    __m512i r[TILE];

    for (uint32_t i = 0; i < TILE; i++)
        r[i] = i < n ? round_step(rows[i], at, dim, dtype, _mm512_set1_ps(scale)) : _mm512_setzero_si512();
    if (turned)
        sac_amx_transpose(r);
    for (uint32_t i = 0; i < TILE; i++)
        _mm512_store_si512(tile + (size_t)i * SAC_NEAREST_STEP, r[i]);
}

/* A pack is, step by step, two tiles of 16 rows. */
static void pack(const void *const *rows, uint32_t n, uint32_t dim, sac_dtype dtype, float scale, bool turned,
                 uint16_t *to)
{
    for (uint32_t at = 0; at < dim; at += SAC_NEAREST_STEP)
        for (uint32_t half = 0; half < 2; half++, to += TILE_NUMBERS) {
            const void *const *some = rows + half * TILE;
            uint32_t left = n > half * TILE ? n - half * TILE : 0;

            if (dtype == SAC_I8)
                pack_tile(some, left, dim, at, SAC_I8, scale, turned, to);
            else if (dtype == SAC_F16)
                pack_tile(some, left, dim, at, SAC_F16, scale, turned, to);
            else
                pack_tile(some, left, dim, at, SAC_F32, scale, turned, to);
        }
}

/* ---- products --------------------------------------------------------------------------------------- */

static void begin(void)
{
    sac_amx_configure_whole();
}

static void end(void)
{
    _tile_release();
}

static inline void multiply(const uint16_t *queries, const uint16_t *rows, uint32_t steps, float *out)
{
    const size_t stride = SAC_FILTER_ROWS * sizeof *out;

    sac_amx_multiply(queries, rows, steps);
    _tile_stored(0, out, stride);
    _tile_stored(1, out + TILE, stride);
    _tile_stored(2, out + (size_t)TILE * SAC_FILTER_ROWS, stride);
    _tile_stored(3, out + (size_t)TILE * SAC_FILTER_ROWS + TILE, stride);
}

static void scores(const uint16_t *queries, const uint16_t *rows, uint32_t row_packs, uint32_t dim,
                   const float *row_add, const float *query_add, float *out)
{
    size_t size = sac_nearest_pack_size(dim);
    uint32_t steps = (uint32_t)(size / (2 * TILE_NUMBERS));

    for (uint32_t r = 0; r < row_packs; r++)
        multiply(queries, rows + r * size, steps, out + (size_t)r * SAC_NEAREST_PACK);
    for (uint32_t q = 0; q < SAC_NEAREST_PACK; q++, out += SAC_FILTER_ROWS) {
        __m512 add = _mm512_set1_ps(query_add[q]);

        for (uint32_t i = 0; i < row_packs * SAC_NEAREST_PACK; i += 16)
            _mm512_storeu_ps(out + i, _mm512_add_ps(_mm512_loadu_ps(out + i),
                                                    _mm512_add_ps(_mm512_loadu_ps(row_add + i), add)));
    }
}

const struct sac_nearest_tiles sac_nearest_tiles_amx = {pack, scores, begin, end};
