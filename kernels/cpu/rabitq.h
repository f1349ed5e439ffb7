/* rabitq.h -- the inner loops of rotate and rabitq_encode, one set an instruction set. */
#ifndef SACCADE_CPU_RABITQ_H
#define SACCADE_CPU_RABITQ_H

#include "kernels/rabitq.h"

struct sac_rabitq_kernels {
    /* x[d] *= signs[d] * scale, then sac_walsh() of it, to the bit. n is a power of two. */
    void (*mix)(float *x, const float *signs, float scale, uint32_t n);
    /* Codes and sums of the residual x - c; dim is a multiple of SAC_RABITQ_DSUB. */
    void (*encode)(const float *x, const float *c, uint32_t dim, uint8_t *codes,
                   struct sac_rabitq_sums *sums);
};

extern const struct sac_rabitq_kernels sac_rabitq_avx2, sac_rabitq_avx512;

#endif
