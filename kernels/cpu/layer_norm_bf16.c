#include "kernels/cpu/simd_avx512.h"

#include "kernels/cpu/layer_norm_simd.h"
