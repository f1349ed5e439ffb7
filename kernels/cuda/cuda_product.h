/* cuda_product.h -- the matrix product of a layer, done by cuBLASLt: y = x W^T, with what its epilogues add
 * on the way out, and for each number of rows the algorithm that the library likes best. */
#ifndef SACCADE_CUDA_PRODUCT_H
#define SACCADE_CUDA_PRODUCT_H

#include "kernels/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Used by any number of streams at a time. */
typedef struct sac_cuda_product sac_cuda_product;

/* y = x W^T, + bias, through GELU, + y: in this order, each where it is asked for; GELU by tanh. Sums are f32
 * (and x is not rounded where it is f32), y is rounded once. */
struct sac_cuda_product_params {
    uint32_t in, out;
    const void *weight; /* device [out][in] of x_dtype, aligned to 256; kept by the caller, like bias */
    const void *bias;   /* device [out] of y_dtype, aligned to 256, or NULL */
    sac_dtype x_dtype;  /* SAC_F32, with y_dtype SAC_F32 then, or SAC_BF16 */
    sac_dtype y_dtype;
    bool gelu;
    bool residual; /* y += instead of y = */
};

sac_status sac_cuda_product_open(sac_device *device, const struct sac_cuda_product_params *p,
                                 sac_cuda_product **out, sac_error *err);
void sac_cuda_product_close(sac_cuda_product *product); /* NULL is allowed */

/* Bytes that sac_cuda_product_run() wants as its workspace, whatever the rows. */
size_t sac_cuda_product_workspace(const sac_cuda_product *product);

/* Puts the product of x [rows][in] on the stream, into y [rows][out]; rows is 1..INT32_MAX, the workspace
 * aligned to 256. A number of rows that is new makes a plan, on the host alone, so that a recording may meet
 * it. SAC_UNSUPPORTED, and nothing is done, where the library has no algorithm for this; SAC_DEVICE_MEMORY;
 * SAC_DEVICE_LOST; SAC_INTERNAL. */
sac_status sac_cuda_product_run(sac_cuda_product *product, sac_stream *stream, const void *x, size_t rows,
                                void *y, void *workspace);

#ifdef __cplusplus
}
#endif
#endif
