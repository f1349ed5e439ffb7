/* vit_internal.h -- the parts of a network, shared by vit_load.c (fills them), vit.c (runs them)
 * and vit_pass.c (brings pictures in and embeddings out). */
#ifndef SACCADE_VIT_INTERNAL_H
#define SACCADE_VIT_INTERNAL_H

#include "engine/vit.h"

struct sac_vit_norm {
    float *weight, *bias; /* device [width] */
};

struct sac_vit_block {
    struct sac_vit_norm norm1, norm2;
    sac_linear *qkv;  /* width -> 3 width: q, k, v side by side */
    sac_linear *proj; /* width -> width, onto the residual; layer scale is in its weights */
    sac_linear *fc1, *fc2;
};

/* SigLIP's end: one learnt query attends to all tokens, then an MLP. */
struct sac_vit_head {
    void *query;    /* device [width], of the precision: the probe after its projection */
    sac_linear *kv; /* width -> 2 width */
    sac_linear *proj, *fc1, *fc2;
    struct sac_vit_norm norm;
};

struct sac_vit {
    sac_device *device;
    sac_model_config config; /* complete: what the weights told is filled in */
    sac_dtype precision;
    uint32_t batch; /* pictures in one pass */
    uint32_t dim;
    uint32_t patches, prefix, tokens; /* of one picture; tokens = prefix + patches */

    sac_linear *patch;
    float *prefix_tokens;         /* device [prefix][width], or NULL */
    float *position;              /* device [tokens][width] */
    struct sac_vit_norm pre_norm; /* CLIP */
    struct sac_vit_block *blocks; /* [config.layers] */
    struct sac_vit_norm last_norm;
    sac_linear *projection;   /* CLIP, or NULL */
    struct sac_vit_head head; /* SigLIP */

    size_t pixel_bytes; /* of device memory for the pixels of a pass; 0: they are read where they are */
    sac_workspace_pool memory; /* of passes; a call borrows one's */
};

/* One pass, and where its pieces lie. */
struct sac_vit_pass {
    const sac_vit *vit;
    sac_workspace *ws;
    const struct sac_vit_watch *watch;
    size_t n;

    const struct sac_placed_picture *pictures; /* device [n]; NULL: rows of patches are in `wide` already */
    float *x;                                  /* [n][tokens][width]: the residual stream */
    void *h;               /* what goes into a product, or patches as f32 before they are tokens */
    void *wide;            /* rows of patches, q k v, or the inside of an MLP */
    float *pooled;         /* [n][max(width, dim)], and a word */
    void *row, *row_wide;  /* like h and wide, for one token a picture */
    unsigned char *pixels; /* [pixel_bytes] */
};

size_t sac_vit_element(const sac_vit *vit); /* bytes of one number in the precision */

/* Writes value as number i of an array in the precision; the array need not be aligned. */
void sac_vit_store(const sac_vit *vit, void *array, size_t i, float value);

/* vit_pass.c: with the sizes known and before weights are loaded, chooses what a pass takes and says
 * SAC_DEVICE_MEMORY where not even a single picture would fit beside them. */
sac_status sac_vit_plan(sac_vit *vit, uint32_t batch_max, sac_error *err);
/* The choice for a GPU with so much memory to use, and what comes of it. */
void sac_vit_choose_pass(sac_vit *vit, uint32_t batch_max, uint64_t budget, struct sac_vit_size *out);
/* With everything loaded, takes memory for a pass; halves it until it fits. */
sac_status sac_vit_reserve(sac_vit *vit, sac_error *err);

/* vit.c: rows of patches from count pictures, the first of which is the pass's number `first`. */
sac_status sac_vit_cut_patches(struct sac_vit_pass *pass, size_t first, size_t count);
/* From rows of patches, or from pass->pictures, to rows of length 1 in `pooled`. */
sac_status sac_vit_run(struct sac_vit_pass *pass);

/* vit_position.c: position embeddings [from_side^2][width] for a grid of width x height patches, by the
 * bicubic filter that the family was trained to be interpolated with. */
void sac_vit_interpolate(const float *from, uint32_t from_side, uint32_t components, bool antialiased,
                         float *to, uint32_t to_width, uint32_t to_height);

#endif
