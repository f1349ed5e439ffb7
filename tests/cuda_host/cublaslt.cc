/* cublaslt.cc -- matrix products by plain loops, with the operand types, the roundings and the rules of
 * cuBLASLt. What its manual forbids ends the process, and so does what would go wrong only sometimes: an
 * algorithm that was asked for another product, or pointers that are not aligned as it was told. */
#include "cublasLt.h"

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "kernels/cuda/mma.cuh"
#include "runtime.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

struct cublasLtContext {
    int device;
};

namespace cuda_host
{

enum { MAGIC_LAYOUT = 0x4c61796f, MAGIC_OPERATION = 0x4f706572, MAGIC_PREFERENCE = 0x50726566 };

/* That algorithms ask for where they may; what lies there is gone after them. */
constexpr uint64_t workspace_most = 64 * 1024;

struct layout {
    uint32_t magic;
    cudaDataType type;
    uint64_t rows, columns;
    int64_t leading;
};

struct operation {
    uint32_t magic;
    cublasComputeType_t compute;
    int32_t transposed_a, transposed_b;
    uint32_t epilogue;
    const void *bias;
};

struct preference {
    uint32_t magic;
    uint32_t reduction;
    uint64_t workspace_bytes;
    uint32_t alignment[4]; /* of A, B, C and D */
};

/* What the product was that an algorithm was found for, as a hash; and what it needs. */
struct algorithm {
    uint64_t product;
    uint64_t workspace_bytes;
    uint32_t alignment[4];
};

/* The library's structures hold ours. */
template <class OURS, class THEIRS> static OURS load(const THEIRS *from, uint32_t magic, const char *name)
{
    OURS ours;

    static_assert(sizeof ours <= sizeof *from, "it fits");
    std::memcpy(&ours, from, sizeof ours);
    if (ours.magic != magic)
        fatal("cuBLASLt: %s has never been made", name);
    return ours;
}

template <class OURS, class THEIRS> static void save(const OURS &ours, THEIRS *to)
{
    std::memset(to, 0, sizeof *to);
    std::memcpy(to, &ours, sizeof ours);
}

struct problem {
    operation what;
    layout a, b, c, d;

    uint64_t m() const
    {
        return d.rows;
    }
    uint64_t n() const
    {
        return d.columns;
    }
    uint64_t k() const
    {
        return what.transposed_a != 0 ? a.rows : a.columns;
    }
};

static size_t type_bytes(cudaDataType type)
{
    return type == CUDA_R_32F ? 4 : 2;
}

static float element(const void *data, cudaDataType type, size_t i)
{
    switch (type) {
    case CUDA_R_16F:
        return half_to_float(static_cast<const uint16_t *>(data)[i]);
    case CUDA_R_16BF:
        return bfloat16_to_float(static_cast<const uint16_t *>(data)[i]);
    default:
        return static_cast<const float *>(data)[i];
    }
}

static void store(void *data, cudaDataType type, size_t i, float value)
{
    switch (type) {
    case CUDA_R_16F:
        static_cast<uint16_t *>(data)[i] = half_from_float(value);
        break;
    case CUDA_R_16BF:
        static_cast<uint16_t *>(data)[i] = bfloat16_from_float(value);
        break;
    default:
        static_cast<float *>(data)[i] = value;
    }
}

/* ---- the product ------------------------------------------------------------------------------------- */

/* k elements of each row of op(A), or column of op(B), side by side. */
static std::vector<float> packed(const void *data, const layout &x, bool along_columns, size_t count,
                                 size_t k, cublasComputeType_t compute)
{
    const size_t leading = static_cast<size_t>(x.leading);
    std::vector<float> out(count * k);

    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < k; j++) {
            const float value = element(data, x.type, along_columns ? i * leading + j : j * leading + i);
            const bool tf32 = x.type == CUDA_R_32F && compute == CUBLAS_COMPUTE_32F_FAST_TF32;
            out[i * k + j] = tf32 ? bits_as<float>(sac_tf32(value)) : value;
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

static float gelu(float x)
{
    return 0.5f * x * (1 + std::tanh(0.79788456f * (x + 0.044715f * x * x * x)));
}

struct operands {
    const void *a, *b, *c;
    void *d;
    float alpha, beta;
};

static void multiply(const problem &p, const operands &x)
{
    const size_t m = p.m(), n = p.n(), k = p.k();
    const std::vector<float> a = packed(x.a, p.a, p.what.transposed_a != 0, m, k, p.what.compute);
    const std::vector<float> b = packed(x.b, p.b, p.what.transposed_b == 0, n, k, p.what.compute);

    for (size_t column = 0; column < n; column++)
        for (size_t row = 0; row < m; row++) {
            float value = x.alpha * dot(a.data() + row * k, b.data() + column * k, k);
            if (x.beta != 0) /* otherwise C is not read, whatever it holds */
                value += x.beta * element(x.c, p.c.type, column * static_cast<size_t>(p.c.leading) + row);
            if ((p.what.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0)
                value += element(p.what.bias, p.d.type, row);
            if ((p.what.epilogue & CUBLASLT_EPILOGUE_GELU) != 0)
                value = gelu(value);
            store(x.d, p.d.type, column * static_cast<size_t>(p.d.leading) + row, value);
        }
}

/* ---- what goes together -------------------------------------------------------------------------------- */

static problem gather(cublasLtMatmulDesc_t what, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                      cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d)
{
    return {load<operation>(what, MAGIC_OPERATION, "a description"),
            load<layout>(a, MAGIC_LAYOUT, "A's layout"), load<layout>(b, MAGIC_LAYOUT, "B's layout"),
            load<layout>(c, MAGIC_LAYOUT, "C's layout"), load<layout>(d, MAGIC_LAYOUT, "D's layout")};
}

static void check_shapes(const problem &p)
{
    const bool ta = p.what.transposed_a != 0, tb = p.what.transposed_b != 0;
    const uint64_t a_rows = ta ? p.a.columns : p.a.rows;
    const uint64_t b_rows = tb ? p.b.columns : p.b.rows, b_columns = tb ? p.b.rows : p.b.columns;

    if (a_rows != p.m() || b_rows != p.k() || b_columns != p.n() || p.c.rows != p.m() || p.c.columns != p.n())
        fatal("cuBLASLt: shapes that do not go together: op(A) %llu x %llu, op(B) %llu x %llu, D %llu x %llu",
              static_cast<unsigned long long>(a_rows), static_cast<unsigned long long>(p.k()),
              static_cast<unsigned long long>(b_rows), static_cast<unsigned long long>(b_columns),
              static_cast<unsigned long long>(p.m()), static_cast<unsigned long long>(p.n()));
    for (const layout *x : {&p.a, &p.b, &p.c, &p.d})
        if (x->rows == 0 || x->columns == 0 || x->leading < static_cast<int64_t>(x->rows))
            fatal("cuBLASLt: %llu x %llu with leading dimension %lld",
                  static_cast<unsigned long long>(x->rows), static_cast<unsigned long long>(x->columns),
                  static_cast<long long>(x->leading));
}

/* The manual's table for sums in f32; a bias has D's type there. */
static bool types_go_together(const problem &p)
{
    if (p.a.type != p.b.type || p.c.type != p.d.type)
        return false;
    if (p.a.type == CUDA_R_32F)
        return p.d.type == CUDA_R_32F;
    return p.what.compute == CUBLAS_COMPUTE_32F && (p.d.type == p.a.type || p.d.type == CUDA_R_32F);
}

static uint64_t hash(const problem &p)
{
    uint64_t sum = 14695981039346656037u; /* FNV-1a */
    const auto mix = [&sum](uint64_t word) {
        sum = (sum ^ word) * 1099511628211u;
        sum ^= sum >> 29;
    };

    mix(p.what.compute);
    mix(static_cast<uint64_t>(p.what.transposed_a * 2 + p.what.transposed_b));
    mix(p.what.epilogue);
    for (const layout *x : {&p.a, &p.b, &p.c, &p.d}) {
        mix(x->type);
        mix(x->rows);
        mix(x->columns);
        mix(static_cast<uint64_t>(x->leading));
    }
    return sum;
}

/* A matrix must lie in device memory whole: on the chip anything else loses the device. */
static void check_place(const char *name, const void *data, const layout &x, uint32_t alignment)
{
    const size_t count = static_cast<size_t>(x.columns - 1) * static_cast<size_t>(x.leading) + x.rows;

    if (!device_can_reach(data, count * type_bytes(x.type)))
        fatal("cuBLASLt: %s (%llu columns of %llu, %lld apart) does not lie in device memory", name,
              static_cast<unsigned long long>(x.columns), static_cast<unsigned long long>(x.rows),
              static_cast<long long>(x.leading));
    if (reinterpret_cast<uintptr_t>(data) % alignment != 0)
        fatal("cuBLASLt: %s is not aligned to %u, as the algorithm was told", name, alignment);
}

static void check_bias(const problem &p)
{
    if ((p.what.epilogue & CUBLASLT_EPILOGUE_BIAS) == 0)
        return;
    if (!device_can_reach(p.what.bias, p.m() * type_bytes(p.d.type)))
        fatal("cuBLASLt: a bias of %llu values does not lie in device memory",
              static_cast<unsigned long long>(p.m()));
    if (reinterpret_cast<uintptr_t>(p.what.bias) % 16 != 0)
        fatal("cuBLASLt: a bias is not aligned to 16");
}

static bool same_layout(const layout &x, const layout &y)
{
    return x.type == y.type && x.rows == y.rows && x.columns == y.columns && x.leading == y.leading;
}

static void check_call(cublasLtHandle_t handle, const problem &p, const operands &x, const algorithm &how,
                       const void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    if (handle->device != current_device() || handle->device != stream_device(stream))
        fatal("cuBLASLt: device %d's handle, with a stream of device %d, while the thread's is %d",
              handle->device, stream_device(stream), current_device());
    check_shapes(p);
    if (how.product != hash(p))
        fatal("cuBLASLt: the algorithm is another product's");
    check_place("A", x.a, p.a, how.alignment[0]);
    check_place("B", x.b, p.b, how.alignment[1]);
    check_place("C", x.c, p.c, how.alignment[2]);
    check_place("D", x.d, p.d, how.alignment[3]);
    check_bias(p);
    if (x.c == x.d && !same_layout(p.c, p.d))
        fatal("cuBLASLt: C and D are one matrix with two layouts");
    if (workspace_bytes > 0 && !device_can_reach(workspace, workspace_bytes))
        fatal("cuBLASLt: the workspace does not lie in device memory");
    if (reinterpret_cast<uintptr_t>(workspace) % 256 != 0)
        fatal("cuBLASLt: the workspace is not aligned to 256");
}

template <class T> static bool take(const void *value, size_t bytes, T *to)
{
    if (value == nullptr || bytes != sizeof *to)
        return false;
    std::memcpy(to, value, sizeof *to);
    return true;
}

} // namespace cuda_host

using namespace cuda_host;

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    *handle = nullptr;
    if (sticky() != cudaSuccess || device_count() == 0)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    if (unsafe_call() != cudaSuccess)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (allocation_fails()) /* the real one allocates a little */
        return CUBLAS_STATUS_ALLOC_FAILED;
    *handle = new cublasLtContext{current_device()};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t to, cudaDataType type, uint64_t rows,
                                        uint64_t columns, int64_t leading)
{
    save(layout{MAGIC_LAYOUT, type, rows, columns, leading}, to);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t to, cublasComputeType_t compute,
                                      cudaDataType scale)
{
    if (scale != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    save(operation{MAGIC_OPERATION, compute, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr},
         to);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t to, cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t bytes)
{
    operation what = load<operation>(to, MAGIC_OPERATION, "a description");
    bool taken = false;

    switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        taken = take(value, bytes, &what.transposed_a);
        break;
    case CUBLASLT_MATMUL_DESC_TRANSB:
        taken = take(value, bytes, &what.transposed_b);
        break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        taken = take(value, bytes, &what.epilogue);
        break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        taken = take(value, bytes, &what.bias);
        break;
    }
    save(what, to);
    return taken ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t to)
{
    save(preference{MAGIC_PREFERENCE, CUBLASLT_REDUCTION_SCHEME_MASK, 0, {256, 256, 256, 256}}, to);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t to,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void *value, size_t bytes)
{
    preference wish = load<preference>(to, MAGIC_PREFERENCE, "a preference");
    bool taken = false;

    switch (name) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        taken = take(value, bytes, &wish.workspace_bytes);
        break;
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
        taken = take(value, bytes, &wish.reduction);
        break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        taken = take(value, bytes, &wish.alignment[name - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES]);
        break;
    }
    save(wish, to);
    return taken ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t what,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t wishes, int requested,
                                              cublasLtMatmulHeuristicResult_t *results, int *found)
{
    const problem p = gather(what, a, b, c, d);
    const preference wish = load<preference>(wishes, MAGIC_PREFERENCE, "a preference");
    algorithm how = {hash(p), std::min(wish.workspace_bytes, workspace_most), {}};

    *found = 0;
    if (handle == nullptr || requested < 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    check_shapes(p);
    if (!types_go_together(p))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    const layout *const matrices[] = {&p.a, &p.b, &p.c, &p.d};
    for (int i = 0; i < 4; i++) {
        how.alignment[i] = wish.alignment[i];
        if (type_bytes(matrices[i]->type) == 2 && (wish.alignment[i] < 4 || matrices[i]->leading % 2 != 0))
            return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    *results = cublasLtMatmulHeuristicResult_t{};
    save(how, &results->algo);
    results->workspaceSize = how.workspace_bytes;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t what, const void *alpha,
                              const void *A, cublasLtMatrixLayout_t a, const void *B,
                              cublasLtMatrixLayout_t b, const void *beta, const void *C,
                              cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t *chosen, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    const problem p = gather(what, a, b, c, d);
    const operands x = {A, B, C, D, *static_cast<const float *>(alpha), *static_cast<const float *>(beta)};
    algorithm how;

    std::memcpy(&how, chosen, sizeof how);
    if (sticky() != cudaSuccess)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (workspace_bytes < how.workspace_bytes)
        return CUBLAS_STATUS_INVALID_VALUE;
    check_call(handle, p, x, how, workspace, workspace_bytes, stream);
    if (!stream_captures(stream) && launch_fails())
        return CUBLAS_STATUS_EXECUTION_FAILED;
    const cudaError_t error = submit(stream, [p, x, how, workspace] {
        const device_access access(-1);
        if (how.workspace_bytes > 0)
            std::memset(workspace, 0xff, how.workspace_bytes);
        multiply(p, x);
    });
    return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
