/* The stand-in for the runtime: memory, streams, graphs, faults on request, cuBLAS. */
#include "selftest.cuh"

#include <cublas_v2.h>
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

/* ---- cuBLAS
 * -------------------------------------------------------------------------------------------------- */

/* A row-major product y = x w^T, as callers of a library by columns write it. */
template <class T> static void check_product(cudaDataType type, float tolerance)
{
    const int rows = 5, out = 3, in = 11;
    std::vector<T> x, w;
    for (int i = 0; i < rows * in; i++)
        x.push_back(T(static_cast<float>(i % 7) - 3));
    for (int i = 0; i < out * in; i++)
        w.push_back(T(static_cast<float>(i % 5) * 0.25f));
    T *dx = on_device(x), *dw = on_device(w);
    float *dy = on_device(std::vector<float>(rows * out, NAN));
    const float one = 1, zero = 0;
    cublasHandle_t blas;
    assert_int_equal(cublasCreate(&blas), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, out, rows, in, &one, dw, type, in, dx, type,
                                  in, &zero, dy, CUDA_R_32F, out, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                     CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasDestroy(blas), CUBLAS_STATUS_SUCCESS);
    const std::vector<float> y = from_device(dy, rows * out);
    for (int r = 0; r < rows; r++)
        for (int o = 0; o < out; o++) {
            float want = 0;
            for (int i = 0; i < in; i++)
                want += static_cast<float>(x[static_cast<size_t>(r * in + i)]) *
                        static_cast<float>(w[static_cast<size_t>(o * in + i)]);
            assert_float_equal(y[static_cast<size_t>(r * out + o)], want, tolerance);
        }
    for (void *p : {static_cast<void *>(dx), static_cast<void *>(dw), static_cast<void *>(dy)})
        assert_cuda(cudaFree(p));
}

static void test_products(void **)
{
    check_product<float>(CUDA_R_32F, 1e-5f);
    check_product<__nv_bfloat16>(CUDA_R_16BF, 1e-5f);
    /* Plain, by columns: [1 3; 2 4] [5 7; 6 8] + 2 C */
    float *a = on_device(std::vector<float>{1, 2, 3, 4}), *b = on_device(std::vector<float>{5, 6, 7, 8});
    float *c = on_device(std::vector<float>{1, 1, 1, 1});
    const float one = 1, two = 2;
    cublasHandle_t blas;
    assert_int_equal(cublasCreate(&blas), CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasSgemm(blas, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, a, 2, b, 2, &two, c, 2),
                     CUBLAS_STATUS_SUCCESS);
    assert_int_equal(cublasDestroy(blas), CUBLAS_STATUS_SUCCESS);
    assert_true(from_device(c, 4) == (std::vector<float>{25, 36, 33, 48}));
    for (void *p : {static_cast<void *>(a), static_cast<void *>(b), static_cast<void *>(c)})
        assert_cuda(cudaFree(p));
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
        cmocka_unit_test(test_launches_of_several_threads),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
