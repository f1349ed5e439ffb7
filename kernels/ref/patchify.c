#include "kernels/ref/ref.h"
#include "kernels/ref/typed.h"
#include "kernels/resize_weights.h"

#include <assert.h>
#include <string.h>

/* The input of one picture as 8-bit pixels. */
static size_t input_bytes(const struct sac_patchify_args *a)
{
    return (size_t)a->width * a->height * 3;
}

static size_t scaling_bytes(const sac_device *d, const struct sac_patchify_args *a)
{
    size_t most = 0;

    for (size_t i = 0; a->pictures != NULL && i < a->n; i++) {
        struct sac_resize_args resize = sac_placed_resize(&a->pictures[i], a->filter, NULL, 0);
        size_t bytes = sac_placed_is_scaled(&a->pictures[i]) ? sac_resize_scratch_ref(d, &resize) : 0;

        most = bytes > most ? bytes : most;
    }
    return most;
}

size_t sac_patchify_scratch_ref(const sac_device *d, const struct sac_patchify_args *a)
{
    return sac_scratch_add(sac_scratch_size(input_bytes(a), 1), sac_scratch_size(scaling_bytes(d, a), 1));
}

/* The picture at its place in `input`, the rest 0. */
static sac_status place(sac_stream *s, const struct sac_patchify_args *a, const struct sac_placed_picture *p,
                        uint8_t *input)
{
    size_t stride = (size_t)a->width * 3;
    uint8_t *to = input + p->to_y * stride + (size_t)p->to_x * 3;
    struct sac_resize_args resize = sac_placed_resize(p, a->filter, to, stride);

    assert((uint64_t)p->to_x + p->window_width <= a->width);
    assert((uint64_t)p->to_y + p->window_height <= a->height);
    memset(input, 0, input_bytes(a));
    if (sac_placed_is_scaled(p))
        return sac_resize_ref(s, &resize);
    for (uint32_t y = 0; y < p->window_height; y++)
        memcpy(to + y * stride, p->pixels + (p->window_y + y) * p->stride + (size_t)p->window_x * 3,
               (size_t)p->window_width * 3);
    return SAC_OK;
}

/* Elements `to` and on. */
static void cut(const struct sac_patchify_args *a, const uint8_t *input, size_t to)
{
    for (uint32_t top = 0; top < a->height; top += a->patch)
        for (uint32_t left = 0; left < a->width; left += a->patch)
            for (uint32_t c = 0; c < 3; c++)
                for (uint32_t y = top; y < top + a->patch; y++)
                    for (uint32_t x = left; x < left + a->patch; x++, to++) {
                        float value = input[((size_t)y * a->width + x) * 3 + c];

                        sac_typed_set(a->out, a->dtype, to, value * a->scale[c] + a->shift[c]);
                    }
}

sac_status sac_patchify_ref(sac_stream *s, const struct sac_patchify_args *a)
{
    size_t bytes = scaling_bytes(s->device, a);
    uint8_t *input;
    void *arena;

    if (a->n == 0)
        return SAC_OK;
    sac_scratch_reset(s);
    input = sac_scratch_take(s, input_bytes(a), 1);
    arena = sac_scratch_take(s, bytes, 1);
    if (input == NULL || arena == NULL)
        return SAC_NO_MEMORY;
    for (size_t i = 0; i < a->n; i++) {
        sac_stream inner = sac_scratch_stream(s, arena, bytes);
        sac_status st = place(&inner, a, &a->pictures[i], input);

        if (st != SAC_OK)
            return st;
        cut(a, input, i * input_bytes(a));
    }
    return SAC_OK;
}
