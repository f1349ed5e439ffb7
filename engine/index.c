#include "engine/index_state.h"

#include "engine/progress.h"
#include "engine/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_ROWS 4096u /* added under one lock */
#define CHUNK_ROWS_LEAST 64u
#define CHUNK_ROWS_DEVICE 32768u /* where device memory is not the host's */
#define LENGTH_SQUARED_MAX 1e36f
#define LENGTH_SQUARED_MIN 1e-30f /* for cosine */
#define F16_MAX 65504.0f

/* ---- vectors that come in --------------------------------------------------------------------------- */

static float length_squared(const float *x, uint32_t dim)
{
    float lanes[16] = {0}, sum = 0;
    uint32_t i = 0;

    for (; i + 16 <= dim; i += 16)
        for (uint32_t l = 0; l < 16; l++)
            lanes[l] += x[i + l] * x[i + l];
    for (; i < dim; i++)
        lanes[i % 16] += x[i] * x[i];
    for (uint32_t l = 0; l < 16; l++)
        sum += lanes[l];
    return sum;
}

sac_status sac_index_check_vector(const sac_index *index, const float *x, const char *what, size_t i,
                                  sac_error *err)
{
    float squared = length_squared(x, index->dim);

    if (!(squared <= LENGTH_SQUARED_MAX)) /* NaN and infinity end up here too */
        return sac_fail(
            err, SAC_INVALID_ARGUMENT,
            "%s %zu has a component that is not a finite number, or too large (its squared length must "
            "stay below 1e36)",
            what, i);
    if (index->metric == SAC_METRIC_COSINE && squared < LENGTH_SQUARED_MIN)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "%s %zu has length 0, which has no direction: metric cosine needs one", what, i);
    return SAC_OK;
}

void sac_index_copy_vector(const sac_index *index, const float *x, float *to)
{
    float scale;

    memcpy(to, x, index->dim * sizeof *to);
    if (index->metric != SAC_METRIC_COSINE)
        return;
    scale = 1 / sqrtf(length_squared(x, index->dim));
    for (uint32_t d = 0; d < index->dim; d++)
        to[d] *= scale;
}

/* What is stored must fit its type as well. */
static sac_status check_stored(const sac_index *index, const float *x, size_t i, sac_error *err)
{
    sac_status st = sac_index_check_vector(index, x, "vector", i, err);

    if (st != SAC_OK || index->spec.dtype != SAC_F16 || index->metric == SAC_METRIC_COSINE)
        return st;
    for (uint32_t d = 0; d < index->dim; d++)
        if (fabsf(x[d]) > F16_MAX)
            return sac_fail(err, SAC_INVALID_ARGUMENT,
                            "vector %zu: component %u is %g, but SQfp16 holds up to 65504; use Refine(Flat) "
                            "or Refine(SQ8)",
                            i, d, (double)x[d]);
    return SAC_OK;
}

size_t sac_index_chunk_rows(const sac_index *index)
{
    size_t floats = (size_t)index->dim + index->spec.coded_dim + index->spec.m + 8;
    size_t rows = index->workspaces.share / 4 / (floats * sizeof(float));

    if (sac_device_host_visible(index->device))
        return CHUNK_ROWS;
    rows = rows > CHUNK_ROWS_LEAST ? rows : CHUNK_ROWS_LEAST;
    return rows < CHUNK_ROWS_DEVICE ? rows : CHUNK_ROWS_DEVICE;
}

static sac_status prepare(const sac_index *index, sac_workspace *ws, size_t n, const float *vectors,
                          sac_span *out)
{
    if (!sac_workspace_span(ws, n, index->dim * sizeof(float), out))
        return ws->status;
    for (size_t i = 0; i < n; i++)
        sac_index_copy_vector(index, vectors + i * index->dim, (float *)out->host + i * index->dim);
    return sac_span_push(ws, out);
}

/* ---- making ----------------------------------------------------------------------------------------- */

void sac_index_params_init(sac_index_params *params)
{
    *params = (sac_index_params){.metric = SAC_METRIC_COSINE, .spec = "auto", .seed = 1};
}

static void init_locks(sac_index *index)
{
    pthread_rwlockattr_t attributes;

    pthread_rwlockattr_init(&attributes);
#ifdef __GLIBC__ /* elsewhere this is what rwlocks do by themselves */
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(&index->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    pthread_mutex_init(&index->writer, NULL);
}

sac_status sac_index_create(sac_device *device, const sac_index_params *params, sac_index **out,
                            sac_error *err)
{
    sac_index_spec spec;
    sac_index *index;
    sac_status st;

    *out = NULL;
    if (params->dim < 1 || params->dim > SAC_DIM_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "index: dim=%u; use 1 to %u", params->dim, SAC_DIM_MAX);
    if (params->metric > SAC_METRIC_COSINE)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "index: no metric %d", (int)params->metric);
    st = sac_index_spec_parse(params->spec != NULL ? params->spec : "auto", params->dim, &spec, err);
    if (st != SAC_OK)
        return st;
    index = calloc(1, sizeof *index);
    if (index == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for an index");
    index->device = device;
    index->dim = params->dim;
    index->metric = params->metric;
    index->seed = params->seed;
    index->spec = spec;
    index->trained = spec.nlist == 0 && !spec.automatic;
    init_locks(index);
    sac_workspace_pool_init(&index->workspaces, device);
    sac_labels_init(&index->labels, device);
    st = sac_vectors_init(&index->vectors, device, params->dim, spec.dtype, err);
    if (st != SAC_OK) {
        sac_index_close(index);
        return st;
    }
    *out = index;
    return SAC_OK;
}

void sac_index_close(sac_index *index)
{
    if (index == NULL)
        return;
    sac_ivf_close(index->ivf);
    sac_vectors_free(&index->vectors);
    sac_labels_free(&index->labels);
    sac_workspace_pool_free(&index->workspaces);
    pthread_rwlock_destroy(&index->lock);
    pthread_mutex_destroy(&index->writer);
    free(index);
}

/* ---- training --------------------------------------------------------------------------------------- */

static sac_status check_training(const sac_index *index, const sac_index_spec *spec, size_t n, sac_error *err)
{
    char text[64];

    if (index->labels.live_count > 0)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "the index holds %u vectors and cannot be trained again: make a new one",
                        index->labels.live_count);
    if (spec->nlist == 0 || n >= sac_ivf_train_min(spec))
        return SAC_OK;
    sac_index_spec_format(spec, index->dim, text, sizeof text);
    return sac_fail(
        err, SAC_INVALID_ARGUMENT,
        "%s needs at least %zu vectors to train on, got %zu: use fewer lists, fewer bits, or Flat", text,
        sac_ivf_train_min(spec), n);
}

/* Up to `most` of the rows, drawn evenly, as the index would store them. */
static sac_status draw_sample(const sac_index *index, sac_workspace *ws, size_t n, const float *vectors,
                              size_t most, sac_span *out, size_t *count)
{
    uint64_t *rows;
    sac_random random = {index->seed};
    sac_status st = SAC_OK;

    *count = n < most ? n : most;
    rows = sac_workspace_host(ws, *count, sizeof *rows);
    if (rows == NULL || !sac_workspace_span(ws, *count, index->dim * sizeof(float), out))
        return ws->status;
    sac_random_sample(&random, n, *count, rows);
    for (size_t i = 0; st == SAC_OK && i < *count; i++) {
        const float *x = vectors + rows[i] * index->dim;
        st = sac_index_check_vector(index, x, "vector", (size_t)rows[i], ws->err);
        if (st == SAC_OK)
            sac_index_copy_vector(index, x, (float *)out->host + i * index->dim);
    }
    return st == SAC_OK ? sac_span_push(ws, out) : st;
}

/* Rows to learn from: as many as are of use, and as a quarter of a device's own memory holds twice. */
static size_t sample_limit(const sac_index *index, const sac_index_spec *spec)
{
    size_t most = sac_ivf_train_max(spec), least = sac_ivf_train_min(spec);
    sac_device_memory memory;
    uint64_t held;

    if (sac_device_host_visible(index->device))
        return most;
    sac_device_memory_describe(index->device, &memory);
    held = memory.budget / 4 / (2 * index->dim * sizeof(float));
    most = held < most ? (size_t)held : most;
    return most > least ? most : least;
}

static sac_status train_ivf(sac_index *index, sac_workspace *ws, const sac_index_spec *spec, size_t n,
                            const float *vectors, sac_progress_meter *meter, sac_ivf **out)
{
    sac_span sample;
    size_t count;
    sac_status st = draw_sample(index, ws, n, vectors, sample_limit(index, spec), &sample, &count);

    if (st == SAC_OK)
        st = sac_ivf_open(index->device, index->dim, index->metric, spec, out, ws->err);
    if (st == SAC_OK)
        st = sac_ivf_train(*out, ws, index->seed, count, &sample, spec->rotate, meter);
    if (st != SAC_OK) {
        sac_ivf_close(*out);
        *out = NULL;
    }
    return st;
}

static void become(sac_index *index, const sac_index_spec *spec, sac_ivf *ivf)
{
    pthread_rwlock_wrlock(&index->lock);
    index->layout += index->ivf != NULL ? index->ivf->lists.layout + 1 : 1;
    sac_ivf_close(index->ivf);
    index->ivf = ivf;
    index->spec = *spec;
    index->trained = true;
    index->curve.count = 0;
    pthread_rwlock_unlock(&index->lock);
}

static sac_status train(sac_index *index, size_t n, const float *vectors, size_t expected,
                        sac_progress_fn progress, void *context, sac_error *err)
{
    sac_index_spec spec = index->spec;
    sac_progress_meter meter;
    sac_workspace *ws;
    sac_ivf *ivf = NULL;
    sac_status st;

    if (spec.automatic)
        sac_index_spec_choose(expected > n ? expected : n, n, index->dim, &spec);
    st = check_training(index, &spec, n, err);
    if (st == SAC_OK && spec.nlist > 0) {
        sac_progress_begin(&meter, progress, context, "train", sac_ivf_train_steps(&spec));
        st = sac_workspace_borrow(&index->workspaces, &ws, err);
        if (st == SAC_OK) {
            st = train_ivf(index, ws, &spec, n, vectors, &meter, &ivf);
            sac_workspace_give_back(&index->workspaces, ws);
        }
    }
    if (st == SAC_OK)
        become(index, &spec, ivf);
    return st;
}

sac_status sac_index_train(sac_index *index, size_t n, const float *vectors, size_t expected,
                           sac_progress_fn progress, void *context, sac_error *err)
{
    sac_status st;

    pthread_mutex_lock(&index->writer);
    st = train(index, n, vectors, expected, progress, context, err);
    pthread_mutex_unlock(&index->writer);
    return st;
}

bool sac_index_trained(const sac_index *shared)
{
    sac_index *index = (sac_index *)shared;
    bool trained;

    pthread_rwlock_rdlock(&index->lock);
    trained = index->trained;
    pthread_rwlock_unlock(&index->lock);
    return trained;
}

/* ---- adding ----------------------------------------------------------------------------------------- */

static int compare_labels(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Labels that ascend, as they mostly do, are distinct; others are sorted to see. */
static sac_status check_distinct(size_t n, const uint64_t *labels, sac_error *err)
{
    bool ascending = true;
    uint64_t *sorted, twice = 0;
    bool found = false;

    for (size_t i = 1; i < n; i++)
        ascending = ascending && labels[i - 1] < labels[i];
    if (ascending)
        return SAC_OK;
    sorted = reallocarray(NULL, n, sizeof *sorted);
    if (sorted == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to compare %zu labels", n);
    memcpy(sorted, labels, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, compare_labels);
    for (size_t i = 1; i < n && !found; i++) {
        found = sorted[i - 1] == sorted[i];
        twice = sorted[i];
    }
    free(sorted);
    if (found)
        return sac_fail(err, SAC_ALREADY_EXISTS, "label %llu is given twice in one call",
                        (unsigned long long)twice);
    return SAC_OK;
}

static sac_status check_addition(const sac_index *index, size_t n, const float *vectors,
                                 const uint64_t *labels, sac_error *err)
{
    sac_status st = check_distinct(n, labels, err);

    if (st == SAC_OK && !index->trained && !index->spec.automatic)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "the index is not trained: train it before adding vectors");
    for (size_t i = 0; st == SAC_OK && i < n; i++) {
        if (sac_labels_find(&index->labels, labels[i]) != SAC_NO_SLOT)
            return sac_fail(err, SAC_ALREADY_EXISTS, "the index holds label %llu already: delete it first",
                            (unsigned long long)labels[i]);
        st = check_stored(index, vectors + i * index->dim, i, err);
    }
    return st;
}

static void remove_labels(sac_index *index, size_t n, const uint64_t *labels)
{
    for (size_t i = 0; i < n; i++)
        sac_labels_remove(&index->labels, labels[i]);
}

static sac_status sync_labels(sac_index *index, sac_workspace *ws)
{
    sac_status st = sac_labels_sync(&index->labels, ws->stream);

    return st == SAC_OK ? SAC_OK : sac_fail(ws->err, st, "cannot update the labels: %s", sac_status_text(st));
}

/* Makes coded rows visible. Locked for writing. */
static sac_status append(sac_index *index, sac_workspace *ws, size_t n, const sac_span *x,
                         const uint64_t *labels, const sac_ivf_entries *entries)
{
    uint32_t *slots = sac_workspace_host(ws, n, sizeof *slots);
    sac_status st = slots == NULL ? ws->status : sac_labels_reserve(&index->labels, ws->stream, n, ws->err);

    if (st != SAC_OK)
        return st;
    for (size_t i = 0; i < n; i++)
        slots[i] = sac_labels_insert(&index->labels, labels[i]);
    st = sac_vectors_reserve(&index->vectors, ws, index->labels.slot_count);
    if (st == SAC_OK)
        st = sac_vectors_write(&index->vectors, ws, n, x->device, slots);
    if (st == SAC_OK && index->ivf != NULL)
        st = sac_ivf_append(index->ivf, ws, entries, slots);
    if (st == SAC_OK)
        st = sync_labels(index, ws);
    if (st == SAC_OK)
        st = sac_workspace_wait(ws);
    if (st != SAC_OK)
        remove_labels(index, n, labels);
    return st;
}

static sac_status add_chunk(sac_index *index, sac_workspace *ws, size_t n, const float *vectors,
                            const uint64_t *labels)
{
    sac_ivf_entries entries = {0};
    sac_span x;
    sac_status st = prepare(index, ws, n, vectors, &x);

    if (st == SAC_OK && index->ivf != NULL)
        st = sac_ivf_encode(index->ivf, ws, n, &x, &entries);
    if (st == SAC_OK) {
        pthread_rwlock_wrlock(&index->lock);
        st = append(index, ws, n, &x, labels, &entries);
        pthread_rwlock_unlock(&index->lock);
    }
    return st;
}

static sac_status delete_label(sac_index *index, sac_workspace *ws, uint64_t label, size_t *removed)
{
    uint32_t slot = sac_labels_find(&index->labels, label);
    sac_status st = SAC_OK;

    if (slot == SAC_NO_SLOT)
        return SAC_OK;
    if (index->ivf != NULL)
        st = sac_lists_remove(&index->ivf->lists, ws, slot);
    if (st == SAC_OK) {
        sac_labels_remove(&index->labels, label);
        ++*removed;
    }
    return st;
}

/* Brings the device up to date, whether all went well or not. */
static sac_status finish_deletion(sac_index *index, sac_workspace *ws, sac_status st)
{
    sac_status synced = sync_labels(index, ws);

    if (synced == SAC_OK && index->ivf != NULL)
        synced = sac_lists_sync(&index->ivf->lists, ws);
    if (synced == SAC_OK)
        synced = sac_workspace_wait(ws);
    return st == SAC_OK ? synced : st;
}

static sac_status delete_labels(sac_index *index, sac_workspace *ws, size_t n, const uint64_t *labels,
                                size_t *removed)
{
    sac_status st = SAC_OK;

    *removed = 0;
    for (size_t i = 0; st == SAC_OK && i < n;) {
        size_t end = n - i < CHUNK_ROWS ? n : i + CHUNK_ROWS;
        pthread_rwlock_wrlock(&index->lock);
        for (; st == SAC_OK && i < end; i++)
            st = delete_label(index, ws, labels[i], removed);
        st = finish_deletion(index, ws, st);
        pthread_rwlock_unlock(&index->lock);
    }
    return st;
}

static sac_status add(sac_index *index, sac_workspace *ws, size_t n, const float *vectors,
                      const uint64_t *labels, sac_progress_meter *meter)
{
    size_t done = 0, chunk = sac_index_chunk_rows(index), removed;
    sac_status st = SAC_OK;

    while (st == SAC_OK && done < n) {
        size_t rows = n - done < chunk ? n - done : chunk;
        st = add_chunk(index, ws, rows, vectors + done * index->dim, labels + done);
        sac_workspace_reset(ws);
        if (st == SAC_DEVICE_MEMORY && rows > CHUNK_ROWS_LEAST) { /* again, with half as many */
            chunk = rows / 2;
            st = SAC_OK;
            continue;
        }
        if (st != SAC_OK) {
            (void)delete_labels(index, ws, done, labels, &removed); /* all or nothing */
            return st;
        }
        done += rows;
        if (!sac_progress_step(meter, done, 0))
            st = sac_fail(ws->err, SAC_CANCELLED, "stopped on request after %zu of %zu vectors", done, n);
    }
    return st;
}

sac_status sac_index_add(sac_index *index, size_t n, const float *vectors, const uint64_t *labels,
                         sac_progress_fn progress, void *context, sac_error *err)
{
    static const sac_index_spec flat = {0};
    sac_progress_meter meter;
    sac_workspace *ws;
    sac_status st;

    if (n == 0)
        return SAC_OK;
    pthread_mutex_lock(&index->writer);
    st = check_addition(index, n, vectors, labels, err);
    if (st == SAC_OK)
        st = sac_workspace_borrow(&index->workspaces, &ws, err);
    if (st == SAC_OK) {
        if (!index->trained)
            become(index, &flat, NULL); /* "auto" that nobody trained */
        sac_progress_begin(&meter, progress, context, "add", n);
        st = add(index, ws, n, vectors, labels, &meter);
        sac_workspace_give_back(&index->workspaces, ws);
    }
    pthread_mutex_unlock(&index->writer);
    return st;
}

sac_status sac_index_delete(sac_index *index, size_t n, const uint64_t *labels, size_t *removed,
                            sac_error *err)
{
    size_t count = 0;
    sac_workspace *ws;
    sac_status st;

    pthread_mutex_lock(&index->writer);
    st = sac_workspace_borrow(&index->workspaces, &ws, err);
    if (st == SAC_OK) {
        st = delete_labels(index, ws, n, labels, &count);
        sac_workspace_give_back(&index->workspaces, ws);
    }
    pthread_mutex_unlock(&index->writer);
    if (removed != NULL)
        *removed = count;
    return st;
}

/* ---- looking ---------------------------------------------------------------------------------------- */

static sac_status read_vector(const sac_index *index, sac_workspace *ws, uint64_t label, float *vector)
{
    uint32_t slot = sac_labels_find(&index->labels, label);
    sac_span row;
    sac_status st;

    if (slot == SAC_NO_SLOT)
        return sac_fail(ws->err, SAC_NOT_FOUND, "the index holds no label %llu", (unsigned long long)label);
    if (!sac_workspace_span(ws, 1, index->dim * sizeof(float), &row))
        return ws->status;
    st = sac_vectors_read(&index->vectors, ws, 1, &slot, row.device);
    if (st == SAC_OK)
        st = sac_span_pull(ws, &row);
    if (st == SAC_OK)
        memcpy(vector, row.host, row.bytes);
    return st;
}

sac_status sac_index_reconstruct(const sac_index *shared, uint64_t label, float *vector, sac_error *err)
{
    sac_index *index = (sac_index *)shared;
    sac_workspace *ws;
    sac_status st = sac_workspace_borrow(&index->workspaces, &ws, err);

    if (st != SAC_OK)
        return st;
    pthread_rwlock_rdlock(&index->lock);
    st = read_vector(index, ws, label, vector);
    pthread_rwlock_unlock(&index->lock);
    sac_workspace_give_back(&index->workspaces, ws);
    return st;
}

bool sac_index_contains(const sac_index *shared, uint64_t label)
{
    sac_index *index = (sac_index *)shared;
    bool found;

    pthread_rwlock_rdlock(&index->lock);
    found = sac_labels_find(&index->labels, label) != SAC_NO_SLOT;
    pthread_rwlock_unlock(&index->lock);
    return found;
}

/* The callback may use the index, so labels are copied out a few at a time. */
void sac_index_each_label(const sac_index *shared, bool (*fn)(void *context, uint64_t label), void *context)
{
    sac_index *index = (sac_index *)shared;
    uint64_t labels[512];
    uint32_t slot = 0, slot_count;

    do {
        uint32_t count = 0;

        pthread_rwlock_rdlock(&index->lock);
        slot_count = index->labels.slot_count;
        for (; slot < slot_count && count < 512; slot++)
            if (sac_labels_live(&index->labels, slot))
                labels[count++] = index->labels.label[slot];
        pthread_rwlock_unlock(&index->lock);
        for (uint32_t i = 0; i < count; i++)
            if (!fn(context, labels[i]))
                return;
    } while (slot < slot_count);
}

size_t sac_index_recall_curve(const sac_index *shared, sac_recall_point *points, size_t capacity)
{
    sac_index *index = (sac_index *)shared;
    size_t count;

    pthread_rwlock_rdlock(&index->lock);
    count = index->curve.count;
    for (size_t i = 0; i < count && i < capacity; i++)
        points[i] = index->curve.points[i];
    pthread_rwlock_unlock(&index->lock);
    return count;
}

void sac_index_describe(const sac_index *shared, sac_index_info *out)
{
    sac_index *index = (sac_index *)shared;

    pthread_rwlock_rdlock(&index->lock);
    *out = (sac_index_info){
        .dim = index->dim,
        .metric = index->metric,
        .count = index->labels.live_count,
        .trained = index->trained,
        .measured = index->curve.count > 0 || (index->trained && index->ivf == NULL),
        .nlist = index->spec.nlist,
        .m = index->spec.m,
        .nbits = index->spec.nbits,
        .list_imbalance = 1,
        .bytes_vectors = sac_vectors_bytes(&index->vectors),
        .bytes_vectors_host = sac_vectors_host_bytes(&index->vectors),
        .bytes_other = sac_labels_bytes(&index->labels),
    };
    sac_index_spec_format(&index->spec, index->dim, out->spec, sizeof out->spec);
    if (index->ivf != NULL) {
        out->list_imbalance = sac_lists_imbalance(&index->ivf->lists);
        out->bytes_codes = sac_lists_page_bytes(&index->ivf->lists);
        out->bytes_other += sac_ivf_other_bytes(index->ivf);
    }
    pthread_rwlock_unlock(&index->lock);
}
