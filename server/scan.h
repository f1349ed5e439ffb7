/* scan.h -- the structural scanner: one MessagePack value, byte by byte, without allocating.
 *
 * MessagePack-RPC has no length prefix, and 5 bytes can make an unpacker reserve 8 GiB. So nothing is
 * unpacked, and no memory is taken on a sender's word, before this scanner has walked the whole value. It
 * charges budgets the moment a header arrives: elements and body bytes that a header declares must fit into
 * what the limits still allow. Its cost is linear in the bytes, however they are split.
 */
#ifndef SACCADE_SERVER_SCAN_H
#define SACCADE_SERVER_SCAN_H

#include <stddef.h>
#include <stdint.h>

#define SAC_SCAN_DEPTH_MAX 16u

struct sac_scan_limits {
    uint64_t bytes;    /* of the whole value */
    uint32_t elements; /* declared by all arrays and maps of the value together; a map entry counts 2 */
    uint32_t depth;    /* nested arrays and maps, 0..SAC_SCAN_DEPTH_MAX */
};

enum sac_scan_verdict {
    SAC_SCAN_MORE,      /* every byte was taken; the value goes on */
    SAC_SCAN_DONE,      /* the value ends at *used */
    SAC_SCAN_TOO_LARGE, /* over limits.bytes, or declared to be */
    SAC_SCAN_MALFORMED, /* not MessagePack, an extension type, or over limits.elements or .depth */
};

struct sac_scan {
    struct sac_scan_limits limits;
    uint64_t bytes;    /* taken so far */
    uint64_t elements; /* declared so far */
    uint64_t owed;     /* declared and not begun */
    uint64_t body;     /* bytes left of a number, string or binary */
    uint32_t depth;
    uint32_t left[SAC_SCAN_DEPTH_MAX]; /* elements not finished at each level */
    uint8_t type;                      /* whose length bytes are being read */
    uint8_t length_left;               /* length bytes not read */
    uint32_t length;
    const char *reason; /* after a refusal: which rule was broken. Static storage. */
};

void sac_scan_init(struct sac_scan *scan, const struct sac_scan_limits *limits);

/* Takes up to n more bytes of the value; *used says how many. Not to be called again after another verdict
 * than SAC_SCAN_MORE. */
enum sac_scan_verdict sac_scan_feed(struct sac_scan *scan, const uint8_t *bytes, size_t n, size_t *used);

#endif
