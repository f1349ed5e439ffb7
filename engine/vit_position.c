/* vit_position.c -- position embeddings for another input size.
 *
 * Bicubic interpolation with half-pixel centres and clamped borders, as transformers does it for DINOv2:
 * plain (a = -0.75, four taps) for the first family, antialiased (a = -0.5, the filter widened when
 * shrinking, taps beyond the border left out and the rest scaled to sum 1) for the one with registers. */
#include "engine/vit_internal.h"

#include <math.h>

enum { TAPS_MAX = 64 };

/* Keys' cubic convolution kernel. */
static double cubic(double x, double a)
{
    x = fabs(x);
    if (x <= 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2)
        return ((x - 5) * x + 8) * x * a - 4 * a;
    return 0;
}

struct taps {
    uint32_t count;
    uint32_t index[TAPS_MAX];
    double weight[TAPS_MAX];
};

static void plain_taps(uint32_t at, uint32_t from, uint32_t to, struct taps *taps)
{
    double centre = (at + 0.5) * from / to - 0.5;
    int first = (int)floor(centre) - 1;

    taps->count = 4;
    for (int i = 0; i < 4; i++) {
        int index = first + i;

        taps->weight[i] = cubic(centre - index, -0.75);
        taps->index[i] = index < 0 ? 0 : (uint32_t)index >= from ? from - 1 : (uint32_t)index;
    }
}

static void antialiased_taps(uint32_t at, uint32_t from, uint32_t to, struct taps *taps)
{
    double scale = (double)from / to, stretch = scale > 1 ? scale : 1;
    double centre = (at + 0.5) * scale, sum = 0;
    int first = (int)(centre - 2 * stretch + 0.5), end = (int)(centre + 2 * stretch + 0.5);

    first = first < 0 ? 0 : first;
    end = end > (int)from ? (int)from : end;
    end = end > first + TAPS_MAX ? first + TAPS_MAX : end;
    taps->count = (uint32_t)(end - first);
    for (uint32_t i = 0; i < taps->count; i++) {
        taps->index[i] = (uint32_t)first + i;
        taps->weight[i] = cubic((first + (int)i - centre + 0.5) / stretch, -0.5);
        sum += taps->weight[i];
    }
    for (uint32_t i = 0; i < taps->count; i++)
        taps->weight[i] /= sum;
}

void sac_vit_interpolate(const float *from, uint32_t from_side, uint32_t components, bool antialiased,
                         float *to, uint32_t to_width, uint32_t to_height)
{
    void (*find)(uint32_t, uint32_t, uint32_t, struct taps *) = antialiased ? antialiased_taps : plain_taps;
    struct taps rows, columns;

    for (uint32_t y = 0; y < to_height; y++) {
        find(y, from_side, to_height, &rows);
        for (uint32_t x = 0; x < to_width; x++, to += components) {
            find(x, from_side, to_width, &columns);
            for (uint32_t w = 0; w < components; w++) {
                double sum = 0;

                for (uint32_t i = 0; i < rows.count; i++)
                    for (uint32_t j = 0; j < columns.count; j++)
                        sum +=
                            rows.weight[i] * columns.weight[j] *
                            (double)
                                from[((size_t)rows.index[i] * from_side + columns.index[j]) * components + w];
                to[w] = (float)sum;
            }
        }
    }
}
