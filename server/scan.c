/* scan.c -- the first byte of a MessagePack value says its type; types differ in how many length bytes follow
 * and what the length counts. https://github.com/msgpack/msgpack/blob/master/spec.md */
#include "server/scan.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

void sac_scan_init(struct sac_scan *scan, const struct sac_scan_limits *limits)
{
    assert(limits->depth <= SAC_SCAN_DEPTH_MAX);
    memset(scan, 0, sizeof *scan);
    scan->limits = *limits;
}

static enum sac_scan_verdict refuse(struct sac_scan *scan, enum sac_scan_verdict verdict, const char *reason)
{
    scan->reason = reason;
    return verdict;
}

/* A value ended: so may have the arrays and maps that it was the last element of. */
static enum sac_scan_verdict finish(struct sac_scan *scan)
{
    while (scan->depth > 0) {
        if (--scan->left[scan->depth - 1] > 0)
            return SAC_SCAN_MORE;
        scan->depth--;
    }
    return SAC_SCAN_DONE;
}

/* Everything that has been promised needs at least its bytes. */
static bool fits(const struct sac_scan *scan)
{
    uint64_t room = scan->limits.bytes - scan->bytes;

    return scan->body <= room && scan->owed <= room - scan->body;
}

static enum sac_scan_verdict open_body(struct sac_scan *scan, uint64_t size)
{
    scan->body = size;
    if (!fits(scan))
        return refuse(scan, SAC_SCAN_TOO_LARGE, "more bytes than this method may send");
    return size == 0 ? finish(scan) : SAC_SCAN_MORE;
}

static enum sac_scan_verdict open_container(struct sac_scan *scan, uint64_t elements)
{
    scan->elements += elements;
    if (scan->elements > scan->limits.elements)
        return refuse(scan, SAC_SCAN_MALFORMED, "too many elements");
    if (scan->depth == scan->limits.depth)
        return refuse(scan, SAC_SCAN_MALFORMED, "nested too deeply");
    scan->owed += elements;
    if (!fits(scan))
        return refuse(scan, SAC_SCAN_TOO_LARGE, "more elements than this method's bytes can hold");
    if (elements == 0)
        return finish(scan);
    scan->left[scan->depth++] = (uint32_t)elements;
    return SAC_SCAN_MORE;
}

/* The length bytes are complete. */
static enum sac_scan_verdict with_length(struct sac_scan *scan)
{
    switch (scan->type) {
    case 0xdc: /* array 16, 32 */
    case 0xdd:
        return open_container(scan, scan->length);
    case 0xde: /* map 16, 32 */
    case 0xdf:
        return open_container(scan, 2 * (uint64_t)scan->length);
    default: /* bin and str */
        return open_body(scan, scan->length);
    }
}

static enum sac_scan_verdict want_length(struct sac_scan *scan, uint8_t type, uint8_t bytes)
{
    scan->type = type;
    scan->length = 0;
    scan->length_left = bytes;
    return SAC_SCAN_MORE;
}

static enum sac_scan_verdict first_byte(struct sac_scan *scan, uint8_t byte)
{
    static const uint8_t number_bytes[] = {4, 8, 1, 2, 4, 8, 1, 2, 4, 8}; /* float, uint, int: 0xca.. */

    if (scan->depth > 0)
        scan->owed--;
    if (byte <= 0x7f || byte >= 0xe0) /* small integers */
        return finish(scan);
    if (byte <= 0x8f)
        return open_container(scan, 2 * (uint64_t)(byte & 0x0f));
    if (byte <= 0x9f)
        return open_container(scan, byte & 0x0f);
    if (byte <= 0xbf)
        return open_body(scan, byte & 0x1f);
    if (byte >= 0xca && byte <= 0xd3)
        return open_body(scan, number_bytes[byte - 0xca]);
    switch (byte) {
    case 0xc0: /* nil, false, true */
    case 0xc2:
    case 0xc3:
        return finish(scan);
    case 0xc4: /* bin 8, str 8 */
    case 0xd9:
        return want_length(scan, byte, 1);
    case 0xc5: /* bin, str, array, map 16 */
    case 0xda:
    case 0xdc:
    case 0xde:
        return want_length(scan, byte, 2);
    case 0xc6: /* bin, str, array, map 32 */
    case 0xdb:
    case 0xdd:
    case 0xdf:
        return want_length(scan, byte, 4);
    case 0xc1:
        return refuse(scan, SAC_SCAN_MALFORMED, "byte 0xc1 is not MessagePack");
    default:
        return refuse(scan, SAC_SCAN_MALFORMED, "extension types are not part of the protocol");
    }
}

static enum sac_scan_verdict length_byte(struct sac_scan *scan, uint8_t byte)
{
    scan->length = scan->length << 8 | byte;
    return --scan->length_left > 0 ? SAC_SCAN_MORE : with_length(scan);
}

enum sac_scan_verdict sac_scan_feed(struct sac_scan *scan, const uint8_t *bytes, size_t n, size_t *used)
{
    enum sac_scan_verdict verdict = SAC_SCAN_MORE;
    size_t i = 0;

    while (i < n && verdict == SAC_SCAN_MORE) {
        if (scan->body > 0) { /* fits() has charged these bytes */
            size_t take = n - i < scan->body ? n - i : (size_t)scan->body;
            i += take;
            scan->bytes += take;
            scan->body -= take;
            if (scan->body == 0)
                verdict = finish(scan);
            continue;
        }
        if (scan->bytes == scan->limits.bytes) {
            verdict = refuse(scan, SAC_SCAN_TOO_LARGE, "more bytes than this method may send");
            break;
        }
        scan->bytes++;
        verdict = scan->length_left > 0 ? length_byte(scan, bytes[i]) : first_byte(scan, bytes[i]);
        i++;
    }
    *used = i;
    return verdict;
}
