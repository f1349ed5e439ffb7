/* resize_tile.cuh -- a block scales one picture into one tile of an encoder's input, as ref/resize.c does it,
 * to the bit.
 *
 * A filter takes any number of source pixels (16384 to 224: 293 of a row, and as many rows), so nothing is
 * kept of the source but what is worked on. The block goes down the source ROWS rows at a time:
 *
 *   stage     the piece of each row that the tile needs, CHUNK pixels at a time, into shared memory
 *   narrow    a lane a row, a warp an output column after the other: weights are the same for all lanes, and
 *             rows are an odd number of words apart, so neither meets itself in a bank. Four taps are twelve
 *             bytes, which are three words once they are shifted to where a word begins
 *   flatten   each warp has four rows of the tile, a lane four bytes of each: sums in registers, to which
 *             those of the narrow rows are added that they are made of
 *
 * Weights of columns are made once where they fit, else again for each piece; weights of rows come with the
 * rows. All columns and rows of a tile are treated alike: those outside the window have no taps, and become
 * 0 of themselves. */
#ifndef SACCADE_CUDA_RESIZE_TILE_CUH
#define SACCADE_CUDA_RESIZE_TILE_CUH

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/warp.cuh"
#include "kernels/resize_filter.h"

enum {
    SAC_TILE = 32,       /* pixels each way, at most */
    SAC_TILE_WORDS = 25, /* from row to row: 96 bytes and a word */
    SAC_TILE_THREADS = 256,
    SAC_TILE_WARPS = SAC_TILE_THREADS / 32,
    SAC_TILE_EACH = SAC_TILE / SAC_TILE_WARPS, /* columns, or rows, of a warp */
    SAC_TILE_ROWS = 32,                        /* of the source at a time: a lane each */
    SAC_TILE_CHUNK = 256,                      /* pixels of a row at a time */
    SAC_TILE_ROW_WORDS = 197, /* those, 3 more to end a group, 3 bytes before, and a word behind; odd */
    SAC_TILE_GROUPS = 768,    /* of four weights: 80 taps and more for each column of a tile */
};

/* Where a tile lies in the input. */
struct sac_tile {
    uint32_t left, top, width, height;
};

/* One axis of a tile: what its columns, or rows, are made of. */
struct sac_tile_axis {
    sac_resize_curve curve;
    sac_resize_taps taps[SAC_TILE];
    double sum[SAC_TILE];
    uint32_t from, end; /* source pixels that any of them takes; from >= end: none */
    uint32_t groups;    /* of four taps, in all */
};

struct sac_tile_shared {
    int4 weights[SAC_TILE_GROUPS];
    int4 down[SAC_TILE_ROWS][SAC_TILE_WARPS + 1]; /* of a source row, for the rows of a tile */
    uint32_t rows[SAC_TILE_ROWS][SAC_TILE_ROW_WORDS];
    uint32_t narrow[SAC_TILE_ROWS][SAC_TILE_WORDS];
    struct sac_tile_axis x, y;
    int32_t base[SAC_TILE]; /* group g of column i is weights[base[i] + g] */
};

/* ---- what a tile is made of -------------------------------------------------------------------------- */

/* By one warp, a lane an output; first and count: the tile's; to: where the window lands. */
static __device__ __forceinline__ void sac_tile_plan(const sac_resize_axis *axis, uint32_t first,
                                                     uint32_t count, uint32_t to, struct sac_tile_axis *out)
{
    const uint32_t lane = sac_lane(), i = first + lane - to; /* huge for those before the window */
    const sac_resize_curve curve = sac_resize_curve_of(axis);
    sac_resize_taps taps = {0.0, 0, 0};
    double sum = 0.0;

    if (lane < count && i < axis->count) {
        taps = sac_resize_taps_of(axis, &curve, i);
#pragma unroll 4
        for (uint32_t t = 0; t < taps.count; t++)
            sum = SAC_RESIZE_ADD(sum, sac_resize_value(&curve, &taps, t));
    }
    const uint32_t from = sac_warp_min(taps.count > 0 ? taps.start : UINT32_MAX);
    const uint32_t end = sac_warp_max(taps.start + taps.count);
    const uint32_t groups = sac_warp_sum((taps.count + 3) / 4);

    out->taps[lane] = taps;
    out->sum[lane] = sum;
    if (lane == 0) {
        out->from = from;
        out->end = end;
        out->groups = groups;
        out->curve = curve;
    }
}

/* The first group of four taps that begins at source pixel `pixel` or behind it. */
static __device__ __forceinline__ uint32_t sac_tile_group(const sac_resize_taps *taps, uint32_t pixel)
{
    return pixel <= taps->start ? 0 : (min(pixel - taps->start, taps->count) + 3) / 4;
}

/* Weights of all groups that begin at source pixels from .. end - 1; zeros where a group is longer than the
 * taps. By the block; afterwards it has to meet. */
static __device__ __forceinline__ void sac_tile_weights(struct sac_tile_shared *shared, uint32_t from,
                                                        uint32_t end)
{
    const uint32_t together = SAC_TILE_THREADS / SAC_TILE, i = threadIdx.x / together;
    const sac_resize_curve curve = shared->x.curve;
    const sac_resize_taps taps = shared->x.taps[i];
    const double sum = shared->x.sum[i];
    int32_t *weights = (int32_t *)shared->weights;

    if (sac_warp() == 0) {
        const sac_resize_taps *own = &shared->x.taps[sac_lane()];
        uint32_t group = sac_tile_group(own, from), total;
        uint32_t before = sac_warp_prefix(sac_tile_group(own, end) - group, &total);

        shared->base[sac_lane()] = (int32_t)(before - group);
    }
    __syncthreads();
    weights += shared->base[i] * 4;
    for (uint32_t t = sac_tile_group(&taps, from) * 4 + threadIdx.x % together;
         t < sac_tile_group(&taps, end) * 4; t += together)
        weights[t] = t < taps.count ? sac_resize_weight(sac_resize_value(&curve, &taps, t), sum) : 0;
}

/* ---- columns ----------------------------------------------------------------------------------------- */

/* Source pixels from .. end - 1 of `count` rows from `row` on, each as it lies to words of memory; they have
 * landed when the block has met. */
static __device__ __forceinline__ void sac_tile_stage(struct sac_tile_shared *shared,
                                                      const struct sac_placed_picture *p, uint32_t row,
                                                      uint32_t count, uint32_t from, uint32_t end)
{
    const uint32_t bytes = (end - from) * 3;

    for (uint32_t r = sac_warp(); r < count; r += SAC_TILE_WARPS) {
        const uint8_t *at = p->pixels + (size_t)(row + r) * p->stride + (size_t)from * 3;
        const uint32_t first = (uint32_t)(uintptr_t)at % 4, last = first + bytes;
        const uint8_t *words = at - first;

        for (uint32_t b = sac_lane() * 4; b < last; b += 128) {
            if (b >= first && b + 4 <= last) {
                sac_copy_async<4>(&shared->rows[r][b / 4], words + b);
                continue;
            }
            for (uint32_t k = max(b, first); k < min(b + 4, last); k++)
                ((uint8_t *)shared->rows[r])[k] = words[k];
        }
    }
    sac_copy_async_commit();
    sac_copy_async_wait<0>();
}

static __device__ __forceinline__ int32_t sac_tile_byte(uint32_t word, uint32_t i)
{
    return (int32_t)(word >> i * 8 & 255);
}

/* Adds the groups that begin at source pixels from .. end - 1 to the sums of the warp's columns, for the row
 * that is the lane's. */
static __device__ __forceinline__ void sac_tile_narrow(const struct sac_tile_shared *shared,
                                                       const struct sac_placed_picture *p, uint32_t row,
                                                       uint32_t from, uint32_t end, int32_t (*sums)[3])
{
    const uint32_t first =
        (uint32_t)(uintptr_t)p->pixels + (row + sac_lane()) * (uint32_t)p->stride + from * 3;

#pragma unroll
    for (uint32_t k = 0; k < SAC_TILE_EACH; k++) {
        const uint32_t i = k * SAC_TILE_WARPS + sac_warp();
        const sac_resize_taps taps = shared->x.taps[i];
        const uint32_t last = sac_tile_group(&taps, end);
        uint32_t group = sac_tile_group(&taps, from);
        const uint32_t byte = first % 4 + (taps.start + group * 4 - from) * 3, shift = byte % 4 * 8;
        const uint32_t *words = shared->rows[sac_lane()] + (group < last ? byte / 4 : 0);
        uint32_t before = words[0];

        for (; group < last; group++, words += 3) {
            const int4 w = shared->weights[shared->base[i] + (int32_t)group];
            const uint32_t a = __funnelshift_r(before, words[1], shift);   /* R G B R */
            const uint32_t b = __funnelshift_r(words[1], words[2], shift); /* G B R G */
            const uint32_t c = __funnelshift_r(words[2], words[3], shift); /* B R G B */

            before = words[3];
            sums[k][0] += sac_tile_byte(a, 0) * w.x + sac_tile_byte(a, 3) * w.y + sac_tile_byte(b, 2) * w.z +
                          sac_tile_byte(c, 1) * w.w;
            sums[k][1] += sac_tile_byte(a, 1) * w.x + sac_tile_byte(b, 0) * w.y + sac_tile_byte(b, 3) * w.z +
                          sac_tile_byte(c, 2) * w.w;
            sums[k][2] += sac_tile_byte(a, 2) * w.x + sac_tile_byte(b, 1) * w.y + sac_tile_byte(c, 0) * w.z +
                          sac_tile_byte(c, 3) * w.w;
        }
    }
}

static __device__ __forceinline__ void sac_tile_narrow_store(struct sac_tile_shared *shared,
                                                             const int32_t (*sums)[3])
{
    uint8_t *row = (uint8_t *)shared->narrow[sac_lane()];

#pragma unroll
    for (uint32_t k = 0; k < SAC_TILE_EACH; k++)
#pragma unroll
        for (uint32_t c = 0; c < 3; c++)
            row[(k * SAC_TILE_WARPS + sac_warp()) * 3 + c] = sac_resize_byte(sums[k][c]);
}

/* ---- rows -------------------------------------------------------------------------------------------- */

/* What the source row of each lane weighs in the warp's rows of the tile. The bits of those that count. */
static __device__ __forceinline__ uint32_t sac_tile_down(struct sac_tile_shared *shared, uint32_t row)
{
    const sac_resize_curve curve = shared->y.curve;
    int32_t weights[SAC_TILE_EACH];
    bool any = false;

#pragma unroll
    for (uint32_t k = 0; k < SAC_TILE_EACH; k++) {
        const uint32_t i = sac_warp() * SAC_TILE_EACH + k;
        const sac_resize_taps taps = shared->y.taps[i];
        const uint32_t t = row + sac_lane() - taps.start;

        weights[k] = 0;
        if (t < taps.count) {
            weights[k] = sac_resize_weight(sac_resize_value(&curve, &taps, t), shared->y.sum[i]);
            any = true;
        }
    }
    shared->down[sac_lane()][sac_warp()] = make_int4(weights[0], weights[1], weights[2], weights[3]);
    return __ballot_sync(SAC_WARP_ALL, any);
}

/* Adds the narrow rows whose bits are set to the sums of the warp's rows of the tile, for the lane's four
 * bytes. */
static __device__ __forceinline__ void sac_tile_flatten(const struct sac_tile_shared *shared, uint32_t rows,
                                                        int32_t (*sums)[4])
{
    const uint32_t lane = min(sac_lane(), (uint32_t)SAC_TILE_WORDS - 1);

    for (; rows != 0; rows &= rows - 1) {
        const uint32_t r = (uint32_t)__ffs((int)rows) - 1, word = shared->narrow[r][lane];
        const int4 w = shared->down[r][sac_warp()];

#pragma unroll
        for (uint32_t b = 0; b < 4; b++) {
            const int32_t byte = sac_tile_byte(word, b);

            sums[0][b] += byte * w.x;
            sums[1][b] += byte * w.y;
            sums[2][b] += byte * w.z;
            sums[3][b] += byte * w.w;
        }
    }
}

/* ---- the tile ---------------------------------------------------------------------------------------- */

/* The tile's bytes, SAC_TILE_WORDS words from row to row, into shared->narrow; they are there when the block
 * has met. */
static __device__ __forceinline__ void sac_tile_scale(struct sac_tile_shared *shared,
                                                      const struct sac_placed_picture *p, sac_filter filter,
                                                      const struct sac_tile *tile)
{
    const sac_resize_axis across = {p->width,        0.0,   (double)p->width, p->full_width, p->window_x,
                                    p->window_width, filter};
    const sac_resize_axis down = {p->height,        0.0,   (double)p->height, p->full_height, p->window_y,
                                  p->window_height, filter};
    int32_t sums[SAC_TILE_EACH][4];

    if (sac_warp() == 0)
        sac_tile_plan(&across, tile->left, tile->width, p->to_x, &shared->x);
    else if (sac_warp() == 1)
        sac_tile_plan(&down, tile->top, tile->height, p->to_y, &shared->y);
    __syncthreads();

    const uint32_t left = shared->x.from, right = shared->x.end;
    const uint32_t bottom = left < right ? shared->y.end : 0; /* no columns: no rows either */
    const bool whole = shared->x.groups <= SAC_TILE_GROUPS;

    if (whole)
        sac_tile_weights(shared, left, right);
#pragma unroll
    for (uint32_t k = 0; k < SAC_TILE_EACH; k++)
#pragma unroll
        for (uint32_t b = 0; b < 4; b++)
            sums[k][b] = SAC_RESIZE_HALF;
    for (uint32_t row = shared->y.from; row < bottom; row += SAC_TILE_ROWS) {
        int32_t narrow[SAC_TILE_EACH][3];

#pragma unroll
        for (uint32_t k = 0; k < SAC_TILE_EACH; k++)
#pragma unroll
            for (uint32_t c = 0; c < 3; c++)
                narrow[k][c] = SAC_RESIZE_HALF;
        for (uint32_t from = left; from < right; from += SAC_TILE_CHUNK) {
            const uint32_t end = min(from + SAC_TILE_CHUNK, right);

            __syncthreads(); /* the piece before this one, and its weights, have been read */
            if (!whole)
                sac_tile_weights(shared, from, end);
            sac_tile_stage(shared, p, row, min((uint32_t)SAC_TILE_ROWS, bottom - row), from,
                           min(end + 3, right));
            __syncthreads();
            sac_tile_narrow(shared, p, row, from, end, narrow);
        }
        sac_tile_narrow_store(shared, narrow);
        const uint32_t rows = sac_tile_down(shared, row);
        __syncthreads();
        sac_tile_flatten(shared, rows, sums);
    }
    __syncthreads(); /* the last narrow rows have been read */
    if (sac_lane() < SAC_TILE_WORDS) {
#pragma unroll
        for (uint32_t k = 0; k < SAC_TILE_EACH; k++)
            shared->narrow[sac_warp() * SAC_TILE_EACH + k][sac_lane()] =
                sac_resize_byte(sums[k][0]) | (uint32_t)sac_resize_byte(sums[k][1]) << 8 |
                (uint32_t)sac_resize_byte(sums[k][2]) << 16 | (uint32_t)sac_resize_byte(sums[k][3]) << 24;
    }
}

#endif
