/* store.h -- the truth of one collection: items and vectors in an LMDB environment.
 *
 * A folder holds LMDB's data.mdb and lock.mdb. LMDB writes every transaction to free pages and then one of
 * two root pages, so that a kill or a power cut at any moment leaves the last committed state: there is no
 * recovery step. Commits are synchronous. The file belongs to little-endian 64-bit machines, as LMDB's
 * own layout does. Four named tables:
 *
 *   meta     key text          value
 *            "format"          u32: 1
 *            "dim"             u32
 *            "metric"          u32: 0 l2, 1 ip, 2 cosine
 *            "spec", "model", "fingerprint"   texts, as in sac_collection_params
 *            "next_row"        u64: above every row ever used
 *   items    key of an id      item, both as in item.h
 *   ids      row, u64          key of the id that the row belongs to
 *   vectors  row, u64          f32[dim] as the user gave it, then u32: the low half of the XXH3-64 of those
 *                              bytes, seeded with the row
 *
 * items, ids and vectors have the same number of entries. A put always takes a new row, also where it
 * replaces an item, and rows are never used again: a row stands for one value of one item for ever. It is the
 * label under which an index holds the vector, and so what an index lacks, and what it holds too much, is a
 * difference of two sets of rows.
 *
 * Threads: one writer at a time (the caller's duty), any number of views. Errors of the disk while writing
 * are SAC_READ_ONLY and nothing was applied: a full disk heals by itself, any other failure stays
 * (sac_store_failed) since nobody knows what the kernel still holds.
 */
#ifndef SACCADE_STORE_H
#define SACCADE_STORE_H

#include "engine/item.h"

typedef struct sac_store sac_store;
struct MDB_txn;
struct MDB_cursor;

#define SAC_STORE_FORMAT 1u

/* Makes an empty store in the existing, empty folder `path`, synced. */
sac_status sac_store_create(const char *path, const sac_collection_params *params, sac_error *err);

/* Opens the store in `path`. The same one may not be open twice in one process (LMDB's rule).
 * Errors: SAC_NOT_FOUND, SAC_VERSION_MISMATCH, SAC_CORRUPT, SAC_IO. */
sac_status sac_store_open(const char *path, bool writable, sac_store **out, sac_error *err);
void sac_store_close(sac_store *store); /* after every view; NULL is allowed */

/* What it was made with; lives as long as the store. */
const sac_collection_params *sac_store_params(const sac_store *store);
/* True once a write failed for good. */
bool sac_store_failed(const sac_store *store);
/* Bytes of the file in use. */
uint64_t sac_store_bytes(const sac_store *store);

/* ---- reading ---- */

/* A consistent look at one committed state, for one thread at a time and for short: the writer cannot reuse
 * pages or grow the map while a view is open. */
typedef struct sac_store_view {
    sac_store *store;
    struct MDB_txn *txn;
    struct MDB_cursor *items; /* opened by the first sac_store_next */
} sac_store_view;

sac_status sac_store_view_open(sac_store *store, sac_store_view *out, sac_error *err);
void sac_store_view_close(sac_store_view *view);

uint64_t sac_store_count(const sac_store_view *view);
/* What these give points into the file and lives as long as the view. */
sac_status sac_store_find(const sac_store_view *view, sac_id id, struct sac_stored *out, sac_error *err);
/* The first item after `after` (NULL: the first of all) in id order; SAC_NOT_FOUND at the end. */
sac_status sac_store_next(sac_store_view *view, const sac_id *after, struct sac_stored *out, sac_error *err);
/* The id of a row: SAC_NOT_FOUND when the row is gone. */
sac_status sac_store_id(const sac_store_view *view, uint64_t row, sac_id *out, sac_error *err);
/* The vector of a row, [dim], checked against its checksum. SAC_NOT_FOUND when the row is gone. */
sac_status sac_store_vector(const sac_store_view *view, uint64_t row, float *out, sac_error *err);
/* Copies up to capacity rows above `after`, ascending; *count is 0 at the end. */
sac_status sac_store_rows(const sac_store_view *view, uint64_t after, size_t capacity, uint64_t *rows,
                          size_t *count, sac_error *err);

/* ---- writing ---- */

/* Begins a transaction that will write about so many bytes in so many items. It ends with commit or abort;
 * after a failure of put, delete or commit the only thing left to do is abort (a no-op after commit). */
sac_status sac_store_begin(sac_store *store, size_t items, size_t bytes, sac_error *err);
/* Stores a checked item under a new row. *replaced is the row it had before, or 0. */
sac_status sac_store_put(sac_store *store, const sac_item *item, uint64_t *row, uint64_t *replaced,
                         sac_error *err);
/* Removes an item: *removed is the row it had, or 0 when there is none. */
sac_status sac_store_delete(sac_store *store, sac_id id, uint64_t *removed, sac_error *err);
sac_status sac_store_commit(sac_store *store, sac_error *err);
void sac_store_abort(sac_store *store);
/* True when the transaction that failed ran out of map: the next begin makes more, so try the same again. */
bool sac_store_retry(const sac_store *store);

#endif
