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

/* Crops, resizes and cuts image into pixels [height][width][3], which is what Pillow's crop, resize and crop
 * give. Works on a borrowed stream of device, whose memory the host can see. A picture that is smaller than
 * the input after scaling lies in the middle of zeros, as torchvision and transformers do it.
 * Errors: SAC_INVALID_ARGUMENT (crop outside the picture), SAC_NO_MEMORY. */
sac_status sac_preprocess_run(sac_device *device, const sac_preprocess *preprocess, const sac_image *image,
                              const sac_crop *crop, uint8_t *pixels, sac_error *err);

#endif
