/* encoder.h -- embeddings on their way, for whoever goes on with them on the device.
 *
 * sac_encoder_embed() brings vectors to the host. A search on the same device needs them where they are: it
 * submits pictures, puts its own work behind `ready` (embeddings.h), and nobody waits until the ids come
 * down.
 */
#ifndef SACCADE_ENCODER_H
#define SACCADE_ENCODER_H

#include "engine/embeddings.h"
#include "engine/saccade.h"

/* Pictures that one submit takes at most. */
size_t sac_encoder_pass(const sac_encoder *encoder);

/* The device that its embeddings are in the memory of: the one it was opened on, or that one's host. */
sac_device *sac_encoder_device(const sac_encoder *encoder);

/* Puts n pictures, 1 to sac_encoder_pass(), on their way through the network; nothing waits. The pictures
 * stay the caller's and must live until the embeddings are released. Errors: SAC_DEVICE_MEMORY (fewer
 * pictures may fit), SAC_NO_MEMORY, SAC_DEVICE_LOST. */
sac_status sac_encoder_submit(sac_encoder *encoder, size_t n, sac_prepared *const *pictures,
                              sac_embeddings **out, sac_error *err);

#endif
