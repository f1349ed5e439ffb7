/* preprocess.h -- an upright picture -> the encoder's input, exactly what training saw.
 *
 * Everything here comes from the model's own configuration (preprocessor_config.json of the Hugging Face
 * layout, pretrained_cfg of timm's config.json) and is part of the encoder's fingerprint.
 */
#ifndef SACCADE_PREPROCESS_H
#define SACCADE_PREPROCESS_H

#include "engine/saccade.h"
#include "kernels/ops.h"

typedef enum sac_fit {
    SAC_FIT_CROP,   /* shorter side to `shorter`, then the centre width x height */
    SAC_FIT_SQUASH, /* straight to width x height, the aspect lost */
} sac_fit;

/* How the crop's corner becomes a whole pixel; the longer side is int(shorter * long / short) in both. */
typedef enum sac_rounding {
    SAC_ROUNDING_FLOOR, /* torchvision and timm: Python's round((a - b) / 2), halves to the even number */
    SAC_ROUNDING_HF,    /* transformers' slow image processors: (a - b) // 2 */
} sac_rounding;

typedef struct sac_preprocess {
    uint32_t width, height; /* of the encoder's input */
    sac_fit fit;
    uint32_t shorter; /* for SAC_FIT_CROP */
    sac_filter filter;
    sac_rounding rounding;
    float mean[3], std[3]; /* of values scaled to 0..1 */
} sac_preprocess;

/* Bytes of a picture of the input's size: [height][width][3]. */
size_t sac_preprocess_bytes(const sac_preprocess *preprocess);

/* Where image, cropped, lies in the encoder's input; nothing is computed, and out->pixels points into the
 * image. A picture that is smaller than the input after scaling lies in the middle of zeros, as torchvision
 * and transformers do it. crop may be NULL. Errors: SAC_INVALID_ARGUMENT (crop outside the picture). */
sac_status sac_preprocess_place(const sac_preprocess *preprocess, const sac_image *image,
                                const sac_crop *crop, struct sac_placed_picture *out, sac_error *err);

/* The input that a placed picture gives, which is what Pillow's crop, resize and crop give. Works on a
 * borrowed stream of device, whose memory the host can see. Errors: SAC_NO_MEMORY. */
sac_status sac_preprocess_scale(sac_device *device, const sac_preprocess *preprocess,
                                const struct sac_placed_picture *placed, uint8_t *pixels, sac_error *err);

/* Pixels of the input's size, which need no scaling, as a placed picture. */
struct sac_placed_picture sac_preprocess_done(const sac_preprocess *preprocess, const uint8_t *pixels);

/* sac_preprocess_place() and sac_preprocess_scale(). */
sac_status sac_preprocess_run(sac_device *device, const sac_preprocess *preprocess, const sac_image *image,
                              const sac_crop *crop, uint8_t *pixels, sac_error *err);

#endif
