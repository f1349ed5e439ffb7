#include "server/query.h"

#include "engine/vector_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void sac_ask_complain(const sac_error *error)
{
    fprintf(stderr, "saccade query: %s\n", error->text);
}

sac_id sac_ask_id(const char *text)
{
    size_t size = strlen(text);

    if (strspn(text, "0123456789") == size && size <= 19) {
        errno = 0;
        unsigned long long number = strtoull(text, NULL, 10);
        if (errno == 0 && number <= INT64_MAX)
            return (sac_id){.number = number};
    }
    return (sac_id){.text = text, .text_size = size};
}

/* Cuts ":ROW" off the name, unless a file is really called that. */
static bool split_row(char *path, uint64_t *row)
{
    char *colon = strrchr(path, ':');

    if (colon == NULL || colon[1] == '\0' || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
        access(path, F_OK) == 0)
        return false;
    errno = 0;
    *row = strtoull(colon + 1, NULL, 10);
    if (errno != 0)
        return false;
    *colon = '\0';
    return true;
}

static sac_status each_batch(sac_vector_file *file, const char *path, uint64_t row, uint64_t end,
                             sac_rows_fn fn, void *context, sac_error *err)
{
    uint32_t dim = sac_vector_file_dim(file);
    float *vectors = calloc((size_t)SAC_ASK_BATCH * dim, sizeof *vectors);
    sac_status st = vectors == NULL ? sac_fail(err, SAC_NO_MEMORY, "no memory for vectors") : SAC_OK;

    sac_vector_file_seek(file, row);
    while (st == SAC_OK && row < end) {
        size_t n = end - row < SAC_ASK_BATCH ? (size_t)(end - row) : SAC_ASK_BATCH;
        st = sac_vector_file_read(file, n, vectors, &n, err);
        if (st != SAC_OK || n == 0)
            break;
        st = fn(context, path, row, n, dim, vectors);
        row += n;
    }
    free(vectors);
    return st;
}

sac_status sac_ask_each_rows(const char *name, sac_rows_fn fn, void *context, sac_error *err)
{
    char *path = strdup(name);
    uint64_t row = 0;
    bool one = path != NULL && split_row(path, &row);
    sac_vector_file *file = NULL;
    sac_status st = path == NULL ? sac_fail(err, SAC_NO_MEMORY, "no memory for a name")
                                 : sac_vector_file_open(path, &file, err);

    if (st == SAC_OK && one && row >= sac_vector_file_count(file))
        st = sac_fail(err, SAC_INVALID_ARGUMENT, "%s has %llu rows, counted from 0: there is no row %llu",
                      path, (unsigned long long)sac_vector_file_count(file), (unsigned long long)row);
    if (st == SAC_OK)
        st = each_batch(file, path, row, one ? row + 1 : sac_vector_file_count(file), fn, context, err);
    sac_vector_file_close(file);
    free(path);
    return st;
}
