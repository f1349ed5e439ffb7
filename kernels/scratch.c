/* The arena of a stream, handed out from its start. */
#include "kernels/backend.h"

size_t sac_scratch_size(size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX - (SAC_ALIGNMENT - 1))
        return SIZE_MAX;
    return (bytes + SAC_ALIGNMENT - 1) / SAC_ALIGNMENT * SAC_ALIGNMENT;
}

size_t sac_scratch_add(size_t a, size_t b)
{
    size_t sum;

    return __builtin_add_overflow(a, b, &sum) ? SIZE_MAX : sum;
}

void *sac_scratch_take(sac_stream *stream, size_t count, size_t size)
{
    size_t bytes = sac_scratch_size(count, size);
    void *piece;

    if (bytes > stream->scratch_bytes - stream->scratch_used)
        return NULL;
    piece = stream->scratch + stream->scratch_used;
    stream->scratch_used += bytes;
    return piece;
}

sac_stream sac_scratch_stream(const sac_stream *stream, void *arena, size_t bytes)
{
    sac_stream inner = {0};

    inner.device = stream->device;
    inner.scratch = (unsigned char *)arena;
    inner.scratch_bytes = bytes;
    return inner;
}
