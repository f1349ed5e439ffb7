/* index_image.h -- the bytes of an index file, for tests that damage it. */
#ifndef SACCADE_TESTS_INDEX_IMAGE_H
#define SACCADE_TESTS_INDEX_IMAGE_H

#include "engine/index_file.h"
#include "tests/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

struct image {
    uint8_t *bytes;
    size_t size;
};

static inline sac_index_header *image_header(const struct image *image)
{
    return (sac_index_header *)(void *)image->bytes;
}

/* free(bytes). */
static inline struct image image_read(const char *path)
{
    FILE *file = fopen(path, "rb");
    struct image image;

    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    image.size = (size_t)ftell(file);
    image.bytes = malloc(image.size);
    rewind(file);
    assert_int_equal(fread(image.bytes, 1, image.size, file), image.size);
    fclose(file);
    return image;
}

static inline void image_write(const char *path, const struct image *image)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(image->bytes, 1, image->size, file), image->size);
    fclose(file);
}

/* Makes all checksums right again. */
static inline void image_sign(struct image *image)
{
    sac_index_header *header = image_header(image);

    for (int i = 0; i < SAC_SECTION_COUNT; i++)
        if (header->sections[i].offset <= image->size &&
            header->sections[i].length <= image->size - header->sections[i].offset)
            header->sections[i].checksum =
                XXH3_64bits(image->bytes + header->sections[i].offset, header->sections[i].length);
    header->checksum = XXH3_64bits(header, sizeof *header - 8);
}

#endif
