#include "server/cmd.h"
#include "server/local.h"
#include "server/npy.h"
#include "server/pictures.h"

#include "engine/walk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int embed(const struct sac_command *command, int argc, char **argv);

const struct sac_command sac_cmd_embed = {
    .name = "embed",
    .summary = "turn pictures into vectors, written as .npy",
    .operands = "PATH...",
    .about =
        "Takes pictures, and folders with all below them. Writes f32 [n][dim], each row of length 1, and\n"
        "beside out.npy a file out.txt with the picture's name for every row. A picture that cannot be read\n"
        "has no row, is explained on stderr, and makes the exit code 1; the others are written all the "
        "same.\n"
        "\n"
        "  saccade embed *.jpg -o out.npy                    # with the built-in descriptor\n"
        "  saccade embed ~/Pictures -o out.npy --model ./vit # with a vision transformer\n"
        "  saccade embed a.jpg b.jpg > two.npy               # to standard output, if it is no terminal\n",
    .run = embed,
};

struct embedding {
    const struct sac_command *command;
    struct sac_local local;
    const char *out;
    char **paths; /* copies */
    size_t count;
    char *names_path; /* NULL: no names file */
    FILE *names;
    sac_npy_writer *writer;
    size_t failed;
    sac_error *err;
};

/* ---- what to embed ------------------------------------------------------------------------------------- */

static sac_status add_path(struct embedding *e, const char *path)
{
    char **grown = realloc(e->paths, (e->count + 1) * sizeof *grown);

    if (grown == NULL)
        return sac_fail(e->err, SAC_NO_MEMORY, "no memory for the names of %zu pictures", e->count);
    e->paths = grown;
    e->paths[e->count] = strdup(path);
    if (e->paths[e->count] == NULL)
        return sac_fail(e->err, SAC_NO_MEMORY, "no memory for the names of %zu pictures", e->count);
    e->count++;
    return SAC_OK;
}

static sac_status add_folder(struct embedding *e, const char *folder)
{
    struct sac_walk walk;
    sac_status st = sac_walk_paths(&folder, 1, NULL, NULL, &walk, e->err);

    for (size_t i = 0; st == SAC_OK && i < walk.count; i++)
        st = add_path(e, walk.files[i].path);
    sac_walk_free(&walk);
    return st;
}

/* In the order of the command line, so that rows are where the caller expects them. */
static sac_status collect(struct embedding *e, char **operands, size_t count)
{
    struct stat info;
    sac_status st = SAC_OK;

    for (size_t i = 0; st == SAC_OK && i < count; i++) {
        bool folder = stat(operands[i], &info) == 0 && S_ISDIR(info.st_mode);
        st = folder ? add_folder(e, operands[i]) : add_path(e, operands[i]);
    }
    return st;
}

/* ---- what comes out ------------------------------------------------------------------------------------ */

static sac_status on_picture(void *context, size_t index, const float *vector, const sac_error *error)
{
    struct embedding *e = context;

    if (vector == NULL) {
        fprintf(stderr, "saccade embed: %s\n", error->text);
        e->failed++;
        return SAC_OK;
    }
    if (e->names != NULL && fprintf(e->names, "%s\n", e->paths[index]) < 0)
        return sac_fail(e->err, SAC_IO, "%s: %s", e->names_path, strerror(errno));
    return sac_npy_write(e->writer, 1, vector, e->err);
}

/* "dir/out.npy" -> "dir/out.txt" */
static sac_status open_names(struct embedding *e)
{
    size_t size = strlen(e->out);

    if (strcmp(e->out, "-") == 0)
        return SAC_OK;
    if (size > 4 && strcmp(e->out + size - 4, ".npy") == 0)
        size -= 4;
    e->names_path = malloc(size + sizeof ".txt");
    if (e->names_path == NULL)
        return sac_fail(e->err, SAC_NO_MEMORY, "no memory for a name");
    memcpy(e->names_path, e->out, size);
    memcpy(e->names_path + size, ".txt", sizeof ".txt");
    e->names = fopen(e->names_path, "w");
    return e->names != NULL ? SAC_OK : sac_fail(e->err, SAC_IO, "%s: %s", e->names_path, strerror(errno));
}

static sac_status finish_files(struct embedding *e, sac_status st)
{
    if (e->names != NULL && fclose(e->names) != 0 && st == SAC_OK)
        st = sac_fail(e->err, SAC_IO, "%s: %s", e->names_path, strerror(errno));
    e->names = NULL;
    if (e->writer != NULL && st == SAC_OK)
        st = sac_npy_finish(e->writer, e->err);
    else
        sac_npy_abandon(e->writer);
    e->writer = NULL;
    return st;
}

static sac_status run(struct embedding *e, char **operands, size_t count)
{
    sac_status st = collect(e, operands, count);

    if (st == SAC_OK)
        st = sac_local_open_device(&e->local, e->err);
    if (st == SAC_OK)
        st = sac_local_open_encoder(&e->local, e->err);
    if (st == SAC_OK)
        st = sac_npy_open(e->out, sac_encoder_dim(e->local.encoder), &e->writer, e->err);
    if (st == SAC_OK)
        st = open_names(e);
    if (st == SAC_OK)
        st = sac_pictures_embed(
            &(struct sac_pictures){
                .encoder = e->local.encoder,
                .threads = sac_device_threads(e->local.device),
                .paths = (const char *const *)e->paths,
                .count = e->count,
                .done = on_picture,
                .context = e,
            },
            e->err);
    return finish_files(e, st);
}

static int embed(const struct sac_command *command, int argc, char **argv)
{
    sac_error err = {0};
    struct embedding e = {.command = command, .out = "-", .err = &err};
    int code;
    sac_status st;

    sac_local_init(&e.local);
    const struct sac_option options[] = {
        {.name = "out",
         .letter = 'o',
         .type = SAC_OPTION_TEXT,
         .value = &e.out,
         .argument = "FILE",
         .help = "the .npy file; - is standard output"},
        sac_option_model(&e.local, "builtin"),
        sac_option_precision(&e.local),
        sac_option_device(&e.local),
        sac_option_require_gpu(&e.local),
        sac_option_device_memory(&e.local),
        sac_option_threads(&e.local),
    };
    struct sac_arguments a = {
        .command = command, .options = options, .option_count = sizeof options / sizeof *options};
    code = sac_arguments_parse(&a, argc, argv);
    if (code < 0 && a.operand_count == 0)
        code = sac_usage_error(command, "no picture: name at least one");
    if (code < 0 && strcmp(e.out, "-") == 0 && isatty(STDOUT_FILENO))
        code = sac_usage_error(command, "vectors are no text for a terminal: use -o out.npy, or a pipe");
    if (code >= 0)
        return code;
    st = run(&e, a.operands, a.operand_count);
    sac_local_close(&e.local);
    while (e.count > 0)
        free(e.paths[--e.count]);
    free(e.paths);
    free(e.names_path);
    code = sac_cmd_end(command, st, &err);
    return code == SAC_EXIT_DONE && e.failed > 0 ? SAC_EXIT_FAILED : code;
}
