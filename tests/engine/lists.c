/* Inverted lists against a plain table of what each slot should hold, under random churn. */
#include "engine/lists.h"
#include "engine/random.h"
#include "kernels/page.h"
#include "tests/engine/training.h"

enum { NLIST = 7, M = 5, SLOTS = 3000, STEPS = 400 };

struct entry {
    uint32_t list;
    uint8_t codes[M];
    float bias;
    bool held, waiting; /* waiting: drawn, to be appended with others */
};

/* What the device has is what the host has. */
static void check_mirror(struct training *t, const sac_mirror *mirror)
{
    sac_span span;

    assert_true(sac_workspace_view(t->ws, mirror->copy, mirror->capacity, mirror->size, &span));
    assert_ok(sac_span_pull(t->ws, &span));
    assert_memory_equal(span.host, mirror->host, span.bytes);
}

static void check_mirrors(struct training *t, const sac_lists *lists)
{
    check_mirror(t, &lists->pages);
    check_mirror(t, &lists->lists);
    for (uint32_t l = 0; l < NLIST; l++) { /* the rest of the arena is the host's */
        uint32_t pages = sac_page_count(sac_lists_rows(lists, l));
        sac_span span;

        if (pages == 0)
            continue;
        assert_true(sac_workspace_view(
            t->ws, (uint32_t *)lists->chains.copy + ((const sac_list *)lists->lists.host)[l].first, pages,
            sizeof(uint32_t), &span));
        assert_ok(sac_span_pull(t->ws, &span));
        assert_memory_equal(span.host, sac_lists_chain(lists, l), span.bytes);
    }
    sac_workspace_reset(t->ws);
}

/* A page as the host sees it. */
static unsigned char *page_of(struct training *t, const sac_lists *lists, uint32_t page)
{
    size_t bytes = sac_page_bytes(&lists->pq);
    sac_span span;

    assert_true(sac_workspace_view(t->ws, sac_lists_page(lists, page), bytes, 1, &span));
    assert_ok(sac_span_pull(t->ws, &span));
    return span.host;
}

/* Entry `row` of a list is what its slot should hold. */
static void check_entry(struct training *t, const sac_lists *lists, const struct entry *entries,
                        uint32_t list, uint32_t row)
{
    uint32_t number = sac_lists_chain(lists, list)[row / SAC_PAGE_ROWS], line = row % SAC_PAGE_ROWS, slot;
    unsigned char *page = page_of(t, lists, number);
    const struct entry *e;

    slot = sac_page_slots(&lists->pq, page)[line];
    assert_true(slot < SLOTS);
    e = &entries[slot];
    assert_true(e->held);
    assert_int_equal(e->list, list);
    assert_true(sac_page_bias(&lists->pq, page)[line] == e->bias);
    for (uint32_t j = 0; j < M; j++)
        assert_int_equal(sac_page_code(&lists->pq, page, line, j), e->codes[j]);
    if (lists->position != NULL)
        assert_int_equal(lists->position[slot], number * SAC_PAGE_ROWS + line);
    sac_workspace_reset(t->ws);
}

static void check(struct training *t, sac_lists *lists, const struct entry *entries)
{
    uint32_t held[NLIST] = {0};
    size_t pages = 0;

    assert_ok(sac_lists_sync(lists, t->ws));
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        held[entries[slot].list] += entries[slot].held;
    for (uint32_t l = 0; l < NLIST; l++) {
        assert_int_equal(sac_lists_rows(lists, l), held[l]);
        pages += sac_page_count(held[l]);
        for (uint32_t row = 0; row < held[l]; row++)
            check_entry(t, lists, entries, l, row);
    }
    assert_int_equal(pages + lists->free_count, lists->page_count);
    check_mirrors(t, lists);
}

static void append(struct training *t, sac_lists *lists, struct entry *entries, const uint32_t *slots,
                   size_t n)
{
    uint32_t index[64];
    sac_span codes, bias;

    assert_true(sac_workspace_span(t->ws, 64, M, &codes));
    assert_true(sac_workspace_span(t->ws, 64, sizeof(float), &bias));
    for (size_t i = 0; i < n; i++) {
        index[i] = entries[slots[i]].list;
        ((float *)bias.host)[i] = entries[slots[i]].bias;
        memcpy((uint8_t *)codes.host + i * M, entries[slots[i]].codes, M);
        entries[slots[i]].held = true;
        entries[slots[i]].waiting = false;
    }
    assert_ok(sac_span_push(t->ws, &codes));
    assert_ok(sac_span_push(t->ws, &bias));
    assert_ok(sac_lists_append(lists, t->ws, n, index, codes.device, bias.device, NULL, slots));
    sac_workspace_reset(t->ws);
}

static void churn(uint32_t nbits)
{
    static struct entry entries[SLOTS];
    struct training *t = training_open("ref", 1);
    sac_random random = {nbits};
    sac_lists lists;
    uint32_t peak = 0;

    memset(entries, 0, sizeof entries);
    assert_ok(
        sac_lists_init(&lists, t->device, (sac_pq_shape){.m = M, .nbits = nbits, .dsub = 1}, NLIST, err));
    for (int step = 0; step < STEPS; step++) {
        uint32_t slots[64];
        size_t n = 0;
        for (int i = 0; i < 64; i++) {
            uint32_t slot = (uint32_t)sac_random_below(&random, SLOTS);
            struct entry *e = &entries[slot];
            if (e->held && step % 3 != 0) {
                assert_ok(sac_lists_remove(&lists, t->ws, slot));
                e->held = false;
            } else if (!e->held && !e->waiting) {
                e->list = (uint32_t)sac_random_below(&random, 20) % (1 + slot % NLIST); /* uneven */
                e->bias = (float)sac_random_unit(&random);
                for (uint32_t j = 0; j < M; j++)
                    e->codes[j] = (uint8_t)sac_random_below(&random, 1u << nbits);
                e->waiting = true;
                slots[n++] = slot;
            }
        }
        append(t, &lists, entries, slots, n);
        peak = lists.page_count > peak ? lists.page_count : peak;
        if (step % 40 == 0)
            check(t, &lists, entries);
        if (step % 60 == 0)
            sac_lists_gather(&lists);
    }
    check(t, &lists, entries);
    assert_true(peak < 60); /* pages are used again */
    assert_true(sac_lists_imbalance(&lists) > 1);
    sac_lists_free(&lists);
    training_close(t);
}

static void lists_hold_what_was_put_in(void **state)
{
    (void)state;
    for (uint32_t nbits = 4; nbits <= 8; nbits += 2)
        churn(nbits);
}

/* ---- page by page ---- */

enum { EDGE = 5 * SAC_PAGE_ROWS };

/* A list of n entries whose slot, bias and codes follow from their number. */
static void fill_one(struct training *t, sac_lists *lists, struct entry *entries, uint32_t list,
                     uint32_t first, uint32_t n)
{
    for (uint32_t at = 0, count; at < n; at += count) {
        uint32_t slots[64];

        count = n - at < 64 ? n - at : 64;
        for (uint32_t i = 0; i < count; i++) {
            struct entry *e = &entries[first + at + i];

            *e = (struct entry){.list = list, .bias = (float)(first + at + i)};
            for (uint32_t j = 0; j < M; j++)
                e->codes[j] = (uint8_t)((first + at + i) * (j + 3) % 16);
            slots[i] = first + at + i;
        }
        append(t, lists, entries, slots, count);
    }
}

/* Lists that end around the end of a page, emptied from the front, from the back and from the middle. */
static void deletions_cross_pages(void **state)
{
    static const uint32_t sizes[NLIST] = {1, 63, 64, 65, 128, 129, EDGE};
    static struct entry entries[SLOTS];
    struct training *t = training_open("ref", 1);
    sac_lists lists;

    (void)state;
    memset(entries, 0, sizeof entries);
    assert_ok(sac_lists_init(&lists, t->device, (sac_pq_shape){.m = M, .nbits = 4, .dsub = 1}, NLIST, err));
    for (uint32_t l = 0, first = 0; l < NLIST; first += sizes[l++])
        fill_one(t, &lists, entries, l, first, sizes[l]);
    check(t, &lists, entries);
    for (uint32_t turn = 0; turn < 3; turn++)
        for (uint32_t l = 0, first = 0; l < NLIST; first += sizes[l++]) {
            for (uint32_t i = 0; i < sizes[l] / 3; i++) {
                uint32_t slot = first + (turn == 0 ? i : turn == 1 ? sizes[l] - 1 - i : sizes[l] / 3 + i);

                assert_ok(sac_lists_remove(&lists, t->ws, slot));
                entries[slot].held = false;
            }
            check(t, &lists, entries);
        }
    sac_lists_free(&lists);
    training_close(t);
}

/* Pages given out in turns, some of which have become free again. */
static void gathered_lists_are_one_piece(void **state)
{
    static struct entry entries[SLOTS];
    struct training *t = training_open("ref", 1);
    sac_lists lists;

    (void)state;
    memset(entries, 0, sizeof entries);
    assert_ok(sac_lists_init(&lists, t->device, (sac_pq_shape){.m = M, .nbits = 4, .dsub = 1}, NLIST, err));
    for (uint32_t first = 0; first + 30 <= SLOTS; first += 30)
        fill_one(t, &lists, entries, first / 30 % NLIST, first, 30);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        if (entries[slot].held && (entries[slot].list == 3 || slot % 11 == 0)) {
            assert_ok(sac_lists_remove(&lists, t->ws, slot));
            entries[slot].held = false;
        }
    lists.strewn = lists.page_count * 2; /* as of a larger index */
    sac_lists_gather(&lists);
    check(t, &lists, entries);
    if (sac_device_host_visible(t->device)) {
        assert_int_equal(lists.free_count, 0);
        for (uint32_t l = 0, next = 0; l < NLIST; l++)
            for (uint32_t i = 0; i < sac_page_count(sac_lists_rows(&lists, l)); i++)
                assert_int_equal(sac_lists_chain(&lists, l)[i], next++);
    }
    for (uint32_t slot = 0; slot < SLOTS; slot++) /* what is free now can be used */
        if (!entries[slot].held)
            fill_one(t, &lists, entries, slot % NLIST, slot, 1);
    check(t, &lists, entries);
    sac_lists_free(&lists);
    training_close(t);
}

static void loaded_lists_are_one_piece(void **state)
{
    static const uint32_t sizes[NLIST] = {0, 63, 64, 65, 1, 129, EDGE};
    static struct entry entries[SLOTS];
    struct training *t = training_open("ref", 1);
    sac_pq_shape pq = {.m = M, .nbits = 8, .dsub = 1};
    size_t bytes = sac_page_bytes(&pq);
    unsigned char *pages = calloc(EDGE / SAC_PAGE_ROWS, bytes);
    uint32_t slot = 0, all = 0;
    sac_lists lists;

    (void)state;
    memset(entries, 0, sizeof entries);
    assert_ok(sac_lists_init(&lists, t->device, pq, NLIST, err));
    for (uint32_t l = 0; l < NLIST; l++)
        all += sac_page_count(sizes[l]);
    assert_ok(sac_lists_reserve(&lists, t->ws, all));
    for (uint32_t l = 0; l < NLIST; l++) {
        for (uint32_t i = 0; i < sizes[l]; i++, slot++) {
            unsigned char *page = pages + i / SAC_PAGE_ROWS * bytes;

            entries[slot] = (struct entry){.list = l, .bias = (float)slot, .held = true};
            for (uint32_t j = 0; j < M; j++) {
                entries[slot].codes[j] = (uint8_t)(slot * (j + 3));
                sac_page_code_set(&pq, page, i % SAC_PAGE_ROWS, j, entries[slot].codes[j]);
            }
            sac_page_bias(&pq, page)[i % SAC_PAGE_ROWS] = (float)slot;
            sac_page_slots(&pq, page)[i % SAC_PAGE_ROWS] = slot;
        }
        assert_ok(sac_lists_load(&lists, t->ws, l, sizes[l], pages));
        if (sizes[l] > 0)
            assert_int_equal(sac_lists_neighbours(&lists, l, 0, sac_page_count(sizes[l])),
                             sac_page_count(sizes[l]));
    }
    assert_int_equal(lists.page_count, all);
    assert_int_equal(lists.free_count, 0);
    check(t, &lists, entries);
    free(pages);
    sac_lists_free(&lists);
    training_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_hold_what_was_put_in), cmocka_unit_test(deletions_cross_pages),
        cmocka_unit_test(gathered_lists_are_one_piece), cmocka_unit_test(loaded_lists_are_one_piece)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
