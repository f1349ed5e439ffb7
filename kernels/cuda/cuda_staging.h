/* cuda_staging.h -- uploads of ordinary memory: through a ring of page-locked memory that belongs to the
 * stream, so that the caller has its bytes back at once and neither it nor the copy waits for the stream. */
#ifndef SACCADE_CUDA_STAGING_H
#define SACCADE_CUDA_STAGING_H

#include <cuda_runtime_api.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SAC_CUDA_STAGING_SECTIONS 4u
#define SAC_CUDA_STAGING_SECTION_BYTES ((size_t)1 << 20)

/* Begins as zeros; the ring is made when it is first needed. A section is filled by one or more uploads; when
 * it is full, an event marks in the stream that it has been read. */
typedef struct sac_cuda_staging {
    unsigned char *ring;
    cudaEvent_t read[SAC_CUDA_STAGING_SECTIONS];
    bool busy[SAC_CUDA_STAGING_SECTIONS]; /* its event is recorded, and nobody has waited for it */
    uint32_t section;                     /* the one that is being filled */
    size_t used;                          /* bytes of it */
} sac_cuda_staging;

cudaError_t sac_cuda_staging_upload(sac_cuda_staging *staging, cudaStream_t stream, void *to,
                                    const void *from, size_t bytes);

/* The stream has been waited for: the whole ring is free again. */
void sac_cuda_staging_reset(sac_cuda_staging *staging);

/* After the stream's last copy. */
void sac_cuda_staging_close(sac_cuda_staging *staging);

#ifdef __cplusplus
}
#endif
#endif
