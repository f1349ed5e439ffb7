/* Any bytes as a picture: an answer or an error with a text, never more. Small limits keep a run fast. */
#include "engine/saccade.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    sac_image_limits limits;
    sac_error err = {SAC_OK, ""};
    sac_image *image;
    sac_status st;

    sac_image_limits_init(&limits);
    limits.side_min = 1;
    limits.pixels = limits.pixels_progressive = 1000000;
    limits.scan_blocks = 500000;
    limits.decoder_bytes = 32u << 20;
    st = sac_image_decode(bytes, size, &limits, &image, &err);
    if ((st == SAC_OK) != (image != NULL) || (st != SAC_OK && (err.text[0] == '\0' || err.status != st)))
        abort();
    if (st == SAC_OK) {
        volatile uint8_t last = image->rgb[(size_t)image->width * image->height * 3 - 1];

        (void)last;
    }
    sac_image_free(image);
    return 0;
}
