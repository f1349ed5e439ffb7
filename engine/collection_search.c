#include "engine/collection.h"
#include "engine/encoder.h"
#include "engine/index_search.h"

#include <stdlib.h>
#include <string.h>

/* Attempts for a query that met rows that were being replaced or deleted. Writers wait for the last one, so
 * that it meets none. */
enum { ATTEMPTS = 4 };

struct found_list {
    sac_found *found; /* [k], ascending (distance, id) */
    size_t count;
};

struct sac_results {
    size_t query_count;
    struct found_list *lists;
    sac_record **records; /* what all of them point into */
    size_t record_count, record_capacity;
};

/* One search on its way. */
struct search {
    const sac_collection *collection;
    unsigned with;
    sac_results *results;
    sac_query *queries;         /* [n]: copies, with room for hits */
    const sac_embeddings *rows; /* instead of vectors, of the queries that are searched for now; or NULL */
};

static bool keep_record(sac_results *results, sac_record *record)
{
    if (results->record_count == results->record_capacity) {
        size_t capacity = results->record_capacity > 0 ? 2 * results->record_capacity : 16;
        sac_record **more = realloc(results->records, capacity * sizeof(sac_record *));

        if (more == NULL)
            return false;
        results->records = more;
        results->record_capacity = capacity;
    }
    results->records[results->record_count++] = record;
    return true;
}

/* Turns one hit into a found item. SAC_NOT_FOUND: the view does not know the row. */
static sac_status resolve(struct search *search, const sac_store_view *view, const sac_hit *hit,
                          sac_found *found, sac_error *err)
{
    struct sac_stored stored = {0};
    float vector[SAC_DIM_MAX];
    sac_record *record;
    sac_id id;
    sac_status st = sac_store_id(view, hit->label, &id, err);

    if (st != SAC_OK)
        return st;
    stored.id = id;
    if (search->with & (SAC_WITH_ATTRIBUTES | SAC_WITH_SOURCE))
        st = sac_store_find(view, id, &stored, err);
    if (st == SAC_OK && (search->with & SAC_WITH_VECTOR))
        st = sac_store_vector(view, hit->label, vector, err);
    if (st == SAC_NOT_FOUND) /* in one view, ids, items and vectors agree */
        st = sac_fail(err, SAC_CORRUPT, "row %llu has an id but no item", (unsigned long long)hit->label);
    if (st == SAC_OK)
        st = sac_record_copy(&stored, vector, sac_store_params(search->collection->store)->dim, search->with,
                             &record, err);
    if (st != SAC_OK)
        return st;
    if (!keep_record(search->results, record)) {
        sac_record_free(record);
        return sac_fail(err, SAC_NO_MEMORY, "no memory for search results");
    }
    *found = (sac_found){.id = sac_record_item(record)->id,
                         .distance = hit->distance,
                         .score = hit->score,
                         .item = search->with != 0 ? sac_record_item(record) : NULL};
    return SAC_OK;
}

static int compare_found(const void *a, const void *b)
{
    const sac_found *x = a, *y = b;

    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return sac_id_compare(x->id, y->id);
}

/* Fills the list of one query from its hits; *missing counts those that the view does not know. */
static sac_status resolve_query(struct search *search, const sac_store_view *view, const sac_query *query,
                                uint32_t k, struct found_list *list, size_t *missing, sac_error *err)
{
    sac_status st = SAC_OK;

    list->count = 0;
    *missing = 0;
    for (uint32_t i = 0; i < query->hit_count && list->count < k && st == SAC_OK; i++) {
        st = resolve(search, view, &query->hits[i], &list->found[list->count], err);
        if (st == SAC_OK)
            list->count++;
        *missing += st == SAC_NOT_FOUND;
        if (st == SAC_NOT_FOUND)
            st = SAC_OK;
    }
    qsort(list->found, list->count, sizeof *list->found, compare_found);
    return st;
}

/* Looks into the live index, then into a view that is opened after it (collection.h says why). */
static sac_status look(struct search *search, sac_query *queries, size_t n, sac_store_view *view,
                       sac_error *err)
{
    struct sac_live *live;
    sac_status st = sac_live_need(search->collection, &live, err);

    if (st != SAC_OK)
        return st;
    st = search->rows == NULL ? sac_index_search(live->index, queries, n, err)
                              : sac_index_search_rows(live->index, queries, n, search->rows, err);
    sac_live_release(search->collection, live);
    return st == SAC_OK ? sac_store_view_open(search->collection->store, view, err) : st;
}

/* One more attempt for a query, with room for what was left out. */
static sac_status attempt(struct search *search, const sac_query *asked, struct found_list *list,
                          size_t *missing, sac_error *err)
{
    sac_query query = *asked;
    sac_store_view view = {0};
    size_t k = asked->k + 2 * *missing + 8;
    sac_status st;

    query.k = k < SAC_K_MAX ? (uint32_t)k : SAC_K_MAX;
    if (query.depth != 0 && query.depth < query.k)
        query.depth = query.k;
    query.hits = malloc(query.k * sizeof *query.hits);
    if (query.hits == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for search results");
    st = look(search, &query, 1, &view, err);
    if (st == SAC_OK)
        st = resolve_query(search, &view, &query, asked->k, list, missing, err);
    sac_store_view_close(&view);
    free(query.hits);
    return st;
}

/* Asks again for one query. A full list is no reason to stop: what was left out may be nearer. */
static sac_status search_again(struct search *search, const sac_query *asked, struct found_list *list,
                               size_t missing, sac_error *err)
{
    pthread_mutex_t *write_lock = &((sac_collection *)search->collection)->write_lock;
    sac_status st = SAC_OK;

    for (int i = 1; i < ATTEMPTS - 1 && missing > 0 && st == SAC_OK; i++)
        st = attempt(search, asked, list, &missing, err);
    if (missing > 0 && st == SAC_OK) {
        pthread_mutex_lock(write_lock);
        st = attempt(search, asked, list, &missing, err);
        pthread_mutex_unlock(write_lock);
    }
    return st;
}

/* The same for the one whose row is the i-th of those that are searched for. */
static sac_status search_row_again(struct search *search, size_t i, const sac_query *asked,
                                   struct found_list *list, size_t missing, sac_error *err)
{
    const sac_embeddings *rows = search->rows;
    sac_embeddings one;
    sac_status st;

    if (rows != NULL) {
        one = *rows;
        one.rows += i * rows->dim;
        one.n = 1;
        search->rows = &one;
    }
    st = search_again(search, asked, list, missing, err);
    search->rows = rows;
    return st;
}

/* Searches queries first to first + n - 1. */
static sac_status search_some(struct search *search, size_t first, size_t n, sac_error *err)
{
    sac_query *queries = search->queries + first;
    struct found_list *lists = search->results->lists + first;
    sac_store_view view = {0};
    size_t *missing = calloc(n + 1, sizeof *missing);
    sac_status st;

    if (missing == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for %zu queries", n);
    st = look(search, queries, n, &view, err);
    for (size_t q = 0; q < n && st == SAC_OK; q++)
        st = resolve_query(search, &view, &queries[q], queries[q].k, &lists[q], &missing[q], err);
    sac_store_view_close(&view);
    for (size_t q = 0; q < n && st == SAC_OK; q++)
        if (missing[q] > 0)
            st = search_row_again(search, q, &queries[q], &lists[q], missing[q], err);
    free(missing);
    return st;
}

/* ---- pictures --------------------------------------------------------------------------------------- */

/* Whether the collection's index reads what is in a device's memory: that of one of its own devices, or of
 * the host. */
static bool reads_memory_of(const sac_collection *collection, const sac_device *device)
{
    for (uint32_t s = 0; s < sac_device_shard_count(collection->device); s++)
        if (sac_device_shard(collection->device, s) == device)
            return true;
    return sac_device_host_visible(device);
}

bool sac_collection_shares_device(const sac_collection *collection, const sac_encoder *encoder)
{
    const sac_device *device = sac_encoder_device(encoder);

    return !sac_device_host_visible(device) && reads_memory_of(collection, device);
}

sac_status sac_collection_check_encoder(const sac_collection *collection, const sac_encoder *encoder,
                                        sac_error *err)
{
    sac_collection_params params;

    sac_collection_describe(collection, &params);
    if (strcmp(params.fingerprint, sac_encoder_fingerprint(encoder)) != 0 ||
        params.dim != sac_encoder_dim(encoder))
        return sac_fail(err, SAC_VERSION_MISMATCH,
                        "the collection holds vectors of another encoder (%s), not of %s: make a new one",
                        params.model[0] != '\0' ? params.model : "none", sac_encoder_name(encoder));
    return SAC_OK;
}

/* By way of the host. */
static sac_status search_fetched(struct search *search, size_t first, sac_embeddings *rows, sac_error *err)
{
    float *vectors = calloc(rows->n, rows->dim * sizeof *vectors);
    sac_status st = vectors == NULL ? sac_fail(err, SAC_NO_MEMORY, "no memory for %zu queries", rows->n)
                                    : sac_embeddings_fetch(rows, vectors, err);

    for (size_t i = 0; st == SAC_OK && i < rows->n; i++)
        search->queries[first + i].vector = vectors + i * rows->dim;
    if (st == SAC_OK)
        st = search_some(search, first, rows->n, err);
    free(vectors);
    return st;
}

static sac_status search_pass(struct search *search, sac_encoder *encoder, sac_prepared *const *pictures,
                              size_t first, size_t n, sac_error *err)
{
    sac_embeddings *rows;
    sac_status st = sac_encoder_submit(encoder, n, pictures + first, &rows, err);

    if (st != SAC_OK)
        return st;
    if (reads_memory_of(search->collection, rows->device)) {
        search->rows = rows;
        st = search_some(search, first, n, err);
        search->rows = NULL;
    } else {
        st = search_fetched(search, first, rows, err);
    }
    sac_embeddings_release(rows);
    return st;
}

/* In passes of the encoder, each half as large as the one before it where the device has no room for that. */
static sac_status search_pictures(struct search *search, sac_encoder *encoder, sac_prepared *const *pictures,
                                  size_t n, sac_error *err)
{
    size_t most = sac_encoder_pass(encoder), first = 0;
    sac_status st = sac_collection_check_encoder(search->collection, encoder, err);

    while (st == SAC_OK && first < n) {
        size_t count = n - first < most ? n - first : most;

        st = search_pass(search, encoder, pictures, first, count, err);
        if ((st == SAC_DEVICE_MEMORY || st == SAC_NO_MEMORY) && count > 1) {
            most = count / 2;
            st = SAC_OK;
        } else {
            first += count;
        }
    }
    return st;
}

/* ---- the call --------------------------------------------------------------------------------------- */

/* Memory for n queries of k results each. False: none left; what was made belongs to results. */
static bool make_lists(sac_results *results, const sac_query *queries, size_t n, sac_query *copies,
                       sac_hit *hits)
{
    results->lists = calloc(n, sizeof *results->lists);
    if (results->lists == NULL)
        return false;
    results->query_count = n;
    for (size_t q = 0; q < n; q++) {
        copies[q] = queries[q];
        copies[q].hits = hits;
        hits += queries[q].k;
        results->lists[q].found = malloc(queries[q].k * sizeof *results->lists[q].found);
        if (results->lists[q].found == NULL)
            return false;
    }
    return true;
}

static sac_status check_queries(const sac_query *queries, size_t n, size_t *hit_count, sac_error *err)
{
    *hit_count = 0;
    for (size_t q = 0; q < n; q++) {
        if (queries[q].k == 0 || queries[q].k > SAC_K_MAX)
            return sac_fail(err, SAC_INVALID_ARGUMENT, "query %zu asks for k = %u results: 1 to %u", q,
                            queries[q].k, SAC_K_MAX);
        if (queries[q].allow != NULL)
            return sac_fail(err, SAC_INVALID_ARGUMENT,
                            "query %zu allows labels of an index, which a collection's rows do not have", q);
        *hit_count += queries[q].k;
    }
    return SAC_OK;
}

/* encoder NULL: queries have vectors. */
static sac_status search_collection(const sac_collection *collection, sac_encoder *encoder,
                                    sac_prepared *const *pictures, const sac_query *queries, size_t n,
                                    unsigned with, sac_results **out, sac_error *err)
{
    sac_results *results = calloc(1, sizeof *results);
    struct search search = {collection, with, results, calloc(n + 1, sizeof *queries), NULL};
    size_t hit_count = 0;
    sac_hit *hits = NULL;
    sac_status st = sac_collection_usable(collection, err);

    *out = NULL;
    if (st == SAC_OK)
        st = check_queries(queries, n, &hit_count, err);
    if (st == SAC_OK && n > 0) {
        hits = malloc((hit_count + 1) * sizeof *hits);
        if (results == NULL || search.queries == NULL || hits == NULL ||
            !make_lists(results, queries, n, search.queries, hits))
            st = sac_fail(err, SAC_NO_MEMORY, "no memory for %zu queries: send fewer at a time", n);
        else
            st = encoder != NULL ? search_pictures(&search, encoder, pictures, n, err)
                                 : search_some(&search, 0, n, err);
    }
    free(hits);
    free(search.queries);
    if (st != SAC_OK) {
        sac_results_free(results);
        return st;
    }
    *out = results;
    return SAC_OK;
}

sac_status sac_collection_search(const sac_collection *collection, const sac_query *queries, size_t n,
                                 unsigned with, sac_results **out, sac_error *err)
{
    return search_collection(collection, NULL, NULL, queries, n, with, out, err);
}

sac_status sac_collection_search_pictures(const sac_collection *collection, sac_encoder *encoder,
                                          sac_prepared *const *pictures, const sac_query *queries, size_t n,
                                          unsigned with, sac_results **out, sac_error *err)
{
    return search_collection(collection, encoder, pictures, queries, n, with, out, err);
}

const sac_found *sac_results_get(const sac_results *results, size_t query, size_t *count)
{
    *count = results->lists[query].count;
    return results->lists[query].found;
}

void sac_results_free(sac_results *results)
{
    if (results == NULL)
        return;
    for (size_t i = 0; i < results->record_count; i++)
        sac_record_free(results->records[i]);
    for (size_t q = 0; q < results->query_count; q++)
        free(results->lists[q].found);
    free(results->records);
    free(results->lists);
    free(results);
}
