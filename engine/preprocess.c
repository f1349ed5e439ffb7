/* preprocess.c -- where the picture, scaled, lies under the encoder's input; the scaling itself is `resize`.
 *
 * Only the window that the input shows is computed, so a picture of 16384x16 whose shorter side goes to 248
 * costs no more than another one.
 */
#include "engine/preprocess.h"

#include <assert.h>
#include <string.h>

/* One axis of the scaled picture against the encoder's input. */
struct placement {
    uint32_t full;   /* the whole picture, scaled */
    uint32_t from;   /* first pixel of it that shows */
    uint32_t to;     /* where that lands in the input */
    uint32_t length; /* how many show */
};

/* Half of an odd difference: Python's round() goes to the even neighbour, its // down. */
static uint32_t corner(uint32_t difference, sac_rounding rounding)
{
    uint32_t half = difference / 2;

    return rounding == SAC_ROUNDING_FLOOR && difference % 2 == 1 && half % 2 == 1 ? half + 1 : half;
}

/* A picture that is too small lies in the middle of zeros; of an odd difference, torchvision leaves the
 * smaller part before it, transformers the larger. */
static struct placement place_centre(uint32_t full, uint32_t wanted, sac_rounding rounding)
{
    uint32_t missing;

    if (full >= wanted)
        return (struct placement){full, corner(full - wanted, rounding), 0, wanted};
    missing = wanted - full;
    return (struct placement){full, 0, rounding == SAC_ROUNDING_HF ? (missing + 1) / 2 : missing / 2, full};
}

/* SAC_INVALID_ARGUMENT where nothing of the picture is left. */
static sac_status cut_crop(const sac_image *image, const sac_crop *crop, sac_crop *out, sac_error *err)
{
    *out = (sac_crop){0, 0, image->width, image->height};
    if (crop == NULL || crop->w == 0)
        return SAC_OK;
    if (crop->x >= image->width || crop->y >= image->height || crop->h == 0)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "crop [%u, %u, %u, %u] (x, y, w, h) holds nothing of a picture of %ux%u", crop->x,
                        crop->y, crop->w, crop->h, image->width, image->height);
    out->x = crop->x;
    out->y = crop->y;
    out->w = crop->w < image->width - crop->x ? crop->w : image->width - crop->x;
    out->h = crop->h < image->height - crop->y ? crop->h : image->height - crop->y;
    return SAC_OK;
}

static sac_status place(const sac_preprocess *p, const sac_crop *part, struct placement *x,
                        struct placement *y, sac_error *err)
{
    uint32_t shorter = part->w < part->h ? part->w : part->h;
    uint64_t width, height;

    if (p->fit == SAC_FIT_SQUASH) {
        *x = (struct placement){p->width, 0, 0, p->width};
        *y = (struct placement){p->height, 0, 0, p->height};
        return SAC_OK;
    }
    width = (uint64_t)p->shorter * part->w / shorter;
    height = (uint64_t)p->shorter * part->h / shorter;
    if (width > UINT32_MAX || height > UINT32_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "a picture of %ux%u is too long to scale its shorter side to %u", part->w, part->h,
                        p->shorter);
    *x = place_centre((uint32_t)width, p->width, p->rounding);
    *y = place_centre((uint32_t)height, p->height, p->rounding);
    return SAC_OK;
}

size_t sac_preprocess_bytes(const sac_preprocess *preprocess)
{
    return (size_t)preprocess->width * preprocess->height * 3;
}

sac_status sac_preprocess_place(const sac_preprocess *preprocess, const sac_image *image,
                                const sac_crop *crop, struct sac_placed_picture *out, sac_error *err)
{
    size_t stride = (size_t)image->width * 3;
    struct placement x = {0}, y = {0};
    sac_crop part;
    sac_status st = cut_crop(image, crop, &part, err);

    if (st == SAC_OK)
        st = place(preprocess, &part, &x, &y, err);
    if (st != SAC_OK)
        return st;
    *out = (struct sac_placed_picture){
        .pixels = image->rgb + part.y * stride + (size_t)part.x * 3,
        .stride = stride,
        .width = part.w,
        .height = part.h,
        .full_width = x.full,
        .full_height = y.full,
        .window_x = x.from,
        .window_y = y.from,
        .window_width = x.length,
        .window_height = y.length,
        .to_x = x.to,
        .to_y = y.to,
    };
    return SAC_OK;
}

struct sac_placed_picture sac_preprocess_done(const sac_preprocess *preprocess, const uint8_t *pixels)
{
    uint32_t width = preprocess->width, height = preprocess->height;

    return (struct sac_placed_picture){
        .pixels = pixels,
        .stride = (size_t)width * 3,
        .width = width,
        .height = height,
        .full_width = width,
        .full_height = height,
        .window_width = width,
        .window_height = height,
    };
}

sac_status sac_preprocess_scale(sac_device *device, const sac_preprocess *preprocess,
                                const struct sac_placed_picture *placed, uint8_t *pixels, sac_error *err)
{
    const struct sac_ops *ops = sac_device_ops(device);
    size_t stride = (size_t)preprocess->width * 3;
    struct sac_resize_args args = {
        .from = placed->pixels,
        .from_width = placed->width,
        .from_height = placed->height,
        .from_stride = placed->stride,
        .box = {0, 0, placed->width, placed->height},
        .full_width = placed->full_width,
        .full_height = placed->full_height,
        .window_x = placed->window_x,
        .window_y = placed->window_y,
        .window_width = placed->window_width,
        .window_height = placed->window_height,
        .to = pixels + placed->to_y * stride + (size_t)placed->to_x * 3,
        .to_stride = stride,
        .filter = preprocess->filter,
    };
    sac_stream *stream;
    sac_status st;

    assert(sac_device_host_visible(device));
    if (placed->window_width < preprocess->width || placed->window_height < preprocess->height)
        memset(pixels, 0, sac_preprocess_bytes(preprocess));
    st = sac_stream_borrow(device, ops->resize_scratch(device, &args), &stream, err);
    if (st != SAC_OK)
        return st;
    st = ops->resize(stream, &args);
    if (st == SAC_OK)
        st = sac_stream_wait(stream);
    if (st != SAC_OK)
        sac_fail(err, st, "resizing a picture of %ux%u failed: %s", placed->width, placed->height,
                 sac_status_text(st));
    sac_stream_give_back(stream);
    return st;
}

sac_status sac_preprocess_run(sac_device *device, const sac_preprocess *preprocess, const sac_image *image,
                              const sac_crop *crop, uint8_t *pixels, sac_error *err)
{
    struct sac_placed_picture placed;
    sac_status st = sac_preprocess_place(preprocess, image, crop, &placed, err);

    return st == SAC_OK ? sac_preprocess_scale(device, preprocess, &placed, pixels, err) : st;
}
