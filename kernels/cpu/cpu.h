/* cpu.h -- the CPU's versions of operations; their contracts are in ops.h. The suffix names the instruction
 * set. */
#ifndef SACCADE_CPU_H
#define SACCADE_CPU_H

#include "kernels/backend.h"

/* Upgrades a complete table (the reference's) with everything that `features` allows. */
void sac_cpu_ops_fill(struct sac_ops *ops, uint32_t features);

sac_status sac_resize_avx2(sac_stream *s, const struct sac_resize_args *a);
size_t sac_resize_scratch_avx2(const sac_device *d, const struct sac_resize_args *a);

#endif
