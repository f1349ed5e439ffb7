/* The scanner against the unpacker: what the scanner lets through, msgpack-c unpacks, whole and in the same
 * bytes; and no way of cutting the input changes the verdict. */
#include "server/scan.h"

#include <msgpack.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const struct sac_scan_limits limits = {1 << 16, 8192, 16};
    struct sac_scan whole, pieces;
    size_t used = 0, taken = 0, part;
    enum sac_scan_verdict verdict, verdict_pieces = SAC_SCAN_MORE;

    sac_scan_init(&whole, &limits);
    verdict = sac_scan_feed(&whole, bytes, size, &used);
    sac_scan_init(&pieces, &limits);
    while (taken < size && verdict_pieces == SAC_SCAN_MORE) {
        size_t n = 1 + bytes[taken] % 7;
        verdict_pieces = sac_scan_feed(&pieces, bytes + taken, n < size - taken ? n : size - taken, &part);
        taken += part;
    }
    if (verdict != verdict_pieces || used != taken)
        abort();
    if (verdict == SAC_SCAN_DONE) {
        msgpack_zone zone;
        msgpack_object object;
        size_t end = 0;
        msgpack_zone_init(&zone, 1024);
        msgpack_unpack_return ret = msgpack_unpack((const char *)bytes, used, &end, &zone, &object);
        if (ret != MSGPACK_UNPACK_SUCCESS || end != used)
            abort();
        msgpack_zone_destroy(&zone);
    }
    return 0;
}
