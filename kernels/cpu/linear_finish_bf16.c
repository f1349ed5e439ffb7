#include "kernels/cpu/simd_avx512.h"

#include "kernels/cpu/linear_finish_simd.h"
