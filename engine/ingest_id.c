#include "engine/ingest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

sac_id sac_ingest_id(const char *path, char buffer[SAC_ID_TEXT_MAX])
{
    size_t size = strlen(path), at;
    XXH128_hash_t hash;
    char head[40];

    if (size <= SAC_ID_TEXT_MAX)
        return (sac_id){0, path, size};
    hash = XXH3_128bits(path, size);
    snprintf(head, sizeof head, "~%016" PRIx64 "%016" PRIx64 "~", (uint64_t)hash.high64,
             (uint64_t)hash.low64);
    at = size - (SAC_ID_TEXT_MAX - 34);
    while (at < size && ((uint8_t)path[at] & 0xc0) == 0x80) /* the middle of a UTF-8 character */
        at++;
    memcpy(buffer, head, 34);
    memcpy(buffer + 34, path + at, size - at);
    return (sac_id){0, buffer, 34 + size - at};
}
