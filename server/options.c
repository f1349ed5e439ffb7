#include "server/options.h"

#include "server/options_help.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- mistakes ---------------------------------------------------------------------------------------- */

int sac_usage_error(const struct sac_command *command, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fprintf(stderr, "saccade %s: ", command->name);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n  saccade %s --help explains\n", command->name);
    va_end(args);
    return SAC_EXIT_USAGE;
}

enum { WORD_MAX = 40 }; /* longer words are no misspelt option */

/* Levenshtein's edit distance, one row of the table at a time. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1], a_size = strlen(a), b_size = strlen(b);

    if (a_size > WORD_MAX || b_size > WORD_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_size; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_size; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b_size];
}

const char *sac_nearest_word(const char *word, const char *const *words, size_t count)
{
    const char *nearest = NULL;
    size_t least = strlen(word) / 3 + 1; /* one edit for every three letters, and one more */

    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(word, words[i]);
        if (distance < least || (distance == least && nearest == NULL)) {
            least = distance;
            nearest = words[i];
        }
    }
    return nearest;
}

static int unknown_option(const struct sac_arguments *a, const char *word)
{
    const char *names[64 + 2], *nearest;
    size_t n = 0, size = strcspn(word, "=");
    char name[WORD_MAX + 1];

    if (strncmp(word, "--", 2) != 0 || size - 2 > WORD_MAX)
        return sac_usage_error(a->command, "there is no option %.*s", (int)size, word);
    snprintf(name, sizeof name, "%.*s", (int)(size - 2), word + 2);
    for (; n < a->option_count; n++)
        names[n] = a->options[n].name;
    names[n++] = "help";
    nearest = sac_nearest_word(name, names, n);
    if (nearest == NULL)
        return sac_usage_error(a->command, "there is no option --%s", name);
    return sac_usage_error(a->command, "there is no option --%s: is --%s meant?", name, nearest);
}

/* ---- values ------------------------------------------------------------------------------------------ */

/* Decimal digits only: strtoull alone would take "-1", " 1" and "0x1". */
static bool parse_whole(const char *text, uint64_t *out, const char **rest)
{
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *out = strtoull(text, &end, 10);
    *rest = end;
    return errno == 0;
}

static bool parse_bytes(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    const char *rest, *unit;
    unsigned shift;

    if (!parse_whole(text, out, &rest))
        return false;
    if (*rest == '\0')
        return true;
    unit = strchr(units, *rest);
    if (unit == NULL || rest[1] != '\0')
        return false;
    shift = 10 * (unsigned)(unit - units + 1);
    if (*out > UINT64_MAX >> shift)
        return false;
    *out <<= shift;
    return true;
}

static bool in_range(const struct sac_option *o, double value)
{
    return (o->min == 0 && o->max == 0) || (value >= o->min && value <= o->max);
}

static bool set_whole(const struct sac_option *o, const char *text)
{
    const char *rest = "";
    uint64_t value;
    bool ok = o->type == SAC_OPTION_BYTES ? parse_bytes(text, &value)
                                          : parse_whole(text, &value, &rest) && *rest == '\0';

    if (!ok || (o->type == SAC_OPTION_U32 && value > UINT32_MAX) || !in_range(o, (double)value))
        return false;
    if (o->type == SAC_OPTION_U32)
        *(uint32_t *)o->value = (uint32_t)value;
    else
        *(uint64_t *)o->value = value;
    return true;
}

static bool set_f32(const struct sac_option *o, const char *text)
{
    char *end;
    float value = strtof(text, &end);

    if (end == text || *end != '\0' || !isfinite(value) || !in_range(o, value))
        return false;
    *(float *)o->value = value;
    return true;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t size = strlen(text);

    for (const char *word = choices; word != NULL && *word != '\0';) {
        size_t length = strcspn(word, " ");
        if (length == size && memcmp(word, text, size) == 0)
            return true;
        word += length + (word[length] == ' ');
    }
    return false;
}

static bool add_text(struct sac_texts *texts, const char *text)
{
    const char **grown = realloc(texts->at, (texts->count + 1) * sizeof *grown);

    if (grown == NULL)
        return false;
    texts->at = grown;
    texts->at[texts->count++] = text;
    return true;
}

static bool set_value(const struct sac_option *o, const char *text)
{
    switch (o->type) {
    case SAC_OPTION_FLAG:
        *(bool *)o->value = true;
        return true;
    case SAC_OPTION_TEXT:
        if (text[0] == '\0' || (o->choices != NULL && !is_choice(o->choices, text)))
            return false;
        *(const char **)o->value = text;
        return true;
    case SAC_OPTION_TEXTS:
        return text[0] != '\0' && add_text(o->value, text);
    case SAC_OPTION_F32:
        return set_f32(o, text);
    case SAC_OPTION_U32:
    case SAC_OPTION_U64:
    case SAC_OPTION_BYTES:
        break;
    }
    return set_whole(o, text);
}

static int bad_value(const struct sac_arguments *a, const struct sac_option *o, const char *where,
                     const char *text)
{
    char wanted[200];

    sac_option_wanted(o, wanted, sizeof wanted);
    return sac_usage_error(a->command, "%s: \"%s\" is not %s", where, text, wanted);
}

/* ---- the command line -------------------------------------------------------------------------------- */

struct cursor { /* where in argv the parser is */
    int argc, next;
    char **argv;
};

/* The option's value is in the same word (inline_value), or is the next word. */
static int take_option(struct sac_arguments *a, size_t index, const char *inline_value, struct cursor *c)
{
    const struct sac_option *o = &a->options[index];
    char name[WORD_MAX + 4];

    snprintf(name, sizeof name, "--%s", o->name);
    a->given |= UINT64_C(1) << index;
    if (o->type == SAC_OPTION_FLAG) {
        if (inline_value != NULL)
            return sac_usage_error(a->command, "%s takes no value", name);
        set_value(o, NULL);
        return -1;
    }
    if (inline_value == NULL) {
        if (c->next == c->argc || strncmp(c->argv[c->next], "--", 2) == 0)
            return sac_usage_error(a->command, "%s needs a value: %s %s", name, name, o->argument);
        inline_value = c->argv[c->next++];
    }
    return set_value(o, inline_value) ? -1 : bad_value(a, o, name, inline_value);
}

static int take_word(struct sac_arguments *a, const char *word, struct cursor *c)
{
    if (word[1] != '-') {
        for (size_t i = 0; i < a->option_count; i++)
            if (a->options[i].letter == word[1])
                return take_option(a, i, word[2] == '\0' ? NULL : word + 2, c);
        return unknown_option(a, word);
    }
    size_t size = strcspn(word + 2, "=");
    for (size_t i = 0; i < a->option_count; i++) {
        const char *name = a->options[i].name;
        if (strlen(name) == size && memcmp(name, word + 2, size) == 0)
            return take_option(a, i, word[2 + size] == '=' ? word + 3 + size : NULL, c);
    }
    return unknown_option(a, word);
}

static int take_environment(struct sac_arguments *a)
{
    for (size_t i = 0; i < a->option_count; i++) {
        const struct sac_option *o = &a->options[i];
        const char *text = o->variable == NULL ? NULL : getenv(o->variable);
        if (text == NULL || text[0] == '\0' || (a->given & UINT64_C(1) << i) != 0)
            continue;
        if (!set_value(o, text))
            return bad_value(a, o, o->variable, text);
    }
    return -1;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

int sac_arguments_parse(struct sac_arguments *a, int argc, char **argv)
{
    struct cursor c = {.argc = argc, .next = 1, .argv = argv};

    assert(a->option_count <= 64);
    a->operands = argv + 1;
    a->operand_count = 0;
    a->given = 0;
    while (c.next < argc) {
        char *word = argv[c.next++];
        if (strcmp(word, "--") == 0) {
            while (c.next < argc)
                a->operands[a->operand_count++] = argv[c.next++];
            break;
        }
        if (is_help(word)) {
            sac_command_help(a);
            return SAC_EXIT_DONE;
        }
        if (word[0] != '-' || word[1] == '\0') { /* "-" alone is an operand */
            a->operands[a->operand_count++] = word;
            continue;
        }
        int code = take_word(a, word, &c);
        if (code >= 0)
            return code;
    }
    return take_environment(a);
}

bool sac_arguments_given(const struct sac_arguments *a, const char *name)
{
    for (size_t i = 0; i < a->option_count; i++)
        if (strcmp(a->options[i].name, name) == 0)
            return (a->given >> i & 1) != 0;
    assert(!"an option of the table");
    return false;
}
