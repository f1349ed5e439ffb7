/* jpeg_header.c -- a linear walk over a JPEG's markers (ITU-T T.81, annex B).
 *
 * The decoder library would read all of this too, but it would also build what the header asks for. Here
 * nothing is allocated and each byte is looked at once, so sizes and kinds can be refused for free.
 */
#include "engine/jpeg_header.h"
#include "engine/exif.h"

#include <stdbool.h>
#include <string.h>

enum {
    M_TEM = 0x01,
    M_SOF0 = 0xC0,
    M_DHT = 0xC4,
    M_JPG = 0xC8,
    M_DAC = 0xCC,
    M_SOF15 = 0xCF,
    M_RST0 = 0xD0,
    M_SOI = 0xD8,
    M_EOI = 0xD9,
    M_SOS = 0xDA,
    M_APP1 = 0xE1
};

/* The next marker at or after *at; stray bytes before it are passed over, as every decoder does. */
static int next_marker(const uint8_t *bytes, size_t size, size_t *at)
{
    for (;;) {
        const uint8_t *ff = *at < size ? memchr(bytes + *at, 0xFF, size - *at) : NULL;

        if (ff == NULL)
            return -1;
        *at = (size_t)(ff - bytes);
        while (*at < size && bytes[*at] == 0xFF)
            ++*at;
        if (*at == size)
            return -1;
        if (bytes[(*at)++] != 0)
            return bytes[*at - 1];
    }
}

static bool is_frame(int marker)
{
    return marker >= M_SOF0 && marker <= M_SOF15 && marker != M_DHT && marker != M_JPG && marker != M_DAC;
}

static bool stands_alone(int marker)
{
    return marker == M_TEM || (marker >= M_RST0 && marker <= M_SOI);
}

/* Blocks of every component, by the sampling factors (T.81, A.2.4). Bad factors count as 1 to 4: the
 * decoder will refuse them. */
static uint64_t count_blocks(const sac_jpeg_header *h, const uint8_t *specs)
{
    uint64_t per_mcu = 0, mcus;
    uint32_t across = 1, down = 1;

    for (unsigned c = 0; c < h->components; c++) {
        uint32_t sampling_x = specs[3 * c + 1] >> 4 & 7, sampling_y = specs[3 * c + 1] & 7;

        across = sampling_x > across ? sampling_x : across;
        down = sampling_y > down ? sampling_y : down;
        per_mcu += (uint64_t)sampling_x * sampling_y;
    }
    mcus = (uint64_t)((h->width + 8 * across - 1) / (8 * across)) * ((h->height + 8 * down - 1) / (8 * down));
    return mcus * (per_mcu > 0 ? per_mcu : 1);
}

static sac_status read_frame(const uint8_t *segment, size_t length, sac_jpeg_header *out, sac_error *err)
{
    if (length < 6 || length < 6 + 3 * (size_t)segment[5])
        return sac_fail(err, SAC_IMAGE_CORRUPT, "the JPEG's frame header is cut short");
    out->precision = segment[0];
    out->height = (uint16_t)(segment[1] << 8 | segment[2]);
    out->width = (uint16_t)(segment[3] << 8 | segment[4]);
    out->components = segment[5];
    out->blocks = count_blocks(out, segment + 6);
    return SAC_OK;
}

sac_status sac_jpeg_header_read(const uint8_t *bytes, size_t size, sac_jpeg_header *out, sac_error *err)
{
    bool frame_seen = false, exif_seen = false;
    size_t at = 2;
    int marker;

    memset(out, 0, sizeof *out);
    out->orientation = 1;
    while ((marker = next_marker(bytes, size, &at)) >= 0 && marker != M_SOS && marker != M_EOI) {
        const uint8_t *segment = bytes + at + 2;
        size_t length;

        if (stands_alone(marker))
            continue;
        if (size - at < 2)
            break;
        length = (size_t)bytes[at] << 8 | bytes[at + 1];
        if (length < 2)
            return sac_fail(err, SAC_IMAGE_CORRUPT, "JPEG marker 0x%02x at byte %zu has length %zu", marker,
                            at - 1, length);
        if (length > size - at)
            break;
        length -= 2;
        if (is_frame(marker) && !frame_seen) {
            sac_status st = read_frame(segment, length, out, err);

            if (st != SAC_OK)
                return st;
            out->frame = (uint8_t)(marker - M_SOF0);
            frame_seen = true;
        } else if (marker == M_APP1 && !exif_seen && length >= 6 && memcmp(segment, "Exif\0\0", 6) == 0) {
            out->orientation = sac_exif_orientation(segment, length);
            exif_seen = true;
        }
        at += 2 + length;
    }
    if (!frame_seen)
        return sac_fail(err, SAC_IMAGE_CORRUPT,
                        "the JPEG's %zu bytes hold no frame header: cut short or damaged", size);
    return SAC_OK;
}

static const char *frame_name(uint8_t frame)
{
    switch (frame) {
    case 3:
        return "lossless JPEG (SOF3)";
    case 9:
    case 10:
        return "arithmetic coded JPEG (SOF9, SOF10)";
    case 11:
        return "arithmetic coded lossless JPEG (SOF11)";
    default:
        return "hierarchical JPEG (SOF5 to SOF7, SOF13 to SOF15)";
    }
}

sac_status sac_jpeg_header_supported(const sac_jpeg_header *h, sac_error *err)
{
    if (h->frame > 2)
        return sac_fail(err, SAC_IMAGE_REJECTED,
                        "%s is not supported: only baseline, extended and progressive Huffman coding are",
                        frame_name(h->frame));
    if (h->precision != 8)
        return sac_fail(err, SAC_IMAGE_REJECTED, "JPEG of %u bits a sample is not supported: only 8 are",
                        h->precision);
    if (h->components != 1 && h->components != 3 && h->components != 4)
        return sac_fail(err, SAC_IMAGE_REJECTED,
                        "JPEG of %u components is not supported: only 1 (grey), 3 (colour) and 4 (CMYK) are",
                        h->components);
    if (h->height == 0)
        return sac_fail(err, SAC_IMAGE_REJECTED,
                        "a JPEG that names its height after the picture (DNL) is not supported");
    return SAC_OK;
}
