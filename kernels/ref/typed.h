/* typed.h -- one element of an array whose type is known at run time only: SAC_F32, SAC_F16 or SAC_BF16. */
#ifndef SACCADE_TYPED_H
#define SACCADE_TYPED_H

#include "kernels/half.h"
#include "kernels/ops.h"

#include <assert.h>

static inline size_t sac_dtype_size(sac_dtype dtype)
{
    assert(dtype != SAC_I8);
    return dtype == SAC_F32 ? 4 : 2;
}

static inline float sac_typed_get(const void *array, sac_dtype dtype, size_t i)
{
    switch (dtype) {
    case SAC_F16:
        return sac_f16_to_f32(((const uint16_t *)array)[i]);
    case SAC_BF16:
        return sac_bf16_to_f32(((const uint16_t *)array)[i]);
    case SAC_F32:
    case SAC_I8:
        break;
    }
    assert(dtype != SAC_I8);
    return ((const float *)array)[i];
}

static inline void sac_typed_set(void *array, sac_dtype dtype, size_t i, float value)
{
    switch (dtype) {
    case SAC_F16:
        ((uint16_t *)array)[i] = sac_f32_to_f16(value);
        return;
    case SAC_BF16:
        ((uint16_t *)array)[i] = sac_f32_to_bf16(value);
        return;
    case SAC_F32:
    case SAC_I8:
        break;
    }
    assert(dtype != SAC_I8);
    ((float *)array)[i] = value;
}

#endif
