/* stage_write.c -- one thread writes for everybody. Puts that wait at the same time become one transaction,
 * so that a hundred clients share one sync of the disk. */
#include "server/pipeline.h"

#include "server/reply.h"

#include <stdlib.h>

#define GROUP_BYTES_MAX (16u << 20)
#define TABLE_SIZE 4096u /* kept at most half full: a larger request goes alone */

/* The ids of a group, because ids within one put must be distinct. */
struct id_table {
    size_t count;
    const sac_id *slots[TABLE_SIZE];
};

struct group {
    struct sac_entry *entry;
    const struct sac_method *method;
    size_t items, bytes;
    struct id_table ids;
};

static uint64_t id_hash(const sac_id *id)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/ */
    const unsigned char *bytes =
        id->text != NULL ? (const unsigned char *)id->text : (const void *)&id->number;
    size_t n = id->text != NULL ? id->text_size : sizeof id->number;

    for (size_t i = 0; i < n; i++)
        h = (h ^ bytes[i]) * 0x100000001b3u;
    return h ^ h >> 32;
}

/* False when the id is there already, or the table is too full to tell. */
static bool id_table_add(struct id_table *table, const sac_id *id)
{
    if (table->count >= TABLE_SIZE / 2)
        return false;
    for (uint64_t slot = id_hash(id);; slot++) {
        const sac_id **at = &table->slots[slot % TABLE_SIZE];
        if (*at == NULL) {
            *at = id;
            table->count++;
            return true;
        }
        if (sac_id_equal(*at, id))
            return false;
    }
}

static bool add_ids(struct group *group, const struct sac_request *request)
{
    for (size_t i = 0; i < request->put.count; i++)
        if (!id_table_add(&group->ids, &request->put.items[i].id))
            return false;
    return true;
}

static enum sac_choice join_group(void *context, struct sac_node *node)
{
    struct group *group = context;
    struct sac_request *request = (struct sac_request *)node;

    if (request->entry != group->entry)
        return SAC_CHOICE_LEAVE;
    /* The order within a collection is kept: nothing behind one that cannot join may join either. */
    if (request->method != group->method || group->items + request->put.count > SAC_WRITE_GROUP_ITEMS ||
        group->bytes + request->size > GROUP_BYTES_MAX || !add_ids(group, request))
        return SAC_CHOICE_STOP;
    group->items += request->put.count;
    group->bytes += request->size;
    return SAC_CHOICE_TAKE;
}

static sac_status check_items(struct sac_request *request, sac_error *err)
{
    for (size_t i = 0; i < request->put.count; i++) {
        sac_error why;
        sac_status st = sac_collection_check(request->entry->collection, &request->put.items[i], &why);
        if (st != SAC_OK)
            return sac_fail(err, st, "put: items[%zu]: %.400s", i, why.text);
    }
    return SAC_OK;
}

static sac_status put_list(struct sac_request *list, struct sac_entry *entry, size_t n, sac_error *err)
{
    sac_item *items = calloc(n, sizeof *items);
    size_t at = 0;
    sac_status st;

    if (items == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a group of %zu items", n);
    for (struct sac_request *r = list; r != NULL; r = (struct sac_request *)r->node.next) {
        memcpy(items + at, r->put.items, r->put.count * sizeof *items);
        at += r->put.count;
    }
    st = sac_collection_put(entry->collection, items, n, err);
    free(items);
    while (st == SAC_OK && list != NULL) {
        struct sac_request *next = (struct sac_request *)list->node.next;
        sac_reply_stored(list);
        list = next;
    }
    return st;
}

static void put_group(struct sac_request *list, struct sac_entry *entry, size_t n)
{
    sac_error err;

    if (put_list(list, entry, n, &err) == SAC_OK)
        return;
    if (list->node.next == NULL) {
        sac_request_fail(list, &err, 0);
        return;
    }
    while (list != NULL) { /* the group failed as a whole: find out who may pass alone */
        struct sac_request *next = (struct sac_request *)list->node.next;
        list->node.next = NULL;
        if (put_list(list, entry, list->put.count, &err) != SAC_OK)
            sac_request_fail(list, &err, 0);
        list = next;
    }
}

static void delete_ids(struct sac_request *request)
{
    sac_error err;
    size_t removed;

    if (sac_request_over(request, SAC_STAGE_WRITE))
        return;
    if (sac_collection_delete(request->entry->collection, request->ids.ids, request->ids.count, &removed,
                              &err) == SAC_OK)
        sac_reply_deleted(request, removed);
    else
        sac_request_fail(request, &err, 0);
}

static void run_puts(struct sac_pipeline *pipeline, struct sac_request *first, struct sac_entry *entry)
{
    struct sac_metrics *metrics = &pipeline->core->metrics;
    struct group *group = calloc(1, sizeof *group);
    struct sac_request *list;
    size_t n = 0;

    if (group != NULL) { /* without memory for grouping it goes alone */
        *group = (struct group){
            .entry = entry, .method = first->method, .items = first->put.count, .bytes = first->size};
        if (add_ids(group, first))
            first->node.next = sac_queue_take(&pipeline->stages[SAC_STAGE_WRITE].queue, join_group, group);
        free(group);
    }
    list = sac_stage_keep(pipeline, SAC_STAGE_WRITE, first, check_items);
    if (list == NULL)
        return;
    for (struct sac_request *r = list; r != NULL; r = (struct sac_request *)r->node.next)
        n += r->put.count;
    uint64_t start = sac_now_ns();
    put_group(list, entry, n);
    uint64_t ns = sac_now_ns() - start;
    sac_time_observe(&metrics->stages[SAC_STAGE_WRITE], ns);
    sac_size_observe(&metrics->batches[SAC_STAGE_WRITE], n);
    sac_cost_measure(&entry->write, n, ns);
}

void sac_write_run(struct sac_pipeline *pipeline, struct sac_node *node)
{
    struct sac_request *request = (struct sac_request *)node;
    /* Requests are gone once they are answered; the entry is needed a moment longer. */
    struct sac_entry *entry = sac_entry_hold(request->entry);

    if (request->put.items != NULL)
        run_puts(pipeline, request, entry);
    else
        delete_ids(request);
    atomic_store(&entry->points, sac_collection_count(entry->collection));
    sac_entry_release(entry);
}
