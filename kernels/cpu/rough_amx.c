/* Bytes against bytes on tiles of 16 x 64 (AMX): many queries with all rows. Twin: none, what is chosen is
 * compared (ref/probe.c).
 *
 * Floor, a (query, row) of 128 components: a tile instruction takes 16 cycles for 256 of them and 64
 * components, so 1/8 of a cycle, where rough_vnni.c takes 3.5. 128 bytes a row that come from beyond L2, some
 * 7 a cycle, for 64 queries, take 0.3. */
#include "kernels/cpu/rough_tiles.h"

#include "kernels/cpu/amx.h"
#include "kernels/cpu/rough_avx512.h"

enum {
    TILE = 16,
    TILE_BYTES = TILE * SAC_ROUGH_STEP,
    AHEAD = 2, /* packs that are on their way */
};

/* Neighbouring components of a row come into a word, and the same words of 16 rows side by side. */
static inline void pack_tile(const unsigned char *bytes, size_t row_bytes, uint32_t count, int8_t *tile)
{
    __m512i r[TILE];

    for (uint32_t i = 0; i < TILE; i++)
        r[i] = i < count ? _mm512_loadu_si512(bytes + i * row_bytes) : _mm512_setzero_si512();
    sac_amx_transpose(r);
    for (uint32_t i = 0; i < TILE; i++)
        _mm512_store_si512(tile + (size_t)i * SAC_ROUGH_STEP, r[i]);
}

void sac_rough_tiles_pack(const void *rows, uint32_t dim, const struct sac_rough_packs *to, uint32_t pack)
{
    size_t row_bytes = sac_row_bytes(SAC_I8, dim), step_bytes = 2 * (size_t)TILE_BYTES;
    uint32_t first = pack * SAC_ROUGH_ROWS, left = to->n - first;
    const unsigned char *from = (const unsigned char *)rows + first * row_bytes;
    int8_t *tiles = to->packs + (size_t)pack * to->steps * step_bytes;

    for (uint32_t i = 0; i < SAC_ROUGH_ROWS && i < left; i++)
        memcpy(to->scales + first + i, from + i * row_bytes, sizeof(float));
    from += sizeof(float);
    for (uint32_t s = 0; s < to->steps; s++) {
        pack_tile(from + (size_t)s * SAC_ROUGH_STEP, row_bytes, left, tiles + s * step_bytes);
        pack_tile(from + (size_t)s * SAC_ROUGH_STEP + TILE * row_bytes, row_bytes,
                  left > TILE ? left - TILE : 0, tiles + s * step_bytes + TILE_BYTES);
    }
}

void sac_rough_tiles_begin(void)
{
    sac_amx_configure_whole();
}

void sac_rough_tiles_end(void)
{
    _tile_release();
}

/* Tiles 0 to 3: the products of two tiles of queries (4, 5) and two of rows (6, 7). */
static inline void multiply(const int8_t *queries, const int8_t *rows, uint32_t steps)
{
    size_t query = (size_t)steps * SAC_ROUGH_STEP;

    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (uint32_t s = 0; s < steps; s++, queries += SAC_ROUGH_STEP, rows += 2 * TILE_BYTES) {
        _tile_loadd(4, queries, query);
        _tile_loadd(6, rows, SAC_ROUGH_STEP);
        _tile_loadd(7, rows + TILE_BYTES, SAC_ROUGH_STEP);
        _tile_dpbssd(0, 4, 6);
        _tile_loadd(5, queries + TILE * query, query);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
}

static void fetch(const int8_t *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += SAC_ALIGNMENT)
        __builtin_prefetch(from + at);
}

void sac_rough_tiles_multiply(const int8_t *queries, uint32_t count, const struct sac_rough_packs *rows,
                              uint32_t first, uint32_t end, int32_t *products)
{
    const size_t query = (size_t)rows->steps * SAC_ROUGH_STEP, pack = query * SAC_ROUGH_ROWS;
    const size_t stride = SAC_ROUGH_STRIDE * sizeof *products;
    const int8_t *from = rows->packs + first / SAC_ROUGH_ROWS * pack;

    for (; first < end; first += SAC_ROUGH_ROWS, from += pack, products += SAC_ROUGH_ROWS) {
        if (first + AHEAD * SAC_ROUGH_ROWS < rows->n)
            fetch(from + AHEAD * pack, pack);
        for (size_t q = 0; q < count; q += 2 * TILE) {
            int32_t *to = products + q * SAC_ROUGH_STRIDE, *second = to + (size_t)TILE * SAC_ROUGH_STRIDE;

            multiply(queries + q * query, from, rows->steps);
            _tile_stored(0, to, stride);
            _tile_stored(1, to + TILE, stride);
            _tile_stored(2, second, stride);
            _tile_stored(3, second + TILE, stride);
        }
    }
}

void sac_rough_tiles_distances(const struct sac_rough_query *query, const int32_t *products,
                               const float *scales, uint32_t n, const float *norms, float *out)
{
    for (uint32_t i = 0; i < n; i += TILE) {
        __mmask16 mask = n - i >= TILE ? 0xffff : (__mmask16)((1u << (n - i)) - 1);
        __m512i product = _mm512_maskz_loadu_epi32(mask, products + i);
        __m512 scale = _mm512_maskz_loadu_ps(mask, scales + i);
        __m512 norm = norms != NULL ? _mm512_maskz_loadu_ps(mask, norms + i) : _mm512_setzero_ps();

        _mm512_mask_storeu_ps(out + i, mask, finish16(query, product, 0, scale, norms != NULL, norm));
    }
}
