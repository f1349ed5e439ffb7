#include "engine/files.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

sac_status sac_path_join(char out[SAC_PATH_MAX], const char *folder, const char *name, sac_error *err)
{
    if ((size_t)snprintf(out, SAC_PATH_MAX, "%s/%s", folder, name) >= SAC_PATH_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "a path is longer than %u bytes: %.200s...", SAC_PATH_MAX,
                        folder);
    return SAC_OK;
}

/* errno as a status: a full disk is worth telling from a broken one. */
static sac_status os_fail(const char *what, const char *path, sac_error *err)
{
    int code = errno;
    bool full = code == ENOSPC || code == EDQUOT || code == EFBIG || code == EROFS;

    return sac_fail(err,
                    code == ENOENT ? SAC_NOT_FOUND
                    : full         ? SAC_READ_ONLY
                                   : SAC_IO,
                    "cannot %s %s: %s", what, path, strerror(code));
}

sac_status sac_folder_make(const char *path, sac_error *err)
{
    return mkdir(path, 0777) == 0 || errno == EEXIST ? SAC_OK : os_fail("make", path, err);
}

sac_status sac_folder_sync(const char *path, sac_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    sac_status st = SAC_OK;

    if (fd < 0)
        return os_fail("open", path, err);
    if (fsync(fd) != 0)
        st = os_fail("sync", path, err);
    close(fd);
    return st;
}

static sac_status write_whole(const char *path, const char *text, sac_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    size_t size = strlen(text), at = 0;
    sac_status st = SAC_OK;

    if (fd < 0)
        return os_fail("write", path, err);
    while (at < size && st == SAC_OK) {
        ssize_t n = write(fd, text + at, size - at);

        if (n > 0)
            at += (size_t)n;
        else if (n < 0 && errno != EINTR)
            st = os_fail("write", path, err);
    }
    if (st == SAC_OK && fsync(fd) != 0)
        st = os_fail("sync", path, err);
    close(fd);
    return st;
}

sac_status sac_file_replace(const char *folder, const char *name, const char *text, sac_error *err)
{
    char path[SAC_PATH_MAX], temporary[SAC_PATH_MAX + 4];
    sac_status st = sac_path_join(path, folder, name, err);

    if (st != SAC_OK)
        return st;
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    st = write_whole(temporary, text, err);
    if (st == SAC_OK && rename(temporary, path) != 0)
        st = os_fail("rename", temporary, err);
    if (st != SAC_OK) {
        unlink(temporary);
        return st;
    }
    return sac_folder_sync(folder, err);
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *where)
{
    (void)stat;
    (void)kind;
    (void)where;
    return remove(path);
}

sac_status sac_folder_remove(const char *path, sac_error *err)
{
    return nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 ? SAC_OK : os_fail("remove", path, err);
}
