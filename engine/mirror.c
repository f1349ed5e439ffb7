#include "engine/mirror.h"

#include <stdlib.h>
#include <string.h>

#define GRAIN 64u        /* elements of one dirty bit */
#define GAP_BYTES 16384u /* copied along, if they save a copy of their own */

void sac_mirror_init(sac_mirror *mirror, sac_device *device, size_t size)
{
    *mirror = (sac_mirror){.device = device, .size = size};
}

static void free_arrays(sac_mirror *mirror)
{
    if (mirror->copy != mirror->host)
        free(mirror->host);
    if (mirror->copy != NULL)
        sac_buffer_free(mirror->device, mirror->copy);
    free(mirror->dirty);
}

void sac_mirror_free(sac_mirror *mirror)
{
    free_arrays(mirror);
    *mirror = (sac_mirror){0};
}

static size_t grains(size_t count)
{
    return (count + GRAIN - 1) / GRAIN;
}

sac_status sac_mirror_reserve(sac_mirror *mirror, sac_stream *stream, size_t count, bool *moved,
                              sac_error *err)
{
    sac_mirror grown = *mirror, old = *mirror;
    sac_status st;

    if (count <= mirror->capacity)
        return SAC_OK;
    grown.capacity = count + count / 4 + GRAIN;
    grown.host = NULL;
    grown.dirty = NULL;
    st = sac_buffer_alloc(mirror->device, grown.capacity, mirror->size, &grown.copy, err);
    if (st != SAC_OK)
        return st;
    if (sac_device_host_visible(mirror->device)) {
        grown.host = grown.copy;
    } else {
        grown.host = reallocarray(NULL, grown.capacity, mirror->size);
        grown.dirty = calloc((grains(grown.capacity) + 63) / 64, sizeof *grown.dirty);
        st = grown.host == NULL || grown.dirty == NULL ? SAC_NO_MEMORY : SAC_OK;
        if (st == SAC_OK && mirror->capacity > 0 && stream != NULL)
            st = sac_stream_wait(stream);
    }
    if (st != SAC_OK) {
        free_arrays(&grown);
        return sac_fail(err, st, "no room for a directory of %zu entries: %s", count, sac_status_text(st));
    }
    if (mirror->capacity > 0)
        memcpy(grown.host, mirror->host, mirror->capacity * mirror->size);
    memset((unsigned char *)grown.host + mirror->capacity * mirror->size, 0,
           (grown.capacity - mirror->capacity) * mirror->size);
    *mirror = grown;
    free_arrays(&old);
    sac_mirror_touch(mirror, 0, mirror->capacity);
    if (moved != NULL)
        *moved = true;
    return SAC_OK;
}

void sac_mirror_touch(sac_mirror *mirror, size_t first, size_t count)
{
    if (mirror->dirty == NULL || count == 0)
        return;
    for (size_t g = first / GRAIN; g <= (first + count - 1) / GRAIN; g++)
        mirror->dirty[g / 64] |= UINT64_C(1) << g % 64;
}

/* The first dirty grain from `at` on; all of them lie below `end`. */
static size_t next_dirty(const sac_mirror *mirror, size_t at, size_t end)
{
    while (at < end) {
        uint64_t word = mirror->dirty[at / 64] >> at % 64;
        if (word != 0)
            return at + (size_t)__builtin_ctzll(word);
        at = (at / 64 + 1) * 64;
    }
    return end;
}

static size_t next_clean(const sac_mirror *mirror, size_t at, size_t end)
{
    while (at < end && (mirror->dirty[at / 64] >> at % 64 & 1) != 0)
        at++;
    return at;
}

static sac_status copy_grains(const sac_mirror *mirror, sac_stream *stream, size_t first, size_t end)
{
    size_t last = end * GRAIN < mirror->capacity ? end * GRAIN : mirror->capacity;
    size_t at = first * GRAIN * mirror->size;

    return sac_stream_upload(stream, (unsigned char *)mirror->copy + at,
                             (const unsigned char *)mirror->host + at, (last - first * GRAIN) * mirror->size);
}

sac_status sac_mirror_sync(sac_mirror *mirror, sac_stream *stream)
{
    size_t end = grains(mirror->capacity), gap = GAP_BYTES / (GRAIN * mirror->size + 1);
    sac_status st = SAC_OK;

    if (mirror->dirty == NULL)
        return SAC_OK;
    for (size_t first = next_dirty(mirror, 0, end); st == SAC_OK && first < end;) {
        size_t past = next_clean(mirror, first, end), next = next_dirty(mirror, past, end);
        while (next < end && next - past <= gap) {
            past = next_clean(mirror, next, end);
            next = next_dirty(mirror, past, end);
        }
        st = copy_grains(mirror, stream, first, past);
        first = next;
    }
    if (st == SAC_OK)
        memset(mirror->dirty, 0, (end + 63) / 64 * sizeof *mirror->dirty);
    return st;
}
