/* attention.cuh -- what the kernels of attention share. attention.cu chooses among them and launches:
 *
 *   attention_tile.cu    on the tensor cores: bf16, aligned to 16 bytes, heads of up to 128 components
 *   attention_pool.cu    one row of q a picture, heads of up to 128 components, 4 at a time
 *   attention_plain.cu   on CUDA cores: f32, and whatever else is left
 *
 * All three go over k and v once, tile by tile, with what softmax needs kept up to date for each row of q:
 * the largest score so far, the sum of the exponentials, and the sum of v weighted with them. Where a larger
 * score turns up, both sums are scaled down (Milakov & Gimelshein 2018; Dao et al. 2022). So a score lives in
 * registers only. Exponentials are 2^((score - largest) * factor): the difference is taken first, so that no
 * finite score overflows. A NaN among the scores of a row is lost to the largest, but not to the sums. */
#ifndef SACCADE_CUDA_ATTENTION_CUH
#define SACCADE_CUDA_ATTENTION_CUH

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/exp2.cuh"

#include <cuda_bf16.h>

#define SAC_ATTENTION_NO_SCORE __int_as_float((int)0xff800000) /* -inf */

enum { SAC_ATTENTION_TILE_DIM_MAX = 128, SAC_ATTENTION_POOL_DIM_MAX = 128 };

/* What a kernel gets. */
struct sac_attention {
    struct sac_attention_args a;
    size_t first;   /* picture of this launch */
    uint32_t tiles; /* blocks a head */
    float factor;   /* scale * log2 e */
};

/* How a kernel wants to be launched. */
struct sac_attention_plan {
    void (*kernel)(struct sac_attention);
    uint32_t tiles, threads;
    size_t shared_bytes;
};

struct sac_attention_plan sac_attention_tile_plan(const struct sac_attention_args *a);
struct sac_attention_plan sac_attention_pool_plan(const struct sac_attention_args *a);
struct sac_attention_plan sac_attention_plain_plan(const struct sac_attention_args *a);

/* ---- a block's part: one head of one picture ---- */

struct sac_attention_part {
    uint32_t tile;
    size_t q, kv, y; /* elements: of the head in the picture's first row */
    size_t y_stride;
};

static __device__ __forceinline__ struct sac_attention_part
sac_attention_part_of(const struct sac_attention *w)
{
    const struct sac_attention_args *a = &w->a;
    const uint32_t head = blockIdx.x / w->tiles % a->heads;
    const size_t picture = w->first + blockIdx.x / w->tiles / a->heads;
    struct sac_attention_part part;

    part.tile = blockIdx.x % w->tiles;
    part.y_stride = (size_t)a->heads * a->head_dim;
    part.q = picture * a->q_tokens * a->q_stride + (size_t)head * a->head_dim;
    part.kv = picture * a->kv_tokens * a->kv_stride + (size_t)head * a->head_dim;
    part.y = picture * a->q_tokens * part.y_stride + (size_t)head * a->head_dim;
    return part;
}

/* ---- elements of either type ---- */

template <sac_dtype DTYPE> static __device__ __forceinline__ float sac_attention_get(const void *x, size_t at)
{
    if (DTYPE == SAC_F32)
        return ((const float *)x)[at];
    return __uint_as_float((uint32_t)((const uint16_t *)x)[at] << 16);
}

template <sac_dtype DTYPE>
static __device__ __forceinline__ void sac_attention_set(void *x, size_t at, float value)
{
    if (DTYPE == SAC_F32)
        ((float *)x)[at] = value;
    else
        ((uint16_t *)x)[at] = __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

#endif
