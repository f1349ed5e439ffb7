/* list_write.cu -- entries into pages of inverted lists: from row-major codes to sub-quantizer-major ones.
 *
 *   codes u8 [n][m], bias f32 [n], slots u32 [n], positions u32 [n], distinct, in      pages
 *   twin: ref/list_write.c, equal to the bit
 *
 * Floor for n entries on an H200: n (m + code bytes + 20) bytes at 4.3 TB/s, 0.35 ms for 10 M x 64 x 8 bits.
 *
 * A block takes ENTRIES entries and CODES codes of each at a time through shared memory, so that codes are
 * read along a row and written along a page's 64 lines: neighbouring lanes hold neighbouring entries, whose
 * positions are as a rule neighbours too. Rows in shared memory are 4 bytes longer than they need be: lanes
 * then read a column from different banks. Each byte of a page belongs to one entry alone - with 4 bits both
 * of its codes are that entry's - so byte stores never meet.
 *
 * nvcc 13.0, sm_90a: 32 registers, 4352 bytes of shared memory, no spills: 8 blocks, 2048 threads a
 * multiprocessor. A warp's byte stores fill one sector of 32 bytes each: the rate of stores, not of
 * memory, bounds it, at a guess at 1.5 to 2 times the floor. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/page.h"

#include <assert.h>

enum { THREADS = 256, ENTRIES = 64, CODES = 64, ROW = CODES + 4 };

/* Codes first .. first + width - 1 of `count` entries, from `codes` on, into rows of shared memory. */
static __device__ __forceinline__ void read_codes(const uint8_t *codes, uint32_t m, uint32_t count,
                                                  uint32_t first, uint32_t width, uint8_t *tile)
{
    for (uint32_t i = threadIdx.x; i < count * CODES; i += THREADS) {
        uint32_t entry = i / CODES, j = i % CODES;

        if (j < width)
            tile[entry * ROW + j] = codes[(size_t)entry * m + first + j];
    }
}

/* Codes first .. first + width - 1 of one entry, every other of its bytes from `begin` on in steps. The high
 * half of the last byte of an odd m is nobody's and stays as it is. */
static __device__ __forceinline__ void write_codes(const sac_pq_shape *pq, unsigned char *page, uint32_t line,
                                                   const uint8_t *row, uint32_t first, uint32_t width,
                                                   uint32_t begin, uint32_t step)
{
    unsigned char *lane = page + line;

    if (pq->nbits != 4) {
        for (uint32_t j = begin; j < width; j += step)
            lane[(size_t)(first + j) * SAC_PAGE_ROWS] = row[j];
        return;
    }
    for (uint32_t t = begin; t < (width + 1) / 2; t += step) {
        unsigned char *byte = lane + (size_t)(first / 2 + t) * SAC_PAGE_ROWS;
        uint32_t high = 2 * t + 1 < width ? (uint32_t)row[2 * t + 1] << 4 : *byte & 0xf0u;

        *byte = (unsigned char)(high | row[2 * t]);
    }
}

static __global__ void __launch_bounds__(THREADS) list_write_kernel(const struct sac_list_write_args a)
{
    __shared__ uint8_t tile[ENTRIES * ROW];
    const uint32_t entry = threadIdx.x % ENTRIES;

    for (size_t base = (size_t)blockIdx.x * ENTRIES; base < a.n; base += (size_t)gridDim.x * ENTRIES) {
        uint32_t count = a.n - base < ENTRIES ? (uint32_t)(a.n - base) : (uint32_t)ENTRIES;
        uint32_t position = entry < count ? a.positions[base + entry] : 0, line = position % SAC_PAGE_ROWS;
        unsigned char *page = entry < count ? a.pages[position / SAC_PAGE_ROWS] : NULL;

        for (uint32_t first = 0; first < a.pq.m; first += CODES) {
            uint32_t width = a.pq.m - first < CODES ? a.pq.m - first : (uint32_t)CODES;

            read_codes(a.codes + base * a.pq.m, a.pq.m, count, first, width, tile);
            __syncthreads();
            if (entry < count)
                write_codes(&a.pq, page, line, tile + entry * ROW, first, width, threadIdx.x / ENTRIES,
                            THREADS / ENTRIES);
            __syncthreads();
        }
        if (threadIdx.x < count) {
            sac_page_bias(&a.pq, page)[line] = a.bias[base + entry];
            sac_page_slots(&a.pq, page)[line] = a.slots[base + entry];
        }
    }
}

extern "C" sac_status sac_list_write_cuda(sac_stream *s, const struct sac_list_write_args *a)
{
    if (a->n == 0)
        return SAC_OK;
    assert(a->pq.m >= 1 && a->pq.nbits >= 4 && a->pq.nbits <= 8);
    return sac_cuda_status(s->device, SAC_LAUNCH(list_write_kernel, sac_rows_grid(a->n, ENTRIES), THREADS, 0,
                                                 sac_cuda_stream_of(s), *a));
}
