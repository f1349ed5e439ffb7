/* prepared.h -- pictures ready for an encoder, and where they are made.
 *
 * On the CPU a picture is scaled to the encoder's input where it is decoded. For a device that scales
 * pictures itself it stays at its own size, in page-locked memory that was decoded into, and only says how it
 * is to be placed. Where there is none of that memory, or a picture is larger than the device's share for
 * pixels, it is scaled here after all: the vector is the same to the bit, and memory stays bounded.
 */
#ifndef SACCADE_PREPARED_H
#define SACCADE_PREPARED_H

#include "engine/picture_pool.h"
#include "engine/preprocess.h"

/* What all pictures of an encoder are prepared with. */
typedef struct sac_preparation {
    sac_device *host; /* scales */
    sac_preprocess preprocess;
    sac_image_limits limits;
    size_t own_size_max;   /* bytes of a picture that may keep its size; 0: none does */
    sac_picture_pool pool; /* where those lie */
} sac_preparation;

struct sac_prepared {
    sac_preparation *by;
    struct sac_placed_picture placed; /* in the host's memory */
    void *memory;
    bool pooled; /* else plain */
    uint32_t class;
};

/* As sac_encoder_prepare() and sac_encoder_prepare_image(). */
sac_status sac_prepared_read(sac_preparation *by, const void *bytes, size_t size, const sac_crop *crop,
                             sac_prepared **out, sac_error *err);
sac_status sac_prepared_copy(sac_preparation *by, const sac_image *image, const sac_crop *crop,
                             sac_prepared **out, sac_error *err);

#endif
