/* Small files that ask for much: they are refused before the memory or the time is spent. */
#include "engine/saccade.h"
#include "tests/file.h"

#include <string.h>
#include <sys/resource.h>
#include <time.h>

struct jpeg {
    uint8_t *bytes;
    size_t size, capacity;
    uint32_t bits; /* of the entropy coded segment, not yet written */
    int bit_count;
};

static void put(struct jpeg *j, const void *bytes, size_t size)
{
    if (j->size + size > j->capacity) {
        j->capacity = 2 * (j->size + size);
        j->bytes = realloc(j->bytes, j->capacity);
        assert_non_null(j->bytes);
    }
    memcpy(j->bytes + j->size, bytes, size);
    j->size += size;
}

static void put_byte(struct jpeg *j, uint32_t value)
{
    uint8_t byte = (uint8_t)value;

    put(j, &byte, 1);
}

static void put_bits(struct jpeg *j, uint32_t bits, int count)
{
    j->bits = j->bits << count | bits;
    for (j->bit_count += count; j->bit_count >= 8; j->bit_count -= 8) {
        uint32_t byte = j->bits >> (j->bit_count - 8) & 0xff;

        put_byte(j, byte);
        if (byte == 0xff)
            put_byte(j, 0);
    }
}

static void flush_bits(struct jpeg *j)
{
    while (j->bit_count > 0)
        put_bits(j, 1, 1);
    j->bits = 0;
}

/* SOI, a quantization table of ones, the frame, and two Huffman tables whose one code of one bit means "no
 * difference" (DC) and "32767 blocks without coefficients" (AC, with 14 bits behind it). */
static struct jpeg begin_jpeg(uint8_t frame, uint32_t width, uint32_t height, uint8_t components)
{
    static const uint8_t dc_table[] = {0xff, 0xc4, 0, 20, 0x00, 1, 0, 0, 0, 0, 0,
                                       0,    0,    0, 0,  0,    0, 0, 0, 0, 0, 0x00};
    static const uint8_t ac_table[] = {0xff, 0xc4, 0, 20, 0x10, 1, 0, 0, 0, 0, 0,
                                       0,    0,    0, 0,  0,    0, 0, 0, 0, 0, 0xe0};
    const uint8_t sizes[] = {
        8, (uint8_t)(height >> 8), (uint8_t)height, (uint8_t)(width >> 8), (uint8_t)width, components};
    struct jpeg j = {0};

    put(&j, "\xff\xd8\xff\xdb\0\x43\0", 7);
    for (int i = 0; i < 64; i++)
        put_byte(&j, 1);
    put_byte(&j, 0xff);
    put_byte(&j, 0xc0 + frame);
    put_byte(&j, 0);
    put_byte(&j, 8 + 3u * components);
    put(&j, sizes, sizeof sizes);
    for (uint8_t c = 1; c <= components; c++) {
        const uint8_t spec[] = {c, 0x11, 0};

        put(&j, spec, sizeof spec);
    }
    put(&j, dc_table, sizeof dc_table);
    put(&j, ac_table, sizeof ac_table);
    return j;
}

/* A scan of the first component. */
static void begin_scan(struct jpeg *j, uint8_t first, uint8_t last)
{
    const uint8_t scan[] = {0xff, 0xda, 0, 8, 1, 1, 0x00, first, last, 0};

    put(j, scan, sizeof scan);
}

/* A grey progressive picture whose blocks are all visited by each of many scans. */
static struct jpeg scan_bomb(uint32_t side, int scans)
{
    struct jpeg j = begin_jpeg(2, side, side, 1);
    uint32_t blocks = (side / 8) * (side / 8);

    begin_scan(&j, 0, 0);
    for (uint32_t i = 0; i < blocks; i++)
        put_bits(&j, 0, 1);
    flush_bits(&j);
    for (int s = 1; s < scans; s++) {
        begin_scan(&j, 1, 63);
        for (uint32_t covered = 0; covered < blocks; covered += 32767)
            put_bits(&j, 0x3fff, 15);
        flush_bits(&j);
    }
    put(&j, "\xff\xd9", 2);
    return j;
}

static double thread_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static long peak_kilobytes(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { SHADOW = 4 }; /* sanitizers need time and memory of their own */
#else
enum { SHADOW = 1 };
#endif

/* Decodes, wants a refusal that says `words`, within bounds of time and memory that are generous. */
static void assert_refused(const uint8_t *bytes, size_t size, const sac_image_limits *limits,
                           const char *words, long kilobytes)
{
    long peak = peak_kilobytes();
    double start = thread_seconds();
    sac_error err = {SAC_OK, ""};
    sac_image *image;
    sac_status st = sac_image_decode(bytes, size, limits, &image, &err);

    if (st != SAC_IMAGE_REJECTED || strstr(err.text, words) == NULL)
        fail_msg("wanted a refusal with \"%s\", got %s: %s", words, sac_status_name(st), err.text);
    assert_null(image);
    assert_true(thread_seconds() - start < SHADOW * 1.0);
    if (peak_kilobytes() - peak > SHADOW * kilobytes)
        fail_msg("\"%s\" came after %ld kB", words, peak_kilobytes() - peak);
}

static sac_image_limits limits_but_pixels(void)
{
    sac_image_limits limits;

    sac_image_limits_init(&limits);
    limits.pixels = limits.pixels_progressive = 1000000000;
    limits.milliseconds = 60000;
    return limits;
}

static void huge_frames_are_refused_by_their_header(void **state)
{
    struct jpeg baseline = begin_jpeg(0, 65500, 65500, 1), progressive = begin_jpeg(2, 16000, 16000, 3);
    struct jpeg long_one = begin_jpeg(0, 65500, 20, 3);

    (void)state;
    begin_scan(&baseline, 0, 63);
    begin_scan(&progressive, 0, 0);
    begin_scan(&long_one, 0, 63);
    assert_refused(baseline.bytes, baseline.size, NULL, "65500x65500 is over the limit of 40 million pixels",
                   1024);
    assert_refused(progressive.bytes, progressive.size, NULL, "16000x16000 is over the limit of 24 million",
                   1024);
    assert_refused(long_one.bytes, long_one.size, NULL, "65500x20 is over the limit of 16384 pixels a side",
                   1024);
    free(baseline.bytes);
    free(progressive.bytes);
    free(long_one.bytes);
}

static void coefficients_stay_within_the_decoders_memory(void **state)
{
    struct jpeg j = begin_jpeg(2, 16000, 16000, 3);
    sac_image_limits limits = limits_but_pixels();

    (void)state;
    begin_scan(&j, 0, 0);
    put_bits(&j, 0, 8);
    put(&j, "\xff\xd9", 2);
    assert_refused(j.bytes, j.size, &limits, "more than the limit of 201326592 bytes", 4096);
    free(j.bytes);
}

static void scans_are_counted_by_their_work(void **state)
{
    struct jpeg small = scan_bomb(4096, 200), large = scan_bomb(8192, 3000);
    sac_image_limits limits = limits_but_pixels();

    (void)state;
    assert_refused(small.bytes, small.size, &limits, "scan 77 of a JPEG of 4096x4096", 128 << 10);
    assert_refused(large.bytes, large.size, NULL, "8192x8192 is over the limit of 24 million", 1024);
    assert_refused(large.bytes, large.size, &limits, "over the limit of 20000000 blocks", 256 << 10);
    free(small.bytes);
    free(large.bytes);
}

static void the_clock_stops_what_the_counts_let_through(void **state)
{
    struct jpeg j = scan_bomb(2048, 3000);
    sac_image_limits limits = limits_but_pixels();

    (void)state;
    limits.scan_blocks = UINT64_MAX;
    limits.milliseconds = 20;
    assert_refused(j.bytes, j.size, &limits, "took longer than the limit of 20 ms", 64 << 10);
    free(j.bytes);
}

/* The same file with fewer scans is a picture: the bombs above are refused for their size alone. */
static void few_scans_are_a_picture(void **state)
{
    struct jpeg j = scan_bomb(256, 5);
    sac_image_limits limits = limits_but_pixels();
    sac_image *image;
    sac_error err;

    (void)state;
    if (sac_image_decode(j.bytes, j.size, &limits, &image, &err) != SAC_OK)
        fail_msg("%s", err.text);
    assert_int_equal(image->width, 256);
    assert_int_equal(image->rgb[12345], 128);
    sac_image_free(image);
    free(j.bytes);
}

/* A picture behind as many markers, or fill bytes, as a file may hold. */
static void decode_behind(const void *stuff, size_t stuff_size)
{
    struct sac_test_file file = sac_test_read("tests/fixtures/images/colour.jpg");
    sac_image_limits limits = limits_but_pixels();
    struct jpeg j = {0};
    double start;
    sac_image *image;
    sac_error err;

    put(&j, file.bytes, 2);
    while (j.size + stuff_size + file.size < limits.bytes)
        put(&j, stuff, stuff_size);
    put(&j, file.bytes + 2, file.size - 2);
    start = thread_seconds();
    if (sac_image_decode(j.bytes, j.size, &limits, &image, &err) != SAC_OK)
        fail_msg("%s", err.text);
    assert_true(thread_seconds() - start < SHADOW * 1.0);
    sac_image_free(image);
    free(j.bytes);
    free(file.bytes);
}

static void millions_of_markers_cost_linear_time(void **state)
{
    (void)state;
    decode_behind("\xff\xe5\0\2", 4);
    decode_behind("\xff\xe1\0\x0a"
                  "Exif\0\0MM",
                  12);
    decode_behind("\xff\xff\xff\xff", 4);
}

#ifdef SACCADE_WITH_PNG
static void a_huge_png_is_refused_by_its_header(void **state)
{
    static const uint8_t png[] = {0x89, 'P',  'N', 'G', '\r', '\n', 0x1a, '\n', 0,    0,    0,
                                  13,   'I',  'H', 'D', 'R',  0,    0,    0xff, 0xdc, 0,    0,
                                  0xff, 0xdc, 8,   2,   0,    0,    0,    0x1c, 0x35, 0x81, 0x4c};

    (void)state;
    assert_refused(png, sizeof png, NULL, "65500x65500 is over the limit of 40 million pixels", 1024);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(huge_frames_are_refused_by_their_header),
        cmocka_unit_test(coefficients_stay_within_the_decoders_memory),
        cmocka_unit_test(scans_are_counted_by_their_work),
        cmocka_unit_test(the_clock_stops_what_the_counts_let_through),
        cmocka_unit_test(few_scans_are_a_picture),
        cmocka_unit_test(millions_of_markers_cost_linear_time),
#ifdef SACCADE_WITH_PNG
        cmocka_unit_test(a_huge_png_is_refused_by_its_header),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
