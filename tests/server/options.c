/* The command line: every type at its edges, where values may stand, what a mistake is answered with. */
#include "server/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct sac_command command = {.name = "try", .summary = "tests", .operands = "", .about = ""};

struct values {
    bool flag;
    const char *text, *choice;
    struct sac_texts texts;
    uint32_t small;
    uint64_t large, bytes;
    float real;
};

static struct values got;
static struct sac_arguments arguments;

/* Parses words (NULL at the end) into `got`; what goes to stderr lands in `said`. */
static char said[1000];

static int parse(const char *const *words)
{
    static const struct sac_option options[] = {
        {.name = "flag", .letter = 'f', .type = SAC_OPTION_FLAG, .value = &got.flag, .help = ""},
        {.name = "text", .type = SAC_OPTION_TEXT, .value = &got.text, .argument = "T", .help = ""},
        {.name = "choice",
         .type = SAC_OPTION_TEXT,
         .value = &got.choice,
         .argument = "C",
         .help = "",
         .choices = "auto cpu ref",
         .variable = "SACCADE_TRY__CHOICE"},
        {.name = "more", .type = SAC_OPTION_TEXTS, .value = &got.texts, .argument = "T", .help = ""},
        {.name = "small",
         .letter = 's',
         .type = SAC_OPTION_U32,
         .value = &got.small,
         .argument = "N",
         .help = "",
         .min = 1,
         .max = 1000,
         .variable = "SACCADE_TRY__SMALL"},
        {.name = "large", .type = SAC_OPTION_U64, .value = &got.large, .argument = "N", .help = ""},
        {.name = "bytes", .type = SAC_OPTION_BYTES, .value = &got.bytes, .argument = "B", .help = ""},
        {.name = "real",
         .type = SAC_OPTION_F32,
         .value = &got.real,
         .argument = "R",
         .help = "",
         .min = -1,
         .max = 1},
    };
    static char *argv[32];
    int argc = 1, saved = dup(STDERR_FILENO), code;
    FILE *file = tmpfile();

    free(got.texts.at);
    got = (struct values){.small = 7, .text = "as it was"};
    argv[0] = (char *)"try";
    for (; words[argc - 1] != NULL; argc++)
        argv[argc] = (char *)words[argc - 1];
    arguments = (struct sac_arguments){
        .command = &command, .options = options, .option_count = sizeof options / sizeof *options};
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    code = sac_arguments_parse(&arguments, argc, argv);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    said[fread(said, 1, sizeof said - 1, file)] = '\0';
    fclose(file);
    return code;
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})

static void values_are_read_wherever_they_stand(void **state)
{
    (void)state;
    assert_int_equal(PARSE("one", "--small=12", "-f", "two", "--text", "a=b", "--more", "x", "--more=y", "--",
                           "--flag", "-s"),
                     -1);
    assert_int_equal(got.small, 12);
    assert_true(got.flag);
    assert_string_equal(got.text, "a=b");
    assert_int_equal(got.texts.count, 2);
    assert_string_equal(got.texts.at[1], "y");
    assert_int_equal(arguments.operand_count, 4);
    assert_string_equal(arguments.operands[1], "two");
    assert_string_equal(arguments.operands[3], "-s");
    assert_true(sac_arguments_given(&arguments, "small"));
    assert_false(sac_arguments_given(&arguments, "large"));
    assert_int_equal(PARSE("-s9", "-"), -1);
    assert_int_equal(got.small, 9);
    assert_string_equal(arguments.operands[0], "-");
    assert_int_equal(PARSE("x"), -1);
    assert_string_equal(got.text, "as it was");
}

static void numbers_are_whole_and_in_range(void **state)
{
    static const char *const bad[] = {"",   "0",  "1001", "-1",         "+1",
                                      "9x", " 9", "0x10", "4294967297", "99999999999999999999999"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(PARSE("--small", bad[i]), SAC_EXIT_USAGE);
        assert_non_null(strstr(said, "a whole number from 1 to 1000"));
        assert_int_equal(got.small, 7);
    }
    assert_int_equal(PARSE("--large", "18446744073709551615"), -1);
    assert_true(got.large == UINT64_MAX);
    assert_int_equal(PARSE("--large", "18446744073709551616"), SAC_EXIT_USAGE);
}

static void bytes_take_units(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--bytes", "16M"), -1);
    assert_true(got.bytes == 16u << 20);
    assert_int_equal(PARSE("--bytes", "3"), -1);
    assert_true(got.bytes == 3);
    assert_int_equal(PARSE("--bytes", "16MB"), SAC_EXIT_USAGE);
    assert_int_equal(PARSE("--bytes", "99999999999T"), SAC_EXIT_USAGE);
    assert_int_equal(PARSE("--bytes", "M"), SAC_EXIT_USAGE);
}

static void reals_are_finite(void **state)
{
    static const char *const bad[] = {"nan", "inf", "1e99", "1.5", "0.5x", ""};

    (void)state;
    assert_int_equal(PARSE("--real", "-0.5"), -1);
    assert_true(got.real == -0.5f);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(PARSE("--real", bad[i]), SAC_EXIT_USAGE);
}

static void mistakes_are_explained(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--smal", "3"), SAC_EXIT_USAGE);
    assert_non_null(strstr(said, "is --small meant?"));
    assert_int_equal(PARSE("--hlep"), SAC_EXIT_USAGE);
    assert_non_null(strstr(said, "is --help meant?"));
    assert_int_equal(PARSE("--quite-another-thing=3"), SAC_EXIT_USAGE);
    assert_non_null(strstr(said, "no option --quite-another-thing\n"));
    assert_int_equal(PARSE("-z"), SAC_EXIT_USAGE);
    assert_int_equal(PARSE("--flag=yes"), SAC_EXIT_USAGE);
    assert_non_null(strstr(said, "takes no value"));
    assert_int_equal(PARSE("--text"), SAC_EXIT_USAGE);
    assert_non_null(strstr(said, "needs a value: --text T"));
    assert_int_equal(PARSE("--text", "--flag"), SAC_EXIT_USAGE);
    assert_int_equal(PARSE("--choice", "gpu"), SAC_EXIT_USAGE);
    assert_non_null(strstr(said, "one of auto, cpu, ref"));
    assert_int_equal(PARSE("--choice", "auto cpu"), SAC_EXIT_USAGE);
    assert_non_null(strstr(said, "saccade try --help explains"));
}

static void the_environment_fills_gaps(void **state)
{
    (void)state;
    setenv("SACCADE_TRY__SMALL", "33", 1);
    assert_int_equal(PARSE("x"), -1);
    assert_int_equal(got.small, 33);
    assert_false(sac_arguments_given(&arguments, "small"));
    assert_int_equal(PARSE("--small=4"), -1);
    assert_int_equal(got.small, 4);
    setenv("SACCADE_TRY__SMALL", "many", 1);
    assert_int_equal(PARSE("x"), SAC_EXIT_USAGE);
    assert_non_null(strstr(said, "SACCADE_TRY__SMALL"));
    unsetenv("SACCADE_TRY__SMALL");
}

static void long_words_are_no_trouble(void **state)
{
    char word[5000];

    (void)state;
    memset(word, 'a', sizeof word);
    word[0] = word[1] = '-';
    word[sizeof word - 1] = '\0';
    assert_int_equal(PARSE(word), SAC_EXIT_USAGE);
    assert_int_equal(PARSE("--text", word + 2), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_read_wherever_they_stand),
        cmocka_unit_test(numbers_are_whole_and_in_range),
        cmocka_unit_test(bytes_take_units),
        cmocka_unit_test(reals_are_finite),
        cmocka_unit_test(mistakes_are_explained),
        cmocka_unit_test(the_environment_fills_gaps),
        cmocka_unit_test(long_words_are_no_trouble),
    };
    int failures = cmocka_run_group_tests(tests, NULL, NULL);

    free(got.texts.at);
    return failures;
}
