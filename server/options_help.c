#include "server/options_help.h"

#include "server/human.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { COLUMN = 26, WIDTH = 100 }; /* where explanations begin, and where lines end */

static void range_text(const struct sac_option *o, char *text, size_t size)
{
    char low[SAC_HUMAN_SIZE], high[SAC_HUMAN_SIZE];

    text[0] = '\0';
    if (o->min == 0 && o->max == 0)
        return;
    if (o->type == SAC_OPTION_BYTES)
        snprintf(text, size, "%s to %s", sac_human_bytes((uint64_t)o->min, low),
                 sac_human_bytes((uint64_t)o->max, high));
    else
        snprintf(text, size, "%.10g to %.10g", o->min, o->max);
}

/* "auto cpu ref" -> "auto, cpu, ref" */
static void choices_text(const char *choices, char *text, size_t size)
{
    size_t used = 0;

    for (; *choices != '\0' && used + 2 < size; choices++) {
        if (*choices == ' ')
            text[used++] = ',';
        text[used++] = *choices;
    }
    text[used] = '\0';
}

void sac_option_wanted(const struct sac_option *o, char *text, size_t size)
{
    static const char *const kinds[] = {
        [SAC_OPTION_FLAG] = "a switch",      [SAC_OPTION_TEXT] = "a text",
        [SAC_OPTION_TEXTS] = "a text",       [SAC_OPTION_U32] = "a whole number",
        [SAC_OPTION_U64] = "a whole number", [SAC_OPTION_BYTES] = "a number of bytes (16M, 2G)",
        [SAC_OPTION_F32] = "a number",
    };
    char words[100];

    if (o->choices != NULL) {
        choices_text(o->choices, words, sizeof words);
        snprintf(text, size, "one of %s", words);
        return;
    }
    range_text(o, words, sizeof words);
    snprintf(text, size, words[0] == '\0' ? "%s" : "%s from %s", kinds[o->type], words);
}

static void default_text(const struct sac_option *o, char *text, size_t size)
{
    char bytes[SAC_HUMAN_SIZE];

    text[0] = '\0';
    if (o->fallback != NULL) {
        snprintf(text, size, "%s", o->fallback);
        return;
    }
    switch (o->type) {
    case SAC_OPTION_TEXT:
        if (*(const char **)o->value != NULL)
            snprintf(text, size, "%s", *(const char **)o->value);
        break;
    case SAC_OPTION_U32:
        snprintf(text, size, "%" PRIu32, *(uint32_t *)o->value);
        break;
    case SAC_OPTION_U64:
        snprintf(text, size, "%" PRIu64, *(uint64_t *)o->value);
        break;
    case SAC_OPTION_BYTES:
        snprintf(text, size, "%s", sac_human_bytes(*(uint64_t *)o->value, bytes));
        break;
    case SAC_OPTION_F32:
        snprintf(text, size, "%g", (double)*(float *)o->value);
        break;
    case SAC_OPTION_FLAG:
    case SAC_OPTION_TEXTS:
        break;
    }
}

/* Words of text from column on, broken before WIDTH. */
static void print_wrapped(const char *text, size_t at)
{
    while (*text != '\0') {
        size_t length = strcspn(text, " ");
        if (at > COLUMN && at + 1 + length > WIDTH) {
            printf("\n%*s", COLUMN, "");
            at = COLUMN;
        } else if (at > COLUMN) {
            putchar(' ');
            at++;
        }
        printf("%.*s", (int)length, text);
        at += length;
        text += length + (text[length] == ' ');
    }
    putchar('\n');
}

static void print_option(const struct sac_option *o)
{
    char letter[8] = "    ", left[64], range[100] = "", value[100], text[600];
    bool flag = o->type == SAC_OPTION_FLAG;
    int n;

    if (o->letter != 0)
        snprintf(letter, sizeof letter, "-%c, ", o->letter);
    n = snprintf(left, sizeof left, "  %s--%s%s%s", letter, o->name, flag ? "" : " ",
                 flag ? "" : o->argument);
    printf("%s", left);
    if (n >= COLUMN - 1) {
        putchar('\n');
        n = 0;
    }
    printf("%*s", COLUMN - n, "");
    if (o->choices != NULL)
        choices_text(o->choices, range, sizeof range);
    else
        range_text(o, range, sizeof range);
    default_text(o, value, sizeof value);
    if (range[0] != '\0' && value[0] != '\0')
        snprintf(text, sizeof text, "%s (%s; default %s)", o->help, range, value);
    else if (range[0] != '\0')
        snprintf(text, sizeof text, "%s (%s)", o->help, range);
    else if (value[0] != '\0')
        snprintf(text, sizeof text, "%s (default %s)", o->help, value);
    else
        snprintf(text, sizeof text, "%s", o->help);
    print_wrapped(text, COLUMN);
}

void sac_command_help(const struct sac_arguments *a)
{
    bool any = false;

    printf("saccade %s: %s\n\nusage: saccade %s%s%s [OPTIONS]\n\n%s\noptions:\n", a->command->name,
           a->command->summary, a->command->name, a->command->operands[0] != '\0' ? " " : "",
           a->command->operands, a->command->about);
    for (size_t i = 0; i < a->option_count; i++)
        print_option(&a->options[i]);
    printf("  -h, --help%*sthis text\n", COLUMN - 12, "");
    for (size_t i = 0; i < a->option_count; i++) {
        const struct sac_option *o = &a->options[i];
        if (o->variable == NULL)
            continue;
        if (!any)
            printf("\nenvironment, where the option is not given:\n");
        any = true;
        printf("  %-32s --%s\n", o->variable, o->name);
    }
    printf("\nexit: 0 done, 1 failed, 2 wrong usage\n");
}
