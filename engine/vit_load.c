/* vit_load.c -- from the tensors of a model folder to the packed layers of a network.
 *
 * The families name the same parts differently; the tables below say how. Shapes follow from the
 * configuration and are checked tensor by tensor, and a tensor that nobody asked for is refused: a network
 * with parts we do not know would silently be computed wrong. */
#include "engine/vit_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_SIZE = 256, TOKENS_MAX = 1 << 16 };

/* ---- names ------------------------------------------------------------------------------------------ */

struct names {
    const char *prefixes[3]; /* what all names of a published checkpoint may begin with */
    const char *patch, *class_token, *registers, *position;
    const char *blocks; /* followed by the number and a dot */
    const char *norm1, *norm2, *q, *k, *v, *qkv, *proj, *fc1, *fc2;
    const char *scale1, *scale2; /* of layer scale, or NULL */
    const char *gate_up;         /* SwiGLU's two halves in one matrix, as fc1; fc2 is down */
    const char *pre_norm, *last_norm;
};

static const struct names timm_names = {
    .prefixes = {""},
    .patch = "patch_embed.proj",
    .class_token = "cls_token",
    .registers = "reg_token",
    .position = "pos_embed",
    .blocks = "blocks.",
    .norm1 = "norm1",
    .norm2 = "norm2",
    .qkv = "attn.qkv",
    .proj = "attn.proj",
    .fc1 = "mlp.fc1",
    .fc2 = "mlp.fc2",
    .scale1 = "ls1.gamma",
    .scale2 = "ls2.gamma",
    .last_norm = "norm",
};

static const struct names clip_names = {
    .prefixes = {"vision_model.", ""},
    .patch = "embeddings.patch_embedding",
    .class_token = "embeddings.class_embedding",
    .position = "embeddings.position_embedding.weight",
    .blocks = "encoder.layers.",
    .norm1 = "layer_norm1",
    .norm2 = "layer_norm2",
    .q = "self_attn.q_proj",
    .k = "self_attn.k_proj",
    .v = "self_attn.v_proj",
    .proj = "self_attn.out_proj",
    .fc1 = "mlp.fc1",
    .fc2 = "mlp.fc2",
    .pre_norm = "pre_layrnorm", /* as it was published */
    .last_norm = "post_layernorm",
};

static const struct names siglip_names = {
    .prefixes = {"vision_model.", ""},
    .patch = "embeddings.patch_embedding",
    .position = "embeddings.position_embedding.weight",
    .blocks = "encoder.layers.",
    .norm1 = "layer_norm1",
    .norm2 = "layer_norm2",
    .q = "self_attn.q_proj",
    .k = "self_attn.k_proj",
    .v = "self_attn.v_proj",
    .proj = "self_attn.out_proj",
    .fc1 = "mlp.fc1",
    .fc2 = "mlp.fc2",
    .last_norm = "post_layernorm",
};

static const struct names dinov2_names = {
    .prefixes = {"", "dinov2.", "dinov2_with_registers."},
    .patch = "embeddings.patch_embeddings.projection",
    .class_token = "embeddings.cls_token",
    .registers = "embeddings.register_tokens",
    .position = "embeddings.position_embeddings",
    .blocks = "encoder.layer.",
    .norm1 = "norm1",
    .norm2 = "norm2",
    .q = "attention.attention.query",
    .k = "attention.attention.key",
    .v = "attention.attention.value",
    .proj = "attention.output.dense",
    .fc1 = "mlp.fc1",
    .fc2 = "mlp.fc2",
    .scale1 = "layer_scale1.lambda1",
    .scale2 = "layer_scale2.lambda1",
    .gate_up = "mlp.weights_in",
    .last_norm = "layernorm",
};

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool ends(const char *text, const char *with)
{
    size_t length = strlen(text), tail = strlen(with);

    return length >= tail && strcmp(text + length - tail, with) == 0;
}

static bool timm_expected(const char *name)
{
    return begins(name, "head.");
}

static bool text_tower_expected(const char *name)
{
    return begins(name, "text_model.") || begins(name, "text_projection.") || begins(name, "logit_") ||
           ends(name, "position_ids");
}

static bool dinov2_expected(const char *name)
{
    return ends(name, "mask_token") || begins(name, "classifier.");
}

static const struct {
    const struct names *names;
    bool (*expected)(const char *name); /* tensors that an embedding does not need */
} families[] = {
    [SAC_MODEL_TIMM] = {&timm_names, timm_expected},
    [SAC_MODEL_CLIP] = {&clip_names, text_tower_expected},
    [SAC_MODEL_DINOV2] = {&dinov2_names, dinov2_expected},
    [SAC_MODEL_SIGLIP] = {&siglip_names, text_tower_expected},
};

/* ---- tensors ---------------------------------------------------------------------------------------- */

struct loader {
    sac_vit *vit;
    sac_weights *weights;
    const struct names *names;
    const char *prefix;
    sac_stream *stream;
    sac_error *err;
};

struct full_name {
    char text[NAME_SIZE];
};

/* prefix + blocks.N. + part + suffix; block < 0: outside of blocks. Names of ours are far shorter than the
 * buffer. */
static struct full_name name_of(const struct loader *l, int block, const char *part, const char *suffix)
{
    struct full_name name;

    if (block < 0)
        snprintf(name.text, sizeof name.text, "%s%s%s", l->prefix, part, suffix);
    else
        snprintf(name.text, sizeof name.text, "%s%s%d.%s%s", l->prefix, l->names->blocks, block, part,
                 suffix);
    return name;
}

static bool has(const struct loader *l, int block, const char *part, const char *suffix)
{
    struct full_name name = name_of(l, block, part, suffix);

    return sac_weights_find(l->weights, name.text) != NULL;
}

static sac_status read_part(struct loader *l, int block, const char *part, const char *suffix, uint64_t count,
                            float *out)
{
    struct full_name name = name_of(l, block, part, suffix);

    return sac_weights_read(l->weights, name.text, count, out, l->err);
}

static float *floats(struct loader *l, size_t count, sac_status *st)
{
    float *memory = calloc(count, sizeof *memory);

    if (memory == NULL && *st == SAC_OK)
        *st = sac_fail(l->err, SAC_NO_MEMORY, "no memory for %zu weights", count);
    return memory;
}

/* Copies host floats to a new device buffer. */
static sac_status to_device(struct loader *l, const void *from, size_t bytes, void **out)
{
    sac_status st = sac_buffer_alloc(l->vit->device, bytes, 1, out, l->err);

    if (st == SAC_OK)
        st = sac_stream_upload(l->stream, *out, from, bytes);
    return st == SAC_OK ? sac_stream_wait(l->stream) : st;
}

static sac_status load_vector(struct loader *l, int block, const char *part, const char *suffix,
                              uint32_t count, float **out)
{
    sac_status st = SAC_OK;
    float *host = floats(l, count, &st);

    if (st == SAC_OK)
        st = read_part(l, block, part, suffix, count, host);
    if (st == SAC_OK)
        st = to_device(l, host, count * sizeof(float), (void **)out);
    free(host);
    return st;
}

static sac_status load_norm(struct loader *l, int block, const char *part, struct sac_vit_norm *norm)
{
    sac_status st = load_vector(l, block, part, ".weight", l->vit->config.width, &norm->weight);

    return st != SAC_OK ? st : load_vector(l, block, part, ".bias", l->vit->config.width, &norm->bias);
}

/* ---- layers ----------------------------------------------------------------------------------------- */

/* How a layer is put together: up to three matrices stacked, their rows perhaps scaled. */
struct layer {
    int block;
    const char *parts[3]; /* each gives out / (how many there are) rows */
    const char *weight_suffix, *bias_suffix;
    bool bias_optional;
    const char *scale; /* layer scale by row, or NULL */
    uint32_t in, out;
    sac_dtype y_dtype;
    sac_activation activation;
    bool residual;
};

static sac_status scale_rows(struct loader *l, const struct layer *layer, float *weight, float *bias)
{
    sac_status st = SAC_OK;
    float *scale = floats(l, layer->out, &st);

    if (st == SAC_OK)
        st = read_part(l, layer->block, layer->scale, "", layer->out, scale);
    for (uint32_t j = 0; st == SAC_OK && j < layer->out; j++) {
        bias[j] *= scale[j];
        for (uint32_t i = 0; i < layer->in; i++)
            weight[(size_t)j * layer->in + i] *= scale[j];
    }
    free(scale);
    return st;
}

static sac_status read_layer(struct loader *l, const struct layer *layer, float *weight, float *bias)
{
    uint32_t count = layer->parts[1] == NULL ? 1 : layer->parts[2] == NULL ? 2 : 3;
    uint32_t rows = layer->out / count;
    sac_status st = SAC_OK;

    for (uint32_t i = 0; st == SAC_OK && i < count; i++) {
        st = read_part(l, layer->block, layer->parts[i], layer->weight_suffix, (uint64_t)rows * layer->in,
                       weight + (size_t)i * rows * layer->in);
        if (st != SAC_OK || layer->bias_suffix == NULL ||
            (layer->bias_optional && !has(l, layer->block, layer->parts[i], layer->bias_suffix)))
            continue;
        st = read_part(l, layer->block, layer->parts[i], layer->bias_suffix, rows, bias + i * rows);
    }
    if (st == SAC_OK && layer->scale != NULL)
        st = scale_rows(l, layer, weight, bias);
    return st;
}

static sac_status load_layer(struct loader *l, struct layer layer, sac_linear **out)
{
    const sac_vit *vit = l->vit;
    sac_status st = SAC_OK;
    float *weight = floats(l, (size_t)layer.in * layer.out, &st), *bias = floats(l, layer.out, &st);

    if (layer.weight_suffix == NULL) {
        layer.weight_suffix = ".weight";
        layer.bias_suffix = ".bias";
    }
    if (st == SAC_OK)
        st = read_layer(l, &layer, weight, bias);
    if (st == SAC_OK)
        st = sac_device_ops(vit->device)
                 ->linear_open(vit->device,
                               &(struct sac_linear_params){.in = layer.in,
                                                           .out = layer.out,
                                                           .weight = weight,
                                                           .bias = bias,
                                                           .precision = vit->precision,
                                                           .y_dtype = layer.y_dtype,
                                                           .activation = layer.activation,
                                                           .residual = layer.residual},
                               out, l->err);
    free(weight);
    free(bias);
    return st;
}

static sac_status load_qkv(struct loader *l, int block, sac_linear **out)
{
    const struct names *n = l->names;
    struct layer layer = {.block = block,
                          .bias_optional = true,
                          .in = l->vit->config.width,
                          .out = 3 * l->vit->config.width,
                          .y_dtype = l->vit->precision};

    if (n->qkv != NULL) {
        layer.parts[0] = n->qkv;
    } else {
        layer.parts[0] = n->q;
        layer.parts[1] = n->k;
        layer.parts[2] = n->v;
    }
    return load_layer(l, layer, out);
}

static sac_status load_mlp(struct loader *l, int block, struct sac_vit_block *b)
{
    const struct names *n = l->names;
    const sac_model_config *c = &l->vit->config;
    bool swiglu = c->activation == SAC_ACTIVATION_SWIGLU;
    const char *scale = n->scale2 != NULL && has(l, block, n->scale2, "") ? n->scale2 : NULL;
    struct layer first = {.block = block,
                          .parts = {n->fc1},
                          .in = c->width,
                          .out = swiglu ? 2 * c->mlp : c->mlp,
                          .y_dtype = l->vit->precision,
                          .activation = c->activation};
    struct layer second = {
        .block = block, .parts = {n->fc2}, .scale = scale, .in = c->mlp, .out = c->width, .residual = true};
    sac_status st;

    if (swiglu && has(l, block, n->gate_up, ".weight")) {
        first.parts[0] = n->gate_up;
        second.parts[0] = "mlp.weights_out";
    } else if (swiglu) {
        first.parts[0] = "mlp.gate_proj";
        first.parts[1] = "mlp.up_proj";
        second.parts[0] = "mlp.down_proj";
    }
    st = load_layer(l, first, &b->fc1);
    return st != SAC_OK ? st : load_layer(l, second, &b->fc2);
}

static sac_status load_block(struct loader *l, int block, struct sac_vit_block *b)
{
    const struct names *n = l->names;
    uint32_t width = l->vit->config.width;
    const char *scale = n->scale1 != NULL && has(l, block, n->scale1, "") ? n->scale1 : NULL;
    sac_status st = load_norm(l, block, n->norm1, &b->norm1);

    if (st == SAC_OK)
        st = load_norm(l, block, n->norm2, &b->norm2);
    if (st == SAC_OK)
        st = load_qkv(l, block, &b->qkv);
    if (st == SAC_OK)
        st = load_layer(l,
                        (struct layer){.block = block,
                                       .parts = {n->proj},
                                       .scale = scale,
                                       .in = width,
                                       .out = width,
                                       .residual = true},
                        &b->proj);
    return st != SAC_OK ? st : load_mlp(l, block, b);
}

/* ---- tokens before the blocks ------------------------------------------------------------------------ */

static sac_status load_prefix(struct loader *l)
{
    sac_vit *vit = l->vit;
    uint32_t width = vit->config.width;
    sac_status st = SAC_OK;
    float *host;

    if (vit->prefix == 0)
        return SAC_OK;
    host = floats(l, (size_t)vit->prefix * width, &st);
    if (st == SAC_OK)
        st = read_part(l, -1, l->names->class_token, "", width, host);
    if (st == SAC_OK && vit->config.registers > 0)
        st = read_part(l, -1, l->names->registers, "", (uint64_t)vit->config.registers * width, host + width);
    if (st == SAC_OK)
        st = to_device(l, host, (size_t)vit->prefix * width * sizeof(float), (void **)&vit->prefix_tokens);
    free(host);
    return st;
}

/* Fits stored rows to the tokens: rows for patches alone, for the class token and patches, or for all of
 * them; what has no row gets zeros. */
static sac_status place_position(struct loader *l, const float *stored, uint32_t rows, float *position)
{
    const sac_vit *vit = l->vit;
    const sac_preprocess *p = &vit->config.preprocess;
    uint32_t patch = vit->config.patch, width = vit->config.width;
    uint32_t side = vit->config.image_size / patch, grid = side != 0 ? side * side : vit->patches, own;
    float *patches = position + (size_t)vit->prefix * width;

    if (rows == grid)
        own = 0;
    else if (vit->prefix > 0 && rows == 1 + grid)
        own = 1;
    else if (rows == vit->prefix + grid)
        own = vit->prefix;
    else
        return sac_fail(l->err, SAC_MALFORMED,
                        "tensor %s%s has %u rows where the configuration asks for %u patches", l->prefix,
                        l->names->position, rows, grid);
    memcpy(position, stored, (size_t)own * width * sizeof(float));
    stored += (size_t)own * width;
    if (side == 0 || (p->width / patch == side && p->height / patch == side))
        memcpy(patches, stored, (size_t)vit->patches * width * sizeof(float));
    else
        sac_vit_interpolate(stored, side, width, vit->config.antialiased, patches, p->width / patch,
                            p->height / patch);
    return SAC_OK;
}

static sac_status load_position(struct loader *l)
{
    sac_vit *vit = l->vit;
    struct full_name name = name_of(l, -1, l->names->position, "");
    const sac_tensor *t = sac_weights_find(l->weights, name.text);
    uint32_t width = vit->config.width;
    float *stored, *position;
    sac_status st = SAC_OK;

    if (t == NULL || t->count % width != 0 || t->count / width > TOKENS_MAX)
        return sac_fail(l->err, SAC_MALFORMED, "tensor %s is missing or of another width than %u", name.text,
                        width);
    stored = floats(l, t->count, &st);
    position = floats(l, (size_t)vit->tokens * width, &st);
    if (st == SAC_OK)
        st = sac_weights_read(l->weights, name.text, t->count, stored, l->err);
    if (st == SAC_OK)
        st = place_position(l, stored, (uint32_t)(t->count / width), position);
    if (st == SAC_OK)
        st = to_device(l, position, (size_t)vit->tokens * width * sizeof(float), (void **)&vit->position);
    free(stored);
    free(position);
    return st;
}

/* ---- what comes after the blocks --------------------------------------------------------------------- */

/* The probe never changes, so neither does its query: computed here once, in f64. */
static sac_status load_query(struct loader *l, const char *in_proj)
{
    sac_vit *vit = l->vit;
    uint32_t width = vit->config.width;
    size_t square = (size_t)width * width;
    sac_status st = SAC_OK;
    float *weight = floats(l, 3 * square, &st), *bias = floats(l, 3 * (size_t)width, &st);
    float *probe = floats(l, width, &st), *query = floats(l, width, &st);

    if (st == SAC_OK)
        st = read_part(l, -1, in_proj, "_weight", 3 * square, weight);
    if (st == SAC_OK)
        st = read_part(l, -1, in_proj, "_bias", 3 * (uint64_t)width, bias);
    if (st == SAC_OK)
        st = read_part(l, -1, "head.probe", "", width, probe);
    for (uint32_t j = 0; st == SAC_OK && j < width; j++) {
        double sum = bias[j];

        for (uint32_t i = 0; i < width; i++)
            sum += (double)weight[(size_t)j * width + i] * (double)probe[i];
        sac_vit_store(vit, query, j, (float)sum);
    }
    if (st == SAC_OK)
        st = to_device(l, query, width * sac_vit_element(vit), &vit->head.query);
    /* k and v are the other two thirds of the same matrix. */
    if (st == SAC_OK)
        st = sac_device_ops(vit->device)
                 ->linear_open(vit->device,
                               &(struct sac_linear_params){.in = width,
                                                           .out = 2 * width,
                                                           .weight = weight + square,
                                                           .bias = bias + width,
                                                           .precision = vit->precision,
                                                           .y_dtype = vit->precision},
                               &vit->head.kv, l->err);
    free(weight);
    free(bias);
    free(probe);
    free(query);
    return st;
}

static sac_status load_head(struct loader *l)
{
    struct sac_vit_head *head = &l->vit->head;
    const sac_model_config *c = &l->vit->config;
    sac_status st = load_query(l, "head.attention.in_proj");

    if (st == SAC_OK)
        st = load_layer(
            l,
            (struct layer){
                .block = -1, .parts = {"head.attention.out_proj"}, .in = c->width, .out = c->width},
            &head->proj);
    if (st == SAC_OK)
        st = load_norm(l, -1, "head.layernorm", &head->norm);
    if (st == SAC_OK)
        st = load_layer(l,
                        (struct layer){.block = -1,
                                       .parts = {"head.mlp.fc1"},
                                       .in = c->width,
                                       .out = c->mlp,
                                       .y_dtype = l->vit->precision,
                                       .activation = c->activation},
                        &head->fc1);
    if (st == SAC_OK)
        st = load_layer(
            l,
            (struct layer){
                .block = -1, .parts = {"head.mlp.fc2"}, .in = c->mlp, .out = c->width, .residual = true},
            &head->fc2);
    return st;
}

/* The projection stands outside of the vision model, without its prefix; a bare CLIPVisionModel has none. */
static bool has_projection(const struct loader *l)
{
    return l->vit->config.family == SAC_MODEL_CLIP &&
           sac_weights_find(l->weights, "visual_projection.weight") != NULL;
}

static sac_status load_projection(struct loader *l)
{
    const sac_model_config *c = &l->vit->config;
    struct loader outside = *l;

    outside.prefix = "";
    return load_layer(&outside,
                      (struct layer){.block = -1,
                                     .parts = {"visual_projection"},
                                     .weight_suffix = ".weight",
                                     .in = c->width,
                                     .out = c->projection},
                      &l->vit->projection);
}

/* ---- all -------------------------------------------------------------------------------------------- */

static const char *find_prefix(const struct loader *l)
{
    struct loader with = *l;

    for (size_t i = 0; i < 3 && l->names->prefixes[i] != NULL; i++) {
        with.prefix = l->names->prefixes[i];
        if (has(&with, -1, l->names->patch, ".weight"))
            return with.prefix;
    }
    return l->names->prefixes[0]; /* the error will name the tensor as it usually is */
}

/* timm's configuration names an architecture; its sizes are those of the weights. */
static sac_status measure_timm(struct loader *l)
{
    sac_model_config *c = &l->vit->config;
    const sac_tensor *patch = sac_weights_find(l->weights, "patch_embed.proj.weight");
    const sac_tensor *fc1 = sac_weights_find(l->weights, "blocks.0.mlp.fc1.weight");
    const sac_tensor *registers = sac_weights_find(l->weights, "reg_token");

    if (patch == NULL || patch->rank != 4 || patch->shape[1] != 3 || patch->shape[2] != patch->shape[3] ||
        patch->shape[2] > 4096 || patch->shape[0] > 16384)
        return sac_fail(l->err, SAC_MALFORMED,
                        "tensor patch_embed.proj.weight must be there as [width, 3, p, p]");
    if (fc1 == NULL || fc1->rank != 2 || fc1->shape[0] > 131072)
        return sac_fail(l->err, SAC_MALFORMED,
                        "tensor blocks.0.mlp.fc1.weight must be there as [mlp, width]");
    c->patch = (uint32_t)patch->shape[2];
    c->width = (uint32_t)patch->shape[0];
    c->mlp = (uint32_t)fc1->shape[0];
    c->registers = registers != NULL && registers->rank == 3 && registers->shape[1] <= 64
                       ? (uint32_t)registers->shape[1]
                       : 0;
    while (c->layers < 256 && has(l, (int)c->layers, "norm1", ".weight"))
        c->layers++;
    if (c->heads == 0) /* 64 components a head up to ViT-L, 16 heads above */
        c->heads = c->width == 1536 ? 24 : c->width > 1024 ? 16 : c->width / 64;
    if (c->patch == 0 || c->mlp == 0 || c->heads == 0 || c->width % c->heads != 0)
        return sac_fail(l->err, SAC_UNSUPPORTED,
                        "config: how many heads a width of %u has is unknown: add "
                        "\"model_args\": {\"num_heads\": ...}",
                        c->width);
    return SAC_OK;
}

static sac_status count_tokens(struct loader *l)
{
    sac_vit *vit = l->vit;
    const sac_model_config *c = &vit->config;
    uint32_t across = c->preprocess.width / c->patch, down = c->preprocess.height / c->patch;

    if (across == 0 || down == 0 || c->preprocess.width % c->patch != 0 ||
        c->preprocess.height % c->patch != 0)
        return sac_fail(l->err, SAC_UNSUPPORTED, "config: patches of %u do not fill pictures of %ux%u",
                        c->patch, c->preprocess.width, c->preprocess.height);
    if (c->image_size / c->patch > 15 * across || c->image_size / c->patch > 15 * down)
        return sac_fail(l->err, SAC_UNSUPPORTED, "config: pictures of %ux%u for a network trained at %u",
                        c->preprocess.width, c->preprocess.height, c->image_size);
    vit->patches = across * down;
    vit->prefix = l->names->class_token != NULL ? 1 + c->registers : 0;
    vit->tokens = vit->prefix + vit->patches;
    vit->dim = c->width;
    if (vit->tokens > TOKENS_MAX)
        return sac_fail(l->err, SAC_UNSUPPORTED, "config: %u tokens a picture", vit->tokens);
    return SAC_OK;
}

static sac_status load_layers(struct loader *l)
{
    sac_vit *vit = l->vit;
    sac_model_config *c = &vit->config;
    struct layer patch = {.block = -1,
                          .parts = {l->names->patch},
                          .weight_suffix = ".weight",
                          .bias_suffix = c->family == SAC_MODEL_CLIP ? NULL : ".bias",
                          .in = 3 * c->patch * c->patch,
                          .out = c->width};
    sac_status st = load_layer(l, patch, &vit->patch);

    if (st == SAC_OK)
        st = load_prefix(l);
    if (st == SAC_OK)
        st = load_position(l);
    if (st == SAC_OK && l->names->pre_norm != NULL)
        st = load_norm(l, -1, l->names->pre_norm, &vit->pre_norm);
    vit->blocks = calloc(c->layers + 1, sizeof vit->blocks[0]);
    if (vit->blocks == NULL)
        return sac_fail(l->err, SAC_NO_MEMORY, "no memory for %u blocks", c->layers);
    for (uint32_t i = 0; st == SAC_OK && i < c->layers; i++)
        st = load_block(l, (int)i, &vit->blocks[i]);
    if (st == SAC_OK)
        st = load_norm(l, -1, l->names->last_norm, &vit->last_norm);
    if (st == SAC_OK && has_projection(l))
        st = load_projection(l);
    if (st == SAC_OK && c->family == SAC_MODEL_SIGLIP)
        st = load_head(l);
    return st;
}

/* All sizes, before any tensor is read. */
static sac_status measure(struct loader *l)
{
    sac_status st = SAC_OK;

    l->prefix = find_prefix(l);
    if (l->vit->config.family == SAC_MODEL_TIMM)
        st = measure_timm(l);
    if (st == SAC_OK)
        st = count_tokens(l);
    if (st == SAC_OK && has_projection(l))
        l->vit->dim = l->vit->config.projection;
    return st;
}

static sac_status load_all(struct loader *l, uint32_t batch_max)
{
    const char *unknown;
    sac_status st = measure(l);

    if (st == SAC_OK)
        st = sac_vit_plan(l->vit, batch_max, l->err);
    if (st == SAC_OK)
        st = load_layers(l);
    if (st != SAC_OK)
        return st;
    unknown = sac_weights_unused(l->weights, families[l->vit->config.family].expected);
    if (unknown != NULL)
        return sac_fail(l->err, SAC_UNSUPPORTED,
                        "tensor %s: a part that saccade does not know in this family", unknown);
    return SAC_OK;
}

sac_status sac_vit_open(sac_device *device, const sac_model_config *config, sac_weights *weights,
                        sac_dtype precision, uint32_t batch_max, sac_vit **out, sac_error *err)
{
    sac_vit *vit = calloc(1, sizeof *vit);
    struct loader loader = {
        .vit = vit, .weights = weights, .names = families[config->family].names, .err = err};
    sac_status st;

    *out = NULL;
    if (vit == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a network");
    vit->device = device;
    vit->config = *config;
    vit->precision = precision;
    sac_workspace_pool_init(&vit->memory, device);
    vit->memory.share = SIZE_MAX; /* what a pass takes is planned */
    st = sac_stream_borrow(device, 0, &loader.stream, err);
    if (st == SAC_OK)
        st = load_all(&loader, batch_max);
    sac_stream_give_back(loader.stream);
    if (st == SAC_OK)
        st = sac_vit_reserve(vit, err);
    if (st != SAC_OK) {
        sac_vit_close(vit);
        return st;
    }
    *out = vit;
    return SAC_OK;
}

sac_status sac_vit_measure(const sac_model_config *config, sac_weights *weights, sac_dtype precision,
                           uint32_t batch_max, uint64_t budget, struct sac_vit_size *out, sac_error *err)
{
    sac_vit vit = {.config = *config, .precision = precision};
    struct loader loader = {
        .vit = &vit, .weights = weights, .names = families[config->family].names, .err = err};
    sac_status st = measure(&loader);

    if (st == SAC_OK)
        sac_vit_choose_pass(&vit, batch_max, budget, out);
    return st;
}
