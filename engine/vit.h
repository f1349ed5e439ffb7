/* vit.h -- a vision transformer: prepared pictures -> embeddings, on any device.
 *
 * One network serves all families (model_config.h): patches to tokens, blocks of attention and MLP on a
 * residual stream in f32, and at the end the class token (timm, DINOv2), its projection (CLIP), or one query
 * that attends to all tokens (SigLIP). Products and attention run in the precision asked for; norms, softmax
 * and sums in f32.
 */
#ifndef SACCADE_VIT_H
#define SACCADE_VIT_H

#include "engine/model_config.h"
#include "engine/weights.h"

typedef struct sac_vit sac_vit; /* safe to share between threads */

/* Reads the weights that the configuration asks for and packs them for the device. batch_max: pictures that
 * one pass takes at most. The weights may be closed afterwards, the device stays borrowed. Errors:
 * SAC_MALFORMED (a tensor is missing, has the wrong size or is unknown; the message names it),
 * SAC_UNSUPPORTED, SAC_NO_MEMORY, SAC_DEVICE_MEMORY, SAC_IO. */
sac_status sac_vit_open(sac_device *device, const sac_model_config *config, sac_weights *weights,
                        sac_dtype precision, uint32_t batch_max, sac_vit **out, sac_error *err);
void sac_vit_close(sac_vit *vit); /* NULL is allowed */

uint32_t sac_vit_dim(const sac_vit *vit); /* components of an embedding */

/* Exactly one of the two is given. */
struct sac_vit_input {
    const uint8_t *const *pictures; /* [n], each [height][width][3] as sac_preprocess_run() writes it */
    const float *values;            /* [n][3][height][width], scaled and normalised already */
};

/* Shows the residual stream after each block, for tests: tokens [n][token_count][width] in host-visible
 * memory. */
struct sac_vit_watch {
    void (*after_block)(void *context, uint32_t block, const float *tokens, size_t count);
    void *context;
};

/* vectors [n][dim], not scaled to any length. watch may be NULL; with it n is at most what one pass takes. A
 * picture's vector does not depend, to the bit, on n or on the number of threads. Any number of threads may
 * call at once; each works in memory of its own, which is kept for later calls. Errors: SAC_DEVICE_MEMORY,
 * SAC_NO_MEMORY. */
sac_status sac_vit_embed(sac_vit *vit, size_t n, const struct sac_vit_input *input, float *vectors,
                         const struct sac_vit_watch *watch, sac_error *err);

#endif
