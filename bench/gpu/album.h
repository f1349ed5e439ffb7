/* album.h -- photographs as JPEG bytes in memory, and as many files of them as a benchmark wants. */
#ifndef SACCADE_BENCH_GPU_ALBUM_H
#define SACCADE_BENCH_GPU_ALBUM_H

#include <stddef.h>

struct photo {
    unsigned char *bytes;
    size_t size;
};

struct album {
    struct photo *photos;
    size_t count;
    double mean_bytes;
};

/* The photographs of a folder and its subfolders, 4096 at most; NULL or none there: scenes (bench/scene.h).
 */
void album_open(struct album *album, const char *folder);
void album_close(struct album *album);

/* Makes `count` files in a new folder: the album over and over, further names of the same file. */
void album_write(const struct album *album, const char *folder, size_t count);

#endif
