/* half.cuh -- IEEE 754 binary16 on the device: one instruction each way; in a host run, half.h. Rounding is
 * to nearest, ties to even. */
#ifndef SACCADE_CUDA_HALF_CUH
#define SACCADE_CUDA_HALF_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#ifdef __CUDACC__

#include <cuda_fp16.h>

static __device__ __forceinline__ float sac_half_to_float(uint16_t half)
{
    return __half2float(__ushort_as_half(half));
}

static __device__ __forceinline__ uint16_t sac_float_to_half(float x)
{
    return __half_as_ushort(__float2half_rn(x));
}

#else

#include "kernels/half.h"

static inline float sac_half_to_float(uint16_t half)
{
    return sac_f16_to_f32(half);
}

static inline uint16_t sac_float_to_half(float x)
{
    return sac_f32_to_f16(x);
}

#endif
#endif
