#include "engine/collection.h"

#include "engine/files.h"

#define CHECKPOINT "index.sac"

sac_status sac_collection_load(const sac_collection *c, sac_index **out, sac_error *err)
{
    char path[SAC_PATH_MAX];
    sac_status st = sac_path_join(path, c->path, CHECKPOINT, err);

    *out = NULL;
    return st == SAC_OK ? SAC_NOT_FOUND : st; /* none is written yet: every index is derived from the store */
}

sac_status sac_collection_save(sac_collection *c, sac_error *err)
{
    char path[SAC_PATH_MAX];
    sac_status st = sac_path_join(path, c->path, CHECKPOINT, err);

    if (st == SAC_OK)
        st = sac_collection_usable(c, err);
    return st;
}

sac_status sac_collection_checkpoint(sac_collection *c, sac_error *err)
{
    sac_status st;

    if (!c->writable)
        return sac_fail(err, SAC_READ_ONLY, "the database was opened for reading");
    pthread_mutex_lock(&c->write_lock);
    st = sac_collection_save(c, err);
    pthread_mutex_unlock(&c->write_lock);
    return st;
}
