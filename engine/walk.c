#include "engine/walk.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* A folder that the walk is inside of. */
struct ancestor {
    const struct ancestor *parent;
    dev_t device;
    ino_t inode;
};

/* A list under construction: files[i].path is not set yet, offsets[i] is where it will point to. */
struct walker {
    struct sac_walk *out;
    size_t *offsets;
    size_t file_capacity, offset_capacity, text_size, text_capacity;
    char *path; /* the one being looked at */
    size_t path_capacity;
    bool (*tick)(void *context, size_t found);
    void *context;
};

/* The block with room for `need` elements, moved where it must be; NULL when there is no memory, and then it
 * stays as it was. */
static void *grow(void *block, size_t *capacity, size_t need, size_t size)
{
    size_t wanted = *capacity > 0 ? *capacity : 256;

    if (need <= *capacity)
        return block;
    while (wanted < need)
        wanted *= 2;
    block = realloc(block, wanted * size);
    if (block != NULL)
        *capacity = wanted;
    return block;
}

static bool grow_path(struct walker *w, size_t need)
{
    char *path = grow(w->path, &w->path_capacity, need, 1);

    if (path != NULL)
        w->path = path;
    return path != NULL;
}

/* Room for one more file, whose path takes so many bytes. */
static bool grow_list(struct walker *w, size_t bytes)
{
    struct sac_walk *out = w->out;
    struct sac_walk_file *files = grow(out->files, &w->file_capacity, out->count + 1, sizeof *files);
    size_t *offsets = grow(w->offsets, &w->offset_capacity, out->count + 1, sizeof *offsets);
    char *texts = grow(out->texts, &w->text_capacity, w->text_size + bytes, 1);

    if (files != NULL)
        out->files = files;
    if (offsets != NULL)
        w->offsets = offsets;
    if (texts != NULL)
        out->texts = texts;
    return files != NULL && offsets != NULL && texts != NULL;
}

static sac_status no_memory(sac_error *err)
{
    return sac_fail(err, SAC_NO_MEMORY, "no memory for the list of pictures");
}

/* Adds the path being looked at. */
static sac_status add_file(struct walker *w, const struct stat *st, sac_error *err)
{
    size_t size = strlen(w->path) + 1;
    struct sac_walk *out = w->out;

    if (!grow_list(w, size))
        return no_memory(err);
    out->files[out->count] = (struct sac_walk_file){
        .size = st != NULL ? (uint64_t)st->st_size : 0,
        .mtime_ns = st != NULL ? (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec : 0,
    };
    memcpy(out->texts + w->text_size, w->path, size);
    w->offsets[out->count++] = w->text_size;
    w->text_size += size;
    if (w->tick != NULL && out->count % 256 == 0 && !w->tick(w->context, out->count))
        return sac_fail(err, SAC_CANCELLED, "stopped on request while folders were read");
    return SAC_OK;
}

static bool is_picture(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot != NULL && (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0 ||
                           strcasecmp(dot, ".png") == 0 || strcasecmp(dot, ".webp") == 0);
}

static bool inside(const struct ancestor *ancestor, const struct stat *st)
{
    while (ancestor != NULL && (ancestor->device != st->st_dev || ancestor->inode != st->st_ino))
        ancestor = ancestor->parent;
    return ancestor != NULL;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int compare_entries(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static sac_status walk_folder(struct walker *w, const struct stat *st, const struct ancestor *parent,
                              sac_error *err);

/* Looks at one name of a folder; the walker's path is that of the name. */
static sac_status walk_name(struct walker *w, const char *name, const struct ancestor *parent, sac_error *err)
{
    struct stat st;

    if (stat(w->path, &st) != 0)
        return is_picture(name) ? add_file(w, NULL, err) : SAC_OK;
    if (S_ISDIR(st.st_mode))
        return inside(parent, &st) ? SAC_OK : walk_folder(w, &st, parent, err);
    return S_ISREG(st.st_mode) && is_picture(name) ? add_file(w, &st, err) : SAC_OK;
}

static sac_status walk_folder(struct walker *w, const struct stat *st, const struct ancestor *parent,
                              sac_error *err)
{
    const struct ancestor here = {parent, st->st_dev, st->st_ino};
    size_t length = strlen(w->path), slash = length > 1 ? length : 0; /* the root is a slash itself */
    struct dirent **entries;
    int count = scandir(w->path, &entries, is_visible, compare_entries);
    sac_status status = SAC_OK;

    if (count < 0)
        return add_file(w, st, err);
    for (int i = 0; i < count; i++) {
        size_t size = strlen(entries[i]->d_name) + 1;

        if (status == SAC_OK && !grow_path(w, slash + 1 + size))
            status = no_memory(err);
        if (status == SAC_OK) {
            w->path[slash] = '/';
            memcpy(w->path + slash + 1, entries[i]->d_name, size);
            status = walk_name(w, entries[i]->d_name, &here, err);
        }
        free(entries[i]);
    }
    free(entries);
    w->path[length] = '\0';
    return status;
}

static sac_status walk_root(struct walker *w, const char *root, sac_error *err)
{
    char *absolute = realpath(root, NULL);
    const char *path = absolute != NULL ? absolute : root;
    size_t size = strlen(path) + 1;
    bool good = grow_path(w, size), there;
    struct stat st;

    if (good)
        memcpy(w->path, path, size);
    free(absolute);
    if (!good)
        return no_memory(err);
    there = stat(w->path, &st) == 0;
    if (there && S_ISDIR(st.st_mode))
        return walk_folder(w, &st, NULL, err);
    return add_file(w, there ? &st : NULL, err);
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const struct sac_walk_file *)a)->path, ((const struct sac_walk_file *)b)->path);
}

static void sort_and_unite(struct sac_walk *walk, const size_t *offsets)
{
    size_t kept = 0;

    if (offsets == NULL) /* nothing was found */
        return;
    for (size_t i = 0; i < walk->count; i++)
        walk->files[i].path = walk->texts + offsets[i];
    qsort(walk->files, walk->count, sizeof *walk->files, compare_files);
    for (size_t i = 0; i < walk->count; i++)
        if (kept == 0 || strcmp(walk->files[kept - 1].path, walk->files[i].path) != 0)
            walk->files[kept++] = walk->files[i];
    walk->count = kept;
}

sac_status sac_walk_paths(const char *const *paths, size_t path_count,
                          bool (*tick)(void *context, size_t found), void *context, struct sac_walk *out,
                          sac_error *err)
{
    struct walker w = {.out = out, .tick = tick, .context = context};
    sac_status st = SAC_OK;

    *out = (struct sac_walk){0};
    for (size_t i = 0; i < path_count && st == SAC_OK; i++)
        st = walk_root(&w, paths[i], err);
    if (st == SAC_OK)
        sort_and_unite(out, w.offsets);
    free(w.offsets);
    free(w.path);
    return st;
}

void sac_walk_free(struct sac_walk *walk)
{
    free(walk->files);
    free(walk->texts);
    *walk = (struct sac_walk){0};
}
