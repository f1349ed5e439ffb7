#include "engine/json_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 4096 };
static const size_t bytes_max = (size_t)16 << 20;

static sac_status read_all(FILE *stream, const char *path, char **out, size_t *size, sac_error *err)
{
    char *bytes = malloc(bytes_max + 1);

    if (bytes == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to read %s", path);
    *size = fread(bytes, 1, bytes_max + 1, stream);
    *out = bytes;
    if (ferror(stream))
        return sac_fail(err, SAC_IO, "reading %s: %s", path, strerror(errno));
    if (*size > bytes_max)
        return sac_fail(err, SAC_TOO_LARGE, "%s: over %zu bytes", path, bytes_max);
    return SAC_OK;
}

sac_status sac_json_file_load(const char *folder, const char *name, json_t **out, sac_error *err)
{
    char path[PATH_SIZE], *bytes = NULL;
    json_error_t where;
    size_t size = 0;
    FILE *stream;
    sac_status st;

    *out = NULL;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "the path of %s is too long", name);
    stream = fopen(path, "rbe");
    if (stream == NULL)
        return sac_fail(err, errno == ENOENT || errno == ENOTDIR ? SAC_NOT_FOUND : SAC_IO, "%s: %s", path,
                        strerror(errno));
    st = read_all(stream, path, &bytes, &size, err);
    fclose(stream);
    if (st == SAC_OK) {
        *out = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &where);
        if (*out == NULL)
            st = sac_fail(err, SAC_MALFORMED, "%s: %s at line %d", path, where.text, where.line);
        else if (!json_is_object(*out)) {
            json_decref(*out);
            *out = NULL;
            st = sac_fail(err, SAC_MALFORMED, "%s: must hold a JSON object", path);
        }
    }
    free(bytes);
    return st;
}
