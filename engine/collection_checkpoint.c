#include "engine/collection.h"

#include "engine/files.h"

#define CHECKPOINT "index.sac"

static bool vector_of_label(void *context, uint64_t label, float *vector)
{
    return sac_store_vector(context, label, vector, NULL) == SAC_OK;
}

sac_status sac_collection_load(const sac_collection *c, sac_index **out, sac_error *err)
{
    char path[SAC_PATH_MAX];
    sac_index_info info;
    sac_store_view view;
    sac_status st = sac_path_join(path, c->path, CHECKPOINT, err);

    *out = NULL;
    if (st == SAC_OK)
        st = sac_store_view_open(c->store, &view, err);
    if (st != SAC_OK)
        return st;
    st = sac_index_load(c->device, path, vector_of_label, &view, out, err);
    sac_store_view_close(&view);
    if (st != SAC_OK)
        return st;
    sac_index_describe(*out, &info);
    if (info.dim == sac_store_params(c->store)->dim && info.metric == sac_store_params(c->store)->metric)
        return SAC_OK;
    sac_index_close(*out);
    *out = NULL;
    return sac_fail(err, SAC_CORRUPT, "%s belongs to another collection", path);
}

sac_status sac_collection_save(sac_collection *c, sac_error *err)
{
    char path[SAC_PATH_MAX];
    sac_status st = sac_path_join(path, c->path, CHECKPOINT, err);

    if (st == SAC_OK)
        st = sac_collection_usable(c, err);
    if (st == SAC_OK && c->live != NULL)
        st = sac_index_save(c->live->index, path, false, err);
    if (st == SAC_OK)
        c->unsaved = 0;
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
