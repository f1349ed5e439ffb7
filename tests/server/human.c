/* Numbers and names as people read them. */
#include "server/human.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static char text[SAC_HUMAN_SIZE];

static void counts(void **state)
{
    (void)state;
    assert_string_equal(sac_human_count(0, text), "0");
    assert_string_equal(sac_human_count(999, text), "999");
    assert_string_equal(sac_human_count(1000, text), "1,000");
    assert_string_equal(sac_human_count(UINT64_MAX, text), "18,446,744,073,709,551,615");
}

static void bytes(void **state)
{
    (void)state;
    assert_string_equal(sac_human_bytes(1023, text), "1023 B");
    assert_string_equal(sac_human_bytes(1536, text), "1.5 KiB");
    assert_string_equal(sac_human_bytes(96u << 20, text), "96 MiB");
    assert_string_equal(sac_human_bytes(1000ull << 30, text), "1.0 TiB");
    assert_string_equal(sac_human_bytes(UINT64_MAX, text), "16 EiB");
}

static void seconds(void **state)
{
    (void)state;
    assert_string_equal(sac_human_seconds(0.4212, text), "0.42 s");
    assert_string_equal(sac_human_seconds(42.4, text), "42 s");
    assert_string_equal(sac_human_seconds(187, text), "3:07");
    assert_string_equal(sac_human_seconds(3729, text), "1:02:09");
    sac_human_seconds(1e300, text);
}

static void rates(void **state)
{
    (void)state;
    assert_string_equal(sac_human_rate(0.314, text), "0.31/s");
    assert_string_equal(sac_human_rate(152.4, text), "152/s");
    assert_string_equal(sac_human_rate(48100, text), "48,100/s");
    sac_human_rate(1e19, text);
}

static void assert_shown(const char *in, size_t size, int terminal, const char *want)
{
    char *got = sac_human_text(in, size, terminal);

    assert_string_equal(got, want);
    free(got);
}

static void names_cannot_command_the_terminal(void **state)
{
    (void)state;
    assert_shown("b\xC3\xA9.jpg", 7, 1, "b\xC3\xA9.jpg");
    assert_shown("a\x1B[2Jb", 6, 1, "a?[2Jb");
    assert_shown("a\x1B[2Jb", 6, 0, "a\x1B[2Jb");
    assert_shown("a\xC2\x9B"
                 "2J",
                 5, 1, "a?2J");                                                 /* C1 control */
    assert_shown("\xFF\xC0\x80", 3, 1, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"); /* overlong */
    assert_shown("\xED\xA0\x80", 3, 1, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"); /* surrogate */
    assert_shown("\xF0\x9F\x90\x88", 4, 1, "\xF0\x9F\x90\x88");
    assert_shown("\xF0\x9F\x90", 3, 1, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"); /* cut short */
    assert_shown("", 0, 1, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts),
        cmocka_unit_test(bytes),
        cmocka_unit_test(seconds),
        cmocka_unit_test(rates),
        cmocka_unit_test(names_cannot_command_the_terminal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
