/* The twins of mma.cuh and async_copy.cuh, against plain loops over the tables that mma.cuh shows. */
#include "kernels/cuda/async_copy.cuh"
#include "kernels/cuda/mma.cuh"
#include "selftest.cuh"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

/* A number from -1 to 1 that depends on nothing but the seed. */
static float noise(uint32_t seed)
{
    seed = (seed ^ 61u ^ seed >> 16) * 9u;
    seed = (seed ^ seed >> 4) * 0x27d4eb2du;
    return static_cast<float>(seed >> 8 & 0xffffu) / 32768.0f - 1.0f;
}

/* ---- products ---------------------------------------------------------------------------------------------
 */

enum kind { BF16, F16, TF32, S8 };

/* Writes one element of a register as the kind stores it. */
static uint32_t stored(kind which, float x, int i)
{
    switch (which) {
    case BF16:
        return static_cast<uint32_t>(__bfloat16_as_ushort(__float2bfloat16(x))) << (16 * i);
    case F16:
        return static_cast<uint32_t>(__half_as_ushort(__float2half(x))) << (16 * i);
    case TF32:
        return sac_tf32(x);
    default:
        return static_cast<uint32_t>(static_cast<uint8_t>(static_cast<int>(x * 127))) << (8 * i);
    }
}

static float read_back(kind which, uint32_t bits)
{
    switch (which) {
    case BF16:
        return __bfloat162float(__ushort_as_bfloat16(static_cast<unsigned short>(bits)));
    case F16:
        return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
    case TF32:
        return __uint_as_float(bits);
    default:
        return static_cast<float>(static_cast<int8_t>(bits));
    }
}

template <kind WHICH> __global__ void multiply(const uint32_t *a, const uint32_t *b, float *d)
{
    const unsigned lane = threadIdx.x;
    float sums[4] = {1, 2, 3, 4};
    int whole[4] = {1, 2, 3, 4};
    if (WHICH == BF16)
        sac_mma_bf16(sums, a + lane * 4, b + lane * 2);
    else if (WHICH == F16)
        sac_mma_f16(sums, a + lane * 4, b + lane * 2);
    else if (WHICH == TF32)
        sac_mma_tf32(sums, a + lane * 4, b + lane * 2);
    else
        sac_mma_s8(whole, a + lane * 4, b + lane * 2);
    for (int i = 0; i < 4; i++)
        d[lane * 4 + i] = WHICH == S8 ? static_cast<float>(whole[i]) : sums[i];
}

/* Element (row, k) of A and (k, n) of B into the lane, register and place that the table of mma.cuh gives. */
struct place {
    unsigned lane, word, within;
};

static place place_of_a(unsigned per, unsigned row, unsigned k)
{
    return {row % 8 * 4 + k / per % 4, row / 8 + k / (4 * per) * 2, k % per};
}

static place place_of_b(unsigned per, unsigned k, unsigned n)
{
    return {n * 4 + k / per % 4, k / (4 * per), k % per};
}

template <kind WHICH> static void check_product(unsigned per)
{
    const unsigned depth = 8 * per;
    std::vector<uint32_t> a(128, 0), b(64, 0);
    std::vector<float> left(16 * depth), right(depth * 8);

    for (unsigned k = 0; k < depth; k++) {
        for (unsigned row = 0; row < 16; row++) {
            const place p = place_of_a(per, row, k);
            const float x = noise(row * 64 + k);
            a[p.lane * 4 + p.word] |= stored(WHICH, x, static_cast<int>(p.within));
            left[row * depth + k] = read_back(WHICH, stored(WHICH, x, 0));
        }
        for (unsigned n = 0; n < 8; n++) {
            const place p = place_of_b(per, k, n);
            const float x = noise(5000 + n * 64 + k);
            b[p.lane * 2 + p.word] |= stored(WHICH, x, static_cast<int>(p.within));
            right[k * 8 + n] = read_back(WHICH, stored(WHICH, x, 0));
        }
    }
    uint32_t *da = on_device(a), *db = on_device(b);
    float *dd = on_device(std::vector<float>(128, 0));
    assert_cuda(SAC_LAUNCH(multiply<WHICH>, 1, 32, 0, 0, da, db, dd));
    const std::vector<float> d = from_device(dd, 128);
    for (unsigned row = 0; row < 16; row++) {
        for (unsigned n = 0; n < 8; n++) {
            const unsigned lane = row % 8 * 4 + n / 2, word = row / 8 * 2 + n % 2;
            float want = static_cast<float>(word + 1);
            for (unsigned k = 0; k < depth; k++)
                want += left[row * depth + k] * right[k * 8 + n];
            assert_float_equal(d[lane * 4 + word], want, 1e-5f);
        }
    }
    for (void *p : {static_cast<void *>(da), static_cast<void *>(db), static_cast<void *>(dd)})
        assert_cuda(cudaFree(p));
}

static void test_products(void **)
{
    check_product<BF16>(2);
    check_product<F16>(2);
    check_product<TF32>(1);
    check_product<S8>(4);
}

static void test_tf32_rounding(void **)
{
    assert_int_equal(sac_tf32(1.0f), 0x3f800000u);
    assert_int_equal(sac_tf32(__uint_as_float(0x3f800fffu)), 0x3f800000u);
    assert_int_equal(sac_tf32(__uint_as_float(0x3f801000u)), 0x3f802000u); /* a tie, away from zero */
    assert_int_equal(sac_tf32(__uint_as_float(0xbf801000u)), 0xbf802000u);
    assert_int_equal(sac_tf32(INFINITY), 0x7f800000u);
}

static void test_short_floats(void **)
{
    for (unsigned i = 0; i < 65536; i++) {
        const __half h = __ushort_as_half(static_cast<unsigned short>(i));
        const __nv_bfloat16 b = __ushort_as_bfloat16(static_cast<unsigned short>(i));
        if (!__hisnan(h))
            assert_int_equal(__half_as_ushort(__float2half(__half2float(h))), i);
        if (!__hisnan(b))
            assert_int_equal(__bfloat16_as_ushort(__float2bfloat16(__bfloat162float(b))), i);
    }
    assert_int_equal(__half_as_ushort(__float2half(65504.0f)), 0x7bff);
    assert_int_equal(__half_as_ushort(__float2half(65520.0f)), 0x7c00);
    assert_int_equal(__half_as_ushort(__float2half(0x1p-24f)), 0x0001);
    assert_int_equal(__half_as_ushort(__float2half(0x1p-25f)), 0x0000); /* a tie, to even */
    assert_int_equal(__half_as_ushort(__float2half(0x1.8p-24f)), 0x0002);
    assert_int_equal(__half_as_ushort(__float2half(1.0f + 0x1p-11f)), 0x3c00);
    assert_int_equal(__half_as_ushort(__float2half(1.0f + 0x3p-11f)), 0x3c02);
    assert_true(__hisnan(__float2half(NAN)));
    assert_int_equal(__bfloat16_as_ushort(__float2bfloat16(1.0f + 0x1p-8f)), 0x3f80);
    assert_int_equal(__bfloat16_as_ushort(__float2bfloat16(1.0f + 0x3p-8f)), 0x3f82);
}

/* ---- ldmatrix
 * ----------------------------------------------------------------------------------------------- */

template <int COUNT, bool TRANSPOSED> __global__ void fetch(uint32_t *out)
{
    __shared__ __align__(16) uint16_t m[32][24]; /* rows of 48 bytes */
    const unsigned lane = threadIdx.x;
    uint32_t r[4] = {0, 0, 0, 0};
    for (unsigned c = 0; c < 8; c++)
        m[lane][c] = static_cast<uint16_t>(lane * 8 + c);
    __syncwarp();
    if (COUNT == 4)
        TRANSPOSED ? sac_ldmatrix_x4_trans(r, m[lane]) : sac_ldmatrix_x4(r, m[lane]);
    else
        TRANSPOSED ? sac_ldmatrix_x2_trans(r, m[lane % 16]) : sac_ldmatrix_x2(r, m[lane % 16]);
    for (int j = 0; j < 4; j++)
        out[lane * 4 + j] = r[j];
}

template <int COUNT, bool TRANSPOSED> static void check_fetch()
{
    uint32_t *out = on_device(std::vector<uint32_t>(128, 0));
    assert_cuda(SAC_LAUNCH((fetch<COUNT, TRANSPOSED>), 1, 32, 0, 0, out));
    const std::vector<uint32_t> got = from_device(out, 128);
    for (unsigned lane = 0; lane < 32; lane++) {
        for (unsigned j = 0; j < COUNT; j++) {
            const unsigned g = lane / 4, t = lane % 4 * 2;
            const unsigned low = TRANSPOSED ? (j * 8 + t) * 8 + g : (j * 8 + g) * 8 + t;
            const unsigned high = TRANSPOSED ? low + 8 : low + 1;
            assert_int_equal(got[lane * 4 + j], high << 16 | low);
        }
    }
    assert_cuda(cudaFree(out));
}

static void test_ldmatrix(void **)
{
    check_fetch<4, false>();
    check_fetch<4, true>();
    check_fetch<2, false>();
    check_fetch<2, true>();
}

/* ---- asynchronous copies
 * -------------------------------------------------------------------------------------- */

/* Two buffers: sums tile i while tile i + 1 is on its way. WAITS and BARRIER plant the two usual mistakes. */
template <bool WAITS, bool BARRIER> __global__ void pipeline(const float *x, unsigned tiles, float *out)
{
    SAC_SHARED_DYNAMIC(float4, buffer); /* [2][blockDim.x] */
    const unsigned t = threadIdx.x, n = blockDim.x;
    float sum = 0;
    sac_copy_async<16>(&buffer[t], x + t * 4);
    sac_copy_async_commit();
    for (unsigned i = 0; i < tiles; i++) {
        if (i + 1 < tiles)
            sac_copy_async<16>(&buffer[(i + 1) % 2 * n + t], x + ((i + 1) * n + t) * 4);
        sac_copy_async_commit();
        if (WAITS)
            sac_copy_async_wait<1>();
        __syncthreads();
        const float4 v = buffer[i % 2 * n + (t + 1) % n]; /* what another thread fetched */
        sum += v.x + v.y + v.z + v.w;
        if (BARRIER)
            __syncthreads();
    }
    sac_copy_async_wait<0>();
    out[t] = sum;
}

template <bool WAITS, bool BARRIER> static bool pipelines(const char *order)
{
    const unsigned threads = 64, tiles = 5;
    std::vector<float> x(threads * tiles * 4);
    for (size_t i = 0; i < x.size(); i++)
        x[i] = static_cast<float>(i % 97);
    float *dx = on_device(x), *out = on_device(std::vector<float>(threads, 0));
    setenv("SACCADE_HOST_CUDA__ORDER", order, 1);
    assert_cuda(SAC_LAUNCH((pipeline<WAITS, BARRIER>), 1, threads, 2 * threads * 16, 0, dx, tiles, out));
    unsetenv("SACCADE_HOST_CUDA__ORDER");
    const std::vector<float> got = from_device(out, threads);
    assert_cuda(cudaFree(dx));
    assert_cuda(cudaFree(out));
    for (unsigned t = 0; t < threads; t++) {
        float want = 0;
        for (unsigned i = 0; i < tiles * 4; i++)
            want += x[(i / 4 * threads + (t + 1) % threads) * 4 + i % 4];
        if (!(got[t] == want))
            return false;
    }
    return true;
}

static void test_async_copies(void **)
{
    for (const char *order : {"forward", "reverse", "shuffle:3"}) {
        assert_true((pipelines<true, true>(order)));
        assert_false((pipelines<false, true>(order)));
        assert_false((pipelines<true, false>(order)));
    }
}

__global__ void part_copy(const uint32_t *x, uint32_t *out)
{
    __shared__ __align__(16) uint32_t word[8];
    if (threadIdx.x == 0) {
        sac_copy_async_part<16>(word, x, 8);
        sac_copy_async_part<8>(word + 4, nullptr, 0);
        sac_copy_async<4>(word + 6, x + 3);
        sac_copy_async_commit();
        sac_copy_async_wait<0>();
        for (int i = 0; i < 8; i++)
            out[i] = word[i];
    }
}

static void test_partial_copies(void **)
{
    uint32_t *x = on_device(std::vector<uint32_t>{1, 2, 3, 4}), *out = on_device(std::vector<uint32_t>(8, 0));
    assert_cuda(SAC_LAUNCH(part_copy, 1, 32, 0, 0, x, out));
    const std::vector<uint32_t> got = from_device(out, 8), want = {1, 2, 0, 0, 0, 0, 4, ~0u};
    assert_true(got == want);
    assert_cuda(cudaFree(x));
    assert_cuda(cudaFree(out));
}

/* ---- mistakes
 * ---------------------------------------------------------------------------------------------------- */

__global__ void never_waits(const uint32_t *x)
{
    __shared__ uint32_t word;
    sac_copy_async<4>(&word, x);
}

__global__ void copies_to_global(uint32_t *x)
{
    sac_copy_async<4>(x, x + 1);
}

__global__ void copies_askew(const uint32_t *x)
{
    __shared__ __align__(16) uint32_t word[8];
    sac_copy_async<16>(word + 1, x);
}

__global__ void half_a_product(const uint32_t *x)
{
    float d[4] = {0, 0, 0, 0};
    if (threadIdx.x < 16)
        sac_mma_bf16(d, x, x);
}

static void test_mistakes_are_named(void **)
{
    uint32_t *x = on_device(std::vector<uint32_t>(64, 0));
    assert_true(says(last_words([x] { SAC_LAUNCH(never_waits, 1, 1, 0, 0, x); }), "that nobody waited for"));
    assert_true(says(last_words([x] { SAC_LAUNCH(copies_to_global, 1, 1, 0, 0, x); }), "not shared memory"));
    assert_true(says(last_words([x] { SAC_LAUNCH(copies_askew, 1, 1, 0, 0, x); }), "not aligned"));
    assert_true(says(last_words([x] { SAC_LAUNCH(half_a_product, 1, 32, 0, 0, x); }), "sac_mma_bf16"));
    assert_cuda(cudaFree(x));
}

int main()
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),           cmocka_unit_test(test_tf32_rounding),
        cmocka_unit_test(test_short_floats),       cmocka_unit_test(test_ldmatrix),
        cmocka_unit_test(test_async_copies),       cmocka_unit_test(test_partial_copies),
        cmocka_unit_test(test_mistakes_are_named),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
