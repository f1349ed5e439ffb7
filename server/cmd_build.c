#include "server/build.h"
#include "server/cmd.h"
#include "server/human.h"
#include "server/local.h"
#include "server/progress_bar.h"

#include "engine/plan.h"
#include "engine/vector_file.h"

#include <ftw.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int build(const struct sac_command *command, int argc, char **argv);

const struct sac_command sac_cmd_build = {
    .name = "build",
    .summary = "embed and index a folder of photos, or vectors",
    .operands = "PATH...",
    .about = "Takes in folders (with all below them), picture files, and vector files (.fvecs .bvecs .fbin "
             ".f16bin\n"
             ".u8bin .i8bin .npy). Pictures are stored under their absolute path, vectors under their row "
             "number.\n"
             "Work is committed batch by batch: after Ctrl-C, a crash or a power cut the same command goes "
             "on where\n"
             "it stopped, and later it adds what is new. Pictures that cannot be read are listed, and stop "
             "nothing.\n"
             "\n"
             "  saccade build ~/Pictures                               # into ./photos.sac\n"
             "  saccade build ~/Pictures --data /srv/p.sac --model ./vit\n"
             "  find /mnt -name '*.jpg' | saccade build --files-from -\n"
             "  saccade build base.fvecs --data sift.sac --collection sift --index IVF1024,PQ32\n",
    .run = build,
};

struct build {
    const struct sac_command *command;
    struct sac_local local;
    const char *metric, *spec, *errors, *files_from;
    uint64_t id_base;
    bool no_index, json, quiet;
    bool spec_given;
    struct sac_inputs inputs;
    char *default_errors;
    struct sac_bar bar;
    sac_ingest_result result;
    sac_error *err;
};

/* ---- the collection ------------------------------------------------------------------------------------ */

/* Weights are found again wherever the next command is run. */
static char *absolute_model(const struct build *b)
{
    const char *model = b->local.model == NULL ? "builtin" : b->local.model;

    return strcmp(model, "builtin") == 0 ? strdup(model) : realpath(model, NULL);
}

static sac_status create_collection(struct build *b)
{
    sac_collection_params params;
    sac_vector_file *file = NULL;
    char *model = NULL;
    sac_status st = SAC_OK;

    sac_collection_params_init(&params);
    params.spec = b->spec;
    params.model = params.fingerprint = "";
    params.metric = b->inputs.vectors ? SAC_METRIC_L2 : SAC_METRIC_COSINE;
    if (b->metric != NULL)
        st = sac_metric_parse(b->metric, &params.metric, b->err);
    if (st == SAC_OK && b->inputs.vectors) {
        st = sac_vector_file_open(b->inputs.at[0], &file, b->err);
        if (st == SAC_OK)
            params.dim = sac_vector_file_dim(file);
        sac_vector_file_close(file);
    } else if (st == SAC_OK) {
        st = sac_local_open_encoder(&b->local, b->err);
        if (st == SAC_OK) {
            model = absolute_model(b);
            if (model == NULL)
                return sac_fail(b->err, SAC_IO, "the path of the model %s cannot be resolved",
                                b->local.model);
            params.dim = sac_encoder_dim(b->local.encoder);
            params.model = model;
            params.fingerprint = sac_encoder_fingerprint(b->local.encoder);
        }
    }
    if (st == SAC_OK)
        st = sac_database_create(b->local.database, b->local.name, &params, b->err);
    if (st == SAC_OK)
        st = sac_collection_acquire(b->local.database, b->local.name, &b->local.collection, b->err);
    free(model);
    return st;
}

/* A collection that is there goes on as it was made; what contradicts that is refused. */
static sac_status check_collection(struct build *b)
{
    sac_collection_params made;
    sac_metric metric;
    sac_status st;

    sac_collection_describe(b->local.collection, &made);
    if (b->metric != NULL) {
        st = sac_metric_parse(b->metric, &metric, b->err);
        if (st != SAC_OK)
            return st;
        if (metric != made.metric)
            return sac_fail(b->err, SAC_ALREADY_EXISTS,
                            "collection %s was made with the metric %s, which cannot change", b->local.name,
                            sac_metric_name(made.metric));
    }
    if (!b->inputs.vectors)
        return sac_local_open_encoder(&b->local, b->err);
    if (made.fingerprint[0] != '\0')
        return sac_fail(
            b->err, SAC_VERSION_MISMATCH,
            "collection %s holds pictures embedded by %s: vectors of unknown origin do not go into it, "
            "use another --collection",
            b->local.name, made.model);
    return SAC_OK;
}

static sac_status open_collection(struct build *b)
{
    sac_status st = sac_local_open_database(&b->local, SAC_OPEN_FILL, b->err);

    if (st != SAC_OK)
        return st;
    st = sac_collection_acquire(b->local.database, b->local.name, &b->local.collection, b->err);
    if (st == SAC_NOT_FOUND)
        return create_collection(b);
    return st == SAC_OK ? check_collection(b) : st;
}

/* ---- the work ------------------------------------------------------------------------------------------ */

static sac_status take_in(struct build *b)
{
    sac_ingest_params params = {
        .paths = (const char *const *)b->inputs.at,
        .path_count = b->inputs.count,
        .decode_threads = b->local.device_options.threads,
        .error_list = b->errors,
    };

    if (b->inputs.vectors)
        return sac_build_vectors(b->local.collection, &b->inputs, b->id_base, b->errors, sac_bar_show,
                                 &b->bar, &b->result, b->err);
    return sac_ingest(b->local.collection, b->local.encoder, &params, sac_bar_show, &b->bar, &b->result,
                      b->err);
}

/* New items are searchable as soon as they are put; training again pays once they are many. */
static bool needs_training(const struct build *b)
{
    sac_collection_params made;
    sac_collection_info info;

    if (b->no_index)
        return false;
    if (b->spec_given)
        return true;
    sac_collection_describe(b->local.collection, &made);
    sac_collection_stats(b->local.collection, &info);
    if (strcmp(made.spec, "Flat") == 0)
        return false;
    return info.index.nlist == 0 || b->result.stored >= info.count / 5;
}

/* Vectors are counted before they are taken in: an index that will have no room is refused at once. */
static sac_status check_room(const struct build *b)
{
    uint64_t count = sac_collection_count(b->local.collection), coming;
    sac_collection_params made;
    sac_index_spec spec;
    sac_status st;

    if (!b->inputs.vectors || b->no_index)
        return SAC_OK;
    sac_collection_describe(b->local.collection, &made);
    st = sac_build_count(&b->inputs, &coming, b->err);
    if (st == SAC_OK)
        st = sac_index_spec_parse(b->spec_given ? b->spec : made.spec, made.dim, &spec, b->err);
    if (st == SAC_OK)
        st = sac_plan_check(b->local.device, &spec, made.dim, count > coming ? count : coming, 0, b->err);
    return st;
}

static sac_status work(struct build *b)
{
    sac_status st = check_room(b);

    if (st == SAC_OK)
        st = take_in(b);
    if (st == SAC_OK && needs_training(b))
        return sac_collection_build(b->local.collection, b->spec_given ? b->spec : NULL, sac_bar_show,
                                    &b->bar, b->err);
    return st == SAC_OK ? sac_collection_checkpoint(b->local.collection, b->err) : st;
}

/* ---- the summary --------------------------------------------------------------------------------------- */

static uint64_t disk_bytes; /* nftw has no context */

static int add_file(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)path;
    (void)where;
    if (kind == FTW_F)
        disk_bytes += (uint64_t)info->st_blocks * 512;
    return 0;
}

static uint64_t size_on_disk(const char *folder)
{
    disk_bytes = 0;
    nftw(folder, add_file, 16, FTW_PHYS);
    return disk_bytes;
}

static void summarize_json(const struct build *b, const sac_collection_info *info, uint64_t bytes)
{
    json_t *j =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:f, s:I, s:s, s:I}", "data", b->local.data, "collection",
                  b->local.name, "found", (json_int_t)b->result.found, "stored", (json_int_t)b->result.stored,
                  "skipped", (json_int_t)b->result.skipped, "failed", (json_int_t)b->result.failed, "seconds",
                  b->result.seconds, "count", (json_int_t)info->count, "index", info->index.spec,
                  "disk_bytes", (json_int_t)bytes);

    if (j != NULL && b->result.failed > 0 && b->errors != NULL)
        json_object_set_new(j, "errors", json_string(b->errors));
    if (j != NULL && b->result.decode_threads > 0) {
        json_object_set_new(j, "decode_threads", json_integer(b->result.decode_threads));
        json_object_set_new(j, "decode_busy", json_real(b->result.decode_busy));
        json_object_set_new(j, "encoder_busy", json_real(b->result.encoder_busy));
    }
    if (j != NULL)
        json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(j);
}

static void summarize(const struct build *b)
{
    const sac_ingest_result *r = &b->result;
    const char *noun = b->inputs.vectors ? "vector" : "picture";
    char number[4][SAC_HUMAN_SIZE], text[3][SAC_HUMAN_SIZE];
    sac_collection_info info;
    uint64_t bytes = size_on_disk(b->local.data);

    sac_collection_stats(b->local.collection, &info);
    if (b->json) {
        summarize_json(b, &info, bytes);
        return;
    }
    printf("%s %s%s stored, %s skipped (there already), %s failed, in %s",
           sac_human_count(r->stored, number[0]), noun, r->stored == 1 ? "" : "s",
           sac_human_count(r->skipped, number[1]), sac_human_count(r->failed, number[2]),
           sac_human_seconds(r->seconds, text[0]));
    if (r->stored > 0 && r->seconds > 0)
        printf(" (%s)", sac_human_rate((double)(r->stored + r->failed) / r->seconds, text[1]));
    if (r->decode_threads > 0)
        printf("\ndecoding %.0f %% busy (%u thread%s), encoder %.0f %% busy", 100 * r->decode_busy,
               r->decode_threads, r->decode_threads == 1 ? "" : "s", 100 * r->encoder_busy);
    printf("\ncollection %s in %s: %s %s%s, index %s, %s on disk\n", b->local.name, b->local.data,
           sac_human_count(info.count, number[3]), noun, info.count == 1 ? "" : "s", info.index.spec,
           sac_human_bytes(bytes, text[2]));
    if (r->failed > 0 && b->errors != NULL)
        printf("what failed, and why: %s\n", b->errors);
}

static void explain_stop(const struct build *b)
{
    char number[SAC_HUMAN_SIZE];
    uint64_t count = b->local.collection == NULL ? 0 : sac_collection_count(b->local.collection);

    fprintf(stderr,
            "saccade build: stopped. The collection holds %s items; the same command goes on from here.\n",
            sac_human_count(count, number));
}

/* ---- the command --------------------------------------------------------------------------------------- */

static sac_status run(struct build *b)
{
    sac_status st = open_collection(b);

    if (st == SAC_OK && b->errors == NULL) {
        size_t size = strlen(b->local.data) + strlen(b->local.name) + sizeof "/.errors.txt";
        b->errors = b->default_errors = malloc(size);
        if (b->default_errors == NULL)
            return sac_fail(b->err, SAC_NO_MEMORY, "no memory for a name");
        snprintf(b->default_errors, size, "%s/%s.errors.txt", b->local.data, b->local.name);
    }
    if (st != SAC_OK)
        return st;
    sac_bar_begin(&b->bar, b->quiet);
    st = work(b);
    sac_bar_end(&b->bar);
    if (st == SAC_OK)
        summarize(b);
    return st;
}

static int finish(struct build *b)
{
    const sac_ingest_result *r = &b->result;
    sac_status st = run(b);
    int code;

    if (st == SAC_CANCELLED) {
        explain_stop(b);
        return SAC_EXIT_FAILED;
    }
    code = sac_cmd_end(b->command, st, b->err);
    if (code == SAC_EXIT_DONE && r->failed > 0 && r->stored + r->skipped == 0) {
        fprintf(stderr, "saccade build: nothing could be stored\n");
        code = SAC_EXIT_FAILED;
    }
    return code;
}

static int build(const struct sac_command *command, int argc, char **argv)
{
    sac_error err = {0};
    struct build b = {.command = command, .spec = "auto", .err = &err};
    int code;

    sac_local_init(&b.local);
    const struct sac_option options[] = {
        sac_option_data(&b.local),
        sac_option_collection(&b.local),
        sac_option_model(&b.local, "the collection's; builtin for a new one"),
        {.name = "index",
         .letter = 'x',
         .type = SAC_OPTION_TEXT,
         .value = &b.spec,
         .argument = "SPEC",
         .help = "as in FAISS: Flat, or IVF1024,PQ32 with an optional OPQ32, before, or IVF1024,RaBitQ for "
                 "long vectors "
                 "(CPUs only); auto chooses by count. "
                 "Given for a collection that is there: trains it anew"},
        {.name = "metric",
         .type = SAC_OPTION_TEXT,
         .value = &b.metric,
         .argument = "M",
         .help = "of a new collection",
         .choices = "l2 ip cosine",
         .fallback = "cosine; l2 for vector files"},
        {.name = "files-from",
         .type = SAC_OPTION_TEXT,
         .value = &b.files_from,
         .argument = "LIST",
         .help = "takes in what this file names, one a line; - is standard input"},
        {.name = "errors",
         .type = SAC_OPTION_TEXT,
         .value = &b.errors,
         .argument = "FILE",
         .help = "gets a line for each picture that failed: path, tab, reason",
         .fallback = "DIR/NAME.errors.txt"},
        {.name = "id-base",
         .type = SAC_OPTION_U64,
         .value = &b.id_base,
         .argument = "N",
         .help = "id of a vector file's first row"},
        {.name = "no-index",
         .type = SAC_OPTION_FLAG,
         .value = &b.no_index,
         .help = "only store: searches stay exact until the index is built"},
        {.name = "json",
         .letter = 'j',
         .type = SAC_OPTION_FLAG,
         .value = &b.json,
         .help = "the summary as one JSON object"},
        {.name = "quiet", .letter = 'q', .type = SAC_OPTION_FLAG, .value = &b.quiet, .help = "no progress"},
        sac_option_precision(&b.local),
        sac_option_device(&b.local),
        sac_option_require_gpu(&b.local),
        sac_option_device_memory(&b.local),
        sac_option_memory(&b.local),
        sac_option_threads(&b.local),
    };
    struct sac_arguments a = {
        .command = command, .options = options, .option_count = sizeof options / sizeof *options};
    code = sac_arguments_parse(&a, argc, argv);
    if (code < 0 && a.operand_count == 0 && b.files_from == NULL)
        code = sac_usage_error(command, "nothing to take in: name a folder, pictures or vector files");
    if (code >= 0)
        return code;
    b.spec_given = sac_arguments_given(&a, "index");
    code = sac_inputs_collect(&b.inputs, a.operands, a.operand_count, b.files_from, &err) == SAC_OK
               ? finish(&b)
               : sac_cmd_end(command, err.status, &err);
    sac_local_close(&b.local);
    sac_inputs_free(&b.inputs);
    free(b.default_errors);
    return code;
}
