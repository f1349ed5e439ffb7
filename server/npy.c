#include "server/npy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADER_BYTES = 128 }; /* a multiple of 64, as the format asks */

struct sac_npy_writer {
    FILE *file;      /* header and rows: beside the target, or nameless on the way to stdout */
    char *path;      /* NULL: stdout */
    char *part_path; /* what file is called until it is whole */
    uint32_t dim;
    uint64_t rows;
};

static sac_status io_error(const sac_npy_writer *w, const char *what, sac_error *err)
{
    return sac_fail(err, SAC_IO, "%s %s: %s", what, w->path == NULL ? "the vectors" : w->path,
                    strerror(errno));
}

/* numpy.lib.format, version 1.0: magic, version, u16 length, a dictionary padded with spaces, newline. */
static bool write_header(sac_npy_writer *w)
{
    /* format 1.0; 0x76: the 118 bytes that follow */
    static const unsigned char magic[] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 0x76, 0};
    char header[HEADER_BYTES];
    int n;

    memset(header, ' ', sizeof header);
    memcpy(header, magic, sizeof magic);
    n = snprintf(header + sizeof magic, sizeof header - sizeof magic,
                 "{'descr': '<f4', 'fortran_order': False, 'shape': (%" PRIu64 ", %" PRIu32 "), }", w->rows,
                 w->dim);
    header[sizeof magic + (size_t)n] = ' '; /* over the text's end; there is room for any count */
    header[HEADER_BYTES - 1] = '\n';
    return fwrite(header, 1, sizeof header, w->file) == sizeof header;
}

static bool name_files(sac_npy_writer *w, const char *path)
{
    size_t size = strlen(path) + sizeof ".part";

    w->path = strdup(path);
    w->part_path = malloc(size);
    if (w->path == NULL || w->part_path == NULL)
        return false;
    snprintf(w->part_path, size, "%s.part", path);
    return true;
}

sac_status sac_npy_open(const char *path, uint32_t dim, sac_npy_writer **out, sac_error *err)
{
    sac_npy_writer *w = calloc(1, sizeof *w);
    sac_status st;

    *out = NULL;
    if (w == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to write vectors");
    w->dim = dim;
    if (strcmp(path, "-") != 0 && !name_files(w, path)) {
        sac_npy_abandon(w);
        return sac_fail(err, SAC_NO_MEMORY, "no memory to write vectors");
    }
    w->file = w->path == NULL ? tmpfile() : fopen(w->part_path, "wb");
    if (w->file == NULL || !write_header(w)) {
        st = io_error(w, "creating", err);
        sac_npy_abandon(w);
        return st;
    }
    *out = w;
    return SAC_OK;
}

sac_status sac_npy_write(sac_npy_writer *w, size_t n, const float *vectors, sac_error *err)
{
    if (fwrite(vectors, sizeof(float) * w->dim, n, w->file) != n)
        return io_error(w, "writing", err);
    w->rows += n;
    return SAC_OK;
}

static bool copy_to_stdout(FILE *file)
{
    char block[64 << 10];
    size_t n;

    rewind(file);
    while ((n = fread(block, 1, sizeof block, file)) > 0)
        if (fwrite(block, 1, n, stdout) != n)
            return false;
    return !ferror(file) && fflush(stdout) == 0;
}

sac_status sac_npy_finish(sac_npy_writer *w, sac_error *err)
{
    sac_status st = SAC_OK;

    if (fseeko(w->file, 0, SEEK_SET) != 0 || !write_header(w) || fflush(w->file) != 0)
        st = io_error(w, "writing", err);
    else if (w->path == NULL && !copy_to_stdout(w->file))
        st = io_error(w, "writing", err);
    else if (w->path != NULL && rename(w->part_path, w->path) != 0)
        st = io_error(w, "writing", err);
    if (st == SAC_OK && w->part_path != NULL) {
        free(w->part_path); /* it has its name */
        w->part_path = NULL;
    }
    sac_npy_abandon(w);
    return st;
}

void sac_npy_abandon(sac_npy_writer *w)
{
    if (w == NULL)
        return;
    if (w->file != NULL)
        fclose(w->file);
    if (w->file != NULL && w->part_path != NULL)
        unlink(w->part_path);
    free(w->part_path);
    free(w->path);
    free(w);
}
