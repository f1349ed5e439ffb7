/* list_scan_product.cuh -- 64 rows of a list times up to 32 queries: from codes to sums, in registers.
 *
 * A warp multiplies with mma.m16n8k16: 16 queries are the tall operand, 8 rows the other. Which row and which
 * component a lane's part of that other is, is ours to say as long as the queries agree, and said so that
 * decoded rows never go through memory. With g = lane / 4, t = lane % 4 a lane holds
 *   - rows 8g .. 8g + 7 of the page, one for each of eight products. So one 8-byte load brings a lane the
 *     codes of one sub-quantizer for all its rows, and a warp's load is whole sectors;
 *   - components 8t .. 8t + 7 of a chunk of 32: one 16-byte lookup where code words have 8 components (or two
 *     of 8 bytes, or four of 4). Its first 8 bytes are the operand of the chunk's first matrix instruction,
 *     the others of the second, in the registers where the lookup put them. (With rows as the tall operand,
 *     whose four registers are of two rows, a third of all instructions only moved registers.) Queries are
 *     kept in that order, 8 components of which each t has two in turn, and fetched with ldmatrix.
 * A lookup is bound by bank conflicts, since codes are random. The words of the four t are interleaved, so
 * that each t has a quarter of the banks for itself. Mean wavefronts a warp's lookup takes (simulated, 256
 * words): 3.2 of 4 bytes (3.4 with tables one after the other), 5.3 of 8 (6.1), 7.7 of 16 (10.3).
 *
 * So a row of 96 components in 48 codes costs 48 / 32 * 3.2 = 4.8 cycles of its multiprocessor's shared
 * memory, one of 768 in 96 codes 96 / 32 * 7.7 = 23; and a chunk of 16 queries, fetched once for 64 rows,
 * 0.13 cycles a row. Writing a decoded tile to shared memory and reading it back would add 3 and 24 cycles.
 *
 * Layout of a chunk of the codebook: bf16 [lookup of a lane][code][t][width].
 *
 * wgmma (sm_90a) wants its tall operand from registers and the other from shared memory, so rows would be the
 * tall one: chunk_product() would then read pairs of rows into it, and up to 256 queries could share a
 * decoded row instead of 32. */
#ifndef SACCADE_CUDA_LIST_SCAN_PRODUCT_CUH
#define SACCADE_CUDA_LIST_SCAN_PRODUCT_CUH

#include "kernels/cuda/list_scan.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/warp.cuh"

/* Of tiles of 16 queries: [row of a lane's eight][tile][as mma.cuh says]. */
template <uint32_t TILES> struct sac_lists_sums {
    float at[8][TILES][4];
};

/* What codes of 64 rows are read with. */
struct sac_lists_codes {
    const unsigned char *page;
    uint32_t m, nbits;
    uint32_t part_rate; /* 2^31 / lookups of a code word, and a little */
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
    uint32_t j = WIDTH < 8 ? unit : __umulhi(2 * unit, c->part_rate);

    return j < c->m ? j : c->m - 1;
}

template <uint32_t WIDTH>
static __device__ __forceinline__ void sac_lists_codes_load(struct sac_lists_lane_codes<WIDTH> *codes,
                                                            const struct sac_lists_codes *c, uint32_t chunk)
{
#pragma unroll
    for (uint32_t i = 0; i < 8 / WIDTH; i++) {
        uint32_t j = sac_lists_quantizer<WIDTH>(c, chunk, i), row = sac_lane() / 4 * 8;

        codes->rows[i] = __ldg((const uint2 *)(c->page + (c->nbits == 4 ? j / 2 : j) * SAC_PAGE_ROWS + row));
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
    uint32_t first[TILES][4], second[TILES][4];

    queries += sac_lane() % 16 * query_bytes + sac_lane() / 16 * 16;
#pragma unroll
    for (uint32_t n = 0; n < TILES; n++) {
        sac_ldmatrix_x4(first[n], queries + n * 16 * query_bytes);
        sac_ldmatrix_x4(second[n], queries + n * 16 * query_bytes + 32);
    }
    tables += sac_lane() % 4 * (2 * WIDTH);
#pragma unroll
    for (uint32_t x = 0; x < 8; x++) {
        uint4 row = sac_lists_decode<WIDTH>(tables, 8 * WIDTH << nbits, codes, x);
        uint32_t low[2] = {row.x, row.y}, high[2] = {row.z, row.w};

#pragma unroll
        for (uint32_t n = 0; n < TILES; n++)
            sac_mma_bf16(sums->at[x][n], first[n], low);
#pragma unroll
        for (uint32_t n = 0; n < TILES; n++)
            sac_mma_bf16(sums->at[x][n], second[n], high);
    }
}

/* ---- what a lane has in the end ----
 *
 * Its sums are taken in 4 * TILES steps of one query and eight rows that follow each other; the first half of
 * the steps is of other rows than the second. */

template <uint32_t TILES> static __device__ __forceinline__ uint32_t sac_lists_step_query(uint32_t step)
{
    return step % (2 * TILES) * 8 + sac_lane() / 4;
}

template <uint32_t TILES> static __device__ __forceinline__ uint32_t sac_lists_step_row(uint32_t step)
{
    return sac_lane() % 4 * 16 + step / (2 * TILES) * 8;
}

template <uint32_t TILES>
static __device__ __forceinline__ float sac_lists_step_sum(const struct sac_lists_sums<TILES> *sums,
                                                           uint32_t step, uint32_t x)
{
    return sums->at[x][step % (2 * TILES) / 2][step % 2 * 2 + step / (2 * TILES)];
}

#endif
