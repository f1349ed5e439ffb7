/* stage_search.c -- queries that wait at the same time share one call, whoever asked them. */
#include "server/pipeline.h"

#include "server/reply.h"

#include <stdlib.h>

struct search_batch {
    struct sac_entry *entry;
    unsigned with;
    size_t queries, queries_max;
};

static enum sac_choice join_batch(void *context, struct sac_node *node)
{
    struct search_batch *batch = context;
    struct sac_request *request = (struct sac_request *)node;

    if (batch->queries >= batch->queries_max)
        return SAC_CHOICE_STOP;
    if (request->entry != batch->entry || request->search.with != batch->with ||
        request->search.count > batch->queries_max - batch->queries)
        return SAC_CHOICE_LEAVE;
    batch->queries += request->search.count;
    return SAC_CHOICE_TAKE;
}

/* A query by id gets the vector of the item that asks; the others have theirs. */
static sac_status fetch_query(struct sac_request *request, sac_error *err)
{
    uint32_t dim = request->entry->params.dim;
    sac_record *record;
    const float *vector;
    sac_status st;

    if (!request->search.by_id)
        return SAC_OK;
    st = sac_collection_get(request->entry->collection, request->search.id, &record, err);
    if (st == SAC_NOT_FOUND)
        return sac_fail(err, SAC_NOT_FOUND, "search: id: collection %s has no such item",
                        request->entry->name);
    if (st != SAC_OK)
        return st;
    vector = sac_record_item(record)->vector;
    request->vectors = malloc(dim * sizeof *vector);
    if (request->vectors != NULL) {
        memcpy(request->vectors, vector, dim * sizeof *vector);
        request->search.queries[0].vector = request->vectors;
    } else {
        st = sac_fail(err, SAC_NO_MEMORY, "no memory for a query");
    }
    sac_record_free(record);
    return st;
}

/* Answers all requests of a list, unless they are over. */
static void answer(struct sac_request *list, const sac_results *results)
{
    size_t at = 0;

    while (list != NULL) {
        struct sac_request *next = (struct sac_request *)list->node.next;
        size_t count = list->search.count;
        if (!sac_request_over(list, SAC_STAGE_SEARCH))
            sac_reply_search(list, results, at);
        at += count;
        list = next;
    }
}

sac_status sac_search_list(struct sac_request *list, sac_prepared *const *pictures, size_t n, sac_error *err)
{
    const sac_collection *collection = list->entry->collection;
    sac_query *queries = calloc(n, sizeof *queries);
    sac_results *results;
    size_t at = 0;
    sac_status st;

    if (queries == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for %zu queries", n);
    for (struct sac_request *r = list; r != NULL; r = (struct sac_request *)r->node.next) {
        memcpy(queries + at, r->search.queries, r->search.count * sizeof *queries);
        at += r->search.count;
    }
    st = pictures == NULL ? sac_collection_search(collection, queries, n, list->search.with, &results, err)
                          : sac_collection_search_pictures(collection, list->model->encoder, pictures,
                                                           queries, n, list->search.with, &results, err);
    if (st == SAC_OK) {
        answer(list, results);
        sac_results_free(results);
    }
    free(queries);
    return st;
}

/* One query that the engine refuses must not spoil the answers of the others. */
static void search_each(struct sac_request *list)
{
    while (list != NULL) {
        struct sac_request *next = (struct sac_request *)list->node.next;
        sac_error err;
        list->node.next = NULL;
        if (sac_search_list(list, NULL, list->search.count, &err) != SAC_OK)
            sac_request_fail(list, &err, 0);
        list = next;
    }
}

void sac_search_run(struct sac_pipeline *pipeline, struct sac_node *node)
{
    struct sac_metrics *metrics = &pipeline->core->metrics;
    struct sac_request *first = (struct sac_request *)node, *list;
    struct search_batch batch = {first->entry, first->search.with, first->search.count,
                                 pipeline->core->config->search_batch};
    size_t n = 0, exact = 0;
    sac_error err;

    first->node.next = sac_queue_take(&pipeline->stages[SAC_STAGE_SEARCH].queue, join_batch, &batch);
    list = sac_stage_keep(pipeline, SAC_STAGE_SEARCH, first, fetch_query);
    if (list == NULL)
        return;
    for (struct sac_request *r = list; r != NULL; r = (struct sac_request *)r->node.next) {
        n += r->search.count;
        exact += r->search.queries[0].exact ? r->search.count : 0;
    }
    /* The answered requests give their hold on the entry back; the rates below still need it. */
    struct sac_entry *entry = sac_entry_hold(batch.entry);
    uint64_t start = sac_now_ns();
    sac_status st = sac_search_list(list, NULL, n, &err);
    uint64_t ns = sac_now_ns() - start;
    sac_time_observe(&metrics->stages[SAC_STAGE_SEARCH], ns);
    sac_size_observe(&metrics->batches[SAC_STAGE_SEARCH], n);
    if (st == SAC_OK && (exact == 0 || exact == n))
        sac_cost_measure(&entry->search[exact == n], n, ns);
    if (st != SAC_OK && list->node.next == NULL)
        sac_request_fail(list, &err, 0);
    else if (st != SAC_OK)
        search_each(list);
    sac_entry_release(entry);
}
