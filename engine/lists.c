#include "engine/lists.h"

#include "kernels/page.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SLAB_LEAST ((size_t)2 << 20) /* but for the first ones: a huge page of the host */
#define SLAB_MOST ((size_t)32 << 20)
#define STREWN_SHARE 4u                        /* lists are gathered when one page in so many */
#define STREWN_LEAST 64u                       /* and so many have come one by one */
#define GATHER_MOST ((size_t)256 << 20)        /* bytes, since they are there twice meanwhile */
#define PAGES_MAX (UINT32_MAX / SAC_PAGE_ROWS) /* positions are 32 bits, and the last is "none" */

static sac_list *list_at(const sac_lists *lists, uint32_t list)
{
    return (sac_list *)lists->lists.host + list;
}

static uint32_t *chain_at(const sac_lists *lists, uint32_t place)
{
    return (uint32_t *)lists->chains.host + place;
}

sac_status sac_lists_init(sac_lists *lists, sac_device *device, sac_pq_shape pq, uint32_t nlist,
                          sac_error *err)
{
    sac_status st;

    *lists = (sac_lists){.device = device, .pq = pq, .nlist = nlist};
    sac_mirror_init(&lists->pages, device, sizeof(unsigned char *));
    sac_mirror_init(&lists->chains, device, sizeof(uint32_t));
    sac_mirror_init(&lists->lists, device, sizeof(sac_list));
    lists->rooms = calloc(nlist, sizeof *lists->rooms);
    st = lists->rooms == NULL ? sac_fail(err, SAC_NO_MEMORY, "no memory for %u lists", nlist) : SAC_OK;
    if (st == SAC_OK) /* so that scans of an empty index have something to point at */
        st = sac_mirror_reserve(&lists->pages, NULL, 1, NULL, err);
    if (st == SAC_OK)
        st = sac_mirror_reserve(&lists->chains, NULL, 1, NULL, err);
    if (st == SAC_OK)
        st = sac_mirror_reserve(&lists->lists, NULL, nlist, NULL, err);
    if (st != SAC_OK)
        sac_lists_free(lists);
    return st;
}

void sac_lists_free(sac_lists *lists)
{
    for (uint32_t i = 0; i < lists->slab_count; i++)
        sac_buffer_free(lists->device, lists->slabs[i]);
    sac_mirror_free(&lists->pages);
    sac_mirror_free(&lists->chains);
    sac_mirror_free(&lists->lists);
    free(lists->rooms);
    free(lists->page_list);
    free(lists->slots);
    free(lists->free_pages);
    free(lists->slabs);
    free(lists->position);
    *lists = (sac_lists){0};
}

/* ---- memory ----------------------------------------------------------------------------------------- */

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

static sac_status reserve_directory(sac_lists *lists, sac_workspace *ws, uint32_t wanted)
{
    uint32_t capacity = wanted + lists->page_capacity / 2;
    bool moved = false;
    sac_status st = sac_mirror_reserve(&lists->pages, ws->stream, wanted, &moved, ws->err);

    lists->layout += moved;
    if (st != SAC_OK || wanted <= lists->page_capacity)
        return st;
    if (!grow(&lists->page_list, capacity, sizeof *lists->page_list) ||
        !grow(&lists->free_pages, capacity, sizeof *lists->free_pages) ||
        (!sac_device_host_visible(lists->device) &&
         !grow(&lists->slots, capacity, SAC_PAGE_ROWS * sizeof *lists->slots)))
        return sac_fail(ws->err, SAC_NO_MEMORY, "no memory for a directory of %u pages", capacity);
    lists->page_capacity = capacity;
    return SAC_OK;
}

/* A slab of zeros, so that lines never written hold codes that tables have. */
static sac_status take_slab(sac_lists *lists, sac_workspace *ws, size_t bytes, unsigned char **out)
{
    void *slab = NULL;
    sac_status st;

    if (lists->slab_count == lists->slab_capacity) {
        uint32_t capacity = lists->slab_capacity * 2 + 8;
        if (!grow(&lists->slabs, capacity, sizeof *lists->slabs))
            return sac_fail(ws->err, SAC_NO_MEMORY, "no memory for a directory of pages");
        lists->slab_capacity = capacity;
    }
    st = sac_buffer_alloc(lists->device, bytes, 1, &slab, ws->err);
    if (st != SAC_OK)
        return st;
    st = sac_stream_clear(ws->stream, slab, bytes);
    if (st != SAC_OK) {
        sac_buffer_free(lists->device, slab);
        return sac_fail(ws->err, st, "cannot clear pages: %s", sac_status_text(st));
    }
    lists->slabs[lists->slab_count++] = slab;
    *out = slab;
    return SAC_OK;
}

/* A slab of so many bytes, with as many pages. */
static sac_status add_slab(sac_lists *lists, sac_workspace *ws, uint32_t pages, size_t bytes)
{
    uint32_t first = lists->page_count;
    unsigned char *slab = NULL;
    sac_status st;

    if (pages > PAGES_MAX - first)
        return sac_fail(ws->err, SAC_TOO_LARGE, "the lists hold %u pages, which is all they can", first);
    st = reserve_directory(lists, ws, first + pages);
    if (st == SAC_OK)
        st = take_slab(lists, ws, bytes, &slab);
    if (st != SAC_OK)
        return st;
    for (uint32_t i = pages; i-- > 0;) { /* the lowest ends up on top of the stack */
        ((unsigned char **)lists->pages.host)[first + i] = slab + i * sac_page_bytes(&lists->pq);
        lists->free_pages[lists->free_count++] = first + i;
    }
    sac_mirror_touch(&lists->pages, first, pages);
    lists->page_count += pages;
    return SAC_OK;
}

/* A small index takes small slabs, a large one whole huge pages of the host: neither has much to spare. */
static sac_status grow_pages(sac_lists *lists, sac_workspace *ws)
{
    size_t each = sac_page_bytes(&lists->pq), slab = lists->page_count * each / 16 / SLAB_LEAST * SLAB_LEAST;
    uint32_t few = lists->page_count / 8 + 4;

    slab = slab > SLAB_LEAST ? slab : SLAB_LEAST;
    slab = slab < SLAB_MOST ? slab : SLAB_MOST;
    return few * each < slab ? add_slab(lists, ws, few, few * each)
                             : add_slab(lists, ws, (uint32_t)(slab / each), slab);
}

sac_status sac_lists_reserve(sac_lists *lists, sac_workspace *ws, uint32_t pages)
{
    return pages > 0 ? add_slab(lists, ws, pages, pages * sac_page_bytes(&lists->pq)) : SAC_OK;
}

/* A piece of the arena with room for 2^class page numbers. */
static sac_status take_chain(sac_lists *lists, sac_workspace *ws, uint32_t class, uint32_t *first)
{
    uint32_t room = UINT32_C(1) << class;
    bool moved = false;
    sac_status st;

    if (lists->free_chains[class] != 0) {
        *first = lists->free_chains[class] - 1;
        lists->free_chains[class] = *chain_at(lists, *first);
        return SAC_OK;
    }
    if (room > UINT32_MAX - lists->arena_used)
        return sac_fail(ws->err, SAC_TOO_LARGE, "the lists' pages are more than their directory can name");
    st = sac_mirror_reserve(&lists->chains, ws->stream, (size_t)lists->arena_used + room, &moved, ws->err);
    lists->layout += moved;
    if (st != SAC_OK)
        return st;
    *first = lists->arena_used;
    lists->arena_used += room;
    return SAC_OK;
}

/* Gives a list whose chain fills its room another of twice the size. */
static sac_status widen_chain(sac_lists *lists, sac_workspace *ws, uint32_t list)
{
    uint32_t room = lists->rooms[list], class = room == 0 ? 0 : (uint32_t)__builtin_ctz(room) + 1, first = 0;
    sac_list *l = list_at(lists, list);
    sac_status st = take_chain(lists, ws, class, &first);

    if (st != SAC_OK)
        return st;
    if (room > 0) {
        memcpy(chain_at(lists, first), chain_at(lists, l->first), room * sizeof(uint32_t));
        *chain_at(lists, l->first) = lists->free_chains[class - 1];
        lists->free_chains[class - 1] = l->first + 1;
    }
    l->first = first;
    lists->rooms[list] = UINT32_C(1) << class;
    sac_mirror_touch(&lists->chains, first, room);
    sac_mirror_touch(&lists->lists, list, 1);
    return SAC_OK;
}

/* Gives a list whose pages are all full one more at its end. */
static sac_status extend(sac_lists *lists, sac_workspace *ws, uint32_t list)
{
    uint32_t at = list_at(lists, list)->row_count / SAC_PAGE_ROWS, page;
    sac_status st = SAC_OK;

    if (at == lists->rooms[list])
        st = widen_chain(lists, ws, list);
    if (st == SAC_OK && lists->free_count == 0)
        st = grow_pages(lists, ws);
    if (st != SAC_OK)
        return st;
    page = lists->free_pages[--lists->free_count];
    lists->page_list[page] = list;
    *chain_at(lists, list_at(lists, list)->first + at) = page;
    sac_mirror_touch(&lists->chains, list_at(lists, list)->first + at, 1);
    return SAC_OK;
}

/* ---- entries ---------------------------------------------------------------------------------------- */

/* Where entry `row` of a list is. */
static uint32_t position_of(const sac_lists *lists, uint32_t list, uint32_t row)
{
    return sac_lists_chain(lists, list)[row / SAC_PAGE_ROWS] * SAC_PAGE_ROWS + row % SAC_PAGE_ROWS;
}

/* Where the last entry of a list is. */
static uint32_t last_position(const sac_lists *lists, uint32_t list)
{
    return position_of(lists, list, sac_lists_rows(lists, list) - 1);
}

static void set_rows(sac_lists *lists, uint32_t list, uint32_t rows)
{
    list_at(lists, list)->row_count = rows;
    sac_mirror_touch(&lists->lists, list, 1);
}

/* Where the next entry of a list goes. */
static sac_status claim(sac_lists *lists, sac_workspace *ws, uint32_t list, uint32_t *position)
{
    assert(list < lists->nlist);
    if (sac_lists_rows(lists, list) % SAC_PAGE_ROWS == 0) {
        sac_status st = extend(lists, ws, list);
        if (st != SAC_OK)
            return st;
        lists->strewn++;
    }
    set_rows(lists, list, sac_lists_rows(lists, list) + 1);
    *position = last_position(lists, list);
    return SAC_OK;
}

/* Takes the last entry off a list, and its page with it where that was the only one. */
static void drop_last(sac_lists *lists, uint32_t list)
{
    uint32_t page = last_position(lists, list) / SAC_PAGE_ROWS;

    set_rows(lists, list, sac_lists_rows(lists, list) - 1);
    if (sac_lists_rows(lists, list) % SAC_PAGE_ROWS == 0)
        lists->free_pages[lists->free_count++] = page;
}

static uint32_t slot_at(const sac_lists *lists, uint32_t position)
{
    uint32_t page = position / SAC_PAGE_ROWS, line = position % SAC_PAGE_ROWS;

    if (lists->slots != NULL)
        return lists->slots[position];
    return sac_page_slots(&lists->pq, sac_lists_page(lists, page))[line];
}

static void note(sac_lists *lists, uint32_t slot, uint32_t position)
{
    if (lists->position != NULL)
        lists->position[slot] = position;
    if (lists->slots != NULL)
        lists->slots[position] = slot;
}

static sac_status grow_positions(sac_lists *lists, size_t wanted, sac_error *err)
{
    size_t capacity = wanted + wanted / 4 + 64;

    if (wanted <= lists->slot_capacity)
        return SAC_OK;
    if (!grow(&lists->position, capacity, sizeof *lists->position))
        return sac_fail(err, SAC_NO_MEMORY, "no memory for the positions of %zu vectors", capacity);
    memset(lists->position + lists->slot_capacity, 0xff,
           (capacity - lists->slot_capacity) * sizeof(uint32_t));
    lists->slot_capacity = capacity;
    return SAC_OK;
}

static sac_status reserve_positions(sac_lists *lists, size_t n, const uint32_t *slots, sac_error *err)
{
    size_t wanted = 0;

    if (lists->position == NULL)
        return SAC_OK;
    for (size_t i = 0; i < n; i++)
        wanted = slots[i] >= wanted ? (size_t)slots[i] + 1 : wanted;
    return grow_positions(lists, wanted, err);
}

/* Where the entries of a list are now. */
static void note_list(sac_lists *lists, uint32_t list)
{
    uint32_t rows = sac_lists_rows(lists, list);

    for (uint32_t row = 0; row < rows; row += SAC_PAGE_ROWS)
        lists->page_list[position_of(lists, list, row) / SAC_PAGE_ROWS] = list;
    for (uint32_t row = 0; lists->position != NULL && row < rows; row++) {
        uint32_t position = position_of(lists, list, row);

        lists->position[slot_at(lists, position)] = position;
    }
}

sac_status sac_lists_know_positions(sac_lists *lists, sac_error *err)
{
    size_t wanted = 1;
    sac_status st;

    if (lists->position != NULL)
        return SAC_OK;
    for (uint32_t l = 0; l < lists->nlist; l++)
        for (uint32_t row = 0; row < sac_lists_rows(lists, l); row++) {
            uint32_t slot = slot_at(lists, position_of(lists, l, row));
            wanted = slot >= wanted ? (size_t)slot + 1 : wanted;
        }
    st = grow_positions(lists, wanted, err);
    for (uint32_t l = 0; st == SAC_OK && l < lists->nlist; l++)
        note_list(lists, l);
    return st;
}

void sac_lists_find_all(const sac_lists *lists, uint32_t *out)
{
    for (uint32_t l = 0; l < lists->nlist; l++)
        for (uint32_t row = 0; row < sac_lists_rows(lists, l); row++)
            out[slot_at(lists, position_of(lists, l, row))] = l;
}

static sac_status write_entries(sac_lists *lists, sac_workspace *ws, size_t n, const uint8_t *codes,
                                const float *bias, const float *factors, const sac_span *slots,
                                const sac_span *positions)
{
    sac_status st = sac_lists_sync(lists, ws);

    if (st == SAC_OK)
        st = sac_span_push(ws, slots);
    if (st == SAC_OK)
        st = sac_span_push(ws, positions);
    if (st != SAC_OK)
        return st;
    return sac_run_list_write(ws, &(struct sac_list_write_args){.pq = lists->pq,
                                                                .pages = lists->pages.copy,
                                                                .codes = codes,
                                                                .bias = bias,
                                                                .factors = factors,
                                                                .slots = slots->device,
                                                                .positions = positions->device,
                                                                .n = n});
}

sac_status sac_lists_append(sac_lists *lists, sac_workspace *ws, size_t n, const uint32_t *index,
                            const uint8_t *codes, const float *bias, const float *factors,
                            const uint32_t *slots)
{
    sac_span given, positions;
    size_t claimed = 0;
    sac_status st;

    if (!sac_workspace_span(ws, n, sizeof *slots, &given) ||
        !sac_workspace_span(ws, n, sizeof(uint32_t), &positions))
        return sac_workspace_failure(ws);
    memcpy(given.host, slots, given.bytes);
    st = reserve_positions(lists, n, slots, ws->err);
    while (st == SAC_OK && claimed < n) {
        st = claim(lists, ws, index[claimed], (uint32_t *)positions.host + claimed);
        claimed += st == SAC_OK;
    }
    if (st == SAC_OK)
        st = write_entries(lists, ws, n, codes, bias, factors, &given, &positions);
    for (size_t i = 0; st == SAC_OK && i < n; i++)
        note(lists, slots[i], ((const uint32_t *)positions.host)[i]);
    if (st != SAC_OK) {
        sac_lists_withdraw(lists, claimed, index, slots);
        (void)sac_lists_sync(lists, ws); /* the first failure is the one to tell */
    }
    return st;
}

/* Gives a list places for entries whose slots lie in pages; on failure it may have some of them. */
static sac_status claim_loaded(sac_lists *lists, sac_workspace *ws, uint32_t list, uint32_t rows,
                               unsigned char *pages)
{
    sac_status st = SAC_OK;

    for (uint32_t at = 0, count; st == SAC_OK && at < rows; at += count) {
        count = rows - at < SAC_PAGE_ROWS ? rows - at : SAC_PAGE_ROWS;
        st = reserve_positions(lists, count, sac_page_slots(&lists->pq, pages), ws->err);
        if (st == SAC_OK)
            st = extend(lists, ws, list);
        if (st == SAC_OK)
            set_rows(lists, list, sac_lists_rows(lists, list) + count);
        pages += sac_page_bytes(&lists->pq);
    }
    return st;
}

/* Copies pages to those of a list from number `first` on. */
static sac_status upload_pages(const sac_lists *lists, sac_workspace *ws, uint32_t list, uint32_t first,
                               uint32_t count, const unsigned char *pages)
{
    size_t bytes = sac_page_bytes(&lists->pq);
    sac_status st = SAC_OK;

    for (uint32_t i = 0, run; st == SAC_OK && i < count; i += run) {
        run = sac_lists_neighbours(lists, list, first + i, count - i);
        st = sac_stream_upload(ws->stream, sac_lists_page(lists, sac_lists_chain(lists, list)[first + i]),
                               pages + i * bytes, run * bytes);
    }
    return st == SAC_OK ? SAC_OK
                        : sac_fail(ws->err, st, "cannot copy a list to the device: %s", sac_status_text(st));
}

sac_status sac_lists_load(sac_lists *lists, sac_workspace *ws, uint32_t list, uint32_t rows,
                          unsigned char *pages)
{
    uint32_t before = sac_lists_rows(lists, list), first = before / SAC_PAGE_ROWS;
    size_t bytes = sac_page_bytes(&lists->pq);
    sac_status st;

    assert(before % SAC_PAGE_ROWS == 0);
    st = claim_loaded(lists, ws, list, rows, pages);
    if (st == SAC_OK)
        st = upload_pages(lists, ws, list, first, sac_page_count(rows), pages);
    if (st != SAC_OK) {
        while (sac_lists_rows(lists, list) > before)
            drop_last(lists, list);
        return st;
    }
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t page = i / SAC_PAGE_ROWS, line = i % SAC_PAGE_ROWS;

        note(lists, sac_page_slots(&lists->pq, pages + page * bytes)[line],
             sac_lists_chain(lists, list)[first + page] * SAC_PAGE_ROWS + line);
    }
    return SAC_OK;
}

/* ---- order ------------------------------------------------------------------------------------------ */

/* Copies the pages of all lists into a slab, one list after the other, and numbers them anew. */
static void move_pages(sac_lists *lists, unsigned char *const *from, unsigned char *slab)
{
    unsigned char **pages = lists->pages.host;
    size_t bytes = sac_page_bytes(&lists->pq);
    uint32_t next = 0;

    for (uint32_t l = 0; l < lists->nlist; l++) {
        for (uint32_t i = 0; i < sac_page_count(sac_lists_rows(lists, l)); i++, next++) {
            uint32_t *number = chain_at(lists, list_at(lists, l)->first + i);

            pages[next] = slab + next * bytes;
            memcpy(pages[next], from[*number], bytes);
            *number = next;
        }
        note_list(lists, l);
    }
}

void sac_lists_gather(sac_lists *lists)
{
    uint32_t used = lists->page_count - lists->free_count;
    size_t bytes = sac_page_bytes(&lists->pq);
    unsigned char **from;
    void *slab = NULL;

    if (!sac_device_host_visible(lists->device) || used == 0 || used * bytes > GATHER_MOST ||
        lists->strewn < used / STREWN_SHARE + STREWN_LEAST)
        return;
    from = reallocarray(NULL, lists->page_count, sizeof *from);
    if (from != NULL && sac_buffer_alloc(lists->device, used, bytes, &slab, NULL) == SAC_OK) {
        memcpy(from, lists->pages.host, lists->page_count * sizeof *from);
        move_pages(lists, from, slab);
        for (uint32_t i = 0; i < lists->slab_count; i++)
            sac_buffer_free(lists->device, lists->slabs[i]);
        lists->slabs[0] = slab;
        lists->slab_count = 1;
        lists->page_count = used;
        lists->free_count = 0;
        lists->strewn = 0;
    }
    free(from);
}

/* ---- looking ---------------------------------------------------------------------------------------- */

uint32_t sac_lists_neighbours(const sac_lists *lists, uint32_t list, uint32_t first, uint32_t most)
{
    const uint32_t *chain = sac_lists_chain(lists, list) + first;
    const unsigned char *page = sac_lists_page(lists, chain[0]);
    uint32_t count = 1;

    while (count < most && sac_lists_page(lists, chain[count]) == page + count * sac_page_bytes(&lists->pq))
        count++;
    return count;
}

void sac_lists_withdraw(sac_lists *lists, size_t n, const uint32_t *index, const uint32_t *slots)
{
    for (size_t i = n; i-- > 0;) {
        if (lists->position != NULL)
            lists->position[slots[i]] = SAC_NO_POSITION;
        drop_last(lists, index[i]);
    }
}

sac_status sac_lists_remove(sac_lists *lists, sac_workspace *ws, uint32_t slot)
{
    sac_status st = sac_lists_know_positions(lists, ws->err);
    uint32_t hole, list, last, moved;

    if (st != SAC_OK)
        return st;
    assert(slot < lists->slot_capacity && lists->position[slot] != SAC_NO_POSITION);
    hole = lists->position[slot];
    list = lists->page_list[hole / SAC_PAGE_ROWS];
    last = last_position(lists, list);
    moved = slot_at(lists, last);
    if (last != hole)
        st =
            sac_run_list_move(ws, &(struct sac_list_move_args){
                                      .pq = lists->pq, .pages = lists->pages.copy, .from = last, .to = hole});
    if (st != SAC_OK)
        return st;
    note(lists, moved, hole);
    lists->position[slot] = SAC_NO_POSITION;
    drop_last(lists, list);
    return SAC_OK;
}

sac_status sac_lists_sync(sac_lists *lists, sac_workspace *ws)
{
    sac_status st = sac_mirror_sync(&lists->pages, ws->stream);

    if (st == SAC_OK)
        st = sac_mirror_sync(&lists->chains, ws->stream);
    if (st == SAC_OK)
        st = sac_mirror_sync(&lists->lists, ws->stream);
    return st == SAC_OK ? SAC_OK : sac_fail(ws->err, st, "cannot update the lists: %s", sac_status_text(st));
}

sac_list_pool sac_lists_pool(const sac_lists *lists)
{
    return (sac_list_pool){.pq = lists->pq,
                           .nlist = lists->nlist,
                           .pages = lists->pages.copy,
                           .chains = lists->chains.copy,
                           .lists = lists->lists.copy};
}

double sac_lists_imbalance(const sac_lists *lists)
{
    double sum = 0, squares = 0;

    for (uint32_t i = 0; i < lists->nlist; i++) {
        double size = sac_lists_rows(lists, i);
        sum += size;
        squares += size * size;
    }
    return sum == 0 ? 1 : lists->nlist * squares / (sum * sum);
}

uint64_t sac_lists_page_bytes(const sac_lists *lists)
{
    return (uint64_t)lists->page_count * sac_page_bytes(&lists->pq);
}

uint64_t sac_lists_directory_bytes(const sac_lists *lists)
{
    uint64_t each = 2 * sizeof(uint32_t) + (lists->slots != NULL ? SAC_PAGE_ROWS * sizeof(uint32_t) : 0);

    return lists->slot_capacity * sizeof *lists->position + lists->page_capacity * each +
           lists->nlist * sizeof *lists->rooms + sac_mirror_bytes(&lists->pages) +
           sac_mirror_bytes(&lists->chains) + sac_mirror_bytes(&lists->lists);
}
