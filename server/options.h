/* options.h -- a command and its options as tables: parsed with types and ranges, explained by --help.
 *
 * Long options as `--name value` or `--name=value`, short ones as `-k 5` or `-k5`; operands may stand
 * anywhere, and after `--` everything is one. A value comes from the command line, else from the option's
 * environment variable, else it stays what it was: the default that --help shows.
 */
#ifndef SACCADE_SERVER_OPTIONS_H
#define SACCADE_SERVER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sac_exit { SAC_EXIT_DONE = 0, SAC_EXIT_FAILED = 1, SAC_EXIT_USAGE = 2 };

struct sac_texts {   /* of an option that may be given more than once */
    const char **at; /* the caller frees it; the texts are borrowed from argv */
    size_t count;
};

enum sac_option_type {
    SAC_OPTION_FLAG,  /* bool: takes no value */
    SAC_OPTION_TEXT,  /* const char *: borrowed from argv or the environment */
    SAC_OPTION_TEXTS, /* struct sac_texts */
    SAC_OPTION_U32,   /* uint32_t */
    SAC_OPTION_U64,   /* uint64_t */
    SAC_OPTION_BYTES, /* uint64_t, with K, M, G or T for powers of 1024 */
    SAC_OPTION_F32,   /* float */
};

struct sac_option {
    const char *name; /* without the dashes */
    char letter;      /* 'k' for -k; 0: none */
    enum sac_option_type type;
    void *value;          /* of the type above */
    const char *argument; /* what --help calls the value: "DIR" */
    const char *help;     /* one sentence, broken over lines to fit */
    const char *choices;  /* texts: the words allowed, "auto cpu ref"; NULL: any */
    double min, max;      /* numbers, inclusive; both 0: any */
    const char *fallback; /* how --help puts a default that the value does not show; NULL: the value */
    const char *variable; /* of the environment; NULL: none */
};

struct sac_command {
    const char *name;
    const char *summary;  /* for `saccade --help` */
    const char *operands; /* for the usage line: "PATH..." */
    const char *about;    /* prose and examples, shown before the options */
    int (*run)(const struct sac_command *command, int argc, char **argv); /* argv[0]: the name */
};

struct sac_arguments {
    const struct sac_command *command;
    const struct sac_option *options;
    size_t option_count; /* at most 64 */
    char **operands;     /* out: borrowed from argv */
    size_t operand_count;
    uint64_t given; /* out: bit i is set where the command line has options[i] */
};

/* Fills the options' values and the operands. Returns -1 to go on; else the exit code, with --help printed
 * or the mistake explained. argv is reordered. */
int sac_arguments_parse(struct sac_arguments *arguments, int argc, char **argv);

/* True where the command line (not the environment) has that option. */
bool sac_arguments_given(const struct sac_arguments *arguments, const char *name);

/* Explains a mistake in the use of a command on stderr; returns SAC_EXIT_USAGE. */
int sac_usage_error(const struct sac_command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The word of words[count] that was probably meant, or NULL. */
const char *sac_nearest_word(const char *word, const char *const *words, size_t count);

#endif
