/* lists.h -- inverted lists as chains of fixed-size pages from one pool, in device memory.
 *
 * Like virtual memory: an entry is added to the last page of its list, a deleted one is overwritten by the
 * list's last entry, and pages that become empty go to the next list that needs one. No entry is ever moved
 * to make room. Chains are pieces of one arena of page numbers, with room for a power of two of them; a chain
 * that outgrows its piece moves to one twice as large.
 *
 * The directory - pages, chains, lists - is what scans read, so it is mirrored on the device (mirror.h). The
 * host also keeps what slot each position (page * SAC_PAGE_ROWS + line) holds and, once something was
 * removed, the position of every slot. Changes are put on the stream and not waited for.
 */
#ifndef SACCADE_LISTS_H
#define SACCADE_LISTS_H

#include "engine/mirror.h"
#include "engine/workspace.h"

#define SAC_NO_POSITION UINT32_MAX
#define SAC_CHAIN_CLASSES 32

typedef struct sac_lists {
    sac_device *device;
    sac_pq_shape pq;
    uint32_t nlist;
    sac_mirror pages;  /* unsigned char *: device memory, by page number */
    sac_mirror chains; /* uint32_t: the arena of page numbers */
    sac_mirror lists;  /* sac_list [nlist] */
    uint64_t layout;   /* goes up when one of those arrays moves */
    uint32_t *rooms;   /* [nlist]: places of each list's piece of the arena, a power of two; 0: it has none */
    uint32_t arena_used;
    uint32_t free_chains[SAC_CHAIN_CLASSES]; /* by class: 1 + the first free piece, which holds the next */
    /* by page number: */
    uint32_t *page_list; /* the list it belongs to */
    uint32_t *slots; /* [page_capacity][SAC_PAGE_ROWS]: what the pages hold; NULL where the host sees them */
    uint32_t *free_pages; /* stack */
    uint32_t page_count, page_capacity, free_count;
    uint32_t strewn; /* pages that lists have been given one by one since they were last gathered */
    void **slabs;    /* device memory, many pages each */
    uint32_t slab_count, slab_capacity;
    /* by slot, from the first removal on: */
    uint32_t *position; /* SAC_NO_POSITION where there is none; NULL: not known yet */
    size_t slot_capacity;
} sac_lists;

sac_status sac_lists_init(sac_lists *lists, sac_device *device, sac_pq_shape pq, uint32_t nlist,
                          sac_error *err);
void sac_lists_free(sac_lists *lists); /* zero-initialised is allowed */

/* Adds n entries: to list index[i] (host) the code codes[i][m] (device), its bias (device), its factor
 * (device; not looked at where the shape has none) and slot (host).
 * Either all are added, or none and an error is returned. No search may run meanwhile. */
sac_status sac_lists_append(sac_lists *lists, sac_workspace *ws, size_t n, const uint32_t *index,
                            const uint8_t *codes, const float *bias, const float *factors,
                            const uint32_t *slots);

/* Takes memory for so many more pages, all in one piece. */
sac_status sac_lists_reserve(sac_lists *lists, sac_workspace *ws, uint32_t pages);

/* Adds `rows` entries at the end of a list whose pages are all full: sac_page_count(rows) whole pages (host),
 * one after the other, their slots those of this list. sac_lists_sync() follows. */
sac_status sac_lists_load(sac_lists *lists, sac_workspace *ws, uint32_t list, uint32_t rows,
                          unsigned char *pages);

/* Moves all pages to one piece of memory, each list's next to each other and none to spare, where many have
 * come one by one, they are not too much, and the host sees them: a CPU reads ahead. No search may run
 * meanwhile. Where there is no memory for it nothing happens. */
void sac_lists_gather(sac_lists *lists);

/* Takes back what was appended last, with the same arguments. No search may run until sac_lists_sync(). */
void sac_lists_withdraw(sac_lists *lists, size_t n, const uint32_t *index, const uint32_t *slots);

/* Finds where every slot's entry is, which nothing but removing asks for: 4 bytes a slot. SAC_NO_MEMORY. */
sac_status sac_lists_know_positions(sac_lists *lists, sac_error *err);

/* Writes to out[slot] the list that holds it, for every slot that has an entry. */
void sac_lists_find_all(const sac_lists *lists, uint32_t *out);

/* Removes the entry of a slot, which has one. No search may run until sac_lists_sync(). Once positions are
 * known it needs no memory. */
sac_status sac_lists_remove(sac_lists *lists, sac_workspace *ws, uint32_t slot);

/* Brings the device's directory up to date. */
sac_status sac_lists_sync(sac_lists *lists, sac_workspace *ws);

/* What scans read. */
sac_list_pool sac_lists_pool(const sac_lists *lists);

/* n * sum(size^2) / (sum size)^2: 1 is even, 2 means that a search reads twice as much as it would then. */
double sac_lists_imbalance(const sac_lists *lists);

/* Bytes of pages in device memory, and of everything that is kept about them. */
uint64_t sac_lists_page_bytes(const sac_lists *lists);
uint64_t sac_lists_directory_bytes(const sac_lists *lists);

static inline uint32_t sac_lists_rows(const sac_lists *lists, uint32_t list)
{
    return ((const sac_list *)lists->lists.host)[list].row_count;
}

/* The pages of a list, in order. */
static inline const uint32_t *sac_lists_chain(const sac_lists *lists, uint32_t list)
{
    return (const uint32_t *)lists->chains.host + ((const sac_list *)lists->lists.host)[list].first;
}

/* How many pages of a list from its first-th on, at most `most`, are one piece of memory; most >= 1. */
uint32_t sac_lists_neighbours(const sac_lists *lists, uint32_t list, uint32_t first, uint32_t most);

/* A page in device memory. */
static inline unsigned char *sac_lists_page(const sac_lists *lists, uint32_t page)
{
    return ((unsigned char *const *)lists->pages.host)[page];
}

#endif
