#include "server/catalog.h"

#include "server/log.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sac_catalog {
    const struct sac_server_config *config;
    sac_device *device;
    sac_database *database;
    pthread_mutex_t lock;    /* the two lists; held for moments */
    pthread_mutex_t opening; /* one opening or dropping at a time; may be held for seconds */
    struct sac_entry *entries;
    struct sac_model *models;
};

static struct sac_model *find_model(sac_catalog *catalog, bool (*is)(struct sac_model *, const char *),
                                    const char *text)
{
    struct sac_model *model;

    pthread_mutex_lock(&catalog->lock);
    for (model = catalog->models; model != NULL; model = model->next)
        if (is(model, text))
            break;
    pthread_mutex_unlock(&catalog->lock);
    return model;
}

static bool has_fingerprint(struct sac_model *model, const char *text)
{
    return strcmp(sac_encoder_fingerprint(model->encoder), text) == 0;
}

static bool has_path(struct sac_model *model, const char *text)
{
    return strcmp(model->path, text) == 0;
}

static bool has_name(struct sac_model *model, const char *text)
{
    return strcmp(sac_encoder_name(model->encoder), text) == 0;
}

static void model_free(struct sac_model *model)
{
    sac_encoder_close(model->encoder);
    sac_cost_destroy(&model->embed);
    free(model);
}

static sac_status open_model(sac_catalog *catalog, const char *path, struct sac_model **out, sac_error *err)
{
    size_t path_size = strlen(path) + 1;
    struct sac_model *model = calloc(1, sizeof *model + path_size);
    sac_status st;

    *out = NULL;
    if (model == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for model %s", path);
    memcpy(model->path, path, path_size);
    sac_cost_init(&model->embed);
    st = sac_encoder_open(catalog->device, path, &catalog->config->encoder, &model->encoder, err);
    if (st != SAC_OK) {
        model_free(model);
        return st;
    }
    pthread_mutex_lock(&catalog->lock);
    model->next = catalog->models;
    catalog->models = model;
    pthread_mutex_unlock(&catalog->lock);
    sac_log(SAC_LOG_INFO, "model opened", "path=%s name=%s dim=%u fingerprint=%.12s", path,
            sac_encoder_name(model->encoder), sac_encoder_dim(model->encoder),
            sac_encoder_fingerprint(model->encoder));
    *out = model;
    return SAC_OK;
}

sac_status sac_catalog_create(const struct sac_server_config *config, sac_catalog **out, sac_error *err)
{
    sac_catalog *catalog = calloc(1, sizeof *catalog);
    sac_status st;

    *out = NULL;
    if (catalog == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for the server's catalog");
    catalog->config = config;
    pthread_mutex_init(&catalog->lock, NULL);
    pthread_mutex_init(&catalog->opening, NULL);
    st = sac_device_open(&config->device, &catalog->device, err);
    if (st == SAC_OK)
        st = sac_database_open(catalog->device, config->data, SAC_OPEN_CREATE, &catalog->database, err);
    for (size_t i = 0; i < config->model_count && st == SAC_OK; i++) {
        struct sac_model *model;
        st = open_model(catalog, config->models[i], &model, err);
    }
    if (st != SAC_OK) {
        sac_catalog_close(catalog);
        return st;
    }
    *out = catalog;
    return SAC_OK;
}

void sac_catalog_close(sac_catalog *catalog)
{
    if (catalog == NULL)
        return;
    while (catalog->entries != NULL) {
        struct sac_entry *entry = catalog->entries;
        catalog->entries = entry->next;
        sac_entry_release(entry);
    }
    while (catalog->models != NULL) {
        struct sac_model *model = catalog->models;
        catalog->models = model->next;
        model_free(model);
    }
    sac_database_close(catalog->database);
    sac_device_close(catalog->device);
    pthread_mutex_destroy(&catalog->opening);
    pthread_mutex_destroy(&catalog->lock);
    free(catalog);
}

const char *sac_catalog_device(const sac_catalog *catalog)
{
    return sac_device_describe(catalog->device);
}

void sac_catalog_device_memory(const sac_catalog *catalog, sac_device_memory *out)
{
    sac_device_memory_describe(catalog->device, out);
}

const char *sac_catalog_lost(const sac_catalog *catalog)
{
    return sac_device_lost_reason(catalog->device);
}

sac_database *sac_catalog_database(const sac_catalog *catalog)
{
    return catalog->database;
}

struct sac_entry *sac_catalog_find(sac_catalog *catalog, const char *name, size_t name_size)
{
    struct sac_entry *entry;

    pthread_mutex_lock(&catalog->lock);
    for (entry = catalog->entries; entry != NULL; entry = entry->next)
        if (strlen(entry->name) == name_size && memcmp(entry->name, name, name_size) == 0)
            break;
    if (entry != NULL)
        atomic_fetch_add(&entry->holders, 1);
    pthread_mutex_unlock(&catalog->lock);
    return entry;
}

static void entry_free(struct sac_entry *entry)
{
    sac_collection_release(entry->collection);
    sac_cost_destroy(&entry->search[0]);
    sac_cost_destroy(&entry->search[1]);
    sac_cost_destroy(&entry->write);
    free(entry);
}

struct sac_entry *sac_entry_hold(struct sac_entry *entry)
{
    atomic_fetch_add(&entry->holders, 1);
    return entry;
}

void sac_entry_release(struct sac_entry *entry)
{
    if (entry == NULL || atomic_fetch_sub(&entry->holders, 1) > 1)
        return;
    entry_free(entry);
}

/* Whose embeddings the collection holds: a model that is open, else the one its own path points to. */
static void choose_model(sac_catalog *catalog, struct sac_entry *entry)
{
    const char *path = entry->params.model;
    struct sac_model *model;

    if (path == NULL || path[0] == '\0') {
        entry->model_error.status = sac_fail(
            &entry->model_error, SAC_UNSUPPORTED,
            "collection %s was made for vectors only: make one with a model for pictures", entry->name);
        return;
    }
    model = find_model(catalog, has_fingerprint, entry->params.fingerprint);
    if (model == NULL && open_model(catalog, path, &model, &entry->model_error) != SAC_OK) {
        sac_log(SAC_LOG_WARN, "model cannot be opened", "collection=%s path=%s reason=\"%s\"", entry->name,
                path, entry->model_error.text);
        return;
    }
    assert(model != NULL);
    if (!has_fingerprint(model, entry->params.fingerprint)) {
        sac_fail(&entry->model_error, SAC_VERSION_MISMATCH,
                 "collection %s holds embeddings of a model with fingerprint %.12s..., and %s has %.12s...: "
                 "start the server with the model that made it",
                 entry->name, entry->params.fingerprint, path, sac_encoder_fingerprint(model->encoder));
        return;
    }
    entry->model = model;
}

static sac_status open_entry(sac_catalog *catalog, const char *name, struct sac_entry **out, sac_error *err)
{
    struct sac_entry *entry = calloc(1, sizeof *entry);
    sac_status st;

    if (entry == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to open collection %s", name);
    sac_cost_init(&entry->search[0]);
    sac_cost_init(&entry->search[1]);
    sac_cost_init(&entry->write);
    st = sac_collection_acquire(catalog->database, name, &entry->collection, err);
    if (st != SAC_OK) {
        entry_free(entry);
        return st;
    }
    snprintf(entry->name, sizeof entry->name, "%s", name);
    sac_collection_describe(entry->collection, &entry->params);
    choose_model(catalog, entry);
    atomic_store(&entry->points, sac_collection_count(entry->collection));
    atomic_store(&entry->holders, 2); /* the list and the caller */
    sac_log(SAC_LOG_INFO, "collection opened", "name=%s points=%llu", name,
            (unsigned long long)atomic_load(&entry->points));
    pthread_mutex_lock(&catalog->lock);
    entry->next = catalog->entries;
    catalog->entries = entry;
    pthread_mutex_unlock(&catalog->lock);
    *out = entry;
    return SAC_OK;
}

sac_status sac_catalog_open(sac_catalog *catalog, const char *name, struct sac_entry **out, sac_error *err)
{
    sac_status st = SAC_OK;

    pthread_mutex_lock(&catalog->opening);
    *out = sac_catalog_find(catalog, name, strlen(name));
    if (*out == NULL)
        st = open_entry(catalog, name, out, err);
    pthread_mutex_unlock(&catalog->opening);
    return st;
}

void sac_catalog_open_all(sac_catalog *catalog)
{
    struct sac_entry *entry;
    sac_error err;
    char **names = NULL;
    size_t count = 0;

    if (sac_database_list(catalog->database, &names, &count, &err) != SAC_OK)
        sac_log(SAC_LOG_WARN, "collections cannot be listed", "reason=\"%s\"", err.text);
    for (size_t i = 0; i < count; i++)
        if (sac_catalog_open(catalog, names[i], &entry, &err) == SAC_OK)
            sac_entry_release(entry);
        else
            sac_log(SAC_LOG_WARN, "collection cannot be opened", "name=%s reason=\"%s\"", names[i], err.text);
    free(names);
}

sac_status sac_catalog_drop(sac_catalog *catalog, const char *name, sac_error *err)
{
    struct sac_entry *entry, **link;
    sac_status st;

    pthread_mutex_lock(&catalog->opening);
    pthread_mutex_lock(&catalog->lock);
    for (link = &catalog->entries; (entry = *link) != NULL; link = &entry->next)
        if (strcmp(entry->name, name) == 0) {
            *link = entry->next;
            break;
        }
    pthread_mutex_unlock(&catalog->lock);
    sac_entry_release(entry);
    st = sac_database_drop(catalog->database, name, err);
    pthread_mutex_unlock(&catalog->opening);
    return st;
}

static void append_name(void *context, struct sac_model *model)
{
    char *list = context;
    size_t used = strlen(list), size = SAC_ERROR_TEXT_SIZE / 2;

    snprintf(list + used, size - used, " %s", sac_encoder_name(model->encoder));
}

sac_status sac_catalog_model(sac_catalog *catalog, const char *text, struct sac_model **out, sac_error *err)
{
    sac_status st = SAC_OK;

    pthread_mutex_lock(&catalog->opening);
    *out = find_model(catalog, has_path, text);
    if (*out == NULL)
        *out = find_model(catalog, has_name, text);
    if (*out == NULL && strcmp(text, "builtin") == 0)
        st = open_model(catalog, text, out, err);
    pthread_mutex_unlock(&catalog->opening);
    if (*out == NULL && st == SAC_OK) {
        char list[SAC_ERROR_TEXT_SIZE / 2] = "builtin";
        sac_catalog_each_model(catalog, append_name, list);
        st = sac_fail(err, SAC_NOT_FOUND,
                      "no model %.100s here: there are %s; start the server with its folder to add it", text,
                      list);
    }
    return st;
}

void sac_catalog_each_model(sac_catalog *catalog, void (*fn)(void *context, struct sac_model *model),
                            void *context)
{
    pthread_mutex_lock(&catalog->lock);
    for (struct sac_model *model = catalog->models; model != NULL; model = model->next)
        fn(context, model);
    pthread_mutex_unlock(&catalog->lock);
}

void sac_catalog_each_entry(sac_catalog *catalog, void (*fn)(void *context, struct sac_entry *entry),
                            void *context)
{
    pthread_mutex_lock(&catalog->lock);
    for (struct sac_entry *entry = catalog->entries; entry != NULL; entry = entry->next)
        fn(context, entry);
    pthread_mutex_unlock(&catalog->lock);
}
