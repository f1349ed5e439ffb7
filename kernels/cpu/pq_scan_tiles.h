/* pq_scan_tiles.h -- the list-major scan's inner loops, on tiles of bytes (pq_scan_amx.c). Which rows and
 * queries come together is pq_scan_lists.c's. */
#ifndef SACCADE_CPU_PQ_SCAN_TILES_H
#define SACCADE_CPU_PQ_SCAN_TILES_H

#include "kernels/backend.h"

enum {
    SAC_TILE_QUERIES = 16,  /* of a product, at most */
    SAC_TILES_QUERIES = 64, /* that share decoded pages, at most */
    SAC_TILE_PAGES = 2,     /* decoded at a time, which share the loads of tables */
    SAC_TILE_DEPTH = 64,    /* components that one instruction multiplies */
    SAC_TILE_VALUES = 256,  /* that a byte of a code may have */
};

/* Code words as bytes: component i of a row is about offset[i] + step[i] * level. Whatever the codes' width,
 * each of their bytes stands for the same number of components: of one sub-quantizer, or of two with 4 bits.
 */
struct sac_pq_levels {
    uint32_t bytes;                /* of a code */
    uint32_t width;                /* components of a byte; the last byte may stand for fewer */
    uint32_t components;           /* in all */
    uint32_t depth;                /* the same, rounded up to SAC_TILE_DEPTH */
    uint8_t *table;                /* [components][SAC_TILE_VALUES]: the level for each value of the byte */
    float *offset, *step, *middle; /* [components]; the mean level of all codewords */
};

/* Queries as whole numbers. */
struct sac_pq_numbers {
    const int8_t *numbers; /* [count][depth] */
    const float *units;    /* [count] */
    uint32_t count;        /* 1..SAC_TILES_QUERIES */
    uint32_t group;        /* of a product, as begun; the numbers of a whole last group can be read */
};

/* Pages that are decoded together, and what is asked for meanwhile. */
struct sac_pq_pages {
    unsigned char *pages[SAC_TILE_PAGES];
    uint32_t count; /* 1.. */
    const void *ahead;
    size_t ahead_bytes;
};

/* What a thread works in. */
struct sac_tile_room {
    /* Components of rows; numbers are 0 where there are none. */
    _Alignas(64) uint8_t rows[SAC_TILE_PAGES][SAC_TILE_DEPTH / 4][SAC_PAGE_ROWS][4];
    float scores[SAC_TILE_PAGES][SAC_TILES_QUERIES][SAC_PAGE_ROWS]; /* before: products */
    uint64_t masks[SAC_TILE_PAGES][SAC_TILES_QUERIES];
};

/* Before products of groups of 1..SAC_TILE_QUERIES queries, on the thread that multiplies; after the last. */
void sac_pq_tiles_begin(uint32_t group);
void sac_pq_tiles_end(void);

/* scores[p][q][row] = bias[row] + units[q] * <query q, row>. Bit r of masks[p][q]: scores[p][q][r] is not
 * greater than limits[q], or not comparable with it. bias: by page. */
void sac_pq_tiles_score(const struct sac_pq_levels *levels, const struct sac_pq_numbers *queries,
                        const struct sac_pq_pages *pages, const float *const *bias, const float *limits,
                        struct sac_tile_room *room);

#endif
