/* page.h -- where things lie inside a page of an inverted list (the layout of ops.h). Also read by CUDA code.
 */
#ifndef SACCADE_PAGE_H
#define SACCADE_PAGE_H

#include "kernels/ops.h"

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

#endif
