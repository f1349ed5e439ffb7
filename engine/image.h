/* image.h -- what the decoders of the picture formats share.
 *
 * A picture is a stranger's bytes, so every decoder keeps the same order: read the header by itself, hold
 * its numbers against the limits, and only then take memory and decode, with a clock running. The limits
 * (sac_image_limits) and what each of them stops:
 *
 *   bytes               the file; stops work before any byte of it is looked at
 *   side_min, side_max  width and height; below the least there is nothing to recognise
 *   pixels              width x height: the upright picture takes 3 bytes for each
 *   pixels_progressive  the same for progressive JPEG, whose decoder holds every coefficient (2 bytes each)
 *   scan_blocks         scans x 8x8 blocks of a JPEG: a scan may cost few bytes and yet visits every block
 *   decoder_bytes       what a decoder may hold beside the picture
 *   milliseconds        wall time of one decode, looked at while rows come out: the last net
 */
#ifndef SACCADE_IMAGE_H
#define SACCADE_IMAGE_H

#include "engine/saccade.h"

/* The upright picture while it is filled with rows as they were stored: row y, pixel x of the file belongs
 * at origin + y * step_y + x * step_x. Whoever wants the picture says where its memory comes from. */
typedef struct sac_canvas {
    uint8_t *(*take)(void *context, size_t bytes); /* NULL: there is none */
    void *context;
    uint8_t *rgb; /* what was taken: [height][width][3], the caller's even after a failure; else NULL */
    uint32_t width, height; /* upright */

    uint32_t stored_width;
    uint8_t *origin;
    ptrdiff_t step_x, step_y; /* bytes */
} sac_canvas;

/* sac_image_decode() into memory of the caller's choice: only `take` and `context` of canvas are given. */
sac_status sac_image_read(const void *bytes, size_t size, const sac_image_limits *limits, sac_canvas *canvas,
                          sac_error *err);

/* Decoders behind it; bytes begin with their format's magic. */
sac_status sac_image_read_jpeg(const uint8_t *bytes, size_t size, const sac_image_limits *limits,
                               sac_canvas *canvas, sac_error *err);
#ifdef SACCADE_WITH_PNG
sac_status sac_image_read_png(const uint8_t *bytes, size_t size, const sac_image_limits *limits,
                              sac_canvas *canvas, sac_error *err);
#endif
#ifdef SACCADE_WITH_WEBP
sac_status sac_image_read_webp(const uint8_t *bytes, size_t size, const sac_image_limits *limits,
                               sac_canvas *canvas, sac_error *err);
#endif

/* Holds a header's numbers against sides and pixels. pixels_max: the limit that counts for this file. */
sac_status sac_image_check_size(const sac_image_limits *limits, uint32_t width, uint32_t height,
                                uint64_t pixels_max, sac_error *err);

/* CLOCK_MONOTONIC in milliseconds; a decoder gives up when it is past start + limits->milliseconds. */
int64_t sac_image_clock_ms(void);
sac_status sac_image_overdue(const sac_image_limits *limits, sac_error *err); /* the refusal's text */

/* Takes memory for a stored picture of width x height that EXIF's orientation (1..8) turns upright. */
sac_status sac_canvas_open(sac_canvas *canvas, uint32_t width, uint32_t height, unsigned orientation,
                           sac_error *err);
/* Places row_count stored rows, the first being row y. rows: RGB, stride bytes apart. Turned pictures are
 * faster in bands of several rows than row by row. */
void sac_canvas_put(const sac_canvas *canvas, uint32_t y, uint32_t row_count, const uint8_t *rows,
                    size_t stride);
/* count RGBA pixels over white -> RGB. rgba and rgb may be the same array. */
void sac_image_over_white(uint8_t *rgb, const uint8_t *rgba, size_t count);

#endif
