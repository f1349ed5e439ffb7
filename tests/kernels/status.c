/* The list of outcomes: names, texts, and errors that are cut rather than overrun. */
#include "kernels/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void names_follow_the_list(void **state)
{
    (void)state;
    assert_string_equal(sac_status_name(SAC_OK), "OK");
    assert_string_equal(sac_status_name(SAC_DEADLINE_EXCEEDED), "DEADLINE_EXCEEDED");
    assert_string_equal(sac_status_name((sac_status)-999), "INTERNAL");
    assert_string_equal(sac_status_text(SAC_NOT_FOUND), "no such item, collection or file");
}

static void fail_formats_and_returns(void **state)
{
    sac_error err;

    (void)state;
    assert_int_equal(sac_fail(&err, SAC_NOT_FOUND, "no collection %s", "x"), SAC_NOT_FOUND);
    assert_int_equal(err.status, SAC_NOT_FOUND);
    assert_string_equal(err.text, "no collection x");
    assert_int_equal(sac_fail(NULL, SAC_IO, "nobody listens"), SAC_IO);
}

static void long_texts_are_cut(void **state)
{
    char long_text[2 * SAC_ERROR_TEXT_SIZE];
    struct {
        sac_error err;
        unsigned char guard[16];
    } box;

    (void)state;
    memset(long_text, 'a', sizeof long_text);
    long_text[sizeof long_text - 1] = '\0';
    memset(&box, 0x5a, sizeof box);
    sac_fail(&box.err, SAC_INTERNAL, "%s", long_text);
    assert_int_equal(strlen(box.err.text), SAC_ERROR_TEXT_SIZE - 1);
    for (size_t i = 0; i < sizeof box.guard; i++)
        assert_int_equal(box.guard[i], 0x5a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_follow_the_list),
        cmocka_unit_test(fail_formats_and_returns),
        cmocka_unit_test(long_texts_are_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
