/* jpeg_header.h -- what a JPEG says about itself, read without a decoder. */
#ifndef SACCADE_JPEG_HEADER_H
#define SACCADE_JPEG_HEADER_H

#include "kernels/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct sac_jpeg_header {
    uint8_t frame; /* n of the SOFn marker: 0 baseline, 1 extended, 2 progressive ... */
    uint8_t precision;
    uint8_t components;
    uint16_t width, height;
    uint64_t blocks; /* 8x8 blocks of all components: what one full scan visits */
    unsigned orientation;
} sac_jpeg_header;

/* Walks the markers up to the first scan, once, whatever they claim. bytes begin with FF D8.
 * Errors: SAC_IMAGE_CORRUPT, where there is no frame header or a segment is longer than the file. */
sac_status sac_jpeg_header_read(const uint8_t *bytes, size_t size, sac_jpeg_header *out, sac_error *err);

/* Refuses by name what saccade does not decode: 12-bit, lossless, hierarchical, arithmetic, odd component
 * counts, a height that comes later. Errors: SAC_IMAGE_REJECTED. */
sac_status sac_jpeg_header_supported(const sac_jpeg_header *header, sac_error *err);

#endif
