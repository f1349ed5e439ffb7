/* lists.h -- inverted lists as chains of fixed-size pages from one pool, in device memory.
 *
 * Like virtual memory: an entry is added to the last page of its list, a deleted one is overwritten by the
 * list's last entry, and pages that become empty go to the next list that needs one. Nothing is ever moved to
 * make room. The host keeps the chains and, for every slot, its position (page * SAC_PAGE_ROWS + line).
 */
#ifndef SACCADE_LISTS_H
#define SACCADE_LISTS_H

#include "engine/workspace.h"

#define SAC_NO_POSITION UINT32_MAX

typedef struct sac_list_chain {
    uint32_t *pages; /* what view.pages points to */
    uint32_t capacity;
} sac_list_chain;

typedef struct sac_lists {
    sac_device *device;
    sac_pq_shape pq;
    uint32_t nlist;
    sac_list_view *views;   /* [nlist] */
    sac_list_chain *chains; /* [nlist] */
    /* by page number: */
    uint8_t **page_codes;  /* device */
    float **page_bias;     /* device */
    uint32_t **page_slots; /* device */
    uint32_t *page_list;   /* the list it belongs to */
    uint32_t *free_pages;  /* stack */
    uint32_t page_count, page_capacity, free_count;
    void **slabs; /* device memory, many pages each */
    uint32_t slab_count, slab_capacity;
    /* by slot: */
    uint32_t *position; /* SAC_NO_POSITION where there is none */
    size_t slot_capacity;
} sac_lists;

sac_status sac_lists_init(sac_lists *lists, sac_device *device, sac_pq_shape pq, uint32_t nlist,
                          sac_error *err);
void sac_lists_free(sac_lists *lists); /* zero-initialised is allowed */

/* Adds n entries: to list index[i] the code codes[i][m] (device), its bias (device) and slot (host). Either
 * all are added, or none and an error is returned. No search may run meanwhile. */
sac_status sac_lists_append(sac_lists *lists, sac_workspace *ws, size_t n, const uint32_t *index,
                            const uint8_t *codes, const float *bias, const uint32_t *slots);

/* Adds one page of 1..SAC_PAGE_ROWS entries at the end of a list whose pages are all full, as it was saved:
 * whole blocks of codes, biases and slots (host). */
sac_status sac_lists_load_page(sac_lists *lists, sac_workspace *ws, uint32_t list, uint32_t rows,
                               const uint8_t *codes, const float *bias, const uint32_t *slots);

/* Removes the entry of a slot. No search may run meanwhile. */
sac_status sac_lists_remove(sac_lists *lists, sac_workspace *ws, uint32_t slot);

/* The list that holds a slot. */
uint32_t sac_lists_of(const sac_lists *lists, uint32_t slot);

/* n * sum(size^2) / (sum size)^2: 1 is even, 2 means that a search reads twice as much as it would then. */
double sac_lists_imbalance(const sac_lists *lists);

/* Bytes of pages in device memory, and of what the host keeps about them. */
uint64_t sac_lists_page_bytes(const sac_lists *lists);
uint64_t sac_lists_host_bytes(const sac_lists *lists);

/* Bytes of the codes of one page. */
static inline size_t sac_lists_code_bytes(const sac_lists *lists)
{
    return SAC_PAGE_ROWS * sac_pq_code_bytes(lists->pq.m, lists->pq.nbits);
}

#endif
