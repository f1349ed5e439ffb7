/* amx.h -- how a thread's AMX tiles are set up, and what fills them. Only for files compiled for AMX. */
#ifndef SACCADE_CPU_AMX_H
#define SACCADE_CPU_AMX_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* All eight tiles have rows of 64 bytes, tile i rows[i] of them, 1..16. */
static inline void sac_amx_configure(const uint8_t rows[8])
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};

    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = rows[i];
    }
    __asm__ volatile("" : : "r"(&config) : "memory"); /* gcc's intrinsic names its first 8 bytes only */
    _tile_loadconfig(&config);
}

/* The same, all of them whole. */
static inline void sac_amx_configure_whole(void)
{
    const uint8_t rows[8] = {16, 16, 16, 16, 16, 16, 16, 16};

    sac_amx_configure(rows);
}

/* Tiles 0 to 3: the products of two tiles of 16 x 32 bf16 numbers from a (4, 5) and two from b (6, 7), over
 * so many steps of two neighbouring tiles each. All tiles are whole. */
static inline void sac_amx_multiply(const uint16_t *a, const uint16_t *b, uint32_t steps)
{
    enum { TILE_NUMBERS = 16 * 32 };

    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (uint32_t s = 0; s < steps; s++, a += 2 * TILE_NUMBERS, b += 2 * TILE_NUMBERS) {
        _tile_loadd(4, a, 64);
        _tile_loadd(6, b, 64);
        _tile_loadd(7, b + TILE_NUMBERS, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(5, a + TILE_NUMBERS, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

/* Turns 16 x 16 words over. */
static inline void sac_amx_transpose(__m512i r[16])
{
    __m512i t[16];

    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        __m512i a = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88),
                b = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        __m512i c = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        __m512i d = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);

        t[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        t[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        t[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
    memcpy(r, t, sizeof t);
}

#endif
