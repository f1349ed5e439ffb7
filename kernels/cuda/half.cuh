/* half.cuh -- the bits of IEEE 754 binary16, as rows store them, and of bfloat16, as activations are, from
 * and to f32: one instruction each way. Rounding is to nearest, ties to even. */
#ifndef SACCADE_CUDA_HALF_CUH
#define SACCADE_CUDA_HALF_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

static __device__ __forceinline__ float sac_half_to_float(uint16_t half)
{
    return __half2float(__ushort_as_half(half));
}

static __device__ __forceinline__ uint16_t sac_float_to_half(float x)
{
    return __half_as_ushort(__float2half_rn(x));
}

/* Two of bfloat16, the first in the lower half. */
static __device__ __forceinline__ uint32_t sac_bf16_pair(float low, float high)
{
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);

    return __bfloat16_as_ushort(pair.x) | (uint32_t)__bfloat16_as_ushort(pair.y) << 16;
}

#endif
