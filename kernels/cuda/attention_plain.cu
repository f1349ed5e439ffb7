/* attention_plain.cu -- attention on CUDA cores, in f32: for f32, and for bf16 that is not aligned to 16
 * bytes or has heads of more than 128 components.
 *
 * A block has 64 rows of q and 64 components of the result, and goes over k and v 64 rows at a time. Longer
 * heads take their scores 64 components after the other, and a block for each 64 components of the result,
 * which all compute the same scores. A thread has 4 x 4 scores and 4 x 4 results: rows y + 16 i, columns x +
 * 16 j and components 4 x + j. What it reads for 4 components deep is 8 times 16 bytes for 64 multiply-adds,
 * without conflicts: rows of 68 floats, so that 8 rows at one place are in different groups of banks.
 * Elements are read from global memory one a lane, whatever their alignment: 32 loads a thread against 2048
 * multiply-adds. */
#include "kernels/cuda/attention.cuh"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/warp.cuh"

namespace
{

enum {
    TILE = 64, /* rows of q, of k and v, components of a chunk */
    SIDE = 16, /* threads each way */
    THREADS = SIDE * SIDE,
    STRIDE = TILE + 4,
    TILE_FLOATS = TILE * STRIDE,
};

/* What a thread keeps of its four rows. */
struct rows {
    float out[4][4]; /* [row][component] */
    float largest[4], sum[4];
};

__device__ __forceinline__ uint32_t thread_x(void)
{
    return threadIdx.x % SIDE;
}

__device__ __forceinline__ uint32_t thread_y(void)
{
    return threadIdx.x / SIDE;
}

/* Block: rows from `first` on, components from `d` on; zeros beyond row_end and head_dim. */
template <sac_dtype DTYPE>
__device__ void load(float *tile, const void *x, size_t at, size_t stride, uint32_t first, uint32_t row_end,
                     uint32_t d, uint32_t head_dim)
{
    const uint32_t column = threadIdx.x % TILE;

    for (uint32_t row = threadIdx.x / TILE; row < TILE; row += THREADS / TILE)
        tile[row * STRIDE + column] =
            first + row < row_end && d + column < head_dim
                ? sac_attention_get<DTYPE>(x, at + (first + row) * stride + d + column)
                : 0.0f;
}

__device__ __forceinline__ void get_four(const float *tile, uint32_t row, uint32_t column, float *out)
{
    const float4 four = *(const float4 *)(tile + row * STRIDE + column);

    out[0] = four.x;
    out[1] = four.y;
    out[2] = four.z;
    out[3] = four.w;
}

/* Thread: adds a chunk's part of the scores. */
__device__ __forceinline__ void add_scores(const float *q, const float *k, float scores[4][4])
{
#pragma unroll 4
    for (uint32_t d = 0; d < TILE; d += 4) {
        float x[4][4], y[4][4];

#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            get_four(q, thread_y() + SIDE * i, d, x[i]);
            get_four(k, thread_x() + SIDE * i, d, y[i]);
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
#pragma unroll
            for (uint32_t j = 0; j < 4; j++)
#pragma unroll
                for (uint32_t e = 0; e < 4; e++)
                    scores[i][j] = fmaf(x[i][e], y[j][e], scores[i][j]);
    }
}

/* The 16 lanes that share row i: exponentials of its scores go to p, the first `columns` of them. */
__device__ __forceinline__ void row_exponentials(struct rows *r, uint32_t i, float *scores, uint32_t columns,
                                                 float factor, float *p)
{
    float largest = r->largest[i], scale, sum = 0.0f;

#pragma unroll
    for (uint32_t j = 0; j < 4; j++) {
        scores[j] = thread_x() + SIDE * j < columns ? scores[j] : SAC_ATTENTION_NO_SCORE;
        largest = fmaxf(largest, scores[j]);
    }
#pragma unroll
    for (int step = SIDE / 2; step > 0; step /= 2)
        largest = fmaxf(largest, __shfl_xor_sync(SAC_WARP_ALL, largest, step));
    scale = sac_exp2((r->largest[i] - largest) * factor);
    r->largest[i] = largest;
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) {
        const float value = sac_exp2((scores[j] - largest) * factor);

        r->out[i][j] *= scale;
        sum += value;
        p[(thread_y() + SIDE * i) * STRIDE + thread_x() + SIDE * j] = value;
    }
    r->sum[i] = r->sum[i] * scale + sum;
}

/* Thread: adds v, weighted with p. */
__device__ __forceinline__ void add_values(struct rows *r, const float *p, const float *v)
{
#pragma unroll 4
    for (uint32_t c = 0; c < TILE; c += 4) {
        float x[4][4], y[4][4];

#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            get_four(p, thread_y() + SIDE * i, c, x[i]);
            get_four(v, c + i, 4 * thread_x(), y[i]);
        }
#pragma unroll
        for (uint32_t e = 0; e < 4; e++)
#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
#pragma unroll
                for (uint32_t j = 0; j < 4; j++)
                    r->out[i][j] = fmaf(x[i][e], y[e][j], r->out[i][j]);
    }
}

template <sac_dtype DTYPE>
__device__ void rows_store(struct rows *r, const struct sac_attention *w,
                           const struct sac_attention_part *part, uint32_t first, uint32_t d)
{
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t row = first + thread_y() + SIDE * i;
        float sum = r->sum[i];

#pragma unroll
        for (int step = SIDE / 2; step > 0; step /= 2)
            sum += __shfl_xor_sync(SAC_WARP_ALL, sum, step);
#pragma unroll
        for (uint32_t j = 0; j < 4; j++)
            if (row < w->a.q_tokens && d + 4 * thread_x() + j < w->a.head_dim)
                sac_attention_set<DTYPE>(w->a.y, part->y + row * part->y_stride + d + 4 * thread_x() + j,
                                         r->out[i][j] / sum);
    }
}

template <sac_dtype DTYPE>
__global__ void __launch_bounds__(THREADS, 2) plain_kernel(const struct sac_attention w)
{
    SAC_SHARED_DYNAMIC(float, q);
    float *const kv = q + TILE_FLOATS, *const p = kv + TILE_FLOATS;
    const struct sac_attention_args *a = &w.a;
    const struct sac_attention_part part = sac_attention_part_of(&w);
    const uint32_t chunks = (a->head_dim + TILE - 1) / TILE, first = part.tile / chunks * TILE;
    const uint32_t d = part.tile % chunks * TILE;
    struct rows r = {};

    for (uint32_t i = 0; i < 4; i++)
        r.largest[i] = SAC_ATTENTION_NO_SCORE;
    for (uint32_t at = 0; at < a->kv_tokens; at += TILE) {
        float scores[4][4] = {};

        for (uint32_t c = 0; c < chunks; c++) {
            __syncthreads(); /* nobody needs what was there */
            if (at == 0 || chunks > 1)
                load<DTYPE>(q, a->q, part.q, a->q_stride, first, a->q_tokens, c * TILE, a->head_dim);
            load<DTYPE>(kv, a->k, part.kv, a->kv_stride, at, a->kv_tokens, c * TILE, a->head_dim);
            __syncthreads();
            add_scores(q, kv, scores);
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            row_exponentials(&r, i, scores[i], a->kv_tokens - at, w.factor, p);
        __syncthreads();
        load<DTYPE>(kv, a->v, part.kv, a->kv_stride, at, a->kv_tokens, d, a->head_dim);
        __syncthreads();
        add_values(&r, p, kv);
    }
    rows_store<DTYPE>(&r, &w, &part, first, d);
}

} // namespace

struct sac_attention_plan sac_attention_plain_plan(const struct sac_attention_args *a)
{
    struct sac_attention_plan plan;

    plan.kernel = a->dtype == SAC_F32 ? plain_kernel<SAC_F32> : plain_kernel<SAC_BF16>;
    plan.tiles = (a->q_tokens + TILE - 1) / TILE * ((a->head_dim + TILE - 1) / TILE);
    plan.threads = THREADS;
    plan.shared_bytes = 3 * TILE_FLOATS * sizeof(float);
    return plan;
}
