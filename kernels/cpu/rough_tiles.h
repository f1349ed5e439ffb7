/* rough_tiles.h -- many queries against all rows of bytes at once, on tiles of bytes (rough_amx.c). A product
 * is a whole number, so distances are those of rough.h's kernels to the bit. */
#ifndef SACCADE_CPU_ROUGH_TILES_H
#define SACCADE_CPU_ROUGH_TILES_H

#include "kernels/cpu/rough.h"

enum {
    SAC_ROUGH_QUERIES = 32,                  /* that are multiplied at a time */
    SAC_ROUGH_ROWS = 32,                     /* of a pack: two tiles */
    SAC_ROUGH_WINDOW = 128,                  /* rows whose products stay in L1 */
    SAC_ROUGH_STRIDE = SAC_ROUGH_WINDOW + 16 /* from query to query: not into the same sets of a cache */
};

/* Rows as the right side of products: packs of SAC_ROUGH_ROWS, the last one filled up with zeros. */
struct sac_rough_packs {
    uint32_t n, steps; /* rows; their components, in steps of SAC_ROUGH_STEP */
    int8_t *packs;     /* [ceil(n / SAC_ROUGH_ROWS)][steps][2][16][64], aligned */
    float *scales;     /* [n] */
};

/* Fills one pack and its scales; `rows` [n][sac_row_bytes(SAC_I8, dim)] are all, and SAC_ROUGH_SPARE bytes
 * behind them. */
void sac_rough_tiles_pack(const void *rows, uint32_t dim, const struct sac_rough_packs *to, uint32_t pack);

/* Around products, on the thread that multiplies. */
void sac_rough_tiles_begin(void);
void sac_rough_tiles_end(void);

/* products[q][i - first] = <query q, row i>, q < count <= SAC_ROUGH_QUERIES, first <= i < end; `first` a
 * multiple of SAC_ROUGH_ROWS, end - first <= SAC_ROUGH_WINDOW. There is room for SAC_ROUGH_QUERIES: queries
 * [.][steps * SAC_ROUGH_STEP], of which more than `count` may be multiplied, products [.][SAC_ROUGH_STRIDE],
 * aligned. */
void sac_rough_tiles_multiply(const int8_t *queries, uint32_t count, const struct sac_rough_packs *rows,
                              uint32_t first, uint32_t end, int32_t *products);

/* What the kernels' distances() gives for n rows, by their products with the query. */
void sac_rough_tiles_distances(const struct sac_rough_query *query, const int32_t *products,
                               const float *scales, uint32_t n, const float *norms, float *out);

#endif
