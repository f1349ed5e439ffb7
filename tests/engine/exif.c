/* The orientation tag: both byte orders, both widths, and every way to lie about it. */
#include "engine/exif.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Runs on a copy of exactly `size` bytes, so that ASan sees a read past the end. */
static unsigned orientation_of(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    unsigned orientation;

    assert_non_null(copy);
    memcpy(copy, bytes, size);
    orientation = sac_exif_orientation(copy, size);
    free(copy);
    return orientation;
}

static const uint8_t big[] = {'E', 'x',  'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8,
                              0,   2,    1,   0,   0, 4, 0,   0,   0, 1,  0, 0, 0, 9, /* another tag first */
                              1,   0x12, 0,   3,   0, 0, 0,   1,   0, 6,  0, 0};
static const uint8_t little[] = {'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 4, 0, 1, 0, 0, 0, 8, 0, 0, 0};

static void both_byte_orders_are_read(void **state)
{
    (void)state;
    assert_int_equal(orientation_of(big, sizeof big), 6);
    assert_int_equal(orientation_of(big + 6, sizeof big - 6), 6);
    assert_int_equal(orientation_of(little, sizeof little), 8);
}

static void every_cut_is_survived(void **state)
{
    (void)state;
    for (size_t size = 0; size < sizeof big; size++)
        assert_int_equal(orientation_of(big, size), 1);
    for (size_t size = 0; size < sizeof little; size++)
        assert_int_equal(orientation_of(little, size), 1);
}

static void values_out_of_range_mean_as_stored(void **state)
{
    uint8_t bytes[sizeof little];

    (void)state;
    memcpy(bytes, little, sizeof little);
    for (int value = 0; value < 256; value++) {
        bytes[18] = (uint8_t)value;
        assert_int_equal(orientation_of(bytes, sizeof bytes), value >= 1 && value <= 8 ? value : 1);
    }
    bytes[18] = 8;
    bytes[12] = 2; /* a text */
    assert_int_equal(orientation_of(bytes, sizeof bytes), 1);
}

static void bad_headers_mean_as_stored(void **state)
{
    static const size_t places[] = {0, 1, 2, 4, 5, 6, 7};
    uint8_t bytes[sizeof little];

    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        memcpy(bytes, little, sizeof little);
        bytes[places[i]] ^= 0x81;
        assert_int_equal(orientation_of(bytes, sizeof bytes), 1);
    }
}

static void only_the_first_64_entries_count(void **state)
{
    uint8_t bytes[10 + 65 * 12] = {'I', 'I', 42, 0, 8, 0, 0, 0, 65, 0};

    (void)state;
    memcpy(bytes + 10 + 63 * 12, little + 10, 12);
    assert_int_equal(orientation_of(bytes, sizeof bytes), 8);
    memset(bytes + 10, 0, 65 * 12);
    memcpy(bytes + 10 + 64 * 12, little + 10, 12);
    assert_int_equal(orientation_of(bytes, sizeof bytes), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_byte_orders_are_read),          cmocka_unit_test(every_cut_is_survived),
        cmocka_unit_test(values_out_of_range_mean_as_stored), cmocka_unit_test(bad_headers_mean_as_stored),
        cmocka_unit_test(only_the_first_64_entries_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
