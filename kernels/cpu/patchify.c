/* patchify.c -- the twin, with the 256 possible values of each channel computed once and a row of patches a
 * task. Twin: ref/patchify.c. Bound by memory.
 *
 * A picture that is not scaled is read where it lies. Others are scaled first, a picture a task, by the
 * device's own `resize`. */
#include "kernels/cpu/cpu.h"

#include "kernels/half.h"
#include "kernels/resize_weights.h"

#include <assert.h>
#include <stdatomic.h>

/* A picture's window, scaled. */
struct window {
    const uint8_t *pixels;
    size_t stride;
};

struct run {
    const struct sac_patchify_args *args;
    const sac_stream *stream;
    uint8_t *scaled;      /* [n][height * width * 3]: windows, from the start of each; NULL where none is */
    unsigned char *arena; /* [threads][arena_bytes] */
    size_t arena_bytes;
    atomic_int failed; /* a sac_status */
    union {
        float f32[3][256];
        uint16_t bf16[3][256];
    } values;
};

static size_t input_bytes(const struct sac_patchify_args *a)
{
    return (size_t)a->width * a->height * 3;
}

static struct window window_of(const struct run *run, size_t i)
{
    const struct sac_placed_picture *p = &run->args->pictures[i];

    if (sac_placed_is_scaled(p))
        return (struct window){run->scaled + i * input_bytes(run->args), (size_t)p->window_width * 3};
    return (struct window){p->pixels + p->window_y * p->stride + (size_t)p->window_x * 3, p->stride};
}

/* ---- scaling ----------------------------------------------------------------------------------------- */

/* False where no picture is scaled; *arena_bytes is the most that `resize` needs. */
static bool scaling(const sac_device *d, const struct sac_patchify_args *a, size_t *arena_bytes)
{
    bool any = false;

    *arena_bytes = 0;
    for (size_t i = 0; a->pictures != NULL && i < a->n; i++) {
        struct sac_resize_args resize = sac_placed_resize(&a->pictures[i], a->filter, NULL, 0);
        size_t bytes;

        if (!sac_placed_is_scaled(&a->pictures[i]))
            continue;
        bytes = sac_scratch_size(d->ops.resize_scratch(d, &resize), 1);
        *arena_bytes = bytes > *arena_bytes ? bytes : *arena_bytes;
        any = true;
    }
    return any;
}

size_t sac_patchify_scratch_cpu(const sac_device *d, const struct sac_patchify_args *a)
{
    size_t arena_bytes;

    if (!scaling(d, a, &arena_bytes))
        return 0;
    return sac_scratch_add(sac_scratch_size(a->n, input_bytes(a)), sac_scratch_size(d->threads, arena_bytes));
}

static void scale_task(void *context, uint32_t task, uint32_t worker)
{
    struct run *run = context;
    const struct sac_placed_picture *p = &run->args->pictures[task];
    struct sac_resize_args resize = sac_placed_resize(
        p, run->args->filter, run->scaled + task * input_bytes(run->args), (size_t)p->window_width * 3);
    sac_stream inner =
        sac_scratch_stream(run->stream, run->arena + worker * run->arena_bytes, run->arena_bytes);
    sac_status st;

    if (!sac_placed_is_scaled(p))
        return;
    st = run->stream->device->ops.resize(&inner, &resize);
    if (st != SAC_OK)
        atomic_store(&run->failed, st);
}

static sac_status scale(sac_stream *s, struct run *run)
{
    if (!scaling(s->device, run->args, &run->arena_bytes))
        return SAC_OK;
    sac_scratch_reset(s);
    run->scaled = sac_scratch_take(s, run->args->n, input_bytes(run->args));
    run->arena = sac_scratch_take(s, s->device->threads, run->arena_bytes);
    if (run->scaled == NULL || run->arena == NULL)
        return SAC_NO_MEMORY;
    sac_parallel_for(s, (uint32_t)run->args->n, scale_task, run);
    return (sac_status)atomic_load(&run->failed);
}

/* ---- cutting ----------------------------------------------------------------------------------------- */

/* How many of `count` pixels from `first` on lie before the window's `from`, and how many in from .. end. */
struct part {
    uint32_t before, inside;
};

static struct part part_of(uint32_t first, uint32_t count, uint32_t from, uint32_t length)
{
    uint32_t before = from > first ? from - first : 0,
             end = from + length > first ? from + length - first : 0;
    struct part part = {before < count ? before : count, end < count ? end : count};

    part.inside = part.inside > part.before ? part.inside - part.before : 0;
    return part;
}

SAC_SPECIALIZE void put(const struct run *run, bool bf16, uint32_t c, uint8_t pixel, void *out, size_t to)
{
    if (bf16)
        ((uint16_t *)out)[to] = run->values.bf16[c][pixel];
    else
        ((float *)out)[to] = run->values.f32[c][pixel];
}

/* `length` columns of one channel and row, of which `x` tells those that lie in the window. */
SAC_SPECIALIZE void cut_row(const struct run *run, bool bf16, uint32_t c, struct part x, uint32_t length,
                            const uint8_t *from, void *out, size_t to)
{
    for (uint32_t i = 0; i < x.before; i++)
        put(run, bf16, c, 0, out, to + i);
    to += x.before;
    for (uint32_t i = 0; i < x.inside; i++)
        put(run, bf16, c, from[(size_t)i * 3 + c], out, to + i);
    to += x.inside;
    for (uint32_t i = x.before + x.inside; i < length; i++, to++)
        put(run, bf16, c, 0, out, to);
}

/* The patch whose corner is (left, top), into elements `to` and on. */
SAC_SPECIALIZE void cut_patch(const struct run *run, bool bf16, const struct sac_placed_picture *p,
                              struct window w, uint32_t left, uint32_t top, size_t to)
{
    const struct sac_patchify_args *a = run->args;
    struct part x = part_of(left, a->patch, p->to_x, p->window_width);
    struct part y = part_of(top, a->patch, p->to_y, p->window_height);
    const struct part none = {0, 0};
    const uint8_t *from = w.pixels;

    if (x.inside > 0 && y.inside > 0)
        from += (top + y.before - p->to_y) * w.stride + (size_t)(left + x.before - p->to_x) * 3;
    for (uint32_t c = 0; c < 3; c++)
        for (uint32_t i = 0; i < a->patch; i++, to += a->patch) {
            bool inside = i >= y.before && i - y.before < y.inside;

            cut_row(run, bf16, c, inside ? x : none, a->patch,
                    inside ? from + (i - y.before) * w.stride : from, a->out, to);
        }
}

static void cut_task(void *context, uint32_t task, uint32_t worker)
{
    const struct run *run = context;
    const struct sac_patchify_args *a = run->args;
    uint32_t rows = a->height / a->patch, columns = a->width / a->patch, elements = 3 * a->patch * a->patch;
    const struct sac_placed_picture *p = &a->pictures[task / rows];
    struct window w = window_of(run, task / rows);
    uint32_t top = task % rows * a->patch;
    size_t to = (size_t)task * columns * elements;

    (void)worker;
    for (uint32_t i = 0; i < columns; i++, to += elements) {
        if (a->dtype == SAC_BF16)
            cut_patch(run, true, p, w, i * a->patch, top, to);
        else
            cut_patch(run, false, p, w, i * a->patch, top, to);
    }
}

sac_status sac_patchify_cpu(sac_stream *s, const struct sac_patchify_args *a)
{
    struct run run = {.args = a, .stream = s};
    sac_status st = scale(s, &run);

    if (st != SAC_OK)
        return st;
    for (uint32_t c = 0; c < 3; c++)
        for (uint32_t i = 0; i < 256; i++) {
            float value = (float)i * a->scale[c] + a->shift[c];

            if (a->dtype == SAC_F32)
                run.values.f32[c][i] = value;
            else
                run.values.bf16[c][i] = sac_f32_to_bf16(value);
        }
    sac_parallel_for(s, (uint32_t)(a->n * (a->height / a->patch)), cut_task, &run);
    return SAC_OK;
}
