/* onednn.h -- products of tiles by oneDNN, on one thread: all that saccade uses of it, and the only place
 * that knows its version (2.6 in Debian 12, 3.x elsewhere).
 *
 * Threads. oneDNN as packaged runs its own OpenMP threads, as many for every calling thread. saccade has one
 * pool per device instead, so a product is cut into tiles (linear.c) and every tile is one primitive on one
 * thread: OpenMP is told so before each use and given back its former value after it. That also makes results
 * independent of the number of threads and rows, and lets sanitizers see every thread.
 *
 * Results are plain f32 sums; bias, activation and conversion are ours, while the tile is still in the cache.
 * Two reasons: oneDNN's own erf costs more than the product it follows (bf16, 192 -> 576: 430 GFLOP/s with
 * it, 1900 without), and it leaves its fast path for a result with a row stride.
 */
#ifndef SACCADE_ONEDNN_H
#define SACCADE_ONEDNN_H

#include "kernels/ops.h"

#define SAC_TILE_ROWS 64u      /* of the largest tile; also planned: smaller multiples of the step */
#define SAC_TILE_STEP_F32 2u   /* 50 tokens of one picture would waste a quarter of 64 rows */
#define SAC_TILE_STEP_BF16 16u /* a matrix tile's height */

/* Products x[rows][in] times w[in][out] for rows step, 2 step .. 64, sharing one packed layout of w.
 * Immutable. */
typedef struct sac_onednn_plan sac_onednn_plan;

/* precision is that of x and of the packed weights. Errors: SAC_UNSUPPORTED (bf16 on a CPU without AVX-512),
 * SAC_NO_MEMORY. */
sac_status sac_onednn_plan_open(uint32_t in, uint32_t out, sac_dtype precision, sac_onednn_plan **plan,
                                sac_error *err);
void sac_onednn_plan_close(sac_onednn_plan *plan); /* NULL is allowed */

uint32_t sac_onednn_step(const sac_onednn_plan *plan);
size_t sac_onednn_packed_bytes(const sac_onednn_plan *plan);
size_t sac_onednn_scratch_bytes(const sac_onednn_plan *plan);

/* weight [out][in] -> packed, sac_onednn_packed_bytes() aligned to 64. */
sac_status sac_onednn_pack(const sac_onednn_plan *plan, const float *weight, void *packed, sac_error *err);

/* One thread's use of a plan, on its stack. */
struct sac_onednn_use {
    const sac_onednn_plan *plan;
    void *scratch_at;
    void *stream, *weight, *x, *sums, *scratch; /* oneDNN's handles */
    uint32_t rows;                              /* that the last three are made for; 0: none yet */
    int omp_threads;                            /* to restore */
};

/* scratch: sac_onednn_scratch_bytes() of the caller's, aligned to 64. Always followed by sac_onednn_end(). */
sac_status sac_onednn_begin(struct sac_onednn_use *use, const sac_onednn_plan *plan, const void *packed,
                            void *scratch);
/* sums[rows][out] = x[rows][in] w, both dense; rows a multiple of the plan's step up to SAC_TILE_ROWS. */
sac_status sac_onednn_tile(struct sac_onednn_use *use, uint32_t rows, const void *x, float *sums);
void sac_onednn_end(struct sac_onednn_use *use);

#endif
