/* The stand-in for the runtime: memory, streams, graphs, faults on request, cuBLASLt. */
#include "selftest.cuh"

#include <cublasLt.h>
#include <cuda_bf16.h>
#include <thread>

__global__ void add(int *x, int n, int what)
{
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n)
        x[i] += what;
}

/* ---- devices and memory
 * ------------------------------------------------------------------------------------- */

static void test_devices(void **)
{
    int count = 0, device = -1, value = 0;
    cudaDeviceProp properties;

    setenv("SACCADE_HOST_CUDA__DEVICES", "2", 1);
    assert_cuda(cudaGetDeviceCount(&count));
    assert_int_equal(count, 2);
    assert_cuda(cudaSetDevice(1));
    assert_cuda(cudaGetDevice(&device));
    assert_int_equal(device, 1);
    std::thread([] { /* each thread begins with device 0 */
                     int own = -1;
                     assert_cuda(cudaGetDevice(&own));
                     assert_int_equal(own, 0);
    })
        .join();
    cudaStream_t stream;
    assert_cuda(cudaStreamCreate(&stream));
    assert_cuda(cudaSetDevice(0));
    assert_int_equal(SAC_LAUNCH(add, 1, 1, 0, stream, nullptr, 0, 0), cudaErrorInvalidResourceHandle);
    assert_cuda(cudaStreamDestroy(stream));
    unsetenv("SACCADE_HOST_CUDA__DEVICES");
    assert_int_equal(cudaSetDevice(1), cudaErrorInvalidDevice);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidDevice);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    assert_cuda(cudaGetDeviceProperties(&properties, 0));
    assert_cuda(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0));
    assert_int_equal(value, properties.major);
    setenv("SACCADE_HOST_CUDA__DEVICES", "0", 1);
    assert_int_equal(cudaGetDeviceCount(&count), cudaErrorNoDevice);
    unsetenv("SACCADE_HOST_CUDA__DEVICES");
    assert_int_equal(cudaGetLastError(), cudaErrorNoDevice);
    assert_string_equal(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation");
    assert_string_equal(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
}

static void test_memory_is_counted(void **)
{
    size_t before = 0, after = 0, total = 0;
    void *p = nullptr, *q = nullptr;

    setenv("SACCADE_HOST_CUDA__MEMORY", "1000000", 1);
    assert_cuda(cudaMemGetInfo(&before, &total));
    assert_int_equal(total, 1000000);
    assert_cuda(cudaMalloc(&p, 600000));
    assert_cuda(cudaMemGetInfo(&after, &total));
    assert_true(before - after >= 600000 && before - after < 601000);
    assert_int_equal(cudaMalloc(&q, 600000), cudaErrorMemoryAllocation);
    assert_null(q);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_cuda(cudaFree(p));
    assert_int_equal(cudaFree(p), cudaErrorInvalidValue);
    cudaGetLastError();
    assert_cuda(cudaMalloc(&q, 600000));
    assert_cuda(cudaFree(q));
    unsetenv("SACCADE_HOST_CUDA__MEMORY");
}

static void test_copies_are_checked(void **)
{
    uint32_t host[8] = {}, *device = nullptr, *pinned = nullptr;
    void *mapped = nullptr;

    assert_cuda(cudaMalloc(&device, sizeof host));
    assert_cuda(cudaMemcpy(host, device, sizeof host, cudaMemcpyDeviceToHost));
    assert_int_equal(host[7], 0xffffffffu); /* new memory is spoiled */
    assert_int_equal(cudaMemcpy(device, host, sizeof host + 4, cudaMemcpyHostToDevice),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(device, host, sizeof host, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
    assert_int_equal(cudaMemsetAsync(host, 0, 4, nullptr), cudaErrorInvalidValue);
    cudaGetLastError();
    assert_cuda(cudaMemset(device, 0, sizeof host));
    assert_cuda(cudaMemcpy2DAsync(host, 8, device, 16, 4, 2, cudaMemcpyDefault, nullptr));
    assert_int_equal(host[0], 0);
    assert_int_equal(host[1], 0xffffffffu);
    assert_int_equal(host[2], 0);
    assert_cuda(cudaHostAlloc(&pinned, 64, cudaHostAllocMapped | cudaHostAllocPortable));
    assert_cuda(cudaHostGetDevicePointer(&mapped, pinned, 0));
    assert_int_equal(cudaHostGetDevicePointer(&mapped, host, 0), cudaErrorInvalidValue);
    cudaGetLastError();
    assert_cuda(cudaFreeHost(pinned));
    assert_cuda(cudaFree(device));
}

static void test_guard(void **)
{
    const std::string said = last_words([] {
        int *x = nullptr;
        setenv("SACCADE_HOST_CUDA__GUARD", "1", 1);
        int host = 5;
        cudaMalloc(&x, sizeof *x);
        cudaMemcpy(x, &host, sizeof host, cudaMemcpyHostToDevice);
        if (SAC_LAUNCH(add, 1, 32, 0, 0, x, 1, 2) != cudaSuccess)
            _exit(0);
        cudaMemcpy(&host, x, sizeof host, cudaMemcpyDeviceToHost);
        if (host != 7)
            _exit(0);
        fprintf(stderr, "so far right\n");
        host = *static_cast<volatile int *>(x); /* a pointer to device memory, followed on the host */
        _exit(0);
    });
    assert_true(says(said, "so far right"));
}

/* ---- streams
 * ------------------------------------------------------------------------------------------------ */

static void test_streams_and_events(void **)
{
    cudaStream_t s, t;
    cudaEvent_t begin, end;
    float milliseconds = -1;
    int *x = on_device(std::vector<int>(100, 1));

    assert_cuda(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    assert_cuda(cudaStreamCreate(&t));
    assert_cuda(cudaEventCreate(&begin));
    assert_cuda(cudaEventCreate(&end));
    assert_int_equal(cudaEventElapsedTime(&milliseconds, begin, end), cudaErrorInvalidResourceHandle);
    cudaGetLastError();
    assert_cuda(cudaEventRecord(begin, s));
    assert_cuda(SAC_LAUNCH(add, 2, 64, 0, s, x, 100, 4));
    assert_cuda(cudaEventRecord(end, s));
    assert_cuda(cudaStreamWaitEvent(t, end, 0));
    assert_cuda(SAC_LAUNCH(add, 2, 64, 0, t, x, 100, 8));
    assert_cuda(cudaStreamSynchronize(t));
    assert_cuda(cudaEventElapsedTime(&milliseconds, begin, end));
    assert_true(milliseconds >= 0);
    assert_int_equal(from_device(x, 100)[99], 13);
    assert_cuda(cudaEventDestroy(begin));
    assert_cuda(cudaEventDestroy(end));
    assert_cuda(cudaStreamDestroy(s));
    assert_cuda(cudaStreamDestroy(t));
    assert_cuda(cudaFree(x));
}

/* With LATE, what nobody waited for has not happened. */
static void test_late(void **)
{
    cudaStream_t s, t;
    cudaEvent_t event;
    int *x = on_device(std::vector<int>{1}), *pinned = nullptr;

    assert_cuda(cudaHostAlloc(&pinned, sizeof *pinned, 0));
    assert_cuda(cudaStreamCreate(&s));
    assert_cuda(cudaStreamCreate(&t));
    assert_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    setenv("SACCADE_HOST_CUDA__LATE", "1", 1);
    assert_cuda(SAC_LAUNCH(add, 1, 1, 0, s, x, 1, 4));
    assert_cuda(cudaEventRecord(event, s));
    assert_cuda(SAC_LAUNCH(add, 1, 1, 0, s, x, 1, 100));
    assert_cuda(cudaStreamWaitEvent(t, event, 0));
    assert_cuda(cudaMemcpyAsync(pinned, x, sizeof *x, cudaMemcpyDeviceToHost, t));
    assert_int_equal(*pinned, -1);
    assert_int_equal(cudaEventQuery(event), cudaErrorNotReady);
    assert_int_equal(cudaGetLastError(),
                     cudaErrorNotReady); /* as of an error, for the next launch to report */
    assert_cuda(cudaStreamSynchronize(t));
    assert_int_equal(*pinned, 5);
    assert_cuda(cudaEventQuery(event));
    assert_int_equal(from_device(x, 1)[0], 105);
    unsetenv("SACCADE_HOST_CUDA__LATE");
    assert_cuda(cudaEventDestroy(event));
    assert_cuda(cudaStreamDestroy(s));
    assert_cuda(cudaStreamDestroy(t));
    assert_cuda(cudaFreeHost(pinned));
    assert_cuda(cudaFree(x));
}

/* ---- graphs
 * ------------------------------------------------------------------------------------------------- */

static void test_graph(void **)
{
    cudaStream_t s, side;
    cudaEvent_t forked, joined;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    cudaStreamCaptureStatus status;
    int *x = on_device(std::vector<int>{1, 1}), what = 10;

    assert_cuda(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    assert_cuda(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking));
    assert_cuda(cudaEventCreateWithFlags(&forked, cudaEventDisableTiming));
    assert_cuda(cudaEventCreateWithFlags(&joined, cudaEventDisableTiming));
    assert_cuda(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    assert_cuda(SAC_LAUNCH(add, 1, 2, 0, s, x, 2, what));
    what = 1000; /* the graph has its own copy */
    assert_cuda(cudaEventRecord(forked, s));
    assert_cuda(cudaStreamWaitEvent(side, forked, 0));
    assert_cuda(SAC_LAUNCH(add, 1, 2, 0, side, x, 1, 5));
    assert_cuda(cudaEventRecord(joined, side));
    assert_cuda(cudaStreamWaitEvent(s, joined, 0));
    assert_cuda(cudaStreamIsCapturing(side, &status));
    assert_int_equal(status, cudaStreamCaptureStatusActive);
    assert_cuda(cudaStreamEndCapture(s, &graph));
    assert_int_equal(from_device(x, 1)[0], 1); /* nothing has run */
    assert_cuda(cudaGraphInstantiate(&exec, graph, 0));
    assert_cuda(cudaGraphDestroy(graph));
    for (int i = 0; i < 3; i++)
        assert_cuda(cudaGraphLaunch(exec, s));
    assert_cuda(cudaStreamSynchronize(s));
    assert_int_equal(from_device(x, 2)[0], 46);
    assert_int_equal(from_device(x, 2)[1], 31);
    assert_cuda(cudaGraphExecDestroy(exec));
    assert_cuda(cudaEventDestroy(forked));
    assert_cuda(cudaEventDestroy(joined));
    assert_cuda(cudaStreamDestroy(s));
    assert_cuda(cudaStreamDestroy(side));
    assert_cuda(cudaFree(x));
}

static void test_capture_forbids(void **)
{
    cudaStream_t s, side;
    cudaEvent_t event;
    cudaGraph_t graph = nullptr;
    void *p = nullptr;

    assert_cuda(cudaStreamCreate(&s));
    assert_cuda(cudaStreamCreate(&side));
    assert_cuda(cudaEventCreate(&event));
    assert_cuda(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    assert_int_equal(cudaMalloc(&p, 16), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
    assert_null(graph);
    assert_cuda(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    assert_int_equal(cudaStreamSynchronize(s), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
    cudaGetLastError(); /* or the next launch would report it */
    assert_cuda(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    assert_cuda(cudaEventRecord(event, s));
    assert_cuda(cudaStreamWaitEvent(side, event, 0));
    assert_cuda(SAC_LAUNCH(add, 1, 1, 0, side, nullptr, 0, 0)); /* and never joined again */
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureUnjoined);
    cudaGetLastError();
    assert_cuda(cudaMalloc(&p, 16));
    assert_cuda(cudaFree(p));
    assert_cuda(cudaEventDestroy(event));
    assert_cuda(cudaStreamDestroy(s));
    assert_cuda(cudaStreamDestroy(side));
}

/* ---- faults
 * -------------------------------------------------------------------------------------------------- */

static void test_faults(void **)
{
    void *p = nullptr, *q = nullptr;
    int *x = on_device(std::vector<int>{1});

    setenv("SACCADE_HOST_CUDA__FAIL", "memory:2", 1);
    assert_cuda(cudaMalloc(&p, 16));
    assert_int_equal(cudaMalloc(&q, 16), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_cuda(cudaMalloc(&q, 16));
    assert_cuda(cudaFree(p));
    assert_cuda(cudaFree(q));

    setenv("SACCADE_HOST_CUDA__FAIL", "lost:2", 1);
    assert_cuda(SAC_LAUNCH(add, 1, 1, 0, 0, x, 1, 1));
    assert_int_equal(SAC_LAUNCH(add, 1, 1, 0, 0, x, 1, 1), cudaErrorIllegalAddress);
    assert_int_equal(cudaMalloc(&p, 16), cudaErrorIllegalAddress);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorIllegalAddress);
    assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
    assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
    unsetenv("SACCADE_HOST_CUDA__FAIL");
    cudaGetLastError();
    assert_int_equal(from_device(x, 1)[0], 2);
    assert_cuda(cudaFree(x));
}

/* ---- cuBLASLt
 * -------------------------------------------------------------------------------------------------- */

/* A row-major product y = epilogue(x w^T + beta y + bias), as callers of a library by columns write it. */
struct product {
    cudaDataType type = CUDA_R_16BF, y_type = CUDA_R_32F;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    uint32_t alignment = 16;
    uint64_t rows = 5, out = 6, in = 12;
    const void *bias = nullptr;
    float beta = 0;

    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t w, x, y;
    cublasLtMatmulHeuristicResult_t best;

    bool plan(cublasLtHandle_t blas)
    {
        const int32_t transposed = CUBLAS_OP_T;
        const uint64_t workspace = 1024;
        cublasLtMatmulPreferenceOpaque_t preference;
        int found = 0;

        cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
        cublasLtMatmulDescSetAttribute(&operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                       sizeof transposed);
        cublasLtMatmulDescSetAttribute(&operation, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
        cublasLtMatmulDescSetAttribute(&operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
        cublasLtMatrixLayoutInit(&w, type, in, out, static_cast<int64_t>(in));
        cublasLtMatrixLayoutInit(&x, type, in, rows, static_cast<int64_t>(in));
        cublasLtMatrixLayoutInit(&y, y_type, out, rows, static_cast<int64_t>(out));
        cublasLtMatmulPreferenceInit(&preference);
        cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &workspace, sizeof workspace);
        for (int i = 0; i < 4; i++)
            cublasLtMatmulPreferenceSetAttribute(&preference,
                                                 static_cast<cublasLtMatmulPreferenceAttributes_t>(
                                                     CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i),
                                                 &alignment, sizeof alignment);
        return cublasLtMatmulAlgoGetHeuristic(blas, &operation, &w, &x, &y, &y, &preference, 1, &best,
                                              &found) == CUBLAS_STATUS_SUCCESS &&
               found == 1;
    }

    cublasStatus_t run(cublasLtHandle_t blas, const void *dw, const void *dx, void *dy, void *workspace,
                       size_t workspace_bytes = 1024)
    {
        const float one = 1;
        return cublasLtMatmul(blas, &operation, &one, dw, &w, dx, &x, &beta, dy, &y, dy, &y, &best.algo,
                              workspace, workspace_bytes, nullptr);
    }
};

/* Of small numbers, which bf16 holds: the sums are exact. */
template <class T, class Y> static void check_product(product p, float tolerance)
{
    std::vector<T> x, w;
    std::vector<Y> bias, before;
    for (uint64_t i = 0; i < p.rows * p.in; i++)
        x.push_back(T(static_cast<float>(i % 7) - 3));
    for (uint64_t i = 0; i < p.out * p.in; i++)
        w.push_back(T(static_cast<float>(i % 5) * 0.25f));
    for (uint64_t i = 0; i < p.out; i++)
        bias.push_back(Y(static_cast<float>(i) - 2));
    before.assign(p.rows * p.out, Y(p.beta == 0 ? NAN : 3.0f));
    T *dx = on_device(x), *dw = on_device(w);
    Y *dbias = on_device(bias), *dy = on_device(before);
    unsigned char *workspace = on_device(std::vector<unsigned char>(1024));
    cublasLtHandle_t blas;
    p.bias = dbias;
    assert_int_equal(cublasLtCreate(&blas), CUBLAS_STATUS_SUCCESS);
    assert_true(p.plan(blas));
    assert_int_equal(p.run(blas, dw, dx, dy, workspace), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(p.run(blas, dw, dx, dy, workspace, 1), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(cublasLtDestroy(blas), CUBLAS_STATUS_SUCCESS);
    const std::vector<Y> y = from_device(dy, before.size());
    for (uint64_t r = 0; r < p.rows; r++)
        for (uint64_t o = 0; o < p.out; o++) {
            double want = p.beta == 0 ? 0 : static_cast<double>(p.beta) * 3;
            for (uint64_t i = 0; i < p.in; i++)
                want += static_cast<double>(static_cast<float>(x[r * p.in + i])) *
                        static_cast<double>(static_cast<float>(w[o * p.in + i]));
            if ((p.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0)
                want += static_cast<double>(o) - 2;
            if ((p.epilogue & CUBLASLT_EPILOGUE_GELU) != 0)
                want = want / 2 * (1 + tanh(0.7978845608 * (want + 0.044715 * want * want * want)));
            assert_float_equal(static_cast<float>(y[r * p.out + o]), want, tolerance * (1 + fabs(want)));
        }
    for (void *buffer : {static_cast<void *>(dx), static_cast<void *>(dw), static_cast<void *>(dy),
                         static_cast<void *>(dbias), static_cast<void *>(workspace)})
        assert_cuda(cudaFree(buffer));
}

static void test_products(void **)
{
    product p;

    check_product<__nv_bfloat16, float>(p, 1e-6f);
    p.epilogue = CUBLASLT_EPILOGUE_BIAS;
    p.beta = 2;
    check_product<__nv_bfloat16, float>(p, 1e-6f);
    p.epilogue = CUBLASLT_EPILOGUE_GELU_BIAS;
    p.beta = 0;
    p.y_type = CUDA_R_16BF;
    check_product<__nv_bfloat16, __nv_bfloat16>(p, 0x1p-8f);
    p.epilogue = CUBLASLT_EPILOGUE_GELU;
    p.type = p.y_type = CUDA_R_32F;
    p.in = 11;
    check_product<float, float>(p, 1e-6f);
}

static void test_products_are_checked(void **)
{
    char *memory = on_device(std::vector<char>(4096));
    cublasLtHandle_t blas;
    product p;
    assert_int_equal(cublasLtCreate(&blas), CUBLAS_STATUS_SUCCESS);
    assert_true(p.plan(blas));
    char *const w = memory, *const x = memory + 256, *const y = memory + 512,
                *const workspace = memory + 1024;
    assert_true(says(last_words([&] { p.run(blas, w, x + 2, y, workspace); }), "not aligned to 16"));
    assert_true(says(last_words([&] { p.run(blas, w, x, y, workspace + 64); }), "not aligned to 256"));
    assert_true(
        says(last_words([&] { p.run(blas, w, x, memory + 4080, workspace); }), "(5 columns of 6, 6 apart)"));
    assert_true(says(last_words([&] {
                         cublasLtMatrixLayoutInit(&p.x, p.type, p.in, 4, 12);
                         p.run(blas, w, x, y, workspace);
                     }),
                     "do not go together"));
    assert_true(says(last_words([&] {
                         cublasLtMatrixLayoutInit(&p.x, p.type, p.in, 5, 14);
                         p.run(blas, w, x, y, workspace);
                     }),
                     "another product's"));
    assert_true(says(last_words([&] {
                         p.epilogue = CUBLASLT_EPILOGUE_BIAS;
                         p.plan(blas);
                         p.run(blas, w, x, y, workspace);
                     }),
                     "a bias of 6"));
    p.alignment = 2;
    assert_false(p.plan(blas));
    p.alignment = 16;
    p.in = 11;
    assert_false(p.plan(blas));
    p.in = 12;
    p.type = CUDA_R_32F;
    p.y_type = CUDA_R_16BF;
    assert_false(p.plan(blas));
    assert_int_equal(cublasLtDestroy(blas), CUBLAS_STATUS_SUCCESS);
    assert_cuda(cudaFree(memory));
}

/* ---- threads
 * -------------------------------------------------------------------------------------------------- */

__global__ void turn_around(int *x)
{
    __shared__ int tile[64];
    tile[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
    __syncthreads();
    x[blockIdx.x * 64 + threadIdx.x] = tile[63 - threadIdx.x];
}

static void test_launches_of_several_threads(void **)
{
    std::vector<std::thread> threads;
    std::vector<int *> buffers;
    std::vector<int> counted(64 * 8);
    for (int i = 0; i < 64 * 8; i++)
        counted[static_cast<size_t>(i)] = i;
    for (int i = 0; i < 3; i++)
        buffers.push_back(on_device(counted));
    for (int *x : buffers)
        threads.emplace_back([x] {
            for (int i = 0; i < 101; i++)
                assert_cuda(SAC_LAUNCH(turn_around, 8, 64, 0, cudaStreamPerThread, x));
        });
    for (std::thread &t : threads)
        t.join();
    for (int *x : buffers) {
        assert_int_equal(from_device(x, 1)[0], 63);
        assert_cuda(cudaFree(x));
    }
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_memory_is_counted),
        cmocka_unit_test(test_copies_are_checked),
        cmocka_unit_test(test_guard),
        cmocka_unit_test(test_streams_and_events),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_graph),
        cmocka_unit_test(test_capture_forbids),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_products_are_checked),
        cmocka_unit_test(test_launches_of_several_threads),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
