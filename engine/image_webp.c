/* image_webp.c -- WebP through libwebp's incremental decoder, so that the clock is looked at between pieces.
 */
#include "engine/exif.h"
#include "engine/image.h"

#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>

enum { PIECE_BYTES = 16 << 10 };

/* The EXIF chunk of the RIFF container (WebP Container Specification): chunks of 4 letters, a little-endian
 * length and a payload padded to even length, the first at byte 12. */
static unsigned orientation_of(const uint8_t *bytes, size_t size)
{
    size_t at = 12;

    while (size >= 8 && at <= size - 8) {
        const uint8_t *p = bytes + at;
        size_t length = (size_t)p[4] | (size_t)p[5] << 8 | (size_t)p[6] << 16 | (size_t)p[7] << 24;

        if (length > size - at - 8)
            break;
        if (memcmp(p, "EXIF", 4) == 0)
            return sac_exif_orientation(p + 8, length);
        at += 8 + length + (length & 1);
    }
    return 1;
}

static sac_status decode_status(VP8StatusCode code, sac_error *err)
{
    switch (code) {
    case VP8_STATUS_OK:
        return SAC_OK;
    case VP8_STATUS_OUT_OF_MEMORY:
        return sac_fail(err, SAC_NO_MEMORY, "no memory to decode a WebP");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return sac_fail(err, SAC_IMAGE_REJECTED, "WebP with a feature that is not supported");
    case VP8_STATUS_SUSPENDED:
    case VP8_STATUS_NOT_ENOUGH_DATA:
        return sac_fail(err, SAC_IMAGE_CORRUPT, "the WebP is cut short");
    default:
        return sac_fail(err, SAC_IMAGE_CORRUPT, "the WebP's bytes are damaged");
    }
}

/* Decodes into pixels, which the caller made large enough. */
static sac_status decode_pixels(const uint8_t *bytes, size_t size, const sac_image_limits *limits,
                                int64_t deadline_ms, WEBP_CSP_MODE mode, uint8_t *pixels, size_t stride,
                                size_t pixels_size, sac_error *err)
{
    WebPIDecoder *decoder = WebPINewRGB(mode, pixels, pixels_size, (int)stride);
    VP8StatusCode code = VP8_STATUS_SUSPENDED;

    if (decoder == NULL)
        return decode_status(VP8_STATUS_OUT_OF_MEMORY, err);
    for (size_t seen = 0; code == VP8_STATUS_SUSPENDED && seen < size;) {
        seen = size - seen > PIECE_BYTES ? seen + PIECE_BYTES : size;
        code = WebPIUpdate(decoder, bytes, seen);
        if (code == VP8_STATUS_SUSPENDED && sac_image_clock_ms() > deadline_ms) {
            WebPIDelete(decoder);
            return sac_image_overdue(limits, err);
        }
    }
    WebPIDelete(decoder);
    return decode_status(code, err);
}

static sac_status check_features(const WebPBitstreamFeatures *features, const sac_image_limits *limits,
                                 sac_error *err)
{
    uint32_t width = (uint32_t)features->width, height = (uint32_t)features->height;
    sac_status st = sac_image_check_size(limits, width, height, limits->pixels, err);

    if (st != SAC_OK)
        return st;
    if (features->has_animation)
        return sac_fail(err, SAC_IMAGE_REJECTED, "animated WebP is not supported: save one of its pictures");
    /* The lossless decoder holds the picture at 4 bytes a pixel, and so do we where there is alpha. */
    if ((uint64_t)width * height * 4 > limits->decoder_bytes)
        return sac_fail(err, SAC_IMAGE_REJECTED,
                        "decoding this WebP of %ux%u needs more than the limit of %zu bytes", width, height,
                        limits->decoder_bytes);
    return SAC_OK;
}

static void fill(const sac_canvas *canvas, uint8_t *pixels, uint32_t height, size_t stride, bool alpha)
{
    enum { BAND_ROWS = 16 };

    for (uint32_t y = 0; alpha && y < height; y++)
        sac_image_over_white(pixels + y * stride, pixels + y * stride, canvas->stored_width);
    for (uint32_t y = 0; y < height; y += BAND_ROWS)
        sac_canvas_put(canvas, y, height - y < BAND_ROWS ? height - y : BAND_ROWS, pixels + y * stride,
                       stride);
}

sac_status sac_image_read_webp(const uint8_t *bytes, size_t size, const sac_image_limits *limits,
                               sac_canvas *canvas, sac_error *err)
{
    int64_t deadline_ms = sac_image_clock_ms() + limits->milliseconds;
    WebPBitstreamFeatures features;
    size_t stride, pixels_size;
    uint8_t *pixels;
    sac_status st;

    st = decode_status(WebPGetFeatures(bytes, size, &features), err);
    if (st == SAC_OK)
        st = check_features(&features, limits, err);
    if (st != SAC_OK)
        return st;

    stride = (size_t)features.width * (features.has_alpha ? 4 : 3);
    pixels_size = stride * (size_t)features.height;
    pixels = malloc(pixels_size);
    if (pixels == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a WebP of %dx%d", features.width, features.height);
    st = decode_pixels(bytes, size, limits, deadline_ms, features.has_alpha ? MODE_RGBA : MODE_RGB, pixels,
                       stride, pixels_size, err);
    if (st == SAC_OK)
        st = sac_canvas_open(canvas, (uint32_t)features.width, (uint32_t)features.height,
                             orientation_of(bytes, size), err);
    if (st == SAC_OK)
        fill(canvas, pixels, (uint32_t)features.height, stride, features.has_alpha != 0);
    free(pixels);
    return st;
}
