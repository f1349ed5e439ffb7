/* collection.h -- one collection: the store, which is the truth, and the index derived from it.
 *
 * What is where, in the collection's folder:
 *   data.mdb, lock.mdb   the store (store.h)
 *   index.sac            a checkpoint of the index without vectors: a cache, derived again where it is
 * missing, damaged or of another version
 *
 * A label of the index is a row of the store. Order of a write, all under write_lock:
 *   1 the transaction is filled   2 new rows enter the index   3 commit, synced   4 old rows leave the index
 * A search looks into the index first and then, in a view opened after that, for the ids of the rows it
 * found; rows that the view does not know (not committed yet, or gone) are left out, and the search is done
 * again, a little wider; a search that keeps meeting them takes write_lock for its last attempt. So an item
 * that is being replaced is always found, in its old or its new form, a write that fails was never seen, and
 * all but the unluckiest searches wait for no commit.
 *
 * Until it is built, a collection's index is Flat: exact, and in need of no training. A build fills a new
 * index beside the live one; searches hold the one they began with, and the last to leave closes it. Opened
 * to be filled (SAC_OPEN_FILL), a collection that was never built has no live index before it is searched:
 * what it would hold is in the store.
 *
 * Locks, in the order in which they are taken: build_lock, write_lock, the database's lock, live_lock.
 */
#ifndef SACCADE_COLLECTION_H
#define SACCADE_COLLECTION_H

#include "engine/progress.h"
#include "engine/store.h"

#include <pthread.h>
#include <stdatomic.h>

/* An index and those who use it. */
struct sac_live {
    sac_index *index;
    size_t holders; /* the collection itself is one while the index is the live one */
};

struct sac_collection {
    sac_database *database;
    struct sac_database_entry *entry;
    sac_device *device;
    char *path;
    sac_store *store;
    bool writable;
    bool checkpoint_refused;
    atomic_bool dropped; /* set under write_lock */

    pthread_mutex_t build_lock; /* one build at a time */
    pthread_mutex_t write_lock; /* writers, checkpoints, the last steps of a build */
    size_t unsaved;             /* changes of the index since its checkpoint; under write_lock */
    pthread_mutex_t live_lock;
    struct sac_live *live; /* NULL: none yet; never again once there was one */
};

/* Opens the collection in a folder; the caller fills in `database`. */
sac_status sac_collection_open(sac_device *device, const char *path, sac_open_mode mode, sac_collection **out,
                               sac_error *err);
/* Saves the checkpoint first where the next opening would have much to catch up with. */
void sac_collection_close(sac_collection *collection);

/* SAC_NOT_FOUND once it is dropped. */
sac_status sac_collection_usable(const sac_collection *collection, sac_error *err);

/* SAC_VERSION_MISMATCH where vectors of this encoder do not belong into it. */
sac_status sac_collection_check_encoder(const sac_collection *collection, const sac_encoder *encoder,
                                        sac_error *err);

/* The index of now, to be let go of; NULL: none yet. */
struct sac_live *sac_live_hold(const sac_collection *collection);
/* The same, derived where there is none yet; not for a thread that is the first to look and holds write_lock.
 */
sac_status sac_live_need(const sac_collection *collection, struct sac_live **out, sac_error *err);
void sac_live_release(const sac_collection *collection, struct sac_live *live);
/* Puts another index in the place of the live one, which its last user closes. */
sac_status sac_live_swap(sac_collection *collection, sac_index *index, sac_error *err);

/* Brings an index to the rows of the store: those that are gone leave it, missing ones enter it (reported as
 * stage "add"). *changed (NULL allowed) tells how many. Writers may go on meanwhile, unless the caller holds
 * write_lock: then the two are equal afterwards. */
sac_status sac_collection_catch_up(const sac_collection *collection, sac_index *index,
                                   sac_progress_fn progress, void *context, size_t *changed, sac_error *err);
/* All rows of the store, ascending; freed with sac_collection_rows_free(). */
sac_status sac_collection_rows(const sac_collection *collection, uint64_t **rows, size_t *count,
                               sac_error *err);
void sac_collection_rows_free(const sac_collection *collection, uint64_t *rows);
/* Reads the vectors of up to n rows; those that are gone are skipped. Writes the ones read to `kept` (which
 * may be `rows`) and their number to *count. */
sac_status sac_collection_vectors(const sac_collection *collection, const uint64_t *rows, size_t n,
                                  uint64_t *kept, float *vectors, size_t *count, sac_error *err);
/* Rows that are read and added at a time: a few megabytes of vectors. */
size_t sac_collection_chunk(const sac_collection *collection);

/* The index as it was saved last, which may be behind the store. SAC_NOT_FOUND where none was saved,
 * SAC_CORRUPT and SAC_VERSION_MISMATCH where it is of no use. */
sac_status sac_collection_load(const sac_collection *collection, sac_index **out, sac_error *err);
/* Saves the checkpoint; the caller holds write_lock. Without a live index there is nothing to save: what has
 * none is derived as Flat, from the store. */
sac_status sac_collection_save(sac_collection *collection, sac_error *err);

#endif
