/* mirror.h -- an array that the host changes and operations read: kept twice, on the host and in device
 * memory, or once where the host sees the device's.
 *
 * The host changes `host` and says what it touched; a sync copies that to the device, in stream order. So
 * appending a handful of entries to an index of millions moves a few hundred bytes.
 */
#ifndef SACCADE_MIRROR_H
#define SACCADE_MIRROR_H

#include "kernels/device.h"

typedef struct sac_mirror {
    sac_device *device;
    size_t size;     /* of an element, in bytes */
    void *host;      /* [capacity]; NULL while there is none */
    void *copy;      /* the same in device memory; `host` itself where that is visible */
    uint64_t *dirty; /* bitmap over grains of elements; NULL where there is nothing to copy */
    size_t capacity;
} sac_mirror;

void sac_mirror_init(sac_mirror *mirror, sac_device *device, size_t size);
void sac_mirror_free(sac_mirror *mirror); /* zero-initialised is allowed */

/* Makes room for `count` elements, those that are new all zero; *moved, where given, becomes true when the
 * array has moved. What the stream (NULL: no stream) has yet to do with the old one is waited for. No one
 * else may read meanwhile. Errors: SAC_NO_MEMORY, SAC_DEVICE_MEMORY, SAC_DEVICE_LOST; then it is as it was.
 */
sac_status sac_mirror_reserve(sac_mirror *mirror, sac_stream *stream, size_t count, bool *moved,
                              sac_error *err);

/* Elements first .. first + count - 1 have changed on the host. */
void sac_mirror_touch(sac_mirror *mirror, size_t first, size_t count);

/* Copies what was touched to the device. */
sac_status sac_mirror_sync(sac_mirror *mirror, sac_stream *stream);

/* Bytes of each of the two. */
static inline uint64_t sac_mirror_bytes(const sac_mirror *mirror)
{
    return (uint64_t)mirror->capacity * mirror->size;
}

#endif
