#include "server/cmd.h"
#include "server/query.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int query(const struct sac_command *command, int argc, char **argv);

const struct sac_command sac_cmd_query = {
    .name = "query",
    .summary = "find the pictures that look like one",
    .operands = "IMAGE...",
    .about =
        "Asks the files of --data, or a running server with --connect. The question is a picture (\"-\":\n"
        "from standard input), a stored item (--id) or a vector (--vector). Hits come nearest first.\n"
        "\n"
        "  saccade query beach.jpg                            # the 10 nearest in ./photos.sac\n"
        "  saccade query beach.jpg -k 3 --json                # one JSON object a line\n"
        "  saccade query beach.jpg --crop 40,10,200,200       # only what is inside that box\n"
        "  saccade query --id /home/me/Pictures/beach.jpg     # others like this one\n"
        "  saccade query beach.jpg --connect 127.0.0.1:7700   # ask a server\n"
        "  saccade query --vector query.fvecs:0 --recall 0.99 # row 0; without :0 every row\n",
    .run = query,
};

/* "x,y,w,h" */
static bool parse_crop(const char *text, sac_crop *crop)
{
    uint32_t *const parts[] = {&crop->x, &crop->y, &crop->w, &crop->h};

    for (size_t i = 0; i < 4; i++) {
        char *end;
        unsigned long value = strtoul(text, &end, 10);
        if (text[0] < '0' || text[0] > '9' || end - text > 9 || *end != (i < 3 ? ',' : '\0'))
            return false;
        *parts[i] = (uint32_t)value;
        text = end + 1;
    }
    return crop->w > 0 && crop->h > 0;
}

static int check(const struct sac_command *command, const struct sac_arguments *a, const struct sac_ask *ask)
{
    if (ask->image_count + ask->ids.count + ask->vectors.count == 0)
        return sac_usage_error(command, "nothing to ask: name a picture, or use --id or --vector");
    if (sac_arguments_given(a, "connect") && sac_arguments_given(a, "data"))
        return sac_usage_error(command,
                               "--data reads this machine's files, --connect asks a server: give one");
    if ((ask->exact || ask->nprobe > 0) && ask->recall > 0)
        return sac_usage_error(command,
                               "--recall chooses how far to look, and so do --nprobe and --exact: give one");
    if (ask->exact && ask->nprobe > 0)
        return sac_usage_error(command, "--exact looks everywhere, --nprobe at some lists: give one");
    if (ask->crop != NULL && ask->image_count == 0)
        return sac_usage_error(command, "--crop goes with a picture");
    return -1;
}

static int run(const struct sac_command *command, struct sac_ask *ask)
{
    sac_error err = {0};
    sac_status st;

    ask->style.many = ask->image_count + ask->ids.count + ask->vectors.count > 1 || ask->vectors.count > 0;
    if (ask->connect != NULL)
        st = sac_query_remote(ask, &err);
    else
        st = sac_query_local(ask, &err);
    sac_local_close(&ask->local);
    return sac_cmd_end(command, st, &err);
}

static int query(const struct sac_command *command, int argc, char **argv)
{
    struct sac_ask ask = {.k = 10, .threshold = -INFINITY, .timeout_ms = 10000};
    const char *crop = NULL;
    sac_crop box;
    int code;

    sac_local_init(&ask.local);
    const struct sac_option options[] = {
        {.name = "id",
         .letter = 'i',
         .type = SAC_OPTION_TEXTS,
         .value = &ask.ids,
         .argument = "ID",
         .help = "a stored item asks; may be repeated"},
        {.name = "vector",
         .letter = 'v',
         .type = SAC_OPTION_TEXTS,
         .value = &ask.vectors,
         .argument = "FILE[:ROW]",
         .help =
             "a row of a vector file asks (.fvecs .bvecs .fbin .f16bin .u8bin .i8bin .npy), or all its rows"},
        {.name = "k",
         .letter = 'k',
         .type = SAC_OPTION_U32,
         .value = &ask.k,
         .argument = "N",
         .help = "hits wanted",
         .min = 1,
         .max = SAC_K_MAX - 1},
        sac_option_data(&ask.local),
        {.name = "connect",
         .type = SAC_OPTION_TEXT,
         .value = &ask.connect,
         .argument = "ADDRESS",
         .help = "ask the server at HOST:PORT or unix:PATH instead of --data",
         .variable = "SACCADE_CLIENT__CONNECT"},
        sac_option_collection(&ask.local),
        {.name = "recall",
         .letter = 'r',
         .type = SAC_OPTION_F32,
         .value = &ask.recall,
         .argument = "R",
         .help = "share of the true nearest to find; how far to look follows from what the build measured",
         .min = 0.01,
         .max = 1,
         .fallback = "0.95"},
        {.name = "nprobe",
         .type = SAC_OPTION_U32,
         .value = &ask.nprobe,
         .argument = "N",
         .help = "lists to look into, instead of --recall",
         .min = 1,
         .max = 65536,
         .fallback = "by recall"},
        {.name = "depth",
         .type = SAC_OPTION_U32,
         .value = &ask.depth,
         .argument = "N",
         .help = "candidates to re-rank",
         .min = 1,
         .max = SAC_DEPTH_MAX,
         .fallback = "by recall"},
        {.name = "exact",
         .letter = 'e',
         .type = SAC_OPTION_FLAG,
         .value = &ask.exact,
         .help = "compare with every vector"},
        {.name = "crop",
         .type = SAC_OPTION_TEXT,
         .value = &crop,
         .argument = "X,Y,W,H",
         .help = "the part of the upright picture that is meant, in pixels"},
        {.name = "threshold",
         .letter = 's',
         .type = SAC_OPTION_F32,
         .value = &ask.threshold,
         .argument = "S",
         .help = "leave out hits with a smaller score",
         .fallback = "none"},
        {.name = "json",
         .letter = 'j',
         .type = SAC_OPTION_FLAG,
         .value = &ask.style.json,
         .help = "one object a line: query, rank, id, score, distance"},
        sac_option_model(&ask.local, "the collection's"),
        sac_option_precision(&ask.local),
        sac_option_device(&ask.local),
        sac_option_require_gpu(&ask.local),
        sac_option_device_memory(&ask.local),
        sac_option_threads(&ask.local),
        {.name = "timeout-ms",
         .type = SAC_OPTION_U32,
         .value = &ask.timeout_ms,
         .argument = "N",
         .help = "how long a server may take",
         .min = 1,
         .max = 30000,
         .variable = "SACCADE_CLIENT__TIMEOUT_MS"},
    };
    struct sac_arguments a = {
        .command = command, .options = options, .option_count = sizeof options / sizeof *options};
    code = sac_arguments_parse(&a, argc, argv);
    ask.images = a.operands;
    ask.image_count = a.operand_count;
    if (code < 0 && crop != NULL && !parse_crop(crop, &box))
        code = sac_usage_error(command, "--crop: \"%s\" is not X,Y,W,H in whole pixels", crop);
    ask.crop = crop == NULL ? NULL : &box;
    if (sac_arguments_given(&a, "data") && !sac_arguments_given(&a, "connect"))
        ask.connect = NULL; /* the command line goes before the environment */
    if (code < 0)
        code = check(command, &a, &ask);
    if (code < 0)
        code = run(command, &ask);
    free(ask.ids.at);
    free(ask.vectors.at);
    return code;
}
