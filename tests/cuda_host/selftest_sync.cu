/* Barriers, warp operations, atomics and shared memory of the host run, and what it says of mistakes. */
#include "selftest.cuh"

/* ---- barriers and shared memory -------------------------------------------------------------------------
 */

template <int THREADS> __global__ void block_sum(const float *x, int n, float *out)
{
    __shared__ float part[THREADS];
    const int t = static_cast<int>(threadIdx.x);
    float sum = 0;
    for (int i = static_cast<int>(blockIdx.x) * THREADS + t; i < n;
         i += static_cast<int>(gridDim.x) * THREADS)
        sum += x[i];
    part[t] = sum;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (t < half)
            part[t] += part[t + half];
        __syncthreads();
    }
    if (t == 0)
        atomicAdd(out, part[0]);
}

static void test_block_sum(void **)
{
    std::vector<float> x(1000);
    for (size_t i = 0; i < x.size(); i++)
        x[i] = static_cast<float>(i);
    float *device = on_device(x), *out = on_device(std::vector<float>{0});
    assert_cuda(SAC_LAUNCH((block_sum<128>), 3, 128, 0, 0, device, 1000, out));
    assert_float_equal(from_device(out, 1)[0], 499500.0f, 0);
    assert_cuda(cudaFree(device));
    assert_cuda(cudaFree(out));
}

/* Each thread writes its own place and reads its neighbour's: right only with the barrier. */
template <bool BARRIER> __global__ void rotate(int *out)
{
    SAC_SHARED_DYNAMIC(int, tile);
    const unsigned t = threadIdx.x;
    tile[t] = static_cast<int>(t);
    if (BARRIER)
        __syncthreads();
    out[blockIdx.x * blockDim.x + t] = tile[(t + 1) % blockDim.x];
}

template <bool BARRIER> static bool rotates(const char *order)
{
    const unsigned threads = 96, blocks = 3;
    int *out = on_device(std::vector<int>(threads * blocks, 0));
    setenv("SACCADE_HOST_CUDA__ORDER", order, 1);
    assert_cuda(SAC_LAUNCH(rotate<BARRIER>, blocks, threads, threads * sizeof(int), 0, out));
    unsetenv("SACCADE_HOST_CUDA__ORDER");
    const std::vector<int> got = from_device(out, threads * blocks);
    assert_cuda(cudaFree(out));
    for (unsigned i = 0; i < got.size(); i++)
        if (got[i] != static_cast<int>((i % threads + 1) % threads))
            return false;
    return true;
}

static void test_missing_barrier_shows(void **)
{
    for (const char *order : {"forward", "reverse", "shuffle:1", "shuffle:7"}) {
        assert_true(rotates<true>(order));
        assert_false(rotates<false>(order));
    }
}

__global__ void unset_shared(uint32_t *out)
{
    __shared__ uint32_t fixed[4];
    SAC_SHARED_DYNAMIC(uint32_t, dynamic);
    out[threadIdx.x] = fixed[threadIdx.x];
    out[4 + threadIdx.x] = dynamic[threadIdx.x];
    __syncthreads();
    fixed[threadIdx.x] = dynamic[threadIdx.x] = 7;
}

static void test_shared_memory_is_spoiled(void **)
{
    uint32_t *out = on_device(std::vector<uint32_t>(8, 0));
    assert_cuda(SAC_LAUNCH(unset_shared, 3, 4, 16, 0, out));
    for (uint32_t value : from_device(out, 8))
        assert_int_equal(value, 0xffffffffu);
    assert_cuda(cudaFree(out));
}

__global__ void votes(int *out)
{
    const int odd = threadIdx.x & 1;
    const int count = __syncthreads_count(odd);
    const int any = __syncthreads_or(threadIdx.x == 40);
    const int all = __syncthreads_and(threadIdx.x < 50);
    const int none = __syncthreads_or(0);
    if (threadIdx.x == 0) {
        out[0] = count;
        out[1] = any;
        out[2] = all;
        out[3] = none;
    }
}

static void test_block_votes(void **)
{
    int *out = on_device(std::vector<int>(4, 9));
    assert_cuda(SAC_LAUNCH(votes, 1, 50, 0, 0, out));
    const std::vector<int> got = from_device(out, 4);
    assert_int_equal(got[0], 25);
    assert_int_equal(got[1], 1);
    assert_int_equal(got[2], 1);
    assert_int_equal(got[3], 0);
    assert_cuda(cudaFree(out));
}

/* ---- warps ------------------------------------------------------------------------------------------------
 */

__global__ void shuffles(int *out)
{
    const int lane = static_cast<int>(threadIdx.x) & 31;
    int *mine = out + threadIdx.x * 8;
    mine[0] = __shfl_sync(~0u, lane * 10, 5);
    mine[1] = __shfl_sync(~0u, lane, 3, 8);
    mine[2] = __shfl_up_sync(~0u, lane, 2);
    mine[3] = __shfl_down_sync(~0u, lane, 4, 16);
    mine[4] = __shfl_xor_sync(~0u, lane, 9);
    mine[5] = static_cast<int>(__ballot_sync(~0u, lane % 3 == 0));
    mine[6] = static_cast<int>(__match_any_sync(~0u, lane / 4));
    mine[7] = __reduce_add_sync(~0u, lane);
}

static void test_shuffles(void **)
{
    int *out = on_device(std::vector<int>(64 * 8, 0));
    assert_cuda(SAC_LAUNCH(shuffles, 1, 64, 0, 0, out));
    const std::vector<int> got = from_device(out, 64 * 8);
    for (int t = 0; t < 64; t++) {
        const int lane = t & 31, *mine = &got[static_cast<size_t>(t) * 8];
        assert_int_equal(mine[0], 50);
        assert_int_equal(mine[1], (lane & ~7) + 3);
        assert_int_equal(mine[2], lane < 2 ? lane : lane - 2);
        assert_int_equal(mine[3], lane % 16 + 4 > 15 ? lane : lane + 4);
        assert_int_equal(mine[4], lane ^ 9);
        assert_int_equal(static_cast<unsigned>(mine[5]), 0x49249249u);
        assert_int_equal(static_cast<unsigned>(mine[6]), 0xfu << (lane & ~3));
        assert_int_equal(mine[7], 31 * 16);
    }
    assert_cuda(cudaFree(out));
}

/* The halves of a warp take different ways, with different numbers of collectives, and meet again. */
__global__ void divergent(int *out)
{
    const int lane = static_cast<int>(threadIdx.x);
    int value = lane;
    if (lane < 16) {
        for (int i = 1; i < 16; i *= 2)
            value += __shfl_xor_sync(0x0000ffffu, value, i);
    } else {
        value = static_cast<int>(__ballot_sync(0xffff0000u, lane & 1));
    }
    __syncwarp();
    out[lane] = __shfl_sync(~0u, value, (lane + 16) % 32);
}

static void test_divergent_warp(void **)
{
    int *out = on_device(std::vector<int>(32, 0));
    assert_cuda(SAC_LAUNCH(divergent, 1, 32, 0, 0, out));
    const std::vector<int> got = from_device(out, 32);
    for (int i = 0; i < 32; i++)
        assert_int_equal(got[static_cast<size_t>(i)], i < 16 ? static_cast<int>(0xaaaa0000u) : 120);
    assert_cuda(cudaFree(out));
}

/* ---- atomics ----------------------------------------------------------------------------------------------
 */

__global__ void count_all(unsigned *u, unsigned long long *wide, float *f, int *i)
{
    atomicAdd(&u[0], 1u);
    atomicMax(&u[1], threadIdx.x);
    atomicOr(&u[2], 1u << (threadIdx.x % 32));
    atomicMin(wide, static_cast<unsigned long long>(threadIdx.x) + 5);
    atomicAdd(f, 0.5f);
    atomicCAS(i, static_cast<int>(threadIdx.x), static_cast<int>(threadIdx.x) + 1);
}

static void test_atomics(void **)
{
    unsigned *u = on_device(std::vector<unsigned>{0, 0, 0});
    unsigned long long *wide = on_device(std::vector<unsigned long long>{~0ull});
    float *f = on_device(std::vector<float>{0});
    int *i = on_device(std::vector<int>{0});
    assert_cuda(SAC_LAUNCH(count_all, 2, 64, 0, 0, u, wide, f, i));
    const std::vector<unsigned> got = from_device(u, 3);
    assert_int_equal(got[0], 128);
    assert_int_equal(got[1], 63);
    assert_int_equal(got[2], ~0u);
    assert_int_equal(from_device(wide, 1)[0], 5);
    assert_float_equal(from_device(f, 1)[0], 64.0f, 0);
    assert_int_equal(from_device(i, 1)[0], 64);
    for (void *p :
         {static_cast<void *>(u), static_cast<void *>(wide), static_cast<void *>(f), static_cast<void *>(i)})
        assert_cuda(cudaFree(p));
}

/* ---- mistakes ---------------------------------------------------------------------------------------------
 */

__global__ void exits_early()
{
    if (threadIdx.x == 3)
        return;
    __syncwarp();
}

__global__ void waits_apart()
{
    if (threadIdx.x < 16)
        __syncwarp();
    else
        __ballot_sync(~0u, 1);
}

__global__ void leaves_the_block()
{
    if (threadIdx.x < 32)
        __syncthreads();
}

__global__ void two_barriers()
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
}

static void test_mistakes_are_named(void **)
{
    std::string said = last_words([] { SAC_LAUNCH(exits_early, 2, 32, 0, 0); });
    assert_true(says(said, "exits_early"));
    assert_true(says(said, "lane 3, which has exited") || says(said, "cannot go on"));
    assert_true(says(said, "selftest_sync.cu:"));

    said = last_words([] { SAC_LAUNCH(waits_apart, 1, 32, 0, 0); });
    assert_true(says(said, "waits_apart"));
    assert_true(says(said, "cannot go on"));
    assert_true(says(said, "waits at __ballot_sync with mask ffffffff"));

    said = last_words([] { SAC_LAUNCH(leaves_the_block, 1, 64, 0, 0); });
    assert_true(says(said, "waits at __syncthreads"));
    assert_true(says(said, "32 of 64 threads have exited"));

    said = last_words([] { SAC_LAUNCH(two_barriers, 1, 64, 0, 0); });
    assert_true(says(said, "__syncthreads, while thread"));
}

static void test_bad_shapes_are_refused(void **)
{
    assert_int_equal(SAC_LAUNCH(exits_early, 1, 2048, 0, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(SAC_LAUNCH(exits_early, 0, 32, 0, 0), cudaErrorInvalidConfiguration);
    assert_int_equal(SAC_LAUNCH(exits_early, 1, 32, 100000, 0), cudaErrorInvalidValue);
    assert_cuda(cudaFuncSetAttribute(rotate<true>, cudaFuncAttributeMaxDynamicSharedMemorySize, 100000));
    int *out = on_device(std::vector<int>(32, 0));
    assert_cuda(SAC_LAUNCH(rotate<true>, 1, 32, 100000, 0, out));
    assert_cuda(cudaFree(out));
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_sum),
        cmocka_unit_test(test_missing_barrier_shows),
        cmocka_unit_test(test_shared_memory_is_spoiled),
        cmocka_unit_test(test_block_votes),
        cmocka_unit_test(test_shuffles),
        cmocka_unit_test(test_divergent_warp),
        cmocka_unit_test(test_atomics),
        cmocka_unit_test(test_mistakes_are_named),
        cmocka_unit_test(test_bad_shapes_are_refused),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
