/* list_move.cu -- one entry of an inverted list over another.
 *
 *   from, to: positions      pages in and out      twin: ref/list_move.c, equal to the bit
 *
 * Floor: the launch, some 2 us; an entry is a few hundred bytes.
 *
 * nvcc 13.0, sm_90a: 22 registers, no shared memory, no spills. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/page.h"

#include <assert.h>

enum { THREADS = 128 };

/* The high half of the last byte of an odd m is nobody's and stays as it is. */
static __global__ void __launch_bounds__(THREADS) list_move_kernel(const struct sac_list_move_args a)
{
    const uint32_t from_line = a.from % SAC_PAGE_ROWS, to_line = a.to % SAC_PAGE_ROWS;
    const uint32_t bytes = (uint32_t)(sac_page_code_bytes(&a.pq) / SAC_PAGE_ROWS);
    const bool halved = a.pq.nbits == 4 && a.pq.m % 2 != 0;
    unsigned char *from = a.pages[a.from / SAC_PAGE_ROWS], *to = a.pages[a.to / SAC_PAGE_ROWS];

    for (uint32_t t = threadIdx.x; t < bytes; t += THREADS) {
        unsigned char *byte = to + t * SAC_PAGE_ROWS + to_line;
        uint32_t kept = halved && t + 1 == bytes ? 0xf0u : 0;

        *byte = (unsigned char)((*byte & kept) | (from[t * SAC_PAGE_ROWS + from_line] & ~kept));
    }
    if (threadIdx.x == 0) {
        sac_page_bias(&a.pq, to)[to_line] = sac_page_bias(&a.pq, from)[from_line];
        sac_page_slots(&a.pq, to)[to_line] = sac_page_slots(&a.pq, from)[from_line];
    }
}

extern "C" sac_status sac_list_move_cuda(sac_stream *s, const struct sac_list_move_args *a)
{
    assert(a->pq.m >= 1 && a->pq.nbits >= 4 && a->pq.nbits <= 8);
    return sac_cuda_status(s->device, SAC_LAUNCH(list_move_kernel, 1, THREADS, 0, sac_cuda_stream_of(s), *a));
}
