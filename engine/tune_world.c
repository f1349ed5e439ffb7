#include "engine/tune.h"

#include "engine/index_state.h"
#include "engine/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUERIES_MAX = 2000,
    CHUNK_ROWS = 16384, /* added at once */
    SEARCH_CHUNK = 250, /* searched between two looks at the clock */
    ROUNDS = 3,
    TIMED_MIN = 8,
};
#define TRAIN_BYTES_MAX ((size_t)256 << 20) /* of rows that training is shown, as a collection's is */
#define ROW(job, i) ((job)->params->vectors + (size_t)(job)->rows[i] * (job)->params->dim)

bool sac_tune_goes_on(sac_tune_job *job)
{
    if (!sac_progress_step(&job->meter, job->meter.state.done, 0))
        job->cancelled = true;
    return !job->cancelled && sac_clock() < job->deadline;
}

bool sac_tune_watch(void *job, const sac_progress *progress)
{
    (void)progress;
    return sac_tune_goes_on(job);
}

static sac_status stopped(sac_tune_job *job)
{
    return sac_fail(job->err, SAC_CANCELLED,
                    job->cancelled ? "tuning was stopped on request" : "time ran out");
}

/* ---- rows and queries ------------------------------------------------------------------------------- */

static sac_status check_vectors(sac_tune_job *job)
{
    const sac_tune_params *p = job->params;
    sac_index_params params = {.dim = p->dim, .metric = p->metric, .spec = "Flat"};
    sac_index *index;
    sac_status st = sac_index_create(job->device, &params, &index, job->err);

    for (size_t i = 0; st == SAC_OK && i < p->n; i++)
        st = sac_index_check_vector(index, p->vectors + i * p->dim, "vector", i, job->err);
    for (size_t i = 0; st == SAC_OK && i < p->query_count; i++)
        st = sac_index_check_vector(index, p->queries + i * p->dim, "query", i, job->err);
    sac_index_close(index);
    return st;
}

static void shuffle(sac_random *random, uint64_t *at, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t other = (size_t)sac_random_below(random, i);
        uint64_t kept = at[i - 1];
        at[i - 1] = at[other];
        at[other] = kept;
    }
}

/* Queries of the caller's, drawn evenly; or the last rows of the random order, which are then not indexed. */
static sac_status take_queries(sac_tune_job *job, sac_random *random)
{
    const sac_tune_params *p = job->params;
    uint64_t chosen[QUERIES_MAX] = {0};
    size_t n = p->queries != NULL ? p->query_count : p->n / 10;

    job->query_count = n < QUERIES_MAX ? n : QUERIES_MAX;
    job->vectors = calloc(job->query_count * p->dim, sizeof *job->vectors);
    if (job->vectors == NULL)
        return sac_fail(job->err, SAC_NO_MEMORY, "no memory for %zu queries", job->query_count);
    if (p->queries != NULL) {
        sac_random_sample(random, n, job->query_count, chosen);
        shuffle(random, chosen, job->query_count);
    } else {
        job->row_count -= job->query_count;
    }
    for (size_t i = 0; i < job->query_count; i++)
        memcpy(job->vectors + i * p->dim,
               p->queries != NULL ? p->queries + (size_t)chosen[i] * p->dim : ROW(job, job->row_count + i),
               p->dim * sizeof(float));
    job->choosing = job->query_count > 1 ? job->query_count / 2 : 1;
    return SAC_OK;
}

sac_status sac_tune_prepare(sac_tune_job *job)
{
    const sac_tune_params *p = job->params;
    sac_random random = {p->seed};
    sac_status st = check_vectors(job);
    size_t slots;

    if (st != SAC_OK)
        return st;
    job->row_count = p->n;
    job->rows = calloc(p->n, sizeof *job->rows);
    if (job->rows == NULL)
        return sac_fail(job->err, SAC_NO_MEMORY, "no memory for the order of %zu vectors", p->n);
    for (size_t i = 0; i < p->n; i++)
        job->rows[i] = i;
    shuffle(&random, job->rows, p->n);
    st = take_queries(job, &random);
    if (st != SAC_OK)
        return st;
    slots = job->query_count > SAC_TUNE_BATCH ? job->query_count : SAC_TUNE_BATCH;
    job->queries = calloc(slots, sizeof *job->queries);
    job->hits = calloc(slots * p->k, sizeof *job->hits);
    job->seconds = calloc(job->query_count, sizeof *job->seconds);
    if (job->queries == NULL || job->hits == NULL || job->seconds == NULL)
        return sac_fail(job->err, SAC_NO_MEMORY, "no memory for %zu queries", slots);
    for (size_t i = 0; i < slots; i++) {
        sac_query_init(&job->queries[i]);
        job->queries[i].vector = job->vectors + i % job->query_count * p->dim;
        job->queries[i].k = p->k;
        job->queries[i].hits = job->hits + i * p->k;
    }
    return SAC_OK;
}

void sac_tune_unprepare(sac_tune_job *job)
{
    free(job->rows);
    free(job->vectors);
    free(job->queries);
    free(job->hits);
    free(job->seconds);
}

double sac_tune_share(const sac_tune_job *job, const sac_tune_world *world)
{
    return (double)world->rows / (double)job->row_count * (double)job->params->n / (double)job->count;
}

/* ---- building --------------------------------------------------------------------------------------- */

/* Rows first .. first + n - 1 of the order, side by side. */
static void gather(const sac_tune_job *job, size_t first, size_t n, float *vectors, uint64_t *labels)
{
    uint32_t dim = job->params->dim;

    for (size_t i = 0; i < n; i++) {
        memcpy(vectors + i * dim, ROW(job, first + i), dim * sizeof *vectors);
        if (labels != NULL)
            labels[i] = job->rows[first + i];
    }
}

/* Rows are in random order, so the first are a sample. */
static sac_status train(sac_tune_job *job, sac_index *index, size_t rows)
{
    uint32_t dim = job->params->dim;
    size_t most = TRAIN_BYTES_MAX / (dim * sizeof(float)), n = rows < most ? rows : most;
    float *sample = malloc(n * dim * sizeof *sample);
    sac_status st;

    if (sample == NULL)
        return sac_fail(job->err, SAC_NO_MEMORY, "no memory for a sample of %zu vectors to train on", n);
    gather(job, 0, n, sample, NULL);
    st = sac_index_train(index, n, sample, rows, sac_tune_watch, job, job->err);
    free(sample);
    return st;
}

static sac_status add_chunks(sac_tune_job *job, sac_index *index, size_t rows, float *chunk, uint64_t *labels)
{
    sac_status st = SAC_OK;

    for (size_t done = 0; st == SAC_OK && done < rows; done += CHUNK_ROWS) {
        size_t n = rows - done < CHUNK_ROWS ? rows - done : CHUNK_ROWS;
        gather(job, done, n, chunk, labels);
        st = sac_index_add(index, n, chunk, labels, sac_tune_watch, job, job->err);
        if (st == SAC_OK && !sac_tune_goes_on(job))
            st = stopped(job);
    }
    return st;
}

static sac_status add(sac_tune_job *job, sac_index *index, size_t rows)
{
    uint64_t *labels = calloc(CHUNK_ROWS, sizeof *labels);
    float *chunk = malloc(CHUNK_ROWS * (size_t)job->params->dim * sizeof *chunk);
    sac_status st;

    if (labels != NULL && chunk != NULL)
        st = add_chunks(job, index, rows, chunk, labels);
    else
        st = sac_fail(job->err, SAC_NO_MEMORY, "no memory to add vectors");
    free(labels);
    free(chunk);
    return st;
}

sac_status sac_tune_build(sac_tune_job *job, const char *spec, size_t rows, sac_index **out, double *seconds)
{
    const sac_tune_params *p = job->params;
    sac_index_params params = {.dim = p->dim, .metric = p->metric, .spec = spec, .seed = p->seed};
    double began = sac_clock();
    sac_status st = sac_index_create(job->device, &params, out, job->err);

    if (st == SAC_OK && !sac_index_trained(*out))
        st = train(job, *out, rows);
    if (st == SAC_OK)
        st = add(job, *out, rows);
    if (st != SAC_OK) {
        sac_index_close(*out);
        *out = NULL;
    }
    *seconds = sac_clock() - began;
    return st;
}

/* ---- asking ----------------------------------------------------------------------------------------- */

static void set(sac_query *query, sac_tune_setting setting)
{
    query->recall = setting.recall;
    query->nprobe = setting.nprobe;
    query->depth = setting.depth;
}

sac_status sac_tune_search(sac_tune_job *job, const sac_index *index, sac_tune_setting setting, size_t first,
                           size_t n)
{
    sac_status st = SAC_OK;

    for (size_t i = first; i < first + n; i++)
        set(&job->queries[i], setting);
    for (size_t done = 0; st == SAC_OK && done < n; done += SEARCH_CHUNK) {
        size_t part = n - done < SEARCH_CHUNK ? n - done : SEARCH_CHUNK;
        st = sac_index_search(index, job->queries + first + done, part, job->err);
        if (st == SAC_OK && !sac_tune_goes_on(job))
            st = stopped(job);
    }
    return st;
}

static int compare_numbers(const void *a, const void *b)
{
    const double *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* The rounds shorten the list to what could be timed within the limit. */
sac_status sac_tune_time(sac_tune_job *job, const sac_index *index, sac_tune_setting setting, size_t n,
                         double limit, sac_tune_times *out)
{
    double began = sac_clock(), sum = 0;
    sac_status st = SAC_OK;

    n = n < job->query_count ? n : job->query_count;
    for (int round = 0; round < ROUNDS && st == SAC_OK; round++)
        for (size_t i = 0; i < n && st == SAC_OK; i++) {
            double start = sac_clock(), took;
            set(&job->queries[i], setting);
            st = sac_index_search(index, &job->queries[i], 1, job->err);
            took = sac_clock() - start;
            if (round == 0 || took < job->seconds[i])
                job->seconds[i] = took;
            if (start - began <= limit / ROUNDS * (round + 1) || (round == 0 && i + 1 < TIMED_MIN))
                continue;
            if (round == 0)
                n = i + 1;
            break;
        }
    if (st == SAC_OK && !sac_tune_goes_on(job))
        st = stopped(job);
    for (size_t i = 0; i < n; i++)
        sum += job->seconds[i];
    qsort(job->seconds, n, sizeof *job->seconds, compare_numbers);
    *out = (sac_tune_times){sum / (double)n, job->seconds[n / 2], job->seconds[(n * 99 - 1) / 100]};
    return st;
}

sac_status sac_tune_time_batch(sac_tune_job *job, const sac_index *index, sac_tune_setting setting,
                               double *rate)
{
    sac_status st = SAC_OK;

    *rate = 0;
    for (size_t i = 0; i < SAC_TUNE_BATCH; i++)
        set(&job->queries[i], setting);
    for (int round = 0; round < ROUNDS && st == SAC_OK; round++) {
        double start = sac_clock(), got;
        st = sac_index_search(index, job->queries, SAC_TUNE_BATCH, job->err);
        got = SAC_TUNE_BATCH / (sac_clock() - start);
        *rate = got > *rate ? got : *rate;
        if (st == SAC_OK && !sac_tune_goes_on(job))
            st = stopped(job);
    }
    return st;
}

/* ---- truth ------------------------------------------------------------------------------------------ */

static int compare_labels(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void note_truth(const sac_tune_job *job, sac_tune_world *world)
{
    for (size_t q = 0; q < job->query_count; q++) {
        const sac_query *query = &job->queries[q];
        uint64_t *nearest = world->nearest + q * world->k;

        for (uint32_t i = 0; i < world->k; i++)
            nearest[i] = query->hits[i].label;
        world->reach[q] = (double)query->hits[world->k - 1].distance;
        qsort(nearest, world->k, sizeof *nearest, compare_labels);
    }
}

static sac_status find_truth(sac_tune_job *job, sac_tune_world *world)
{
    sac_index *index;
    double seconds;
    sac_status st = sac_tune_build(job, "Flat", world->rows, &index, &seconds);

    if (st == SAC_OK)
        st = sac_tune_search(job, index, (sac_tune_setting){0}, 0, job->query_count);
    if (st == SAC_OK)
        note_truth(job, world);
    sac_index_close(index);
    return st;
}

sac_status sac_tune_world_open(sac_tune_job *job, size_t rows, sac_tune_world *out)
{
    sac_status st;

    *out = (sac_tune_world){.rows = rows, .k = job->params->k < rows ? job->params->k : (uint32_t)rows};
    out->nearest = calloc(job->query_count * out->k, sizeof *out->nearest);
    out->reach = calloc(job->query_count, sizeof *out->reach);
    if (out->nearest != NULL && out->reach != NULL)
        st = find_truth(job, out);
    else
        st = sac_fail(job->err, SAC_NO_MEMORY, "no memory for true neighbours");
    if (st != SAC_OK)
        sac_tune_world_close(out);
    return st;
}

void sac_tune_world_close(sac_tune_world *world)
{
    free(world->nearest);
    free(world->reach);
    *world = (sac_tune_world){0};
}

/* As in sac_hit, from the vectors as they were given. */
static double distance(const sac_tune_params *p, const float *a, const float *b)
{
    double l2 = 0, dot = 0, aa = 0, bb = 0;

    for (uint32_t d = 0; d < p->dim; d++) {
        double x = (double)a[d], y = (double)b[d];
        l2 += (x - y) * (x - y);
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    return p->metric == SAC_METRIC_L2 ? l2 : p->metric == SAC_METRIC_IP ? -dot : 1 - dot / sqrt(aa * bb);
}

static bool is_true(const sac_tune_job *job, const sac_tune_world *world, size_t q, uint64_t label)
{
    const sac_tune_params *p = job->params;
    double reach = world->reach[q];

    if (bsearch(&label, world->nearest + q * world->k, world->k, sizeof label, compare_labels) != NULL)
        return true;
    return distance(p, job->vectors + q * p->dim, p->vectors + (size_t)label * p->dim) <=
           reach + 1e-5 * fabs(reach) + (p->metric == SAC_METRIC_COSINE ? 1e-6 : 0); /* of numbers near 1 */
}

void sac_tune_recall(const sac_tune_job *job, const sac_tune_world *world, size_t first, size_t n,
                     double *recall, double *error)
{
    double sum = 0, squares = 0;

    for (size_t q = first; q < first + n; q++) {
        uint32_t found = 0;
        double share;
        for (uint32_t i = 0; i < job->queries[q].hit_count && i < world->k; i++)
            found += is_true(job, world, q, job->queries[q].hits[i].label);
        share = (double)found / world->k;
        sum += share;
        squares += share * share;
    }
    *recall = sum / (double)n;
    *error = n > 1 ? sqrt(fmax(squares / (double)n - *recall * *recall, 0) / (double)(n - 1)) : 0;
}
