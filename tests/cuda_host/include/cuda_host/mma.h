/* mma.h -- the host's side of kernels/cuda/mma.cuh: the last lane to arrive gathers the matrices from all
 * lanes' registers, by the tables there, multiplies them with plain loops, and hands the result out. */
#ifndef CUDA_HOST_MMA_H
#define CUDA_HOST_MMA_H

#include "../cuda_bf16.h"
#include "../cuda_fp16.h"
#include "machine.h"

namespace cuda_host
{

struct bf16_operand {
    typedef float value;
    static constexpr int per_register = 2;
    static float read(uint32_t bits, int i)
    {
        return bfloat16_to_float(static_cast<uint16_t>(bits >> (16 * i)));
    }
};

struct f16_operand {
    typedef float value;
    static constexpr int per_register = 2;
    static float read(uint32_t bits, int i)
    {
        return half_to_float(static_cast<uint16_t>(bits >> (16 * i)));
    }
};

struct tf32_operand {
    typedef float value;
    static constexpr int per_register = 1;
    static float read(uint32_t bits, int)
    {
        return bits_as<float>(bits & ~0x1fffu); /* the hardware does not look at these 13 bits */
    }
};

struct s8_operand {
    typedef int32_t value;
    static constexpr int per_register = 4;
    static int32_t read(uint32_t bits, int i)
    {
        return static_cast<int8_t>(bits >> (8 * i));
    }
};

/* One lane's registers. P is how many elements lie in one: a register of A or B covers P columns or rows of
 * k, four lanes 4 P, two registers all of k. */
template <class O> struct mma_call {
    typedef typename O::value value;
    static constexpr int P = O::per_register;
    static constexpr int K = 8 * P;

    value *d;
    const uint32_t *a, *b;

    static void act(void *const lanes[32], uint32_t)
    {
        value a[16][K], b[8][K];
        for (int lane = 0; lane < 32; lane++) {
            const mma_call *call = static_cast<const mma_call *>(lanes[lane]);
            const int g = lane / 4, t = lane % 4;
            for (int i = 0; i < P; i++) {
                for (int r = 0; r < 4; r++)
                    a[g + r % 2 * 8][P * t + r / 2 * 4 * P + i] = O::read(call->a[r], i);
                for (int r = 0; r < 2; r++)
                    b[g][P * t + r * 4 * P + i] = O::read(call->b[r], i);
            }
        }
        for (int lane = 0; lane < 32; lane++) {
            value *d = static_cast<const mma_call *>(lanes[lane])->d;
            for (int r = 0; r < 4; r++)
                d[r] = add_products(d[r], a[lane / 4 + r / 2 * 8], b[lane % 4 * 2 + r % 2]);
        }
    }

    static float add_products(float sum, const float *x, const float *y)
    {
        for (int k = 0; k < K; k++)
            sum += x[k] * y[k];
        return sum;
    }
    static int32_t add_products(int32_t sum, const int32_t *x, const int32_t *y)
    {
        uint32_t total = static_cast<uint32_t>(sum); /* which wraps around */
        for (int k = 0; k < K; k++)
            total += static_cast<uint32_t>(x[k] * y[k]);
        return static_cast<int32_t>(total);
    }
};

template <class O>
static inline void mma(const char *what, typename O::value *d, const uint32_t *a, const uint32_t *b,
                       site where)
{
    mma_call<O> call{d, a, b};
    warp_collective(what, 0xffffffffu, &call, &mma_call<O>::act, where);
}

struct ldmatrix_call {
    uint32_t *r;
    const void *row;
    int count;
    bool transposed;
    site where;

    static void act(void *const lanes[32], uint32_t)
    {
        const ldmatrix_call *first = static_cast<const ldmatrix_call *>(lanes[0]);
        uint16_t m[4][8][8];
        for (int i = 0; i < 8 * first->count; i++) {
            const ldmatrix_call *call = static_cast<const ldmatrix_call *>(lanes[i]);
            std::memcpy(m[i / 8][i % 8], call->row, 16);
        }
        for (int lane = 0; lane < 32; lane++)
            for (int j = 0; j < first->count; j++)
                static_cast<const ldmatrix_call *>(lanes[lane])->r[j] =
                    first->pair(m[j], lane / 4, lane % 4 * 2);
    }
    uint32_t pair(const uint16_t (*m)[8], int g, int t) const
    {
        const uint32_t low = transposed ? m[t][g] : m[g][t];
        const uint32_t high = transposed ? m[t + 1][g] : m[g][t + 1];
        return high << 16 | low;
    }
};

static inline void ldmatrix(const char *what, uint32_t *r, const void *row, int count, bool transposed,
                            site where)
{
    ldmatrix_call call{r, row, count, transposed, where};
    if (lane() < 8 * static_cast<unsigned>(count) && !is_shared(row, 16))
        kernel_fault(where, "%s: lane %u names what is not shared memory", what, lane());
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0)
        kernel_fault(where, "%s: lane %u names a row that is not aligned to 16 bytes", what, lane());
    warp_collective(what, 0xffffffffu, &call, &ldmatrix_call::act, where);
}

} // namespace cuda_host

static inline void sac_mma_bf16(float *d, const uint32_t *a, const uint32_t *b,
                                cuda_host::site where = cuda_host::here())
{
    cuda_host::mma<cuda_host::bf16_operand>("sac_mma_bf16", d, a, b, where);
}

static inline void sac_mma_f16(float *d, const uint32_t *a, const uint32_t *b,
                               cuda_host::site where = cuda_host::here())
{
    cuda_host::mma<cuda_host::f16_operand>("sac_mma_f16", d, a, b, where);
}

static inline void sac_mma_tf32(float *d, const uint32_t *a, const uint32_t *b,
                                cuda_host::site where = cuda_host::here())
{
    cuda_host::mma<cuda_host::tf32_operand>("sac_mma_tf32", d, a, b, where);
}

static inline void sac_mma_s8(int32_t *d, const uint32_t *a, const uint32_t *b,
                              cuda_host::site where = cuda_host::here())
{
    cuda_host::mma<cuda_host::s8_operand>("sac_mma_s8", d, a, b, where);
}

static inline uint32_t sac_tf32(float x)
{
    const uint32_t bits = cuda_host::bits_as<uint32_t>(x);
    if ((bits & 0x7f800000u) == 0x7f800000u)
        return bits; /* infinity and NaN stay */
    return (bits + 0x1000u) & ~0x1fffu;
}

static inline void sac_ldmatrix_x4(uint32_t *r, const void *row, cuda_host::site where = cuda_host::here())
{
    cuda_host::ldmatrix("sac_ldmatrix_x4", r, row, 4, false, where);
}

static inline void sac_ldmatrix_x4_trans(uint32_t *r, const void *row,
                                         cuda_host::site where = cuda_host::here())
{
    cuda_host::ldmatrix("sac_ldmatrix_x4_trans", r, row, 4, true, where);
}

static inline void sac_ldmatrix_x2(uint32_t *r, const void *row, cuda_host::site where = cuda_host::here())
{
    cuda_host::ldmatrix("sac_ldmatrix_x2", r, row, 2, false, where);
}

static inline void sac_ldmatrix_x2_trans(uint32_t *r, const void *row,
                                         cuda_host::site where = cuda_host::here())
{
    cuda_host::ldmatrix("sac_ldmatrix_x2_trans", r, row, 2, true, where);
}

#endif
