/* image.c -- picture bytes -> upright RGB: which format it is, limits, and turning. */
#include "engine/image.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

void sac_image_limits_init(sac_image_limits *limits)
{
    *limits = (sac_image_limits){
        .bytes = 10u << 20,
        .side_min = 16,
        .side_max = 16384,
        .pixels = 40000000,
        .pixels_progressive = 24000000,
        .scan_blocks = 20000000,
        .decoder_bytes = 192u << 20,
        .milliseconds = 500,
    };
}

/* ---- formats ---------------------------------------------------------------------------------------- */

typedef sac_status (*read_fn)(const uint8_t *bytes, size_t size, const sac_image_limits *limits,
                              sac_canvas *canvas, sac_error *err);

/* A format is known by `magic` at byte `at`, and by `brand` right behind it where one is given. */
struct format {
    const char *name;
    size_t at;
    const char *magic;
    size_t magic_size;
    const char *brand;
    read_fn read; /* NULL: known, and refused by name */
    const char *remedy;
};

#ifdef SACCADE_WITH_PNG
#define PNG_READER sac_image_read_png
#define PNG_NAME " png"
#else
#define PNG_READER NULL
#define PNG_NAME ""
#endif
#ifdef SACCADE_WITH_WEBP
#define WEBP_READER sac_image_read_webp
#define WEBP_NAME " webp"
#else
#define WEBP_READER NULL
#define WEBP_NAME ""
#endif

static const char convert[] = "convert it to JPEG";

static const struct format formats[] = {
    {"JPEG", 0, "\xff\xd8", 2, NULL, sac_image_read_jpeg, NULL},
    {"PNG", 0, "\x89PNG\r\n\x1a\n", 8, NULL, PNG_READER,
     "rebuild saccade with libspng, or convert it to JPEG"},
    {"WebP", 8, "WEBP", 4, NULL, WEBP_READER, "rebuild saccade with libwebp, or convert it to JPEG"},
    {"GIF", 0, "GIF8", 4, NULL, NULL, convert},
    {"BMP", 0, "BM", 2, NULL, NULL, convert},
    {"TIFF", 0, "II*\0", 4, NULL, NULL, convert},
    {"TIFF", 0, "MM\0*", 4, NULL, NULL, convert},
    {"AVIF", 4, "ftyp", 4, "avi", NULL, convert},
    {"HEIC", 4, "ftyp", 4, "hei", NULL, convert},
    {"HEIC", 4, "ftyp", 4, "hev", NULL, convert},
    {"HEIF", 4, "ftyp", 4, "mif1", NULL, convert},
    {"HEIF", 4, "ftyp", 4, "msf1", NULL, convert},
    {"JPEG XL", 0, "\0\0\0\x0cJXL ", 8, NULL, NULL, convert},
    {"JPEG XL", 0, "\xff\x0a", 2, NULL, NULL, convert},
    {"JPEG 2000", 0, "\0\0\0\x0cjP  ", 8, NULL, NULL, convert},
    {"JPEG 2000", 0, "\xff\x4f\xff\x51", 4, NULL, NULL, convert},
    {"Photoshop", 0, "8BPS", 4, NULL, NULL, convert},
    {"SVG", 0, "<svg", 4, NULL, NULL, convert},
    {"PDF", 0, "%PDF", 4, NULL, NULL, convert},
};

const char *sac_image_formats(void)
{
    return "jpeg" PNG_NAME WEBP_NAME;
}

static bool matches(const struct format *f, const uint8_t *bytes, size_t size)
{
    size_t brand_at = f->at + f->magic_size, brand_size = f->brand != NULL ? strlen(f->brand) : 0;

    return size >= brand_at + brand_size && memcmp(bytes + f->at, f->magic, f->magic_size) == 0 &&
           (brand_size == 0 || memcmp(bytes + brand_at, f->brand, brand_size) == 0);
}

sac_status sac_image_read(const void *bytes, size_t size, const sac_image_limits *limits, sac_canvas *canvas,
                          sac_error *err)
{
    canvas->rgb = NULL;
    if (size == 0)
        return sac_fail(err, SAC_IMAGE_REJECTED, "the picture is empty: 0 bytes");
    if (size > limits->bytes)
        return sac_fail(err, SAC_IMAGE_REJECTED, "a picture of %zu bytes is over the limit of %zu bytes",
                        size, limits->bytes);
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        const struct format *f = &formats[i];

        if (!matches(f, bytes, size))
            continue;
        if (f->read == NULL)
            return sac_fail(err, SAC_IMAGE_REJECTED, "%s pictures are not supported here (%s are): %s",
                            f->name, sac_image_formats(), f->remedy);
        return f->read(bytes, size, limits, canvas, err);
    }
    return sac_fail(err, SAC_IMAGE_REJECTED, "%zu bytes that are no picture of a known format (%s)", size,
                    sac_image_formats());
}

static uint8_t *take_plain(void *context, size_t bytes)
{
    (void)context;
    return malloc(bytes);
}

sac_status sac_image_decode(const void *bytes, size_t size, const sac_image_limits *limits, sac_image **out,
                            sac_error *err)
{
    sac_canvas canvas = {.take = take_plain};
    sac_image_limits defaults;
    sac_status st;

    *out = NULL;
    sac_image_limits_init(&defaults);
    st = sac_image_read(bytes, size, limits != NULL ? limits : &defaults, &canvas, err);
    if (st == SAC_OK)
        *out = malloc(sizeof **out);
    if (*out == NULL) {
        free(canvas.rgb);
        return st != SAC_OK ? st : sac_fail(err, SAC_NO_MEMORY, "no memory for a picture");
    }
    **out = (sac_image){canvas.width, canvas.height, canvas.rgb};
    return SAC_OK;
}

void sac_image_free(sac_image *image)
{
    if (image == NULL)
        return;
    free(image->rgb);
    free(image);
}

/* ---- limits ----------------------------------------------------------------------------------------- */

sac_status sac_image_check_size(const sac_image_limits *limits, uint32_t width, uint32_t height,
                                uint64_t pixels_max, sac_error *err)
{
    if (width == 0 || height == 0)
        return sac_fail(err, SAC_IMAGE_CORRUPT, "a picture of %ux%u has no pixels", width, height);
    if ((uint64_t)width * height > pixels_max)
        return sac_fail(err, SAC_IMAGE_REJECTED, "%ux%u is over the limit of %.4g million pixels", width,
                        height, (double)pixels_max / 1e6);
    if (width > limits->side_max || height > limits->side_max)
        return sac_fail(err, SAC_IMAGE_REJECTED, "%ux%u is over the limit of %u pixels a side", width, height,
                        limits->side_max);
    if (width < limits->side_min || height < limits->side_min)
        return sac_fail(err, SAC_IMAGE_REJECTED, "%ux%u is under the limit of %u pixels a side", width,
                        height, limits->side_min);
    return SAC_OK;
}

int64_t sac_image_clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

sac_status sac_image_overdue(const sac_image_limits *limits, sac_error *err)
{
    return sac_fail(err, SAC_IMAGE_REJECTED, "decoding took longer than the limit of %u ms",
                    limits->milliseconds);
}

/* ---- canvas ----------------------------------------------------------------------------------------- */

sac_status sac_canvas_open(sac_canvas *canvas, uint32_t width, uint32_t height, unsigned orientation,
                           sac_error *err)
{
    bool turned = orientation >= 5; /* rows of the file are columns of the picture */
    bool from_right = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    bool from_bottom = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    size_t bytes;
    ptrdiff_t row;

    canvas->width = turned ? height : width;
    canvas->height = turned ? width : height;
    canvas->stored_width = width;
    canvas->rgb = NULL;
    if (!__builtin_mul_overflow((size_t)width, (size_t)height, &bytes) &&
        !__builtin_mul_overflow(bytes, (size_t)3, &bytes))
        canvas->rgb = canvas->take(canvas->context, bytes);
    if (canvas->rgb == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a picture of %ux%u", width, height);
    row = (ptrdiff_t)canvas->width * 3;
    canvas->origin =
        canvas->rgb + (from_right ? row - 3 : 0) + (from_bottom ? row * (canvas->height - 1) : 0);
    canvas->step_x = turned ? (from_bottom ? -row : row) : (from_right ? -3 : 3);
    canvas->step_y = turned ? (from_right ? -3 : 3) : (from_bottom ? -row : row);
    return SAC_OK;
}

static void put_pixel(uint8_t *to, const uint8_t *from)
{
    to[0] = from[0];
    to[1] = from[1];
    to[2] = from[2];
}

void sac_canvas_put(const sac_canvas *canvas, uint32_t y, uint32_t row_count, const uint8_t *rows,
                    size_t stride)
{
    uint8_t *corner = canvas->origin + (ptrdiff_t)y * canvas->step_y;

    if (canvas->step_x == 3) {
        for (uint32_t r = 0; r < row_count; r++)
            memcpy(corner + (ptrdiff_t)r * canvas->step_y, rows + r * stride,
                   (size_t)canvas->stored_width * 3);
        return;
    }
    /* Columns outside: a turned band of rows is then written in runs of neighbouring pixels. */
    for (uint32_t x = 0; x < canvas->stored_width; x++)
        for (uint32_t r = 0; r < row_count; r++)
            put_pixel(corner + (ptrdiff_t)r * canvas->step_y + (ptrdiff_t)x * canvas->step_x,
                      rows + r * stride + (size_t)x * 3);
}

void sac_image_over_white(uint8_t *rgb, const uint8_t *rgba, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t alpha = rgba[4 * i + 3];

        for (int c = 0; c < 3; c++)
            rgb[3 * i + c] = (uint8_t)((rgba[4 * i + c] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
}
