/* catalog.h -- the collections and encoders that are open.
 *
 * Finding an open collection is quick and done on the loop thread; opening one may read gigabytes and is done
 * on a control thread. A request holds its entry from start to end, so a dropped collection lives until
 * its last request is answered.
 */
#ifndef SACCADE_SERVER_CATALOG_H
#define SACCADE_SERVER_CATALOG_H

#include "server/cost.h"
#include "server/server.h"

#include <stdatomic.h>

struct sac_model { /* lives as long as the catalog */
    struct sac_model *next;
    sac_encoder *encoder;
    struct sac_cost embed; /* of pictures */
    char path[];           /* the folder, or "builtin" */
};

struct sac_entry {
    struct sac_entry *next;
    atomic_uint holders;
    char name[SAC_NAME_MAX + 1];
    sac_collection *collection;
    sac_collection_params params; /* its strings live as long as the collection is held */
    struct sac_model *model;      /* NULL: model_error says why, or the collection is of vectors only */
    sac_error model_error;        /* SAC_UNSUPPORTED for vectors only */
    struct sac_cost search[2];    /* of queries; [1]: exact ones */
    struct sac_cost write;        /* of items */
    _Atomic uint64_t points;      /* items, as of the last write: for /metrics, which must not wait */
};

typedef struct sac_catalog sac_catalog;

/* Opens device, database and the configured models. config is borrowed. */
sac_status sac_catalog_create(const struct sac_server_config *config, sac_catalog **out, sac_error *err);
void sac_catalog_close(sac_catalog *catalog); /* nobody holds an entry; NULL is allowed */
const char *sac_catalog_device(const sac_catalog *catalog);
void sac_catalog_device_memory(const sac_catalog *catalog, sac_device_memory *out);
const char *
sac_catalog_lost(const sac_catalog *catalog); /* why its device is, for good; NULL while it is well */
sac_database *sac_catalog_database(const sac_catalog *catalog);

/* The open collection of that name, held for the caller, or NULL. Never waits for a disk. */
struct sac_entry *sac_catalog_find(sac_catalog *catalog, const char *name, size_t name_size);
/* The same, opening it if need be. SAC_NOT_FOUND and what opening gives. */
sac_status sac_catalog_open(sac_catalog *catalog, const char *name, struct sac_entry **out, sac_error *err);
/* Opens every collection that is there, so that no first search waits for gigabytes. One that cannot be
 * opened is logged; whoever asks for it gets the reason. */
void sac_catalog_open_all(sac_catalog *catalog);
struct sac_entry *sac_entry_hold(struct sac_entry *entry); /* once more, by who holds it already */
void sac_entry_release(struct sac_entry *entry);           /* NULL is allowed */
sac_status sac_catalog_drop(sac_catalog *catalog, const char *name, sac_error *err);

/* The model of that name or folder among those the server was started with, or "builtin". SAC_NOT_FOUND
 * lists what there is. */
sac_status sac_catalog_model(sac_catalog *catalog, const char *text, struct sac_model **out, sac_error *err);
/* Calls fn for every open model or entry; from any thread; fn must not call the catalog. */
void sac_catalog_each_model(sac_catalog *catalog, void (*fn)(void *context, struct sac_model *model),
                            void *context);
void sac_catalog_each_entry(sac_catalog *catalog, void (*fn)(void *context, struct sac_entry *entry),
                            void *context);

#endif
