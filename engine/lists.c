#include "engine/lists.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SLAB_BYTES ((size_t)4 << 20)
#define PAGES_MAX (UINT32_MAX / SAC_PAGE_ROWS) /* positions are 32 bits, and the last is "none" */

static size_t page_bytes(const sac_lists *lists)
{
    return sac_lists_code_bytes(lists) + SAC_PAGE_ROWS * (sizeof(float) + sizeof(uint32_t));
}

sac_status sac_lists_init(sac_lists *lists, sac_device *device, sac_pq_shape pq, uint32_t nlist,
                          sac_error *err)
{
    *lists = (sac_lists){.device = device, .pq = pq, .nlist = nlist};
    lists->views = calloc(nlist, sizeof *lists->views);
    lists->chains = calloc(nlist, sizeof *lists->chains);
    if (lists->views == NULL || lists->chains == NULL) {
        sac_lists_free(lists);
        return sac_fail(err, SAC_NO_MEMORY, "no memory for %u lists", nlist);
    }
    return SAC_OK;
}

void sac_lists_free(sac_lists *lists)
{
    for (uint32_t i = 0; lists->chains != NULL && i < lists->nlist; i++)
        free(lists->chains[i].pages);
    for (uint32_t i = 0; i < lists->slab_count; i++)
        sac_buffer_free(lists->device, lists->slabs[i]);
    free(lists->views);
    free(lists->chains);
    free(lists->page_codes);
    free(lists->page_bias);
    free(lists->page_slots);
    free(lists->page_list);
    free(lists->free_pages);
    free(lists->slabs);
    free(lists->position);
    *lists = (sac_lists){0};
}

/* Grows an array to hold `capacity` elements; false leaves it as it was. */
static bool grow(void *array, size_t capacity, size_t size)
{
    void *grown, *old;

    memcpy(&old, array, sizeof old);
    grown = reallocarray(old, capacity, size);
    if (grown != NULL)
        memcpy(array, &grown, sizeof grown);
    return grown != NULL; /* cppcheck-suppress memleak ; it lives on in *array */
}

static bool grow_directory(sac_lists *lists, size_t capacity)
{
    return grow(&lists->page_codes, capacity, sizeof *lists->page_codes) &&
           grow(&lists->page_bias, capacity, sizeof *lists->page_bias) &&
           grow(&lists->page_slots, capacity, sizeof *lists->page_slots) &&
           grow(&lists->page_list, capacity, sizeof *lists->page_list) &&
           grow(&lists->free_pages, capacity, sizeof *lists->free_pages);
}

/* Zeroes a slab, so that lines never written hold codes that tables have. */
static sac_status clear(sac_workspace *ws, void *slab, size_t bytes)
{
    static const unsigned char zeros[65536];
    sac_status st = SAC_OK;

    for (size_t at = 0; st == SAC_OK && at < bytes; at += sizeof zeros)
        st = sac_stream_upload(ws->stream, (unsigned char *)slab + at, zeros,
                               bytes - at < sizeof zeros ? bytes - at : sizeof zeros);
    return st == SAC_OK ? SAC_OK : sac_fail(ws->err, st, "cannot clear pages");
}

static sac_status add_slab(sac_lists *lists, sac_workspace *ws)
{
    size_t bytes = page_bytes(lists);
    uint32_t pages = bytes < SLAB_BYTES ? (uint32_t)(SLAB_BYTES / bytes) : 1;
    uint32_t first = lists->page_count;
    void *slab = NULL;
    sac_status st;

    /* A small index takes small slabs. */
    pages = first / 2 + 4 < pages ? first / 2 + 4 : pages;
    if (pages > PAGES_MAX - first)
        return sac_fail(ws->err, SAC_TOO_LARGE, "the lists hold %u pages, which is all they can", first);
    if (first + pages > lists->page_capacity) {
        uint32_t capacity = lists->page_capacity + lists->page_capacity / 2 + pages;
        if (!grow_directory(lists, capacity))
            return sac_fail(ws->err, SAC_NO_MEMORY, "no memory for a directory of %u pages", capacity);
        lists->page_capacity = capacity;
    }
    if (lists->slab_count == lists->slab_capacity) {
        uint32_t capacity = lists->slab_capacity * 2 + 8;
        if (!grow(&lists->slabs, capacity, sizeof *lists->slabs))
            return sac_fail(ws->err, SAC_NO_MEMORY, "no memory for a directory of pages");
        lists->slab_capacity = capacity;
    }
    st = sac_buffer_alloc(lists->device, pages, bytes, &slab, ws->err);
    if (st == SAC_OK)
        st = clear(ws, slab, pages * bytes);
    if (st != SAC_OK) {
        sac_buffer_free(lists->device, slab);
        return st;
    }
    lists->slabs[lists->slab_count++] = slab;
    for (uint32_t i = pages; i-- > 0;) { /* the lowest ends up on top of the stack */
        unsigned char *page = (unsigned char *)slab + i * bytes;
        lists->page_codes[first + i] = page;
        lists->page_bias[first + i] = (float *)(void *)(page + sac_lists_code_bytes(lists));
        lists->page_slots[first + i] = (uint32_t *)(void *)(lists->page_bias[first + i] + SAC_PAGE_ROWS);
        lists->free_pages[lists->free_count++] = first + i;
    }
    lists->page_count += pages;
    return SAC_OK;
}

/* Gives a list one more page at its end. */
static sac_status extend(sac_lists *lists, sac_workspace *ws, uint32_t list)
{
    sac_list_view *view = &lists->views[list];
    sac_list_chain *chain = &lists->chains[list];
    sac_status st = SAC_OK;
    uint32_t page;

    if (view->page_count == chain->capacity) {
        uint32_t capacity = chain->capacity * 2 + 2;
        if (!grow(&chain->pages, capacity, sizeof *chain->pages))
            return sac_fail(ws->err, SAC_NO_MEMORY, "no memory for a list of %u pages", capacity);
        chain->capacity = capacity;
        view->pages = chain->pages;
    }
    if (lists->free_count == 0)
        st = add_slab(lists, ws);
    if (st != SAC_OK)
        return st;
    page = lists->free_pages[--lists->free_count];
    lists->page_list[page] = list;
    chain->pages[view->page_count++] = page;
    return SAC_OK;
}

/* Where the next entry of a list goes. */
static sac_status claim(sac_lists *lists, sac_workspace *ws, uint32_t list, uint32_t *position)
{
    sac_list_view *view = &lists->views[list];

    assert(list < lists->nlist);
    if (view->row_count == view->page_count * SAC_PAGE_ROWS) {
        sac_status st = extend(lists, ws, list);
        if (st != SAC_OK)
            return st;
    }
    *position = view->pages[view->page_count - 1] * SAC_PAGE_ROWS + view->row_count % SAC_PAGE_ROWS;
    view->row_count++;
    return SAC_OK;
}

/* Takes the last entry off a list, and its page with it where that was the only one. */
static void drop_last(sac_lists *lists, uint32_t list)
{
    sac_list_view *view = &lists->views[list];

    view->row_count--;
    if (view->row_count % SAC_PAGE_ROWS == 0)
        lists->free_pages[lists->free_count++] = view->pages[--view->page_count];
}

static sac_status reserve_positions(sac_lists *lists, sac_workspace *ws, size_t n, const uint32_t *slots)
{
    size_t wanted = 0, capacity;

    for (size_t i = 0; i < n; i++)
        wanted = slots[i] >= wanted ? (size_t)slots[i] + 1 : wanted;
    if (wanted <= lists->slot_capacity)
        return SAC_OK;
    capacity = wanted + wanted / 4 + 64;
    if (!grow(&lists->position, capacity, sizeof *lists->position))
        return sac_fail(ws->err, SAC_NO_MEMORY, "no memory for the positions of %zu vectors", capacity);
    memset(lists->position + lists->slot_capacity, 0xff,
           (capacity - lists->slot_capacity) * sizeof(uint32_t));
    lists->slot_capacity = capacity;
    return SAC_OK;
}

static sac_status write_entries(sac_lists *lists, sac_workspace *ws, size_t n, const uint8_t *codes,
                                const float *bias, const uint32_t *slots, const uint32_t *positions)
{
    uint32_t *device_slots = sac_workspace_device(ws, n, sizeof *slots);
    uint32_t *device_positions = sac_workspace_device(ws, n, sizeof *positions);
    sac_status st;

    if (device_slots == NULL || device_positions == NULL)
        return SAC_NO_MEMORY;
    st = sac_stream_upload(ws->stream, device_slots, slots, n * sizeof *slots);
    if (st == SAC_OK)
        st = sac_stream_upload(ws->stream, device_positions, positions, n * sizeof *positions);
    if (st != SAC_OK)
        return sac_fail(ws->err, st, "cannot copy list entries to the device");
    st = sac_run_list_write(ws, &(struct sac_list_write_args){.pq = lists->pq,
                                                              .page_codes = lists->page_codes,
                                                              .page_bias = lists->page_bias,
                                                              .page_slots = lists->page_slots,
                                                              .codes = codes,
                                                              .bias = bias,
                                                              .slots = device_slots,
                                                              .positions = device_positions,
                                                              .n = n});
    return st == SAC_OK ? sac_stream_wait(ws->stream) : st;
}

sac_status sac_lists_append(sac_lists *lists, sac_workspace *ws, size_t n, const uint32_t *index,
                            const uint8_t *codes, const float *bias, const uint32_t *slots)
{
    sac_workspace_mark mark = sac_workspace_save(ws);
    uint32_t *positions = sac_workspace_host(ws, n, sizeof *positions);
    size_t claimed = 0;
    sac_status st = positions == NULL ? SAC_NO_MEMORY : reserve_positions(lists, ws, n, slots);

    while (st == SAC_OK && claimed < n) {
        st = claim(lists, ws, index[claimed], &positions[claimed]);
        claimed += st == SAC_OK;
    }
    if (st == SAC_OK)
        st = write_entries(lists, ws, n, codes, bias, slots, positions);
    for (size_t i = 0; st == SAC_OK && i < n; i++)
        lists->position[slots[i]] = positions[i];
    while (st != SAC_OK && claimed > 0)
        drop_last(lists, index[--claimed]);
    sac_workspace_restore(ws, mark);
    return st;
}

sac_status sac_lists_load_page(sac_lists *lists, sac_workspace *ws, uint32_t list, uint32_t rows,
                               const uint8_t *codes, const float *bias, const uint32_t *slots)
{
    uint32_t lines = (rows + SAC_BLOCK_ROWS - 1) / SAC_BLOCK_ROWS * SAC_BLOCK_ROWS, page;
    sac_list_view *view = &lists->views[list];
    sac_status st = reserve_positions(lists, ws, rows, slots);

    assert(view->row_count % SAC_PAGE_ROWS == 0);
    if (st == SAC_OK)
        st = extend(lists, ws, list);
    if (st != SAC_OK)
        return st;
    page = view->pages[view->page_count - 1];
    st = sac_stream_upload(ws->stream, lists->page_codes[page], codes,
                           lines * sac_pq_code_bytes(lists->pq.m, lists->pq.nbits));
    if (st == SAC_OK)
        st = sac_stream_upload(ws->stream, lists->page_bias[page], bias, lines * sizeof *bias);
    if (st == SAC_OK)
        st = sac_stream_upload(ws->stream, lists->page_slots[page], slots, lines * sizeof *slots);
    if (st == SAC_OK)
        st = sac_stream_wait(ws->stream);
    if (st != SAC_OK)
        return sac_fail(ws->err, st, "cannot copy a page of a list to the device");
    view->row_count += rows;
    for (uint32_t i = 0; i < rows; i++)
        lists->position[slots[i]] = page * SAC_PAGE_ROWS + i;
    return SAC_OK;
}

uint32_t sac_lists_of(const sac_lists *lists, uint32_t slot)
{
    return lists->page_list[lists->position[slot] / SAC_PAGE_ROWS];
}

sac_status sac_lists_remove(sac_lists *lists, sac_workspace *ws, uint32_t slot)
{
    uint32_t hole = lists->position[slot], list = sac_lists_of(lists, slot);
    const sac_list_view *view = &lists->views[list];
    uint32_t last_line = (view->row_count - 1) % SAC_PAGE_ROWS, last_page = view->pages[view->page_count - 1];
    uint32_t last = last_page * SAC_PAGE_ROWS + last_line, moved = slot;
    sac_status st = SAC_OK;

    assert(hole != SAC_NO_POSITION);
    if (last != hole) {
        st = sac_stream_download(ws->stream, &moved, lists->page_slots[last_page] + last_line, sizeof moved);
        if (st == SAC_OK)
            st = sac_run_list_move(ws, &(struct sac_list_move_args){.pq = lists->pq,
                                                                    .page_codes = lists->page_codes,
                                                                    .page_bias = lists->page_bias,
                                                                    .page_slots = lists->page_slots,
                                                                    .from = last,
                                                                    .to = hole});
        if (st == SAC_OK)
            st = sac_stream_wait(ws->stream);
    }
    if (st != SAC_OK)
        return sac_fail(ws->err, st, "cannot move a list entry: %s", sac_status_text(st));
    lists->position[moved] = hole;
    lists->position[slot] = SAC_NO_POSITION;
    drop_last(lists, list);
    return SAC_OK;
}

double sac_lists_imbalance(const sac_lists *lists)
{
    double sum = 0, squares = 0;

    for (uint32_t i = 0; i < lists->nlist; i++) {
        double size = lists->views[i].row_count;
        sum += size;
        squares += size * size;
    }
    return sum == 0 ? 1 : lists->nlist * squares / (sum * sum);
}

uint64_t sac_lists_page_bytes(const sac_lists *lists)
{
    return (uint64_t)lists->page_count * page_bytes(lists);
}

uint64_t sac_lists_host_bytes(const sac_lists *lists)
{
    uint64_t bytes = lists->slot_capacity * sizeof *lists->position;

    bytes += lists->page_capacity * (3 * sizeof(void *) + 2 * sizeof(uint32_t));
    bytes += lists->nlist * (sizeof *lists->views + sizeof *lists->chains);
    for (uint32_t i = 0; i < lists->nlist; i++)
        bytes += lists->chains[i].capacity * sizeof(uint32_t);
    return bytes;
}
