/* patchify.cu -- pictures of any sizes -> the rows of the patch product: scaled, cut, normalised, laid out.
 *
 *   pictures u8 [height][width][3], each of its own size, in
 *   out f32 or bf16 [n][patches][3 * patch * patch]      twin: ref/patchify.c, equal to the bit
 *
 * A block makes a tile of up to 32 x 32 pixels of one input: as many whole patches as fit, or a piece of a
 * larger one. So what it writes lies together, and the launch depends on the inputs' shape alone. How it
 * scales is in resize_tile.cuh.
 *
 * Floors on an H200 for 512 photos of 500 x 375 to 224 x 224 in bf16: 0.42 MB read and 0.30 MB written of
 * each, 372 MB at 4.3 TB/s, 0.09 ms; 4.5 M multiply-adds of 32-bit integers each, of which a multiprocessor
 * does 64 a cycle, 0.16 ms. One of 4032 x 3024: 27 MB, 0.006 ms; 128 M multiply-adds, 0.009 ms; and 0.7 ms
 * on its way there over PCIe, so what there is to win lies elsewhere. Not scaled: 0.45 MB of each, 0.05 ms
 * for 512.
 *
 * nvcc 13.0, sm_90a: 64 registers and 47,072 bytes of shared memory: 4 blocks, 32 warps a multiprocessor. 16
 * bytes of a thread are spilled around the divisions of those weights that do not fit at once, above a scale
 * of 19; without that path there is no spill. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/half.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/resize_tile.cuh"
#include "kernels/cuda/rows.cuh"

#include <assert.h>

/* One axis of an input, divided into tiles. */
struct division {
    uint32_t length, patch;
    uint32_t step;   /* of tiles, within a patch where that is larger than they are */
    uint32_t pieces; /* that a patch is made of: 1 where tiles hold whole patches */
    uint32_t count;  /* of tiles */
};

static struct division divide(uint32_t length, uint32_t patch)
{
    struct division d = {length, patch, SAC_TILE, 1, 0};

    if (patch <= SAC_TILE) {
        d.step = SAC_TILE / patch * patch;
        d.count = (length - 1) / d.step + 1;
    } else {
        d.pieces = (patch - 1) / SAC_TILE + 1;
        d.count = length / patch * d.pieces;
    }
    return d;
}

/* Tile number `index`: where it begins and how long it is. */
static __device__ __forceinline__ void tile_part(const struct division *d, uint32_t index, uint32_t *from,
                                                 uint32_t *length)
{
    const uint32_t patch = index / d->pieces * d->patch, within = index % d->pieces * d->step;

    *from = d->pieces == 1 ? index * d->step : patch + within;
    *length = min(d->step, d->pieces == 1 ? d->length - *from : d->patch - within);
}

/* The tile of a picture that is not scaled, where sac_tile_scale() would put it. */
static __device__ __forceinline__ void
copy_tile(struct sac_tile_shared *shared, const struct sac_placed_picture *p, const struct sac_tile *tile)
{
    const uint8_t *window = p->pixels + p->window_y * p->stride + (size_t)p->window_x * 3;

#pragma unroll
    for (uint32_t k = 0; k < SAC_TILE_EACH; k++) {
        const uint32_t j = k * SAC_TILE_WARPS + sac_warp(), y = tile->top + j - p->to_y;

#pragma unroll
        for (uint32_t b = sac_lane(); b < SAC_TILE * 3; b += 32) {
            const uint32_t x = (tile->left - p->to_x) * 3 + b; /* huge before the window, as y is */
            const bool inside = y < p->window_height && x < p->window_width * 3;

            ((uint8_t *)shared->narrow[j])[b] = inside ? window[y * p->stride + x] : 0;
        }
    }
}

/* ---- writing ----------------------------------------------------------------------------------------- */

template <sac_dtype DTYPE, uint32_t WIDTH>
static __device__ __forceinline__ void store(void *out, size_t at, const float *v)
{
    if constexpr (DTYPE == SAC_BF16 && WIDTH == 8)
        __stwb((uint4 *)((uint16_t *)out + at),
               make_uint4(sac_bf16_pair(v[0], v[1]), sac_bf16_pair(v[2], v[3]), sac_bf16_pair(v[4], v[5]),
                          sac_bf16_pair(v[6], v[7])));
    else if constexpr (DTYPE == SAC_BF16 && WIDTH == 2)
        *(uint32_t *)((uint16_t *)out + at) = sac_bf16_pair(v[0], v[1]);
    else if constexpr (DTYPE == SAC_BF16)
        ((uint16_t *)out)[at] = (uint16_t)sac_bf16_pair(v[0], 0.0f);
    else if constexpr (WIDTH == 2)
        *(float2 *)((float *)out + at) = make_float2(v[0], v[1]);
    else
        sac_vector_store<WIDTH>((float *)out + at, 0, v);
}

/* The tile in the order in which it lies in out, WIDTH elements of a patch's row at a time. */
template <sac_dtype DTYPE, uint32_t WIDTH>
static __device__ __forceinline__ void write_tile(const struct sac_patchify_args *a, size_t picture,
                                                  const struct sac_tile *tile,
                                                  const struct sac_tile_shared *shared)
{
    const uint32_t patch = a->patch, columns = a->width / patch, rows = a->height / patch;
    /* what of a patch lies in the tile, and how many lie side by side */
    const uint32_t width = min(patch, tile->width), height = min(patch, tile->height);
    const uint32_t across = tile->width / width, vectors = tile->width * tile->height * 3 / WIDTH;
    const size_t first =
        picture * rows * columns + (size_t)(tile->top / patch) * columns + tile->left / patch;
    const uint32_t corner = tile->top % patch * patch + tile->left % patch;

    for (uint32_t v = threadIdx.x; v < vectors; v += SAC_TILE_THREADS) {
        const uint32_t x = v % (width / WIDTH) * WIDTH, line = v / (width / WIDTH);
        const uint32_t y = line % height, plane = line / height, c = plane % 3;
        const uint32_t px = plane / 3 % across, py = plane / 3 / across;
        const uint8_t *from = (const uint8_t *)shared->narrow[py * height + y] + (px * width + x) * 3 + c;
        const float scale = c == 0 ? a->scale[0] : c == 1 ? a->scale[1] : a->scale[2];
        const float shift = c == 0 ? a->shift[0] : c == 1 ? a->shift[1] : a->shift[2];
        float values[WIDTH];

#pragma unroll
        for (uint32_t k = 0; k < WIDTH; k++)
            values[k] = __fadd_rn(__fmul_rn((float)from[k * 3], scale), shift);
        store<DTYPE, WIDTH>(a->out,
                            (first + (size_t)py * columns + px) * 3 * patch * patch +
                                (size_t)c * patch * patch + corner + y * patch + x,
                            values);
    }
}

template <sac_dtype DTYPE>
static __global__ void __launch_bounds__(SAC_TILE_THREADS, 4)
    patchify_kernel(const struct sac_patchify_args a, const struct division across,
                    const struct division down)
{
    __shared__ __align__(16) struct sac_tile_shared shared;
    const uint32_t tiles = across.count * down.count, picture = blockIdx.x / tiles,
                   index = blockIdx.x % tiles;
    const struct sac_placed_picture *p = &a.pictures[picture];
    struct sac_tile tile;

    tile_part(&across, index % across.count, &tile.left, &tile.width);
    tile_part(&down, index / across.count, &tile.top, &tile.height);
    if (p->full_width == p->width && p->full_height == p->height)
        copy_tile(&shared, p, &tile);
    else
        sac_tile_scale(&shared, p, a.filter, &tile);
    __syncthreads();
    if (a.patch % 8 == 0)
        write_tile<DTYPE, 8>(&a, picture, &tile, &shared);
    else if (a.patch % 2 == 0)
        write_tile<DTYPE, 2>(&a, picture, &tile, &shared);
    else
        write_tile<DTYPE, 1>(&a, picture, &tile, &shared);
}

/* Nothing. */
extern "C" size_t sac_patchify_scratch_cuda(const sac_device *d, const struct sac_patchify_args *a)
{
    (void)d;
    (void)a;
    return 0;
}

extern "C" sac_status sac_patchify_cuda(sac_stream *s, const struct sac_patchify_args *a)
{
    cudaStream_t stream = sac_cuda_stream_of(s);
    struct division across, down;
    uint64_t blocks;

    if (a->n == 0)
        return SAC_OK;
    assert(a->patch > 0 && a->width > 0 && a->width % a->patch == 0);
    assert(a->height > 0 && a->height % a->patch == 0);
    assert(a->dtype == SAC_F32 || a->dtype == SAC_BF16);
    across = divide(a->width, a->patch);
    down = divide(a->height, a->patch);
    blocks = (uint64_t)across.count * down.count * a->n;
    assert(blocks <= INT32_MAX); /* a tile of 1 x 1 has 2^31 places in no memory */
    return sac_cuda_status(s->device, a->dtype == SAC_F32
                                          ? SAC_LAUNCH(patchify_kernel<SAC_F32>, (uint32_t)blocks,
                                                       SAC_TILE_THREADS, 0, stream, *a, across, down)
                                          : SAC_LAUNCH(patchify_kernel<SAC_BF16>, (uint32_t)blocks,
                                                       SAC_TILE_THREADS, 0, stream, *a, across, down));
}
