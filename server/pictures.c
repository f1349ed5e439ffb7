#include "server/pictures.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { THREADS_MAX = 64 };

/* ---- bytes -------------------------------------------------------------------------------------------- */

/* Reads to the end, at most limit bytes. */
static sac_status read_all(int fd, const char *path, size_t limit, void **out, size_t *size, sac_error *err)
{
    size_t capacity = 256u << 10, used = 0;
    char *bytes = malloc(capacity);
    ssize_t n = 1;

    while (bytes != NULL && n > 0) {
        if (used == capacity) {
            char *grown = realloc(bytes, capacity *= 2);
            if (grown == NULL)
                free(bytes);
            bytes = grown;
            continue;
        }
        do
            n = read(fd, bytes + used, capacity - used);
        while (n < 0 && errno == EINTR);
        used += n > 0 ? (size_t)n : 0;
        if (used > limit) {
            free(bytes);
            return sac_fail(err, SAC_IMAGE_REJECTED, "%s: a picture's file may have %zu bytes at most", path,
                            limit);
        }
    }
    if (bytes == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "%s: no memory for the picture's bytes", path);
    if (n < 0) {
        free(bytes);
        return sac_fail(err, SAC_IO, "%s: %s", path, strerror(errno));
    }
    *out = bytes;
    *size = used;
    return SAC_OK;
}

sac_status sac_picture_read(const char *path, void **bytes, size_t *size, sac_error *err)
{
    sac_image_limits limits;
    struct stat info;
    sac_status st;
    int fd;

    *bytes = NULL;
    *size = 0;
    sac_image_limits_init(&limits);
    if (strcmp(path, "-") == 0)
        return read_all(STDIN_FILENO, "standard input", limits.bytes, bytes, size, err);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hold us up */
    if (fd < 0)
        return sac_fail(err, errno == ENOENT || errno == ENOTDIR ? SAC_NOT_FOUND : SAC_IO, "%s: %s", path,
                        strerror(errno));
    if (fstat(fd, &info) != 0)
        st = sac_fail(err, SAC_IO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        st = sac_fail(err, SAC_IMAGE_REJECTED, "%s: no regular file", path);
    else
        st = read_all(fd, path, limits.bytes, bytes, size, err);
    close(fd);
    return st;
}

/* ---- batches ------------------------------------------------------------------------------------------ */

struct batch {
    const struct sac_pictures *all;
    size_t first, count;
    atomic_size_t next;      /* picture of the batch that no thread has taken */
    sac_prepared **prepared; /* [count]; NULL where it failed */
    sac_error *errors;       /* [count]; status SAC_OK where the picture is good */
};

/* The decoder does not know what it decodes is called. */
static sac_status prepare_named(const struct sac_pictures *all, const char *path, sac_prepared **prepared,
                                sac_error *error)
{
    sac_error why;
    void *bytes;
    size_t size;
    sac_status st = sac_picture_read(path, &bytes, &size, error);

    *prepared = NULL;
    if (st != SAC_OK)
        return st;
    st = sac_encoder_prepare(all->encoder, bytes, size, all->crop, prepared, &why);
    free(bytes);
    return st == SAC_OK ? SAC_OK : sac_fail(error, st, "%s: %s", path, why.text);
}

static void prepare_one(struct batch *b, size_t i)
{
    const char *path = b->all->paths[b->first + i];

    b->errors[i].status = prepare_named(b->all, path, &b->prepared[i], &b->errors[i]);
}

static void *prepare_some(void *context)
{
    struct batch *b = context;
    size_t i;

    while ((i = atomic_fetch_add(&b->next, 1)) < b->count)
        prepare_one(b, i);
    return NULL;
}

static void prepare_all(struct batch *b)
{
    pthread_t helpers[THREADS_MAX];
    size_t wanted = b->all->threads < b->count ? b->all->threads : b->count, started = 0;

    atomic_store(&b->next, 0);
    while (started + 1 < wanted && started < THREADS_MAX &&
           pthread_create(&helpers[started], NULL, prepare_some, b) == 0)
        started++;
    prepare_some(b); /* whatever could be started, the work gets done */
    while (started > 0)
        pthread_join(helpers[--started], NULL);
}

sac_status sac_pictures_prepare(const struct sac_pictures *all, sac_pictures_fn fn, void *context,
                                sac_error *err)
{
    size_t capacity = all->count < SAC_PICTURES_BATCH ? all->count : SAC_PICTURES_BATCH;
    struct batch b = {.all = all};
    sac_status st = SAC_OK;

    if (all->count == 0)
        return SAC_OK;
    b.prepared = calloc(capacity, sizeof(sac_prepared *));
    b.errors = calloc(capacity, sizeof *b.errors);
    if (b.prepared == NULL || b.errors == NULL)
        st = sac_fail(err, SAC_NO_MEMORY, "no memory for a batch of %zu pictures", capacity);
    while (st == SAC_OK && b.first < all->count) {
        b.count = all->count - b.first < capacity ? all->count - b.first : capacity;
        prepare_all(&b);
        st = fn(context, b.first, b.count, b.prepared, b.errors, err);
        for (size_t i = 0; i < b.count; i++)
            sac_prepared_free(b.prepared[i]);
        b.first += b.count;
    }
    free(b.prepared);
    free(b.errors);
    return st;
}

/* Moves the good pictures together, embeds them, and hands out vectors and errors in order. */
static sac_status embed_batch(void *context, size_t first, size_t n, sac_prepared *const *prepared,
                              const sac_error *errors, sac_error *err)
{
    const struct sac_pictures *all = context;
    sac_prepared *good[SAC_PICTURES_BATCH];
    size_t count = 0, dim = sac_encoder_dim(all->encoder);
    float *vectors = calloc(n, dim * sizeof *vectors), *vector = vectors;
    sac_status st;

    if (vectors == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a batch of %zu pictures", n);
    for (size_t i = 0; i < n; i++)
        if (prepared[i] != NULL)
            good[count++] = prepared[i];
    st = sac_encoder_embed(all->encoder, count, good, vectors, err);
    for (size_t i = 0; st == SAC_OK && i < n; i++) {
        bool ok = prepared[i] != NULL;
        st = all->done(all->context, first + i, ok ? vector : NULL, ok ? NULL : &errors[i]);
        vector += ok ? dim : 0;
    }
    free(vectors);
    return st;
}

sac_status sac_pictures_embed(const struct sac_pictures *all, sac_error *err)
{
    return sac_pictures_prepare(all, embed_batch, (void *)all, err);
}
