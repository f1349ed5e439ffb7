#include "engine/database_internal.h"

#include "engine/files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void sac_database_close_entries(sac_database *db)
{
    while (db->entries != NULL) {
        struct sac_database_entry *entry = db->entries;

        db->entries = entry->next;
        sac_collection_close(entry->collection);
        free(entry);
    }
}

/* ---- names ---- */

static bool name_is_valid(const char *name)
{
    size_t size = strlen(name);

    for (size_t i = 0; i < size; i++) {
        bool plain = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= 'A' && name[i] <= 'Z') ||
                     (name[i] >= '0' && name[i] <= '9');

        if (!plain && (i == 0 || (name[i] != '_' && name[i] != '-')))
            return false;
    }
    return size > 0 && size <= SAC_NAME_MAX;
}

static sac_status check_name(const char *name, sac_error *err)
{
    if (name_is_valid(name))
        return SAC_OK;
    return sac_fail(
        err, SAC_INVALID_ARGUMENT,
        "\"%.80s\" is no name for a collection: 1 to %u letters, digits, _ and -, first a letter or "
        "digit",
        name, SAC_NAME_MAX);
}

/* Path of a collection's folder; *there tells whether it holds a store. */
static sac_status find_folder(const sac_database *db, const char *name, char path[SAC_PATH_MAX], bool *there,
                              sac_error *err)
{
    char data[SAC_PATH_MAX];
    sac_status st = check_name(name, err);

    if (st == SAC_OK)
        st = sac_path_join(path, db->collections, name, err);
    if (st == SAC_OK)
        st = sac_path_join(data, path, "data.mdb", err);
    if (st == SAC_OK)
        *there = access(data, F_OK) == 0;
    return st;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Packs names into one block: the pointers, then the bytes. */
static char **pack_names(char *const *names, size_t count, size_t bytes)
{
    char **block = malloc((count + 1) * sizeof *block + bytes);
    char *at;

    if (block == NULL)
        return NULL;
    at = (char *)(block + count + 1);
    for (size_t i = 0; i < count; i++) {
        block[i] = at;
        at = stpcpy(at, names[i]) + 1;
    }
    block[count] = NULL;
    return block;
}

sac_status sac_database_list(sac_database *db, char ***names, size_t *count, sac_error *err)
{
    struct dirent **files;
    char path[SAC_PATH_MAX], **found;
    size_t n = 0, bytes = 0;
    bool there;
    int file_count = scandir(db->collections, &files, NULL, NULL);

    *names = NULL;
    *count = 0;
    if (file_count < 0)
        return sac_fail(err, SAC_IO, "cannot read %s: %s", db->collections, strerror(errno));
    found = calloc((size_t)file_count + 1, sizeof *found);
    for (int i = 0; i < file_count && found != NULL; i++)
        if (find_folder(db, files[i]->d_name, path, &there, NULL) == SAC_OK && there) {
            found[n++] = files[i]->d_name;
            bytes += strlen(files[i]->d_name) + 1;
        }
    if (found != NULL) {
        qsort(found, n, sizeof *found, compare_names);
        *names = pack_names(found, n, bytes);
    }
    for (int i = 0; i < file_count; i++)
        free(files[i]);
    free(files);
    free(found);
    if (*names == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a list of %zu names", n);
    *count = n;
    return SAC_OK;
}

/* ---- acquire and release ---- */

static struct sac_database_entry *find_entry(const sac_database *db, const char *name)
{
    struct sac_database_entry *entry = db->entries;

    while (entry != NULL && strcmp(entry->name, name) != 0)
        entry = entry->next;
    return entry;
}

static void unlink_entry(sac_database *db, struct sac_database_entry *entry)
{
    for (struct sac_database_entry **e = &db->entries; *e != NULL; e = &(*e)->next)
        if (*e == entry) {
            *e = entry->next;
            return;
        }
}

/* Under db->lock: the entry of a name once nobody is opening it. */
static struct sac_database_entry *await_entry(sac_database *db, const char *name)
{
    struct sac_database_entry *entry = find_entry(db, name);

    while (entry != NULL && entry->collection == NULL) {
        pthread_cond_wait(&db->opened, &db->lock);
        entry = find_entry(db, name);
    }
    return entry;
}

/* Opens a collection with the lock released: others may use theirs meanwhile, and those who want this one
 * wait at its empty entry. */
static sac_status open_entry(sac_database *db, const char *path, struct sac_database_entry *entry,
                             sac_error *err)
{
    sac_collection *collection;
    sac_status st;

    entry->next = db->entries;
    db->entries = entry;
    pthread_mutex_unlock(&db->lock);
    st = sac_collection_open(db->device, path, db->mode, &collection, err);
    pthread_mutex_lock(&db->lock);
    if (st == SAC_OK) {
        collection->database = db;
        collection->entry = entry;
        entry->collection = collection;
    } else {
        unlink_entry(db, entry);
        free(entry);
    }
    pthread_cond_broadcast(&db->opened);
    return st;
}

static sac_status acquire_locked(sac_database *db, const char *name, struct sac_database_entry **out,
                                 sac_error *err)
{
    char path[SAC_PATH_MAX];
    struct sac_database_entry *entry;
    bool there;
    sac_status st = find_folder(db, name, path, &there, err);

    if (st != SAC_OK)
        return st;
    entry = await_entry(db, name);
    if (entry == NULL) {
        if (!there)
            return sac_fail(err, SAC_NOT_FOUND, "no collection %s: create it first", name);
        entry = calloc(1, sizeof *entry);
        if (entry == NULL)
            return sac_fail(err, SAC_NO_MEMORY, "no memory to open %s", name);
        snprintf(entry->name, sizeof entry->name, "%s", name);
        st = open_entry(db, path, entry, err);
        if (st != SAC_OK)
            return st;
    }
    entry->holders++;
    *out = entry;
    return SAC_OK;
}

sac_status sac_collection_acquire(sac_database *db, const char *name, sac_collection **out, sac_error *err)
{
    struct sac_database_entry *entry = NULL;
    sac_status st;

    *out = NULL;
    pthread_mutex_lock(&db->lock);
    st = acquire_locked(db, name, &entry, err);
    if (entry != NULL)
        *out = entry->collection;
    pthread_mutex_unlock(&db->lock);
    return st;
}

void sac_collection_release(sac_collection *collection)
{
    sac_database *db;
    struct sac_database_entry *entry;
    bool ended;

    if (collection == NULL)
        return;
    db = collection->database;
    entry = collection->entry;
    pthread_mutex_lock(&db->lock);
    ended = --entry->holders == 0 && atomic_load(&collection->dropped);
    pthread_mutex_unlock(&db->lock);
    if (ended) {
        sac_collection_close(collection);
        free(entry);
    }
}

/* ---- create and drop ---- */

static sac_status compare_params(const char *name, const sac_collection_params *there,
                                 const sac_collection_params *asked, sac_error *err)
{
    if (there->dim != asked->dim)
        return sac_fail(err, SAC_ALREADY_EXISTS, "collection %s exists with dim %u, not %u", name, there->dim,
                        asked->dim);
    if (there->metric != asked->metric)
        return sac_fail(err, SAC_ALREADY_EXISTS, "collection %s exists with metric %s, not %s", name,
                        sac_metric_name(there->metric), sac_metric_name(asked->metric));
    if (strcmp(there->spec, asked->spec) != 0)
        return sac_fail(err, SAC_ALREADY_EXISTS, "collection %s exists with index %s, not %s", name,
                        there->spec, asked->spec);
    if (strcmp(there->fingerprint, asked->fingerprint) != 0)
        return sac_fail(err, SAC_ALREADY_EXISTS, "collection %s exists with vectors of another encoder (%s)",
                        name, there->model[0] != '\0' ? there->model : "none");
    return SAC_OK;
}

static sac_status compare_existing(sac_database *db, const char *name, const sac_collection_params *params,
                                   sac_error *err)
{
    sac_collection_params there;
    sac_collection *collection;
    sac_status st = sac_collection_acquire(db, name, &collection, err);

    if (st != SAC_OK)
        return st;
    sac_collection_describe(collection, &there);
    st = compare_params(name, &there, params, err);
    sac_collection_release(collection);
    return st;
}

/* Under db->lock. Complete under another name, then renamed: a kill leaves all of it or a leftover. */
static sac_status create_folder(sac_database *db, const char *name, const char *path,
                                const sac_collection_params *params, sac_error *err)
{
    char unfinished[SAC_PATH_MAX], file[SAC_NAME_MAX + sizeof SAC_DATABASE_NEW_PREFIX];
    sac_status st;

    snprintf(file, sizeof file, SAC_DATABASE_NEW_PREFIX "%s", name);
    st = sac_path_join(unfinished, db->collections, file, err);
    if (st == SAC_OK)
        st = sac_folder_make(unfinished, err);
    if (st != SAC_OK)
        return st;
    st = sac_store_create(unfinished, params, err);
    if (st == SAC_OK)
        st = sac_folder_sync(unfinished, err);
    if (st == SAC_OK && rename(unfinished, path) != 0)
        st = sac_fail(err, SAC_IO, "cannot rename %s to %s: %s", unfinished, path, strerror(errno));
    if (st != SAC_OK) {
        sac_folder_remove(unfinished, NULL);
        return st;
    }
    return sac_folder_sync(db->collections, err);
}

static sac_status check_writable(const sac_database *db, sac_error *err)
{
    return db->mode != SAC_OPEN_READ
               ? SAC_OK
               : sac_fail(err, SAC_READ_ONLY, "the database %s was opened for reading", db->path);
}

sac_status sac_database_create(sac_database *db, const char *name, const sac_collection_params *params,
                               sac_error *err)
{
    char path[SAC_PATH_MAX];
    bool there;
    sac_status st = check_writable(db, err);

    if (st != SAC_OK)
        return st;
    pthread_mutex_lock(&db->lock);
    st = find_folder(db, name, path, &there, err);
    if (st == SAC_OK && !there)
        st = create_folder(db, name, path, params, err);
    pthread_mutex_unlock(&db->lock);
    return st == SAC_OK && there ? compare_existing(db, name, params, err) : st;
}

/* Under db->lock: takes the folder out of sight, durably. */
static sac_status hide_folder(sac_database *db, const char *name, char hidden[SAC_PATH_MAX], sac_error *err)
{
    char path[SAC_PATH_MAX], file[SAC_NAME_MAX + 32];
    sac_status st = sac_path_join(path, db->collections, name, err);

    snprintf(file, sizeof file, SAC_DATABASE_DROP_PREFIX "%s-%u", name, db->drops++);
    if (st == SAC_OK)
        st = sac_path_join(hidden, db->collections, file, err);
    if (st == SAC_OK && rename(path, hidden) != 0)
        st = sac_fail(err, SAC_IO, "cannot drop %s: %s", path, strerror(errno));
    return st == SAC_OK ? sac_folder_sync(db->collections, err) : st;
}

/* Drops a collection that somebody holds, or held: a write or a checkpoint under way comes first. */
static sac_status drop_open(sac_database *db, sac_collection *collection, char hidden[SAC_PATH_MAX],
                            sac_error *err)
{
    sac_status st;

    pthread_mutex_lock(&collection->write_lock);
    pthread_mutex_lock(&db->lock);
    st = sac_collection_usable(collection, err); /* unless another thread dropped it just now */
    if (st == SAC_OK)
        st = hide_folder(db, collection->entry->name, hidden, err);
    if (st == SAC_OK) {
        unlink_entry(db, collection->entry);
        atomic_store(&collection->dropped, true);
    }
    pthread_mutex_unlock(&db->lock);
    pthread_mutex_unlock(&collection->write_lock);
    return st;
}

sac_status sac_database_drop(sac_database *db, const char *name, sac_error *err)
{
    char path[SAC_PATH_MAX], hidden[SAC_PATH_MAX];
    struct sac_database_entry *entry = NULL;
    bool there;
    sac_status st = check_writable(db, err);

    if (st != SAC_OK)
        return st;
    pthread_mutex_lock(&db->lock);
    st = find_folder(db, name, path, &there, err);
    if (st == SAC_OK)
        entry = await_entry(db, name);
    if (entry != NULL)
        entry->holders++;
    else if (st == SAC_OK) /* not opened for this: it may be too damaged to open */
        st = there ? hide_folder(db, name, hidden, err)
                   : sac_fail(err, SAC_NOT_FOUND, "no collection %s", name);
    pthread_mutex_unlock(&db->lock);
    if (entry != NULL) {
        st = drop_open(db, entry->collection, hidden, err);
        sac_collection_release(entry->collection);
    }
    if (st == SAC_OK)
        sac_folder_remove(hidden, NULL); /* what stays behind is removed when the directory is opened next */
    return st;
}
