/* model_config.h -- what a model folder says about its network and its pictures: config.json, and
 * preprocessor_config.json where the family has one.
 *
 *   timm      config.json with "architecture" and "pretrained_cfg"; shapes are read from the weights
 *   CLIP      model_type clip, clip_vision_model; OpenAI's and LAION's
 *   DINOv2    model_type dinov2, dinov2_with_registers
 *   SigLIP    model_type siglip, siglip_vision_model; SigLIP 2 of fixed resolution calls itself the same
 */
#ifndef SACCADE_MODEL_CONFIG_H
#define SACCADE_MODEL_CONFIG_H

#include "engine/preprocess.h"

typedef enum sac_model_family {
    SAC_MODEL_TIMM,
    SAC_MODEL_CLIP,
    SAC_MODEL_DINOV2,
    SAC_MODEL_SIGLIP,
} sac_model_family;

typedef struct sac_model_config {
    char name[128]; /* the architecture's (timm) or the folder's */
    sac_model_family family;
    uint32_t patch;      /* pixels; 0: the weights tell, as with the four below */
    uint32_t width;      /* components of a token */
    uint32_t layers;     /* transformer blocks */
    uint32_t mlp;        /* components between the two layers of a block's MLP (of each half for SWIGLU) */
    uint32_t heads;      /* divides width; 0: the usual number for the width */
    uint32_t image_size; /* pixels that position embeddings were trained for; 0: the input's */
    uint32_t registers;  /* tokens between the class token and the patches */
    uint32_t projection; /* components of CLIP's embedding */
    sac_activation activation;
    float eps;        /* of layer norms */
    bool antialiased; /* how position embeddings are interpolated to another input size */
    sac_preprocess preprocess;
} sac_model_config;

/* Reads the configuration of a folder and checks it against what saccade can compute. Errors: SAC_NOT_FOUND,
 * SAC_MALFORMED, SAC_UNSUPPORTED (family, activation, way of preparing pictures), SAC_IO. */
sac_status sac_model_config_load(const char *folder, sac_model_config *out, sac_error *err);

/* Everything that can change an embedding, as text for the fingerprint. Returns the length, cut to size - 1.
 */
size_t sac_model_config_text(const sac_model_config *config, char *text, size_t size);

#endif
