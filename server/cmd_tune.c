#include "server/cmd.h"
#include "server/local.h"
#include "server/progress_bar.h"
#include "server/tune.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tune(const struct sac_command *command, int argc, char **argv);

const struct sac_command sac_cmd_tune = {
    .name = "tune",
    .summary = "find the index for a recall or a latency, and how to ask it",
    .operands = "[FILE]",
    .about =
        "Tries indexes over a sample of a vector file (.fvecs .bvecs .fbin .f16bin .u8bin .i8bin .npy) or, "
        "without\n"
        "one, of a collection: how many lists, which codes, how vectors are stored, how many lists to look "
        "into and\n"
        "candidates to re-rank. Says what to expect of each at full size, and what to type next. Where no "
        "queries\n"
        "are given, vectors are held back and ask. Exits with 1 where nothing reaches the goal.\n"
        "\n"
        "  saccade tune base.fvecs --recall 0.95                  # the fastest index that finds 95 %\n"
        "  saccade tune base.fvecs --queries asked.fvecs --recall 0.99 --memory 4G\n"
        "  saccade tune base.fvecs --latency 500us                # the best recall in half a millisecond\n"
        "  saccade tune --data photos.sac --seconds 300           # of a collection, for the default of "
        "0.95\n",
    .run = tune,
};

/* "500us", "2ms", "1.5s"; a bare number is in milliseconds. */
static bool parse_latency(const char *text, double *out)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"", 1e-3}};
    char *end;
    double value = strtod(text, &end);

    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(end, units[i].name) == 0) {
            *out = value * units[i].seconds;
            return end != text && *out > 0 && *out < 3600;
        }
    return false;
}

static sac_status run(struct sac_tune_ask *ask, bool quiet, bool *reached, sac_error *err)
{
    sac_tune_input input = {0};
    sac_tuning *tuning = NULL;
    struct sac_bar bar;
    sac_status st = sac_local_open_device(&ask->local, err);

    if (st != SAC_OK)
        return st;
    sac_bar_begin(&bar, quiet);
    st = sac_tune_read(ask, &input, sac_bar_show, &bar, err);
    if (st == SAC_OK)
        st = sac_tune(ask->local.device, &input.params, sac_bar_show, &bar, &tuning, err);
    sac_bar_end(&bar);
    if (st == SAC_OK)
        st = ask->json ? sac_tune_print_json(ask, &input, tuning, err) : SAC_OK;
    if (st == SAC_OK && !ask->json)
        sac_tune_print(ask, &input, tuning);
    *reached = st == SAC_OK && tuning->at[0].reaches;
    if (st == SAC_OK && !*reached)
        sac_tune_explain(&input, tuning, err);
    sac_tuning_free(tuning);
    sac_tune_input_free(&input);
    return st;
}

static int check(const struct sac_command *command, const struct sac_arguments *a, struct sac_tune_ask *ask,
                 const char *latency)
{
    if (a->operand_count > 1)
        return sac_usage_error(command, "\"%s\" is too much: one file at a time", a->operands[1]);
    ask->file = a->operand_count == 1 ? a->operands[0] : NULL;
    if (ask->file != NULL && (sac_arguments_given(a, "data") || sac_arguments_given(a, "collection")))
        return sac_usage_error(command,
                               "a vector file, or a collection by --data and --collection: give one");
    if (ask->file == NULL && ask->metric != NULL)
        return sac_usage_error(command, "--metric goes with a vector file: a collection has its own");
    if (latency != NULL && !parse_latency(latency, &ask->latency))
        return sac_usage_error(command, "--latency \"%s\" is no time, such as 500us or 2ms", latency);
    if (latency == NULL && ask->recall == 0)
        ask->recall = 0.95f;
    return -1;
}

static int tune(const struct sac_command *command, int argc, char **argv)
{
    struct sac_tune_ask ask = {.k = 10, .seconds = 120, .seed = 1};
    const char *latency = NULL;
    bool quiet = false, reached = false;
    sac_error err = {0};
    int code;

    sac_local_init(&ask.local);
    const struct sac_option options[] = {
        {.name = "recall",
         .letter = 'r',
         .type = SAC_OPTION_F32,
         .value = &ask.recall,
         .argument = "R",
         .help = "share of the true nearest to find",
         .min = 0.01,
         .max = 1,
         .fallback = "0.95, unless --latency is given"},
        {.name = "latency",
         .letter = 'l',
         .type = SAC_OPTION_TEXT,
         .value = &latency,
         .argument = "TIME",
         .help = "that 99 of 100 queries may take, one at a time: 500us, 2ms"},
        {.name = "memory",
         .type = SAC_OPTION_BYTES,
         .value = &ask.memory,
         .argument = "BYTES",
         .help = "that the whole index may take",
         .fallback = "any"},
        {.name = "k",
         .letter = 'k',
         .type = SAC_OPTION_U32,
         .value = &ask.k,
         .argument = "N",
         .help = "neighbours that recall counts",
         .min = 1,
         .max = SAC_K_MAX},
        {.name = "queries",
         .type = SAC_OPTION_TEXT,
         .value = &ask.queries,
         .argument = "FILE",
         .help = "vectors as users will ask them, not among those indexed",
         .fallback = "some are held back"},
        {.name = "metric",
         .type = SAC_OPTION_TEXT,
         .value = &ask.metric,
         .argument = "M",
         .help = "of a vector file",
         .choices = "l2 ip cosine",
         .fallback = "l2"},
        {.name = "seconds",
         .letter = 's',
         .type = SAC_OPTION_F32,
         .value = &ask.seconds,
         .argument = "S",
         .help = "that tuning may take, once vectors are read; more lets it look at more of them",
         .min = 0.1,
         .max = 86400},
        {.name = "seed",
         .type = SAC_OPTION_U64,
         .value = &ask.seed,
         .argument = "N",
         .help = "of samples and training"},
        sac_option_data(&ask.local),
        sac_option_collection(&ask.local),
        {.name = "json",
         .letter = 'j',
         .type = SAC_OPTION_FLAG,
         .value = &ask.json,
         .help = "all of it as one JSON object"},
        {.name = "quiet", .letter = 'q', .type = SAC_OPTION_FLAG, .value = &quiet, .help = "no progress"},
        sac_option_device(&ask.local),
        sac_option_require_gpu(&ask.local),
        sac_option_device_memory(&ask.local),
        sac_option_threads(&ask.local),
    };
    struct sac_arguments a = {
        .command = command, .options = options, .option_count = sizeof options / sizeof *options};
    code = sac_arguments_parse(&a, argc, argv);
    if (code < 0)
        code = check(command, &a, &ask, latency);
    if (code < 0) {
        sac_status st = run(&ask, quiet, &reached, &err);
        code = sac_cmd_end(command, st == SAC_OK && !reached ? SAC_NOT_FOUND : st, &err);
    }
    sac_local_close(&ask.local);
    return code;
}
