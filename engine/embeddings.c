#include "engine/embeddings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct holder {
    sac_embeddings shown; /* first */
    sac_workspace_pool *pool;
    sac_workspace *ws;
    sac_span span; /* the rows and the word behind them */
};

size_t sac_embeddings_bytes(size_t n, uint32_t dim)
{
    return n * dim * sizeof(float) + sizeof(uint32_t);
}

uint32_t *sac_embeddings_word(float *rows, size_t n, uint32_t dim)
{
    void *word = rows + n * dim;

    return word;
}

sac_status sac_embeddings_show(sac_workspace_pool *pool, sac_workspace *ws, size_t n, uint32_t dim,
                               float *rows, sac_embeddings **out, sac_error *err)
{
    struct holder *holder = calloc(1, sizeof *holder);
    bool visible = sac_device_host_visible(ws->device);
    sac_status st = SAC_OK;

    *out = NULL;
    if (holder == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for embeddings");
    holder->pool = pool;
    holder->ws = ws;
    holder->shown = (sac_embeddings){
        .device = ws->device, .n = n, .dim = dim, .rows = rows, .spoiled = sac_embeddings_word(rows, n, dim)};
    if (!sac_workspace_view(ws, rows, 1, sac_embeddings_bytes(n, dim), &holder->span))
        st = sac_workspace_failure(ws);
    if (st == SAC_OK && !visible)
        st = sac_workspace_done(ws, &holder->shown.ready);
    if (st != SAC_OK) {
        free(holder);
        return st;
    }
    *out = &holder->shown;
    return SAC_OK;
}

static double length_of(const float *vector, uint32_t dim)
{
    double sum = 0;

    for (uint32_t i = 0; i < dim; i++)
        sum += (double)vector[i] * (double)vector[i];
    return sqrt(sum);
}

static sac_status explain_spoiled(const sac_embeddings *embeddings, const float *vectors, sac_error *err)
{
    double length = 0;

    for (size_t i = 0; i < embeddings->n; i++) {
        length = length_of(vectors + i * embeddings->dim, embeddings->dim);
        if (!(length > 0 && isfinite(length)))
            break;
    }
    return sac_fail(err, SAC_INTERNAL, "an embedding has length %g: the model's weights are unusable",
                    length);
}

sac_status sac_embeddings_fetch(sac_embeddings *embeddings, float *vectors, sac_error *err)
{
    struct holder *holder = (struct holder *)embeddings;
    size_t bytes = embeddings->n * embeddings->dim * sizeof *vectors;
    uint32_t spoiled;
    sac_status st;

    holder->ws->err = err;
    st = sac_span_pull(holder->ws, &holder->span);
    if (st != SAC_OK)
        return st;
    memcpy(vectors, holder->span.host, bytes);
    memcpy(&spoiled, (const unsigned char *)holder->span.host + bytes, sizeof spoiled);
    return spoiled == 0 ? SAC_OK : explain_spoiled(embeddings, vectors, err);
}

void sac_embeddings_release(sac_embeddings *embeddings)
{
    struct holder *holder = (struct holder *)embeddings;

    if (holder == NULL)
        return;
    sac_workspace_give_back(holder->pool, holder->ws);
    free(holder);
}
