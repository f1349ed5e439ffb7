/* scratch.h -- a folder of its own for a test, removed with everything in it. */
#ifndef SACCADE_TESTS_SCRATCH_H
#define SACCADE_TESTS_SCRATCH_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SAC_SCRATCH_PATH_MAX = 1024 };

/* Makes a new folder and writes its path: under TMPDIR, else in /dev/shm where syncing costs nothing (a kill
 * does not tell the difference, only a power cut would), else in /tmp. The test fails where that is
 * impossible. */
static inline void sac_scratch_make(char path[SAC_SCRATCH_PATH_MAX])
{
    const char *parent = getenv("TMPDIR");

    if (parent == NULL)
        parent = access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(path, SAC_SCRATCH_PATH_MAX, "%s/saccade-test-XXXXXX", parent);
    if (mkdtemp(path) == NULL) {
        perror(path);
        abort();
    }
}

static inline int sac_scratch_unlink(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

static inline void sac_scratch_remove(const char *path)
{
    nftw(path, sac_scratch_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
