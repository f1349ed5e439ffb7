/* attention_tile.cu -- attention on the tensor cores: a block has up to 128 rows of q of one head, and goes
 * over the head's k and v in tiles of 64.
 *
 * A warp has a strip of 32 rows (16 where heads are wider than 96: registers) and does everything for it: its
 * products with k, softmax, and the product of the probabilities with v, whose operand the probabilities
 * become in the registers where they are, rounded to bf16. 32 rows, because a strip reads all of k and v from
 * shared memory: 16 KB for a tile of 64 components, 128 cycles, in which 32 x 64 scores keep the tensor cores
 * busy for as long. It takes 32 columns at a time, which costs a tenth more instructions than 64 would and
 * leaves registers for 12 warps on a multiprocessor instead of 8: while some multiply, others are at softmax.
 *
 * As many warps are in a block as share out the strips of a head evenly: 257 rows are 9 strips, in 3 blocks
 * of 3. A strip past the last row only loads. Columns come in steps of 16 at the end of k and v, and only the
 * last step is masked.
 *
 * Shared memory: two stages of k and v, filled by cp.async while the other is used; q comes through the
 * second before it is needed, and results leave through the one that the last tile does not use. A row takes
 * 16 bytes more than its components: an odd number of 16-byte places, so that the 8 rows that a fragment
 * reads are in 8 different groups of banks. (An exclusive or of the place with the row would need no room,
 * but an instruction for each address: padded, all of a thread's are constants from one register.) Components
 * past head_dim and rows past the last are zeros, which no product and no maximum notices.
 *
 * wgmma would take k and v from shared memory by descriptors (128-byte swizzle, by TMA) in step_scores() and
 * step_values(), with 64 rows a warpgroup, p from registers as here, and two warpgroups in turn at softmax.
 */
#include "kernels/cuda/attention.cuh"

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/half.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/warp.cuh"

#include <assert.h>

namespace
{

enum {
    ROWS = 128,   /* of q, a block's most */
    COLUMNS = 64, /* rows of k and v in a tile */
    STEP = 32,    /* of them whose scores are there at a time */
};

/* Of shared memory, for heads of DIM components. */
template <uint32_t DIM> struct layout {
    static constexpr uint32_t row_bytes = DIM * 2 + 16;
    static constexpr uint32_t tile_bytes = COLUMNS * row_bytes;
    static constexpr uint32_t stage_bytes = 2 * tile_bytes; /* k, then v: also ROWS rows */
};

/* A warp's rows, 16 TALL of them. Fragments are those of mma.cuh; a lane has two rows of each 16. */
template <uint32_t DIM, uint32_t TALL> struct strip {
    uint32_t q[TALL][DIM / 16][4];
    float out[TALL][DIM / 8][4];
    float largest[TALL][2];
    float sum[TALL][2]; /* of this lane's columns */
};

template <uint32_t TALL, uint32_t UNITS> struct scores {
    float at[TALL][2 * UNITS][4];
};

/* ---- memory ---- */

/* Block: asks for rows first .. first + wanted - 1 of x, of which those before `end` exist, and with BOTH for
 * the same rows of `other`, behind them. A warp takes as many whole rows at a time as it has lanes for. */
template <uint32_t DIM, bool BOTH>
__device__ __forceinline__ void load_rows(unsigned char *to, const uint16_t *x, const uint16_t *other,
                                          size_t stride, uint32_t first, uint32_t wanted, uint32_t end,
                                          uint32_t head_dim)
{
    const uint32_t pieces = DIM / 8, at_once = 32 / pieces, step = blockDim.x / 32 * at_once;
    const uint32_t d = sac_lane() % pieces * 8;
    uint32_t row = sac_lane() / pieces < at_once ? sac_warp() * at_once + sac_lane() / pieces : wanted;

    end = d < head_dim ? end : 0;
#pragma unroll 1
    for (; row < wanted; row += step) {
        const size_t at = (first + row) * stride + d;
        const uint32_t bytes = first + row < end ? 16 : 0;

        sac_copy_async_part<16>(to + row * layout<DIM>::row_bytes + d * 2, x + at, bytes);
        if (BOTH)
            sac_copy_async_part<16>(to + layout<DIM>::tile_bytes + row * layout<DIM>::row_bytes + d * 2,
                                    other + at, bytes);
    }
}

/* Block: asks for a tile of k and v. */
template <uint32_t DIM>
__device__ __forceinline__ void load_tile(unsigned char *stage, const struct sac_attention_args *a, size_t at,
                                          uint32_t tile)
{
    const uint32_t left = a->kv_tokens - tile * COLUMNS;

    load_rows<DIM, true>(stage, (const uint16_t *)a->k + at, (const uint16_t *)a->v + at, a->kv_stride,
                         tile * COLUMNS, left < COLUMNS ? (left + 15) / 16 * 16 : COLUMNS, a->kv_tokens,
                         a->head_dim);
}

/* Warp: its rows of q from shared memory. */
template <uint32_t DIM, uint32_t TALL>
__device__ __forceinline__ void strip_begin(struct strip<DIM, TALL> *s, const unsigned char *rows)
{
    rows += sac_lane() % 16 * layout<DIM>::row_bytes + sac_lane() / 16 * 16;
#pragma unroll
    for (uint32_t i = 0; i < TALL; i++) {
#pragma unroll
        for (uint32_t d = 0; d < DIM / 16; d++)
            sac_ldmatrix_x4(s->q[i][d], rows + i * 16 * layout<DIM>::row_bytes + d * 32);
#pragma unroll
        for (uint32_t j = 0; j < DIM / 8; j++)
#pragma unroll
            for (uint32_t e = 0; e < 4; e++)
                s->out[i][j][e] = 0.0f;
#pragma unroll
        for (uint32_t r = 0; r < 2; r++) {
            s->largest[i][r] = SAC_ATTENTION_NO_SCORE;
            s->sum[i][r] = 0.0f;
        }
    }
}

/* ---- a step: UNITS times 16 rows of k and v ---- */

template <uint32_t DIM, uint32_t TALL, uint32_t UNITS>
__device__ __forceinline__ void step_scores(const struct strip<DIM, TALL> *s, const unsigned char *k,
                                            struct scores<TALL, UNITS> *p)
{
    k += (sac_lane() % 8 + sac_lane() / 16 * 8) * layout<DIM>::row_bytes + sac_lane() / 8 % 2 * 16;
#pragma unroll
    for (uint32_t u = 0; u < UNITS; u++) {
#pragma unroll
        for (uint32_t i = 0; i < TALL; i++)
#pragma unroll
            for (uint32_t e = 0; e < 8; e++)
                p->at[i][2 * u + e / 4][e % 4] = 0.0f;
#pragma unroll
        for (uint32_t d = 0; d < DIM / 16; d++) {
            uint32_t b[4]; /* 8 columns, and 8 more */

            sac_ldmatrix_x4(b, k + u * 16 * layout<DIM>::row_bytes + d * 32);
#pragma unroll
            for (uint32_t i = 0; i < TALL; i++) {
                sac_mma_bf16(p->at[i][2 * u], s->q[i][d], b);
                sac_mma_bf16(p->at[i][2 * u + 1], s->q[i][d], b + 2);
            }
        }
    }
}

/* Takes the scores of columns that there are not out of the running; they are among the last 16. */
template <uint32_t TALL, uint32_t UNITS>
__device__ __forceinline__ void step_mask(struct scores<TALL, UNITS> *p, uint32_t columns)
{
#pragma unroll
    for (uint32_t j = 2 * UNITS - 2; j < 2 * UNITS; j++)
#pragma unroll
        for (uint32_t i = 0; i < TALL; i++)
#pragma unroll
            for (uint32_t e = 0; e < 4; e++)
                if (j * 8 + sac_lane() % 4 * 2 + e % 2 >= columns)
                    p->at[i][j][e] = SAC_ATTENTION_NO_SCORE;
}

/* Scores of row r of 16-row part i become exponentials; what was summed before is scaled to go with them. */
template <uint32_t DIM, uint32_t TALL, uint32_t UNITS>
__device__ __forceinline__ void row_exponentials(struct strip<DIM, TALL> *s, struct scores<TALL, UNITS> *p,
                                                 uint32_t i, uint32_t r, float factor)
{
    float largest = s->largest[i][r], scale;

#pragma unroll
    for (uint32_t j = 0; j < 2 * UNITS; j++)
        largest = fmaxf(largest, fmaxf(p->at[i][j][2 * r], p->at[i][j][2 * r + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(SAC_WARP_ALL, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(SAC_WARP_ALL, largest, 2));
    scale = sac_exp2((s->largest[i][r] - largest) * factor);
    s->largest[i][r] = largest;
    s->sum[i][r] *= scale;
#pragma unroll
    for (uint32_t j = 0; j < DIM / 8; j++) {
        s->out[i][j][2 * r] *= scale;
        s->out[i][j][2 * r + 1] *= scale;
    }
#pragma unroll
    for (uint32_t j = 0; j < 2 * UNITS; j++)
#pragma unroll
        for (uint32_t e = 2 * r; e < 2 * r + 2; e++) {
            p->at[i][j][e] = sac_exp2((p->at[i][j][e] - largest) * factor);
            s->sum[i][r] += p->at[i][j][e];
        }
}

template <uint32_t DIM, uint32_t TALL, uint32_t UNITS>
__device__ __forceinline__ void step_values(struct strip<DIM, TALL> *s, const unsigned char *v,
                                            const struct scores<TALL, UNITS> *p)
{
    v += sac_lane() % 16 * layout<DIM>::row_bytes + sac_lane() / 16 * 16;
#pragma unroll
    for (uint32_t u = 0; u < UNITS; u++) {
        uint32_t a[TALL][4];

#pragma unroll
        for (uint32_t i = 0; i < TALL; i++)
#pragma unroll
            for (uint32_t x = 0; x < 4; x++)
                a[i][x] =
                    sac_bf16_pair(p->at[i][2 * u + x / 2][x % 2 * 2], p->at[i][2 * u + x / 2][x % 2 * 2 + 1]);
#pragma unroll
        for (uint32_t d = 0; d < DIM / 16; d++) {
            uint32_t b[4]; /* 8 components, and 8 more */

            sac_ldmatrix_x4_trans(b, v + u * 16 * layout<DIM>::row_bytes + d * 32);
#pragma unroll
            for (uint32_t i = 0; i < TALL; i++) {
                sac_mma_bf16(s->out[i][2 * d], a[i], b);
                sac_mma_bf16(s->out[i][2 * d + 1], a[i], b + 2);
            }
        }
    }
}

template <uint32_t DIM, uint32_t TALL, uint32_t UNITS>
__device__ __forceinline__ void strip_step(struct strip<DIM, TALL> *s, const unsigned char *stage,
                                           uint32_t columns, float factor)
{
    struct scores<TALL, UNITS> p;

    step_scores(s, stage, &p);
    if (columns < UNITS * 16)
        step_mask(&p, columns);
#pragma unroll
    for (uint32_t i = 0; i < TALL; i++)
#pragma unroll
        for (uint32_t r = 0; r < 2; r++)
            row_exponentials(s, &p, i, r, factor);
    step_values(s, stage + layout<DIM>::tile_bytes, &p);
}

/* Warp: a tile of `columns` rows of k and v. */
template <uint32_t DIM, uint32_t TALL>
__device__ __forceinline__ void strip_tile(struct strip<DIM, TALL> *s, const unsigned char *stage,
                                           uint32_t columns, float factor)
{
#pragma unroll 1
    for (uint32_t column = 0; column < columns; column += STEP) {
        const unsigned char *at = stage + column * layout<DIM>::row_bytes;

        if (columns - column > 16)
            strip_step<DIM, TALL, 2>(s, at, columns - column, factor);
        else
            strip_step<DIM, TALL, 1>(s, at, columns - column, factor);
    }
}

/* ---- results ---- */

/* Warp: leaves its rows in shared memory, as bf16. */
template <uint32_t DIM, uint32_t TALL>
__device__ __forceinline__ void strip_leave(struct strip<DIM, TALL> *s, unsigned char *rows)
{
    rows += sac_lane() / 4 * layout<DIM>::row_bytes + sac_lane() % 4 * 4;
#pragma unroll
    for (uint32_t i = 0; i < TALL; i++)
#pragma unroll
        for (uint32_t r = 0; r < 2; r++) {
            float sum = s->sum[i][r], inverse;

            sum += __shfl_xor_sync(SAC_WARP_ALL, sum, 1);
            sum += __shfl_xor_sync(SAC_WARP_ALL, sum, 2);
            inverse = 1.0f / sum;
#pragma unroll
            for (uint32_t j = 0; j < DIM / 8; j++)
                *(uint32_t *)(rows + (i * 16 + r * 8) * layout<DIM>::row_bytes + j * 16) =
                    sac_bf16_pair(s->out[i][j][2 * r] * inverse, s->out[i][j][2 * r + 1] * inverse);
        }
    __syncwarp();
}

/* Warp: `count` rows from shared memory to y. */
template <uint32_t DIM>
__device__ __forceinline__ void rows_store(uint16_t *y, size_t stride, const unsigned char *rows,
                                           uint32_t count, uint32_t head_dim)
{
#pragma unroll 1
    for (uint32_t i = sac_lane(); i < count * (DIM / 8); i += 32) {
        const uint32_t row = i / (DIM / 8), d = i % (DIM / 8) * 8;

        if (d < head_dim)
            *(uint4 *)(y + row * stride + d) = *(const uint4 *)(rows + row * layout<DIM>::row_bytes + d * 2);
    }
}

/* ---- the kernel ---- */

/* Registers are shared out among BLOCKS blocks of a multiprocessor. */
template <uint32_t DIM, uint32_t TALL, uint32_t BLOCKS>
__global__ void __launch_bounds__(ROWS / TALL * 2, BLOCKS) tile_kernel(const struct sac_attention w)
{
    SAC_SHARED_DYNAMIC(unsigned char, shared);
    __shared__ struct sac_attention_part part; /* there, because registers are what there is least of */
    const struct sac_attention_args *a = &w.a;
    const uint32_t warps = blockDim.x / 32, rows = warps * 16 * TALL;
    const uint32_t tiles = (a->kv_tokens + COLUMNS - 1) / COLUMNS;
    /* Warps of one number share tensor cores: the strip that a head lacks is another's in each. */
    const uint32_t mine = (sac_warp() + blockIdx.x / w.tiles) % warps * 16 * TALL;
    unsigned char *const second = shared + layout<DIM>::stage_bytes;
    struct strip<DIM, TALL> s;
    uint32_t row, there;

    if (threadIdx.x == 0)
        part = sac_attention_part_of(&w);
    __syncthreads();
    row = part.tile * rows;
    there = a->q_tokens - row < rows ? a->q_tokens - row : rows;
    load_rows<DIM, false>(second, (const uint16_t *)a->q + part.q, NULL, a->q_stride, row, rows, a->q_tokens,
                          a->head_dim);
    load_tile<DIM>(shared, a, part.kv, 0);
    sac_copy_async_commit();
    sac_copy_async_wait<0>();
    __syncthreads();
    strip_begin(&s, second + mine * layout<DIM>::row_bytes);
    for (uint32_t tile = 0; tile < tiles; tile++) {
        const uint32_t left = a->kv_tokens - tile * COLUMNS;

        sac_copy_async_wait<0>();
        __syncthreads(); /* this tile is there, and nobody needs the one before any more */
        if (tile + 1 < tiles)
            load_tile<DIM>(shared + (tile + 1) % 2 * layout<DIM>::stage_bytes, a, part.kv, tile + 1);
        sac_copy_async_commit();
        if (mine < there)
            strip_tile(&s, shared + tile % 2 * layout<DIM>::stage_bytes, left < COLUMNS ? left : COLUMNS,
                       w.factor);
    }
    if (mine < there) {
        unsigned char *at = shared + tiles % 2 * layout<DIM>::stage_bytes + mine * layout<DIM>::row_bytes;

        strip_leave(&s, at);
        rows_store<DIM>((uint16_t *)a->y + part.y + (row + mine) * part.y_stride, part.y_stride, at,
                        there - mine < 16 * TALL ? there - mine : 16 * TALL, a->head_dim);
    }
}

template <uint32_t DIM, uint32_t TALL, uint32_t BLOCKS>
struct sac_attention_plan plan_of(const struct sac_attention_args *a)
{
    const uint32_t strips = (a->q_tokens + 16 * TALL - 1) / (16 * TALL), most = ROWS / (16 * TALL);
    struct sac_attention_plan plan;

    plan.kernel = tile_kernel<DIM, TALL, BLOCKS>;
    plan.tiles = (strips + most - 1) / most;
    plan.threads = (strips + plan.tiles - 1) / plan.tiles * 32;
    plan.shared_bytes = 2 * layout<DIM>::stage_bytes;
    return plan;
}

} // namespace

struct sac_attention_plan sac_attention_tile_plan(const struct sac_attention_args *a)
{
    assert(a->dtype == SAC_BF16 && a->head_dim <= SAC_ATTENTION_TILE_DIM_MAX);
    return a->head_dim <= 32   ? plan_of<32, 2, 3>(a)
           : a->head_dim <= 64 ? plan_of<64, 2, 3>(a)
           : a->head_dim <= 80 ? plan_of<80, 2, 2>(a)
           : a->head_dim <= 96 ? plan_of<96, 2, 2>(a)
                               : plan_of<128, 1, 1>(a);
}
