/* image_jpeg.c -- JPEG through the libjpeg API, with limits at every step.
 *
 * Settings are the accurate ones (integer DCT, smooth chroma upsampling, no scaling), so pixels are what
 * Pillow, and so the training of every encoder, saw; nvJPEG upsamples chroma in another way and gives other
 * pixels, so beside a GPU this decoder works as well, straight into memory that the GPU copies from. Errors
 * leave the library by longjmp: everything that must survive the jump lives in struct reader, which the
 * function that calls setjmp only points at.
 */
#include "engine/image.h"
#include "engine/jpeg_header.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include <jerror.h>

enum { BAND_ROWS = 16 }; /* rows converted or turned at once */

struct reader {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    const sac_image_limits *limits;
    const sac_jpeg_header *header;
    int64_t deadline_ms;
    sac_canvas *canvas;
    uint8_t *band; /* BAND_ROWS stored rows; NULL where rows go straight into the picture */
    sac_status status;
    sac_error *err;
};

/* What a libjpeg error means to us: the world's fault, ours, or a limit of ours. */
static sac_status error_status(int code)
{
    switch (code) {
    case JERR_OUT_OF_MEMORY:
        return SAC_NO_MEMORY;
    case JERR_NO_BACKING_STORE: /* over max_memory_to_use */
    case JERR_IMAGE_TOO_BIG:
    case JERR_WIDTH_OVERFLOW:
    case JERR_NOTIMPL:
    case JERR_NOT_COMPILED:
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_CCIR601_NOTIMPL:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_SOF_UNSUPPORTED:
        return SAC_IMAGE_REJECTED;
    default:
        return SAC_IMAGE_CORRUPT;
    }
}

/* Warnings after which pixels are no longer those of the photographer. The others (stray bytes before a
 * marker, unknown revision or transform numbers, odd scan parameters) leave the picture whole, and real
 * cameras write them. */
static bool warning_is_fatal(int code)
{
    return code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE || code == JWRN_JPEG_EOF ||
           code == JWRN_MUST_RESYNC || code == JWRN_BOGUS_PROGRESSION;
}

static _Noreturn void leave(struct reader *r, sac_status status)
{
    r->status = status;
    longjmp(r->failed, 1);
}

static _Noreturn void on_error(j_common_ptr jpeg)
{
    struct reader *r = jpeg->client_data;
    int code = jpeg->err->msg_code;
    sac_status st = error_status(code);
    char text[JMSG_LENGTH_MAX];

    jpeg->err->format_message(jpeg, text);
    if (code == JERR_NO_BACKING_STORE)
        sac_fail(r->err, st, "decoding this JPEG of %ux%u needs more than the limit of %zu bytes",
                 r->header->width, r->header->height, r->limits->decoder_bytes);
    else if (st == SAC_NO_MEMORY)
        sac_fail(r->err, st, "no memory to decode a JPEG of %ux%u", r->header->width, r->header->height);
    else
        sac_fail(r->err, st, "JPEG: %s", text);
    leave(r, st);
}

static void on_message(j_common_ptr jpeg, int level)
{
    if (level < 0 && warning_is_fatal(jpeg->err->msg_code))
        on_error(jpeg);
}

/* Nothing is printed by a library. */
static void on_output(j_common_ptr jpeg)
{
    (void)jpeg;
}

/* Called by libjpeg for every row of blocks that it reads or writes. */
static void on_progress(j_common_ptr jpeg)
{
    struct reader *r = jpeg->client_data;
    uint64_t scans = (uint64_t)r->jpeg.input_scan_number;

    if (scans * r->header->blocks > r->limits->scan_blocks)
        leave(r, sac_fail(r->err, SAC_IMAGE_REJECTED,
                          "scan %llu of a JPEG of %ux%u is over the limit of %llu blocks in all scans",
                          (unsigned long long)scans, r->header->width, r->header->height,
                          (unsigned long long)r->limits->scan_blocks));
    if (sac_image_clock_ms() > r->deadline_ms)
        leave(r, sac_image_overdue(r->limits, r->err));
}

/* Stored CMYK is inverted: every program writes it as Photoshop does, whatever the Adobe marker says, and
 * browsers and Pillow read it so. In place: three bytes replace four. */
static void cmyk_to_rgb(uint8_t *row, uint32_t width)
{
    for (size_t x = 0; x < width; x++) {
        uint32_t light = row[4 * x + 3]; /* 255 - black */

        for (size_t c = 0; c < 3; c++) {
            uint32_t ink = (255u - row[4 * x + c]) * light + 128;

            row[3 * x + c] = (uint8_t)(light - ((ink + (ink >> 8)) >> 8));
        }
    }
}

static void read_rows(struct reader *r)
{
    struct jpeg_decompress_struct *jpeg = &r->jpeg;
    size_t stride = (size_t)jpeg->output_width * (size_t)jpeg->output_components;

    while (jpeg->output_scanline < jpeg->output_height) {
        JDIMENSION first = jpeg->output_scanline, left = jpeg->output_height - first;
        JDIMENSION wanted = left < BAND_ROWS ? left : BAND_ROWS;
        JSAMPROW rows[BAND_ROWS];

        for (JDIMENSION i = 0; i < wanted; i++)
            rows[i] = r->band != NULL ? r->band + i * stride
                                      : r->canvas->origin + (ptrdiff_t)(first + i) * r->canvas->step_y;
        for (JDIMENSION got = 0; got < wanted;)
            got += jpeg_read_scanlines(jpeg, rows + got, wanted - got);
        if (r->band == NULL)
            continue;
        if (jpeg->output_components == 4)
            for (JDIMENSION i = 0; i < wanted; i++)
                cmyk_to_rgb(rows[i], jpeg->output_width);
        sac_canvas_put(r->canvas, first, wanted, r->band, stride);
    }
}

/* Room for what comes out of the decoder that was just started. */
static sac_status take_memory(struct reader *r)
{
    const struct jpeg_decompress_struct *jpeg = &r->jpeg;
    sac_status st =
        sac_canvas_open(r->canvas, jpeg->output_width, jpeg->output_height, r->header->orientation, r->err);

    if (st != SAC_OK)
        return st;
    if (r->canvas->step_x != 3 || jpeg->output_components == 4) {
        r->band = malloc((size_t)BAND_ROWS * jpeg->output_width * (size_t)jpeg->output_components);
        if (r->band == NULL)
            return sac_fail(r->err, SAC_NO_MEMORY, "no memory for rows of %u pixels", jpeg->output_width);
    }
    return SAC_OK;
}

/* jpeg_finish_decompress is left out on purpose: the rows are all there, and what may follow them (a second
 * picture, a maker's data) is none of our business. */
static sac_status run(struct reader *r, const uint8_t *bytes, size_t size)
{
    struct jpeg_decompress_struct *jpeg = &r->jpeg;
    sac_status st;

    if (setjmp(r->failed) != 0)
        return r->status;
    jpeg_create_decompress(jpeg);
    jpeg->mem->max_memory_to_use = (long)r->limits->decoder_bytes;
    jpeg->progress = &r->progress;
    jpeg_mem_src(jpeg, bytes, size);
    jpeg_read_header(jpeg, TRUE);
    if (jpeg->image_width != r->header->width || jpeg->image_height != r->header->height)
        return sac_fail(r->err, SAC_IMAGE_CORRUPT, "JPEG with more than one frame header");
    jpeg->out_color_space = jpeg->num_components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->do_fancy_upsampling = TRUE;
    jpeg_start_decompress(jpeg);
    st = take_memory(r);
    if (st == SAC_OK)
        read_rows(r);
    return st;
}

sac_status sac_image_read_jpeg(const uint8_t *bytes, size_t size, const sac_image_limits *limits,
                               sac_canvas *canvas, sac_error *err)
{
    int64_t start_ms = sac_image_clock_ms();
    struct reader r = {
        .limits = limits, .canvas = canvas, .err = err, .deadline_ms = start_ms + limits->milliseconds};
    sac_jpeg_header header;
    sac_status st;

    st = sac_jpeg_header_read(bytes, size, &header, err);
    if (st == SAC_OK)
        st = sac_jpeg_header_supported(&header, err);
    if (st == SAC_OK)
        st = sac_image_check_size(limits, header.width, header.height,
                                  header.frame == 2 ? limits->pixels_progressive : limits->pixels, err);
    if (st != SAC_OK)
        return st;

    r.header = &header;
    r.jpeg.err = jpeg_std_error(&r.errors);
    r.errors.error_exit = on_error;
    r.errors.emit_message = on_message;
    r.errors.output_message = on_output;
    r.progress.progress_monitor = on_progress;
    r.jpeg.client_data = &r;
    st = run(&r, bytes, size);
    jpeg_destroy_decompress(&r.jpeg);
    free(r.band);
    return st;
}
