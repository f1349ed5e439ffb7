/* Cases of pictures: n of them, each of one of a few shapes and anywhere in the input, which is k columns and
 * `queries` rows of patches of dim x dim pixels. */
#include "tests/kernels/cases.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- patchify: pq.m is the first shape, pq.dsub how many there are from it on ---- */

static const struct shape {
    uint32_t width, height, full_width, full_height;
} shapes[] = {
    {40, 37, 40, 37},                                             /* not scaled */
    {33, 70, 33, 70},     {96, 64, 48, 32},     {61, 43, 61, 50}, /* of one axis only */
    {61, 43, 70, 86},     {300, 200, 45, 30},   {13, 9, 130, 100},    {1, 1, 64, 3},
    {2, 700, 33, 40},     {900, 7, 60, 34},     {1100, 5, 33, 64},    {1700, 3, 2, 5},
    {65, 1300, 31, 2},    {3000, 2, 30000, 20}, {500, 375, 299, 224}, /* for benchmarks */
    {224, 224, 224, 224},
};
enum { SHAPE_SCALED = 2, SHAPE_PHOTO = 14, SHAPE_SQUARE = 15 };

static const struct kernel_case patchify_cases[] = {
    {.n = 0, .dim = 4, .k = 2, .queries = 2, .pq = {.dsub = 1}},
    {.n = 3, .dim = 14, .k = 1, .queries = 1, .pq = {.m = 0, .dsub = SHAPE_SCALED}},
    {.n = 3, .dim = 8, .k = 9, .queries = 8, .pq = {.m = 0, .dsub = SHAPE_SCALED}, .dtype = SAC_BF16},
    {.n = 3, .dim = 1, .k = 33, .queries = 31, .pq = {.m = 0, .dsub = 4}},
    {.n = 4, .dim = 16, .k = 3, .queries = 2, .pq = {.m = 1, .dsub = 4}, .dtype = SAC_BF16},
    {.n = 4, .dim = 16, .k = 2, .queries = 2, .pq = {.m = 2, .dsub = 4}, .flags = CASE_BILINEAR},
    {.n = 14, .dim = 14, .k = 3, .queries = 2, .pq = {.m = 0, .dsub = 14}},
    {.n = 14, .dim = 14, .k = 2, .queries = 3, .pq = {.m = 0, .dsub = 14}, .flags = CASE_BILINEAR},
    {.n = 13, .dim = 32, .k = 2, .queries = 1, .pq = {.m = 1, .dsub = 13}, .dtype = SAC_BF16},
    {.n = 5, .dim = 40, .k = 2, .queries = 1, .pq = {.m = 2, .dsub = 5}, .dtype = SAC_BF16},
    {.n = 2, .dim = 37, .k = 1, .queries = 2, .pq = {.m = 5, .dsub = 2}},
    {.n = 5, .dim = 3, .k = 11, .queries = 10, .pq = {.m = 4, .dsub = 5}, .flags = CASE_BILINEAR},
    {.n = 3, .dim = 5, .k = 6, .queries = 7, .pq = {.m = 9, .dsub = 3}, .dtype = SAC_BF16},
    {.n = 64,
     .dim = 16,
     .k = 14,
     .queries = 14,
     .pq = {.m = SHAPE_PHOTO, .dsub = 1},
     .dtype = SAC_BF16,
     .flags = CASE_BENCH},
    {.n = 64,
     .dim = 16,
     .k = 14,
     .queries = 14,
     .pq = {.m = SHAPE_SQUARE, .dsub = 1},
     .dtype = SAC_BF16,
     .flags = CASE_BENCH},
};

/* One axis of a window that lies anywhere in the scaled picture and in the input, most often as large as both
 * allow. */
static void place(struct kernel_data *data, uint32_t full, uint32_t wanted, uint32_t *window,
                  uint32_t *length, uint32_t *to)
{
    uint32_t most = full < wanted ? full : wanted;

    *length = kernel_random(data, 4) == 0 ? kernel_random(data, most + 1) : most;
    *window = kernel_random(data, full - *length + 1);
    *to = kernel_random(data, wanted - *length + 1);
}

enum { STRIDE_SPARE = 26, GAP = 16 };

/* Noise, and blocks of black and white for a filter to overshoot at. The picture most often ends where its
 * memory does, which is of the same size whatever the stride. */
static const uint8_t *picture_pixels(struct kernel_data *data, const struct sac_placed_picture *p)
{
    size_t bytes = (p->height - 1) * p->stride + (size_t)p->width * 3;
    size_t room = (size_t)p->height * (p->width * 3 + STRIDE_SPARE) + GAP;
    size_t behind = kernel_random(data, 2) == 0 ? 0 : kernel_random(data, GAP);
    uint8_t *memory = kernel_block(data, room, 1), *pixels = memory + room - behind - bytes;

    for (size_t i = 0; i < room; i++)
        memory[i] = (uint8_t)kernel_random(data, 256);
    for (uint32_t y = 0; y < p->height; y++)
        for (uint32_t x = 0; x < p->width; x++)
            if ((x / 8 + y / 8) % 3 != 0)
                memset(pixels + y * p->stride + (size_t)x * 3, (x / 8 + y / 8) % 3 == 1 ? 255 : 0, 3);
    return pixels;
}

/* Products and sums of scaling it. */
static double picture_flops(const struct sac_placed_picture *p)
{
    double x = (double)p->width / p->full_width, y = (double)p->height / p->full_height;
    double taps_x = 4.0 * (x > 1.0 ? x : 1.0), taps_y = 4.0 * (y > 1.0 ? y : 1.0);

    if (p->full_width == p->width && p->full_height == p->height)
        return 0.0;
    return 6.0 * p->window_width * (taps_x * (p->window_height * y + taps_y) + p->window_height * taps_y);
}

static void patchify_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    struct sac_patchify_args *a = &data->args.patchify;
    /* made of words, some of which point into blocks */
    struct sac_placed_picture *pictures = kernel_pointers(data, c->n * (sizeof *pictures / sizeof(void *)));

    *a = (struct sac_patchify_args){.pictures = pictures,
                                    .n = c->n,
                                    .width = c->k * c->dim,
                                    .height = c->queries * c->dim,
                                    .patch = c->dim,
                                    .filter =
                                        c->flags & CASE_BILINEAR ? SAC_FILTER_BILINEAR : SAC_FILTER_BICUBIC,
                                    .scale = {0.0171f, 0.0175f, -0.3f},
                                    .shift = {-2.1f, 0.0f, 7.77f},
                                    .dtype = c->dtype};
    for (size_t i = 0; i < c->n; i++) {
        const struct shape *shape = &shapes[c->pq.m + i % c->pq.dsub];
        struct sac_placed_picture *p = &pictures[i];

        p->width = shape->width;
        p->height = shape->height;
        p->stride = (size_t)p->width * 3 + kernel_random(data, 3) * kernel_random(data, STRIDE_SPARE / 2 + 1);
        p->full_width = shape->full_width;
        p->full_height = shape->full_height;
        place(data, p->full_width, a->width, &p->window_x, &p->window_width, &p->to_x);
        place(data, p->full_height, a->height, &p->window_y, &p->window_height, &p->to_y);
        p->pixels = picture_pixels(data, p);
        data->bytes += (double)p->width * p->height * 3;
        data->flops += picture_flops(p);
    }
    a->out = kernel_output(data, (size_t)c->n * a->width * a->height * 3, c->dtype == SAC_BF16 ? 2 : 4);
    data->bytes += (double)data->out_bytes[0];
}

KERNEL_RUN(patchify)
KERNEL_SCRATCH(patchify)

static const char *patchify_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    return memcmp(want[0], got[0], data->out_bytes[0]) == 0 ? NULL : "not the twin's bits";
}

const struct kernel_op patchify_op = {"patchify",   patchify_cases,   COUNT(patchify_cases), patchify_make,
                                      patchify_run, patchify_scratch, patchify_check};
