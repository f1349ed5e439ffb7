#include "engine/collection.h"

#include "engine/plan.h"
#include "engine/random.h"

#include <stdlib.h>
#include <string.h>

/* Vectors that training is shown where the index has a memory of its own. */
#define SAMPLE_BYTES_MAX ((size_t)256 << 20)

enum {
    SEED = 1,
    ROUNDS_MAX = 4,    /* of catching up beside the writers, */
    ROUND_ROWS = 1000, /* or until one finds so few changes that the last may let the writers wait */
};

/* How many vectors training is shown of `count`: those that it makes use of and has memory for, or, on a
 * device, so many that it can choose. */
static sac_status sample_size(const sac_collection *c, const sac_index_spec *spec, size_t count, size_t *n,
                              sac_error *err)
{
    uint32_t dim = sac_store_params(c->store)->dim;
    size_t most = SAMPLE_BYTES_MAX / (dim * sizeof(float));

    if (sac_device_host_visible(c->device) && spec->nlist > 0)
        return sac_plan_sample(c->device, spec, dim, count, 1, n, err);
    *n = most < count ? most : count;
    return SAC_OK;
}

/* A sample of the stored vectors: [*n][dim] of `want` that are drawn and not gone meanwhile. */
static sac_status draw_sample(const sac_collection *c, const uint64_t *rows, size_t count, size_t want,
                              float *vectors, size_t *n, sac_error *err)
{
    size_t dim = sac_store_params(c->store)->dim, chunk = sac_collection_chunk(c);
    sac_random random = {SEED};
    uint64_t *sample = calloc(want + 1, sizeof *sample);
    sac_status st = SAC_OK;

    *n = 0;
    if (sample == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a sample of %zu vectors to train on", want);
    sac_random_sample(&random, count, want, sample);
    for (size_t i = 0; i < want; i++)
        sample[i] = rows[sample[i]];
    for (size_t done = 0; done < want && st == SAC_OK; done += chunk) {
        size_t part = want - done < chunk ? want - done : chunk, found;

        st = sac_collection_vectors(c, sample + done, part, sample + done, vectors + *n * dim, &found, err);
        *n += found;
    }
    free(sample);
    return st;
}

static sac_status train(const sac_collection *c, sac_index *index, sac_index_spec spec,
                        sac_progress_fn progress, void *context, sac_error *err)
{
    uint32_t dim = sac_store_params(c->store)->dim;
    sac_device *host = sac_device_host(c->device);
    void *sample = NULL;
    uint64_t *rows;
    size_t count, want = 0, n = 0;
    sac_status st = sac_collection_rows(c, &rows, &count, err);

    if (spec.automatic)
        sac_index_spec_choose(count, count, dim, &spec);
    if (st == SAC_OK)
        st = sample_size(c, &spec, count, &want, err);
    if (st == SAC_OK)
        st = sac_host_alloc(host, want, dim * sizeof(float), &sample, err);
    if (st == SAC_OK)
        st = draw_sample(c, rows, count, want, sample, &n, err);
    sac_collection_rows_free(c, rows);
    if (st == SAC_OK)
        st = sac_index_train(index, n, sample, count, progress, context, err);
    sac_host_free(host, sample);
    return st;
}

/* A new index of everything stored, but for what writers change meanwhile. */
static sac_status make_index(const sac_collection *c, const char *spec, sac_progress_fn progress,
                             void *context, sac_index **out, sac_error *err)
{
    sac_index_params params;
    sac_index_spec kind;
    size_t changed = SIZE_MAX;
    sac_status st;

    sac_index_params_init(&params);
    params.dim = sac_store_params(c->store)->dim;
    params.metric = sac_store_params(c->store)->metric;
    params.spec = spec != NULL ? spec : sac_store_params(c->store)->spec;
    params.seed = SEED;
    *out = NULL;
    st = sac_index_spec_parse(params.spec, params.dim, &kind, err);
    if (st == SAC_OK)
        st = sac_plan_check(c->device, &kind, params.dim, sac_collection_count(c), 0, err);
    if (st == SAC_OK)
        st = sac_index_create(c->device, &params, out, err);
    if (st == SAC_OK && !sac_index_trained(*out))
        st = train(c, *out, kind, progress, context, err);
    if (st == SAC_OK)
        st = sac_collection_catch_up(c, *out, progress, context, NULL, err);
    if (st == SAC_OK)
        st = sac_index_measure(*out, progress, context, err);
    for (int round = 0; round < ROUNDS_MAX && changed > ROUND_ROWS && st == SAC_OK; round++)
        st = sac_collection_catch_up(c, *out, NULL, NULL, &changed, err);
    if (st != SAC_OK) {
        sac_index_close(*out);
        *out = NULL;
    }
    return st;
}

/* With the writers waiting: the last rows, the swap, the checkpoint. */
static sac_status put_in_place(sac_collection *c, sac_index *index, sac_error *err)
{
    sac_status st;

    pthread_mutex_lock(&c->write_lock);
    st = sac_collection_usable(c, err);
    if (st == SAC_OK)
        st = sac_collection_catch_up(c, index, NULL, NULL, NULL, err);
    if (st == SAC_OK)
        st = sac_live_swap(c, index, err);
    if (st != SAC_OK)
        sac_index_close(index);
    else
        st = sac_collection_save(c, err);
    pthread_mutex_unlock(&c->write_lock);
    return st;
}

sac_status sac_collection_build(sac_collection *c, const char *spec, sac_progress_fn progress, void *context,
                                sac_error *err)
{
    sac_index *index;
    sac_status st = sac_collection_usable(c, err);

    if (st != SAC_OK)
        return st;
    if (!c->writable)
        return sac_fail(err, SAC_READ_ONLY, "the database was opened for reading");
    pthread_mutex_lock(&c->build_lock);
    st = make_index(c, spec, progress, context, &index, err);
    if (st == SAC_OK)
        st = put_in_place(c, index, err);
    pthread_mutex_unlock(&c->build_lock);
    return st;
}
