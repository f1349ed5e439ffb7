#include "engine/collection.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)8 << 20)
#define UNSAVED_MAX 1000u /* changes that an opening catches up with in a fraction of a second */

void sac_collection_params_init(sac_collection_params *params)
{
    *params =
        (sac_collection_params){.metric = SAC_METRIC_COSINE, .spec = "auto", .model = "", .fingerprint = ""};
}

static const sac_collection_params *params_of(const sac_collection *c)
{
    return sac_store_params(c->store);
}

/* ---- the live index ---- */

struct sac_live *sac_live_hold(const sac_collection *collection)
{
    sac_collection *c = (sac_collection *)(uintptr_t)collection; /* its locks are no part of its value */
    struct sac_live *live;

    pthread_mutex_lock(&c->live_lock);
    live = c->live;
    if (live != NULL)
        live->holders++;
    pthread_mutex_unlock(&c->live_lock);
    return live;
}

void sac_live_release(const sac_collection *collection, struct sac_live *live)
{
    sac_collection *c = (sac_collection *)(uintptr_t)collection;
    bool last;

    pthread_mutex_lock(&c->live_lock);
    last = --live->holders == 0;
    pthread_mutex_unlock(&c->live_lock);
    if (last) {
        sac_index_close(live->index);
        free(live);
    }
}

sac_status sac_live_swap(sac_collection *c, sac_index *index, sac_error *err)
{
    struct sac_live *fresh = malloc(sizeof *fresh), *old;

    if (fresh == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to put an index in place");
    *fresh = (struct sac_live){index, 1};
    pthread_mutex_lock(&c->live_lock);
    old = c->live;
    c->live = fresh;
    pthread_mutex_unlock(&c->live_lock);
    if (old != NULL)
        sac_live_release(c, old);
    return SAC_OK;
}

/* ---- from the store to the index ---- */

size_t sac_collection_chunk(const sac_collection *c)
{
    return CHUNK_BYTES / (params_of(c)->dim * sizeof(float)); /* at least 512 */
}

/* Room for twice as many rows. */
static sac_status grow_rows(const sac_collection *c, uint64_t **rows, size_t *capacity, sac_error *err)
{
    sac_device *host = sac_device_host(c->device);
    void *more;
    sac_status st = sac_host_alloc(host, *capacity, 2 * sizeof **rows, &more, err);

    if (st != SAC_OK)
        return st;
    memcpy(more, *rows, *capacity * sizeof **rows);
    sac_host_free(host, *rows);
    *rows = more;
    *capacity *= 2;
    return SAC_OK;
}

sac_status sac_collection_rows(const sac_collection *c, uint64_t **rows, size_t *count, sac_error *err)
{
    size_t capacity = sac_collection_count(c) + 1024, n = 0, got = 0;
    void *all;
    sac_store_view view;
    sac_status st = sac_host_alloc(sac_device_host(c->device), capacity, sizeof **rows, &all, err);

    *rows = all;
    *count = 0;
    do {
        if (st == SAC_OK && n == capacity)
            st = grow_rows(c, rows, &capacity, err);
        if (st == SAC_OK)
            st = sac_store_view_open(c->store, &view, err);
        if (st != SAC_OK)
            break;
        st = sac_store_rows(&view, n > 0 ? (*rows)[n - 1] : 0, capacity - n, *rows + n, &got, err);
        sac_store_view_close(&view);
        n += st == SAC_OK ? got : 0;
    } while (st == SAC_OK && got > 0);
    if (st != SAC_OK) {
        sac_collection_rows_free(c, *rows);
        *rows = NULL;
        return st;
    }
    *count = n;
    return SAC_OK;
}

void sac_collection_rows_free(const sac_collection *c, uint64_t *rows)
{
    sac_host_free(sac_device_host(c->device), rows);
}

sac_status sac_collection_vectors(const sac_collection *c, const uint64_t *rows, size_t n, uint64_t *kept,
                                  float *vectors, size_t *count, sac_error *err)
{
    size_t dim = params_of(c)->dim, k = 0;
    sac_store_view view;
    sac_status st = sac_store_view_open(c->store, &view, err);

    for (size_t i = 0; i < n && st == SAC_OK; i++) {
        st = sac_store_vector(&view, rows[i], vectors + k * dim, err);
        if (st == SAC_OK)
            kept[k++] = rows[i];
        else if (st == SAC_NOT_FOUND)
            st = SAC_OK;
    }
    sac_store_view_close(&view);
    *count = k;
    return st;
}

/* Labels of an index that are none of the rows. */
struct gone {
    const uint64_t *rows; /* ascending */
    size_t row_count;
    uint64_t *labels;
    size_t count, capacity;
    bool no_memory;
};

static int compare_rows(const void *a, const void *b)
{
    uint64_t x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static bool note_if_gone(void *context, uint64_t label)
{
    struct gone *gone = context;

    if (gone->row_count > 0 &&
        bsearch(&label, gone->rows, gone->row_count, sizeof label, compare_rows) != NULL)
        return true;
    if (gone->count == gone->capacity) {
        size_t capacity = gone->capacity > 0 ? 2 * gone->capacity : 256;
        uint64_t *more = realloc(gone->labels, capacity * sizeof *more);

        gone->no_memory = more == NULL;
        if (more == NULL)
            return false;
        gone->labels = more;
        gone->capacity = capacity;
    }
    gone->labels[gone->count++] = label;
    return true;
}

static sac_status remove_gone(sac_index *index, const uint64_t *rows, size_t count, size_t *removed,
                              sac_error *err)
{
    struct gone gone = {.rows = rows, .row_count = count};
    sac_status st = SAC_OK;

    sac_index_each_label(index, note_if_gone, &gone);
    if (gone.no_memory)
        st = sac_fail(err, SAC_NO_MEMORY, "no memory to compare the index with the store");
    else if (gone.count > 0)
        st = sac_index_delete(index, gone.count, gone.labels, NULL, err);
    *removed = gone.count;
    free(gone.labels);
    return st;
}

static sac_status add_missing(const sac_collection *c, sac_index *index, uint64_t *missing, size_t count,
                              sac_progress_meter *meter, sac_error *err)
{
    size_t chunk = sac_collection_chunk(c);
    sac_device *host = sac_device_host(c->device);
    void *vectors;
    sac_status st =
        sac_host_alloc(host, count < chunk ? count : chunk, params_of(c)->dim * sizeof(float), &vectors, err);

    for (size_t done = 0; done < count && st == SAC_OK; done += chunk) {
        size_t n = count - done < chunk ? count - done : chunk, found;

        st = sac_collection_vectors(c, missing + done, n, missing + done, vectors, &found, err);
        if (st == SAC_OK && found > 0)
            st = sac_index_add(index, found, vectors, missing + done, NULL, NULL, err);
        if (st == SAC_OK && !sac_progress_step(meter, done + n, 0))
            st = sac_fail(err, SAC_CANCELLED, "stopped on request while vectors were added");
    }
    sac_host_free(host, vectors);
    return st;
}

sac_status sac_collection_catch_up(const sac_collection *c, sac_index *index, sac_progress_fn progress,
                                   void *context, size_t *changed, sac_error *err)
{
    size_t count, missing = 0, removed = 0;
    sac_progress_meter meter;
    uint64_t *rows;
    sac_status st = sac_collection_rows(c, &rows, &count, err);

    if (st == SAC_OK)
        st = remove_gone(index, rows, count, &removed, err);
    for (size_t i = 0; i < count; i++)
        if (!sac_index_contains(index, rows[i]))
            rows[missing++] = rows[i];
    sac_progress_begin(&meter, progress, context, "add", missing);
    if (st == SAC_OK && missing > 0)
        st = add_missing(c, index, rows, missing, &meter, err);
    sac_collection_rows_free(c, rows);
    if (changed != NULL)
        *changed = missing + removed;
    return st;
}

/* ---- open ---- */

static sac_status make_flat(const sac_collection *c, sac_index **out, sac_error *err)
{
    sac_index_params params;

    sac_index_params_init(&params);
    params.dim = params_of(c)->dim;
    params.metric = params_of(c)->metric;
    params.spec = "Flat";
    return sac_index_create(c->device, &params, out, err);
}

/* The checkpoint where it serves, else an empty Flat index; then whatever the store has besides. Where there
 * is no checkpoint and nobody is waiting, none. */
static sac_status open_index(sac_collection *c, bool later, sac_error *err)
{
    sac_index *index;
    sac_status st = sac_collection_load(c, &index, err);

    if (st == SAC_NOT_FOUND && later)
        return SAC_OK;
    if (st == SAC_CORRUPT || st == SAC_VERSION_MISMATCH)
        c->checkpoint_refused = true;
    if (st == SAC_CORRUPT || st == SAC_VERSION_MISMATCH || st == SAC_NOT_FOUND)
        st = make_flat(c, &index, err);
    if (st != SAC_OK)
        return st;
    st = sac_collection_catch_up(c, index, NULL, NULL, &c->unsaved, err);
    if (st == SAC_OK)
        st = sac_live_swap(c, index, err);
    if (st != SAC_OK)
        sac_index_close(index);
    return st;
}

sac_status sac_live_need(const sac_collection *collection, struct sac_live **out, sac_error *err)
{
    sac_collection *c = (sac_collection *)(uintptr_t)collection;
    sac_status st = SAC_OK;

    *out = sac_live_hold(c);
    if (*out != NULL)
        return SAC_OK;
    pthread_mutex_lock(&c->write_lock);
    *out = sac_live_hold(c);
    if (*out == NULL)
        st = open_index(c, false, err);
    if (*out == NULL && st == SAC_OK)
        *out = sac_live_hold(c);
    pthread_mutex_unlock(&c->write_lock);
    return st;
}

sac_status sac_collection_open(sac_device *device, const char *path, sac_open_mode mode, sac_collection **out,
                               sac_error *err)
{
    sac_collection *c = calloc(1, sizeof *c);
    sac_status st = SAC_OK;

    *out = NULL;
    if (c == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to open %s", path);
    c->device = device;
    c->writable = mode != SAC_OPEN_READ;
    pthread_mutex_init(&c->build_lock, NULL);
    pthread_mutex_init(&c->write_lock, NULL);
    pthread_mutex_init(&c->live_lock, NULL);
    c->path = strdup(path);
    if (c->path == NULL)
        st = sac_fail(err, SAC_NO_MEMORY, "no memory to open %s", path);
    if (st == SAC_OK)
        st = sac_store_open(path, c->writable, &c->store, err);
    if (st == SAC_OK)
        st = open_index(c, mode == SAC_OPEN_FILL, err);
    if (st != SAC_OK) {
        sac_collection_close(c);
        return st;
    }
    *out = c;
    return SAC_OK;
}

/* A Flat index is derived as fast as it is loaded: its checkpoint is not worth the writing. */
static bool worth_saving(const sac_collection *c)
{
    sac_index_info info;

    if (c->live == NULL || !c->writable || c->unsaved < UNSAVED_MAX || atomic_load(&c->dropped))
        return false;
    sac_index_describe(c->live->index, &info);
    return info.nlist > 0;
}

void sac_collection_close(sac_collection *c)
{
    if (worth_saving(c))
        sac_collection_save(c, NULL); /* without it the next opening takes longer, and that is all */
    if (c->live != NULL)
        sac_live_release(c, c->live);
    sac_store_close(c->store);
    pthread_mutex_destroy(&c->build_lock);
    pthread_mutex_destroy(&c->write_lock);
    pthread_mutex_destroy(&c->live_lock);
    free(c->path);
    free(c);
}

sac_status sac_collection_usable(const sac_collection *c, sac_error *err)
{
    return atomic_load(&c->dropped) ? sac_fail(err, SAC_NOT_FOUND, "the collection was dropped") : SAC_OK;
}
