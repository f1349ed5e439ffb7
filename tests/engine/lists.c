/* Inverted lists against a plain table of what each slot should hold, under random churn. */
#include "engine/lists.h"
#include "engine/random.h"
#include "tests/engine/training.h"

enum { NLIST = 7, M = 5, SLOTS = 3000, STEPS = 400 };

struct entry {
    uint32_t list;
    uint8_t codes[M];
    float bias;
    bool held, waiting; /* waiting: drawn, to be appended with others */
};

static uint8_t code_at(const sac_lists *lists, uint32_t position, uint32_t j)
{
    const uint8_t *page = lists->page_codes[position / SAC_PAGE_ROWS];
    uint32_t line = position % SAC_PAGE_ROWS, block = line / SAC_BLOCK_ROWS, lane = line % SAC_BLOCK_ROWS;
    size_t width = sac_pq_code_bytes(M, lists->pq.nbits);

    if (lists->pq.nbits != 4)
        return page[block * SAC_BLOCK_ROWS * width + j * SAC_BLOCK_ROWS + lane];
    return page[block * SAC_BLOCK_ROWS * width + j / 2 * SAC_BLOCK_ROWS + lane] >> (j % 2 * 4) & 15;
}

static void check(const sac_lists *lists, const struct entry *entries)
{
    uint32_t held[NLIST] = {0};
    size_t pages = 0;

    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        const struct entry *e = &entries[slot];
        if (!e->held)
            continue;
        uint32_t position = lists->position[slot];
        held[e->list]++;
        assert_int_equal(sac_lists_of(lists, slot), e->list);
        assert_int_equal(lists->page_slots[position / SAC_PAGE_ROWS][position % SAC_PAGE_ROWS], slot);
        assert_true(lists->page_bias[position / SAC_PAGE_ROWS][position % SAC_PAGE_ROWS] == e->bias);
        for (uint32_t j = 0; j < M; j++)
            assert_int_equal(code_at(lists, position, j), e->codes[j]);
    }
    for (uint32_t l = 0; l < NLIST; l++) {
        const sac_list_view *view = &lists->views[l];
        assert_int_equal(view->row_count, held[l]);
        assert_int_equal(view->page_count, (held[l] + SAC_PAGE_ROWS - 1) / SAC_PAGE_ROWS);
        pages += view->page_count;
    }
    assert_int_equal(pages + lists->free_count, lists->page_count);
}

static void append(struct training *t, sac_lists *lists, struct entry *entries, const uint32_t *slots,
                   size_t n)
{
    uint32_t index[64];
    uint8_t *codes = sac_workspace_device(t->ws, 64, M);
    float *bias = sac_workspace_device(t->ws, 64, sizeof *bias);

    for (size_t i = 0; i < n; i++) {
        index[i] = entries[slots[i]].list;
        bias[i] = entries[slots[i]].bias;
        memcpy(codes + i * M, entries[slots[i]].codes, M);
        entries[slots[i]].held = true;
        entries[slots[i]].waiting = false;
    }
    assert_ok(sac_lists_append(lists, t->ws, n, index, codes, bias, slots));
    sac_workspace_reset(t->ws);
    (void)entries;
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
            check(&lists, entries);
    }
    check(&lists, entries);
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
