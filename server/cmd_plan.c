#include "server/cmd.h"
#include "server/human.h"
#include "server/local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

enum { QUERIES = 1000 }; /* of a batch, unless it is given */

static int plan(const struct sac_command *command, int argc, char **argv);

const struct sac_command sac_cmd_plan = {
    .name = "plan",
    .summary = "tell how much memory an index and its encoders will need",
    .operands = "",
    .about =
        "Computes, before anything is allocated, what an index of so many vectors and the encoders beside "
        "it\n"
        "take on the device and on the host, and whether the device at hand has it. Exits with 1 where it "
        "does\n"
        "not fit.\n"
        "\n"
        "  saccade plan --vectors 100M --dim 512                  # with the index that auto would choose\n"
        "  saccade plan --vectors 1B --dim 96 --index IVF65536,PQ48,Refine(SQ8) --memory 139G\n"
        "  saccade plan --model models/vit_base --batch 64        # an encoder alone\n"
        "  saccade plan --model models/vit_base --vectors 100M    # and an index of its vectors\n",
    .run = plan,
};

struct wanted {
    struct sac_local local;
    const char *vectors, *spec; /* vectors NULL: no index */
    struct sac_texts models;
    sac_encoder_needs *needs; /* [models.count] */
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

/* ---- encoders --------------------------------------------------------------------------------------- */

enum { PASSES = 2 }; /* in flight at once: one computes while the next one's pixels go up */

static uint64_t passes_bytes(const sac_encoder_needs *n)
{
    return PASSES * (n->bytes_pass + n->bytes_scratch);
}

static uint64_t encoders_on_device(const struct wanted *w)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < w->models.count; i++)
        bytes += w->needs[i].bytes_weights + passes_bytes(&w->needs[i]);
    return bytes;
}

static sac_status plan_encoders(struct wanted *w, uint64_t budget)
{
    sac_encoder_options options;
    sac_status st = SAC_OK;

    sac_encoder_options_init(&options);
    options.precision = w->local.precision;
    if (w->batch > 0)
        options.batch_max = w->batch < SAC_PASS_MAX ? w->batch : SAC_PASS_MAX;
    w->needs = calloc(w->models.count + 1, sizeof *w->needs);
    if (w->needs == NULL)
        return sac_fail(w->err, SAC_NO_MEMORY, "no memory for a plan");
    for (size_t i = 0; st == SAC_OK && i < w->models.count; i++)
        st = sac_encoder_plan(w->models.at[i], &options, budget, &w->needs[i], w->err);
    return st;
}

/* Unless it was given, the vectors' length is that of the first encoder's. */
static sac_status choose_dim(struct wanted *w)
{
    bool fits = w->models.count == 0;

    if (w->dim == 0)
        w->dim = w->needs[0].dim;
    for (size_t i = 0; i < w->models.count && !fits; i++)
        fits = w->needs[i].dim == w->dim;
    if (fits)
        return SAC_OK;
    return sac_fail(
        w->err, SAC_INVALID_ARGUMENT,
        "%s gives vectors of %u components, not %u: leave --dim out, or plan the vectors of another "
        "encoder by themselves",
        w->needs[0].name, w->needs[0].dim, w->dim);
}

static sac_status plan_spec(const struct wanted *w, const char *spec, sac_plan *out, sac_error *err)
{
    sac_index_params params;

    sac_index_params_init(&params);
    params.dim = w->dim;
    params.spec = spec;
    return sac_index_plan(&params, w->count, w->batch > 0 ? w->batch : QUERIES, out, err);
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

static void print_encoder(const sac_encoder_needs *n)
{
    char what[64];

    printf("%s: vectors of %u components\n\n", n->name, n->dim);
    print_line("weights", n->bytes_weights, "");
    snprintf(what, sizeof what, "%d passes of %u picture%s", PASSES, n->pass, n->pass == 1 ? "" : "s");
    print_line(what, passes_bytes(n), "one computes while the pixels of the next go up");
    print_line("in all", n->bytes_weights + passes_bytes(n), "");
    print_line("host: pictures, at most", n->bytes_host, "page-locked");
    putchar('\n');
}

static void print_index(const struct wanted *w, const sac_plan *p)
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
    snprintf(note, sizeof note, "a batch of %s", sac_human_count(w->batch > 0 ? w->batch : QUERIES, batch));
    print_line("searching", p->bytes_search, note);
    print_line("training", p->bytes_training, "once, before there is anything to search");
    print_line("in all", on_device(p), "with the larger of the last two");
    print_line("host: labels, positions", p->bytes_host, "");
    putchar('\n');
}

/* SAC_DEVICE_MEMORY where it does not fit. index NULL: none is wanted. */
static sac_status judge(const struct wanted *w, const sac_plan *index, uint64_t budget, const char *where)
{
    char have[SAC_HUMAN_SIZE], want[SAC_HUMAN_SIZE], missing[SAC_HUMAN_SIZE], spec[96];
    uint64_t encoders = encoders_on_device(w), need = encoders + (index != NULL ? on_device(index) : 0);
    const char *smaller = NULL, *advice = "use fewer or shorter vectors, or several devices";

    if (w->models.count + (index != NULL) > 1)
        printf("All of it takes %s.\n", sac_human_bytes(need, want));
    if (need <= budget) {
        printf("It fits: %s has %s.\n", where, sac_human_bytes(budget, have));
        return SAC_OK;
    }
    if (index != NULL && encoders < budget)
        smaller = smaller_spec(w, index, budget - encoders, spec, sizeof spec);
    if (smaller != NULL)
        advice = "it fits with --index ";
    else if (index == NULL)
        advice = "use a smaller --batch, fewer or smaller encoders, or several devices";
    return sac_fail(w->err, SAC_DEVICE_MEMORY, "%s has %s, %s are missing: %s%s", where,
                    sac_human_bytes(budget, have), sac_human_bytes(need - budget, missing), advice,
                    smaller != NULL ? smaller : "");
}

/* ---- JSON ------------------------------------------------------------------------------------------- */

static json_t *encoders_json(const struct wanted *w)
{
    json_t *all = json_array();

    for (size_t i = 0; i < w->models.count; i++) {
        const sac_encoder_needs *n = &w->needs[i];

        json_array_append_new(
            all, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "model", n->name, "dim", (json_int_t)n->dim,
                           "pass", (json_int_t)n->pass, "bytes_weights", (json_int_t)n->bytes_weights,
                           "bytes_pass", (json_int_t)n->bytes_pass, "bytes_scratch",
                           (json_int_t)n->bytes_scratch, "bytes_host", (json_int_t)n->bytes_host));
    }
    return all;
}

static json_t *index_json(const struct wanted *w, const sac_plan *p)
{
    return json_pack("{s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I}", "vectors", (json_int_t)w->count, "dim",
                     (json_int_t)w->dim, "index", p->spec, "bytes_codes", (json_int_t)p->bytes_codes,
                     "bytes_vectors", (json_int_t)p->bytes_vectors, "bytes_other", (json_int_t)p->bytes_other,
                     "bytes_search", (json_int_t)p->bytes_search, "bytes_training",
                     (json_int_t)p->bytes_training);
}

static sac_status print_json(const struct wanted *w, const sac_plan *index, uint64_t budget)
{
    uint64_t device = encoders_on_device(w), host = 0;
    json_t *json = index != NULL ? index_json(w, index) : json_object();

    if (index != NULL) {
        device += on_device(index);
        host += index->bytes_host;
    }
    for (size_t i = 0; i < w->models.count; i++)
        host += w->needs[i].bytes_host;
    if (w->models.count > 0)
        json_object_set_new(json, "encoders", encoders_json(w));
    json_object_set_new(json, "bytes_device", json_integer((json_int_t)device));
    json_object_set_new(json, "bytes_host", json_integer((json_int_t)host));
    json_object_set_new(json, "bytes_budget", json_integer((json_int_t)budget));
    if (json_object_set_new(json, "fits", json_boolean(device <= budget)) != 0) {
        json_decref(json);
        return sac_fail(w->err, SAC_NO_MEMORY, "no memory for the answer");
    }
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
    return SAC_OK;
}

/* ---- the command ------------------------------------------------------------------------------------ */

/* The memory to judge by: what was given, or what the device has. */
static sac_status find_budget(struct wanted *w, uint64_t *budget, const char **where)
{
    sac_device_memory memory;
    sac_status st;

    *budget = w->memory;
    *where = "--memory";
    if (w->memory > 0)
        return SAC_OK;
    st = sac_local_open_device(&w->local, w->err);
    if (st != SAC_OK)
        return st;
    sac_device_memory_describe(w->local.device, &memory);
    *budget = memory.budget;
    *where = sac_device_describe(w->local.device);
    return SAC_OK;
}

static sac_status run(struct wanted *w)
{
    const sac_plan *index = NULL;
    const char *where;
    uint64_t budget;
    sac_plan plan;
    sac_status st = find_budget(w, &budget, &where);

    if (st == SAC_OK)
        st = plan_encoders(w, budget);
    if (st == SAC_OK && w->vectors != NULL) {
        index = &plan;
        st = choose_dim(w);
        if (st == SAC_OK)
            st = plan_spec(w, w->spec, &plan, w->err);
    }
    if (st != SAC_OK)
        return st;
    if (w->json)
        return print_json(w, index, budget);
    for (size_t i = 0; i < w->models.count; i++)
        print_encoder(&w->needs[i]);
    if (index != NULL)
        print_index(w, index);
    return judge(w, index, budget, where);
}

/* What is given fits together; else the mistake is explained. */
static int check(const struct sac_command *command, struct wanted *w)
{
    if (w->vectors == NULL && w->models.count == 0)
        return sac_usage_error(command,
                               "how many, and how long? Give --vectors 10M --dim 512, for example, or "
                               "an encoder's --model");
    if (w->vectors != NULL && w->dim == 0 && w->models.count == 0)
        return sac_usage_error(command, "how many, and how long? Give --vectors 10M --dim 512, for example");
    if (w->vectors != NULL && !parse_count(w->vectors, &w->count))
        return sac_usage_error(command, "--vectors \"%s\" is no count, such as 100M", w->vectors);
    return -1;
}

static int plan(const struct sac_command *command, int argc, char **argv)
{
    sac_error err = {0};
    struct wanted w = {.spec = "auto", .err = &err};
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
         .fallback = "the encoder's"},
        {.name = "model",
         .letter = 'm',
         .type = SAC_OPTION_TEXTS,
         .value = &w.models,
         .argument = "DIR",
         .help =
             "an encoder's folder of weights, of which only headers are read; may be repeated for several "
             "beside each other"},
        sac_option_precision(&w.local),
        {.name = "index",
         .type = SAC_OPTION_TEXT,
         .value = &w.spec,
         .argument = "SPEC",
         .help = "the kind of index, as for saccade build"},
        {.name = "batch",
         .type = SAC_OPTION_U32,
         .value = &w.batch,
         .argument = "N",
         .help = "queries searched together; pictures of an encoder's pass, which are at most 1024",
         .min = 1,
         .max = 1000000,
         .fallback = "1000 queries, 256 pictures"},
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
    if (code < 0)
        code = check(command, &w);
    if (code < 0)
        code = sac_cmd_end(command, run(&w), &err);
    sac_local_close(&w.local);
    free(w.needs);
    free(w.models.at);
    return code;
}
