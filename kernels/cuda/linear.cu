/* Layers of a network: cuBLASLt does the product and what its epilogues can (cuda_product.h), one kernel the
 * rest.
 *
 *   y bf16   bias, both GELUs (tanh form): nothing is left. Quick GELU: y in place.
 *   y f32    bias, residual: nothing is left. Activations, exact ones: y in place.
 *   SWIGLU, whose product is twice as wide as y, and bf16 results of f32 operands, which the library does not
 *   have: the product goes to the scratch in f32, so many rows at a time as keep it in the L2 cache.
 * Where the library has no algorithm - odd bf16 rows, perhaps - a plain kernel does what its epilogue would.
 *
 * Floors on an H200: 2 rows in out operations at 790 TFLOP/s for bf16 (f32: 67 TFLOP/s by the data sheet),
 * and the bytes of x, W and y at 4.3 TB/s, which for 256 rows or fewer is W's. In place adds 4 bytes a result
 * in bf16, 8 in f32, at the same rate; the scratch nothing but its L2 traffic, if it stays there: 18 bytes
 * for each bf16 y of SWIGLU, 10 for each of f32 operands.
 *
 * nvcc 13.0, sm_90a: finish 12 to 32 registers, so 8 blocks of 256 threads fill a multiprocessor; product 32
 * registers, 2176 bytes of shared memory. No spills.
 */
#include "kernels/cuda/cuda_product.h"
#include "kernels/cuda/half.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/half.h"

#include <cuda_bf16.h>

#include <assert.h>
#include <stdlib.h>

struct sac_linear {
    sac_device *device;
    uint32_t in, out;
    sac_dtype precision, y_dtype;
    sac_activation rest; /* what the product leaves to be done */
    bool in_scratch;     /* the product is, as f32 */
    bool gelu, residual; /* the product's */
    void *weight;        /* [out][in] of the precision */
    void *bias;          /* [out] of the product's type, or NULL */
    sac_cuda_product *product;
};

namespace
{

enum {
    THREADS = 256,
    BLOCKS_EACH = 8,        /* on a multiprocessor, at most */
    TILE = 16,              /* of the plain product: rows and columns of a block, components at a time */
    PIECE_BYTES = 16 << 20, /* of a product in the scratch: a third of an H200's L2 */
    PIECE_ROWS = 128,       /* pieces are multiples of this where they are as large: the library's tiles */
};

/* N values that are read 16 bytes at a time, if they are as many. */
template <class T, int N> struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) group {
    T of[N];
};

__device__ __forceinline__ float to_float(float x)
{
    return x;
}

__device__ __forceinline__ float to_float(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

__device__ __forceinline__ void write(float *to, const float (&values)[1])
{
    *to = values[0];
}

__device__ __forceinline__ void write(__nv_bfloat16 *to, const float (&values)[1])
{
    *to = __float2bfloat16(values[0]);
}

__device__ __forceinline__ void write(float *to, const float (&values)[4])
{
    *(float4 *)to = make_float4(values[0], values[1], values[2], values[3]);
}

__device__ __forceinline__ void write(__nv_bfloat16 *to, const float (&values)[8])
{
    *(uint4 *)to = make_uint4(sac_bf16_pair(values[0], values[1]), sac_bf16_pair(values[2], values[3]),
                              sac_bf16_pair(values[4], values[5]), sac_bf16_pair(values[6], values[7]));
}

__device__ __forceinline__ float gelu_tanh(float x)
{
    return x * 0.5f * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
}

/* x sigmoid(slope x). The quick division is off by 2 units in the last place at most, and gives the 0 that x
 * far below zero wants. */
__device__ __forceinline__ float swish(float x, float slope)
{
    return __fdividef(x, 1.0f + expf(-slope * x));
}

template <sac_activation ACTIVATION> __device__ __forceinline__ float activate(float x)
{
    switch (ACTIVATION) {
    case SAC_ACTIVATION_GELU_ERF:
        return x * 0.5f * (1.0f + erff(x * 0.70710678118654752f));
    case SAC_ACTIVATION_GELU_TANH:
        return gelu_tanh(x);
    case SAC_ACTIVATION_GELU_QUICK:
        return swish(x, 1.702f);
    case SAC_ACTIVATION_SWIGLU: /* of its first half */
        return swish(x, 1.0f);
    case SAC_ACTIVATION_NONE:
        break;
    }
    return x;
}

/* y [count] from the product p with its bias: [count], which may be y itself, or of SWIGLU [count / columns]
 * rows of 2 columns. Of N values together each thread reads its own before it writes.
 * One index for rows and columns, because inside two loops nvcc 13.0 makes four stores of one. */
template <sac_activation ACTIVATION, class P, class Y, int N>
__global__ void __launch_bounds__(THREADS) finish_kernel(const P *p, size_t count, uint32_t columns, Y *y)
{
    const bool gated = ACTIVATION == SAC_ACTIVATION_SWIGLU;

    for (size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * N; i < count;
         i += (size_t)gridDim.x * THREADS * N) {
        const P *from = gated ? p + i + (size_t)((uint32_t)i / columns) * columns : p + i;
        const group<P, N> a = *(const group<P, N> *)from;
        const group<P, N> b = gated ? *(const group<P, N> *)(from + columns) : a;
        float values[N];

#pragma unroll
        for (int e = 0; e < N; e++)
            values[e] = activate<ACTIVATION>(to_float(a.of[e])) * (gated ? to_float(b.of[e]) : 1.0f);
        write(y + i, values);
    }
}

/* What the library does with its epilogues: y = x W^T, + bias, through GELU, + y. A thread has one result. */
template <class X, class Y>
__global__ void __launch_bounds__(TILE *TILE)
    product_kernel(const X *x, const X *weight, const Y *bias, size_t rows, uint32_t in, uint32_t out,
                   bool gelu, bool residual, Y *y)
{
    __shared__ float x_tile[TILE][TILE + 1], weight_tile[TILE][TILE + 1];
    const uint32_t i = threadIdx.y, j = threadIdx.x;
    const size_t first_column = (size_t)blockIdx.x * TILE;

    for (size_t first = (size_t)blockIdx.y * TILE; first < rows; first += (size_t)gridDim.y * TILE) {
        const size_t row = first + i, column = first_column + j;
        float sum = 0;

        for (size_t d = 0; d < in; d += TILE) {
            const bool inside = d + j < in;

            x_tile[i][j] = inside && row < rows ? to_float(x[row * in + d + j]) : 0.0f;
            weight_tile[i][j] =
                inside && first_column + i < out ? to_float(weight[(first_column + i) * in + d + j]) : 0.0f;
            __syncthreads();
#pragma unroll
            for (int k = 0; k < TILE; k++)
                sum += x_tile[i][k] * weight_tile[j][k];
            __syncthreads();
        }
        if (row < rows && column < out) {
            Y *to = y + row * out + column;

            sum += bias != NULL ? to_float(bias[column]) : 0.0f;
            sum = gelu ? gelu_tanh(sum) : sum;
            write(to, {residual ? sum + to_float(*to) : sum});
        }
    }
}

/* ---- launches ---------------------------------------------------------------------------------------- */

template <sac_activation ACTIVATION, class P, class Y, int N>
cudaError_t launch_finish_by(sac_stream *s, const P *p, size_t count, uint32_t columns, Y *y)
{
    size_t most = (size_t)BLOCKS_EACH * sac_cuda_device_of(s)->multiprocessors;
    size_t blocks = (count / N + THREADS - 1) / THREADS;

    return SAC_LAUNCH((finish_kernel<ACTIVATION, P, Y, N>), (unsigned)(blocks < most ? blocks : most),
                      THREADS, 0, sac_cuda_stream_of(s), p, count, columns, y);
}

template <sac_activation ACTIVATION, class P, class Y>
sac_status launch_finish(sac_stream *s, const void *p, size_t rows, uint32_t columns, void *y)
{
    const int several = 16 / (int)sizeof(Y);
    const size_t count = rows * columns, together = ACTIVATION == SAC_ACTIVATION_SWIGLU ? columns : count;
    cudaError_t error;

    if (together % several == 0 && ((uintptr_t)p | (uintptr_t)y) % 16 == 0)
        error = launch_finish_by<ACTIVATION, P, Y, several>(s, (const P *)p, count, columns, (Y *)y);
    else
        error = launch_finish_by<ACTIVATION, P, Y, 1>(s, (const P *)p, count, columns, (Y *)y);
    return sac_cuda_status(s->device, error);
}

template <class X, class Y>
sac_status launch_product(sac_stream *s, const sac_linear *l, const void *x, size_t rows, void *y)
{
    size_t down = (rows + TILE - 1) / TILE;
    dim3 grid((l->out + TILE - 1) / TILE, (unsigned)(down < 65535 ? down : 65535));

    return sac_cuda_status(s->device,
                           SAC_LAUNCH((product_kernel<X, Y>), grid, dim3(TILE, TILE), 0,
                                      sac_cuda_stream_of(s), (const X *)x, (const X *)l->weight,
                                      (const Y *)l->bias, rows, l->in, l->out, l->gelu, l->residual, (Y *)y));
}

/* The product, in its own type, to y. */
sac_status multiply(sac_stream *s, const sac_linear *l, const void *x, size_t rows, void *y, void *workspace)
{
    sac_status st = sac_cuda_product_run(l->product, s, x, rows, y, workspace);

    if (st != SAC_UNSUPPORTED)
        return st;
    if (l->precision == SAC_F32)
        return launch_product<float, float>(s, l, x, rows, y);
    if (l->in_scratch || l->y_dtype == SAC_F32)
        return launch_product<__nv_bfloat16, float>(s, l, x, rows, y);
    return launch_product<__nv_bfloat16, __nv_bfloat16>(s, l, x, rows, y);
}

/* What is left to be done with a product that lies in y. */
sac_status finish_in_place(sac_stream *s, const sac_linear *l, size_t rows, void *y)
{
    switch (l->rest) {
    case SAC_ACTIVATION_GELU_ERF:
        return launch_finish<SAC_ACTIVATION_GELU_ERF, float, float>(s, y, rows, l->out, y);
    case SAC_ACTIVATION_GELU_TANH:
        return launch_finish<SAC_ACTIVATION_GELU_TANH, float, float>(s, y, rows, l->out, y);
    case SAC_ACTIVATION_GELU_QUICK:
        if (l->y_dtype == SAC_F32)
            return launch_finish<SAC_ACTIVATION_GELU_QUICK, float, float>(s, y, rows, l->out, y);
        return launch_finish<SAC_ACTIVATION_GELU_QUICK, __nv_bfloat16, __nv_bfloat16>(s, y, rows, l->out, y);
    case SAC_ACTIVATION_SWIGLU: /* goes through the scratch */
    case SAC_ACTIVATION_NONE:
        break;
    }
    return SAC_OK;
}

sac_status finish_from_scratch(sac_stream *s, const sac_linear *l, const void *p, size_t rows, void *y)
{
    switch (l->rest) {
    case SAC_ACTIVATION_NONE:
        return launch_finish<SAC_ACTIVATION_NONE, float, __nv_bfloat16>(s, p, rows, l->out, y);
    case SAC_ACTIVATION_GELU_ERF:
        return launch_finish<SAC_ACTIVATION_GELU_ERF, float, __nv_bfloat16>(s, p, rows, l->out, y);
    case SAC_ACTIVATION_GELU_TANH:
        return launch_finish<SAC_ACTIVATION_GELU_TANH, float, __nv_bfloat16>(s, p, rows, l->out, y);
    case SAC_ACTIVATION_GELU_QUICK:
        return launch_finish<SAC_ACTIVATION_GELU_QUICK, float, __nv_bfloat16>(s, p, rows, l->out, y);
    case SAC_ACTIVATION_SWIGLU:
        break;
    }
    if (l->y_dtype == SAC_F32)
        return launch_finish<SAC_ACTIVATION_SWIGLU, float, float>(s, p, rows, l->out / 2, y);
    return launch_finish<SAC_ACTIVATION_SWIGLU, float, __nv_bfloat16>(s, p, rows, l->out / 2, y);
}

/* Rows whose product is in the scratch at a time: of the layer alone. */
size_t piece_rows(const sac_linear *l)
{
    size_t rows = PIECE_BYTES / (l->out * sizeof(float));

    if (rows >= PIECE_ROWS)
        return rows / PIECE_ROWS * PIECE_ROWS;
    return rows > 0 ? rows : 1;
}

size_t type_bytes(sac_dtype dtype)
{
    return dtype == SAC_BF16 ? 2 : 4;
}

sac_status run_through_scratch(sac_stream *s, const struct sac_linear_args *a, void *workspace)
{
    const sac_linear *l = a->linear;
    size_t columns = l->rest == SAC_ACTIVATION_SWIGLU ? l->out / 2 : l->out, most = piece_rows(l), rows;
    void *product = sac_scratch_take(s, most, l->out * sizeof(float));
    sac_status st = product != NULL ? SAC_OK : SAC_DEVICE_MEMORY;

    for (size_t done = 0; st == SAC_OK && done < a->rows; done += rows) {
        const unsigned char *x = (const unsigned char *)a->x + done * l->in * type_bytes(l->precision);

        rows = a->rows - done < most ? a->rows - done : most;
        st = multiply(s, l, x, rows, product, workspace);
        if (st == SAC_OK)
            st = finish_from_scratch(s, l, product, rows,
                                     (unsigned char *)a->y + done * columns * type_bytes(l->y_dtype));
    }
    return st;
}

/* ---- layers ------------------------------------------------------------------------------------------ */

/* Who does what. */
void divide_work(sac_linear *l, const struct sac_linear_params *p)
{
    bool gelu = p->activation == SAC_ACTIVATION_GELU_ERF || p->activation == SAC_ACTIVATION_GELU_TANH;

    l->in_scratch =
        p->activation == SAC_ACTIVATION_SWIGLU || (p->precision == SAC_F32 && p->y_dtype == SAC_BF16);
    l->gelu = gelu && p->y_dtype == SAC_BF16 && !l->in_scratch; /* not exact enough for an f32 y */
    l->residual = p->residual;
    l->rest = l->gelu ? SAC_ACTIVATION_NONE : p->activation;
}

/* Host values to a new buffer of the device, rounded to a type. */
sac_status upload(sac_device *device, const float *values, size_t count, sac_dtype dtype, void **out,
                  sac_error *err)
{
    size_t bytes = count * type_bytes(dtype);
    uint16_t *halves = dtype == SAC_BF16 ? (uint16_t *)malloc(bytes) : NULL;
    cudaError_t error = cudaSuccess;
    sac_status st;

    if (dtype == SAC_BF16 && halves == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to round %zu weights", count);
    for (size_t i = 0; halves != NULL && i < count; i++)
        halves[i] = sac_f32_to_bf16(values[i]);
    st = device->backend->buffer_alloc(device, bytes, out, err);
    if (st == SAC_OK) {
        error =
            cudaMemcpy(*out, halves != NULL ? (const void *)halves : values, bytes, cudaMemcpyHostToDevice);
        if (error == cudaSuccess)
            error = cudaStreamSynchronize((cudaStream_t)0);
        st = sac_cuda_status(device, error);
        if (st != SAC_OK)
            sac_fail(err, st, "cannot put a layer's weights on the GPU: %s", cudaGetErrorString(error));
    }
    free(halves);
    return st;
}

sac_status open_product(sac_linear *l, sac_error *err)
{
    struct sac_cuda_product_params params = {};

    params.in = l->in;
    params.out = l->out;
    params.weight = l->weight;
    params.bias = l->bias;
    params.x_dtype = l->precision;
    params.y_dtype = l->in_scratch ? SAC_F32 : l->y_dtype;
    params.gelu = l->gelu;
    params.residual = l->residual;
    return sac_cuda_product_open(l->device, &params, &l->product, err);
}

} // namespace

extern "C" sac_status sac_linear_open_cuda(sac_device *d, const struct sac_linear_params *p, sac_linear **out,
                                           sac_error *err)
{
    sac_linear *linear = (sac_linear *)calloc(1, sizeof *linear);
    sac_status st;

    assert(!p->residual || (p->activation == SAC_ACTIVATION_NONE && p->y_dtype == SAC_F32));
    *out = NULL;
    if (linear == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a layer");
    linear->device = d;
    linear->in = p->in;
    linear->out = p->out;
    linear->precision = p->precision;
    linear->y_dtype = p->y_dtype;
    divide_work(linear, p);
    st = upload(d, p->weight, (size_t)p->out * p->in, p->precision, &linear->weight, err);
    if (st == SAC_OK && p->bias != NULL)
        st = upload(d, p->bias, p->out, linear->in_scratch ? SAC_F32 : p->y_dtype, &linear->bias, err);
    if (st == SAC_OK)
        st = open_product(linear, err);
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
    sac_cuda_product_close(linear->product);
    linear->device->backend->buffer_free(linear->device, linear->weight);
    linear->device->backend->buffer_free(linear->device, linear->bias);
    free(linear);
}

/* Every GPU from the A100 on has tensor cores for bf16. */
extern "C" sac_dtype sac_linear_precision_cuda(const sac_device *d)
{
    (void)d;
    return SAC_BF16;
}

extern "C" size_t sac_linear_scratch_cuda(const sac_device *d, const struct sac_linear_args *a)
{
    const sac_linear *l = a->linear;
    size_t workspace = sac_scratch_size(1, sac_cuda_product_workspace(l->product));

    (void)d;
    if (!l->in_scratch)
        return workspace;
    return sac_scratch_add(workspace, sac_scratch_size(piece_rows(l), l->out * sizeof(float)));
}

extern "C" sac_status sac_linear_cuda(sac_stream *s, const struct sac_linear_args *a)
{
    const sac_linear *l = a->linear;
    void *workspace;
    sac_status st;

    assert(a->rows <= INT32_MAX);
    if (a->rows == 0)
        return SAC_OK;
    sac_scratch_reset(s);
    /* First, so that it begins where the arena does, which is aligned as the library wants it. */
    workspace = sac_scratch_take(s, 1, sac_cuda_product_workspace(l->product));
    if (workspace == NULL)
        return SAC_DEVICE_MEMORY;
    if (l->in_scratch)
        return run_through_scratch(s, a, workspace);
    st = multiply(s, l, a->x, a->rows, a->y, workspace);
    return st == SAC_OK ? finish_in_place(s, l, a->rows, a->y) : st;
}
