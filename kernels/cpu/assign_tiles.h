/* assign_tiles.h -- assign's inner loops on tiles of bf16 numbers (assign_amx.c). Which rows and centroids
 * come together, and what the rounding costs, is assign_blocks.c's. */
#ifndef SACCADE_CPU_ASSIGN_TILES_H
#define SACCADE_CPU_ASSIGN_TILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SAC_ASSIGN_BLOCK = 16, /* centroids of which the least score is kept */
    SAC_ASSIGN_PACK = 32,  /* rows, or centroids, that are multiplied together */
    SAC_ASSIGN_STEP = 32,  /* components that one instruction multiplies */
};

static inline uint32_t sac_assign_steps(uint32_t dim)
{
    return (dim + SAC_ASSIGN_STEP - 1) / SAC_ASSIGN_STEP;
}

/* bf16 numbers of a pack. */
static inline size_t sac_assign_pack_size(uint32_t dim)
{
    return (size_t)sac_assign_steps(dim) * SAC_ASSIGN_STEP * SAC_ASSIGN_PACK;
}

/* Rounds scale * (x - centre) to bf16, for `count` <= SAC_ASSIGN_PACK rows of x [count][dim]; the others of
 * the pack become 0. scale: a power of two. `turned`: as the right side of products (rows), else the left
 * (centroids). Squares of lengths, [count] each: of what was to be rounded, and of what rounding took away.
 */
void sac_assign_tiles_pack(const float *x, uint32_t count, uint32_t dim, const float *centre, float scale,
                           bool turned, uint16_t *pack, float *whole, float *lost);

/* Around products, on the thread that multiplies. */
void sac_assign_tiles_begin(void);
void sac_assign_tiles_end(void);

/* For every block of the centroids' packs and every row of the rows' packs: the least norm + <centroid, row>.
 * norms: [centroid_packs * 32]. leasts: [2 * centroid_packs][32 * row_packs]. least[row] is lowered to the
 * least of its blocks. */
void sac_assign_tiles_least(const uint16_t *centroids, const float *norms, uint32_t centroid_packs,
                            const uint16_t *rows, uint32_t row_packs, uint32_t steps, float *leasts,
                            float *least);

#endif
