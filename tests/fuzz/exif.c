/* Any bytes as EXIF, or as a JPEG's header that may hold some: an orientation between 1 and 8. */
#include "engine/exif.h"
#include "engine/jpeg_header.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    unsigned orientation = sac_exif_orientation(bytes, size);
    sac_jpeg_header header;

    if (orientation < 1 || orientation > 8)
        abort();
    if (size >= 2 && sac_jpeg_header_read(bytes, size, &header, NULL) == SAC_OK &&
        (header.orientation < 1 || header.orientation > 8))
        abort();
    return 0;
}
