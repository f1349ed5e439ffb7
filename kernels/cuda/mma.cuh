/* mma.cuh -- products of small matrices by a warp, on the tensor cores: D += A B.
 *
 * Every lane calls, with its own part (fragment) of each matrix in registers. With g = lane / 4 and
 * t = lane % 4, a lane holds, each register's elements from its low bits up:
 *
 *   16-bit operands (sac_mma_bf16, sac_mma_f16): A is 16 x 16, B is 16 x 8
 *     a[0] A[g    ][2t, 2t+1]      a[2] A[g    ][2t+8, 2t+9]      b[0] B[2t,   2t+1][g]
 *     a[1] A[g + 8][2t, 2t+1]      a[3] A[g + 8][2t+8, 2t+9]      b[1] B[2t+8, 2t+9][g]
 *   tf32 (sac_mma_tf32): A is 16 x 8, B is 8 x 8
 *     a[0] A[g    ][t]             a[2] A[g    ][t + 4]           b[0] B[t    ][g]
 *     a[1] A[g + 8][t]             a[3] A[g + 8][t + 4]           b[1] B[t + 4][g]
 *   8-bit integers (sac_mma_s8): A is 16 x 32, B is 32 x 8
 *     a[0] A[g    ][4t .. 4t+3]    a[2] A[g    ][4t+16 .. 4t+19]  b[0] B[4t    .. 4t+3 ][g]
 *     a[1] A[g + 8][4t .. 4t+3]    a[3] A[g + 8][4t+16 .. 4t+19]  b[1] B[4t+16 .. 4t+19][g]
 *   all: D is 16 x 8
 *     d[0] D[g][2t]   d[1] D[g][2t + 1]   d[2] D[g + 8][2t]   d[3] D[g + 8][2t + 1]
 *
 * So B is stored as its columns: with B[k][n] = y[n][k], row-major y serves as it lies.
 *
 * sac_ldmatrix_x4 fetches four 8 x 8 matrices of 16-bit elements from shared memory. Lane i names row i % 8
 * of matrix i / 8: 16 bytes, aligned to 16. In r[j] a lane gets M_j[g][2t, 2t+1]; with _trans M_j[2t,
 * 2t+1][g], which is how a row-major B becomes an operand. The x2 forms fetch two matrices, named by lanes 0
 * to 15 (the other lanes' addresses are not looked at, but valid). For the A operand of 16-bit products the
 * matrices are (rows 0-7, k 0-7), (rows 8-15, k 0-7), (rows 0-7, k 8-15), (rows 8-15, k 8-15): lane i gives
 * the address of A[i % 16][i / 16 * 8].
 *
 * Products are exact, sums are in f32 in an order of the hardware's own (and rounded its own way: expect
 * 2^-23 of the largest sum for each step of k). tf32 operands are f32 of which only 10 bits of mantissa are
 * used: round them with sac_tf32 first, or they are cut off. The fragment layouts are those of the PTX ISA,
 * "Matrix Fragments for mma.m16n8k16" and its neighbours; all of this runs on sm_80 and later. */
#ifndef SACCADE_CUDA_MMA_CUH
#define SACCADE_CUDA_MMA_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#ifdef __CUDACC__

static __device__ __forceinline__ void sac_mma_bf16(float *d, const uint32_t *a, const uint32_t *b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ void sac_mma_f16(float *d, const uint32_t *a, const uint32_t *b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ void sac_mma_tf32(float *d, const uint32_t *a, const uint32_t *b)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ void sac_mma_s8(int32_t *d, const uint32_t *a, const uint32_t *b)
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* To the nearest tf32, ties away from zero: the bits, as sac_mma_tf32 takes them. */
static __device__ __forceinline__ uint32_t sac_tf32(float x)
{
    uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}

static __device__ __forceinline__ void sac_ldmatrix_x4(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

static __device__ __forceinline__ void sac_ldmatrix_x4_trans(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

static __device__ __forceinline__ void sac_ldmatrix_x2(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

static __device__ __forceinline__ void sac_ldmatrix_x2_trans(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}

#else
#include <cuda_host/mma.h> /* the same functions, for a host run */
#endif

#endif
