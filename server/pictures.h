/* pictures.h -- picture files -> bytes -> what an encoder takes, a batch at a time on all threads; ->
 * vectors. */
#ifndef SACCADE_SERVER_PICTURES_H
#define SACCADE_SERVER_PICTURES_H

#include "engine/saccade.h"

/* Reads a picture's file whole ("-": stdin). *bytes is the caller's. Errors: SAC_NOT_FOUND, SAC_IO,
 * SAC_IMAGE_REJECTED (no regular file; longer than a picture may be, found out before it is read). */
sac_status sac_picture_read(const char *path, void **bytes, size_t *size, sac_error *err);

/* Called in the order of the paths. vector [dim] is NULL where the picture failed; error then says why.
 * Returning other than SAC_OK ends the job with that status. */
typedef sac_status (*sac_picture_fn)(void *context, size_t index, const float *vector,
                                     const sac_error *error);

/* Called with pictures first .. first + n - 1, in the order of the paths. prepared[i] is NULL where the
 * picture failed; errors[i] then says why. Returning other than SAC_OK ends the job with that status. */
typedef sac_status (*sac_pictures_fn)(void *context, size_t first, size_t n, sac_prepared *const *prepared,
                                      const sac_error *errors, sac_error *err);

struct sac_pictures {
    sac_encoder *encoder;
    uint32_t threads; /* that read and decode, at least 1 */
    const char *const *paths;
    size_t count;
    const sac_crop *crop; /* NULL: whole pictures */
    sac_picture_fn done;  /* of sac_pictures_embed() */
    void *context;
};

enum { SAC_PICTURES_BATCH = 64 };

/* Prepares them all, at most SAC_PICTURES_BATCH at a time. Errors: SAC_NO_MEMORY, what fn gives. */
sac_status sac_pictures_prepare(const struct sac_pictures *pictures, sac_pictures_fn fn, void *context,
                                sac_error *err);

/* Embeds them all. Errors: SAC_NO_MEMORY, what the encoder or `done` gives. */
sac_status sac_pictures_embed(const struct sac_pictures *pictures, sac_error *err);

#endif
