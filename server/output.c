#include "server/output.h"

#include <assert.h>
#include <stdlib.h>

#define SMALL_REPLY 4096u
#define CHUNK_BYTES 16384u

struct sac_output_chunk {
    struct sac_output_chunk *next;
    char *bytes;
    size_t start, end, capacity; /* [start, end) is not written yet */
    bool sealed;
};

static struct sac_output_chunk *append(struct sac_output *output, char *bytes, size_t size, size_t capacity)
{
    struct sac_output_chunk *chunk = calloc(1, sizeof *chunk);

    if (chunk == NULL)
        return NULL;
    chunk->bytes = bytes;
    chunk->end = size;
    chunk->capacity = capacity;
    if (output->tail != NULL)
        output->tail->next = chunk;
    else
        output->head = chunk;
    output->tail = chunk;
    output->bytes += capacity + sizeof *chunk;
    return chunk;
}

static bool add_small(struct sac_output *output, const msgpack_sbuffer *reply)
{
    struct sac_output_chunk *chunk = output->tail;

    if (chunk == NULL || chunk->sealed || chunk->capacity - chunk->end < reply->size) {
        char *bytes = malloc(CHUNK_BYTES);
        chunk = bytes != NULL ? append(output, bytes, 0, CHUNK_BYTES) : NULL;
        if (chunk == NULL) {
            free(bytes);
            return false;
        }
    }
    memcpy(chunk->bytes + chunk->end, reply->data, reply->size);
    chunk->end += reply->size;
    return true;
}

bool sac_output_add(struct sac_output *output, msgpack_sbuffer *reply)
{
    if (reply->size <= SMALL_REPLY) {
        if (!add_small(output, reply))
            return false;
        msgpack_sbuffer_destroy(reply);
        msgpack_sbuffer_init(reply);
        return true;
    }
    size_t size = reply->size, capacity = reply->alloc;
    struct sac_output_chunk *chunk = append(output, NULL, size, capacity);
    if (chunk == NULL)
        return false;
    chunk->bytes = msgpack_sbuffer_release(reply);
    chunk->sealed = true;
    return true;
}

unsigned sac_output_gather(struct sac_output *output, uv_buf_t *buffers, unsigned max, bool seal)
{
    unsigned n = 0;

    for (struct sac_output_chunk *c = output->head; c != NULL && n < max; c = c->next) {
        buffers[n++] = uv_buf_init(c->bytes + c->start, (unsigned)(c->end - c->start));
        c->sealed = c->sealed || seal;
    }
    return n;
}

void sac_output_consume(struct sac_output *output, size_t n)
{
    while (n > 0) {
        struct sac_output_chunk *chunk = output->head;
        assert(chunk != NULL);
        size_t here = chunk->end - chunk->start;
        if (n < here) {
            chunk->start += n;
            return;
        }
        n -= here;
        output->head = chunk->next;
        if (output->head == NULL)
            output->tail = NULL;
        output->bytes -= chunk->capacity + sizeof *chunk;
        free(chunk->bytes);
        free(chunk);
    }
}

void sac_output_free(struct sac_output *output)
{
    while (output->head != NULL) {
        struct sac_output_chunk *chunk = output->head;
        output->head = chunk->next;
        free(chunk->bytes);
        free(chunk);
    }
    *output = (struct sac_output){0};
}
