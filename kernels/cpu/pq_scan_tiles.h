/* pq_scan_tiles.h -- the list-major scan's inner loops, on tiles of bytes (pq_scan_amx.c). Which rows and
 * queries come together is pq_scan_lists.c's. */
#ifndef SACCADE_CPU_PQ_SCAN_TILES_H
#define SACCADE_CPU_PQ_SCAN_TILES_H

#include "kernels/backend.h"

enum {
    SAC_TILE_QUERIES = 16, /* of a product, at most */
    SAC_TILE_PAGES = 2,    /* decoded at a time, which share the loads of tables */
    SAC_TILE_DEPTH = 64,   /* components that one instruction multiplies */
    SAC_TILE_VALUES = 256, /* that a byte of a code may have */
};

/* Code words as bytes: component i of a row is about offset[i] + step[i] * level. Whatever the codes' width,
 * each of their bytes stands for the same number of components: of one sub-quantizer, or of two with 4 bits.
 */
struct sac_pq_levels {
    uint32_t bytes;       /* of a code */
    uint32_t width;       /* components of a byte; the last byte may stand for fewer */
    uint32_t components;  /* in all */
    uint32_t depth;       /* the same, rounded up to SAC_TILE_DEPTH */
    uint8_t *table;       /* [components][SAC_TILE_VALUES]: the level for each value of the byte */
    float *offset, *step; /* [components] */
};

/* Queries as whole numbers. */
struct sac_pq_numbers {
    const int8_t *numbers; /* [count][depth] */
    const float *units;    /* [count] */
    uint32_t count;        /* 1..SAC_TILE_QUERIES, as begun */
};

/* Decodes 1..SAC_TILE_PAGES pages: rows [count][depth / 4][SAC_PAGE_ROWS][4]. What is beyond the components
 * is left as it is. Meanwhile `ahead_bytes` of what comes next are brought near. */
void sac_pq_tiles_decode(const struct sac_pq_levels *levels, unsigned char *const *pages, uint32_t count,
                         const void *ahead, size_t ahead_bytes, uint8_t *rows);

/* Before products of 1..SAC_TILE_QUERIES queries, on the thread that multiplies; and after the last. */
void sac_pq_tiles_begin(uint32_t query_count);
void sac_pq_tiles_end(void);

/* A decoded page of rows, and what is added to their products. */
struct sac_tile_page {
    const uint8_t *decoded;
    const float *bias;
};

/* scores[p][q][row] = bias[row] + units[q] * <query q, row>: count times queries->count times SAC_PAGE_ROWS,
 * for 1..SAC_TILE_PAGES pages. Bit r of masks[p][q]: scores[p][q][r] is not greater than limits[q], or not
 * comparable with it. */
void sac_pq_tiles_score(const struct sac_pq_numbers *queries, uint32_t depth,
                        const struct sac_tile_page *pages, uint32_t count, const float *limits,
                        float (*scores)[SAC_TILE_QUERIES][SAC_PAGE_ROWS],
                        uint64_t (*masks)[SAC_TILE_QUERIES]);

#endif
