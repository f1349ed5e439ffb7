/* Adding and deleting: each shard codes its rows before the lock is taken, then they appear together. */
#include "engine/index_state.h"

#include "engine/plan.h"
#include "engine/progress.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_ROWS 4096u      /* deleted under one lock */
#define CHUNK_ROWS_MAX 16384u /* added under one lock: each chunk packs all centroids anew */
#define CHUNK_ROWS_LEAST 64u
#define CHUNK_ROWS_DEVICE 32768u /* where device memory is not the host's */
#define F16_MAX 65504.0f

/* ---- what comes in ---------------------------------------------------------------------------------- */

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
    size_t rows = index->shards[0].workspaces.share / 4 / (floats * sizeof(float));
    bool host = sac_device_host_visible(index->device);
    size_t least = host ? CHUNK_ROWS : CHUNK_ROWS_LEAST, most = host ? CHUNK_ROWS_MAX : CHUNK_ROWS_DEVICE;

    rows = rows > least ? rows : least;
    return rows < most ? rows : most;
}

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

/* Whether n more have room: in the host's memory, which has no other place for what it cannot hold. */
static sac_status check_room(const sac_index *index, size_t n, sac_error *err)
{
    if (!sac_device_host_visible(index->device))
        return SAC_OK;
    return sac_plan_check(index->device, &index->spec, index->dim, (uint64_t)index->labels.live_count + n,
                          UINT64_MAX, err);
}

/* ---- adding ----------------------------------------------------------------------------------------- */

static void remove_labels(sac_index *index, size_t n, const uint64_t *labels)
{
    for (size_t i = 0; i < n; i++)
        sac_labels_remove(&index->labels, labels[i]);
}

/* Brings the device's bitmap and directory of a shard up to date. */
static sac_status sync_shard(sac_index *index, uint32_t shard, sac_workspace *ws)
{
    sac_ivf *ivf = index->shards[shard].ivf;
    sac_status st = sac_labels_sync(&index->labels, shard, ws->stream);

    if (st != SAC_OK)
        return sac_fail(ws->err, st, "cannot update the labels: %s", sac_status_text(st));
    return ivf != NULL ? sac_lists_sync(&ivf->lists, ws) : SAC_OK;
}

/* Brings all shards up to date, whether all went well or not. */
static sac_status finish_change(sac_index *index, const sac_team *team, sac_status st)
{
    for (uint32_t s = 0; s < team->count; s++) {
        sac_status synced = sync_shard(index, s, team->ws[s]);
        if (synced == SAC_OK)
            synced = sac_workspace_wait(team->ws[s]);
        st = st == SAC_OK ? synced : st;
    }
    return st;
}

/* What one shard gets of a chunk: pieces of its workspace. */
struct share {
    uint32_t *slots; /* [n]: its own */
    size_t n;
    sac_span x; /* [n][dim] */
    sac_ivf_entries entries;
};

/* Deals a shard its rows of n that will have the given slots, and codes them. */
static sac_status prepare_share(const sac_index *index, const sac_team *team, uint32_t shard, size_t n,
                                const float *vectors, const uint32_t *slots, struct share *share)
{
    const sac_ivf *ivf = index->shards[shard].ivf;
    sac_workspace *ws = team->ws[shard];
    size_t rows = 0;
    sac_status st;

    *share = (struct share){0};
    for (size_t i = 0; i < n; i++)
        rows += slots[i] % team->count == shard;
    share->slots = sac_workspace_host(ws, rows, sizeof *share->slots);
    if (share->slots == NULL || !sac_workspace_span(ws, rows, index->dim * sizeof(float), &share->x))
        return sac_workspace_failure(ws);
    for (size_t i = 0; i < n; i++) {
        if (slots[i] % team->count != shard)
            continue;
        sac_index_copy_vector(index, vectors + i * index->dim,
                              (float *)share->x.host + share->n * index->dim);
        share->slots[share->n++] = slots[i] / team->count;
    }
    st = sac_span_push(ws, &share->x);
    return st == SAC_OK && ivf != NULL ? sac_ivf_encode(ivf, ws, rows, &share->x, &share->entries) : st;
}

static sac_status append_share(sac_index *index, sac_workspace *ws, uint32_t shard, const struct share *share)
{
    sac_shard *to = &index->shards[shard];
    sac_status st = sac_vectors_reserve(&to->vectors, ws, sac_labels_slots_of(&index->labels, shard));

    if (st == SAC_OK)
        st = sac_vectors_write(&to->vectors, ws, share->n, share->x.device, share->slots);
    if (st == SAC_OK && to->ivf != NULL)
        st = sac_ivf_append(to->ivf, ws, &share->entries, share->slots);
    return st;
}

/* Takes back what the first `count` shards have. */
static void withdraw(sac_index *index, uint32_t count, const struct share *shares)
{
    for (uint32_t s = 0; s < count; s++)
        if (index->shards[s].ivf != NULL)
            sac_lists_withdraw(&index->shards[s].ivf->lists, shares[s].n, shares[s].entries.list,
                               shares[s].slots);
}

/* Makes coded rows visible. Locked for writing. */
static sac_status append(sac_index *index, const sac_team *team, size_t n, const uint64_t *labels,
                         const struct share *shares)
{
    sac_status st = sac_labels_reserve(&index->labels, n, labels, team->ws[0]->err);
    uint32_t done = 0;

    if (st != SAC_OK)
        return st;
    for (size_t i = 0; i < n; i++)
        (void)sac_labels_insert(&index->labels, labels[i]);
    while (st == SAC_OK && done < team->count) {
        st = append_share(index, team->ws[done], done, &shares[done]);
        done += st == SAC_OK;
    }
    if (st == SAC_OK)
        st = finish_change(index, team, SAC_OK);
    if (st != SAC_OK) {
        withdraw(index, done, shares);
        remove_labels(index, n, labels);
        st = finish_change(index, team, st);
    }
    return st;
}

static sac_status add_chunk(sac_index *index, const sac_team *team, size_t n, const float *vectors,
                            const uint64_t *labels)
{
    struct share shares[SAC_SHARDS_MAX];
    uint32_t *slots = sac_workspace_host(team->ws[0], n, sizeof *slots);
    sac_status st = slots == NULL ? sac_workspace_failure(team->ws[0]) : SAC_OK;

    if (st == SAC_OK)
        sac_labels_preview(&index->labels, n, slots);
    for (uint32_t s = 0; st == SAC_OK && s < team->count; s++)
        st = prepare_share(index, team, s, n, vectors, slots, &shares[s]);
    if (st == SAC_OK) {
        pthread_rwlock_wrlock(&index->lock);
        st = append(index, team, n, labels, shares);
        pthread_rwlock_unlock(&index->lock);
    }
    return st;
}

static sac_status delete_label(sac_index *index, const sac_team *team, uint64_t label, size_t *removed)
{
    uint32_t slot = sac_labels_find(&index->labels, label), shard = slot % team->count;
    sac_status st = SAC_OK;

    if (slot == SAC_NO_SLOT)
        return SAC_OK;
    if (index->shards[shard].ivf != NULL)
        st = sac_lists_remove(&index->shards[shard].ivf->lists, team->ws[shard], slot / team->count);
    if (st == SAC_OK) {
        sac_labels_remove(&index->labels, label);
        ++*removed;
    }
    return st;
}

static sac_status delete_labels(sac_index *index, const sac_team *team, size_t n, const uint64_t *labels,
                                size_t *removed)
{
    sac_status st = SAC_OK;

    *removed = 0;
    for (size_t i = 0; st == SAC_OK && i < n;) {
        size_t end = n - i < CHUNK_ROWS ? n : i + CHUNK_ROWS;
        pthread_rwlock_wrlock(&index->lock);
        for (; st == SAC_OK && i < end; i++)
            st = delete_label(index, team, labels[i], removed);
        st = finish_change(index, team, st);
        pthread_rwlock_unlock(&index->lock);
    }
    return st;
}

/* What is needed to take chunks back that were added already: then there may be no memory for it. */
static sac_status know_positions(sac_index *index, const sac_team *team)
{
    sac_status st = SAC_OK;

    for (uint32_t s = 0; st == SAC_OK && s < team->count; s++)
        if (index->shards[s].ivf != NULL)
            st = sac_lists_know_positions(&index->shards[s].ivf->lists, team->ws[s]->err);
    return st;
}

/* Chunks bring each list a page now and then. */
static void gather_lists(sac_index *index)
{
    pthread_rwlock_wrlock(&index->lock);
    for (uint32_t s = 0; s < index->shard_count; s++)
        if (index->shards[s].ivf != NULL)
            sac_lists_gather(&index->shards[s].ivf->lists);
    pthread_rwlock_unlock(&index->lock);
}

static sac_status add(sac_index *index, const sac_team *team, size_t n, const float *vectors,
                      const uint64_t *labels, sac_progress_meter *meter)
{
    size_t done = 0, chunk = sac_index_chunk_rows(index), removed;
    sac_status st = n > chunk ? know_positions(index, team) : SAC_OK;

    while (st == SAC_OK && done < n) {
        size_t rows = n - done < chunk ? n - done : chunk;
        st = add_chunk(index, team, rows, vectors + done * index->dim, labels + done);
        sac_team_reset(team);
        if (st == SAC_DEVICE_MEMORY && rows > CHUNK_ROWS_LEAST) { /* again, with half as many */
            chunk = rows / 2;
            st = know_positions(index, team);
            continue;
        }
        if (st != SAC_OK) {
            (void)delete_labels(index, team, done, labels, &removed); /* all or nothing */
            return st;
        }
        done += rows;
        if (!sac_progress_step(meter, done, 0))
            st = sac_fail(team->ws[0]->err, SAC_CANCELLED, "stopped on request after %zu of %zu vectors",
                          done, n);
    }
    return st;
}

sac_status sac_index_add(sac_index *index, size_t n, const float *vectors, const uint64_t *labels,
                         sac_progress_fn progress, void *context, sac_error *err)
{
    static const sac_index_spec flat = {0};
    static sac_ivf *const none[SAC_SHARDS_MAX];
    sac_progress_meter meter;
    sac_team team;
    sac_status st;

    if (n == 0)
        return SAC_OK;
    pthread_mutex_lock(&index->writer);
    st = check_addition(index, n, vectors, labels, err);
    if (st == SAC_OK)
        st = sac_index_team(index, &team, err);
    if (st == SAC_OK) {
        if (!index->trained)
            sac_index_become(index, &flat, none); /* "auto" that nobody trained */
        st = check_room(index, n, err);
        sac_progress_begin(&meter, progress, context, "add", n);
        if (st == SAC_OK)
            st = add(index, &team, n, vectors, labels, &meter);
        gather_lists(index);
        sac_team_give_back(&team);
    }
    pthread_mutex_unlock(&index->writer);
    return st;
}

sac_status sac_index_delete(sac_index *index, size_t n, const uint64_t *labels, size_t *removed,
                            sac_error *err)
{
    size_t count = 0;
    sac_team team;
    sac_status st;

    pthread_mutex_lock(&index->writer);
    st = sac_index_team(index, &team, err);
    if (st == SAC_OK) {
        st = delete_labels(index, &team, n, labels, &count);
        sac_team_give_back(&team);
    }
    pthread_mutex_unlock(&index->writer);
    if (removed != NULL)
        *removed = count;
    return st;
}
