#include "engine/store_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* A put rewrites up to four leaf pages, and splits some: what one costs beside its own bytes, at most. */
#define ITEM_OVERHEAD_BYTES ((size_t)16 << 10)
#define TRANSACTION_OVERHEAD_BYTES ((size_t)4 << 20)

/* LMDB reports a write that the disk took only in part as EIO, so the disk itself is asked whether it had
 * room for what was to be written. */
bool sac_store_disk_full(const sac_store *store, int rc)
{
    struct statvfs fs;
    struct rlimit limit;
    struct stat file;
    mdb_filehandle_t fd;

    if (rc == ENOSPC || rc == EDQUOT || rc == EFBIG)
        return true;
    if (rc != EIO || mdb_env_get_fd(store->env, &fd) != 0)
        return false;
    if (fstatvfs(fd, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_bsize < store->expected_bytes)
        return true;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && fstat(fd, &file) == 0 &&
           (uint64_t)file.st_size + store->expected_bytes > limit.rlim_cur;
}

static sac_status write_fail(sac_store *store, int rc, const char *what, sac_error *err)
{
    if (rc == MDB_MAP_FULL) {
        store->map_full = true;
        return sac_fail(err, SAC_READ_ONLY, "%s: the store's map is full", what);
    }
    if (rc == ENOMEM)
        return sac_fail(err, SAC_NO_MEMORY, "%s: %s", what, mdb_strerror(rc));
    if (rc == MDB_TXN_FULL)
        return sac_fail(err, SAC_TOO_LARGE, "%s: too many items for one transaction: send fewer", what);
    if (sac_store_disk_full(store, rc))
        return sac_fail(err, SAC_READ_ONLY, "%s: the disk is full: nothing was stored; make room", what);
    atomic_store(&store->failed, true);
    return sac_fail(err, SAC_READ_ONLY,
                    "%s: %s: nothing was stored, and nothing will be until it is reopened", what,
                    mdb_strerror(rc));
}

/* Makes the map large enough for a transaction of so many bytes. Free pages inside the file are not counted
 * on, so the map may grow early: it costs addresses only. */
static sac_status make_room(sac_store *store, size_t bytes, sac_error *err)
{
    MDB_envinfo info;
    uint64_t used = sac_store_bytes(store), wanted;
    int rc = mdb_env_info(store->env, &info);

    if (rc != 0)
        return sac_store_read_fail(rc, "growing the store", err);
    if (!store->map_full && info.me_mapsize - used >= bytes)
        return SAC_OK;
    wanted = used + bytes > 2 * (uint64_t)info.me_mapsize ? used + bytes : 2 * (uint64_t)info.me_mapsize;
    wanted = (wanted + 0xffff) & ~(uint64_t)0xffff;
    pthread_rwlock_wrlock(&store->map_lock);
    rc = mdb_env_set_mapsize(store->env, wanted);
    pthread_rwlock_unlock(&store->map_lock);
    if (rc != 0)
        return sac_fail(err, SAC_NO_MEMORY, "cannot map %" PRIu64 " bytes for the store: %s", wanted,
                        mdb_strerror(rc));
    store->map_full = false;
    return SAC_OK;
}

sac_status sac_store_begin(sac_store *store, size_t items, size_t bytes, sac_error *err)
{
    sac_status st;
    int rc;

    if (!store->writable)
        return sac_fail(err, SAC_READ_ONLY, "the database was opened for reading");
    if (sac_store_failed(store))
        return sac_fail(err, SAC_READ_ONLY, "an earlier write failed for good: check the disk and reopen");
    store->expected_bytes = 2 * bytes + items * ITEM_OVERHEAD_BYTES + TRANSACTION_OVERHEAD_BYTES;
    st = make_room(store, store->expected_bytes, err);
    if (st != SAC_OK)
        return st;
    rc = mdb_txn_begin(store->env, NULL, 0, &store->txn);
    if (rc != 0) {
        store->txn = NULL;
        return write_fail(store, rc, "beginning to write", err);
    }
    return SAC_OK;
}

static int remove_row(sac_store *store, uint64_t row)
{
    MDB_val key = sac_store_val(&row, sizeof row);
    int rc = mdb_del(store->txn, store->ids, &key, NULL);

    return rc == 0 ? mdb_del(store->txn, store->vectors, &key, NULL) : rc;
}

/* The row under which the writer's transaction holds an item; 0: none. */
static sac_status current_row(sac_store *store, const MDB_val *id_key, uint64_t *row, sac_error *err)
{
    MDB_val key = *id_key, value;
    struct sac_stored stored;
    int rc = mdb_get(store->txn, store->items, &key, &value);
    sac_status st;

    *row = 0;
    if (rc == MDB_NOTFOUND)
        return SAC_OK;
    if (rc != 0)
        return write_fail(store, rc, "reading an item", err);
    st = sac_stored_parse(id_key->mv_data, id_key->mv_size, value.mv_data, value.mv_size, &stored, err);
    *row = stored.row;
    return st;
}

static int put_vector(sac_store *store, const float *vector, uint64_t row)
{
    size_t size = store->params.dim * sizeof *vector;
    MDB_val key = sac_store_val(&row, sizeof row), value = {size + sizeof(uint32_t), NULL};
    uint32_t checksum = sac_store_vector_checksum(vector, size, row);
    int rc = mdb_put(store->txn, store->vectors, &key, &value, MDB_APPEND | MDB_RESERVE);

    if (rc == 0) {
        memcpy(value.mv_data, vector, size);
        memcpy((char *)value.mv_data + size, &checksum, sizeof checksum);
    }
    return rc;
}

sac_status sac_store_put(sac_store *store, const sac_item *item, uint64_t *row, uint64_t *replaced,
                         sac_error *err)
{
    uint8_t bytes[SAC_ID_KEY_MAX];
    MDB_val id_key = sac_store_val(bytes, sac_id_key(item->id, bytes)), row_key;
    MDB_val value = {sac_item_size(item), NULL};
    sac_status st = current_row(store, &id_key, replaced, err);
    int rc = 0;

    if (st != SAC_OK)
        return st;
    *row = store->next_row++;
    row_key = sac_store_val(row, sizeof *row);
    if (*replaced != 0)
        rc = remove_row(store, *replaced);
    if (rc == 0)
        rc = mdb_put(store->txn, store->items, &id_key, &value, MDB_RESERVE);
    if (rc == 0) {
        sac_item_encode(item, *row, value.mv_data);
        rc = mdb_put(store->txn, store->ids, &row_key, &id_key, MDB_APPEND);
    }
    if (rc == 0)
        rc = put_vector(store, item->vector, *row);
    return rc == 0 ? SAC_OK : write_fail(store, rc, "storing an item", err);
}

sac_status sac_store_delete(sac_store *store, sac_id id, uint64_t *removed, sac_error *err)
{
    uint8_t bytes[SAC_ID_KEY_MAX];
    MDB_val key = sac_store_val(bytes, sac_id_key(id, bytes));
    sac_status st = current_row(store, &key, removed, err);
    int rc;

    if (st != SAC_OK || *removed == 0)
        return st;
    rc = mdb_del(store->txn, store->items, &key, NULL);
    if (rc == 0)
        rc = remove_row(store, *removed);
    return rc == 0 ? SAC_OK : write_fail(store, rc, "deleting an item", err);
}

static int put_next_row(sac_store *store)
{
    MDB_val key = sac_store_val("next_row", strlen("next_row"));
    MDB_val value = sac_store_val(&store->next_row, sizeof store->next_row);

    return mdb_put(store->txn, store->meta, &key, &value, 0);
}

sac_status sac_store_commit(sac_store *store, sac_error *err)
{
    MDB_txn *txn = store->txn;
    int rc = put_next_row(store);

    if (rc != 0)
        return write_fail(store, rc, "storing", err);
    store->txn = NULL; /* ended by the commit, whatever comes of it */
    rc = mdb_txn_commit(txn);
    return rc == 0 ? SAC_OK : write_fail(store, rc, "committing", err);
}

void sac_store_abort(sac_store *store)
{
    if (store->txn != NULL)
        mdb_txn_abort(store->txn);
    store->txn = NULL;
}

bool sac_store_retry(const sac_store *store)
{
    return store->map_full;
}
