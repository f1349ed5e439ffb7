/* product_tile.cuh -- the product that a search and k-means spend their time in: a tile of 128 rows of one
 * panel (panel.cuh) with one tile of 128 columns after the other of another, on the tensor cores.
 *
 *     struct sac_product p;
 *     struct sac_product_sums sums;
 *
 *     sac_product_begin(&p, ...);
 *     while (sac_product_next(&p, &sums, &word))        block
 *         ... sums.of[i][j][e] is the product of row sac_product_row(i, e) of the tile
 *             with column p.tile * 128 + sac_product_column(j, e) ...
 *
 * The sums stay in registers and whoever asks for them chooses there: no matrix of distances is written.
 *
 * Work of a block: 4 warps, each 64 x 64, so that 8 loads of fragments (ldmatrix.x4) serve 32 mma.m16n8k16:
 * 16 KB of shared memory for 4 x 32 x 2048 multiply-adds, which at 128 bytes a cycle is exactly the rate of
 * an H100's tensor cores; with smaller warp tiles shared memory would be the limit. Two blocks on a
 * multiprocessor (128 sums a thread, 255 registers): while one chooses, the other multiplies.
 *
 * Memory: columns come in chunks of 64 components through three buffers by cp.async, two chunks ahead, also
 * across the ends of tiles. The rows stay in shared memory where they fit (resident), since each column tile
 * meets all of them: 128 operations for a byte from L2; longer rows come in chunks beside the columns, 64 a
 * byte. A chunk is [128][64] halves, a row 128 bytes in 8 pieces of 16; piece s of row r lies at
 * s ^ (r & 7): the 8 rows that a fragment reads at one place are then in 8 different groups of banks, and so
 * are the 8 pieces of a row that cp.async writes. */
#ifndef SACCADE_CUDA_PRODUCT_TILE_CUH
#define SACCADE_CUDA_PRODUCT_TILE_CUH

#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/panel.cuh"

enum {
    SAC_PRODUCT_THREADS = 128,
    SAC_PRODUCT_DEPTH = 64, /* components of a chunk */
    SAC_PRODUCT_STAGES = 3,
    SAC_PRODUCT_CHUNK_BYTES = SAC_PANEL_TILE * SAC_PRODUCT_DEPTH * 2,
    SAC_PRODUCT_BIAS_BYTES = SAC_PANEL_TILE * 4,
};

/* Sums of one thread: 4 fragments of 16 rows, 8 of 8 columns, 4 sums of each. */
struct sac_product_sums {
    float of[4][8][4];
};

struct sac_product {
    const struct sac_panel *columns;
    const uint16_t *rows; /* the tile's */
    unsigned char *shared;
    uint32_t stride, chunks;
    bool resident;
    uint32_t tile, end;                         /* the column tile that sums are of, and where to stop */
    uint32_t load_tile, load_chunk, load_first; /* what is asked for next */
    uint32_t stage, load_stage, bias, load_bias;
};

static inline __host__ __device__ uint32_t sac_product_chunks(uint32_t stride)
{
    return (stride + SAC_PRODUCT_DEPTH - 1) / SAC_PRODUCT_DEPTH;
}

/* Dynamic shared memory that a block needs; *resident as sac_product_begin() wants it. `most` is what a block
 * may have, beyond what the kernel needs for itself. */
static inline size_t sac_product_shared_bytes(uint32_t stride, size_t most, bool *resident)
{
    size_t buffers = SAC_PRODUCT_STAGES * (SAC_PRODUCT_CHUNK_BYTES + SAC_PRODUCT_BIAS_BYTES);
    size_t whole = (size_t)sac_product_chunks(stride) * SAC_PRODUCT_CHUNK_BYTES;
    size_t parts = (size_t)SAC_PRODUCT_STAGES * SAC_PRODUCT_CHUNK_BYTES;

    *resident = whole <= parts || whole + buffers <= most;
    return (*resident ? whole : parts) + buffers;
}

/* Row of the tile, and column of the column tile, that sums->of[i][j][e] belongs to. */
static __device__ __forceinline__ uint32_t sac_product_row(uint32_t i, uint32_t e)
{
    return threadIdx.x / 64 * 64 + i * 16 + e / 2 * 8 + threadIdx.x % 32 / 4;
}

static __device__ __forceinline__ uint32_t sac_product_column(uint32_t j, uint32_t e)
{
    return threadIdx.x / 32 % 2 * 64 + j * 8 + threadIdx.x % 4 * 2 + e % 2;
}

/* The piece of a chunk at a row and 16-byte place. */
static __device__ __forceinline__ unsigned char *sac_product_piece(unsigned char *chunk, uint32_t row,
                                                                   uint32_t piece)
{
    return chunk + row * (SAC_PRODUCT_DEPTH * 2) + ((piece ^ (row & 7)) << 4);
}

static __device__ __forceinline__ unsigned char *sac_product_columns_chunk(const struct sac_product *p,
                                                                           uint32_t stage)
{
    uint32_t before = p->resident ? p->chunks : SAC_PRODUCT_STAGES;

    return p->shared + (before + stage) * SAC_PRODUCT_CHUNK_BYTES;
}

static __device__ __forceinline__ float *sac_product_bias_at(const struct sac_product *p, uint32_t slot)
{
    return (float *)(sac_product_columns_chunk(p, SAC_PRODUCT_STAGES) + slot * SAC_PRODUCT_BIAS_BYTES);
}

/* Bias of the column that sums->of[.][j][e] belongs to; e and e + 1 are neighbours. */
static __device__ __forceinline__ float2 sac_product_bias(const struct sac_product *p, uint32_t j)
{
    return *(const float2 *)(sac_product_bias_at(p, p->bias) + sac_product_column(j, 0));
}

static __device__ __forceinline__ void sac_product_load_chunk(unsigned char *to, const uint16_t *from,
                                                              uint32_t stride, uint32_t chunk)
{
#pragma unroll
    for (uint32_t i = 0; i < SAC_PANEL_TILE * 8 / SAC_PRODUCT_THREADS; i++) {
        uint32_t row = i * (SAC_PRODUCT_THREADS / 8) + threadIdx.x / 8, piece = threadIdx.x % 8;
        uint32_t d = chunk * SAC_PRODUCT_DEPTH + piece * 8;

        if (d < stride)
            sac_copy_async<16>(sac_product_piece(to, row, piece), from + (size_t)row * stride + d);
    }
}

/* Asks for the next chunk of columns, and of rows where they are wanted; always one group of copies. */
static __device__ __forceinline__ void sac_product_load(struct sac_product *p)
{
    if (p->load_tile < p->end) {
        const struct sac_panel *columns = p->columns;
        size_t column = (size_t)p->load_tile * SAC_PANEL_TILE;

        if (!p->resident || p->load_tile == p->load_first)
            sac_product_load_chunk(p->shared + (p->resident ? p->load_chunk : p->load_stage) *
                                                   SAC_PRODUCT_CHUNK_BYTES,
                                   p->rows, p->stride, p->load_chunk);
        sac_product_load_chunk(sac_product_columns_chunk(p, p->load_stage),
                               columns->values + column * p->stride, p->stride, p->load_chunk);
        if (p->load_chunk == 0 && threadIdx.x < SAC_PRODUCT_BIAS_BYTES / 16)
            sac_copy_async<16>(sac_product_bias_at(p, p->load_bias) + threadIdx.x * 4,
                               columns->bias + column + threadIdx.x * 4);
        p->load_stage = (p->load_stage + 1) % SAC_PRODUCT_STAGES;
        if (++p->load_chunk == p->chunks) {
            p->load_chunk = 0;
            p->load_bias = (p->load_bias + 1) % SAC_PRODUCT_STAGES;
            p->load_tile++;
        }
    }
    sac_copy_async_commit();
}

/* Block: gets ready for tile `row_tile` of rows with tiles first .. end - 1 of columns. `shared` is
 * sac_product_shared_bytes() of memory, aligned to 128. */
static __device__ __forceinline__ void sac_product_begin(struct sac_product *p, const struct sac_panel *rows,
                                                         uint32_t row_tile, const struct sac_panel *columns,
                                                         uint32_t first, uint32_t end, bool resident,
                                                         unsigned char *shared)
{
    p->columns = columns;
    p->rows = rows->values + (size_t)row_tile * SAC_PANEL_TILE * rows->stride;
    p->shared = shared;
    p->stride = rows->stride;
    p->chunks = sac_product_chunks(rows->stride);
    p->resident = resident;
    p->tile = first - 1;
    p->end = end;
    p->load_tile = p->load_first = first;
    p->load_chunk = p->stage = p->load_stage = p->load_bias = 0;
    p->bias = SAC_PRODUCT_STAGES - 1;
    for (uint32_t i = 0; i + 1 < SAC_PRODUCT_STAGES; i++)
        sac_product_load(p);
}

/* Warp: 16 components deep, 64 x 64. */
static __device__ __forceinline__ void sac_product_step(unsigned char *rows, unsigned char *columns,
                                                        uint32_t depth, struct sac_product_sums *sums)
{
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint32_t a[4][4];

#pragma unroll
    for (uint32_t i = 0; i < 4; i++)
        sac_ldmatrix_x4(a[i],
                        sac_product_piece(rows, warp / 2 * 64 + i * 16 + lane % 16, depth * 2 + lane / 16));
#pragma unroll
    for (uint32_t j = 0; j < 8; j += 2) {
        uint32_t b[4]; /* two fragments of 8 columns, 16 deep */

        sac_ldmatrix_x4(b, sac_product_piece(columns, warp % 2 * 64 + j * 8 + lane % 8 + lane / 16 * 8,
                                             depth * 2 + lane / 8 % 2));
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            sac_mma_f16(sums->of[i][j], a[i], b);
            sac_mma_f16(sums->of[i][j + 1], a[i], b + 2);
        }
    }
}

/* Block: the sums of the next tile of columns; false where there is none. *any becomes true for all threads
 * if it was for one: what they have to tell each other between tiles costs no barrier of its own. */
static __device__ __forceinline__ bool sac_product_next(struct sac_product *p, struct sac_product_sums *sums,
                                                        bool *any)
{
    if (++p->tile >= p->end)
        return false;
    p->bias = (p->bias + 1) % SAC_PRODUCT_STAGES;
#pragma unroll
    for (uint32_t i = 0; i < 4; i++)
#pragma unroll
        for (uint32_t j = 0; j < 8; j++)
#pragma unroll
            for (uint32_t e = 0; e < 4; e++)
                sums->of[i][j][e] = 0.0f;
    for (uint32_t chunk = 0; chunk < p->chunks; chunk++) {
        unsigned char *rows = p->shared + (p->resident ? chunk : p->stage) * SAC_PRODUCT_CHUNK_BYTES;
        unsigned char *columns = sac_product_columns_chunk(p, p->stage);
        uint32_t steps = (p->stride - chunk * SAC_PRODUCT_DEPTH) / 16;

        sac_copy_async_wait<SAC_PRODUCT_STAGES - 2>();
        if (chunk == 0) /* this chunk is there, and nobody needs the one before any more */
            *any = __syncthreads_or(*any) != 0;
        else
            __syncthreads();
        sac_product_load(p);
        if (steps >= SAC_PRODUCT_DEPTH / 16) { /* known to be whole, fragments are fetched a step ahead */
#pragma unroll
            for (uint32_t depth = 0; depth < SAC_PRODUCT_DEPTH / 16; depth++)
                sac_product_step(rows, columns, depth, sums);
        } else {
#pragma unroll 1
            for (uint32_t depth = 0; depth < steps; depth++)
                sac_product_step(rows, columns, depth, sums);
        }
        p->stage = (p->stage + 1) % SAC_PRODUCT_STAGES;
    }
    return true;
}

/* Turns sums into distances, less |row|^2 for L2: bias + factor * sum. */
static __device__ __forceinline__ void sac_product_distances(const struct sac_product *p, float factor,
                                                             struct sac_product_sums *sums)
{
#pragma unroll
    for (uint32_t j = 0; j < 8; j++) {
        float2 bias = sac_product_bias(p, j);

#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
#pragma unroll
            for (uint32_t e = 0; e < 4; e++)
                sums->of[i][j][e] = fmaf(sums->of[i][j][e], factor, e % 2 == 0 ? bias.x : bias.y);
    }
}

/* distances[bit], for registers have no addresses. */
static __device__ __forceinline__ float sac_product_pick(const float *distances, uint32_t bit)
{
    float distance = 0.0f;

#pragma unroll
    for (uint32_t other = 0; other < 16; other++)
        distance = other == bit ? distances[other] : distance;
    return distance;
}

#endif
