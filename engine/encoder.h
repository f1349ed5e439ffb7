/* encoder.h -- embeddings on their way, for whoever goes on with them on the device.
 *
 * sac_encoder_embed() brings vectors to the host. A search on the same device needs them where they are:
 * it submits pictures, puts its own work behind `ready`, and nobody waits until the ids come down.
 */
#ifndef SACCADE_ENCODER_H
#define SACCADE_ENCODER_H

#include "engine/saccade.h"
#include "kernels/ops.h"

typedef struct sac_embeddings {
    sac_device *device; /* whose memory the rows are in */
    size_t n;
    uint32_t dim;
    const float *rows;       /* device [n][dim], each of length 1 */
    const uint32_t *spoiled; /* device: how many have no length and are left as they came; 0 unless the
                                model's weights are unusable */
    sac_event *ready;        /* the rows are there behind it; NULL where they are there already: device
                                memory is the host's */
} sac_embeddings;

/* Pictures that one submit takes at most. */
size_t sac_encoder_pass(const sac_encoder *encoder);

/* Puts n pictures, 1 to sac_encoder_pass(), on their way through the network; nothing waits. The pictures
 * stay the caller's and must live until the embeddings are released. Errors: SAC_DEVICE_MEMORY (fewer
 * pictures may fit), SAC_NO_MEMORY, SAC_DEVICE_LOST. */
sac_status sac_encoder_submit(sac_encoder *encoder, size_t n, sac_prepared *const *pictures,
                              sac_embeddings **out, sac_error *err);

/* Waits for the rows and copies them to the host: vectors [n][dim]. SAC_INTERNAL where one has no length. */
sac_status sac_embeddings_fetch(sac_embeddings *embeddings, float *vectors, sac_error *err);

/* After whoever reads the rows has waited for what they put behind `ready`. NULL is allowed. */
void sac_embeddings_release(sac_embeddings *embeddings);

#endif
