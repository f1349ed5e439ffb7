/* local.h -- what a command that works on this machine opens: device, database, collection, encoder. */
#ifndef SACCADE_SERVER_LOCAL_H
#define SACCADE_SERVER_LOCAL_H

#include "engine/saccade.h"
#include "server/options.h"

#define SAC_DEFAULT_DATA "photos.sac"
#define SAC_DEFAULT_COLLECTION "photos"

struct sac_local {
    /* Settings: filled by the options below. */
    const char *data, *name; /* of the database and the collection */
    const char *model;       /* NULL: the collection's own */
    const char *precision;
    sac_device_options device_options;
    /* Opened, in this order; NULL until then. */
    sac_device *device;
    sac_database *database;
    sac_collection *collection;
    sac_encoder *encoder;
};

void sac_local_init(struct sac_local *local);
void sac_local_close(struct sac_local *local);

/* The options that several commands share, each with its help, range and environment variable. */
struct sac_option sac_option_data(struct sac_local *local);
struct sac_option sac_option_collection(struct sac_local *local);
struct sac_option sac_option_model(struct sac_local *local, const char *fallback);
struct sac_option sac_option_precision(struct sac_local *local);
struct sac_option sac_option_device(struct sac_local *local);
struct sac_option sac_option_require_gpu(struct sac_local *local);
struct sac_option sac_option_device_memory(struct sac_local *local);
struct sac_option sac_option_memory(struct sac_local *local);
struct sac_option sac_option_threads(struct sac_local *local);

sac_status sac_local_open_device(struct sac_local *local, sac_error *err);
/* Opens the device where it is not yet, and the database. */
sac_status sac_local_open_database(struct sac_local *local, sac_open_mode mode, sac_error *err);
/* Opens database and collection. SAC_NOT_FOUND lists the collections that are there. */
sac_status sac_local_open_collection(struct sac_local *local, sac_error *err);
/* Opens the encoder that settings or collection name ("builtin" where neither does). Where a collection is
 * open the two must belong together: SAC_VERSION_MISMATCH names both fingerprints. */
sac_status sac_local_open_encoder(struct sac_local *local, sac_error *err);

#endif
