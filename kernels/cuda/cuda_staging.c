#include "kernels/cuda/cuda_staging.h"

#include <string.h>

enum { PIECE_ALIGNMENT = 256 };

static cudaError_t staging_open(sac_cuda_staging *staging)
{
    void *ring = NULL;
    cudaError_t error = cudaSuccess;

    for (uint32_t i = 0; i < SAC_CUDA_STAGING_SECTIONS && error == cudaSuccess; i++)
        if (staging->read[i] == NULL)
            error =
                cudaEventCreateWithFlags(&staging->read[i], cudaEventDisableTiming | cudaEventBlockingSync);
    if (error == cudaSuccess)
        error = cudaHostAlloc(&ring, SAC_CUDA_STAGING_SECTIONS * SAC_CUDA_STAGING_SECTION_BYTES,
                              cudaHostAllocPortable);
    staging->ring = (unsigned char *)ring;
    return error;
}

/* Leaves the full section to the stream and waits until the next one has been read. */
static cudaError_t section_next(sac_cuda_staging *staging, cudaStream_t stream)
{
    uint32_t next = (staging->section + 1) % SAC_CUDA_STAGING_SECTIONS;
    cudaError_t error = cudaEventRecord(staging->read[staging->section], stream);

    if (error != cudaSuccess)
        return error;
    staging->busy[staging->section] = true;
    if (staging->busy[next])
        error = cudaEventSynchronize(staging->read[next]);
    if (error != cudaSuccess)
        return error;
    staging->busy[next] = false;
    staging->section = next;
    staging->used = 0;
    return cudaSuccess;
}

cudaError_t sac_cuda_staging_upload(sac_cuda_staging *staging, cudaStream_t stream, void *to,
                                    const void *from, size_t bytes)
{
    cudaError_t error = staging->ring == NULL ? staging_open(staging) : cudaSuccess;

    while (error == cudaSuccess && bytes > 0) {
        size_t left = SAC_CUDA_STAGING_SECTION_BYTES - staging->used;
        size_t piece = bytes < left ? bytes : left;
        unsigned char *at;

        if (left == 0) {
            error = section_next(staging, stream);
            continue;
        }
        at = staging->ring + staging->section * SAC_CUDA_STAGING_SECTION_BYTES + staging->used;
        memcpy(at, from, piece);
        error = cudaMemcpyAsync(to, at, piece, cudaMemcpyHostToDevice, stream);
        staging->used += (piece + PIECE_ALIGNMENT - 1) / PIECE_ALIGNMENT * PIECE_ALIGNMENT;
        to = (unsigned char *)to + piece;
        from = (const unsigned char *)from + piece;
        bytes -= piece;
    }
    return error;
}

void sac_cuda_staging_reset(sac_cuda_staging *staging)
{
    memset(staging->busy, 0, sizeof staging->busy);
    staging->section = 0;
    staging->used = 0;
}

void sac_cuda_staging_close(sac_cuda_staging *staging)
{
    for (uint32_t i = 0; i < SAC_CUDA_STAGING_SECTIONS; i++)
        if (staging->read[i] != NULL)
            (void)cudaEventDestroy(staging->read[i]);
    if (staging->ring != NULL)
        (void)cudaFreeHost(staging->ring);
}
