/* attention_pool.cu -- attention with one row of q a picture, as in a head that pools tokens (SigLIP's), or
 * where only the class token is asked for. Every k and v is used once, so a block is there to read: its
 * groups of lanes take the rows in turn, and in the end their parts are merged.
 *
 * A group is as many lanes as a head has quadruples of components: 16 up to 64 components, else 32; each lane
 * keeps its four of q and of the result. A group reads 4 rows of k and of v before it looks at them, so that
 * a warp has 2 KB on its way (of bf16, 64 components); with 8 warps a block and 4 blocks, 64 KB a
 * multiprocessor, twice what latency asks for. */
#include "kernels/cuda/attention.cuh"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/warp.cuh"

#include <assert.h>

namespace
{

enum { THREADS = 256, AT_ONCE = 4 };

/* What a group has found; out is a lane's. */
struct share {
    float out[4];
    float largest, sum;
};

/* Four elements, or zeros. */
template <sac_dtype DTYPE>
__device__ __forceinline__ void get_four(const void *x, size_t at, bool there, float *out)
{
    if (DTYPE == SAC_F32) {
        const float4 four = there ? __ldg((const float4 *)((const float *)x + at)) : make_float4(0, 0, 0, 0);

        out[0] = four.x;
        out[1] = four.y;
        out[2] = four.z;
        out[3] = four.w;
    } else {
        const uint2 four = there ? __ldg((const uint2 *)((const uint16_t *)x + at)) : make_uint2(0, 0);

        out[0] = __uint_as_float(four.x << 16);
        out[1] = __uint_as_float(four.x & 0xffff0000u);
        out[2] = __uint_as_float(four.y << 16);
        out[3] = __uint_as_float(four.y & 0xffff0000u);
    }
}

/* Group: takes scores of AT_ONCE rows, of which some may be missing, and the rows of v. */
__device__ __forceinline__ void share_add(struct share *s, const float *scores, const float v[AT_ONCE][4],
                                          float factor)
{
    float largest = s->largest, scale, base;

#pragma unroll
    for (uint32_t u = 0; u < AT_ONCE; u++)
        largest = fmaxf(largest, scores[u]);
    base = largest == SAC_ATTENTION_NO_SCORE ? 0.0f : largest; /* no row yet: -inf less itself is NaN */
    scale = sac_exp2((s->largest - base) * factor);
    s->largest = largest;
    s->sum *= scale;
#pragma unroll
    for (uint32_t i = 0; i < 4; i++)
        s->out[i] *= scale;
#pragma unroll
    for (uint32_t u = 0; u < AT_ONCE; u++) {
        const float p = sac_exp2((scores[u] - base) * factor);

        s->sum += p;
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            s->out[i] = fmaf(p, v[u][i], s->out[i]);
    }
}

/* Group: every GROUPS-th row of k and v, from its own on. All lanes of the block go round equally often. */
template <sac_dtype DTYPE, uint32_t LANES>
__device__ __forceinline__ void share_gather(struct share *s, const struct sac_attention *w,
                                             const struct sac_attention_part *part)
{
    constexpr uint32_t GROUPS = THREADS / LANES;
    const struct sac_attention_args *a = &w->a;
    const uint32_t d = threadIdx.x % LANES * 4, group = threadIdx.x / LANES;
    float q[4];

    get_four<DTYPE>(a->q, part->q + d, d < a->head_dim, q);
    for (uint32_t first = 0; first < a->kv_tokens; first += GROUPS * AT_ONCE) {
        float k[AT_ONCE][4], v[AT_ONCE][4], scores[AT_ONCE];

#pragma unroll
        for (uint32_t u = 0; u < AT_ONCE; u++) {
            const uint32_t row = first + u * GROUPS + group;
            const bool there = row < a->kv_tokens && d < a->head_dim;
            const size_t at = part->kv + row * a->kv_stride + d;

            get_four<DTYPE>(a->k, at, there, k[u]);
            get_four<DTYPE>(a->v, at, there, v[u]);
        }
#pragma unroll
        for (uint32_t u = 0; u < AT_ONCE; u++) {
            float score = 0.0f;

#pragma unroll
            for (uint32_t i = 0; i < 4; i++)
                score = fmaf(q[i], k[u][i], score);
#pragma unroll
            for (int step = LANES / 2; step > 0; step /= 2)
                score += __shfl_xor_sync(SAC_WARP_ALL, score, step);
            scores[u] = first + u * GROUPS + group < a->kv_tokens ? score : SAC_ATTENTION_NO_SCORE;
        }
        share_add(s, scores, v, w->factor);
    }
}

template <sac_dtype DTYPE, uint32_t LANES>
__global__ void __launch_bounds__(THREADS, 4) pool_kernel(const struct sac_attention w)
{
    constexpr uint32_t GROUPS = THREADS / LANES, DIM = LANES * 4;
    __shared__ float outs[GROUPS][DIM];
    __shared__ float largests[GROUPS], sums[GROUPS];
    const struct sac_attention_part part = sac_attention_part_of(&w);
    const uint32_t group = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    struct share s = {{0.0f, 0.0f, 0.0f, 0.0f}, SAC_ATTENTION_NO_SCORE, 0.0f};

    share_gather<DTYPE, LANES>(&s, &w, &part);
#pragma unroll
    for (uint32_t i = 0; i < 4; i++)
        outs[group][lane * 4 + i] = s.out[i];
    if (lane == 0) {
        largests[group] = s.largest;
        sums[group] = s.sum;
    }
    __syncthreads();
    if (threadIdx.x < w.a.head_dim) {
        float largest = SAC_ATTENTION_NO_SCORE, out = 0.0f, sum = 0.0f;

        for (uint32_t g = 0; g < GROUPS; g++)
            largest = fmaxf(largest, largests[g]);
        for (uint32_t g = 0; g < GROUPS; g++) {
            const float scale = sac_exp2((largests[g] - largest) * w.factor);

            out = fmaf(scale, outs[g][threadIdx.x], out);
            sum = fmaf(scale, sums[g], sum);
        }
        sac_attention_set<DTYPE>(w.a.y, part.y + threadIdx.x, out / sum);
    }
}

} // namespace

struct sac_attention_plan sac_attention_pool_plan(const struct sac_attention_args *a)
{
    const bool small = a->head_dim <= 64;
    struct sac_attention_plan plan;

    static_assert(SAC_ATTENTION_POOL_DIM_MAX == 32 * 4, "four components a lane");
    assert(a->q_tokens == 1 && a->head_dim <= SAC_ATTENTION_POOL_DIM_MAX);
    if (a->dtype == SAC_F32)
        plan.kernel = small ? pool_kernel<SAC_F32, 16> : pool_kernel<SAC_F32, 32>;
    else
        plan.kernel = small ? pool_kernel<SAC_BF16, 16> : pool_kernel<SAC_BF16, 32>;
    plan.tiles = 1;
    plan.threads = THREADS;
    plan.shared_bytes = 0;
    return plan;
}
