#include "engine/weights.h"

#include "engine/json_file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 4096, SHARDS_MAX = 1024, DIGEST_CHUNK = 1 << 20 };

struct shard {
    char *path;
    sac_safetensors *file;
    bool *used; /* for each tensor of the file */
};

struct sac_weights {
    size_t shard_count;
    struct shard *shards; /* ascending in path */
};

static sac_status add_shard(sac_weights *w, const char *folder, const char *name, sac_error *err)
{
    struct shard *shard = &w->shards[w->shard_count];
    char path[PATH_SIZE];
    size_t count;
    sac_status st;

    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "the path of %s is too long", name);
    st = sac_safetensors_open(path, &shard->file, err);
    if (st != SAC_OK)
        return st;
    w->shard_count++; /* from here on sac_weights_close() frees it */
    (void)sac_safetensors_tensors(shard->file, &count);
    shard->path = strdup(path);
    shard->used = calloc(count + 1, sizeof shard->used[0]);
    if (shard->path == NULL || shard->used == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for the tensors of %s", path);
    return SAC_OK;
}

/* ---- the index of a sharded model -------------------------------------------------------------------- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The different file names of weight_map, sorted. They point into the JSON. */
static sac_status shard_names(json_t *map, const char **names, size_t *count, sac_error *err)
{
    const char *tensor;
    json_t *value;

    *count = 0;
    json_object_foreach(map, tensor, value)
    {
        const char *name = json_string_value(value);
        bool known = false;

        if (name == NULL || name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL)
            return sac_fail(err, SAC_MALFORMED,
                            "model.safetensors.index.json: tensor %.200s is in no plain file name", tensor);
        for (size_t i = 0; i < *count && !known; i++)
            known = strcmp(names[i], name) == 0;
        if (known)
            continue;
        if (*count == SHARDS_MAX)
            return sac_fail(err, SAC_TOO_LARGE, "model.safetensors.index.json: more than %d shards",
                            SHARDS_MAX);
        names[(*count)++] = name;
    }
    qsort(names, *count, sizeof names[0], by_text);
    return SAC_OK;
}

static const sac_tensor *find(const sac_weights *w, const char *name, size_t *shard)
{
    for (*shard = 0; *shard < w->shard_count; (*shard)++) {
        const sac_tensor *t = sac_safetensors_find(w->shards[*shard].file, name);

        if (t != NULL)
            return t;
    }
    return NULL;
}

/* Every tensor of the map is in some shard, and no shard has a tensor twice or one more. */
static sac_status check_map(const sac_weights *w, json_t *map, sac_error *err)
{
    size_t total = 0;
    const char *name;
    json_t *value;

    json_object_foreach(map, name, value)
    {
        size_t shard;

        if (find(w, name, &shard) == NULL)
            return sac_fail(err, SAC_MALFORMED,
                            "tensor %.200s of model.safetensors.index.json is in no shard", name);
    }
    for (size_t i = 0; i < w->shard_count; i++) {
        size_t count;

        (void)sac_safetensors_tensors(w->shards[i].file, &count);
        total += count;
    }
    if (total != json_object_size(map))
        return sac_fail(err, SAC_MALFORMED,
                        "model.safetensors.index.json names %zu tensors, its shards hold %zu",
                        json_object_size(map), total);
    return SAC_OK;
}

static sac_status open_shards(sac_weights *w, const char *folder, json_t *index, sac_error *err)
{
    json_t *map = json_object_get(index, "weight_map");
    const char **names;
    size_t count = 0;
    sac_status st;

    if (!json_is_object(map) || json_object_size(map) == 0)
        return sac_fail(err, SAC_MALFORMED, "model.safetensors.index.json has no weight_map");
    names = calloc(SHARDS_MAX, sizeof(char *));
    w->shards = calloc(SHARDS_MAX, sizeof w->shards[0]);
    if (names == NULL || w->shards == NULL) {
        free(names);
        return sac_fail(err, SAC_NO_MEMORY, "no memory for %d shards", SHARDS_MAX);
    }
    st = shard_names(map, names, &count, err);
    for (size_t i = 0; st == SAC_OK && i < count; i++)
        st = add_shard(w, folder, names[i], err);
    free(names);
    return st != SAC_OK ? st : check_map(w, map, err);
}

static sac_status open_all(sac_weights *w, const char *folder, sac_error *err)
{
    json_t *index;
    sac_status st = sac_json_file_load(folder, "model.safetensors.index.json", &index, err);

    if (st == SAC_NOT_FOUND) {
        w->shards = calloc(1, sizeof w->shards[0]);
        if (w->shards == NULL)
            return sac_fail(err, SAC_NO_MEMORY, "no memory for weights");
        return add_shard(w, folder, "model.safetensors", err);
    }
    if (st != SAC_OK)
        return st;
    st = open_shards(w, folder, index, err);
    json_decref(index);
    return st;
}

sac_status sac_weights_open(const char *folder, sac_weights **out, sac_error *err)
{
    sac_weights *w = calloc(1, sizeof *w);
    sac_status st;

    *out = NULL;
    if (w == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for weights");
    st = open_all(w, folder, err);
    if (st != SAC_OK) {
        sac_weights_close(w);
        return st;
    }
    *out = w;
    return SAC_OK;
}

void sac_weights_close(sac_weights *weights)
{
    if (weights == NULL)
        return;
    for (size_t i = 0; i < weights->shard_count; i++) {
        sac_safetensors_close(weights->shards[i].file);
        free(weights->shards[i].used);
        free(weights->shards[i].path);
    }
    free(weights->shards);
    free(weights);
}

/* ---- tensors ---------------------------------------------------------------------------------------- */

const sac_tensor *sac_weights_find(const sac_weights *weights, const char *name)
{
    size_t shard;

    return find(weights, name, &shard);
}

sac_status sac_weights_read(sac_weights *weights, const char *name, uint64_t count, float *out,
                            sac_error *err)
{
    size_t shard, total;
    const sac_tensor *t = find(weights, name, &shard);

    if (t == NULL)
        return sac_fail(err, SAC_MALFORMED, "the weights have no tensor %s", name);
    if (t->count != count)
        return sac_fail(err, SAC_MALFORMED,
                        "tensor %s has %llu elements where the configuration asks for %llu", name,
                        (unsigned long long)t->count, (unsigned long long)count);
    weights->shards[shard].used[t - sac_safetensors_tensors(weights->shards[shard].file, &total)] = true;
    return sac_safetensors_read(weights->shards[shard].file, t, out, err);
}

const char *sac_weights_unused(const sac_weights *weights, bool (*expected)(const char *name))
{
    for (size_t s = 0; s < weights->shard_count; s++) {
        size_t count;
        const sac_tensor *t = sac_safetensors_tensors(weights->shards[s].file, &count);

        for (size_t i = 0; i < count; i++)
            if (!weights->shards[s].used[i] && !expected(t[i].name))
                return t[i].name;
    }
    return NULL;
}

/* ---- digest ----------------------------------------------------------------------------------------- */

static sac_status digest_file(EVP_MD_CTX *sha, const char *path, sac_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    unsigned char *chunk = malloc(DIGEST_CHUNK);
    sac_status st = SAC_OK;

    if (fd < 0)
        st = sac_fail(err, SAC_IO, "%s: %s", path, strerror(errno));
    else if (chunk == NULL)
        st = sac_fail(err, SAC_NO_MEMORY, "no memory to read %s", path);
    while (st == SAC_OK) {
        ssize_t got = read(fd, chunk, DIGEST_CHUNK);

        if (got == 0)
            break;
        if (got < 0 && errno != EINTR)
            st = sac_fail(err, SAC_IO, "reading %s: %s", path, strerror(errno));
        else if (got > 0 && EVP_DigestUpdate(sha, chunk, (size_t)got) != 1)
            st = sac_fail(err, SAC_INTERNAL, "SHA-256 failed");
    }
    free(chunk);
    if (fd >= 0)
        close(fd);
    return st;
}

sac_status sac_weights_digest(const sac_weights *weights, unsigned char digest[SAC_SHA256_BYTES],
                              sac_error *err)
{
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    sac_status st = SAC_OK;

    if (sha == NULL || EVP_DigestInit_ex(sha, EVP_sha256(), NULL) != 1)
        st = sac_fail(err, SAC_INTERNAL, "SHA-256 is not available");
    for (size_t i = 0; st == SAC_OK && i < weights->shard_count; i++)
        st = digest_file(sha, weights->shards[i].path, err);
    if (st == SAC_OK && EVP_DigestFinal_ex(sha, digest, NULL) != 1)
        st = sac_fail(err, SAC_INTERNAL, "SHA-256 failed");
    EVP_MD_CTX_free(sha);
    return st;
}
