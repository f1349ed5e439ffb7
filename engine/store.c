#include "engine/store_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && sizeof(size_t) == 8,
               "the store's integer keys are those of a little-endian 64-bit machine");

/* The map only takes addresses. It grows by doubling, while no view is open. */
#define MAP_BYTES_FIRST ((size_t)256 << 20)
/* ---- meta ---- */

static MDB_val text_val(const char *text)
{
    return (MDB_val){strlen(text), (void *)(uintptr_t)text};
}

static int meta_put(sac_store *store, MDB_txn *txn, const char *name, const void *value, size_t size)
{
    MDB_val key = text_val(name);
    MDB_val data = sac_store_val(value, size);

    return mdb_put(txn, store->meta, &key, &data, 0);
}

static int meta_put_u32(sac_store *store, MDB_txn *txn, const char *name, uint32_t value)
{
    return meta_put(store, txn, name, &value, sizeof value);
}

static int meta_put_text(sac_store *store, MDB_txn *txn, const char *name, const char *value)
{
    return meta_put(store, txn, name, value, strlen(value));
}

/* Reads a value of exactly `size` bytes. */
static bool meta_get(const sac_store *store, MDB_txn *txn, const char *name, void *value, size_t size)
{
    MDB_val key = text_val(name), data;

    if (mdb_get(txn, store->meta, &key, &data) != 0 || data.mv_size != size)
        return false;
    memcpy(value, data.mv_data, size);
    return true;
}

static bool meta_get_text(const sac_store *store, MDB_txn *txn, const char *name, char *value, size_t max)
{
    MDB_val key = text_val(name), data;

    if (mdb_get(txn, store->meta, &key, &data) != 0 || data.mv_size > max)
        return false;
    memcpy(value, data.mv_data, data.mv_size);
    value[data.mv_size] = '\0';
    return true;
}

/* ---- create ---- */

static int open_tables(sac_store *store, MDB_txn *txn, unsigned flags)
{
    int rc = mdb_dbi_open(txn, "meta", flags, &store->meta);

    if (rc == 0)
        rc = mdb_dbi_open(txn, "items", flags, &store->items);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "ids", flags | MDB_INTEGERKEY, &store->ids);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "vectors", flags | MDB_INTEGERKEY, &store->vectors);
    return rc;
}

static int write_meta(sac_store *store, MDB_txn *txn, const sac_collection_params *params)
{
    uint64_t next_row = 1;
    int rc = meta_put_u32(store, txn, "format", SAC_STORE_FORMAT);

    if (rc == 0)
        rc = meta_put_u32(store, txn, "dim", params->dim);
    if (rc == 0)
        rc = meta_put_u32(store, txn, "metric", (uint32_t)params->metric);
    if (rc == 0)
        rc = meta_put_text(store, txn, "spec", params->spec);
    if (rc == 0)
        rc = meta_put_text(store, txn, "model", params->model);
    if (rc == 0)
        rc = meta_put_text(store, txn, "fingerprint", params->fingerprint);
    if (rc == 0)
        rc = meta_put(store, txn, "next_row", &next_row, sizeof next_row);
    return rc;
}

static int env_open(MDB_env **env, const char *path, unsigned flags, size_t map_bytes)
{
    int rc = mdb_env_create(env);

    if (rc != 0) {
        *env = NULL;
        return rc;
    }
    rc = mdb_env_set_maxdbs(*env, 4);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(*env, SAC_STORE_READERS_MAX);
    if (rc == 0 && map_bytes > 0)
        rc = mdb_env_set_mapsize(*env, map_bytes);
    if (rc == 0)
        rc = mdb_env_open(*env, path, flags | MDB_NOTLS, 0666);
    return rc;
}

static sac_status check_params(const sac_collection_params *params, sac_error *err)
{
    if (params->dim == 0 || params->dim > SAC_DIM_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "dim %u: a collection has 1 to %u components", params->dim,
                        SAC_DIM_MAX);
    if (params->metric != SAC_METRIC_L2 && params->metric != SAC_METRIC_IP &&
        params->metric != SAC_METRIC_COSINE)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "metric %d is unknown", (int)params->metric);
    if (params->spec == NULL || params->spec[0] == '\0' || strlen(params->spec) > SAC_STORE_SPEC_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "an index spec has 1 to %d bytes", SAC_STORE_SPEC_MAX);
    if (params->model == NULL || strlen(params->model) > SAC_STORE_MODEL_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "the model's path has at most %d bytes",
                        SAC_STORE_MODEL_MAX);
    if (params->fingerprint == NULL || strlen(params->fingerprint) > SAC_STORE_FINGERPRINT_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "a fingerprint has at most %d bytes",
                        SAC_STORE_FINGERPRINT_MAX);
    return SAC_OK;
}

sac_status sac_store_create(const char *path, const sac_collection_params *params, sac_error *err)
{
    sac_store store = {0};
    MDB_txn *txn = NULL;
    sac_status st = check_params(params, err);
    int rc;

    if (st != SAC_OK)
        return st;
    rc = env_open(&store.env, path, 0, MAP_BYTES_FIRST);
    if (rc == 0)
        rc = mdb_txn_begin(store.env, NULL, 0, &txn);
    if (rc == 0)
        rc = open_tables(&store, txn, MDB_CREATE);
    if (rc == 0)
        rc = write_meta(&store, txn, params);
    if (rc == 0)
        rc = mdb_txn_commit(txn);
    else if (txn != NULL)
        mdb_txn_abort(txn);
    if (rc != 0) {
        st = sac_store_disk_full(&store, rc)
                 ? sac_fail(err, SAC_READ_ONLY, "cannot make a store in %s: the disk is full", path)
                 : sac_store_read_fail(rc, path, err);
    }
    if (store.env != NULL)
        mdb_env_close(store.env);
    return st;
}

/* ---- open ---- */

static sac_status read_meta(sac_store *store, MDB_txn *txn, const char *path, sac_error *err)
{
    uint32_t format, metric;

    if (!meta_get(store, txn, "format", &format, sizeof format))
        return sac_fail(err, SAC_CORRUPT, "%s: the store has no format number", path);
    if (format != SAC_STORE_FORMAT)
        return sac_fail(err, SAC_VERSION_MISMATCH, "%s: store format %u, this version reads format %u", path,
                        format, SAC_STORE_FORMAT);
    if (!meta_get(store, txn, "dim", &store->params.dim, sizeof store->params.dim) ||
        !meta_get(store, txn, "metric", &metric, sizeof metric) ||
        !meta_get_text(store, txn, "spec", store->spec, SAC_STORE_SPEC_MAX) ||
        !meta_get_text(store, txn, "model", store->model, SAC_STORE_MODEL_MAX) ||
        !meta_get_text(store, txn, "fingerprint", store->fingerprint, SAC_STORE_FINGERPRINT_MAX) ||
        !meta_get(store, txn, "next_row", &store->next_row, sizeof store->next_row))
        return sac_fail(err, SAC_CORRUPT, "%s: the store's description is incomplete", path);
    store->params.metric = (sac_metric)metric;
    store->params.spec = store->spec;
    store->params.model = store->model;
    store->params.fingerprint = store->fingerprint;
    if (check_params(&store->params, NULL) != SAC_OK)
        return sac_fail(err, SAC_CORRUPT, "%s: the store's description is out of range", path);
    return SAC_OK;
}

/* The tables must agree in size, and no row may be at or above the next one. */
static sac_status check_tables(sac_store *store, MDB_txn *txn, const char *path, sac_error *err)
{
    MDB_stat items, ids, vectors;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    uint64_t last = 0;
    int rc = mdb_stat(txn, store->items, &items);

    if (rc == 0)
        rc = mdb_stat(txn, store->ids, &ids);
    if (rc == 0)
        rc = mdb_stat(txn, store->vectors, &vectors);
    if (rc == 0)
        rc = mdb_cursor_open(txn, store->ids, &cursor);
    if (rc == 0) {
        rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
        if (rc == 0 && key.mv_size == sizeof last)
            memcpy(&last, key.mv_data, sizeof last);
        if (rc == MDB_NOTFOUND)
            rc = 0;
        mdb_cursor_close(cursor);
    }
    if (rc != 0)
        return sac_store_read_fail(rc, path, err);
    if (items.ms_entries != ids.ms_entries || items.ms_entries != vectors.ms_entries ||
        last >= store->next_row)
        return sac_fail(err, SAC_CORRUPT,
                        "%s: the store's tables disagree: %zu items, %zu ids, %zu vectors, last row %" PRIu64
                        " of %" PRIu64,
                        path, items.ms_entries, ids.ms_entries, vectors.ms_entries, last, store->next_row);
    return SAC_OK;
}

static sac_status load(sac_store *store, const char *path, sac_error *err)
{
    MDB_txn *txn;
    sac_status st;
    int rc = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn);

    if (rc != 0)
        return sac_store_read_fail(rc, path, err);
    rc = open_tables(store, txn, 0);
    st = rc == 0 ? read_meta(store, txn, path, err) : sac_store_read_fail(rc, path, err);
    if (st == SAC_OK)
        st = check_tables(store, txn, path, err);
    if (st != SAC_OK) {
        mdb_txn_abort(txn);
        return st;
    }
    rc = mdb_txn_commit(txn); /* keeps the tables open */
    return rc == 0 ? SAC_OK : sac_store_read_fail(rc, path, err);
}

/* A file cut short would answer a look at its missing pages with SIGBUS. Made long again with zeros, which
 * are no page of LMDB's, they are reported as damage. Free pages at the end may honestly be missing. */
static int mend_length(sac_store *store)
{
    MDB_envinfo info;
    MDB_stat stat;
    struct stat file;
    mdb_filehandle_t fd;
    int rc = mdb_env_info(store->env, &info);

    if (rc == 0)
        rc = mdb_env_stat(store->env, &stat);
    if (rc == 0)
        rc = mdb_env_get_fd(store->env, &fd);
    if (rc != 0)
        return rc;
    if (fstat(fd, &file) != 0)
        return errno;
    if ((uint64_t)file.st_size < (info.me_last_pgno + 1) * (uint64_t)stat.ms_psize &&
        ftruncate(fd, (off_t)((info.me_last_pgno + 1) * stat.ms_psize)) != 0)
        return errno;
    return 0;
}

sac_status sac_store_open(const char *path, bool writable, sac_store **out, sac_error *err)
{
    pthread_rwlockattr_t attr;
    sac_store *store;
    sac_status st;
    char data[4096];
    int rc, dead;

    *out = NULL;
    if ((size_t)snprintf(data, sizeof data, "%s/data.mdb", path) >= sizeof data)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "the path of the store is too long");
    if (access(data, F_OK) != 0)
        return sac_fail(err, errno == ENOENT ? SAC_NOT_FOUND : SAC_IO, "%s: %s", data, strerror(errno));
    store = calloc(1, sizeof *store);
    if (store == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to open %s", path);
    store->writable = writable;
    pthread_mutex_init(&store->idle_lock, NULL);
    /* Else a stream of views that overlap would keep the map from ever growing. */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&store->map_lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    rc = env_open(&store->env, path, writable ? 0 : MDB_RDONLY, 0);
    if (rc == 0 && writable)
        rc = mend_length(store);
    if (rc == 0 && writable)
        rc = mdb_reader_check(store->env, &dead); /* frees the places of readers that were killed */
    st = rc == 0 ? load(store, path, err) : sac_store_read_fail(rc, path, err);
    if (st != SAC_OK) {
        sac_store_close(store);
        return st;
    }
    *out = store;
    return SAC_OK;
}

void sac_store_close(sac_store *store)
{
    if (store == NULL)
        return;
    sac_store_abort(store);
    for (size_t i = 0; i < store->idle_count; i++)
        mdb_txn_abort(store->idle[i]);
    if (store->env != NULL)
        mdb_env_close(store->env);
    pthread_rwlock_destroy(&store->map_lock);
    pthread_mutex_destroy(&store->idle_lock);
    free(store);
}

const sac_collection_params *sac_store_params(const sac_store *store)
{
    return &store->params;
}

bool sac_store_failed(const sac_store *store)
{
    return atomic_load(&store->failed);
}

uint64_t sac_store_bytes(const sac_store *store)
{
    MDB_envinfo info;
    MDB_stat stat;

    if (mdb_env_info(store->env, &info) != 0 || mdb_env_stat(store->env, &stat) != 0)
        return 0;
    return (info.me_last_pgno + 1) * (uint64_t)stat.ms_psize;
}
