/* descriptor.c -- "builtin-1": oriented gradients on a grid at two scales, colour layout, colour histogram.
 *
 * The picture is squeezed to 128x128 (SQUASH, bicubic), so that all of it counts whatever its shape. Then
 *
 *   fine     of 64x64 pixels (means of 2x2): gradient orientations in 12 bins of half a turn, weighted by
 *   192      magnitude, summed into a grid of 4x4 cells; orientation and cell are shared out linearly between
 *            neighbours. Of the three colours the strongest gradient counts, as in Dalal and Triggs,
 *            "Histograms of oriented gradients for human detection", 2005.
 *   coarse   the same of 16x16 pixels (means of 8x8): the shape of the scene, what Oliva and Torralba's GIST
 *   192      ("Modeling the shape of the scene", 2001) is after, by cheaper means.
 *   layout   mean of (R+G+B)/3, R-G and (R+G)/2-B in each of 4x4 cells; brightness relative to the picture's
 *   48       mean. After the MPEG-7 colour layout descriptor, without its cosine transform.
 *   colours  histogram over 3x4x4 cells of the same three numbers, shared out linearly: what survives turning
 *   48       and cropping. After Swain and Ballard, "Color indexing", 1991.
 *
 * Sums of fine, coarse and colours are square-rooted (a Hellinger kernel: a strong edge counts less than
 * many) and lose their mean, so that cosine is a correlation and not the trivial likeness of all histograms.
 * Each block is scaled to a length of its own, the whole to length 1. The numbers were chosen by
 * nearest-neighbour label accuracy on clothing and Caltech-101 photos and by finding cropped, recoloured and
 * turned copies.
 *
 * Only +, -, *, / and square roots of f32 in a fixed order: the same bits on every machine with IEEE 754.
 */
#include "engine/descriptor.h"

#include <math.h>
#include <string.h>

enum {
    SIDE = 128,
    FINE = 64,
    COARSE = 16,
    GRID = 4,
    BINS = 12,
    LIGHTS = 3, /* histogram cells along (R+G+B)/3 */
    TINTS = 4,  /* and along each of R-G and (R+G)/2-B */
    GRADIENT_DIM = GRID * GRID * BINS,
    LAYOUT_DIM = GRID * GRID * 3,
    COLOUR_DIM = LIGHTS * TINTS * TINTS,
    DIM = 2 * GRADIENT_DIM + LAYOUT_DIM + COLOUR_DIM
};

/* Lengths of the blocks before the whole is scaled: how much each has to say. */
static const float gradient_length = 1.0f, layout_length = 0.45f, colour_length = 0.55f;

/* Tints reach from -TINT_RANGE to TINT_RANGE in the histogram; stronger ones count as its last cells. */
static const float tint_range = 96.0f;

uint32_t sac_descriptor_dim(void)
{
    return DIM;
}

void sac_descriptor_preprocess(sac_preprocess *out)
{
    *out = (sac_preprocess){
        .width = SIDE,
        .height = SIDE,
        .fit = SAC_FIT_SQUASH,
        .filter = SAC_FILTER_BICUBIC,
        .std = {1.0f, 1.0f, 1.0f},
    };
}

/* A value's two neighbours among cells and its share in the upper one. */
struct share {
    uint32_t low, high;
    float upper;
};

/* at: in cells; cell i has its centre at i + 0.5. Beyond the outer centres the outer cells take everything.
 */
static struct share share_between(float at, uint32_t cells)
{
    float place = at - 0.5f;
    uint32_t low;

    if (!(place > 0.0f))
        return (struct share){0, 0, 0.0f};
    if (place >= (float)(cells - 1))
        return (struct share){cells - 1, cells - 1, 0.0f};
    low = (uint32_t)place;
    return (struct share){low, low + 1, place - (float)low};
}

/* Means of factor x factor pixels. to: [SIDE / factor][SIDE / factor][3] */
static void shrink(const uint8_t *pixels, uint32_t factor, float *to)
{
    uint32_t side = SIDE / factor;

    for (uint32_t y = 0; y < side; y++)
        for (uint32_t x = 0; x < side; x++)
            for (uint32_t c = 0; c < 3; c++) {
                uint32_t sum = 0;

                for (uint32_t i = 0; i < factor * factor; i++)
                    sum += pixels[((y * factor + i / factor) * SIDE + x * factor + i % factor) * 3 + c];
                *to++ = (float)sum / (float)(factor * factor);
            }
}

struct gradient {
    float magnitude;
    float turn; /* direction modulo half a turn, in 0..1 */
};

/* Direction by atan(z) = z (pi/4 + 0.273 (1 - |z|)) for |z| <= 1, within 0.004 radians (Rajan and others,
 * "Efficient approximations for the arctangent function", 2006). */
static float half_turn(float dx, float dy)
{
    const float quarter = 0.25f, bend = 0.273f / 3.14159265f;
    float ax = fabsf(dx), ay = fabsf(dy), z, angle;

    z = ax >= ay ? ay / ax : ax / ay;
    angle = z * (quarter + bend * (1.0f - z)); /* 0..1/4: from the nearer axis */
    if (ay > ax)
        angle = 0.5f - angle;
    return (dx < 0.0f) != (dy < 0.0f) ? 1.0f - angle : angle;
}

/* The strongest of the three colours' gradients at pixel (x, y), 0 over the picture's edge. */
static struct gradient strongest(const float *picture, uint32_t side, uint32_t x, uint32_t y)
{
    const float *here = picture + ((size_t)y * side + x) * 3;
    bool inside_x = x > 0 && x<side - 1, inside_y = y> 0 && y < side - 1;
    float best = 0.0f, best_dx = 0.0f, best_dy = 0.0f;

    for (uint32_t c = 0; c < 3; c++) {
        float dx = inside_x ? here[c + 3] - here[(ptrdiff_t)c - 3] : 0.0f;
        float dy = inside_y ? here[c + 3 * side] - here[(ptrdiff_t)c - 3 * (ptrdiff_t)side] : 0.0f;
        float square = dx * dx + dy * dy;

        if (square > best) {
            best = square;
            best_dx = dx;
            best_dy = dy;
        }
    }
    if (best == 0.0f)
        return (struct gradient){0.0f, 0.0f};
    return (struct gradient){sqrtf(best), half_turn(best_dx, best_dy)};
}

/* out: [GRID][GRID][BINS] */
static void sum_gradients(const float *picture, uint32_t side, float *out)
{
    memset(out, 0, GRADIENT_DIM * sizeof *out);
    for (uint32_t y = 0; y < side; y++) {
        struct share row = share_between(((float)y + 0.5f) * GRID / (float)side, GRID);

        for (uint32_t x = 0; x < side; x++) {
            struct share column = share_between(((float)x + 0.5f) * GRID / (float)side, GRID);
            struct gradient g = strongest(picture, side, x, y);
            float place = g.turn * BINS, lower, upper;
            uint32_t bin = (uint32_t)place % BINS, next = (bin + 1) % BINS;

            upper = g.magnitude * (place - (float)(uint32_t)place);
            lower = g.magnitude - upper;
            for (uint32_t i = 0; i < 4; i++) {
                uint32_t cell = (i & 2 ? row.high : row.low) * GRID + (i & 1 ? column.high : column.low);
                float part =
                    (i & 2 ? row.upper : 1.0f - row.upper) * (i & 1 ? column.upper : 1.0f - column.upper);

                out[cell * BINS + bin] += part * lower;
                out[cell * BINS + next] += part * upper;
            }
        }
    }
}

struct opponent {
    float light, red_green, yellow_blue;
};

static struct opponent to_opponent(const float *rgb)
{
    return (struct opponent){(rgb[0] + rgb[1] + rgb[2]) / 3.0f, rgb[0] - rgb[1],
                             (rgb[0] + rgb[1]) * 0.5f - rgb[2]};
}

/* out: [GRID][GRID][3], light relative to the mean of all cells. */
static void sum_layout(const float *picture, float *out)
{
    const uint32_t step = FINE / GRID;
    float mean = 0.0f;

    for (uint32_t cell = 0; cell < GRID * GRID; cell++) {
        float *sums = out + cell * 3;

        sums[0] = sums[1] = sums[2] = 0.0f;
        for (uint32_t i = 0; i < step * step; i++) {
            uint32_t y = cell / GRID * step + i / step, x = cell % GRID * step + i % step;
            struct opponent o = to_opponent(picture + ((size_t)y * FINE + x) * 3);

            sums[0] += o.light;
            sums[1] += o.red_green;
            sums[2] += o.yellow_blue;
        }
        mean += sums[0] / (GRID * GRID);
    }
    for (uint32_t cell = 0; cell < GRID * GRID; cell++)
        out[cell * 3] -= mean;
}

/* out: [LIGHTS][TINTS][TINTS] */
static void sum_colours(const float *picture, float *out)
{
    memset(out, 0, COLOUR_DIM * sizeof *out);
    for (uint32_t i = 0; i < FINE * FINE; i++) {
        struct opponent o = to_opponent(picture + (size_t)i * 3);
        struct share l = share_between(o.light * LIGHTS / 255.0f, LIGHTS);
        struct share a = share_between((o.red_green / tint_range + 1.0f) * 0.5f * TINTS, TINTS);
        struct share b = share_between((o.yellow_blue / tint_range + 1.0f) * 0.5f * TINTS, TINTS);

        for (uint32_t k = 0; k < 8; k++) {
            uint32_t cell = ((k & 4 ? l.high : l.low) * TINTS + (k & 2 ? a.high : a.low)) * TINTS;

            out[cell + (k & 1 ? b.high : b.low)] += (k & 4 ? l.upper : 1.0f - l.upper) *
                                                    (k & 2 ? a.upper : 1.0f - a.upper) *
                                                    (k & 1 ? b.upper : 1.0f - b.upper);
        }
    }
}

/* Scales to the length wanted; nothing stays nothing. */
static void scale_to(float *values, size_t count, float length)
{
    float sum = 0.0f, factor;

    for (size_t i = 0; i < count; i++)
        sum += values[i] * values[i];
    factor = sum > 0.0f ? length / sqrtf(sum) : 0.0f;
    for (size_t i = 0; i < count; i++)
        values[i] *= factor;
}

/* Sums -> their roots without the roots' mean, at the length wanted. */
static void finish_sums(float *values, size_t count, float length)
{
    float mean = 0.0f;

    for (size_t i = 0; i < count; i++) {
        values[i] = sqrtf(values[i]);
        mean += values[i];
    }
    mean /= (float)count;
    for (size_t i = 0; i < count; i++)
        values[i] -= mean;
    scale_to(values, count, length);
}

void sac_descriptor_compute(const uint8_t *pixels, float *vector)
{
    float fine[FINE * FINE * 3], coarse[COARSE * COARSE * 3];
    float *layout = vector + (size_t)2 * GRADIENT_DIM, *colours = layout + LAYOUT_DIM;

    shrink(pixels, SIDE / FINE, fine);
    shrink(pixels, SIDE / COARSE, coarse);
    sum_gradients(fine, FINE, vector);
    sum_gradients(coarse, COARSE, vector + GRADIENT_DIM);
    sum_layout(fine, layout);
    sum_colours(fine, colours);
    finish_sums(vector, GRADIENT_DIM, gradient_length);
    finish_sums(vector + GRADIENT_DIM, GRADIENT_DIM, gradient_length);
    scale_to(layout, LAYOUT_DIM, layout_length);
    finish_sums(colours, COLOUR_DIM, colour_length); /* far from even where gradients are 0: no zero vector */
    scale_to(vector, DIM, 1.0f);
}
