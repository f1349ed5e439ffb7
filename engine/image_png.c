/* image_png.c -- PNG through libspng, row by row: any colour type and depth becomes 8-bit RGB over white. */
#include "engine/exif.h"
#include "engine/image.h"

#include <assert.h>
#include <spng.h>
#include <stdlib.h>

enum { BAND_ROWS = 16, CHUNK_BYTES_MAX = 8 << 20 }; /* a chunk that is not pixels, after inflating */

struct reader {
    spng_ctx *png;
    const sac_image_limits *limits;
    int64_t deadline_ms;
    uint32_t width, height;
    bool interlaced;
    sac_canvas *canvas;
    uint8_t *rows; /* RGBA: a band of rows; all of them where they come interlaced */
    sac_error *err;
};

static sac_status fail(const struct reader *r, int code)
{
    sac_status st = code == SPNG_EMEM            ? SAC_NO_MEMORY
                    : code == SPNG_ECHUNK_LIMITS ? SAC_IMAGE_REJECTED
                                                 : SAC_IMAGE_CORRUPT;

    return sac_fail(r->err, st, "PNG: %s", spng_strerror(code));
}

static sac_status read_header(struct reader *r)
{
    struct spng_ihdr header;
    int code = spng_get_ihdr(r->png, &header);
    sac_status st;

    if (code != 0)
        return fail(r, code);
    r->width = header.width;
    r->height = header.height;
    r->interlaced = header.interlace_method != 0;
    st = sac_image_check_size(r->limits, r->width, r->height, r->limits->pixels, r->err);
    if (st == SAC_OK && r->interlaced && (uint64_t)r->width * r->height * 4 > r->limits->decoder_bytes)
        st = sac_fail(r->err, SAC_IMAGE_REJECTED,
                      "decoding this interlaced PNG of %ux%u needs more than the limit of %zu bytes",
                      r->width, r->height, r->limits->decoder_bytes);
    return st;
}

static sac_status take_memory(struct reader *r)
{
    struct spng_exif exif;
    unsigned orientation = 1;
    size_t row_count = r->interlaced ? r->height : BAND_ROWS;

    if (spng_get_exif(r->png, &exif) == 0)
        orientation = sac_exif_orientation((const uint8_t *)exif.data, exif.length);
    assert(row_count > 0 && r->width > 0); /* by sac_image_check_size() */
    r->rows = malloc(row_count * r->width * 4);
    if (r->rows == NULL)
        return sac_fail(r->err, SAC_NO_MEMORY, "no memory for %zu rows of %u pixels", row_count, r->width);
    return sac_canvas_open(r->canvas, r->width, r->height, orientation, r->err);
}

/* Stored rows first .. first + count - 1, which lie at `rows`, go into the picture. */
static void put_band(const struct reader *r, uint8_t *rows, uint32_t first, uint32_t count)
{
    size_t stride = (size_t)r->width * 4;

    for (uint32_t i = 0; i < count; i++)
        sac_image_over_white(rows + i * stride, rows + i * stride, r->width);
    sac_canvas_put(r->canvas, first, count, rows, stride);
}

static sac_status read_rows(struct reader *r)
{
    size_t stride = (size_t)r->width * 4;
    int code = spng_decode_image(r->png, NULL, 0, SPNG_FMT_RGBA8, SPNG_DECODE_TRNS | SPNG_DECODE_PROGRESSIVE);

    while (code == 0) {
        struct spng_row_info info;
        uint32_t line;

        if (sac_image_clock_ms() > r->deadline_ms)
            return sac_image_overdue(r->limits, r->err);
        code = spng_get_row_info(r->png, &info);
        if (code != 0)
            break;
        line = r->interlaced ? info.row_num : info.row_num % BAND_ROWS;
        code = spng_decode_row(r->png, r->rows + line * stride, stride);
        if (!r->interlaced && (code == 0 || code == SPNG_EOI) &&
            (line == BAND_ROWS - 1 || info.row_num == r->height - 1))
            put_band(r, r->rows, info.row_num - line, line + 1);
    }
    if (code != SPNG_EOI)
        return fail(r, code);
    for (uint32_t y = 0; r->interlaced && y < r->height; y += BAND_ROWS)
        put_band(r, r->rows + y * stride, y, r->height - y < BAND_ROWS ? r->height - y : BAND_ROWS);
    return SAC_OK;
}

sac_status sac_image_read_png(const uint8_t *bytes, size_t size, const sac_image_limits *limits,
                              sac_canvas *canvas, sac_error *err)
{
    struct reader r = {.limits = limits, .canvas = canvas, .err = err};
    sac_status st;

    r.deadline_ms = sac_image_clock_ms() + limits->milliseconds;
    r.png = spng_ctx_new(0);
    if (r.png == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to decode a PNG");
    spng_set_png_buffer(r.png, bytes, size);
    spng_set_chunk_limits(r.png, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX);
    spng_set_crc_action(r.png, SPNG_CRC_ERROR, SPNG_CRC_DISCARD);
    st = read_header(&r);
    if (st == SAC_OK)
        st = take_memory(&r);
    if (st == SAC_OK)
        st = read_rows(&r);
    spng_ctx_free(r.png);
    free(r.rows);
    return st;
}
