#include "bench/gpu/album.h"

#include "bench/gpu/driver.h"
#include "bench/scene.h"
#include "engine/walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PHOTOS_MAX = 4096, SCENES = 64, PATH_SIZE = 4096 };

static struct photo read_photo(const struct sac_walk_file *from)
{
    struct photo photo = {need(from->size + 1, 1), from->size};
    FILE *file = fopen(from->path, "rb");

    if (file == NULL || fread(photo.bytes, 1, photo.size, file) != photo.size)
        fail("cannot read a photograph");
    fclose(file);
    return photo;
}

static void read_folder(struct album *album, const char *folder)
{
    struct sac_walk walk;
    sac_error err;

    check(sac_walk_paths(&folder, 1, NULL, NULL, &walk, &err), &err);
    for (size_t i = 0; i < walk.count && album->count < PHOTOS_MAX; i++)
        if (walk.files[i].size > 0)
            album->photos[album->count++] = read_photo(&walk.files[i]);
    sac_walk_free(&walk);
}

void album_open(struct album *album, const char *folder)
{
    struct stat about;

    *album = (struct album){.photos = need(PHOTOS_MAX, sizeof *album->photos)};
    if (folder != NULL && stat(folder, &about) == 0 && S_ISDIR(about.st_mode))
        read_folder(album, folder);
    if (album->count == 0)
        for (; album->count < SCENES; album->count++)
            album->photos[album->count].bytes =
                scene_make((unsigned)album->count, &album->photos[album->count].size);
    for (size_t i = 0; i < album->count; i++)
        album->mean_bytes += (double)album->photos[i].size / (double)album->count;
}

void album_close(struct album *album)
{
    for (size_t i = 0; i < album->count; i++)
        free(album->photos[i].bytes);
    free(album->photos);
}

static void write_photo(const struct photo *photo, const char *path)
{
    FILE *file = fopen(path, "wb");

    if (file == NULL || fwrite(photo->bytes, 1, photo->size, file) != photo->size || fclose(file) != 0)
        fail("cannot write a photograph");
}

void album_write(const struct album *album, const char *folder, size_t count)
{
    char path[PATH_SIZE], first[PATH_SIZE];

    if (mkdir(folder, 0777) != 0)
        fail("the folder for photographs is there already, or cannot be made");
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%07zu.jpg", folder, i);
        snprintf(first, sizeof first, "%s/%07zu.jpg", folder, i % album->count);
        if (i < album->count || link(first, path) != 0)
            write_photo(&album->photos[i % album->count], path);
    }
}
