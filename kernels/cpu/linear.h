/* linear.h -- what becomes of a tile of sums: one version per instruction set. */
#ifndef SACCADE_LINEAR_H
#define SACCADE_LINEAR_H

#include "kernels/ops.h"

/* y[r][j] = activation(sums[r][j] + bias[j]) for `rows` rows and `columns` columns, or y += without an
 * activation. SWIGLU reads its second half at sums[r][gate + j], bias[gate + j]. */
struct sac_linear_finish_args {
    const float *sums;
    size_t sums_stride;
    const float *bias;
    uint32_t rows, columns, gate;
    sac_activation activation;
    bool residual;
    sac_dtype y_dtype;
    void *y;         /* of y_dtype */
    size_t y_stride; /* elements */
};
typedef void sac_linear_finish_fn(const struct sac_linear_finish_args *a);

sac_linear_finish_fn sac_linear_finish_base, sac_linear_finish_avx2, sac_linear_finish_avx512,
    sac_linear_finish_bf16;

#endif
