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
        uint32_t pages = (sac_lists_rows(lists, l) + SAC_PAGE_ROWS - 1) / SAC_PAGE_ROWS;
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

static void check(struct training *t, sac_lists *lists, const struct entry *entries)
{
    uint32_t held[NLIST] = {0};
    size_t pages = 0;

    assert_ok(sac_lists_sync(lists, t->ws));
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        const struct entry *e = &entries[slot];
        if (!e->held)
            continue;
        uint32_t line = lists->position[slot] % SAC_PAGE_ROWS;
        unsigned char *page = page_of(t, lists, lists->position[slot] / SAC_PAGE_ROWS);
        held[e->list]++;
        assert_int_equal(sac_lists_of(lists, slot), e->list);
        assert_int_equal(sac_page_slots(&lists->pq, page)[line], slot);
        assert_true(sac_page_bias(&lists->pq, page)[line] == e->bias);
        for (uint32_t j = 0; j < M; j++)
            assert_int_equal(sac_page_code(&lists->pq, page, line, j), e->codes[j]);
        sac_workspace_reset(t->ws);
    }
    for (uint32_t l = 0; l < NLIST; l++) {
        assert_int_equal(sac_lists_rows(lists, l), held[l]);
        pages += (held[l] + SAC_PAGE_ROWS - 1) / SAC_PAGE_ROWS;
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
    assert_ok(sac_lists_append(lists, t->ws, n, index, codes.device, bias.device, slots));
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lists_hold_what_was_put_in)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
