/* picture.h -- procedural pictures and checksums, the same as in tests/fixtures/make_resize_fixtures.py. */
#ifndef SACCADE_TESTS_PICTURE_H
#define SACCADE_TESTS_PICTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

/* Noise, and blocks of black and white for a filter to overshoot at: [height][width][3], freed by the test.
 * A block of exactly its size: ASan sees a read past the end. */
static inline uint8_t *sac_test_picture(uint32_t width, uint32_t height)
{
    uint8_t *pixels = malloc((size_t)width * height * 3);

    assert_non_null(pixels);
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++)
            for (uint32_t c = 0; c < 3; c++) {
                uint32_t at = (y * width + x) * 3 + c, block = (x / 8 + y / 8 + c) % 3;

                pixels[at] = (uint8_t)(block == 0 ? at * 2654435761u >> 24 : block == 1 ? 255 : 0);
            }
    return pixels;
}

/* FNV-1a, 64 bits. */
static inline uint64_t sac_test_checksum(const uint8_t *bytes, size_t size)
{
    uint64_t value = 0xcbf29ce484222325u;

    for (size_t i = 0; i < size; i++)
        value = (value ^ bytes[i]) * 0x100000001b3u;
    return value;
}

#endif
