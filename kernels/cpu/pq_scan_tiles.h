/* pq_scan_tiles.h -- the list-major scan's inner loops, on tiles of bf16 numbers (pq_scan_amx.c). Which rows
 * and queries come together is pq_scan_lists.c's. */
#ifndef SACCADE_CPU_PQ_SCAN_TILES_H
#define SACCADE_CPU_PQ_SCAN_TILES_H

#include "kernels/backend.h"

enum {
    SAC_TILE_QUERIES = 16, /* of a product, at most */
    SAC_TILE_DEPTH = 32,   /* components that one instruction multiplies */
    SAC_TILE_CODES = 16,   /* bytes of a code that are turned at a time */
};

/* Code words as bf16. Whatever the codes' width, each of their bytes stands for the same number of
 * components: of one sub-quantizer, or of two with 4 bits. */
struct sac_pq_words {
    uint32_t bytes;    /* of a code */
    uint32_t count;    /* values that a byte may have: a power of two */
    uint32_t pairs;    /* pairs of components of a byte; the last may be half empty, which is 0 then */
    uint32_t depth;    /* components in all, rounded up to SAC_TILE_DEPTH with zeros */
    uint16_t *numbers; /* [bytes][pairs][count][2]; pairs even: [bytes][pairs / 2][count][4] */
};

/* Decodes whole pages of a list: rows [page_count][depth / 2][SAC_PAGE_ROWS][2]. Components beyond bytes *
 * pairs * 2 are left as they are. */
void sac_pq_tiles_decode(const struct sac_pq_words *words, unsigned char *const *pages, uint32_t page_count,
                         uint16_t *rows);

/* The codes of a page, entry by entry: to [SAC_PAGE_ROWS][stride], stride being words->bytes rounded up to
 * SAC_TILE_CODES; what is beyond the codes is 0. */
void sac_pq_tiles_turn(const uint8_t *codes, uint32_t bytes, uint8_t *to, size_t stride);

/* Around products of 1..SAC_TILE_QUERIES queries, on the thread that multiplies. */
void sac_pq_tiles_begin(uint32_t query_count);
void sac_pq_tiles_end(void);

/* scores[q][row] = bias[row] + <query q, row>: query_count (as begun) times SAC_PAGE_ROWS. queries
 * [query_count][depth]; rows is a decoded page. Denormal numbers count as 0. */
void sac_pq_tiles_multiply(const uint16_t *queries, const uint16_t *rows, uint32_t depth, const float *bias,
                           float *scores);

/* Bit r of masks[q]: scores[q][r] is not greater than limits[q], or not comparable with it. */
void sac_pq_tiles_sieve(const float *scores, uint32_t query_count, const float *limits, uint64_t *masks);

#endif
