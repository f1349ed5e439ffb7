/* index_reader.h -- an index file that is being read, for the files that read it: index_load.c,
 * index_load_vectors.c. */
#ifndef SACCADE_INDEX_READER_H
#define SACCADE_INDEX_READER_H

#include "engine/index_file.h"
#include "engine/index_state.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

/* Every number in the file is checked before it sizes or indexes anything. */
struct reader {
    const char *path;
    sac_error *err;
    int fd;
    XXH3_state_t *hash;
    uint64_t offset, left; /* of the section being read */
    sac_index_header header;
    sac_index *index; /* being made */
    sac_team team;
    sac_workspace *ws; /* the first of the team */
    uint64_t *listed;  /* a bit for every vector: a list had it */
};

/* SAC_CORRUPT: the file, what is wrong with it, what to do. */
static inline sac_status damaged(const struct reader *r, const char *what)
{
    return sac_fail(r->err, SAC_CORRUPT, "%s: %s: restore the file, or build the index again", r->path, what);
}

static inline sac_status read_at(const struct reader *r, uint64_t offset, void *to, size_t size)
{
    uint8_t *bytes = to;

    while (size > 0) {
        ssize_t got = pread(r->fd, bytes, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return sac_fail(r->err, SAC_IO, "cannot read %s: %s", r->path, strerror(errno));
        if (got == 0)
            return damaged(r, "the file is shorter than it says");
        bytes += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return SAC_OK;
}

/* Begins a section; get() then gives its bytes one after another. */
static inline void open_section(struct reader *r, enum sac_index_section section)
{
    XXH3_64bits_reset(r->hash);
    r->offset = r->header.sections[section].offset;
    r->left = r->header.sections[section].length;
}

static inline sac_status get(struct reader *r, void *to, size_t size)
{
    sac_status st;

    if (size > r->left)
        return damaged(r, "a section ends too early");
    st = read_at(r, r->offset, to, size);
    if (st == SAC_OK)
        XXH3_64bits_update(r->hash, to, size);
    r->offset += size;
    r->left -= size;
    return st;
}

/* All of it was taken, and its checksum is right. */
static inline sac_status close_section(struct reader *r, enum sac_index_section section)
{
    if (r->left != 0)
        return damaged(r, "a section is longer than it should be");
    if (r->header.sections[section].length > 0 &&
        XXH3_64bits_digest(r->hash) != r->header.sections[section].checksum)
        return damaged(r, "a section fails its checksum");
    return SAC_OK;
}

static inline bool all_finite(const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* The section of vectors, or, where the file has none, those that the caller keeps. */
sac_status sac_index_load_vectors(struct reader *r, sac_vector_fn fn, void *context);

#endif
