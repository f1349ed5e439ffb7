#include "server/cmd.h"
#include "server/human.h"
#include "server/local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

static int plan(const struct sac_command *command, int argc, char **argv);

const struct sac_command sac_cmd_plan = {
    .name = "plan",
    .summary = "tell how much memory an index will need",
    .operands = "",
    .about =
        "Computes, before anything is allocated, what an index of so many vectors takes on the device and "
        "on\n"
        "the host, and whether the device at hand has it. Exits with 1 where it does not fit.\n"
        "\n"
        "  saccade plan --vectors 100M --dim 512                  # with the index that auto would choose\n"
        "  saccade plan --vectors 1B --dim 96 --index IVF65536,PQ48,Refine(SQ8) --memory 139G\n",
    .run = plan,
};

struct wanted {
    struct sac_local local;
    const char *vectors, *spec;
    uint64_t count, memory;
    uint32_t dim, batch;
    bool json;
    sac_error *err;
};

/* "100M": decimal thousands, millions and thousand millions. */
static bool parse_count(const char *text, uint64_t *out)
{
    static const struct {
        char letter;
        double factor;
    } units[] = {{'k', 1e3}, {'K', 1e3}, {'M', 1e6}, {'G', 1e9}, {'B', 1e9}};
    char *end;
    double value = strtod(text, &end);

    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (*end == units[i].letter) {
            value *= units[i].factor;
            end++;
            break;
        }
    *out = value >= 1 && value < 1e18 ? (uint64_t)value : 0;
    return end != text && *end == '\0' && *out > 0;
}

static uint64_t on_device(const sac_plan *p)
{
    uint64_t working = p->bytes_search > p->bytes_training ? p->bytes_search : p->bytes_training;

    return p->bytes_codes + p->bytes_vectors + p->bytes_other + working;
}

static sac_status plan_spec(const struct wanted *w, const char *spec, sac_plan *out, sac_error *err)
{
    sac_index_params params;

    sac_index_params_init(&params);
    params.dim = w->dim;
    params.spec = spec;
    return sac_index_plan(&params, w->count, w->batch, out, err);
}

/* The first way of keeping vectors in less memory that fits; NULL: none. */
static const char *smaller_spec(const struct wanted *w, const sac_plan *p, uint64_t budget, char *spec,
                                size_t size)
{
    static const char *const refine[] = {"Refine(SQfp16)", "Refine(SQ8)"};
    const char *refined = strstr(p->spec, ",R");
    int bare = (int)(refined != NULL ? (size_t)(refined - p->spec) : strlen(p->spec));

    if (p->nlist == 0)
        return NULL;
    for (size_t i = 0; i < sizeof refine / sizeof *refine; i++) {
        sac_plan other;

        snprintf(spec, size, "%.*s,%s", bare, p->spec, refine[i]);
        if (plan_spec(w, spec, &other, NULL) == SAC_OK && on_device(&other) <= budget)
            return spec;
    }
    return NULL;
}

static void print_line(const char *what, uint64_t bytes, const char *note)
{
    char text[SAC_HUMAN_SIZE];

    printf("  %-26s %10s%s%s\n", what, sac_human_bytes(bytes, text), note[0] != '\0' ? "   " : "", note);
}

static void print_plan(const struct wanted *w, const sac_plan *p)
{
    char count[SAC_HUMAN_SIZE], batch[SAC_HUMAN_SIZE], note[64];

    printf("%s vectors of %u components, %s\n\n", sac_human_count(w->count, count), w->dim, p->spec);
    if (p->nlist > 0) {
        snprintf(note, sizeof note, "%u lists, %u codes of %u bits each", p->nlist, p->m, p->nbits);
        print_line("codes, norms, slots", p->bytes_codes, note);
    }
    print_line("vectors", p->bytes_vectors,
               p->nlist > 0 ? "for re-ranking; may stay in host memory" : "compared one by one");
    print_line("centroids and directories", p->bytes_other, "");
    snprintf(note, sizeof note, "a batch of %s", sac_human_count(w->batch, batch));
    print_line("searching", p->bytes_search, note);
    print_line("training", p->bytes_training, "once, before there is anything to search");
    print_line("in all", on_device(p), "with the larger of the last two");
    print_line("host: labels, positions", p->bytes_host, "");
}

/* SAC_DEVICE_MEMORY where it does not fit. */
static sac_status judge(const struct wanted *w, const sac_plan *p, uint64_t budget, const char *where)
{
    char have[SAC_HUMAN_SIZE], missing[SAC_HUMAN_SIZE], spec[96];
    uint64_t need = on_device(p);
    const char *smaller;

    if (need <= budget) {
        printf("\nIt fits: %s has %s.\n", where, sac_human_bytes(budget, have));
        return SAC_OK;
    }
    smaller = smaller_spec(w, p, budget, spec, sizeof spec);
    return sac_fail(w->err, SAC_DEVICE_MEMORY, "%s has %s, %s are missing: %s%s", where,
                    sac_human_bytes(budget, have), sac_human_bytes(need - budget, missing),
                    smaller != NULL ? "it fits with --index "
                                    : "use fewer or shorter vectors, or several devices",
                    smaller != NULL ? smaller : "");
}

static sac_status print_json(const struct wanted *w, const sac_plan *p, uint64_t budget)
{
    json_t *json = json_pack(
        "{s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "vectors", (json_int_t)w->count,
        "dim", (json_int_t)w->dim, "index", p->spec, "bytes_codes", (json_int_t)p->bytes_codes,
        "bytes_vectors", (json_int_t)p->bytes_vectors, "bytes_other", (json_int_t)p->bytes_other,
        "bytes_search", (json_int_t)p->bytes_search, "bytes_training", (json_int_t)p->bytes_training,
        "bytes_device", (json_int_t)on_device(p), "bytes_host", (json_int_t)p->bytes_host, "bytes_budget",
        (json_int_t)budget, "fits", on_device(p) <= budget);

    if (json == NULL)
        return sac_fail(w->err, SAC_NO_MEMORY, "no memory for the answer");
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
    return SAC_OK;
}

static sac_status run(struct wanted *w)
{
    sac_device_memory memory = {.budget = w->memory};
    const char *where = "--memory";
    sac_plan p;
    sac_status st = plan_spec(w, w->spec, &p, w->err);

    if (st == SAC_OK && w->memory == 0) {
        st = sac_local_open_device(&w->local, w->err);
        if (st != SAC_OK)
            return st;
        where = sac_device_describe(w->local.device);
        sac_device_memory_describe(w->local.device, &memory);
    }
    if (st != SAC_OK)
        return st;
    if (w->json)
        return print_json(w, &p, memory.budget);
    print_plan(w, &p);
    return judge(w, &p, memory.budget, where);
}

static int plan(const struct sac_command *command, int argc, char **argv)
{
    sac_error err = {0};
    struct wanted w = {.spec = "auto", .batch = 1000, .err = &err};
    sac_status st;
    int code;

    sac_local_init(&w.local);
    const struct sac_option options[] = {
        {.name = "vectors",
         .letter = 'n',
         .type = SAC_OPTION_TEXT,
         .value = &w.vectors,
         .argument = "N",
         .help = "how many; k, M and G stand for thousands, millions and thousand millions"},
        {.name = "dim",
         .type = SAC_OPTION_U32,
         .value = &w.dim,
         .argument = "N",
         .help = "components of a vector",
         .min = 1,
         .max = SAC_DIM_MAX,
         .fallback = "none"},
        {.name = "index",
         .type = SAC_OPTION_TEXT,
         .value = &w.spec,
         .argument = "SPEC",
         .help = "the kind of index, as for saccade build"},
        {.name = "batch",
         .type = SAC_OPTION_U32,
         .value = &w.batch,
         .argument = "N",
         .help = "queries searched together",
         .min = 1,
         .max = 1000000},
        {.name = "memory",
         .type = SAC_OPTION_BYTES,
         .value = &w.memory,
         .argument = "BYTES",
         .help = "judge by this much memory instead of the device's",
         .fallback = "the device's"},
        {.name = "json",
         .letter = 'j',
         .type = SAC_OPTION_FLAG,
         .value = &w.json,
         .help = "all of it as one JSON object"},
        sac_option_device(&w.local),
        sac_option_require_gpu(&w.local),
        sac_option_device_memory(&w.local),
    };
    struct sac_arguments a = {
        .command = command, .options = options, .option_count = sizeof options / sizeof *options};
    code = sac_arguments_parse(&a, argc, argv);
    if (code < 0 && a.operand_count > 0)
        code = sac_usage_error(command, "\"%s\" is too much", a.operands[0]);
    if (code < 0 && (w.vectors == NULL || w.dim == 0))
        code = sac_usage_error(command, "how many, and how long? Give --vectors 10M --dim 512, for example");
    if (code < 0 && !parse_count(w.vectors, &w.count))
        code = sac_usage_error(command, "--vectors \"%s\" is no count, such as 100M", w.vectors);
    if (code >= 0)
        return code;
    st = run(&w);
    sac_local_close(&w.local);
    return sac_cmd_end(command, st, &err);
}
