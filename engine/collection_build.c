#include "engine/collection.h"

#include "engine/plan.h"
#include "engine/random.h"

#include <stdlib.h>
#include <string.h>

/* Vectors that training is shown: they have to fit beside two indexes, and a few hundred for each centroid
 * say all there is to learn. */
#define SAMPLE_BYTES_MAX ((size_t)256 << 20)

enum {
    SEED = 1,
    ROUNDS_MAX = 4,    /* of catching up beside the writers, */
    ROUND_ROWS = 1000, /* or until one finds so few changes that the last may let the writers wait */
};

/* A sample of the stored vectors, [*n][dim]; freed with free(). */
static sac_status draw_sample(const sac_collection *c, uint64_t *rows, size_t count, float **out, size_t *n,
                              sac_error *err)
{
    size_t dim = sac_store_params(c->store)->dim, chunk = sac_collection_chunk(c);
    size_t most = SAMPLE_BYTES_MAX / (dim * sizeof(float)), want = count < most ? count : most;
    sac_random random = {SEED};
    uint64_t *sample = calloc(want + 1, sizeof *sample);
    float *vectors = malloc((want + 1) * dim * sizeof *vectors);
    sac_status st = SAC_OK;

    *out = NULL;
    *n = 0;
    if (sample == NULL || vectors == NULL) {
        free(sample);
        free(vectors);
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a sample of %zu vectors to train on", want);
    }
    sac_random_sample(&random, count, want, sample);
    for (size_t i = 0; i < want; i++)
        sample[i] = rows[sample[i]];
    for (size_t done = 0; done < want && st == SAC_OK; done += chunk) {
        size_t part = want - done < chunk ? want - done : chunk, found;

        st = sac_collection_vectors(c, sample + done, part, sample + done, vectors + *n * dim, &found, err);
        *n += found;
    }
    free(sample);
    if (st != SAC_OK) {
        free(vectors);
        return st;
    }
    *out = vectors;
    return SAC_OK;
}

static sac_status train(const sac_collection *c, sac_index *index, sac_progress_fn progress, void *context,
                        sac_error *err)
{
    uint64_t *rows;
    float *sample = NULL;
    size_t count, n = 0;
    sac_status st = sac_collection_rows(c, &rows, &count, err);

    if (st == SAC_OK)
        st = draw_sample(c, rows, count, &sample, &n, err);
    if (st == SAC_OK)
        st = sac_index_train(index, n, sample, count, progress, context, err);
    free(sample);
    free(rows);
    return st;
}

/* A new index of everything stored, but for what writers change meanwhile. */
static sac_status make_index(const sac_collection *c, const char *spec, sac_progress_fn progress,
                             void *context, sac_index **out, sac_error *err)
{
    sac_index_params params;
    size_t changed = SIZE_MAX;
    sac_status st;

    sac_index_params_init(&params);
    params.dim = sac_store_params(c->store)->dim;
    params.metric = sac_store_params(c->store)->metric;
    params.spec = spec != NULL ? spec : sac_store_params(c->store)->spec;
    params.seed = SEED;
    *out = NULL;
    st = sac_plan_check(c->device, &params, sac_collection_count(c), err);
    if (st == SAC_OK)
        st = sac_index_create(c->device, &params, out, err);
    if (st == SAC_OK && !sac_index_trained(*out))
        st = train(c, *out, progress, context, err);
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
