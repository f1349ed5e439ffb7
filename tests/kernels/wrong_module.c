/* A module as libsaccade_cuda.so is one, but wrong: which way, the build says. */
#include "kernels/backend.h"

#if defined(WRONG_ABI) || defined(WRONG_VERSION)
__attribute__((visibility("default"))) sac_module_fn sac_cuda_backend;

const struct sac_backend *sac_cuda_backend(void)
{
    static const struct sac_backend backend = {
#if defined(WRONG_ABI)
        .abi = SAC_BACKEND_ABI + 1,
        .version = SACCADE_VERSION,
#else
        .abi = SAC_BACKEND_ABI,
        .version = "0.0.0",
#endif
        .name = "cuda",
    };

    return &backend;
}
#endif
