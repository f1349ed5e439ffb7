/* vit.c -- the network itself: from rows of patches to embeddings, as operations on one stream. */
#include "engine/vit_internal.h"

#include "kernels/half.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

size_t sac_vit_element(const sac_vit *vit)
{
    return vit->precision == SAC_F32 ? 4 : 2;
}

void sac_vit_store(const sac_vit *vit, void *array, size_t i, float value)
{
    uint16_t half;

    assert(vit->precision == SAC_F32 || vit->precision == SAC_BF16);
    if (vit->precision == SAC_F32) {
        memcpy((unsigned char *)array + i * sizeof value, &value, sizeof value);
    } else {
        half = sac_f32_to_bf16(value);
        memcpy((unsigned char *)array + i * sizeof half, &half, sizeof half);
    }
}

uint32_t sac_vit_dim(const sac_vit *vit)
{
    return vit->dim;
}

/* ---- operations -------------------------------------------------------------------------------------- */

/* The first failure stays in `st` and stops what follows. */
struct chain {
    struct sac_vit_pass *pass;
    sac_status st;
};

static void linear(struct chain *c, const sac_linear *layer, const void *x, size_t rows, void *y)
{
    if (c->st == SAC_OK)
        c->st = sac_run_linear(c->pass->ws, &(struct sac_linear_args){layer, x, rows, y});
}

static void layer_norm(struct chain *c, const struct sac_vit_norm *norm, const float *x, size_t stride,
                       size_t rows, void *y, sac_dtype y_dtype)
{
    const sac_model_config *config = &c->pass->vit->config;

    if (c->st == SAC_OK)
        c->st = sac_run_layer_norm(c->pass->ws, &(struct sac_layer_norm_args){.x = x,
                                                                              .x_stride = stride,
                                                                              .rows = rows,
                                                                              .width = config->width,
                                                                              .weight = norm->weight,
                                                                              .bias = norm->bias,
                                                                              .eps = config->eps,
                                                                              .y = y,
                                                                              .y_dtype = y_dtype});
}

/* q, k and v of each token side by side in `wide` -> h. */
static struct sac_attention_args self_attention(const struct sac_vit_pass *p)
{
    const sac_vit *vit = p->vit;
    const sac_model_config *c = &vit->config;
    const unsigned char *qkv = p->wide;
    size_t part = c->width * sac_vit_element(vit);
    uint32_t head_dim = c->width / c->heads;

    return (struct sac_attention_args){.q = qkv,
                                       .k = qkv + part,
                                       .v = qkv + 2 * part,
                                       .q_stride = 3 * (size_t)c->width,
                                       .kv_stride = 3 * (size_t)c->width,
                                       .n = p->n,
                                       .q_tokens = vit->tokens,
                                       .kv_tokens = vit->tokens,
                                       .heads = c->heads,
                                       .head_dim = head_dim,
                                       .scale = 1.0f / sqrtf((float)head_dim),
                                       .dtype = vit->precision,
                                       .y = p->h};
}

/* SigLIP's head: its one query, and k and v of each token side by side in `wide` -> row. */
static struct sac_attention_args pooling_attention(const struct sac_vit_pass *p)
{
    struct sac_attention_args args = self_attention(p);

    args.q = p->vit->head.query;
    args.k = p->wide;
    args.v = (const unsigned char *)p->wide + p->vit->config.width * sac_vit_element(p->vit);
    args.q_stride = 0;
    args.kv_stride = 2 * (size_t)p->vit->config.width;
    args.q_tokens = 1;
    args.y = p->row;
    return args;
}

static void attention(struct chain *c, struct sac_attention_args args)
{
    if (c->st == SAC_OK)
        c->st = sac_run_attention(c->pass->ws, &args);
}

/* ---- the network ------------------------------------------------------------------------------------ */

sac_status sac_vit_cut_patches(struct sac_vit_pass *p, size_t first, size_t count)
{
    const sac_vit *vit = p->vit;
    const sac_preprocess *prep = &vit->config.preprocess;
    size_t row = 3 * (size_t)vit->config.patch * vit->config.patch * sac_vit_element(vit);
    struct sac_patchify_args args = {.pictures = p->pictures + first,
                                     .n = count,
                                     .width = prep->width,
                                     .height = prep->height,
                                     .patch = vit->config.patch,
                                     .filter = prep->filter,
                                     .dtype = vit->precision,
                                     .out = (unsigned char *)p->wide + first * vit->patches * row};

    for (int i = 0; i < 3; i++) {
        args.scale[i] = 1.0f / (255.0f * prep->std[i]);
        args.shift[i] = -prep->mean[i] / prep->std[i];
    }
    return sac_run_patchify(p->ws, &args);
}

/* Rows of patches -> the residual stream. */
static void embed_patches(struct chain *c)
{
    struct sac_vit_pass *p = c->pass;
    const sac_vit *vit = p->vit;

    linear(c, vit->patch, p->wide, p->n * vit->patches, p->h);
    if (c->st == SAC_OK)
        c->st = sac_run_tokens(p->ws, &(struct sac_tokens_args){.patches = p->h,
                                                                .prefix = vit->prefix_tokens,
                                                                .position = vit->position,
                                                                .n = p->n,
                                                                .prefix_count = vit->prefix,
                                                                .patch_count = vit->patches,
                                                                .width = vit->config.width,
                                                                .out = p->x});
    if (vit->pre_norm.weight != NULL)
        layer_norm(c, &vit->pre_norm, p->x, vit->config.width, p->n * vit->tokens, p->x, SAC_F32);
}

static void run_block(struct chain *c, const struct sac_vit_block *b)
{
    struct sac_vit_pass *p = c->pass;
    const sac_vit *vit = p->vit;
    size_t rows = p->n * vit->tokens, width = vit->config.width;

    layer_norm(c, &b->norm1, p->x, width, rows, p->h, vit->precision);
    linear(c, b->qkv, p->h, rows, p->wide);
    attention(c, self_attention(p));
    linear(c, b->proj, p->h, rows, p->x);
    layer_norm(c, &b->norm2, p->x, width, rows, p->h, vit->precision);
    linear(c, b->fc1, p->h, rows, p->wide);
    linear(c, b->fc2, p->wide, rows, p->x);
}

/* The residual stream -> `pooled` [n][dim]. */
static void pool(struct chain *c)
{
    struct sac_vit_pass *p = c->pass;
    const sac_vit *vit = p->vit;
    const struct sac_vit_head *head = &vit->head;
    size_t width = vit->config.width, picture = vit->tokens * width; /* the class token comes first in each */

    if (head->query != NULL) {
        layer_norm(c, &vit->last_norm, p->x, width, p->n * vit->tokens, p->h, vit->precision);
        linear(c, head->kv, p->h, p->n * vit->tokens, p->wide);
        attention(c, pooling_attention(p));
        linear(c, head->proj, p->row, p->n, p->pooled);
        layer_norm(c, &head->norm, p->pooled, width, p->n, p->row, vit->precision);
        linear(c, head->fc1, p->row, p->n, p->row_wide);
        linear(c, head->fc2, p->row_wide, p->n, p->pooled);
    } else if (vit->projection != NULL) {
        layer_norm(c, &vit->last_norm, p->x, picture, p->n, p->row, vit->precision);
        linear(c, vit->projection, p->row, p->n, p->pooled);
    } else {
        layer_norm(c, &vit->last_norm, p->x, picture, p->n, p->pooled, SAC_F32);
    }
}

/* Shows the residual stream to whoever watches. */
static sac_status show(const struct sac_vit_pass *p, uint32_t block)
{
    size_t count = p->n * p->vit->tokens * p->vit->config.width;
    float *copy = NULL;
    sac_status st = SAC_OK;

    if (!sac_device_host_visible(p->vit->device)) {
        copy = malloc(count * sizeof *copy);
        if (copy == NULL)
            return sac_fail(p->ws->err, SAC_NO_MEMORY, "no memory for tokens to be watched");
        st = sac_stream_download(p->ws->stream, copy, p->x, count * sizeof *copy);
    }
    if (st == SAC_OK)
        st = sac_workspace_wait(p->ws);
    if (st == SAC_OK)
        p->watch->after_block(p->watch->context, block, copy != NULL ? copy : p->x, count);
    free(copy);
    return st;
}

sac_status sac_vit_run(struct sac_vit_pass *p)
{
    const sac_vit *vit = p->vit;
    struct chain chain = {.pass = p};
    struct sac_unit_rows_args unit = {.x = p->pooled,
                                      .rows = p->n,
                                      .width = vit->dim,
                                      .spoiled = sac_embeddings_word(p->pooled, p->n, vit->dim)};

    if (p->pictures != NULL)
        chain.st = sac_vit_cut_patches(p, 0, p->n);
    embed_patches(&chain);
    for (uint32_t i = 0; i < vit->config.layers; i++) {
        run_block(&chain, &vit->blocks[i]);
        if (p->watch != NULL && chain.st == SAC_OK)
            chain.st = show(p, i);
    }
    pool(&chain);
    return chain.st == SAC_OK ? sac_run_unit_rows(p->ws, &unit) : chain.st;
}

/* ---- end -------------------------------------------------------------------------------------------- */

static void close_norm(const sac_vit *vit, struct sac_vit_norm *norm)
{
    sac_buffer_free(vit->device, norm->weight);
    sac_buffer_free(vit->device, norm->bias);
}

void sac_vit_close(sac_vit *vit)
{
    const struct sac_ops *ops;

    if (vit == NULL)
        return;
    ops = sac_device_ops(vit->device);
    for (uint32_t i = 0; vit->blocks != NULL && i < vit->config.layers; i++) {
        struct sac_vit_block *b = &vit->blocks[i];

        close_norm(vit, &b->norm1);
        close_norm(vit, &b->norm2);
        ops->linear_close(b->qkv);
        ops->linear_close(b->proj);
        ops->linear_close(b->fc1);
        ops->linear_close(b->fc2);
    }
    free(vit->blocks);
    ops->linear_close(vit->patch);
    ops->linear_close(vit->projection);
    ops->linear_close(vit->head.kv);
    ops->linear_close(vit->head.proj);
    ops->linear_close(vit->head.fc1);
    ops->linear_close(vit->head.fc2);
    close_norm(vit, &vit->pre_norm);
    close_norm(vit, &vit->last_norm);
    close_norm(vit, &vit->head.norm);
    sac_buffer_free(vit->device, vit->head.query);
    sac_buffer_free(vit->device, vit->prefix_tokens);
    sac_buffer_free(vit->device, vit->position);
    sac_workspace_pool_free(&vit->memory);
    free(vit);
}
