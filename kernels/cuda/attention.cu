/* attention.cu -- chooses the kernel for an attention and launches it; attention.cuh names the kernels.
 *
 * Floors on an H200 (132 multiprocessors, 1.755 GHz):
 *   arithmetic    4 n heads q kv head_dim operations at 790 TFLOP/s
 *   exponentials  n heads q kv, of which a multiprocessor does 16 a cycle: 3.7e12/s
 *   bytes         4 n heads head_dim (q + kv) at 4.3 TB/s, where they do not lie in L2 (50 MB)
 * in microseconds a layer, of bf16, for 64 and 512 pictures:
 *                           arithmetic     exponentials        bytes
 *   ViT-Tiny  197 x  3 x 64   2.4   19       2.0   16       4.5   36
 *   B/16      197 x 12 x 64   9.7   77       8.0   64      18    144
 *   L/14      257 x 16 x 64  22    175      18    146      31    251
 * So bytes bind, but for 64 pictures of ViT-Tiny, which fit into L2. With 64 components arithmetic passes
 * bytes at 367 tokens; exponentials are 0.83 of it, so that the special function units are nearly as busy as
 * the tensor cores. In f32 arithmetic binds, at 67 TFLOP/s by the data sheet; with one row of q it is bytes:
 * the head of SigLIP so400m, 512 x 729 x 16 x 72, reads 1.72 GB in 0.40 ms.
 *
 * Expected, never measured: mma.sync reaches about 0.62 of the rate that Hopper has with wgmma, and of the
 * rows and columns that are multiplied 0.83 are there (197 tokens in 224 x 208, 257 in 288 x 272), so the
 * tensor cores take 1.9 times their floor: ViT-Tiny 4.7 and 37, B/16 19 and 150, L/14 42 and 340. Published
 * kernels of this kind (FlashAttention 2) are at about 0.4 of the dense rate on Hopper, which would be 7 and
 * 58, 30 and 230, 65 and 520: either way arithmetic would bind in the end. A warp's step of 32 x 32 x 64 is
 * 362 instructions: 64 HMMA, 36 MUFU, 16 LDSM; for each other one about 110 more ask for the next tile.
 *
 * nvcc 13.0, sm_90a, no spills (of 64 components 4 bytes for sm_100, 16 for sm_120): registers, shared
 * bytes, blocks x warps on a multiprocessor:
 *   tile_kernel    32 components   132  20608  3 x 4
 *                  64              168  36992  3 x 4
 *                  80              219  45184  2 x 4
 *                  96              247  53376  2 x 4
 *                 128              179  69760  1 x 8
 *   pool_kernel                     56   4224  4 x 8
 *   plain_kernel                   128  52224  2 x 8
 */
#include "kernels/cuda/attention.cuh"

#include "kernels/cuda/launch.cuh"

#include <assert.h>

#define LOG2_E 1.44269504f

/* Whether so many elements, a power of two, can be read at once from wherever a row of a head begins. */
static bool aligned(const struct sac_attention_args *a, size_t elements)
{
    const size_t bytes = elements * (a->dtype == SAC_F32 ? 4 : 2);
    const uintptr_t places = (uintptr_t)a->q | (uintptr_t)a->k | (uintptr_t)a->v | (uintptr_t)a->y;

    return places % bytes == 0 && (a->q_stride | a->kv_stride | a->head_dim) % elements == 0;
}

static struct sac_attention_plan plan_of(const struct sac_attention_args *a)
{
    if (a->q_tokens == 1 && a->head_dim <= SAC_ATTENTION_POOL_DIM_MAX && aligned(a, 4))
        return sac_attention_pool_plan(a);
    if (a->dtype == SAC_BF16 && a->head_dim <= SAC_ATTENTION_TILE_DIM_MAX && aligned(a, 8))
        return sac_attention_tile_plan(a);
    return sac_attention_plain_plan(a);
}

sac_status sac_attention_cuda(sac_stream *s, const struct sac_attention_args *a)
{
    const cudaStream_t stream = sac_cuda_stream_of(s);
    struct sac_attention_plan plan;
    struct sac_attention w;
    size_t pictures, most;
    cudaError_t error;

    if (a->n == 0)
        return SAC_OK;
    assert(a->q_tokens > 0 && a->kv_tokens > 0 && a->heads > 0 && a->head_dim > 0 && a->scale > 0.0f);
    assert(a->dtype == SAC_F32 || a->dtype == SAC_BF16);
    plan = plan_of(a);
    most = INT32_MAX / ((uint64_t)plan.tiles * a->heads); /* pictures of a launch: what a grid holds */
    assert(most > 0);
    w.a = *a;
    w.tiles = plan.tiles;
    w.factor = a->scale * LOG2_E;
    error = sac_launch_shared(plan.kernel, plan.shared_bytes);
    for (w.first = 0; w.first < a->n && error == cudaSuccess; w.first += pictures) {
        pictures = a->n - w.first < most ? a->n - w.first : most;
        error = SAC_LAUNCH(plan.kernel, (unsigned)(pictures * a->heads * plan.tiles), plan.threads,
                           plan.shared_bytes, stream, w);
    }
    return sac_cuda_status(s->device, error);
}

size_t sac_attention_scratch_cuda(const sac_device *d, const struct sac_attention_args *a)
{
    (void)d;
    (void)a;
    return 0;
}
