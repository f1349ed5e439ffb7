/* language.h -- the words CUDA adds to C++, for a host compiler. Everything in this folder is written for
 * tests: see ../../README.md for what a host run proves. */
#ifndef CUDA_HOST_LANGUAGE_H
#define CUDA_HOST_LANGUAGE_H

/* Standard headers come before the words, because some of them use the same identifiers. */
#include <algorithm>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#define __host__
#define __device__
#define __global__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))
/* Thread-local, because launches of several host threads run at the same time. The runtime finds these
 * variables by their symbols (function-local and thread-local), to spoil them before every block. */
#define __shared__ static thread_local

#endif
