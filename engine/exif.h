/* exif.h -- the one EXIF tag that changes pixels: orientation. */
#ifndef SACCADE_EXIF_H
#define SACCADE_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* Tag 0x0112 of an EXIF block: the payload of a JPEG's APP1, of PNG's eXIf or of WebP's EXIF chunk, with or
 * without the leading "Exif\0\0". Returns 1..8; 1 (as stored) where the tag is missing, out of range or the
 * block is damaged. Reads IFD0 alone, at most 64 entries of it, and follows no pointer from there. */
unsigned sac_exif_orientation(const uint8_t *bytes, size_t size);

#endif
