#include "engine/database_internal.h"

#include "engine/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT 1
#define FORMAT_FILE "saccade.json"

/* The databases that this process has open. It is global because LMDB's rule is: a file that one process
 * opens twice loses its locks and its readers' marks with the first close. */
static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sac_database *open_databases;

static sac_status register_open(sac_database *db, sac_error *err)
{
    struct stat st;
    bool twice = false;

    if (stat(db->path, &st) != 0)
        return sac_fail(err, SAC_IO, "cannot read %s: %s", db->path, strerror(errno));
    db->device_number = st.st_dev;
    db->inode = st.st_ino;
    db->process = getpid();
    pthread_mutex_lock(&open_lock);
    for (sac_database *d = open_databases; d != NULL; d = d->next_open)
        twice = twice ||
                (d->process == db->process && d->device_number == db->device_number && d->inode == db->inode);
    if (!twice) {
        db->next_open = open_databases;
        open_databases = db;
    }
    pthread_mutex_unlock(&open_lock);
    if (twice)
        return sac_fail(err, SAC_BUSY, "this process has %s open already: share that handle", db->path);
    return SAC_OK;
}

static void unregister_open(sac_database *db)
{
    pthread_mutex_lock(&open_lock);
    for (sac_database **d = &open_databases; *d != NULL; d = &(*d)->next_open)
        if (*d == db) {
            *d = db->next_open;
            break;
        }
    pthread_mutex_unlock(&open_lock);
}

/* ---- open ---- */

/* Empty but for what a kill in make_database may have left. */
static bool is_empty_folder(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    bool empty = dir != NULL;

    while (empty && (entry = readdir(dir)) != NULL)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
                strcmp(entry->d_name, "lock") == 0 || strcmp(entry->d_name, "collections") == 0 ||
                strcmp(entry->d_name, FORMAT_FILE ".tmp") == 0;
    if (dir != NULL)
        closedir(dir);
    return empty;
}

static sac_status check_format(const char *path, sac_error *err)
{
    char file[SAC_PATH_MAX];
    json_t *root, *format;
    json_int_t version;
    sac_status st = sac_path_join(file, path, FORMAT_FILE, err);

    if (st != SAC_OK)
        return st;
    if (access(file, F_OK) != 0)
        return sac_fail(err, SAC_NOT_FOUND, "%s is no saccade database: %s is missing", path, FORMAT_FILE);
    root = json_load_file(file, 0, NULL);
    format = json_object_get(root, "format");
    version = json_is_integer(format) ? json_integer_value(format) : 0;
    json_decref(root);
    if (version <= 0)
        return sac_fail(err, SAC_CORRUPT, "%s names no format: it should read {\"format\": %d}", file,
                        FORMAT);
    if (version != FORMAT)
        return sac_fail(err, SAC_VERSION_MISMATCH, "%s: database format %lld, this version reads format %d",
                        path, (long long)version, FORMAT);
    return SAC_OK;
}

/* The format file is written last: a directory without it is not a database yet. */
static sac_status make_database(const char *path, const char *collections, sac_error *err)
{
    sac_status st = sac_folder_make(collections, err);

    if (st == SAC_OK)
        st = sac_file_replace(path, FORMAT_FILE, "{\"saccade\": \"database\", \"format\": 1}\n", err);
    return st;
}

static sac_status take_lock(sac_database *db, sac_error *err)
{
    char file[SAC_PATH_MAX];
    sac_status st = sac_path_join(file, db->path, "lock", err);

    if (st != SAC_OK)
        return st;
    db->lock_fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (db->lock_fd < 0)
        return sac_fail(err, SAC_IO, "cannot open %s for writing: %s", file, strerror(errno));
    if (flock(db->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return SAC_OK;
    if (errno == EWOULDBLOCK)
        return sac_fail(err, SAC_BUSY, "another process writes to %s: stop it, or open for reading",
                        db->path);
    return sac_fail(err, SAC_IO, "cannot lock %s: %s", file, strerror(errno));
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static sac_status remove_leftovers(const sac_database *db, sac_error *err)
{
    DIR *dir = opendir(db->collections);
    struct dirent *entry;
    char path[SAC_PATH_MAX];
    sac_status st = SAC_OK;

    if (dir == NULL)
        return sac_fail(err, SAC_IO, "cannot read %s: %s", db->collections, strerror(errno));
    while (st == SAC_OK && (entry = readdir(dir)) != NULL) {
        if (!starts_with(entry->d_name, SAC_DATABASE_NEW_PREFIX) &&
            !starts_with(entry->d_name, SAC_DATABASE_DROP_PREFIX))
            continue;
        st = sac_path_join(path, db->collections, entry->d_name, err);
        if (st == SAC_OK)
            st = sac_folder_remove(path, err);
    }
    closedir(dir);
    return st;
}

static sac_status open_writable(sac_database *db, sac_open_mode mode, sac_error *err)
{
    char file[SAC_PATH_MAX];
    sac_status st = sac_path_join(file, db->path, FORMAT_FILE, err);

    if (st == SAC_OK && mode >= SAC_OPEN_CREATE && access(file, F_OK) != 0 && !is_empty_folder(db->path))
        st = sac_fail(err, SAC_INVALID_ARGUMENT,
                      "%s holds other files and is no saccade database: choose an empty or a new folder",
                      db->path);
    if (st == SAC_OK && mode == SAC_OPEN_WRITE)
        st = check_format(db->path, err);
    if (st == SAC_OK)
        st = take_lock(db, err);
    if (st == SAC_OK && access(file, F_OK) != 0)
        st = make_database(db->path, db->collections, err);
    if (st == SAC_OK)
        st = check_format(db->path, err);
    return st == SAC_OK ? remove_leftovers(db, err) : st;
}

static sac_status open_at(sac_database *db, const char *path, sac_open_mode mode, sac_error *err)
{
    sac_status st = mode >= SAC_OPEN_CREATE ? sac_folder_make(path, err) : SAC_OK;

    if (st != SAC_OK)
        return st;
    db->path = realpath(path, NULL);
    if (db->path == NULL)
        return sac_fail(err, errno == ENOENT ? SAC_NOT_FOUND : SAC_IO, "cannot open the database %s: %s",
                        path, strerror(errno));
    if (asprintf(&db->collections, "%s/collections", db->path) < 0) {
        db->collections = NULL;
        return sac_fail(err, SAC_NO_MEMORY, "no memory to open %s", path);
    }
    st = register_open(db, err);
    if (st != SAC_OK)
        return st;
    st = mode == SAC_OPEN_READ ? check_format(db->path, err) : open_writable(db, mode, err);
    if (st != SAC_OK)
        unregister_open(db);
    return st;
}

static void free_database(sac_database *db)
{
    if (db->lock_fd >= 0)
        close(db->lock_fd); /* releases the lock */
    pthread_mutex_destroy(&db->lock);
    pthread_cond_destroy(&db->opened);
    free(db->collections);
    free(db->path);
    free(db);
}

sac_status sac_database_open(sac_device *device, const char *path, sac_open_mode mode, sac_database **out,
                             sac_error *err)
{
    sac_database *db = calloc(1, sizeof *db);
    sac_status st;

    *out = NULL;
    if (db == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to open %s", path);
    db->device = device;
    db->mode = mode;
    db->lock_fd = -1;
    pthread_mutex_init(&db->lock, NULL);
    pthread_cond_init(&db->opened, NULL);
    st = open_at(db, path, mode, err);
    if (st != SAC_OK) {
        free_database(db);
        return st;
    }
    *out = db;
    return SAC_OK;
}

void sac_database_close(sac_database *db)
{
    if (db == NULL)
        return;
    sac_database_close_entries(db);
    unregister_open(db);
    free_database(db);
}
