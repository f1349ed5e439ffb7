#include "kernels/cpu/resize.h"

#include <assert.h>
#include <string.h>

enum { BLOCK_BYTES_MAX = 64 };

static size_t round_up(size_t value, size_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

static size_t packed_stride(const sac_resize_axis *axis, const struct sac_resize_loops *loops)
{
    return round_up(sac_resize_taps_max(axis), SAC_RESIZE_GROUP) / SAC_RESIZE_GROUP * loops->group_bytes;
}

static size_t packed_scratch(const sac_resize_axis *axis, const struct sac_resize_loops *loops)
{
    return sac_scratch_add(sac_resize_plan_scratch(axis),
                           sac_scratch_size(axis->count, packed_stride(axis, loops)));
}

static sac_status packed_make(sac_stream *s, const sac_resize_axis *axis,
                              const struct sac_resize_loops *loops, sac_resize_plan *plan,
                              sac_resize_packed *out)
{
    size_t stride = packed_stride(axis, loops);
    uint8_t *groups;

    if (sac_resize_plan_make(s, axis, plan) != SAC_OK)
        return SAC_NO_MEMORY;
    groups = sac_scratch_take(s, axis->count, stride);
    if (groups == NULL)
        return SAC_NO_MEMORY;
    for (uint32_t i = 0; i < axis->count; i++)
        for (uint32_t t = 0; t < plan->taps[i]; t += SAC_RESIZE_GROUP) {
            uint32_t left = plan->taps[i] - t, used = left < SAC_RESIZE_GROUP ? left : SAC_RESIZE_GROUP;
            int32_t four[SAC_RESIZE_GROUP] = {0};

            memcpy(four, plan->weights + (size_t)i * plan->taps_max + t, used * sizeof *four);
            loops->pack(four, groups + i * stride + (size_t)t / SAC_RESIZE_GROUP * loops->group_bytes);
        }
    *out = (sac_resize_packed){plan->starts, plan->taps, groups, stride};
    return SAC_OK;
}

/* A pixel is stored as four bytes, so a row has one to spare. */
static size_t narrow_stride(const struct sac_resize_args *a, const struct sac_resize_loops *loops)
{
    return round_up((size_t)a->window_width * 3 + 1, loops->block_bytes);
}

/* Rows that the first pass writes and the second reads for `span` rows of the source, rounded up generously.
 */
static size_t narrow_rows(size_t span)
{
    return span + SAC_RESIZE_ROWS_MAX + SAC_RESIZE_GROUP;
}

/* Source rows first .. first + count - 1 into `to`. spare: rows too near the end of the picture's memory to
 * be read past are copied there. */
static void narrow(const struct sac_resize_args *a, const struct sac_resize_loops *loops,
                   const sac_resize_packed *w, uint32_t first, uint32_t count, uint8_t *to, uint8_t *spare)
{
    size_t row_bytes = (size_t)a->from_width * 3, to_stride = narrow_stride(a, loops);
    size_t size = (a->from_height - 1) * a->from_stride + row_bytes;

    for (uint32_t r = 0; r < count; r += loops->rows) {
        const uint8_t *rows[SAC_RESIZE_ROWS_MAX];

        for (uint32_t k = 0; k < loops->rows; k++) {
            size_t row = first + (r + k < count ? r + k : count - 1);

            rows[k] = a->from + row * a->from_stride;
            if (row * a->from_stride + row_bytes + SAC_RESIZE_LOAD_BYTES > size) {
                uint8_t *copy = spare + k * (row_bytes + SAC_RESIZE_LOAD_BYTES);

                memcpy(copy, rows[k], row_bytes);
                rows[k] = copy;
            }
        }
        loops->narrow(rows, w, a->window_width, to + r * to_stride, to_stride);
    }
}

/* from: the narrow picture, whose first row is row `first` of the source. */
static void flatten(const struct sac_resize_args *a, const struct sac_resize_loops *loops,
                    const sac_resize_packed *w, uint32_t first, const uint8_t *from)
{
    size_t row_bytes = (size_t)a->window_width * 3, stride = narrow_stride(a, loops);

    for (uint32_t i = 0; i < a->window_height; i++) {
        const uint8_t *rows = from + (w->starts[i] - first) * stride;
        uint8_t *to = a->to + i * a->to_stride;
        size_t b = 0;

        for (; row_bytes - b >= loops->block_bytes; b += loops->block_bytes)
            loops->flatten(rows + b, stride, w->groups + i * w->stride, w->taps[i], to + b);
        if (b < row_bytes) {
            uint8_t last[BLOCK_BYTES_MAX];

            loops->flatten(rows + b, stride, w->groups + i * w->stride, w->taps[i], last);
            memcpy(to + b, last, row_bytes - b);
        }
    }
}

size_t sac_resize_scratch_loops(const struct sac_resize_args *a, const struct sac_resize_loops *loops)
{
    sac_resize_axis x = sac_resize_axis_x(a), y = sac_resize_axis_y(a);
    size_t bytes = sac_scratch_add(packed_scratch(&x, loops), packed_scratch(&y, loops));

    bytes = sac_scratch_add(bytes,
                            sac_scratch_size(narrow_rows(sac_resize_span_max(&y)), narrow_stride(a, loops)));
    return sac_scratch_add(bytes,
                           sac_scratch_size(loops->rows, (size_t)a->from_width * 3 + SAC_RESIZE_LOAD_BYTES));
}

sac_status sac_resize_run(sac_stream *s, const struct sac_resize_args *a,
                          const struct sac_resize_loops *loops)
{
    sac_resize_axis x = sac_resize_axis_x(a), y = sac_resize_axis_y(a);
    sac_resize_plan across_plan, down_plan;
    sac_resize_packed across, down;
    uint32_t first, end;
    uint8_t *narrowed, *spare;

    assert(loops->rows <= SAC_RESIZE_ROWS_MAX && loops->block_bytes <= BLOCK_BYTES_MAX);
    if (a->window_width == 0 || a->window_height == 0)
        return SAC_OK;
    sac_scratch_reset(s);
    if (packed_make(s, &x, loops, &across_plan, &across) != SAC_OK ||
        packed_make(s, &y, loops, &down_plan, &down) != SAC_OK)
        return SAC_NO_MEMORY;
    sac_resize_plan_span(&down_plan, y.count, &first, &end);
    narrowed = sac_scratch_take(s, narrow_rows(end - first), narrow_stride(a, loops));
    spare = sac_scratch_take(s, loops->rows, (size_t)a->from_width * 3 + SAC_RESIZE_LOAD_BYTES);
    if (narrowed == NULL || spare == NULL)
        return SAC_NO_MEMORY;
    narrow(a, loops, &across, first, end - first, narrowed, spare);
    flatten(a, loops, &down, first, narrowed);
    return SAC_OK;
}
