#include "engine/collection.h"

sac_status sac_collection_check(const sac_collection *c, const sac_item *item, sac_error *err)
{
    return sac_item_check(item, sac_store_params(c->store)->dim, sac_store_params(c->store)->metric, err);
}

uint64_t sac_collection_count(const sac_collection *c)
{
    sac_store_view view;
    uint64_t count = 0;

    if (sac_store_view_open(c->store, &view, NULL) == SAC_OK)
        count = sac_store_count(&view);
    sac_store_view_close(&view);
    return count;
}

/* A record of an item that the view shows. */
static sac_status copy_item(const sac_collection *c, const sac_store_view *view,
                            const struct sac_stored *stored, unsigned with, sac_record **out, sac_error *err)
{
    float vector[SAC_DIM_MAX];
    sac_status st = SAC_OK;

    if (with & SAC_WITH_VECTOR)
        st = sac_store_vector(view, stored->row, vector, err);
    if (st == SAC_NOT_FOUND)
        st = sac_fail(err, SAC_CORRUPT, "row %llu has no vector", (unsigned long long)stored->row);
    return st == SAC_OK ? sac_record_copy(stored, vector, sac_store_params(c->store)->dim, with, out, err)
                        : st;
}

sac_status sac_collection_get(const sac_collection *c, sac_id id, sac_record **out, sac_error *err)
{
    struct sac_stored stored;
    sac_store_view view = {0};
    sac_status st = sac_collection_usable(c, err);

    *out = NULL;
    if (st == SAC_OK)
        st = sac_store_view_open(c->store, &view, err);
    if (st == SAC_OK)
        st = sac_store_find(&view, id, &stored, err);
    if (st == SAC_OK)
        st = copy_item(c, &view, &stored, ~0u, out, err);
    sac_store_view_close(&view);
    return st;
}

enum { EACH_CHUNK = 64 }; /* items copied at a time, so that no view is open while the caller works */

static sac_status copy_next(const sac_collection *c, const sac_id *after, unsigned with, sac_record **records,
                            size_t *count, sac_error *err)
{
    struct sac_stored stored;
    sac_store_view view;
    sac_status st = sac_store_view_open(c->store, &view, err);
    size_t n = 0;

    while (n < EACH_CHUNK && st == SAC_OK) {
        st = sac_store_next(&view, after, &stored, err);
        if (st == SAC_OK)
            st = copy_item(c, &view, &stored, with, &records[n], err);
        if (st == SAC_OK)
            after = &sac_record_item(records[n++])->id;
    }
    sac_store_view_close(&view);
    *count = n;
    return st == SAC_NOT_FOUND ? SAC_OK : st;
}

sac_status sac_collection_each(const sac_collection *c, const sac_id *after, bool with_vectors,
                               bool (*fn)(void *context, const sac_item *item), void *context, sac_error *err)
{
    unsigned with = SAC_WITH_ATTRIBUTES | SAC_WITH_SOURCE | (with_vectors ? SAC_WITH_VECTOR : 0u);
    sac_record *records[EACH_CHUNK], *last = NULL;
    sac_status st = sac_collection_usable(c, err);
    bool go_on = st == SAC_OK;
    size_t count;

    if (st == SAC_OK && after != NULL)
        st = sac_id_check(*after, err);
    while (st == SAC_OK && go_on) {
        st = copy_next(c, after, with, records, &count, err);
        for (size_t i = 0; i < count; i++) {
            go_on = go_on && fn(context, sac_record_item(records[i]));
            sac_record_free(last);
            last = records[i];
            after = &sac_record_item(last)->id;
        }
        go_on = go_on && count > 0;
    }
    sac_record_free(last);
    return st;
}

void sac_collection_describe(const sac_collection *c, sac_collection_params *out)
{
    *out = *sac_store_params(c->store);
}

void sac_collection_stats(const sac_collection *c, sac_collection_info *out)
{
    struct sac_live *live = sac_live_hold(c);

    *out = (sac_collection_info){
        .count = sac_collection_count(c),
        .bytes_store = sac_store_bytes(c->store),
        .read_only = sac_store_failed(c->store),
        .checkpoint_refused = c->checkpoint_refused,
    };
    if (live == NULL) {
        out->index = (sac_index_info){.dim = sac_store_params(c->store)->dim,
                                      .metric = sac_store_params(c->store)->metric,
                                      .spec = "Flat",
                                      .trained = true};
        return;
    }
    sac_index_describe(live->index, &out->index);
    sac_live_release(c, live);
}

size_t sac_collection_recall_curve(const sac_collection *c, sac_recall_point *points, size_t capacity)
{
    struct sac_live *live = sac_live_hold(c);
    size_t n = live != NULL ? sac_index_recall_curve(live->index, points, capacity) : 0;

    if (live != NULL)
        sac_live_release(c, live);
    return n;
}
