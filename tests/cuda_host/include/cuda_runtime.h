/* cuda_runtime.h -- found instead of CUDA's where kernels are built for a host run. */
#ifndef CUDA_HOST_RUNTIME_H
#define CUDA_HOST_RUNTIME_H

#include "cuda_host/api.h"
#include "cuda_host/atomics.h"
#include "cuda_host/language.h"
#include "cuda_host/launch.h"
#include "cuda_host/machine.h"
#include "cuda_host/math.h"
#include "cuda_host/sync.h"
#include "cuda_host/vectors.h"

#endif
