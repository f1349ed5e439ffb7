/* walk.h -- folders and files -> the list of pictures in them.
 *
 * Folders are walked in byte order of names, with their subfolders; links are followed, but not into a folder
 * that the walk is inside of already. Names that begin with a dot are left out. Of what is found in folders,
 * files that end in .jpg, .jpeg, .png or .webp in any case are taken; files that are named themselves are
 * taken as they are. What cannot be looked into is listed itself: whoever reads it learns why.
 */
#ifndef SACCADE_WALK_H
#define SACCADE_WALK_H

#include "engine/saccade.h"

struct sac_walk_file {
    const char *path; /* absolute */
    uint64_t size;    /* bytes */
    int64_t mtime_ns; /* since 1970 */
};

struct sac_walk {
    struct sac_walk_file *files; /* in byte order of paths, each once */
    size_t count;
    char *texts; /* what the paths point into */
};

/* tick (NULL allowed) is called with the number found so far, now and then; false cancels. Ends with
 * sac_walk_free, also after a failure. Errors: SAC_NO_MEMORY, SAC_CANCELLED. */
sac_status sac_walk_paths(const char *const *paths, size_t path_count,
                          bool (*tick)(void *context, size_t found), void *context, struct sac_walk *out,
                          sac_error *err);
void sac_walk_free(struct sac_walk *walk);

#endif
