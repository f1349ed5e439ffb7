/* bench_gpu_limits: what the chip at hand can do at most, measured: the floors of every kernel are shares of
 * these.
 *
 *   bench_gpu_limits [--device N]
 *
 * Prints one line a limit: name, value, unit. Rates are medians of several runs over data that no cache
 * holds; tables and operands are random, because zeros run faster than data does.
 *
 *   copy, read         device memory, bytes read plus bytes written
 *   bf16, tf32         matrix product by cuBLAS, 8192 cubed
 *   mma_bf16           mma.sync m16n8k16 from registers: what a kernel without wgmma can reach
 *   lookup_*           table look-ups in shared memory, 256 entries (64 for f16_64), codes random or one a
 * bank expand_1bit        1-bit codes expanded to bf16 in registers and multiplied: codes' dimensions a
 * second launch, graph      microseconds a kernel in a chain of eight, launched one by one, or as a graph
 *   round_trip         microseconds: 4 KB up, one kernel, 4 KB down, wait
 */
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

namespace
{

enum { RUNS = 9, THREADS = 256 };

cudaStream_t stream;
int multiprocessors;

void check(cudaError_t error, int line)
{
    if (error == cudaSuccess)
        return;
    fprintf(stderr, "bench_gpu_limits: line %d: %s\n", line, cudaGetErrorString(error));
    exit(1);
}
#define CHECK(call) check((call), __LINE__)

void check_blas(cublasStatus_t status, int line)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return;
    fprintf(stderr, "bench_gpu_limits: line %d: cuBLAS status %d\n", line, (int)status);
    exit(1);
}
#define CHECK_BLAS(call) check_blas((call), __LINE__)

void report(const char *name, double value, const char *unit)
{
    printf("%-18s %12.4g %s\n", name, value, unit);
}

double median(double *values, int count)
{
    std::sort(values, values + count);
    return values[count / 2];
}

/* Milliseconds of one call of `work` on the stream: the median, after one for warming up. */
template <typename Work> double milliseconds(Work work)
{
    cudaEvent_t before, after;
    double times[RUNS];

    CHECK(cudaEventCreate(&before));
    CHECK(cudaEventCreate(&after));
    work();
    for (int i = 0; i < RUNS; i++) {
        float ms;
        CHECK(cudaEventRecord(before, stream));
        work();
        CHECK(cudaEventRecord(after, stream));
        CHECK(cudaEventSynchronize(after));
        CHECK(cudaEventElapsedTime(&ms, before, after));
        times[i] = ms;
    }
    CHECK(cudaGetLastError());
    CHECK(cudaEventDestroy(before));
    CHECK(cudaEventDestroy(after));
    return median(times, RUNS);
}

__host__ __device__ inline uint32_t scramble(uint32_t x)
{
    x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu, x ^= x >> 16;
    return x;
}

__global__ void fill_kernel(uint32_t *to, size_t count, uint32_t mask)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        to[i] = scramble((uint32_t)i) & mask;
}

__global__ void fill_bf16_kernel(__nv_bfloat16 *to, size_t count)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        to[i] = __float2bfloat16((float)(int32_t)scramble((uint32_t)i) * 0x1p-31f);
}

/* ---- memory ----------------------------------------------------------------------------------------- */

__global__ void copy_kernel(const uint4 *from, uint4 *to, size_t count)
{
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        to[i] = from[i];
}

__global__ void read_kernel(const uint4 *from, size_t count, uint32_t *out)
{
    uint32_t sum = 0;

    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x) {
        uint4 v = from[i];
        sum ^= v.x ^ v.y ^ v.z ^ v.w;
    }
    if (sum == 0x12345678u)
        *out = sum;
}

void measure_memory(void)
{
    size_t bytes = (size_t)2 << 30, count = bytes / sizeof(uint4);
    int blocks = multiprocessors * 8;
    uint4 *from, *to;

    CHECK(cudaMalloc((void **)&from, bytes));
    CHECK(cudaMalloc((void **)&to, bytes));
    fill_kernel<<<blocks, THREADS, 0, stream>>>((uint32_t *)from, bytes / 4, ~0u);
    report("copy",
           2e-9 * bytes /
               (1e-3 * milliseconds([&] { copy_kernel<<<blocks, THREADS, 0, stream>>>(from, to, count); })),
           "GB/s");
    report("read",
           1e-9 * bytes / (1e-3 * milliseconds([&] {
                               read_kernel<<<blocks, THREADS, 0, stream>>>(from, count, (uint32_t *)to);
                           })),
           "GB/s");
    CHECK(cudaFree(from));
    CHECK(cudaFree(to));
}

/* ---- matrix units ----------------------------------------------------------------------------------- */

void measure_products(void)
{
    const int n = 8192;
    const float one = 1.0f, zero = 0.0f;
    double flops = 2.0 * n * n * n;
    void *a, *b, *c;
    cublasHandle_t blas;

    CHECK_BLAS(cublasCreate(&blas));
    CHECK_BLAS(cublasSetStream(blas, stream));
    CHECK(cudaMalloc(&a, (size_t)n * n * 4));
    CHECK(cudaMalloc(&b, (size_t)n * n * 4));
    CHECK(cudaMalloc(&c, (size_t)n * n * 4));
    fill_bf16_kernel<<<multiprocessors * 8, THREADS, 0, stream>>>((__nv_bfloat16 *)a, (size_t)n * n * 2);
    fill_bf16_kernel<<<multiprocessors * 8, THREADS, 0, stream>>>((__nv_bfloat16 *)b, (size_t)n * n * 2);
    report("bf16", 1e-12 * flops / (1e-3 * milliseconds([&] {
                                        CHECK_BLAS(cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, n, n, n, &one,
                                                                a, CUDA_R_16BF, n, b, CUDA_R_16BF, n, &zero,
                                                                c, CUDA_R_16BF, n, CUBLAS_COMPUTE_32F,
                                                                CUBLAS_GEMM_DEFAULT));
                                    })),
           "TFLOP/s");
    report("tf32", 1e-12 * flops / (1e-3 * milliseconds([&] {
                                        CHECK_BLAS(cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, n, n, n, &one,
                                                                a, CUDA_R_32F, n, b, CUDA_R_32F, n, &zero, c,
                                                                CUDA_R_32F, n, CUBLAS_COMPUTE_32F_FAST_TF32,
                                                                CUBLAS_GEMM_DEFAULT));
                                    })),
           "TFLOP/s");
    CHECK_BLAS(cublasDestroy(blas));
    CHECK(cudaFree(a));
    CHECK(cudaFree(b));
    CHECK(cudaFree(c));
}

__device__ __forceinline__ void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

enum { MMA_ROUNDS = 4096, MMA_CHAINS = 8 };

/* Two bf16 between 1/2 and 1 in a word: finite whatever the bits. */
__device__ __forceinline__ uint32_t tame(uint32_t x)
{
    return (x & 0x807f807fu) | 0x3f003f00u;
}

__global__ void mma_kernel(float *out)
{
    float d[MMA_CHAINS][4] = {};
    uint32_t a[4], b[2], seed = scramble(blockIdx.x * blockDim.x + threadIdx.x);

    for (int i = 0; i < 4; i++)
        a[i] = tame(scramble(seed + i));
    for (int i = 0; i < 2; i++)
        b[i] = tame(scramble(seed + 9 + i));
    for (int round = 0; round < MMA_ROUNDS; round++)
#pragma unroll
        for (int c = 0; c < MMA_CHAINS; c++)
            mma_bf16(d[c], a, b);
    for (int c = 0; c < MMA_CHAINS; c++)
        if (d[c][0] == 1.25f)
            out[0] = d[c][1];
}

/* 16 rows of 1-bit codes against 8 queries: bits become +-1 in bf16 on their way into the product. */
__global__ void expand_kernel(const uint32_t *codes, size_t words, float *out)
{
    float d[4] = {};
    uint32_t b[2] = {tame(scramble(threadIdx.x)), tame(scramble(threadIdx.x + 77))};

    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < words;
         i += (size_t)gridDim.x * blockDim.x) {
        uint32_t bits = codes[i];
#pragma unroll
        for (int k = 0; k < 4; k++) { /* 8 of the thread's bits make its fragment of one 16 x 16 tile */
            uint32_t a[4];
#pragma unroll
            for (int r = 0; r < 4; r++) {
                a[r] = 0x3f803f80u | (bits << 15 & 0x8000u) | (bits << 30 & 0x80000000u);
                bits >>= 2;
            }
            mma_bf16(d, a, b);
        }
    }
    if (d[0] == 1.25f)
        out[0] = d[1];
}

void measure_mma(void)
{
    int blocks = multiprocessors * 4;
    size_t words = (size_t)256 << 20;
    uint32_t *codes;
    float *out;

    CHECK(cudaMalloc((void **)&codes, words * 4));
    CHECK(cudaMalloc((void **)&out, 64));
    fill_kernel<<<multiprocessors * 8, THREADS, 0, stream>>>(codes, words, ~0u);
    report("mma_bf16",
           1e-12 * blocks * (THREADS / 32) * (double)MMA_ROUNDS * MMA_CHAINS * 2 * 16 * 8 * 16 /
               (1e-3 * milliseconds([&] { mma_kernel<<<blocks, THREADS, 0, stream>>>(out); })),
           "TFLOP/s");
    report("expand_1bit",
           1e-12 * words * 32 * 8 /
               (1e-3 * milliseconds([&] {
                    expand_kernel<<<multiprocessors * 8, THREADS, 0, stream>>>(codes, words, out);
                })),
           "T dimensions x queries/s");
    CHECK(cudaFree(codes));
    CHECK(cudaFree(out));
}

/* ---- look-ups --------------------------------------------------------------------------------------- */

enum { LOOKUP_ROUNDS = 512, TABLES = 32 };

/* Every thread looks four codes a word up, in table after table, as a scan does. `mask` limits the codes;
 * `spread` 1 makes the 32 lanes of a warp use 32 different banks. */
template <typename Entry> __global__ void lookup_kernel(uint32_t entries, uint32_t spread, float *out)
{
    extern __shared__ unsigned char memory[];
    Entry *tables = (Entry *)memory;
    uint32_t code = scramble(blockIdx.x * blockDim.x + threadIdx.x), lane = threadIdx.x % 32;
    uint32_t per_word = 4 / sizeof(Entry);
    float sum = 0.0f;

    for (uint32_t i = threadIdx.x; i < TABLES * entries; i += blockDim.x)
        tables[i] = (Entry)(float)(i & 63);
    __syncthreads();
    for (int round = 0; round < LOOKUP_ROUNDS; round++) {
        const Entry *table = tables + (round % TABLES) * entries;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t at = code >> (8 * i) & (entries - 1);
            if (spread)
                at = (at / (32 * per_word) * 32 + lane) * per_word % entries + at % per_word;
            sum += (float)table[at];
        }
        code = code * 1664525u + 1013904223u;
    }
    if (sum == 1.25f)
        out[0] = sum;
}

template <typename Entry> void measure_lookup(const char *name, uint32_t entries, uint32_t spread, float *out)
{
    int blocks = multiprocessors * 4;
    size_t shared = TABLES * entries * sizeof(Entry);

    CHECK(
        cudaFuncSetAttribute(lookup_kernel<Entry>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    report(name,
           1e-12 * blocks * (double)THREADS * LOOKUP_ROUNDS * 4 /
               (1e-3 * milliseconds([&] {
                    lookup_kernel<Entry><<<blocks, THREADS, shared, stream>>>(entries, spread, out);
                })),
           "T look-ups/s");
}

void measure_lookups(void)
{
    float *out;

    CHECK(cudaMalloc((void **)&out, 64));
    measure_lookup<uint8_t>("lookup_u8", 256, 0, out);
    measure_lookup<uint8_t>("lookup_u8_spread", 256, 1, out);
    measure_lookup<__half>("lookup_f16", 256, 0, out);
    measure_lookup<__half>("lookup_f16_64", 64, 0, out);
    measure_lookup<float>("lookup_f32", 256, 0, out);
    CHECK(cudaFree(out));
}

/* ---- latency ---------------------------------------------------------------------------------------- */

enum { CHAIN = 8, TURNS = 200 };

__global__ void step_kernel(uint32_t *memory)
{
    memory[threadIdx.x] = memory[threadIdx.x] * 3 + 1;
}

double now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}

/* Microseconds until `work`, put on the stream by the host, is done: the median over TURNS. */
template <typename Work> double latency(Work work)
{
    static double times[TURNS];

    for (int i = 0; i < TURNS; i++) {
        double start = now_us();
        work();
        CHECK(cudaStreamSynchronize(stream));
        times[i] = now_us() - start;
    }
    return median(times, TURNS);
}

void measure_latency(void)
{
    uint32_t *memory, *host;
    cudaGraph_t graph;
    cudaGraphExec_t replay;

    CHECK(cudaMalloc((void **)&memory, 4096));
    CHECK(cudaMallocHost((void **)&host, 4096));
    memset(host, 1, 4096);
    report("launch", latency([&] {
                         for (int i = 0; i < CHAIN; i++)
                             step_kernel<<<1, 32, 0, stream>>>(memory);
                     }) / CHAIN,
           "us a kernel");
    CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < CHAIN; i++)
        step_kernel<<<1, 32, 0, stream>>>(memory);
    CHECK(cudaStreamEndCapture(stream, &graph));
    CHECK(cudaGraphInstantiate(&replay, graph, 0));
    report("graph", latency([&] { CHECK(cudaGraphLaunch(replay, stream)); }) / CHAIN, "us a kernel");
    report("round_trip", latency([&] {
               CHECK(cudaMemcpyAsync(memory, host, 4096, cudaMemcpyHostToDevice, stream));
               step_kernel<<<1, 32, 0, stream>>>(memory);
               CHECK(cudaMemcpyAsync(host, memory, 4096, cudaMemcpyDeviceToHost, stream));
           }),
           "us");
    CHECK(cudaGraphExecDestroy(replay));
    CHECK(cudaGraphDestroy(graph));
    CHECK(cudaFree(memory));
    CHECK(cudaFreeHost(host));
}

} // namespace

int main(int argc, char **argv)
{
    int device = argc == 3 && strcmp(argv[1], "--device") == 0 ? atoi(argv[2]) : 0;
    cudaDeviceProp properties;

    if (argc != 1 && argc != 3) {
        fprintf(stderr, "usage: bench_gpu_limits [--device N]\n");
        return 2;
    }
    CHECK(cudaSetDevice(device));
    CHECK(cudaGetDeviceProperties(&properties, device));
    CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    multiprocessors = properties.multiProcessorCount;
    printf("device             %s, %d multiprocessors\n", properties.name, multiprocessors);
    measure_memory();
    measure_products();
    measure_mma();
    measure_lookups();
    measure_latency();
    return 0;
}
