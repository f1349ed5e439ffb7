/* exp2.cuh -- powers of two, as softmax needs them: one instruction of the special function units, of which a
 * multiprocessor finishes 16 a cycle.
 *
 * Off by 2^-22 relative. -inf gives 0, NaN gives NaN, and results below 2^-126 are 0. */
#ifndef SACCADE_CUDA_EXP2_CUH
#define SACCADE_CUDA_EXP2_CUH

#include <cuda_runtime.h>

static __device__ __forceinline__ float sac_exp2(float x)
{
#ifdef __CUDACC__
    float y;

    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    float y = exp2f(x);

    return y < 0x1p-126f ? 0.0f : y;
#endif
}

#endif
