/* Layers of a network: cuBLAS does the product, one kernel the rest (bias, activation, residual, rounding).
 *
 * Row-major y = x W^T is, to cuBLAS's column-major eyes, y^T = W x^T: W goes in transposed, x as it lies. A
 * product that needs nothing more is written in place; otherwise it waits as f32 in the scratch.
 *
 * Floors on an H200: 2 rows in out operations at 790 TFLOP/s for bf16 (f32: 67 TFLOP/s by the data sheet),
 * and the bytes of x, W and y at 4.3 TB/s. The second kernel adds 8 to 12 bytes a result.
 *
 * nvcc 13.0, sm_90a: finish 28 registers, round 13. No spills.
 */
#include "kernels/cuda/cuda.h"

#include "kernels/cuda/launch.cuh"

#include <cublas_v2.h>
#include <cuda_bf16.h>

#include <assert.h>
#include <stdlib.h>

struct sac_linear {
    sac_device *device;
    uint32_t in, out;
    sac_dtype precision, y_dtype;
    sac_activation activation;
    bool residual;
    void *weight; /* [out][in] of the precision */
    float *bias;  /* [out], or NULL */
};

namespace
{

enum { THREADS = 256 };

__device__ float activate(sac_activation activation, float x)
{
    switch (activation) {
    case SAC_ACTIVATION_GELU_ERF:
        return x * 0.5f * (1.0f + erff(x * 0.70710678118654752f));
    case SAC_ACTIVATION_GELU_TANH:
        return x * 0.5f * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    case SAC_ACTIVATION_GELU_QUICK:
        return x / (1.0f + expf(-1.702f * x));
    case SAC_ACTIVATION_SWIGLU: /* of its first half */
        return x / (1.0f + expf(-x));
    case SAC_ACTIVATION_NONE:
        break;
    }
    return x;
}

/* y from the product p [rows][out]. */
__global__ void finish_kernel(const float *p, const float *bias, size_t rows, uint32_t out,
                              sac_activation activation, bool residual, sac_dtype y_dtype, void *y)
{
    uint32_t columns = activation == SAC_ACTIVATION_SWIGLU ? out / 2 : out;
    size_t count = rows * columns;

    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x) {
        size_t row = i / columns;
        uint32_t j = (uint32_t)(i % columns);
        float value = p[row * out + j] + (bias != NULL ? bias[j] : 0.0f);

        value = activate(activation, value);
        if (activation == SAC_ACTIVATION_SWIGLU)
            value *= p[row * out + columns + j] + (bias != NULL ? bias[columns + j] : 0.0f);
        if (y_dtype == SAC_BF16)
            ((__nv_bfloat16 *)y)[i] = __float2bfloat16(value);
        else
            ((float *)y)[i] = residual ? ((float *)y)[i] + value : value;
    }
}

__global__ void round_kernel(const float *from, __nv_bfloat16 *to, size_t count)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        to[i] = __float2bfloat16(from[i]);
}

size_t weight_count(const sac_linear *linear)
{
    return (size_t)linear->out * linear->in;
}

bool product_is_all(const sac_linear *linear)
{
    return linear->bias == NULL && linear->activation == SAC_ACTIVATION_NONE && !linear->residual &&
           linear->y_dtype == SAC_F32;
}

unsigned blocks_for(const sac_device *device, size_t count)
{
    size_t most = 8 * (size_t)((const sac_cuda_device *)device)->multiprocessors;
    size_t blocks = (count + THREADS - 1) / THREADS;

    return (unsigned)(blocks < most ? blocks : most);
}

/* Puts the weights where and as products read them. */
sac_status pack(sac_linear *linear, const float *weight, const float *bias, sac_error *err)
{
    sac_device *device = linear->device;
    size_t count = weight_count(linear), bytes = count * sizeof(float);
    void *floats = NULL, *packed_bias = NULL;
    sac_status st = device->backend->buffer_alloc(device, bytes, &floats, err);
    cudaError_t error = cudaSuccess;

    if (st == SAC_OK && linear->precision == SAC_BF16)
        st = device->backend->buffer_alloc(device, bytes / 2, &linear->weight, err);
    if (st == SAC_OK && bias != NULL)
        st = device->backend->buffer_alloc(device, linear->out * sizeof(float), &packed_bias, err);
    linear->bias = (float *)packed_bias;
    if (st == SAC_OK)
        error = cudaMemcpy(floats, weight, bytes, cudaMemcpyHostToDevice);
    if (st == SAC_OK && error == cudaSuccess && bias != NULL)
        error = cudaMemcpy(packed_bias, bias, linear->out * sizeof(float), cudaMemcpyHostToDevice);
    if (st == SAC_OK && error == cudaSuccess && linear->precision == SAC_BF16)
        error = SAC_LAUNCH(round_kernel, blocks_for(device, count), THREADS, 0, (cudaStream_t)0,
                           (const float *)floats, (__nv_bfloat16 *)linear->weight, count);
    if (st == SAC_OK && error == cudaSuccess)
        error = cudaStreamSynchronize((cudaStream_t)0);
    if (st == SAC_OK && error != cudaSuccess)
        st = sac_fail(err, sac_cuda_status(device, error), "cannot put a layer's weights on the GPU: %s",
                      cudaGetErrorString(error));
    if (linear->precision == SAC_F32)
        linear->weight = floats;
    else
        device->backend->buffer_free(device, floats);
    return st;
}

/* The stream's handle, made at its first product. Handles belong to the device that is the thread's when they
 * are made, and work only while it is. */
cublasStatus_t blas_handle(sac_cuda_stream *stream, cublasHandle_t *out)
{
    cudaStream_t cuda = sac_cuda_stream_of(&stream->base);
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    cublasHandle_t made = NULL;

    if (stream->blas == NULL) {
        status = cublasCreate(&made);
        if (status == CUBLAS_STATUS_SUCCESS)
            status = cublasSetStream(made, cuda);
        if (status != CUBLAS_STATUS_SUCCESS) {
            sac_cuda_blas_close(made);
            return status;
        }
        stream->blas = made;
    }
    *out = (cublasHandle_t)stream->blas;
    return status;
}

sac_status blas_status(sac_device *device, cublasStatus_t status)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return SAC_OK;
    switch (status) {
    case CUBLAS_STATUS_ALLOC_FAILED:
    case CUBLAS_STATUS_NOT_INITIALIZED: /* what cublasCreate says where there is no room for its workspace */
        return SAC_DEVICE_MEMORY;
    case CUBLAS_STATUS_EXECUTION_FAILED:
    case CUBLAS_STATUS_MAPPING_ERROR:
    case CUBLAS_STATUS_INTERNAL_ERROR:
        return sac_cuda_status(device, cudaErrorUnknown);
    default: /* the call was wrong, the device is well */
        return SAC_INTERNAL;
    }
}

} // namespace

extern "C" void sac_cuda_blas_close(void *blas)
{
    if (blas != NULL)
        (void)cublasDestroy((cublasHandle_t)blas);
}

extern "C" sac_status sac_linear_open_cuda(sac_device *d, const struct sac_linear_params *p, sac_linear **out,
                                           sac_error *err)
{
    sac_linear *linear = (sac_linear *)calloc(1, sizeof *linear);
    sac_status st;

    *out = NULL;
    if (linear == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a layer");
    linear->device = d;
    linear->in = p->in;
    linear->out = p->out;
    linear->precision = p->precision;
    linear->y_dtype = p->y_dtype;
    linear->activation = p->activation;
    linear->residual = p->residual;
    st = pack(linear, p->weight, p->bias, err);
    if (st != SAC_OK) {
        sac_linear_close_cuda(linear);
        return st;
    }
    *out = linear;
    return SAC_OK;
}

extern "C" void sac_linear_close_cuda(sac_linear *linear)
{
    if (linear == NULL)
        return;
    linear->device->backend->buffer_free(linear->device, linear->weight);
    linear->device->backend->buffer_free(linear->device, linear->bias);
    free(linear);
}

extern "C" size_t sac_linear_scratch_cuda(const sac_device *d, const struct sac_linear_args *a)
{
    (void)d;
    return product_is_all(a->linear) ? 0 : sac_scratch_size(a->rows, (size_t)a->linear->out * sizeof(float));
}

extern "C" sac_status sac_linear_cuda(sac_stream *s, const struct sac_linear_args *a)
{
    const sac_linear *l = a->linear;
    cudaDataType type = l->precision == SAC_BF16 ? CUDA_R_16BF : CUDA_R_32F;
    const float one = 1.0f, zero = 0.0f;
    float *product = (float *)a->y;
    cublasHandle_t blas;
    cublasStatus_t status;

    assert(a->rows <= INT32_MAX);
    if (a->rows == 0)
        return SAC_OK;
    if (!product_is_all(l)) {
        sac_scratch_reset(s);
        product = (float *)sac_scratch_take(s, a->rows, (size_t)l->out * sizeof *product);
        if (product == NULL)
            return SAC_DEVICE_MEMORY;
    }
    status = blas_handle((sac_cuda_stream *)s, &blas);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, (int)l->out, (int)a->rows, (int)l->in, &one,
                              l->weight, type, (int)l->in, a->x, type, (int)l->in, &zero, product, CUDA_R_32F,
                              (int)l->out, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    if (status != CUBLAS_STATUS_SUCCESS || product_is_all(l))
        return blas_status(s->device, status);
    return sac_cuda_status(s->device,
                           SAC_LAUNCH(finish_kernel, blocks_for(s->device, a->rows * l->out), THREADS, 0,
                                      sac_cuda_stream_of(s), (const float *)product, (const float *)l->bias,
                                      a->rows, l->out, l->activation, l->residual, l->y_dtype, a->y));
}
