/* Labels and slots against a plain array, under random insertions and removals. */
#include "engine/labels.h"
#include "engine/random.h"
#include "tests/data.h"

enum { LABELS = 600 };

static sac_device *device;

static int open_device(void **state)
{
    (void)state;
    return sac_device_open(NULL, &device, NULL) == SAC_OK ? 0 : -1;
}

static int close_device(void **state)
{
    (void)state;
    sac_device_close(device);
    return 0;
}

static void check(const sac_labels *labels, const uint32_t *slot_of, uint32_t held, uint64_t spread)
{
    bool used[4096] = {false};

    assert_int_equal(labels->live_count, held);
    for (uint64_t l = 0; l < LABELS; l++) {
        uint32_t slot = sac_labels_find(labels, l * spread);
        assert_int_equal(slot, slot_of[l]);
        if (slot == SAC_NO_SLOT)
            continue;
        assert_true(sac_labels_live(labels, slot));
        assert_false(used[slot]); /* no slot serves twice */
        used[slot] = true;
    }
}

static void follows_a_plain_array(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 20; round++) {
        uint64_t spread = round % 2 == 0 ? 1 : UINT64_MAX / LABELS;
        uint32_t slot_of[LABELS], held = 0, most = 0;
        sac_random random = {round};
        sac_labels labels;

        sac_labels_init(&labels, device);
        for (size_t i = 0; i < LABELS; i++)
            slot_of[i] = SAC_NO_SLOT;
        for (int step = 0; step < 6000; step++) {
            uint64_t l = sac_random_below(&random, LABELS);
            if (slot_of[l] == SAC_NO_SLOT) {
                uint64_t label = l * spread;
                uint32_t slot;
                sac_labels_preview(&labels, 1, &slot);
                assert_int_equal(sac_labels_reserve(&labels, 1, &label, NULL), SAC_OK);
                slot_of[l] = sac_labels_insert(&labels, label);
                assert_int_equal(slot_of[l], slot);
                held++;
            } else {
                sac_labels_remove(&labels, l * spread);
                slot_of[l] = SAC_NO_SLOT;
                held--;
            }
            most = held > most ? held : most;
            if (step % 500 == 0)
                check(&labels, slot_of, held, spread);
        }
        assert_true(labels.slot_count <= most); /* free slots are used first */
        sac_labels_free(&labels);
    }
}

static void memory_stays_lean(void **state)
{
    sac_labels labels;

    (void)state;
    sac_labels_init(&labels, device);
    for (uint64_t l = 0; l < 100000; l++) {
        uint64_t label = l << 20;
        assert_int_equal(sac_labels_reserve(&labels, 1, &label, NULL), SAC_OK);
        sac_labels_insert(&labels, label);
    }
    assert_true(sac_labels_bytes(&labels) < 100000 * 18);
    sac_labels_free(&labels);
}

static void add_consecutive(sac_labels *labels, uint64_t first, size_t n)
{
    uint64_t coming[64];

    for (size_t i = 0; i < n; i++)
        coming[i] = first + i;
    assert_int_equal(sac_labels_reserve(labels, n, coming, NULL), SAC_OK);
    for (size_t i = 0; i < n; i++)
        sac_labels_insert(labels, coming[i]);
}

/* Whatever the first label is, also where numbers begin anew after the last one. */
static void consecutive_labels_are_not_stored(void **state)
{
    const uint64_t firsts[] = {0, 1, 1u << 30, UINT64_MAX - 70};

    (void)state;
    for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++) {
        sac_labels labels;

        sac_labels_init(&labels, device);
        for (uint64_t c = 0; c < 64; c++)
            add_consecutive(&labels, firsts[f] + c * 64, 64);
        assert_null(labels.label);
        assert_true(sac_labels_bytes(&labels) < 4096);
        for (uint32_t slot = 0; slot < 4096; slot++) {
            assert_int_equal(sac_labels_find(&labels, firsts[f] + slot), slot);
            assert_true(sac_labels_at(&labels, slot) == firsts[f] + slot);
        }
        assert_int_equal(sac_labels_find(&labels, firsts[f] + 4096), SAC_NO_SLOT);
        assert_int_equal(sac_labels_find(&labels, firsts[f] - 1), SAC_NO_SLOT);
        sac_labels_free(&labels);
    }
}

/* A deletion leaves a hole, which the next insertion fills, the lowest first: from then on labels are stored.
 */
static void a_hole_is_filled(void **state)
{
    const uint64_t coming[] = {500, 20, 7};
    uint32_t slots[3];
    sac_labels labels;

    (void)state;
    sac_labels_init(&labels, device);
    add_consecutive(&labels, 100, 64);
    sac_labels_remove(&labels, 130);
    sac_labels_remove(&labels, 110);
    assert_null(labels.label);
    assert_int_equal(sac_labels_find(&labels, 110), SAC_NO_SLOT);
    assert_int_equal(sac_labels_find(&labels, 111), 11);
    sac_labels_preview(&labels, 3, slots);
    assert_int_equal(sac_labels_reserve(&labels, 3, coming, NULL), SAC_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(sac_labels_insert(&labels, coming[i]), slots[i]);
    assert_int_equal(slots[0], 10);
    assert_int_equal(slots[1], 30);
    assert_int_equal(slots[2], 64);
    assert_int_equal(sac_labels_find(&labels, 20), 30);
    assert_int_equal(sac_labels_find(&labels, 163), 63);
    assert_int_equal(sac_labels_find(&labels, 130), SAC_NO_SLOT);
    sac_labels_free(&labels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_a_plain_array),
        cmocka_unit_test(memory_stays_lean),
        cmocka_unit_test(consecutive_labels_are_not_stored),
        cmocka_unit_test(a_hole_is_filled),
    };

    return cmocka_run_group_tests(tests, open_device, close_device);
}
