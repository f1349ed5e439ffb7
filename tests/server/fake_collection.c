#include "tests/server/fake_engine.h"

#include "engine/saccade.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DIM = 4, ITEMS_MAX = 4096, COLLECTIONS_MAX = 8 };

struct stored {
    char text[SAC_ID_TEXT_MAX + 1];
    sac_id id;
    float vector[DIM];
};

struct sac_collection {
    char name[SAC_NAME_MAX + 1];
    sac_collection_params params;
    pthread_mutex_t lock;
    size_t count;
    struct stored items[ITEMS_MAX];
};

struct sac_database {
    pthread_mutex_t lock;
    sac_collection *collections[COLLECTIONS_MAX];
};

struct sac_record {
    struct stored stored;
    sac_item item;
};

struct sac_results {
    size_t queries;
    struct {
        size_t count;
        sac_found hits[SAC_K_MAX];
    } * of;
};

static void take_ms(uint32_t ms)
{
    const struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};

    if (ms > 0)
        nanosleep(&time, NULL);
}

static void raise_to(_Atomic uint32_t *most, uint32_t value)
{
    uint32_t old = atomic_load(most);

    while (old < value && !atomic_compare_exchange_weak(most, &old, value))
        ;
}

/* ---- database -------------------------------------------------------------------------------------------
 */

sac_status sac_database_open(sac_device *device, const char *path, sac_open_mode mode, sac_database **out,
                             sac_error *err)
{
    (void)device;
    (void)path;
    (void)mode;
    (void)err;
    *out = calloc(1, sizeof **out);
    assert(*out != NULL);
    pthread_mutex_init(&(*out)->lock, NULL);
    return SAC_OK;
}

void sac_database_close(sac_database *database)
{
    for (size_t i = 0; i < COLLECTIONS_MAX; i++)
        free(database->collections[i]);
    free(database);
}

void sac_collection_params_init(sac_collection_params *params)
{
    memset(params, 0, sizeof *params);
}

static size_t find(sac_database *database, const char *name)
{
    size_t i;

    for (i = 0; i < COLLECTIONS_MAX; i++)
        if (database->collections[i] != NULL && strcmp(database->collections[i]->name, name) == 0)
            break;
    return i;
}

sac_status sac_database_create(sac_database *database, const char *name, const sac_collection_params *params,
                               sac_error *err)
{
    size_t i = find(database, name);

    if (i < COLLECTIONS_MAX)
        return SAC_OK;
    for (i = 0; i < COLLECTIONS_MAX && database->collections[i] != NULL; i++)
        ;
    if (i == COLLECTIONS_MAX || params->dim != DIM)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "the fake keeps %d collections of %d dimensions",
                        COLLECTIONS_MAX, DIM);
    sac_collection *collection = calloc(1, sizeof *collection);
    assert(collection != NULL);
    strcpy(collection->name, name);
    pthread_mutex_init(&collection->lock, NULL);
    collection->params = (sac_collection_params){
        .dim = DIM,
        .metric = SAC_METRIC_L2,
        .spec = "Flat",
        .model = params->model[0] != '\0' ? "builtin" : "",
        .fingerprint = params->model[0] != '\0' ? sac_encoder_fingerprint(NULL) : "",
    };
    database->collections[i] = collection;
    return SAC_OK;
}

sac_status sac_database_drop(sac_database *database, const char *name, sac_error *err)
{
    size_t i = find(database, name);

    if (i == COLLECTIONS_MAX)
        return sac_fail(err, SAC_NOT_FOUND, "no collection %s", name);
    free(database->collections[i]);
    database->collections[i] = NULL;
    return SAC_OK;
}

sac_status sac_database_list(sac_database *database, char ***names, size_t *count, sac_error *err)
{
    (void)err;
    *count = 0;
    *names = calloc(COLLECTIONS_MAX, sizeof **names);
    for (size_t i = 0; i < COLLECTIONS_MAX; i++)
        if (database->collections[i] != NULL)
            (*names)[(*count)++] = database->collections[i]->name;
    return SAC_OK;
}

sac_status sac_collection_acquire(sac_database *database, const char *name, sac_collection **out,
                                  sac_error *err)
{
    size_t i = find(database, name);

    *out = i < COLLECTIONS_MAX ? database->collections[i] : NULL;
    return *out != NULL ? SAC_OK : sac_fail(err, SAC_NOT_FOUND, "no collection %s", name);
}

void sac_collection_release(sac_collection *collection)
{
    (void)collection;
}

void sac_collection_describe(const sac_collection *collection, sac_collection_params *out)
{
    *out = collection->params;
}

void sac_collection_stats(const sac_collection *collection, sac_collection_info *out)
{
    memset(out, 0, sizeof *out);
    out->count = collection->count;
}

uint64_t sac_collection_count(const sac_collection *collection)
{
    return collection->count;
}

/* ---- items ----------------------------------------------------------------------------------------------
 */

static bool is(const struct stored *stored, const sac_id *id)
{
    if (stored->id.text == NULL || id->text == NULL)
        return stored->id.text == NULL && id->text == NULL && stored->id.number == id->number;
    return strlen(stored->text) == id->text_size && memcmp(stored->text, id->text, id->text_size) == 0;
}

static struct stored *find_item(const sac_collection *collection, const sac_id *id)
{
    for (size_t i = 0; i < collection->count; i++)
        if (is(&collection->items[i], id))
            return (struct stored *)&collection->items[i];
    return NULL;
}

sac_status sac_collection_check(const sac_collection *collection, const sac_item *item, sac_error *err)
{
    (void)collection;
    if (item->vector[0] == 666)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "the fake does not like this vector");
    return SAC_OK;
}

static void put_one(sac_collection *collection, const sac_item *item)
{
    struct stored *stored = find_item(collection, &item->id);

    if (stored == NULL) {
        assert(collection->count < ITEMS_MAX);
        stored = &collection->items[collection->count++];
        stored->id = item->id;
        if (item->id.text != NULL) {
            memcpy(stored->text, item->id.text, item->id.text_size);
            stored->id.text = stored->text;
        }
    }
    memcpy(stored->vector, item->vector, sizeof stored->vector);
}

sac_status sac_collection_put(sac_collection *collection, const sac_item *items, size_t n, sac_error *err)
{
    int fails = atomic_load(&fake_engine.put_fails);

    atomic_fetch_add(&fake_engine.put_calls, 1);
    take_ms(fake_engine.put_ms);
    if (fails > 0) {
        atomic_store(&fake_engine.put_fails, fails - 1);
        return sac_fail(err, SAC_READ_ONLY, "the disk is full");
    }
    atomic_fetch_add(&fake_engine.put_items, (uint32_t)n);
    raise_to(&fake_engine.put_items_max, (uint32_t)n);
    pthread_mutex_lock(&collection->lock);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            assert(items[i].id.number != items[j].id.number || items[i].id.text != NULL);
    for (size_t i = 0; i < n; i++)
        put_one(collection, &items[i]);
    pthread_mutex_unlock(&collection->lock);
    return SAC_OK;
}

sac_status sac_collection_delete(sac_collection *collection, const sac_id *ids, size_t n, size_t *removed,
                                 sac_error *err)
{
    (void)err;
    *removed = 0;
    pthread_mutex_lock(&collection->lock);
    for (size_t i = 0; i < n; i++) {
        struct stored *stored = find_item(collection, &ids[i]);
        if (stored == NULL)
            continue;
        *stored = collection->items[--collection->count];
        ++*removed;
    }
    pthread_mutex_unlock(&collection->lock);
    return SAC_OK;
}

sac_status sac_collection_get(const sac_collection *collection, sac_id id, sac_record **out, sac_error *err)
{
    const struct stored *stored = find_item(collection, &id);

    *out = NULL;
    if (stored == NULL)
        return sac_fail(err, SAC_NOT_FOUND, "no such item");
    *out = calloc(1, sizeof **out);
    assert(*out != NULL);
    (*out)->stored = *stored;
    (*out)->item.id = id;
    (*out)->item.vector = (*out)->stored.vector;
    return SAC_OK;
}

const sac_item *sac_record_item(const sac_record *record)
{
    return &record->item;
}

void sac_record_free(sac_record *record)
{
    free(record);
}

/* ---- search ---------------------------------------------------------------------------------------------
 */

/* k nearest by squared distance, nearest first. */
static void search_one(const sac_collection *collection, const sac_query *query, sac_found *hits,
                       size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < collection->count; i++) {
        float distance = 0;
        size_t at = *count < query->k ? (*count)++ : query->k;
        for (int d = 0; d < DIM; d++)
            distance += (query->vector[d] - collection->items[i].vector[d]) *
                        (query->vector[d] - collection->items[i].vector[d]);
        for (; at > 0 && hits[at - 1].distance > distance; at--)
            if (at < query->k)
                hits[at] = hits[at - 1];
        if (at < query->k)
            hits[at] = (sac_found){collection->items[i].id, distance, -distance, NULL};
        if (at < query->k && hits[at].id.text != NULL)
            hits[at].id.text_size = strlen(hits[at].id.text);
    }
}

sac_status sac_collection_search(const sac_collection *collection, const sac_query *queries, size_t n,
                                 unsigned with, sac_results **out, sac_error *err)
{
    (void)with;
    atomic_fetch_add(&fake_engine.search_calls, 1);
    atomic_fetch_add(&fake_engine.search_queries, (uint32_t)n);
    raise_to(&fake_engine.search_queries_max, (uint32_t)n);
    take_ms(fake_engine.search_ms + (uint32_t)n * fake_engine.search_each_ms);
    for (size_t i = 0; i < n; i++)
        if (queries[i].vector[0] == 666)
            return sac_fail(err, SAC_INVALID_ARGUMENT, "the fake does not like this query");
    *out = calloc(1, sizeof **out);
    assert(*out != NULL);
    (*out)->queries = n;
    (*out)->of = calloc(n, sizeof *(*out)->of);
    pthread_mutex_lock((pthread_mutex_t *)&collection->lock);
    for (size_t i = 0; i < n; i++)
        search_one(collection, &queries[i], (*out)->of[i].hits, &(*out)->of[i].count);
    pthread_mutex_unlock((pthread_mutex_t *)&collection->lock);
    return SAC_OK;
}

bool sac_collection_shares_device(const sac_collection *collection, const sac_encoder *encoder)
{
    (void)collection;
    (void)encoder;
    return atomic_load(&fake_engine.one_device) != 0;
}

sac_status sac_collection_search_pictures(const sac_collection *collection, sac_encoder *encoder,
                                          sac_prepared *const *pictures, const sac_query *queries, size_t n,
                                          unsigned with, sac_results **out, sac_error *err)
{
    sac_query *copies = calloc(n, sizeof *copies);
    float *vectors = calloc(n, DIM * sizeof *vectors);
    sac_status st;

    assert(copies != NULL && vectors != NULL);
    if (atomic_load(&fake_engine.joint_fails) > 0) {
        atomic_fetch_sub(&fake_engine.joint_fails, 1);
        st = sac_fail(err, SAC_INTERNAL, "the fake does not like these pictures");
    } else {
        atomic_fetch_add(&fake_engine.joint_calls, 1);
        st = sac_encoder_embed(encoder, n, pictures, vectors, err);
    }
    for (size_t i = 0; i < n; i++) {
        copies[i] = queries[i];
        copies[i].vector = vectors + i * DIM;
    }
    if (st == SAC_OK)
        st = sac_collection_search(collection, copies, n, with, out, err);
    free(copies);
    free(vectors);
    return st;
}

const sac_found *sac_results_get(const sac_results *results, size_t query, size_t *count)
{
    *count = results->of[query].count;
    return results->of[query].hits;
}

void sac_results_free(sac_results *results)
{
    if (results == NULL)
        return;
    free(results->of);
    free(results);
}
