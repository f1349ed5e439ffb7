#include "server/tune.h"

#include "engine/progress.h"
#include "engine/random.h"
#include "engine/vector_file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MEMORY_SHARE = 8, READ_ROWS = 8192, QUERIES_MAX = 100000 };

/* Of the host: the vectors lie in its memory, and then an index or two beside them. */
static uint64_t host_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : (uint64_t)4 << 30;
}

/* Rows that are read of `count`. */
static size_t rows_wanted(uint64_t count, uint32_t dim)
{
    uint64_t most = host_memory() / MEMORY_SHARE / (dim * sizeof(float));

    return (size_t)(count < most ? count : most);
}

static sac_status no_memory(sac_error *err, size_t rows)
{
    return sac_fail(err, SAC_NO_MEMORY, "no memory for %zu vectors", rows);
}

/* ---- a file ----------------------------------------------------------------------------------------- */

/* All rows, or an even sample in the order of the file: a run of rows is read, and of it those that are
 * drawn are kept. */
struct reading {
    sac_vector_file *file;
    sac_random random;
    sac_progress_meter meter;
    uint64_t count, seen;
    size_t want, taken;
    uint32_t dim;
    bool stopped;
    float *run, *out;
    sac_error *err;
};

static sac_status read_run(struct reading *r)
{
    size_t got;
    sac_status st = sac_vector_file_read(r->file, READ_ROWS, r->run, &got, r->err);

    for (size_t i = 0; st == SAC_OK && i < got; i++, r->seen++)
        if (r->taken < r->want &&
            (r->want == r->count ||
             sac_random_unit(&r->random) * (double)(r->count - r->seen) < (double)(r->want - r->taken)))
            memcpy(r->out + r->taken++ * r->dim, r->run + i * r->dim, r->dim * sizeof *r->out);
    if (st == SAC_OK && got == 0)
        r->seen = r->count;
    if (st == SAC_OK && !sac_progress_step(&r->meter, r->seen, 0))
        st = sac_fail(r->err, SAC_CANCELLED, "stopped on request");
    return st;
}

/* *out: [*n][dim], the caller's. */
static sac_status read_file(const char *path, uint64_t most, uint64_t seed, sac_progress_fn progress,
                            void *context, float **out, size_t *n, uint64_t *count, uint32_t *dim,
                            sac_error *err)
{
    struct reading r = {.random = {seed}, .err = err};
    sac_status st = sac_vector_file_open(path, &r.file, err);

    *out = NULL;
    if (st != SAC_OK)
        return st;
    r.dim = *dim = sac_vector_file_dim(r.file);
    r.count = *count = sac_vector_file_count(r.file);
    r.want = rows_wanted(r.count < most ? r.count : most, r.dim);
    r.run = malloc((size_t)READ_ROWS * r.dim * sizeof *r.run);
    r.out = malloc((r.want + 1) * r.dim * sizeof *r.out);
    if (r.run == NULL || r.out == NULL)
        st = no_memory(err, r.want);
    sac_progress_begin(&r.meter, progress, context, "read", r.count);
    while (st == SAC_OK && r.taken < r.want && r.seen < r.count)
        st = read_run(&r);
    sac_vector_file_close(r.file);
    free(r.run);
    if (st != SAC_OK) {
        free(r.out);
        return st;
    }
    *out = r.out;
    *n = r.taken;
    return SAC_OK;
}

/* ---- a collection ----------------------------------------------------------------------------------- */

static bool take_item(void *context, const sac_item *item)
{
    struct reading *r = context;

    if (r->seen == r->count) /* stored meanwhile */
        return false;
    if (r->taken < r->want &&
        sac_random_unit(&r->random) * (double)(r->count - r->seen) < (double)(r->want - r->taken))
        memcpy(r->out + r->taken++ * r->dim, item->vector, r->dim * sizeof *r->out);
    r->seen++;
    r->stopped = !sac_progress_step(&r->meter, r->seen, 0);
    return !r->stopped;
}

static sac_status read_collection(struct sac_tune_ask *ask, sac_tune_input *out, sac_progress_fn progress,
                                  void *context, sac_error *err)
{
    struct reading r = {.random = {ask->seed}, .err = err};
    sac_collection_params made;
    sac_status st = sac_local_open_collection(&ask->local, err);

    if (st != SAC_OK)
        return st;
    sac_collection_describe(ask->local.collection, &made);
    r.dim = made.dim;
    r.count = sac_collection_count(ask->local.collection);
    r.want = rows_wanted(r.count, r.dim);
    r.out = out->vectors = malloc((r.want + 1) * r.dim * sizeof *r.out);
    if (r.out == NULL)
        return no_memory(err, r.want);
    sac_progress_begin(&r.meter, progress, context, "read", r.count);
    st = sac_collection_each(ask->local.collection, NULL, true, take_item, &r, err);
    if (st == SAC_OK && r.stopped)
        st = sac_fail(err, SAC_CANCELLED, "stopped on request");
    out->params.dim = r.dim;
    out->params.metric = made.metric;
    out->params.n = r.taken;
    out->params.count = r.count > r.taken ? r.count : 0;
    return st;
}

/* ---- both ------------------------------------------------------------------------------------------- */

static sac_status read_base(struct sac_tune_ask *ask, sac_tune_input *out, sac_progress_fn progress,
                            void *context, sac_error *err)
{
    sac_tune_params *p = &out->params;
    sac_status st;

    if (ask->file == NULL)
        return read_collection(ask, out, progress, context, err);
    p->metric = SAC_METRIC_L2;
    st = ask->metric == NULL ? SAC_OK : sac_metric_parse(ask->metric, &p->metric, err);
    if (st == SAC_OK)
        st = read_file(ask->file, UINT64_MAX, ask->seed, progress, context, &out->vectors, &p->n, &p->count,
                       &p->dim, err);
    return st;
}

static sac_status read_queries(const struct sac_tune_ask *ask, sac_tune_input *out, sac_progress_fn progress,
                               void *context, sac_error *err)
{
    uint64_t count;
    uint32_t dim;
    sac_status st = read_file(ask->queries, QUERIES_MAX, ask->seed, progress, context, &out->queries,
                              &out->params.query_count, &count, &dim, err);

    if (st != SAC_OK || dim == out->params.dim)
        return st;
    return sac_fail(err, SAC_INVALID_ARGUMENT, "%s holds vectors of %u components, but %u are to be searched",
                    ask->queries, dim, out->params.dim);
}

sac_status sac_tune_read(struct sac_tune_ask *ask, sac_tune_input *out, sac_progress_fn progress,
                         void *context, sac_error *err)
{
    sac_tune_params *p = &out->params;
    sac_status st;

    *out = (sac_tune_input){0};
    sac_tune_params_init(p);
    p->k = ask->k;
    p->recall = ask->recall;
    p->latency = ask->latency;
    p->memory = ask->memory;
    p->seconds = (double)ask->seconds;
    p->seed = ask->seed;
    st = read_base(ask, out, progress, context, err);
    if (st == SAC_OK && ask->queries != NULL)
        st = read_queries(ask, out, progress, context, err);
    p->vectors = out->vectors;
    p->queries = out->queries;
    return st;
}

void sac_tune_input_free(sac_tune_input *input)
{
    free(input->vectors);
    free(input->queries);
}
