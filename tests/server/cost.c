/* What a batch costs, learnt from batches. */
#include "server/cost.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { FIXED = 1000000, EACH = 50000 };

static void measure(struct sac_cost *cost, size_t n)
{
    sac_cost_measure(cost, n, FIXED + n * EACH);
}

static void test_nothing_is_known_at_first(void **state)
{
    struct sac_cost cost;

    (void)state;
    sac_cost_init(&cost);
    assert_int_equal(sac_cost_fixed(&cost) + sac_cost_each(&cost), 0);
    sac_cost_destroy(&cost);
}

static void test_lone_queries_look_fixed(void **state)
{
    struct sac_cost cost;

    (void)state;
    sac_cost_init(&cost);
    for (int i = 0; i < 50; i++)
        measure(&cost, 1);
    assert_in_range(sac_cost_fixed(&cost), FIXED, FIXED + 2 * EACH);
    assert_in_range(sac_cost_each(&cost), 0, EACH / 10);
    sac_cost_destroy(&cost);
}

static void test_two_sizes_tell_the_parts_apart(void **state)
{
    struct sac_cost cost;

    (void)state;
    sac_cost_init(&cost);
    for (size_t i = 0; i < 40; i++)
        measure(&cost, 1 + i % 30);
    assert_in_range(sac_cost_fixed(&cost), FIXED * 9 / 10, FIXED * 11 / 10);
    assert_in_range(sac_cost_each(&cost), EACH * 9 / 10, EACH * 11 / 10);
    for (int i = 0; i < 100; i++) /* what was learnt stays while one size follows another */
        measure(&cost, 8);
    assert_in_range(sac_cost_each(&cost), EACH * 9 / 10, EACH * 11 / 10);
    sac_cost_destroy(&cost);
}

static void test_neither_part_is_negative(void **state)
{
    struct sac_cost cost;

    (void)state;
    sac_cost_init(&cost);
    for (size_t i = 1; i <= 20; i++) /* larger batches are quicker: caches were cold */
        sac_cost_measure(&cost, i, 10000000 / i);
    assert_in_range(sac_cost_fixed(&cost), 0, 10000000);
    assert_int_equal(sac_cost_each(&cost), 0);
    for (size_t i = 1; i <= 60; i++) /* and the other way: more than in proportion */
        sac_cost_measure(&cost, i, i * i * 1000);
    assert_in_range(sac_cost_fixed(&cost), 0, 1000);
    assert_in_range(sac_cost_each(&cost), 1000, 100000);
    sac_cost_destroy(&cost);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_known_at_first),
        cmocka_unit_test(test_lone_queries_look_fixed),
        cmocka_unit_test(test_two_sizes_tell_the_parts_apart),
        cmocka_unit_test(test_neither_part_is_negative),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
