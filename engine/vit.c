/* vit.c -- runs a network: one pass takes a few pictures from pixels to embeddings on one stream. */
#include "engine/vit_internal.h"

#include "kernels/half.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PASS_TOKENS = 8192 }; /* tokens of one pass: more only takes memory and cache */

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

static size_t picture_bytes(const sac_vit *vit)
{
    return (size_t)vit->config.preprocess.width * vit->config.preprocess.height * 3;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* ---- memory ----------------------------------------------------------------------------------------- */

enum { WORKSPACE_PARTS = 8 };

/* Bytes of each part of a workspace, in the order of its fields from pixels on. */
static void workspace_sizes(const sac_vit *vit, size_t bytes[WORKSPACE_PARTS])
{
    const sac_model_config *c = &vit->config;
    size_t element = sac_vit_element(vit), rows = (size_t)vit->batch * vit->tokens;

    bytes[0] = vit->batch * picture_bytes(vit);
    bytes[1] = rows * c->width * sizeof(float);
    bytes[2] =
        larger(rows * c->width * element, (size_t)vit->batch * vit->patches * c->width * sizeof(float));
    bytes[3] = larger(rows * larger(3 * (size_t)c->width, c->mlp) * element,
                      vit->batch * picture_bytes(vit) * element);
    bytes[4] = vit->batch * larger(c->width, vit->dim) * sizeof(float);
    bytes[5] = vit->batch * (size_t)c->width * element;
    bytes[6] = vit->batch * (size_t)c->mlp * element;
    bytes[7] = vit->batch * sizeof(struct sac_placed_picture);
    for (int i = 0; i < WORKSPACE_PARTS; i++)
        bytes[i] = (bytes[i] + 63) / 64 * 64;
}

static sac_status workspace_make(const sac_vit *vit, struct sac_vit_workspace **out, sac_error *err)
{
    struct sac_vit_workspace *w = calloc(1, sizeof *w);
    size_t bytes[WORKSPACE_PARTS], total = 0;
    unsigned char *at[WORKSPACE_PARTS];
    sac_status st;

    *out = NULL;
    if (w == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a workspace");
    workspace_sizes(vit, bytes);
    for (int i = 0; i < WORKSPACE_PARTS; i++)
        total += bytes[i];
    st = sac_buffer_alloc(vit->device, total, 1, (void **)&w->memory, err);
    if (st != SAC_OK) {
        free(w);
        return st;
    }
    at[0] = w->memory;
    for (int i = 1; i < WORKSPACE_PARTS; i++)
        at[i] = at[i - 1] + bytes[i - 1];
    w->pixels = at[0];
    w->x = (float *)at[1];
    w->h = at[2];
    w->wide = at[3];
    w->pooled = (float *)at[4];
    w->row = at[5];
    w->row_wide = at[6];
    w->pictures = (struct sac_placed_picture *)at[7];
    *out = w;
    return SAC_OK;
}

static sac_status workspace_borrow(sac_vit *vit, struct sac_vit_workspace **out, sac_error *err)
{
    pthread_mutex_lock(&vit->lock);
    *out = vit->idle;
    if (*out != NULL)
        vit->idle = (*out)->next;
    pthread_mutex_unlock(&vit->lock);
    return *out != NULL ? SAC_OK : workspace_make(vit, out, err);
}

static void workspace_give_back(sac_vit *vit, struct sac_vit_workspace *w)
{
    pthread_mutex_lock(&vit->lock);
    w->next = vit->idle;
    vit->idle = w;
    pthread_mutex_unlock(&vit->lock);
}

/* ---- operations -------------------------------------------------------------------------------------- */

/* One pass. The first failure stays in `st` and stops what follows. */
struct pass {
    const sac_vit *vit;
    const struct sac_ops *ops;
    sac_stream *stream;
    struct sac_vit_workspace *w;
    size_t n;
    sac_status st;
};

static void linear(struct pass *p, const sac_linear *layer, const void *x, size_t rows, void *y)
{
    if (p->st == SAC_OK)
        p->st = p->ops->linear(p->stream, &(struct sac_linear_args){layer, x, rows, y});
}

static void layer_norm(struct pass *p, const struct sac_vit_norm *norm, const float *x, size_t stride,
                       size_t rows, void *y, sac_dtype y_dtype)
{
    const sac_model_config *c = &p->vit->config;

    if (p->st == SAC_OK)
        p->st = p->ops->layer_norm(p->stream, &(struct sac_layer_norm_args){.x = x,
                                                                            .x_stride = stride,
                                                                            .rows = rows,
                                                                            .width = c->width,
                                                                            .weight = norm->weight,
                                                                            .bias = norm->bias,
                                                                            .eps = c->eps,
                                                                            .y = y,
                                                                            .y_dtype = y_dtype});
}

/* q, k and v of each token side by side in w->wide -> w->h. */
static struct sac_attention_args self_attention(const sac_vit *vit, const struct sac_vit_workspace *w,
                                                size_t n)
{
    const sac_model_config *c = &vit->config;
    const unsigned char *qkv = w->wide;
    size_t part = c->width * sac_vit_element(vit);
    uint32_t head_dim = c->width / c->heads;

    return (struct sac_attention_args){.q = qkv,
                                       .k = qkv + part,
                                       .v = qkv + 2 * part,
                                       .q_stride = 3 * (size_t)c->width,
                                       .kv_stride = 3 * (size_t)c->width,
                                       .n = n,
                                       .q_tokens = vit->tokens,
                                       .kv_tokens = vit->tokens,
                                       .heads = c->heads,
                                       .head_dim = head_dim,
                                       .scale = 1.0f / sqrtf((float)head_dim),
                                       .dtype = vit->precision,
                                       .y = w->h};
}

/* SigLIP's head: its one query, and k and v of each token side by side in w->wide -> w->row. */
static struct sac_attention_args pooling_attention(const sac_vit *vit, const struct sac_vit_workspace *w,
                                                   size_t n)
{
    struct sac_attention_args args = self_attention(vit, w, n);

    args.q = vit->head.query;
    args.k = w->wide;
    args.v = (const unsigned char *)w->wide + vit->config.width * sac_vit_element(vit);
    args.q_stride = 0;
    args.kv_stride = 2 * (size_t)vit->config.width;
    args.q_tokens = 1;
    args.y = w->row;
    return args;
}

static void attention(struct pass *p, struct sac_attention_args args)
{
    if (p->st == SAC_OK)
        p->st = p->ops->attention(p->stream, &args);
}

/* ---- the network ------------------------------------------------------------------------------------ */

static struct sac_patchify_args patchify_args(const sac_vit *vit, const struct sac_vit_workspace *w, size_t n)
{
    const sac_model_config *c = &vit->config;
    struct sac_patchify_args args = {.n = n,
                                     .width = c->preprocess.width,
                                     .height = c->preprocess.height,
                                     .patch = c->patch,
                                     .filter = c->preprocess.filter,
                                     .dtype = vit->precision,
                                     .out = w->wide};

    for (int i = 0; i < 3; i++) {
        args.scale[i] = 1.0f / (255.0f * c->preprocess.std[i]);
        args.shift[i] = -c->preprocess.mean[i] / c->preprocess.std[i];
    }
    return args;
}

/* Rows of patches from 8-bit pixels, normalised on the device. */
static void patches_from_pixels(struct pass *p, const uint8_t *const *pixels)
{
    const sac_preprocess *input = &p->vit->config.preprocess;
    struct sac_patchify_args args = patchify_args(p->vit, p->w, p->n);
    struct sac_placed_picture *pictures = calloc(p->n, sizeof *pictures);

    if (pictures == NULL) {
        p->st = SAC_NO_MEMORY;
        return;
    }
    for (size_t i = 0; i < p->n && p->st == SAC_OK; i++) {
        uint8_t *to = p->w->pixels + i * picture_bytes(p->vit);

        pictures[i] = (struct sac_placed_picture){.pixels = to,
                                                  .stride = (size_t)input->width * 3,
                                                  .width = input->width,
                                                  .height = input->height,
                                                  .full_width = input->width,
                                                  .full_height = input->height,
                                                  .window_width = input->width,
                                                  .window_height = input->height};
        p->st = sac_stream_upload(p->stream, to, pixels[i], picture_bytes(p->vit));
    }
    args.pictures = p->w->pictures;
    if (p->st == SAC_OK)
        p->st = sac_stream_upload(p->stream, p->w->pictures, pictures, p->n * sizeof *pictures);
    if (p->st == SAC_OK)
        p->st = p->ops->patchify(p->stream, &args);
    free(pictures);
}

/* The same from values [n][3][height][width]. */
static void patches_from_values(struct pass *p, const float *values)
{
    const sac_model_config *c = &p->vit->config;
    uint32_t width = c->preprocess.width, height = c->preprocess.height, patch = c->patch;
    size_t bytes = p->n * picture_bytes(p->vit) * sac_vit_element(p->vit), to = 0;
    void *rows = malloc(bytes);

    if (rows == NULL) {
        p->st = SAC_NO_MEMORY;
        return;
    }
    for (size_t i = 0; i < p->n * (height / patch) * (width / patch); i++) {
        size_t picture = i / ((height / patch) * (width / patch)),
               place = i % ((height / patch) * (width / patch));
        size_t top = place / (width / patch) * patch, left = place % (width / patch) * patch;

        for (size_t j = 0; j < (size_t)3 * patch * patch; j++, to++) {
            size_t channel = j / (patch * patch), y = top + j / patch % patch, x = left + j % patch;

            sac_vit_store(p->vit, rows, to, values[((picture * 3 + channel) * height + y) * width + x]);
        }
    }
    p->st = sac_stream_upload(p->stream, p->w->wide, rows, bytes);
    free(rows);
}

/* Rows of patches -> the residual stream. */
static void embed_patches(struct pass *p)
{
    const sac_vit *vit = p->vit;
    struct sac_vit_workspace *w = p->w;

    linear(p, vit->patch, w->wide, p->n * vit->patches, w->h);
    if (p->st == SAC_OK)
        p->st = p->ops->tokens(p->stream, &(struct sac_tokens_args){.patches = w->h,
                                                                    .prefix = vit->prefix_tokens,
                                                                    .position = vit->position,
                                                                    .n = p->n,
                                                                    .prefix_count = vit->prefix,
                                                                    .patch_count = vit->patches,
                                                                    .width = vit->config.width,
                                                                    .out = w->x});
    if (vit->pre_norm.weight != NULL)
        layer_norm(p, &vit->pre_norm, w->x, vit->config.width, p->n * vit->tokens, w->x, SAC_F32);
}

static void run_block(struct pass *p, const struct sac_vit_block *b)
{
    const sac_vit *vit = p->vit;
    struct sac_vit_workspace *w = p->w;
    size_t rows = p->n * vit->tokens, width = vit->config.width;

    layer_norm(p, &b->norm1, w->x, width, rows, w->h, vit->precision);
    linear(p, b->qkv, w->h, rows, w->wide);
    attention(p, self_attention(vit, w, p->n));
    linear(p, b->proj, w->h, rows, w->x);
    layer_norm(p, &b->norm2, w->x, width, rows, w->h, vit->precision);
    linear(p, b->fc1, w->h, rows, w->wide);
    linear(p, b->fc2, w->wide, rows, w->x);
}

/* The residual stream -> w->pooled [n][dim]. */
static void pool(struct pass *p)
{
    const sac_vit *vit = p->vit;
    const struct sac_vit_head *head = &vit->head;
    struct sac_vit_workspace *w = p->w;
    size_t width = vit->config.width, picture = vit->tokens * width; /* the class token comes first in each */

    if (head->query != NULL) {
        layer_norm(p, &vit->last_norm, w->x, width, p->n * vit->tokens, w->h, vit->precision);
        linear(p, head->kv, w->h, p->n * vit->tokens, w->wide);
        attention(p, pooling_attention(vit, w, p->n));
        linear(p, head->proj, w->row, p->n, w->pooled);
        layer_norm(p, &head->norm, w->pooled, width, p->n, w->row, vit->precision);
        linear(p, head->fc1, w->row, p->n, w->row_wide);
        linear(p, head->fc2, w->row_wide, p->n, w->pooled);
    } else if (vit->projection != NULL) {
        layer_norm(p, &vit->last_norm, w->x, picture, p->n, w->row, vit->precision);
        linear(p, vit->projection, w->row, p->n, w->pooled);
    } else {
        layer_norm(p, &vit->last_norm, w->x, picture, p->n, w->pooled, SAC_F32);
    }
}

static sac_status run_pass(struct pass *p, const struct sac_vit_input *input, float *vectors,
                           const struct sac_vit_watch *watch)
{
    const sac_vit *vit = p->vit;

    assert(input->pictures != NULL || input->values != NULL);
    if (input->pictures != NULL)
        patches_from_pixels(p, input->pictures);
    else
        patches_from_values(p, input->values);
    embed_patches(p);
    for (uint32_t i = 0; i < vit->config.layers; i++) {
        run_block(p, &vit->blocks[i]);
        if (watch != NULL && p->st == SAC_OK)
            p->st = sac_stream_wait(p->stream);
        if (watch != NULL && p->st == SAC_OK)
            watch->after_block(watch->context, i, p->w->x, p->n * vit->tokens * vit->config.width);
    }
    pool(p);
    if (p->st == SAC_OK)
        p->st = sac_stream_download(p->stream, vectors, p->w->pooled, p->n * vit->dim * sizeof(float));
    return p->st == SAC_OK ? sac_stream_wait(p->stream) : p->st;
}

sac_status sac_vit_embed(sac_vit *vit, size_t n, const struct sac_vit_input *input, float *vectors,
                         const struct sac_vit_watch *watch, sac_error *err)
{
    struct pass pass = {.vit = vit, .ops = sac_device_ops(vit->device)};
    struct sac_vit_input part = *input;
    sac_status st = sac_stream_borrow(vit->device, vit->scratch_bytes, &pass.stream, err);

    if (st != SAC_OK)
        return st;
    st = workspace_borrow(vit, &pass.w, err);
    for (size_t done = 0; st == SAC_OK && done < n; done += pass.n) {
        pass.n = n - done < vit->batch ? n - done : vit->batch;
        part.pictures = input->pictures != NULL ? input->pictures + done : NULL;
        part.values = input->values != NULL ? input->values + done * picture_bytes(vit) : NULL;
        st = run_pass(&pass, &part, vectors + done * vit->dim, watch);
        if (st != SAC_OK)
            sac_fail(err, st, "a pass of %zu pictures through the network failed: %s", pass.n,
                     sac_status_text(st));
    }
    if (pass.w != NULL)
        workspace_give_back(vit, pass.w);
    sac_stream_give_back(pass.stream);
    return st;
}

/* ---- plan and end ----------------------------------------------------------------------------------- */

static void need_linear(sac_vit *vit, const sac_linear *layer)
{
    struct sac_linear_args args = {.linear = layer, .rows = 1};

    if (layer != NULL)
        vit->scratch_bytes =
            larger(vit->scratch_bytes, sac_device_ops(vit->device)->linear_scratch(vit->device, &args));
}

static void need_attention(sac_vit *vit, const struct sac_attention_args *args)
{
    vit->scratch_bytes =
        larger(vit->scratch_bytes, sac_device_ops(vit->device)->attention_scratch(vit->device, args));
}

static void plan_scratch(sac_vit *vit, const struct sac_vit_workspace *w)
{
    struct sac_attention_args self = self_attention(vit, w, vit->batch);
    struct sac_attention_args pooling = pooling_attention(vit, w, vit->batch);
    struct sac_patchify_args patchify = patchify_args(vit, w, vit->batch);

    vit->scratch_bytes = sac_device_ops(vit->device)->patchify_scratch(vit->device, &patchify);
    need_attention(vit, &self);
    need_attention(vit, &pooling);
    need_linear(vit, vit->patch);
    for (uint32_t i = 0; i < vit->config.layers; i++) {
        need_linear(vit, vit->blocks[i].qkv);
        need_linear(vit, vit->blocks[i].proj);
        need_linear(vit, vit->blocks[i].fc1);
        need_linear(vit, vit->blocks[i].fc2);
    }
    need_linear(vit, vit->projection);
    need_linear(vit, vit->head.kv);
    need_linear(vit, vit->head.proj);
    need_linear(vit, vit->head.fc1);
    need_linear(vit, vit->head.fc2);
}

sac_status sac_vit_plan(sac_vit *vit, uint32_t batch_max, sac_error *err)
{
    uint32_t most = PASS_TOKENS / vit->tokens > 0 ? PASS_TOKENS / vit->tokens : 1;
    struct sac_vit_workspace *w;
    sac_stream *stream;
    sac_status st;

    vit->batch = batch_max < most ? batch_max : most;
    st = workspace_make(vit, &w, err);
    if (st != SAC_OK)
        return st;
    assert(w != NULL);
    workspace_give_back(vit, w);
    plan_scratch(vit, w);
    st = sac_stream_borrow(vit->device, vit->scratch_bytes, &stream, err);
    sac_stream_give_back(stream);
    return st;
}

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
    while (vit->idle != NULL) {
        struct sac_vit_workspace *w = vit->idle;

        vit->idle = w->next;
        sac_buffer_free(vit->device, w->memory);
        free(w);
    }
    pthread_mutex_destroy(&vit->lock);
    free(vit);
}
