#include "server/pictures.h"
#include "server/query.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct asking {
    struct sac_ask *ask;
    sac_error *err;
    sac_status worst; /* of queries that were explained and passed over */
};

static sac_query query_of(const struct sac_ask *ask)
{
    sac_query query;

    sac_query_init(&query);
    query.k = ask->k;
    query.recall = ask->recall;
    query.nprobe = ask->nprobe;
    query.depth = ask->depth;
    query.exact = ask->exact;
    query.score_threshold = ask->threshold;
    return query;
}

/* Prints what was found for query i. */
static sac_status print(struct asking *a, const char *title, const sac_results *results, size_t i,
                        const sac_id *skip)
{
    size_t count;
    const sac_found *found = sac_results_get(results, i, &count);
    json_t *hits;
    sac_status st = sac_answer_from_found(found, count, skip, a->ask->k, &hits, a->err);

    if (st != SAC_OK)
        return st;
    sac_answer_print(&a->ask->style, title, hits);
    json_decref(hits);
    return SAC_OK;
}

/* Searches n vectors whose names are name, or name:ROW where rows is true. skip: an id that asks for itself.
 */
static sac_status search(struct asking *a, const char *name, bool rows, uint64_t first, size_t n,
                         uint32_t dim, const float *vectors, const sac_id *skip)
{
    sac_query queries[SAC_ASK_BATCH] = {0};
    sac_results *results = NULL;
    sac_status st;

    for (size_t i = 0; i < n; i++) {
        queries[i] = query_of(a->ask);
        queries[i].vector = vectors + i * dim;
        queries[i].k += skip != NULL;
    }
    st = sac_collection_search(a->ask->local.collection, queries, n, 0, &results, a->err);
    for (size_t i = 0; st == SAC_OK && i < n; i++) {
        char title[4200];
        snprintf(title, sizeof title, rows ? "%s:%llu" : "%s", name, (unsigned long long)first + i);
        st = print(a, title, results, i, skip);
    }
    sac_results_free(results);
    return st;
}

static uint32_t collection_dim(const sac_collection *collection)
{
    sac_collection_params made;

    sac_collection_describe(collection, &made);
    return made.dim;
}

/* ---- the three kinds of query ------------------------------------------------------------------------- */

static sac_status on_pictures(void *context, size_t first, size_t n, sac_prepared *const *prepared,
                              const sac_error *errors, sac_error *err)
{
    struct asking *a = context;
    sac_query queries[SAC_PICTURES_BATCH] = {0};
    sac_prepared *good[SAC_PICTURES_BATCH] = {0};
    sac_results *results = NULL;
    size_t count = 0, next = 0;
    sac_status st;

    for (size_t i = 0; i < n; i++)
        if (prepared[i] != NULL) {
            queries[count] = query_of(a->ask);
            good[count++] = prepared[i];
        }
    st = sac_collection_search_pictures(a->ask->local.collection, a->ask->local.encoder, good, queries, count,
                                        0, &results, err);
    for (size_t i = 0; st == SAC_OK && i < n; i++) {
        if (prepared[i] != NULL) {
            st = print(a, a->ask->images[first + i], results, next++, NULL);
        } else {
            sac_ask_complain(&errors[i]);
            a->worst = errors[i].status;
        }
    }
    sac_results_free(results);
    return st;
}

static sac_status ask_images(struct asking *a)
{
    struct sac_ask *ask = a->ask;
    sac_status st = sac_local_open_encoder(&ask->local, a->err);

    if (st != SAC_OK)
        return st;
    return sac_pictures_prepare(
        &(struct sac_pictures){
            .encoder = ask->local.encoder,
            .threads = sac_device_threads(ask->local.device),
            .paths = (const char *const *)ask->images,
            .count = ask->image_count,
            .crop = ask->crop,
        },
        on_pictures, a, a->err);
}

static sac_status ask_id(struct asking *a, const char *text)
{
    sac_id id = sac_ask_id(text);
    sac_record *record;
    sac_status st = sac_collection_get(a->ask->local.collection, id, &record, a->err);

    if (st == SAC_NOT_FOUND) {
        sac_ask_complain(a->err);
        a->worst = st;
        return SAC_OK;
    }
    if (st == SAC_OK)
        st = search(a, text, false, 0, 1, collection_dim(a->ask->local.collection),
                    sac_record_item(record)->vector, &id);
    sac_record_free(record);
    return st;
}

static sac_status on_rows(void *context, const char *path, uint64_t first, size_t n, uint32_t dim,
                          const float *vectors)
{
    struct asking *a = context;
    uint32_t wanted = collection_dim(a->ask->local.collection);

    if (dim != wanted)
        return sac_fail(a->err, SAC_INVALID_ARGUMENT,
                        "%s holds vectors of %u components, collection %s of %u", path, dim,
                        a->ask->local.name, wanted);
    return search(a, path, true, first, n, dim, vectors, NULL);
}

sac_status sac_query_local(struct sac_ask *ask, sac_error *err)
{
    struct asking a = {.ask = ask, .err = err, .worst = SAC_OK};
    sac_status st = sac_local_open_collection(&ask->local, err);

    if (st == SAC_OK && ask->image_count > 0)
        st = ask_images(&a);
    for (size_t i = 0; st == SAC_OK && i < ask->ids.count; i++)
        st = ask_id(&a, ask->ids.at[i]);
    for (size_t i = 0; st == SAC_OK && i < ask->vectors.count; i++)
        st = sac_ask_each_rows(ask->vectors.at[i], on_rows, &a, err);
    if (st == SAC_OK && a.worst != SAC_OK) {
        err->text[0] = '\0';
        st = a.worst;
    }
    return st;
}
