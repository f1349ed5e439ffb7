/* exif.c -- a bounded reader of EXIF's orientation tag.
 *
 * EXIF 2.32, section 4: a TIFF header ("II" or "MM", 42, offset of IFD0), then IFD0: a count of entries of 12
 * bytes each (tag, type, count, value). Directories may point at each other in circles, so none is followed.
 */
#include "engine/exif.h"

#include <string.h>

enum {
    ENTRIES_MAX = 64,
    ENTRY_BYTES = 12,
    TAG_ORIENTATION = 0x0112,
    TYPE_SHORT = 3,
    TYPE_LONG = 4,
    AS_STORED = 1
};

struct tiff {
    const uint8_t *bytes;
    size_t size;
    int big_endian;
};

static uint32_t read_u16(const struct tiff *t, size_t at)
{
    const uint8_t *p = t->bytes + at;

    return t->big_endian ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint32_t read_u32(const struct tiff *t, size_t at)
{
    uint32_t first = read_u16(t, at), second = read_u16(t, at + 2);

    return t->big_endian ? first << 16 | second : second << 16 | first;
}

static unsigned entry_orientation(const struct tiff *t, size_t at)
{
    uint32_t type = read_u16(t, at + 2), value;

    if (type == TYPE_SHORT)
        value = read_u16(t, at + 8);
    else if (type == TYPE_LONG)
        value = read_u32(t, at + 8);
    else
        return AS_STORED;
    return value >= 1 && value <= 8 ? value : AS_STORED;
}

unsigned sac_exif_orientation(const uint8_t *bytes, size_t size)
{
    struct tiff t = {bytes, size, 0};
    size_t ifd, count;

    if (size >= 6 && memcmp(bytes, "Exif\0\0", 6) == 0) {
        t.bytes += 6;
        t.size -= 6;
    }
    if (t.size < 8)
        return AS_STORED;
    if (memcmp(t.bytes, "MM", 2) == 0)
        t.big_endian = 1;
    else if (memcmp(t.bytes, "II", 2) != 0)
        return AS_STORED;
    ifd = read_u32(&t, 4);
    if (read_u16(&t, 2) != 42 || ifd < 8 || ifd > t.size - 2)
        return AS_STORED;

    count = read_u16(&t, ifd);
    if (count > ENTRIES_MAX)
        count = ENTRIES_MAX;
    for (size_t i = 0, at = ifd + 2; i < count && t.size - at >= ENTRY_BYTES; i++, at += ENTRY_BYTES)
        if (read_u16(&t, at) == TAG_ORIENTATION)
            return entry_orientation(&t, at);
    return AS_STORED;
}
