#include "server/build.h"

#include "engine/progress.h"
#include "engine/vector_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_BYTES = 16 << 20, BATCH_ROWS = 8192 };

struct load {
    sac_collection *collection;
    const char *error_path;
    FILE *errors; /* opened at the first one */
    sac_progress_meter meter;
    sac_ingest_result *result;
    uint32_t dim;
    size_t rows;     /* of a batch, at most */
    float *vectors;  /* [rows][dim] */
    sac_item *items; /* [rows] */
    bool fresh;      /* the collection was empty: nothing can be there already */
    sac_error *err;
};

static sac_status note_failure(struct load *l, const char *path, uint64_t row, const sac_error *why)
{
    l->result->failed++;
    if (l->error_path == NULL)
        return SAC_OK;
    if (l->errors == NULL)
        l->errors = fopen(l->error_path, "w");
    if (l->errors == NULL ||
        fprintf(l->errors, "%s:%llu\t%s\n", path, (unsigned long long)row, why->text) < 0)
        return sac_fail(l->err, SAC_IO, "%s: %s", l->error_path, strerror(errno));
    return SAC_OK;
}

/* True where the collection holds that id with that very vector. */
static bool is_stored(const struct load *l, uint64_t id, const float *vector)
{
    sac_record *record;
    bool same;

    if (l->fresh || sac_collection_get(l->collection, (sac_id){.number = id}, &record, NULL) != SAC_OK)
        return false;
    same = memcmp(sac_record_item(record)->vector, vector, l->dim * sizeof *vector) == 0;
    sac_record_free(record);
    return same;
}

static sac_status put_batch(struct load *l, const char *path, uint64_t row, uint64_t id, size_t n)
{
    size_t wanted = 0;
    sac_status st = SAC_OK;

    for (size_t i = 0; st == SAC_OK && i < n; i++) {
        sac_item *item = &l->items[wanted];
        sac_error why;
        *item = (sac_item){.id.number = id + i, .vector = l->vectors + i * l->dim};
        if (sac_collection_check(l->collection, item, &why) != SAC_OK)
            st = note_failure(l, path, row + i, &why);
        else if (is_stored(l, id + i, item->vector))
            l->result->skipped++;
        else
            wanted++;
    }
    if (st == SAC_OK && wanted > 0)
        st = sac_collection_put(l->collection, l->items, wanted, l->err);
    if (st == SAC_OK)
        l->result->stored += wanted;
    return st;
}

static sac_status load_file(struct load *l, const char *path, uint64_t id, uint64_t *rows)
{
    sac_vector_file *file;
    sac_status st = sac_vector_file_open(path, &file, l->err);
    uint64_t row = 0;

    if (st == SAC_OK && sac_vector_file_dim(file) != l->dim)
        st = sac_fail(l->err, SAC_INVALID_ARGUMENT, "%s holds vectors of %u components, the collection of %u",
                      path, sac_vector_file_dim(file), l->dim);
    while (st == SAC_OK) {
        size_t n;
        st = sac_vector_file_read(file, l->rows, l->vectors, &n, l->err);
        if (st != SAC_OK || n == 0)
            break;
        st = put_batch(l, path, row, id + row, n);
        row += n;
        l->result->found += n;
        if (st == SAC_OK && !sac_progress_step(&l->meter, l->result->found, l->result->failed))
            st = sac_fail(l->err, SAC_CANCELLED, "stopped on request");
    }
    sac_vector_file_close(file);
    *rows = row;
    return st;
}

sac_status sac_build_count(const struct sac_inputs *files, uint64_t *total, sac_error *err)
{
    *total = 0;
    for (size_t i = 0; i < files->count; i++) {
        sac_vector_file *file;
        sac_status st = sac_vector_file_open(files->at[i], &file, err);
        if (st != SAC_OK)
            return st;
        *total += sac_vector_file_count(file);
        sac_vector_file_close(file);
    }
    return SAC_OK;
}

static sac_status load_files(struct load *l, const struct sac_inputs *files, uint64_t id)
{
    sac_status st = SAC_OK;

    for (size_t i = 0; st == SAC_OK && i < files->count; i++) {
        uint64_t rows;
        st = load_file(l, files->at[i], id, &rows);
        id += rows;
    }
    return st;
}

sac_status sac_build_vectors(sac_collection *collection, const struct sac_inputs *files, uint64_t id_base,
                             const char *error_list, sac_progress_fn progress, void *context,
                             sac_ingest_result *result, sac_error *err)
{
    struct load l = {.collection = collection, .error_path = error_list, .result = result, .err = err};
    sac_collection_params made;
    double began = sac_clock();
    uint64_t total;
    sac_status st = sac_build_count(files, &total, err);

    *result = (sac_ingest_result){0};
    if (st != SAC_OK)
        return st;
    sac_collection_describe(collection, &made);
    l.dim = made.dim;
    l.rows = BATCH_BYTES / (made.dim * sizeof(float));
    l.rows = l.rows > BATCH_ROWS ? BATCH_ROWS : l.rows;
    l.fresh = sac_collection_count(collection) == 0;
    l.vectors = calloc(l.rows * l.dim, sizeof *l.vectors);
    l.items = calloc(l.rows, sizeof *l.items);
    sac_progress_begin(&l.meter, progress, context, "store", total);
    if (l.vectors == NULL || l.items == NULL)
        st = sac_fail(err, SAC_NO_MEMORY, "no memory for a batch of vectors");
    else
        st = load_files(&l, files, id_base);
    if (l.errors != NULL && fclose(l.errors) != 0 && st == SAC_OK)
        st = sac_fail(err, SAC_IO, "%s: %s", error_list, strerror(errno));
    free(l.vectors);
    free(l.items);
    result->seconds = sac_clock() - began;
    return st;
}
