#include "engine/store_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

sac_status sac_store_read_fail(int rc, const char *what, sac_error *err)
{
    switch (rc) {
    case ENOMEM:
        return sac_fail(err, SAC_NO_MEMORY, "%s: %s", what, mdb_strerror(rc));
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_BAD_VALSIZE:
    case MDB_INCOMPATIBLE:
    case MDB_NOTFOUND: /* of a named table; lookups handle their own */
        return sac_fail(err, SAC_CORRUPT, "%s: the store's file is damaged (%s)", what, mdb_strerror(rc));
    case MDB_VERSION_MISMATCH:
        return sac_fail(err, SAC_VERSION_MISMATCH, "%s: the store was made by another version of LMDB", what);
    case MDB_READERS_FULL:
        return sac_fail(err, SAC_OVERLOADED, "%s: %d reads are open already", what, SAC_STORE_READERS_MAX);
    default:
        return sac_fail(err, SAC_IO, "%s: %s", what, mdb_strerror(rc));
    }
}

/* A read transaction, from the idle ones where there is one. */
static int txn_take(sac_store *store, MDB_txn **out)
{
    MDB_txn *txn = NULL;
    int rc;

    pthread_mutex_lock(&store->idle_lock);
    if (store->idle_count > 0)
        txn = store->idle[--store->idle_count];
    pthread_mutex_unlock(&store->idle_lock);
    if (txn == NULL)
        return mdb_txn_begin(store->env, NULL, MDB_RDONLY, out);
    rc = mdb_txn_renew(txn);
    if (rc != 0)
        mdb_txn_abort(txn);
    *out = txn;
    return rc;
}

static void txn_give_back(sac_store *store, MDB_txn *txn)
{
    mdb_txn_reset(txn);
    pthread_mutex_lock(&store->idle_lock);
    if (store->idle_count < SAC_STORE_IDLE_MAX) {
        store->idle[store->idle_count++] = txn;
        txn = NULL;
    }
    pthread_mutex_unlock(&store->idle_lock);
    if (txn != NULL)
        mdb_txn_abort(txn);
}

sac_status sac_store_view_open(sac_store *store, sac_store_view *out, sac_error *err)
{
    MDB_txn *txn;
    int rc;

    *out = (sac_store_view){.store = store};
    pthread_rwlock_rdlock(&store->map_lock);
    rc = txn_take(store, &txn);
    while (rc == MDB_MAP_RESIZED) { /* the writer is another process, and its file outgrew our map */
        pthread_rwlock_unlock(&store->map_lock);
        pthread_rwlock_wrlock(&store->map_lock);
        rc = mdb_env_set_mapsize(store->env, 0);
        pthread_rwlock_unlock(&store->map_lock);
        pthread_rwlock_rdlock(&store->map_lock);
        if (rc == 0)
            rc = txn_take(store, &txn);
    }
    if (rc != 0) {
        pthread_rwlock_unlock(&store->map_lock);
        return sac_store_read_fail(rc, "reading the store", err);
    }
    out->txn = txn;
    return SAC_OK;
}

void sac_store_view_close(sac_store_view *view)
{
    if (view->txn == NULL)
        return;
    if (view->items != NULL)
        mdb_cursor_close(view->items);
    txn_give_back(view->store, view->txn);
    pthread_rwlock_unlock(&view->store->map_lock);
    *view = (sac_store_view){0};
}

uint64_t sac_store_count(const sac_store_view *view)
{
    MDB_stat stat;

    return mdb_stat(view->txn, view->store->items, &stat) == 0 ? stat.ms_entries : 0;
}

sac_status sac_store_find(const sac_store_view *view, sac_id id, struct sac_stored *out, sac_error *err)
{
    uint8_t bytes[SAC_ID_KEY_MAX];
    char text[80];
    MDB_val key, value;
    sac_status st = sac_id_check(id, err);
    int rc;

    if (st != SAC_OK)
        return st;
    key = sac_store_val(bytes, sac_id_key(id, bytes));
    rc = mdb_get(view->txn, view->store->items, &key, &value);
    if (rc == MDB_NOTFOUND)
        return sac_fail(err, SAC_NOT_FOUND, "no item %s", sac_id_print(id, text, sizeof text));
    if (rc != 0)
        return sac_store_read_fail(rc, "reading an item", err);
    st = sac_stored_parse(key.mv_data, key.mv_size, value.mv_data, value.mv_size, out, err);
    out->id = id; /* the key parsed above is on this stack frame; the caller's id is the same */
    return st;
}

sac_status sac_store_next(sac_store_view *view, const sac_id *after, struct sac_stored *out, sac_error *err)
{
    uint8_t bytes[SAC_ID_KEY_MAX];
    MDB_val key = {0}, value;
    size_t size = 0;
    int rc = 0;

    if (view->items == NULL)
        rc = mdb_cursor_open(view->txn, view->store->items, &view->items);
    if (rc == 0 && after != NULL) {
        size = sac_id_key(*after, bytes);
        key = sac_store_val(bytes, size);
        rc = mdb_cursor_get(view->items, &key, &value, MDB_SET_RANGE);
        if (rc == 0 && key.mv_size == size && memcmp(key.mv_data, bytes, size) == 0)
            rc = mdb_cursor_get(view->items, &key, &value, MDB_NEXT);
    } else if (rc == 0) {
        rc = mdb_cursor_get(view->items, &key, &value, MDB_FIRST);
    }
    if (rc == MDB_NOTFOUND)
        return SAC_NOT_FOUND;
    if (rc != 0)
        return sac_store_read_fail(rc, "listing items", err);
    return sac_stored_parse(key.mv_data, key.mv_size, value.mv_data, value.mv_size, out, err);
}

sac_status sac_store_id(const sac_store_view *view, uint64_t row, sac_id *out, sac_error *err)
{
    MDB_val key = sac_store_val(&row, sizeof row), value;
    int rc = mdb_get(view->txn, view->store->ids, &key, &value);

    if (rc == MDB_NOTFOUND)
        return SAC_NOT_FOUND;
    if (rc != 0)
        return sac_store_read_fail(rc, "reading an id", err);
    if (!sac_id_from_key(value.mv_data, value.mv_size, out))
        return sac_fail(err, SAC_CORRUPT, "the id of row %" PRIu64 " is damaged", row);
    return SAC_OK;
}

uint32_t sac_store_vector_checksum(const void *vector, size_t size, uint64_t row)
{
    return (uint32_t)XXH3_64bits_withSeed(vector, size, row);
}

sac_status sac_store_vector(const sac_store_view *view, uint64_t row, float *out, sac_error *err)
{
    size_t size = view->store->params.dim * sizeof *out;
    MDB_val key = sac_store_val(&row, sizeof row), value;
    uint32_t checksum;
    int rc = mdb_get(view->txn, view->store->vectors, &key, &value);

    if (rc == MDB_NOTFOUND)
        return SAC_NOT_FOUND;
    if (rc != 0)
        return sac_store_read_fail(rc, "reading a vector", err);
    if (value.mv_size != size + sizeof checksum)
        return sac_fail(err, SAC_CORRUPT, "the vector of row %" PRIu64 " has %zu bytes, not %zu", row,
                        value.mv_size, size + sizeof checksum);
    memcpy(out, value.mv_data, size);
    memcpy(&checksum, (const char *)value.mv_data + size, sizeof checksum);
    if (checksum != sac_store_vector_checksum(out, size, row))
        return sac_fail(err, SAC_CORRUPT, "the vector of row %" PRIu64 " fails its checksum", row);
    return SAC_OK;
}

sac_status sac_store_rows(const sac_store_view *view, uint64_t after, size_t capacity, uint64_t *rows,
                          size_t *count, sac_error *err)
{
    uint64_t first = after + 1;
    MDB_val key = sac_store_val(&first, sizeof first), value;
    MDB_cursor *cursor;
    size_t n = 0;
    int rc = mdb_cursor_open(view->txn, view->store->ids, &cursor);

    *count = 0;
    if (rc != 0)
        return sac_store_read_fail(rc, "listing rows", err);
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && n < capacity && key.mv_size == sizeof *rows) {
        memcpy(&rows[n++], key.mv_data, sizeof *rows);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return sac_store_read_fail(rc, "listing rows", err);
    *count = n;
    return SAC_OK;
}
