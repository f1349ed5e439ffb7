/* cublas.cc -- matrix products by plain loops, with the operand types and roundings of cuBLAS. */
#include "cublas_v2.h"

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "kernels/cuda/mma.cuh"
#include "runtime.h"

#include <vector>

struct cublasContext {
    cudaStream_t stream;
    cublasMath_t math;
    int device;
};

namespace cuda_host
{

struct matrix {
    const void *data;
    cudaDataType type;
    size_t leading;
    bool transposed; /* with respect to rows of the product over columns of k */
};

struct product {
    size_t m, n, k;
    matrix a, b, c;
    cublasComputeType_t compute;
    double alpha, beta;
};

static size_t type_bytes(cudaDataType type)
{
    if (type == CUDA_R_8I)
        return 1;
    return type == CUDA_R_16F || type == CUDA_R_16BF ? 2 : 4;
}

static float element(const void *data, cudaDataType type, size_t i)
{
    switch (type) {
    case CUDA_R_16F:
        return half_to_float(static_cast<const uint16_t *>(data)[i]);
    case CUDA_R_16BF:
        return bfloat16_to_float(static_cast<const uint16_t *>(data)[i]);
    case CUDA_R_8I:
        return static_cast<const int8_t *>(data)[i];
    case CUDA_R_32I:
        return static_cast<float>(static_cast<const int32_t *>(data)[i]);
    default:
        return static_cast<const float *>(data)[i];
    }
}

/* What the tensor cores make of an f32 operand. */
static float rounded(float x, cublasComputeType_t compute)
{
    switch (compute) {
    case CUBLAS_COMPUTE_32F_FAST_TF32:
        return bits_as<float>(sac_tf32(x));
    case CUBLAS_COMPUTE_32F_FAST_16BF:
        return bfloat16_to_float(bfloat16_from_float(x));
    case CUBLAS_COMPUTE_32F_FAST_16F:
        return half_to_float(half_from_float(x));
    default:
        return x;
    }
}

/* Rows of k elements each: of op(A) its rows, of op(B) its columns. */
static std::vector<float> packed(const matrix &x, size_t rows, size_t k, cublasComputeType_t compute)
{
    std::vector<float> out(rows * k);

    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < k; j++) {
            const size_t at = x.transposed ? i * x.leading + j : j * x.leading + i;
            const float value = element(x.data, x.type, at);
            out[i * k + j] = x.type == CUDA_R_32F ? rounded(value, compute) : value;
        }
    return out;
}

/* Sums of eight, as a compiler can keep in a register without being allowed to reorder. */
static float dot(const float *x, const float *y, size_t k)
{
    float part[8] = {};
    size_t i = 0;

    for (; i + 8 <= k; i += 8)
        for (size_t j = 0; j < 8; j++)
            part[j] += x[i + j] * y[i + j];
    for (; i < k; i++)
        part[0] += x[i] * y[i];
    return ((part[0] + part[4]) + (part[1] + part[5])) + ((part[2] + part[6]) + (part[3] + part[7]));
}

static double dot_whole(const float *x, const float *y, size_t k)
{
    int64_t sum = 0;
    for (size_t i = 0; i < k; i++)
        sum += static_cast<int64_t>(x[i]) * static_cast<int64_t>(y[i]);
    return static_cast<double>(sum);
}

static void store(const matrix &c, size_t i, double value)
{
    void *data = const_cast<void *>(c.data);
    const float single = static_cast<float>(value);

    switch (c.type) {
    case CUDA_R_16F:
        static_cast<uint16_t *>(data)[i] = half_from_float(single);
        break;
    case CUDA_R_16BF:
        static_cast<uint16_t *>(data)[i] = bfloat16_from_float(single);
        break;
    case CUDA_R_32I:
        static_cast<int32_t *>(data)[i] = static_cast<int32_t>(value);
        break;
    default:
        static_cast<float *>(data)[i] = single;
    }
}

static void multiply(const product &p)
{
    const std::vector<float> a = packed(p.a, p.m, p.k, p.compute), b = packed(p.b, p.n, p.k, p.compute);

    for (size_t col = 0; col < p.n; col++)
        for (size_t row = 0; row < p.m; row++) {
            const float *x = a.data() + row * p.k, *y = b.data() + col * p.k;
            const size_t at = col * p.c.leading + row;
            double value = p.compute == CUBLAS_COMPUTE_32I ? dot_whole(x, y, p.k) : dot(x, y, p.k);
            value *= p.alpha;
            if (p.beta != 0) /* otherwise C is not read, whatever it holds */
                value += p.beta * element(p.c.data, p.c.type, at);
            store(p.c, at, value);
        }
}

static bool types_go_together(cudaDataType a, cudaDataType b, cudaDataType c, cublasComputeType_t compute)
{
    if (compute == CUBLAS_COMPUTE_32I)
        return a == CUDA_R_8I && b == CUDA_R_8I && c == CUDA_R_32I;
    if (a != b || c == CUDA_R_32I || c == CUDA_R_8I)
        return false;
    if (a == CUDA_R_32F)
        return c == CUDA_R_32F;
    return (a == CUDA_R_16F || a == CUDA_R_16BF || a == CUDA_R_8I) && (c == a || c == CUDA_R_32F) &&
           c != CUDA_R_8I;
}

/* A matrix must lie in device memory whole: on the chip anything else loses the device. */
static void check_place(const char *name, const matrix &x, size_t columns, size_t rows)
{
    const size_t count = columns > 0 ? (columns - 1) * x.leading + rows : 0;
    if (!device_can_reach(x.data, count * type_bytes(x.type)))
        fatal("cuBLAS product: %s (%zu columns of %zu, %zu apart) does not lie in device memory", name,
              columns, rows, x.leading);
}

static cublasStatus_t start(cublasHandle_t handle, const std::vector<product> &products)
{
    for (const product &p : products) {
        check_place("A", p.a, p.a.transposed ? p.m : p.k, p.a.transposed ? p.k : p.m);
        check_place("B", p.b, p.b.transposed ? p.n : p.k, p.b.transposed ? p.k : p.n);
        check_place("C", p.c, p.n, p.m);
    }
    if (!stream_captures(handle->stream) && launch_fails())
        return CUBLAS_STATUS_EXECUTION_FAILED;
    const cudaError_t error = submit(handle->stream, [products] {
        const device_access access(-1);
        for (const product &p : products)
            multiply(p);
    });
    return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

static double scalar(const void *p, cublasComputeType_t compute)
{
    if (compute == CUBLAS_COMPUTE_32I)
        return *static_cast<const int32_t *>(p);
    return *static_cast<const float *>(p);
}

} // namespace cuda_host

using namespace cuda_host;

const char *cublasGetStatusName(cublasStatus_t status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH:
        return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_MAPPING_ERROR:
        return "CUBLAS_STATUS_MAPPING_ERROR";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
        return "CUBLAS_STATUS_INTERNAL_ERROR";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_LICENSE_ERROR:
        return "CUBLAS_STATUS_LICENSE_ERROR";
    }
    return "unknown status";
}

const char *cublasGetStatusString(cublasStatus_t status)
{
    return cublasGetStatusName(status);
}

cublasStatus_t cublasCreate(cublasHandle_t *handle)
{
    *handle = nullptr;
    if (sticky() != cudaSuccess || device_count() == 0)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (allocation_fails()) /* the real one allocates its workspace */
        return CUBLAS_STATUS_ALLOC_FAILED;
    *handle = new cublasContext{nullptr, CUBLAS_DEFAULT_MATH, current_device()};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetVersion(cublasHandle_t, int *version)
{
    *version = 130000;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream)
{
    if (handle->device != stream_device(stream))
        return CUBLAS_STATUS_INVALID_VALUE;
    handle->stream = stream;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *workspace, size_t)
{
    return reinterpret_cast<uintptr_t>(workspace) % 256 == 0 ? CUBLAS_STATUS_SUCCESS
                                                             : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode)
{
    handle->math = mode;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetPointerMode(cublasHandle_t, cublasPointerMode_t mode)
{
    return mode == CUBLAS_POINTER_MODE_HOST ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t handle, cublasOperation_t transa,
                                          cublasOperation_t transb, int m, int n, int k, const void *alpha,
                                          const void *A, cudaDataType a_type, int lda, long long a_stride,
                                          const void *B, cudaDataType b_type, int ldb, long long b_stride,
                                          const void *beta, void *C, cudaDataType c_type, int ldc,
                                          long long c_stride, int batches, cublasComputeType_t compute,
                                          cublasGemmAlgo_t)
{
    const bool ta = transa == CUBLAS_OP_T, tb = transb == CUBLAS_OP_T;
    std::vector<product> products;

    if (sticky() != cudaSuccess)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (m < 0 || n < 0 || k < 0 || batches < 0 || lda < std::max(1, ta ? k : m) ||
        ldb < std::max(1, tb ? n : k) || ldc < std::max(1, m))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!types_go_together(a_type, b_type, c_type, compute))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (compute == CUBLAS_COMPUTE_32F && handle->math == CUBLAS_TF32_TENSOR_OP_MATH)
        compute = CUBLAS_COMPUTE_32F_FAST_TF32;
    for (long long i = 0; i < batches && m > 0 && n > 0; i++) {
        const long long a_bytes = static_cast<long long>(type_bytes(a_type)) * a_stride * i;
        const long long b_bytes = static_cast<long long>(type_bytes(b_type)) * b_stride * i;
        const long long c_bytes = static_cast<long long>(type_bytes(c_type)) * c_stride * i;
        /* packed() walks op(B) by columns, so there the sense of transposed is the other way round. */
        products.push_back({static_cast<size_t>(m),
                            static_cast<size_t>(n),
                            static_cast<size_t>(k),
                            {static_cast<const char *>(A) + a_bytes, a_type, static_cast<size_t>(lda), ta},
                            {static_cast<const char *>(B) + b_bytes, b_type, static_cast<size_t>(ldb), !tb},
                            {static_cast<char *>(C) + c_bytes, c_type, static_cast<size_t>(ldc), false},
                            compute,
                            scalar(alpha, compute),
                            scalar(beta, compute)});
    }
    return start(handle, products);
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m,
                            int n, int k, const void *alpha, const void *A, cudaDataType a_type, int lda,
                            const void *B, cudaDataType b_type, int ldb, const void *beta, void *C,
                            cudaDataType c_type, int ldc, cublasComputeType_t compute,
                            cublasGemmAlgo_t algorithm)
{
    return cublasGemmStridedBatchedEx(handle, transa, transb, m, n, k, alpha, A, a_type, lda, 0, B, b_type,
                                      ldb, 0, beta, C, c_type, ldc, 0, 1, compute, algorithm);
}

cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m,
                           int n, int k, const float *alpha, const float *A, int lda, const float *B, int ldb,
                           const float *beta, float *C, int ldc)
{
    return cublasGemmEx(handle, transa, transb, m, n, k, alpha, A, CUDA_R_32F, lda, B, CUDA_R_32F, ldb, beta,
                        C, CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}
