/* driver.h -- what the benchmarks of this folder share: they end at the first mistake, and tell percentiles.
 */
#ifndef SACCADE_BENCH_GPU_DRIVER_H
#define SACCADE_BENCH_GPU_DRIVER_H

#include "kernels/status.h"

#include <stddef.h>

/* Prints "program: text" and exits with 1. */
_Noreturn void fail(const char *text);
void check(sac_status st, const sac_error *err); /* fails unless SAC_OK */
void *need(size_t count, size_t size);           /* zeroed memory, or fails */

struct spread {
    double p50, p99;
};
struct spread spread_of(double *times, size_t count); /* sorts them; count > 0 */

#endif
