/* page.h -- where an entry's codes lie inside a page of an inverted list (the layout of ops.h). */
#ifndef SACCADE_PAGE_H
#define SACCADE_PAGE_H

#include "kernels/ops.h"

/* First byte of the block that holds `line`. */
static inline size_t sac_page_block(const sac_pq_shape *pq, uint32_t line)
{
    return (size_t)(line / SAC_BLOCK_ROWS) * SAC_BLOCK_ROWS * sac_pq_code_bytes(pq->m, pq->nbits);
}

static inline uint32_t sac_page_code(const sac_pq_shape *pq, const uint8_t *codes, uint32_t line, uint32_t j)
{
    const uint8_t *lane = codes + sac_page_block(pq, line) + line % SAC_BLOCK_ROWS;

    if (pq->nbits != 4)
        return lane[(size_t)j * SAC_BLOCK_ROWS];
    return lane[(size_t)(j / 2) * SAC_BLOCK_ROWS] >> (j % 2 * 4) & 0xf;
}

static inline void sac_page_code_set(const sac_pq_shape *pq, uint8_t *codes, uint32_t line, uint32_t j,
                                     uint8_t code)
{
    uint8_t *lane = codes + sac_page_block(pq, line) + line % SAC_BLOCK_ROWS;
    uint8_t *byte = lane + (size_t)(pq->nbits == 4 ? j / 2 : j) * SAC_BLOCK_ROWS;

    if (pq->nbits != 4)
        *byte = code;
    else if (j % 2 == 0)
        *byte = (uint8_t)((*byte & 0xf0) | code);
    else
        *byte = (uint8_t)((*byte & 0x0f) | code << 4);
}

#endif
