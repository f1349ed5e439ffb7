/* vit.h -- a vision transformer: prepared pictures -> embeddings, on any device.
 *
 * One network serves all families (model_config.h): patches to tokens, blocks of attention and MLP on a
 * residual stream in f32, and at the end the class token (timm, DINOv2), its projection (CLIP), or one query
 * that attends to all tokens (SigLIP). Products and attention run in the precision asked for; norms, softmax
 * and sums in f32.
 */
#ifndef SACCADE_VIT_H
#define SACCADE_VIT_H

#include "engine/embeddings.h"
#include "engine/model_config.h"
#include "engine/weights.h"

typedef struct sac_vit sac_vit; /* safe to share between threads */

/* Reads the weights that the configuration asks for and packs them for the device. batch_max: pictures that
 * one pass takes at most. The weights may be closed afterwards, the device stays borrowed. Errors:
 * SAC_MALFORMED (a tensor is missing, has the wrong size or is unknown; the message names it),
 * SAC_UNSUPPORTED, SAC_NO_MEMORY, SAC_DEVICE_MEMORY (the message says how much is missing), SAC_IO. */
sac_status sac_vit_open(sac_device *device, const sac_model_config *config, sac_weights *weights,
                        sac_dtype precision, uint32_t batch_max, sac_vit **out, sac_error *err);
void sac_vit_close(sac_vit *vit); /* NULL is allowed */

/* What a network takes of a GPU's memory. */
struct sac_vit_size {
    uint32_t dim, batch; /* batch: pictures of one pass */
    uint64_t weights;    /* bytes, when it is open */
    uint64_t pass,
        scratch; /* bytes of each pass in flight, and what its operations take at most while they run */
};

/* The same arithmetic that sac_vit_open() follows on a GPU of that budget; headers are looked at, no tensor
 * is read and nothing is allocated. Errors: SAC_MALFORMED, SAC_UNSUPPORTED. */
sac_status sac_vit_measure(const sac_model_config *config, sac_weights *weights, sac_dtype precision,
                           uint32_t batch_max, uint64_t budget, struct sac_vit_size *out, sac_error *err);

uint32_t sac_vit_dim(const sac_vit *vit); /* components of an embedding */

/* Pictures that one pass takes at most: what was asked for, or what there is device memory for. */
uint32_t sac_vit_pass(const sac_vit *vit);

/* Bytes of the largest picture that a pass takes at its own size; 0 where pictures come scaled. */
size_t sac_vit_picture_bytes_max(const sac_vit *vit);

/* Exactly one of the two is given. */
struct sac_vit_input {
    const struct sac_placed_picture *pictures; /* [n] in the host's memory, as their pixels are */
    const float *values;                       /* [n][3][height][width], scaled and normalised already */
};

/* Shows the residual stream after each block, for tests: tokens [n][token_count][width] in the host's memory.
 */
struct sac_vit_watch {
    void (*after_block)(void *context, uint32_t block, const float *tokens, size_t count);
    void *context;
};

/* Puts n pictures, 1 to sac_vit_pass(), on their way; nothing waits, unless somebody watches. Pixels in
 * memory of sac_host_alloc() must stay until the embeddings are released, others may go when this returns.
 * watch may be NULL. On ref and cpu a picture's vector does not depend, to the bit, on n or on the number of
 * threads. Any number of threads may call at once; each works in memory of its own, which is kept for later
 * calls. Errors: SAC_DEVICE_MEMORY, SAC_NO_MEMORY, SAC_DEVICE_LOST. */
sac_status sac_vit_submit(sac_vit *vit, size_t n, const struct sac_vit_input *input,
                          const struct sac_vit_watch *watch, sac_embeddings **out, sac_error *err);

/* The same for any number of pictures, and waits: vectors [n][dim], each of length 1. Where memory for a pass
 * is not to be had, it takes half as many. Errors as before, and SAC_INTERNAL where a vector has no length.
 */
sac_status sac_vit_embed(sac_vit *vit, size_t n, const struct sac_vit_input *input, float *vectors,
                         const struct sac_vit_watch *watch, sac_error *err);

#endif
