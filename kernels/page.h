/* page.h -- where things lie inside a page of an inverted list (the layout of ops.h). Also read by CUDA code.
 */
#ifndef SACCADE_PAGE_H
#define SACCADE_PAGE_H

#include "kernels/ops.h"

#include <string.h>

#ifdef __CUDACC__
#define SAC_PAGE_INLINE static inline __host__ __device__
#else
#define SAC_PAGE_INLINE static inline
#endif

/* Bytes of the codes of a page, and of the whole page: a multiple of 64. */
SAC_PAGE_INLINE size_t sac_page_code_bytes(const sac_pq_shape *pq)
{
    return SAC_PAGE_ROWS * (pq->nbits == 4 ? (size_t)(pq->m + 1) / 2 : (size_t)pq->m);
}

SAC_PAGE_INLINE size_t sac_page_bytes(const sac_pq_shape *pq)
{
    return sac_page_code_bytes(pq) + SAC_PAGE_ROWS * (sizeof(float) + sizeof(uint32_t));
}

SAC_PAGE_INLINE float *sac_page_bias(const sac_pq_shape *pq, unsigned char *page)
{
    return (float *)(void *)(page + sac_page_code_bytes(pq));
}

SAC_PAGE_INLINE uint32_t *sac_page_slots(const sac_pq_shape *pq, unsigned char *page)
{
    return (uint32_t *)(void *)(page + sac_page_code_bytes(pq) + SAC_PAGE_ROWS * sizeof(float));
}

/* First byte of the block that holds `line`. */
SAC_PAGE_INLINE size_t sac_page_block(const sac_pq_shape *pq, uint32_t line)
{
    return (size_t)(line / SAC_BLOCK_ROWS) * SAC_BLOCK_ROWS * (sac_page_code_bytes(pq) / SAC_PAGE_ROWS);
}

SAC_PAGE_INLINE uint32_t sac_page_code(const sac_pq_shape *pq, const uint8_t *codes, uint32_t line,
                                       uint32_t j)
{
    const uint8_t *lane = codes + sac_page_block(pq, line) + line % SAC_BLOCK_ROWS;

    if (pq->nbits != 4)
        return lane[(size_t)j * SAC_BLOCK_ROWS];
    return lane[(size_t)(j / 2) * SAC_BLOCK_ROWS] >> (j % 2 * 4) & 0xf;
}

SAC_PAGE_INLINE void sac_page_code_set(const sac_pq_shape *pq, uint8_t *codes, uint32_t line, uint32_t j,
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

/* How many of `left` entries can be copied at once, from a line on to a line on: to the end of a block. */
SAC_PAGE_INLINE uint32_t sac_page_run(uint32_t from_line, uint32_t to_line, uint32_t left)
{
    uint32_t from = SAC_BLOCK_ROWS - from_line % SAC_BLOCK_ROWS,
             to = SAC_BLOCK_ROWS - to_line % SAC_BLOCK_ROWS;
    uint32_t run = from < to ? from : to;

    return run < left ? run : left;
}

/* Copies the codes of such a run. */
SAC_PAGE_INLINE void sac_page_copy(const sac_pq_shape *pq, uint8_t *to, uint32_t to_line, const uint8_t *from,
                                   uint32_t from_line, uint32_t run)
{
    size_t bytes = sac_page_code_bytes(pq) / SAC_PAGE_ROWS;
    uint8_t *to_lane = to + sac_page_block(pq, to_line) + to_line % SAC_BLOCK_ROWS;
    const uint8_t *from_lane = from + sac_page_block(pq, from_line) + from_line % SAC_BLOCK_ROWS;

    for (size_t t = 0; t < bytes; t++)
        memcpy(to_lane + t * SAC_BLOCK_ROWS, from_lane + t * SAC_BLOCK_ROWS, run);
}

#endif
