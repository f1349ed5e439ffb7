/* The structural scanner: real encodings, bombs, and that no way of cutting a message changes the verdict. */
#include "server/scan.h"

#include "tests/data.h"

#include <jansson.h>
#include <stdbool.h>
#include <string.h>

static const struct sac_scan_limits generous = {1 << 20, 65536, 16};

struct outcome {
    enum sac_scan_verdict verdict;
    size_t used; /* of all pieces */
};

/* Feeds bytes in pieces that end before the offsets cut[0], cut[1], ... */
static struct outcome scan_pieces(const uint8_t *bytes, size_t n, const struct sac_scan_limits *limits,
                                  const size_t *cuts, size_t cut_count)
{
    struct outcome out = {SAC_SCAN_MORE, 0};
    struct sac_scan scan;
    size_t at = 0;

    sac_scan_init(&scan, limits);
    for (size_t i = 0; i <= cut_count && out.verdict == SAC_SCAN_MORE; i++) {
        size_t end = i < cut_count ? cuts[i] : n, used;
        out.verdict = sac_scan_feed(&scan, bytes + at, end - at, &used);
        out.used += used;
        at += used;
    }
    return out;
}

static struct outcome scan_whole(const uint8_t *bytes, size_t n, const struct sac_scan_limits *limits)
{
    return scan_pieces(bytes, n, limits, NULL, 0);
}

static void check_every_split(const uint8_t *bytes, size_t n, const struct sac_scan_limits *limits)
{
    struct outcome whole = scan_whole(bytes, n, limits);
    size_t *every = malloc((n + 1) * sizeof *every);

    for (size_t cut = 0; cut <= n; cut++) {
        struct outcome split = scan_pieces(bytes, n, limits, &cut, 1);
        assert_int_equal(split.verdict, whole.verdict);
        assert_int_equal(split.used, whole.used);
        every[cut] = cut;
    }
    struct outcome bytewise = scan_pieces(bytes, n, limits, every, n + 1);
    assert_int_equal(bytewise.verdict, whole.verdict);
    assert_int_equal(bytewise.used, whole.used);
    free(every);
}

static size_t from_hex(const char *hex, uint8_t *out, size_t capacity)
{
    size_t n = 0;
    unsigned byte;

    while (*hex != '\0' && n < capacity) {
        if (*hex == '-') {
            hex++;
            continue;
        }
        if (sscanf(hex, "%2x", &byte) != 1)
            return 0;
        out[n++] = (uint8_t)byte;
        hex += 2;
    }
    return n;
}

static bool is_extension(json_t *sample)
{
    return json_object_get(sample, "ext") != NULL || json_object_get(sample, "timestamp") != NULL;
}

static void test_conformance_suite(void **state)
{
    json_t *groups = json_load_file(sac_test_data_need("msgpack/msgpack-test-suite.json"), 0, NULL), *group;
    const char *name;
    size_t encodings = 0;

    (void)state;
    assert_non_null(groups);
    json_object_foreach(groups, name, group)
    {
        size_t i, j;
        json_t *sample, *encoding;
        json_array_foreach(group, i, sample)
        {
            json_array_foreach(json_object_get(sample, "msgpack"), j, encoding)
            {
                uint8_t bytes[65536];
                size_t n = from_hex(json_string_value(encoding), bytes, sizeof bytes - 1);
                struct outcome whole = scan_whole(bytes, n, &generous);
                assert_int_equal(whole.verdict, is_extension(sample) ? SAC_SCAN_MALFORMED : SAC_SCAN_DONE);
                if (!is_extension(sample)) {
                    assert_int_equal(whole.used, n);
                    bytes[n] = 0xc0; /* what follows belongs to the next message */
                    assert_int_equal(scan_whole(bytes, n + 1, &generous).used, n);
                    assert_int_equal(scan_whole(bytes, n - 1, &generous).verdict, SAC_SCAN_MORE);
                }
                check_every_split(bytes, n, &generous);
                encodings++;
            }
        }
    }
    assert_in_range(encodings, 200, 1000);
    json_decref(groups);
}

#define BOMB(verdict, ...)                                       \
    {                                                            \
        verdict, {__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}) \
    }

static void test_bombs_are_refused_at_their_header(void **state)
{
    static const struct {
        enum sac_scan_verdict verdict;
        uint8_t bytes[12];
        size_t n;
    } bombs[] = {
        BOMB(SAC_SCAN_MALFORMED, 0xdd, 0x10, 0x00, 0x00, 0x00), /* array 32 */
        BOMB(SAC_SCAN_MALFORMED, 0xdd, 0xff, 0xff, 0xff, 0xff), /* the largest */
        BOMB(SAC_SCAN_MALFORMED, 0xdf, 0x80, 0x00, 0x00, 0x00), /* map 32: twice as many */
        BOMB(SAC_SCAN_MALFORMED, 0xdf, 0xff, 0xff, 0xff, 0xff),
        BOMB(SAC_SCAN_TOO_LARGE, 0xdb, 0xff, 0xff, 0xff, 0xff),             /* str 32 */
        BOMB(SAC_SCAN_TOO_LARGE, 0xc6, 0x00, 0x10, 0x00, 0x00),             /* bin 32: 5 bytes too many */
        BOMB(SAC_SCAN_MALFORMED, 0x92, 0xdc, 0xff, 0xff, 0xdc, 0xff, 0xff), /* only their sum is too much */
        BOMB(SAC_SCAN_MALFORMED, 0xc1),                                     /* never used */
        BOMB(SAC_SCAN_MALFORMED, 0xc7, 0x01, 0x01, 0x00),                   /* ext 8 */
        BOMB(SAC_SCAN_MALFORMED, 0xd4, 0x01, 0x00),                         /* fixext 1 */
    };

    (void)state;
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        struct outcome whole = scan_whole(bombs[i].bytes, bombs[i].n, &generous);
        assert_int_equal(whole.verdict, bombs[i].verdict);
        check_every_split(bombs[i].bytes, bombs[i].n, &generous);
    }
}

static void test_nesting(void **state)
{
    uint8_t bytes[100000];
    struct sac_scan_limits limits = generous;

    (void)state;
    memset(bytes, 0x91, sizeof bytes); /* an array of one array of one ... */
    for (limits.depth = 0; limits.depth <= SAC_SCAN_DEPTH_MAX; limits.depth++) {
        struct outcome out = scan_whole(bytes, sizeof bytes, &limits);
        assert_int_equal(out.verdict, SAC_SCAN_MALFORMED);
        assert_int_equal(out.used, limits.depth + 1);
        bytes[limits.depth] = 0xc0;
        assert_int_equal(scan_whole(bytes, sizeof bytes, &limits).verdict, SAC_SCAN_DONE);
        bytes[limits.depth] = 0x91;
    }
}

static void test_limits_are_exact(void **state)
{
    const uint8_t array[] = {0x93, 1, 2, 3}, text[] = {0xa3, 'a', 'b', 'c'}, empty[] = {0x90};

    (void)state;
    assert_int_equal(scan_whole(array, 4, &(struct sac_scan_limits){4, 3, 1}).verdict, SAC_SCAN_DONE);
    assert_int_equal(scan_whole(array, 4, &(struct sac_scan_limits){4, 2, 1}).verdict, SAC_SCAN_MALFORMED);
    assert_int_equal(scan_whole(array, 4, &(struct sac_scan_limits){4, 3, 0}).verdict, SAC_SCAN_MALFORMED);
    struct outcome early = scan_whole(array, 4, &(struct sac_scan_limits){3, 3, 1});
    assert_int_equal(early.verdict, SAC_SCAN_TOO_LARGE);
    assert_int_equal(early.used, 1); /* three elements need three bytes: the header is enough to know */
    assert_int_equal(scan_whole(text, 4, &(struct sac_scan_limits){4, 0, 0}).verdict, SAC_SCAN_DONE);
    early = scan_whole(text, 4, &(struct sac_scan_limits){3, 0, 0});
    assert_int_equal(early.verdict, SAC_SCAN_TOO_LARGE);
    assert_int_equal(early.used, 1);
    assert_int_equal(scan_whole(empty, 1, &(struct sac_scan_limits){1, 0, 1}).verdict, SAC_SCAN_DONE);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13; /* xorshift, Marsaglia 2003 */
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Bytes that look like MessagePack, and mostly are not. */
static size_t random_bytes(uint64_t *seed, uint8_t *out, size_t capacity)
{
    static const uint8_t types[] = {0x80, 0x81, 0x90, 0x92, 0x95, 0xa0, 0xa4, 0xc0, 0xc3, 0xc4, 0xc5,
                                    0xca, 0xcb, 0xcc, 0xcf, 0xd3, 0xd9, 0xda, 0xdc, 0xde, 0x00, 0xff};
    size_t n = 1 + next_random(seed) % capacity;

    for (size_t i = 0; i < n; i++) {
        uint64_t r = next_random(seed);
        out[i] = r % 3 == 0 ? (uint8_t)(r >> 8) % 4 : types[(r >> 8) % sizeof types];
    }
    return n;
}

static void test_any_split_gives_the_same_verdict(void **state)
{
    const struct sac_scan_limits tight = {48, 24, 4};
    uint64_t seed = 20261121;
    unsigned seen[4] = {0};

    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint8_t bytes[64];
        size_t n = random_bytes(&seed, bytes, sizeof bytes);
        check_every_split(bytes, n, &tight);
        seen[scan_whole(bytes, n, &tight).verdict]++;
    }
    for (int v = 0; v < 4; v++) /* all four verdicts were among them */
        assert_in_range(seen[v], 20, 20000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conformance_suite),
        cmocka_unit_test(test_bombs_are_refused_at_their_header),
        cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_limits_are_exact),
        cmocka_unit_test(test_any_split_gives_the_same_verdict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
