/* cuda_runtime_api.h -- the functions, without the language. */
#include "cuda_host/api.h"
