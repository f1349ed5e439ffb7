/* nearest_tiles.h -- scores of many rows and many queries on tiles of bf16 numbers (nearest_amx.c). */
#ifndef SACCADE_CPU_NEAREST_TILES_H
#define SACCADE_CPU_NEAREST_TILES_H

#include "kernels/cpu/reservoir.h"

enum {
    SAC_NEAREST_PACK = 32, /* rows, or queries, that are multiplied together */
    SAC_NEAREST_STEP = 32, /* components that one instruction multiplies */
};

struct sac_nearest_tiles {
    /* Rounds `scale` (a power of two, or less than 0) times rows[i], i < n <= SAC_NEAREST_PACK, to bf16;
     * other rows of the pack are 0. turned: as the right side of products (rows), else the left (queries). */
    void (*pack)(const void *const *rows, uint32_t n, uint32_t dim, sac_dtype dtype, float scale, bool turned,
                 uint16_t *pack);
    /* out[q][i] = (row_add[i] + query_add[q]) + <query q, row i> for a pack of queries and packs of rows;
     * out [SAC_NEAREST_PACK][SAC_FILTER_ROWS], row_add [SAC_FILTER_ROWS], query_add [SAC_NEAREST_PACK]. */
    void (*scores)(const uint16_t *queries, const uint16_t *rows, uint32_t row_packs, uint32_t dim,
                   const float *row_add, const float *query_add, float *out);
    /* Around scores(), on the thread that calls it. */
    void (*begin)(void);
    void (*end)(void);
};

extern const struct sac_nearest_tiles sac_nearest_tiles_amx;

/* bf16 numbers of a pack. */
static inline size_t sac_nearest_pack_size(uint32_t dim)
{
    return (size_t)(dim + SAC_NEAREST_STEP - 1) / SAC_NEAREST_STEP * SAC_NEAREST_STEP * SAC_NEAREST_PACK;
}

#endif
