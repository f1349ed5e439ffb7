#include "engine/index_state.h"

#include "engine/plan.h"
#include "engine/progress.h"
#include "engine/rabitq.h"
#include "engine/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH_SQUARED_MAX 1e36f
#define LENGTH_SQUARED_MIN 1e-30f /* for cosine */
#define AHEAD 8u                  /* rows of a sample that are on their way from memory */

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

static sac_status open_shards(sac_index *index, sac_device *device, sac_error *err)
{
    uint32_t count = sac_device_shard_count(device);
    sac_status st = SAC_OK;

    index->shards = calloc(count, sizeof *index->shards);
    if (index->shards == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for an index on %u devices", count);
    while (st == SAC_OK && index->shard_count < count) {
        uint32_t s = index->shard_count++;
        st = sac_shard_open(&index->shards[s], sac_device_shard(device, s), index->dim, index->spec.dtype,
                            err);
    }
    return st;
}

/* RaBitQ is not on every device. */
static sac_status check_codec(sac_device *device, const sac_index_spec *spec, sac_error *err)
{
    if (!spec->rabitq || sac_has_rabitq(device))
        return SAC_OK;
    return sac_fail(err, SAC_UNSUPPORTED,
                    "index part 'RaBitQ': not on %s, only on CPUs; use PQ here, or the device cpu",
                    sac_device_describe(device));
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
    if (st == SAC_OK)
        st = check_codec(device, &spec, err);
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
    sac_labels_init(&index->labels, device);
    st = open_shards(index, device, err);
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
    for (uint32_t s = 0; s < index->shard_count; s++)
        sac_shard_close(&index->shards[s]);
    free(index->shards);
    sac_labels_free(&index->labels);
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

static void shuffle(sac_random *random, size_t n, uint64_t *rows)
{
    for (size_t i = n; i > 1; i--) {
        size_t other = sac_random_below(random, i);
        uint64_t row = rows[i - 1];
        rows[i - 1] = rows[other];
        rows[other] = row;
    }
}

/* The next rows of a sample come from anywhere. */
static void prefetch(const float *x, uint32_t dim)
{
    for (uint32_t d = 0; d < dim; d += 16)
        __builtin_prefetch(x + d);
}

/* Up to `most` of the rows, drawn evenly and in random order, as the index would store them. */
static sac_status draw_sample(const sac_index *index, sac_workspace *ws, size_t n, const float *vectors,
                              size_t most, sac_span *out, size_t *count)
{
    uint64_t *rows;
    sac_random random = {index->seed};
    sac_status st = SAC_OK;

    *count = n < most ? n : most;
    rows = sac_workspace_host(ws, *count, sizeof *rows);
    if (rows == NULL || !sac_workspace_span(ws, *count, index->dim * sizeof(float), out))
        return sac_workspace_failure(ws);
    sac_random_sample(&random, n, *count, rows);
    shuffle(&random, *count, rows);
    for (size_t i = 0; st == SAC_OK && i < *count; i++) {
        const float *x = vectors + rows[i] * index->dim;
        if (i + AHEAD < *count)
            prefetch(vectors + rows[i + AHEAD] * index->dim, index->dim);
        st = sac_index_check_vector(index, x, "vector", (size_t)rows[i], ws->err);
        if (st == SAC_OK)
            sac_index_copy_vector(index, x, (float *)out->host + i * index->dim);
    }
    return st == SAC_OK ? sac_span_push(ws, out) : st;
}

/* Rows to learn from: as many as are of use, and as there is memory for: of a device's own, a quarter, which
 * holds them twice. */
static sac_status sample_limit(const sac_index *index, const sac_index_spec *spec, size_t n, size_t *rows,
                               sac_error *err)
{
    size_t most = sac_ivf_train_max(spec), least = sac_ivf_train_min(spec);
    sac_device_memory memory;
    uint64_t held;

    if (sac_device_host_visible(index->device))
        return sac_plan_sample(index->device, spec, index->dim, n, 0, rows, err);
    sac_device_memory_describe(index->device, &memory);
    held = memory.budget / 4 / (2 * index->dim * sizeof(float));
    most = held < most ? (size_t)held : most;
    *rows = most > least ? most : least;
    return SAC_OK;
}

static void close_all(const sac_index *index, sac_ivf **ivfs)
{
    for (uint32_t i = 0; i < index->shard_count; i++) {
        sac_ivf_close(ivfs[i]);
        ivfs[i] = NULL;
    }
}

/* Learns on the first shard, and tells the others. */
static sac_status train_ivf(sac_index *index, const sac_team *team, const sac_index_spec *spec, size_t n,
                            const float *vectors, sac_progress_meter *meter, sac_ivf **ivfs)
{
    sac_workspace *ws = team->ws[0];
    sac_span sample;
    size_t most, count;
    sac_status st = sample_limit(index, spec, n, &most, ws->err);

    if (st == SAC_OK)
        st = draw_sample(index, ws, n, vectors, most, &sample, &count);
    for (uint32_t i = 0; st == SAC_OK && i < team->count; i++)
        st = sac_ivf_open(index->shards[i].device, index->dim, index->metric, spec, &ivfs[i], ws->err);
    if (st == SAC_OK)
        st = sac_ivf_train(ivfs[0], ws, index->seed, count, &sample, spec->rotate, meter);
    for (uint32_t i = 1; st == SAC_OK && i < team->count; i++)
        st = sac_ivf_share(ivfs[0], ws, ivfs[i], team->ws[i]);
    if (st != SAC_OK)
        close_all(index, ivfs);
    return st;
}

void sac_index_become(sac_index *index, const sac_index_spec *spec, sac_ivf *const *ivfs)
{
    pthread_rwlock_wrlock(&index->lock);
    index->layout++;
    for (uint32_t i = 0; i < index->shard_count; i++) {
        sac_shard *shard = &index->shards[i];
        index->layout += shard->ivf != NULL ? shard->ivf->lists.layout : 0;
        sac_ivf_close(shard->ivf);
        shard->ivf = ivfs[i];
    }
    index->spec = *spec;
    index->trained = true;
    index->curve.count = 0;
    pthread_rwlock_unlock(&index->lock);
}

static sac_status train(sac_index *index, size_t n, const float *vectors, size_t expected,
                        sac_progress_fn progress, void *context, sac_error *err)
{
    sac_index_spec spec = index->spec;
    sac_ivf *ivfs[SAC_SHARDS_MAX] = {NULL};
    sac_progress_meter meter;
    sac_team team;
    sac_status st;

    if (spec.automatic)
        sac_index_spec_choose(expected > n ? expected : n, n, index->dim, &spec);
    st = check_training(index, &spec, n, err);
    if (st == SAC_OK && sac_device_host_visible(index->device)) /* what else is held may be gone by then */
        st = sac_plan_check(index->device, &spec, index->dim, expected > n ? expected : n, UINT64_MAX, err);
    if (st == SAC_OK && spec.nlist > 0) {
        sac_progress_begin(&meter, progress, context, "train", sac_ivf_train_steps(&spec));
        st = sac_index_team(index, &team, err);
        if (st == SAC_OK) {
            st = train_ivf(index, &team, &spec, n, vectors, &meter, ivfs);
            sac_team_give_back(&team);
        }
    }
    if (st == SAC_OK)
        sac_index_become(index, &spec, ivfs);
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

/* ---- looking ---------------------------------------------------------------------------------------- */

static sac_status read_vector(const sac_index *index, const sac_team *team, uint64_t label, float *vector)
{
    uint32_t slot = sac_labels_find(&index->labels, label), shard = slot % team->count;
    uint32_t local = slot / team->count;
    sac_workspace *ws = team->ws[shard];
    sac_span row;
    sac_status st;

    if (slot == SAC_NO_SLOT)
        return sac_fail(ws->err, SAC_NOT_FOUND, "the index holds no label %llu", (unsigned long long)label);
    if (!sac_workspace_span(ws, 1, index->dim * sizeof(float), &row))
        return sac_workspace_failure(ws);
    st = sac_vectors_read(&index->shards[shard].vectors, ws, 1, &local, row.device);
    if (st == SAC_OK)
        st = sac_span_pull(ws, &row);
    if (st == SAC_OK)
        memcpy(vector, row.host, row.bytes);
    return st;
}

sac_status sac_index_reconstruct(const sac_index *shared, uint64_t label, float *vector, sac_error *err)
{
    sac_index *index = (sac_index *)shared;
    sac_team team;
    sac_status st = sac_index_team(index, &team, err);

    if (st != SAC_OK)
        return st;
    pthread_rwlock_rdlock(&index->lock);
    st = read_vector(index, &team, label, vector);
    pthread_rwlock_unlock(&index->lock);
    sac_team_give_back(&team);
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
                labels[count++] = sac_labels_at(&index->labels, slot);
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

/* Adds up what the shards hold; of their lists' imbalance, the worst. */
static void describe_shard(const sac_shard *shard, sac_index_info *out)
{
    out->bytes_vectors += sac_vectors_bytes(&shard->vectors);
    out->bytes_vectors_host += sac_vectors_host_bytes(&shard->vectors);
    if (shard->ivf != NULL) {
        double imbalance = sac_lists_imbalance(&shard->ivf->lists);
        out->list_imbalance = imbalance > out->list_imbalance ? imbalance : out->list_imbalance;
        out->bytes_codes += sac_lists_page_bytes(&shard->ivf->lists);
        out->bytes_other += sac_ivf_other_bytes(shard->ivf);
    }
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
        .measured = index->curve.count > 0 || (index->trained && sac_index_ivf(index) == NULL),
        .nlist = index->spec.nlist,
        .m = index->spec.m,
        .nbits = index->spec.nbits,
        .list_imbalance = 1,
        .bytes_other = sac_labels_bytes(&index->labels),
    };
    sac_index_spec_format(&index->spec, index->dim, out->spec, sizeof out->spec);
    for (uint32_t s = 0; s < index->shard_count; s++)
        describe_shard(&index->shards[s], out);
    pthread_rwlock_unlock(&index->lock);
}
