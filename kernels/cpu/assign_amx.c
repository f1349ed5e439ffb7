/* Scores of rows and centroids on tiles of 16 x 32 bf16 numbers (AMX). Centroids are the left side and rows
 * the right, so that a register of a product holds 16 rows' scores of one centroid, and the least of a block
 * of centroids is found without looking across registers. Floor: a tile instruction takes 16 cycles for 8192
 * products; loads of tiles (half of that time) and the search for the least (a fifth at 128 components) hide
 * behind them. */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/assign_tiles.h"

#include <math.h>

enum { TILE = 16, TILE_NUMBERS = TILE * SAC_ASSIGN_STEP, SUMS = 4 * TILE * TILE };

/* ---- packing ---------------------------------------------------------------------------------------- */

struct rounded {
    __m512i numbers;
    __m512 whole, lost; /* squares, added up */
};

static inline __m512 widen(__m256i half)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* One step of a row: up to 32 components. Denormal numbers count as 0, here as in the tiles. */
static inline void round_step(const float *x, const float *centre, uint32_t count, __m512 scale,
                              struct rounded *r)
{
    __mmask32 mask = (__mmask32)(count < 32 ? (1u << count) - 1 : UINT32_MAX);
    __m512 low = _mm512_sub_ps(_mm512_maskz_loadu_ps((__mmask16)mask, x),
                               _mm512_maskz_loadu_ps((__mmask16)mask, centre));
    __m512 high = _mm512_sub_ps(_mm512_maskz_loadu_ps((__mmask16)(mask >> 16), x + 16),
                                _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), centre + 16));

    low = _mm512_mul_ps(low, scale);
    high = _mm512_mul_ps(high, scale);
    r->numbers = (__m512i)_mm512_cvtne2ps_pbh(high, low);
    r->whole = _mm512_fmadd_ps(low, low, _mm512_fmadd_ps(high, high, r->whole));
    low = _mm512_sub_ps(low, widen(_mm512_castsi512_si256(r->numbers)));
    high = _mm512_sub_ps(high, widen(_mm512_extracti64x4_epi64(r->numbers, 1)));
    r->lost = _mm512_fmadd_ps(low, low, _mm512_fmadd_ps(high, high, r->lost));
}

static void turn_tile(uint16_t *tile)
{
    __m512i r[TILE];

    for (int i = 0; i < TILE; i++)
        r[i] = _mm512_load_si512(tile + (size_t)i * SAC_ASSIGN_STEP);
    sac_amx_transpose(r);
    for (int i = 0; i < TILE; i++)
        _mm512_store_si512(tile + (size_t)i * SAC_ASSIGN_STEP, r[i]);
}

/* A pack is, step by step, two tiles of 16 rows. */
void sac_assign_tiles_pack(const float *x, uint32_t count, uint32_t dim, const float *centre, float scale,
                           bool turned, uint16_t *pack, float *whole, float *lost)
{
    uint32_t steps = sac_assign_steps(dim);

    for (uint32_t i = 0; i < SAC_ASSIGN_PACK; i++) {
        struct rounded r = {.whole = _mm512_setzero_ps(), .lost = _mm512_setzero_ps()};

        for (uint32_t s = 0; s < steps; s++) {
            uint32_t d = s * SAC_ASSIGN_STEP;

            r.numbers = _mm512_setzero_si512();
            if (i < count)
                round_step(x + (size_t)i * dim + d, centre + d, dim - d, _mm512_set1_ps(scale), &r);
            _mm512_store_si512(pack + (size_t)s * 2 * TILE_NUMBERS + i * SAC_ASSIGN_STEP, r.numbers);
        }
        if (i < count) {
            whole[i] = _mm512_reduce_add_ps(r.whole);
            lost[i] = _mm512_reduce_add_ps(r.lost);
        }
    }
    for (uint32_t t = 0; turned && t < 2 * steps; t++)
        turn_tile(pack + (size_t)t * TILE_NUMBERS);
}

/* ---- products --------------------------------------------------------------------------------------- */

void sac_assign_tiles_begin(void)
{
    sac_amx_configure_whole();
}

void sac_assign_tiles_end(void)
{
    _tile_release();
}

static inline void store(float *sums)
{
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums + TILE * TILE, 64);
    _tile_stored(2, sums + 2 * TILE * TILE, 64);
    _tile_stored(3, sums + 3 * TILE * TILE, 64);
}

/* Sums that were stored, and where what is found in them goes. */
struct stored {
    const float *sums, *norms;
    float *leasts, *least;
};

/* Two chains for each of the 2 x 2 tiles, so that no addition waits for another. */
static inline void find_least(const struct stored *s, size_t stride)
{
    for (int half = 0; half < 2; half++) {
        const float *sums = s->sums + half * 2 * TILE * TILE, *norms = s->norms + half * TILE;
        __m512 least[2][2];

        for (int r = 0; r < 2; r++)
            least[r][0] = least[r][1] = _mm512_set1_ps(INFINITY);
#pragma GCC unroll 16
        for (int i = 0; i < TILE; i++) {
            __m512 norm = _mm512_set1_ps(norms[i]);

            for (int r = 0; r < 2; r++)
                least[r][i % 2] = _mm512_min_ps(
                    least[r][i % 2], _mm512_add_ps(norm, _mm512_load_ps(sums + (r * TILE + i) * TILE)));
        }
        for (int r = 0; r < 2; r++) {
            __m512 both = _mm512_min_ps(least[r][0], least[r][1]);
            float *all = s->least + r * TILE;

            _mm512_store_ps(s->leasts + (size_t)half * stride + r * TILE, both);
            _mm512_store_ps(all, _mm512_min_ps(_mm512_load_ps(all), both));
        }
    }
}

/* The least of a product is looked for while the tiles are busy with the next. */
void sac_assign_tiles_least(const uint16_t *centroids, const float *norms, uint32_t centroid_packs,
                            const uint16_t *rows, uint32_t row_packs, uint32_t steps, float *leasts,
                            float *least)
{
    _Alignas(64) float sums[2][SUMS];
    size_t pack = (size_t)steps * 2 * TILE_NUMBERS, stride = (size_t)row_packs * SAC_ASSIGN_PACK;
    struct stored last = {0};
    int side = 0;

    for (uint32_t c = 0; c < centroid_packs; c++)
        for (uint32_t r = 0; r < row_packs; r++, side = !side) {
            size_t at = (size_t)r * SAC_ASSIGN_PACK;

            sac_amx_multiply(centroids + c * pack, rows + r * pack, steps);
            if (last.sums != NULL)
                find_least(&last, stride);
            store(sums[side]);
            last = (struct stored){sums[side], norms + (size_t)c * SAC_ASSIGN_PACK,
                                   leasts + 2 * c * stride + at, least + at};
        }
    if (last.sums != NULL)
        find_least(&last, stride);
}
