#include "kernels/cpu/simd_avx2.h"

#include "kernels/cpu/layer_norm_simd.h"
