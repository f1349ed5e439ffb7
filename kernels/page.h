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

/* Bytes of a page's bias, and of its factors. */
SAC_PAGE_INLINE size_t sac_page_float_bytes(const sac_pq_shape *pq)
{
    return SAC_PAGE_ROWS * sizeof(float) * (pq->factors ? 2 : 1);
}

SAC_PAGE_INLINE size_t sac_page_bytes(const sac_pq_shape *pq)
{
    return sac_page_code_bytes(pq) + sac_page_float_bytes(pq) + SAC_PAGE_ROWS * sizeof(uint32_t);
}

SAC_PAGE_INLINE float *sac_page_bias(const sac_pq_shape *pq, unsigned char *page)
{
    return (float *)(void *)(page + sac_page_code_bytes(pq));
}

/* Where the shape has factors. */
SAC_PAGE_INLINE float *sac_page_factors(const sac_pq_shape *pq, unsigned char *page)
{
    return sac_page_bias(pq, page) + SAC_PAGE_ROWS;
}

SAC_PAGE_INLINE uint32_t *sac_page_slots(const sac_pq_shape *pq, unsigned char *page)
{
    return (uint32_t *)(void *)(page + sac_page_code_bytes(pq) + sac_page_float_bytes(pq));
}

/* Pages that a list of so many entries has. */
SAC_PAGE_INLINE uint32_t sac_page_count(uint32_t rows)
{
    return rows / SAC_PAGE_ROWS + (rows % SAC_PAGE_ROWS != 0);
}

SAC_PAGE_INLINE uint32_t sac_page_code(const sac_pq_shape *pq, const uint8_t *page, uint32_t line, uint32_t j)
{
    if (pq->nbits != 4)
        return page[j * SAC_PAGE_ROWS + line];
    return page[j / 2 * SAC_PAGE_ROWS + line] >> (j % 2 * 4) & 0xf;
}

SAC_PAGE_INLINE void sac_page_code_set(const sac_pq_shape *pq, uint8_t *page, uint32_t line, uint32_t j,
                                       uint8_t code)
{
    uint8_t *byte = page + (pq->nbits == 4 ? j / 2 : j) * SAC_PAGE_ROWS + line;

    if (pq->nbits != 4)
        *byte = code;
    else if (j % 2 == 0)
        *byte = (uint8_t)((*byte & 0xf0) | code);
    else
        *byte = (uint8_t)((*byte & 0x0f) | code << 4);
}

/* Copies the codes, bias, factors and slots of `count` lines of one page to lines of another. */
SAC_PAGE_INLINE void sac_page_copy(const sac_pq_shape *pq, unsigned char *to, uint32_t to_line,
                                   unsigned char *from, uint32_t from_line, uint32_t count)
{
    size_t code_bytes = sac_page_code_bytes(pq);

    for (size_t at = 0; at < code_bytes; at += SAC_PAGE_ROWS)
        memcpy(to + at + to_line, from + at + from_line, count);
    memcpy(sac_page_bias(pq, to) + to_line, sac_page_bias(pq, from) + from_line, count * sizeof(float));
    if (pq->factors)
        memcpy(sac_page_factors(pq, to) + to_line, sac_page_factors(pq, from) + from_line,
               count * sizeof(float));
    memcpy(sac_page_slots(pq, to) + to_line, sac_page_slots(pq, from) + from_line, count * sizeof(uint32_t));
}

#endif
