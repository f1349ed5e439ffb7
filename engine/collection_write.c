#include "engine/collection.h"

#include <stdlib.h>
#include <string.h>

/* One call of put on its way: what goes into the index, and what leaves it after the commit. */
struct put {
    const sac_item *items;
    size_t n, bytes; /* of items and vectors, encoded */
    uint64_t *rows;
    uint64_t *old; /* rows that were replaced */
    size_t old_count;
    float *vectors; /* [n][dim] */
};

static sac_status fill_transaction(sac_collection *c, struct put *put, sac_error *err)
{
    sac_status st = sac_store_begin(c->store, put->n, put->bytes, err);

    put->old_count = 0;
    for (size_t i = 0; i < put->n && st == SAC_OK; i++) {
        uint64_t replaced;
        char id[80];

        st = sac_store_put(c->store, &put->items[i], &put->rows[i], &replaced, err);
        if (st != SAC_OK || replaced == 0)
            continue;
        if (replaced >= put->rows[0]) /* stored by this very call */
            st = sac_fail(err, SAC_INVALID_ARGUMENT, "id %s comes twice in one call",
                          sac_id_print(put->items[i].id, id, sizeof id));
        put->old[put->old_count++] = replaced;
    }
    return st;
}

/* The order is that of collection.h: index, commit, index. */
static sac_status put_once(sac_collection *c, struct put *put, sac_error *err)
{
    sac_index *index = c->live != NULL ? c->live->index : NULL; /* only changes under write_lock */
    sac_status st = fill_transaction(c, put, err);
    bool added = false;

    if (st == SAC_OK && index != NULL) {
        st = sac_index_add(index, put->n, put->vectors, put->rows, NULL, NULL, err);
        added = st == SAC_OK;
    }
    if (st == SAC_OK)
        st = sac_store_commit(c->store, err);
    if (st == SAC_OK) {
        c->unsaved += put->n;
        /* Were this to fail, searches would go on to leave the old rows out. */
        if (index != NULL && put->old_count > 0)
            sac_index_delete(index, put->old_count, put->old, NULL, NULL);
        return SAC_OK;
    }
    sac_store_abort(c->store);
    if (added)
        sac_index_delete(index, put->n, put->rows, NULL, NULL);
    return st;
}

static sac_status put_locked(sac_collection *c, struct put *put, sac_error *err)
{
    sac_status st;

    pthread_mutex_lock(&c->write_lock);
    st = sac_collection_usable(c, err);
    if (st == SAC_OK) {
        st = put_once(c, put, err);
        while (st != SAC_OK && sac_store_retry(c->store))
            st = put_once(c, put, err);
    }
    pthread_mutex_unlock(&c->write_lock);
    return st;
}

static sac_status prepare_put(sac_collection *c, struct put *put, sac_error *err)
{
    size_t dim = sac_store_params(c->store)->dim;
    sac_status st = SAC_OK;

    for (size_t i = 0; i < put->n && st == SAC_OK; i++) {
        st = sac_collection_check(c, &put->items[i], err);
        put->bytes += sac_item_size(&put->items[i]) + dim * sizeof(float);
    }
    if (st != SAC_OK)
        return st;
    put->rows = calloc(put->n, sizeof *put->rows);
    put->old = calloc(put->n, sizeof *put->old);
    put->vectors = calloc(put->n, dim * sizeof *put->vectors);
    if (put->rows == NULL || put->old == NULL || put->vectors == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to put %zu items: send fewer at a time", put->n);
    for (size_t i = 0; i < put->n; i++)
        memcpy(put->vectors + i * dim, put->items[i].vector, dim * sizeof *put->vectors);
    return SAC_OK;
}

sac_status sac_collection_put(sac_collection *c, const sac_item *items, size_t n, sac_error *err)
{
    struct put put = {.items = items, .n = n};
    sac_status st;

    if (n == 0)
        return sac_collection_usable(c, err);
    st = prepare_put(c, &put, err);
    if (st == SAC_OK)
        st = put_locked(c, &put, err);
    free(put.rows);
    free(put.old);
    free(put.vectors);
    return st;
}

static sac_status delete_once(sac_collection *c, const sac_id *ids, size_t n, uint64_t *rows, size_t *count,
                              sac_error *err)
{
    sac_status st = sac_store_begin(c->store, n, 0, err);

    *count = 0;
    for (size_t i = 0; i < n && st == SAC_OK; i++) {
        st = sac_store_delete(c->store, ids[i], &rows[*count], err);
        *count += st == SAC_OK && rows[*count] != 0;
    }
    if (st == SAC_OK && *count > 0)
        st = sac_store_commit(c->store, err);
    sac_store_abort(c->store); /* nothing to do after a commit */
    if (st == SAC_OK && *count > 0 && c->live != NULL)
        sac_index_delete(c->live->index, *count, rows, NULL, NULL);
    if (st == SAC_OK)
        c->unsaved += *count;
    return st;
}

sac_status sac_collection_delete(sac_collection *c, const sac_id *ids, size_t n, size_t *removed,
                                 sac_error *err)
{
    uint64_t *rows = calloc(n + 1, sizeof *rows);
    size_t count = 0;
    sac_status st = SAC_OK;

    if (removed != NULL)
        *removed = 0;
    if (rows == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to delete %zu items: send fewer at a time", n);
    for (size_t i = 0; i < n && st == SAC_OK; i++)
        st = sac_id_check(ids[i], err);
    if (st == SAC_OK) {
        pthread_mutex_lock(&c->write_lock);
        st = sac_collection_usable(c, err);
        if (st == SAC_OK) {
            st = delete_once(c, ids, n, rows, &count, err);
            while (st != SAC_OK && sac_store_retry(c->store))
                st = delete_once(c, ids, n, rows, &count, err);
        }
        pthread_mutex_unlock(&c->write_lock);
    }
    free(rows);
    if (st == SAC_OK && removed != NULL)
        *removed = count;
    return st;
}
