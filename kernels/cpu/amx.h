/* amx.h -- how a thread's AMX tiles are set up. Only for files compiled for AMX. */
#ifndef SACCADE_CPU_AMX_H
#define SACCADE_CPU_AMX_H

#include <immintrin.h>
#include <stdint.h>

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

#endif
