/* async_copy.h -- the host's side of kernels/cuda/async_copy.cuh: a copy lands when it is waited for. Until
 * then the target holds poison, because on the chip it may land at any time. */
#ifndef CUDA_HOST_ASYNC_COPY_H
#define CUDA_HOST_ASYNC_COPY_H

#include "machine.h"

template <uint32_t BYTES>
static inline void sac_copy_async_part(void *to, const void *from, uint32_t source_bytes,
                                       cuda_host::site where = cuda_host::here())
{
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "what the instruction copies");
    cuda_host::copy_later(to, from, BYTES, source_bytes, where);
}

static inline void sac_copy_async_commit()
{
    cuda_host::copies_commit();
}

template <uint32_t GROUPS> static inline void sac_copy_async_wait()
{
    cuda_host::copies_wait(GROUPS);
}

#endif
