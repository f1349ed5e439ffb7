/* list_scan_product.cuh -- 64 rows of a list times up to 32 queries: from codes to sums, in registers.
 *
 * A warp multiplies with mma.m16n8k16, rows as the tall operand. Which row and which component a lane's part
 * of that operand is, is ours to say as long as the queries agree, and said so that decoded rows never go
 * through memory. With g = lane / 4, t = lane % 4 a lane holds
 *   - rows 8g .. 8g + 7 of the block: register f of the tall operand's four has rows 8g + 2f and 8g + 2f + 1.
 * So one 8-byte load brings a lane the codes of one sub-quantizer for all its rows, and a warp's load is
 * whole sectors;
 *   - components 8t .. 8t + 7 of a chunk of 32: one 16-byte lookup where code words have 8 components (or two
 * of 8 bytes, or four of 4), which are the operands of the chunk's two matrix instructions: 0, 1, 4, 5 of the
 * first, 2, 3, 6, 7 of the second, so that few registers change places. Queries are kept in that order, eight
 *     components 0 1 4 5 2 3 6 7, for one 16-byte load of each.
 * A lookup is bound by bank conflicts, since codes are random. The words of the four t are interleaved, so
 * that each t has a quarter of the banks for itself. Mean wavefronts a warp's lookup takes (simulated, 256
 * words): 3.2 of 4 bytes (3.4 with tables one after the other), 5.3 of 8 (6.1), 7.7 of 16 (10.3).
 *
 * So a row of 96 components in 48 codes costs 48 / 32 * 3.2 = 4.8 cycles of its multiprocessor's shared
 * memory, one of 768 in 96 codes 96 / 32 * 7.7 = 23; and a chunk of the queries, read once for 64 rows, 0.06
 * cycles a query and row. Writing a decoded tile to shared memory and reading it back would add 3 and 24
 * cycles.
 *
 * Layout of a chunk of the codebook: bf16 [lookup of a lane][code][t][width].
 *
 * wgmma (sm_90a) would take chunk_product()'s place: its tall operand may come from registers, in this very
 * layout (four warps' m64 is four times m16, each warp's rows its own), so decoding stays as it is; the
 * queries' tile goes to shared memory in the descriptor's order, with up to 256 queries a decoded row instead
 * of 32. */
#ifndef SACCADE_CUDA_LIST_SCAN_PRODUCT_CUH
#define SACCADE_CUDA_LIST_SCAN_PRODUCT_CUH

#include "kernels/cuda/list_scan.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/warp.cuh"

/* Of tiles of 8 queries: [rows' register][tile][row of the register * 2 + query of the lane]. */
template <uint32_t TILES> struct sac_lists_sums {
    float at[4][TILES][4];
};

/* What codes of 64 rows are read with. */
struct sac_lists_codes {
    const unsigned char *block; /* the block's codes in its page */
    uint32_t m, nbits, parts;
};

/* A lane's codes of one chunk: rows 8g .. 8g + 7 of each of its lookups. */
template <uint32_t WIDTH> struct sac_lists_lane_codes {
    uint2 rows[8 / WIDTH];
};

/* The sub-quantizer of a lane's i-th lookup in a chunk; past the last one the last, which meets zeros. */
template <uint32_t WIDTH>
static __device__ __forceinline__ uint32_t sac_lists_quantizer(const struct sac_lists_codes *c,
                                                               uint32_t chunk, uint32_t i)
{
    uint32_t unit = chunk * (SAC_LISTS_CHUNK / WIDTH) + threadIdx.x % 4 * (8 / WIDTH) + i;
    uint32_t j = WIDTH < 8 || c->parts == 1 ? unit : unit / c->parts;

    return j < c->m ? j : c->m - 1;
}

template <uint32_t WIDTH>
static __device__ __forceinline__ void sac_lists_codes_load(struct sac_lists_lane_codes<WIDTH> *codes,
                                                            const struct sac_lists_codes *c, uint32_t chunk)
{
#pragma unroll
    for (uint32_t i = 0; i < 8 / WIDTH; i++) {
        uint32_t j = sac_lists_quantizer<WIDTH>(c, chunk, i), row = sac_lane() / 4 * 8;

        codes->rows[i] =
            __ldg((const uint2 *)(c->block + (c->nbits == 4 ? j / 2 : j) * SAC_BLOCK_ROWS + row));
    }
}

/* Two 4-bit codes share a byte: keeps the lane's own. */
template <uint32_t WIDTH>
static __device__ __forceinline__ void sac_lists_codes_split(struct sac_lists_lane_codes<WIDTH> *codes,
                                                             const struct sac_lists_codes *c, uint32_t chunk)
{
#pragma unroll
    for (uint32_t i = 0; i < 8 / WIDTH; i++) {
        uint32_t shift = sac_lists_quantizer<WIDTH>(c, chunk, i) % 2 * 4;

        codes->rows[i].x = codes->rows[i].x >> shift & 0x0f0f0f0f;
        codes->rows[i].y = codes->rows[i].y >> shift & 0x0f0f0f0f;
    }
}

/* Where the code word of a lane's row is, in a lookup's table. */
template <uint32_t WIDTH>
static __device__ __forceinline__ const unsigned char *sac_lists_word(const unsigned char *table, uint2 rows,
                                                                      uint32_t row)
{
    return table + ((row < 4 ? rows.x : rows.y) >> row % 4 * 8 & 255) * (8 * WIDTH);
}

/* A lane's eight components of one of its rows. */
template <uint32_t WIDTH>
static __device__ __forceinline__ uint4 sac_lists_decode(const unsigned char *tables, uint32_t table_bytes,
                                                         const struct sac_lists_lane_codes<WIDTH> *codes,
                                                         uint32_t row)
{
    uint4 x;

    if (WIDTH == 8)
        return *(const uint4 *)sac_lists_word<WIDTH>(tables, codes->rows[0], row);
    if (WIDTH == 4) {
        uint2 low = *(const uint2 *)sac_lists_word<WIDTH>(tables, codes->rows[0], row);
        uint2 high =
            *(const uint2 *)sac_lists_word<WIDTH>(tables + table_bytes, codes->rows[1 % (8 / WIDTH)], row);

        x.x = low.x;
        x.y = low.y;
        x.z = high.x;
        x.w = high.y;
        return x;
    }
    x.x = *(const uint32_t *)sac_lists_word<WIDTH>(tables, codes->rows[0], row);
    x.y = *(const uint32_t *)sac_lists_word<WIDTH>(tables + table_bytes, codes->rows[1 % (8 / WIDTH)], row);
    x.z =
        *(const uint32_t *)sac_lists_word<WIDTH>(tables + 2 * table_bytes, codes->rows[2 % (8 / WIDTH)], row);
    x.w =
        *(const uint32_t *)sac_lists_word<WIDTH>(tables + 3 * table_bytes, codes->rows[3 % (8 / WIDTH)], row);
    return x;
}

/* Adds a chunk's part: `tables` is the chunk's codebook and `queries` the queries from the chunk's first
 * component on, query_bytes apart, both in shared memory. */
template <uint32_t WIDTH, uint32_t TILES>
static __device__ __forceinline__ void chunk_product(struct sac_lists_sums<TILES> *sums,
                                                     const unsigned char *tables, uint32_t nbits,
                                                     const struct sac_lists_lane_codes<WIDTH> *codes,
                                                     const unsigned char *queries, uint32_t query_bytes)
{
    uint32_t g = sac_lane() / 4, t = sac_lane() % 4;
    uint4 y[TILES];

#pragma unroll
    for (uint32_t n = 0; n < TILES; n++)
        y[n] = *(const uint4 *)(queries + (n * 8 + g) * query_bytes + t * 16);
    tables += t * (2 * WIDTH);
#pragma unroll
    for (uint32_t f = 0; f < 4; f++) {
        uint4 low = sac_lists_decode<WIDTH>(tables, 8 * WIDTH << nbits, codes, 2 * f);
        uint4 high = sac_lists_decode<WIDTH>(tables, 8 * WIDTH << nbits, codes, 2 * f + 1);
        uint32_t first[4] = {low.x, high.x, low.z, high.z}, second[4] = {low.y, high.y, low.w, high.w};

#pragma unroll
        for (uint32_t n = 0; n < TILES; n++) {
            sac_mma_bf16(sums->at[f][n], first, &y[n].x);
            sac_mma_bf16(sums->at[f][n], second, &y[n].z);
        }
    }
}

#endif
