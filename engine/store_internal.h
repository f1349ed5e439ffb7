/* store_internal.h -- what the three files of the store share: store.c opens, store_read.c reads,
 * store_write.c writes. */
#ifndef SACCADE_STORE_INTERNAL_H
#define SACCADE_STORE_INTERNAL_H

#include "engine/store.h"

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
    SAC_STORE_READERS_MAX = 1024, /* views open at once, over all processes */
    SAC_STORE_IDLE_MAX = 64,      /* finished read transactions kept for the next view */
    SAC_STORE_SPEC_MAX = 63,      /* bytes, as sac_index_info has room for */
    SAC_STORE_FINGERPRINT_MAX = 128,
    SAC_STORE_MODEL_MAX = SAC_ATTRIBUTE_TEXT_MAX,
};

struct sac_store {
    MDB_env *env;
    MDB_dbi meta, items, ids, vectors;
    bool writable;
    sac_collection_params params;
    char spec[SAC_STORE_SPEC_MAX + 1], model[SAC_STORE_MODEL_MAX + 1],
        fingerprint[SAC_STORE_FINGERPRINT_MAX + 1];

    pthread_rwlock_t map_lock; /* shared by views; held alone to grow the map */
    pthread_mutex_t idle_lock;
    MDB_txn *idle[SAC_STORE_IDLE_MAX]; /* reset, to be renewed */
    size_t idle_count;

    /* Of the writer. */
    MDB_txn *txn;
    uint64_t next_row; /* also counts rows of transactions that failed: none is given out twice */
    size_t expected_bytes;
    bool map_full;
    atomic_bool failed;
};

/* LMDB wants pointers that are not const for keys and values that it only reads. */
static inline MDB_val sac_store_val(const void *bytes, size_t size)
{
    return (MDB_val){size, (void *)(uintptr_t)bytes};
}

/* The status and the text of an LMDB or errno code met while reading. */
sac_status sac_store_read_fail(int rc, const char *what, sac_error *err);
/* True where a write failed with rc because the disk, a quota or a limit has no room for
 * store->expected_bytes. */
bool sac_store_disk_full(const sac_store *store, int rc);
/* What follows the vector of a row. */
uint32_t sac_store_vector_checksum(const void *vector, size_t size, uint64_t row);

#endif
