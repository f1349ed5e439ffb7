/* Pictures of every format, upright and in RGB; limits; refusals by name. Fixtures: make_image_fixtures.py.
 */
#include "engine/image.h"
#include "tests/file.h"

#include <string.h>

enum { WIDTH = 40, HEIGHT = 24, PIXELS_BYTES = WIDTH * HEIGHT * 3 };

/* Fixtures are decoded on slow and shared machines too. */
static sac_image_limits patient_limits(void)
{
    sac_image_limits limits;

    sac_image_limits_init(&limits);
    limits.milliseconds = 60000;
    return limits;
}

static struct sac_test_file read_fixture(const char *name)
{
    char path[256];

    snprintf(path, sizeof path, "tests/fixtures/images/%s", name);
    return sac_test_read(path);
}

static sac_image *decode_fixture(const char *name)
{
    struct sac_test_file file = read_fixture(name);
    sac_image_limits limits = patient_limits();
    sac_image *image;
    sac_error err;

    if (sac_image_decode(file.bytes, file.size, &limits, &image, &err) != SAC_OK)
        fail_msg("%s: %s", name, err.text);
    free(file.bytes);
    return image;
}

static void assert_refused(const void *bytes, size_t size, const sac_image_limits *limits, sac_status want,
                           const char *words)
{
    sac_image *image = (sac_image *)1;
    sac_error err = {SAC_OK, ""};
    sac_status got = sac_image_decode(bytes, size, limits, &image, &err);

    if (got != want || strstr(err.text, words) == NULL)
        fail_msg("wanted %s with \"%s\", got %s: %s", sac_status_name(want), words, sac_status_name(got),
                 err.text);
    assert_null(image);
}

/* Everything but JPEG: exact. JPEG: libraries may round their inverse transform differently. */
static void formats_decode_to_their_pixels(void **state)
{
    static const struct {
        const char *name;
        int tolerance;
    } cases[] = {
        {"colour.jpg", 2},  {"progressive.jpg", 2}, {"grey.jpg", 2},         {"cmyk.jpg", 4},
#ifdef SACCADE_WITH_PNG
        {"rgb.png", 0},     {"alpha.png", 0},       {"turned.png", 0},       {"grey16.png", 0},
        {"palette.png", 0}, {"interlaced.png", 0},
#endif
#ifdef SACCADE_WITH_WEBP
        {"lossy.webp", 2},  {"lossless.webp", 0},   {"translucent.webp", 0}, {"mirrored.webp", 0},
#endif
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[64];
        sac_image *image = decode_fixture(cases[i].name);
        struct sac_test_file want;
        bool turned = strncmp(cases[i].name, "turned", 6) == 0;

        snprintf(name, sizeof name, "%.*s.rgb", (int)(strchr(cases[i].name, '.') - cases[i].name),
                 cases[i].name);
        want = read_fixture(name);
        assert_int_equal(want.size, PIXELS_BYTES);
        assert_int_equal(image->width, turned ? HEIGHT : WIDTH);
        assert_int_equal(image->height, turned ? WIDTH : HEIGHT);
        for (size_t p = 0; p < PIXELS_BYTES; p++)
            if (abs(image->rgb[p] - want.bytes[p]) > cases[i].tolerance)
                fail_msg("%s: byte %zu is %d, not %d", cases[i].name, p, image->rgb[p], want.bytes[p]);
        free(want.bytes);
        sac_image_free(image);
    }
}

static void formats_are_named(void **state)
{
    (void)state;
    assert_non_null(strstr(sac_image_formats(), "jpeg"));
#ifdef SACCADE_WITH_PNG
    assert_non_null(strstr(sac_image_formats(), "png"));
#endif
#ifdef SACCADE_WITH_WEBP
    assert_non_null(strstr(sac_image_formats(), "webp"));
#endif
}

static void other_formats_are_refused_by_name(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *word;
    } cases[] = {
        {"GIF89a..........", 16, "GIF"},
        {"BM..............", 16, "BMP"},
        {"II*\0............", 16, "TIFF"},
        {"MM\0*............", 16, "TIFF"},
        {"\0\0\0\x1c"
         "ftypavif....",
         16, "AVIF"},
        {"\0\0\0\x18"
         "ftypheic....",
         16, "HEIC"},
        {"\0\0\0\x18"
         "ftypmif1....",
         16, "HEIF"},
        {"\0\0\0\x0cJXL \r\n\x87\n", 12, "JPEG XL"},
        {"\0\0\0\x0cjP  \r\n\x87\n", 12, "JPEG 2000"},
        {"hello, I am text", 16, "no picture"},
        {"\xff", 1, "no picture"},
        {"", 0, "empty"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(cases[i].bytes, cases[i].size, NULL, SAC_IMAGE_REJECTED, cases[i].word);
}

static void formats_left_out_say_how_to_get_them(void **state)
{
    (void)state;
#ifndef SACCADE_WITH_PNG
    assert_refused("\x89PNG\r\n\x1a\n........", 16, NULL, SAC_IMAGE_REJECTED, "libspng");
#endif
#ifndef SACCADE_WITH_WEBP
    assert_refused("RIFF....WEBPVP8 ", 16, NULL, SAC_IMAGE_REJECTED, "libwebp");
#endif
}

#ifdef SACCADE_WITH_WEBP
static void animations_are_refused(void **state)
{
    struct sac_test_file file = read_fixture("animated.webp");

    (void)state;
    assert_refused(file.bytes, file.size, NULL, SAC_IMAGE_REJECTED, "animated WebP");
    free(file.bytes);
}
#endif

static void limits_hold_for_every_format(void **state)
{
    static const char *const names[] = {
        "colour.jpg",
#ifdef SACCADE_WITH_PNG
        "rgb.png",
#endif
#ifdef SACCADE_WITH_WEBP
        "lossless.webp",
#endif
    };

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct sac_test_file file = read_fixture(names[i]);
        sac_image_limits limits = patient_limits();

        limits.bytes = file.size - 1;
        assert_refused(file.bytes, file.size, &limits, SAC_IMAGE_REJECTED, "bytes");
        limits = patient_limits();
        limits.pixels = WIDTH * HEIGHT - 1;
        assert_refused(file.bytes, file.size, &limits, SAC_IMAGE_REJECTED,
                       "40x24 is over the limit of 0.000959");
        limits = patient_limits();
        limits.side_max = WIDTH - 1;
        assert_refused(file.bytes, file.size, &limits, SAC_IMAGE_REJECTED,
                       "over the limit of 39 pixels a side");
        limits = patient_limits();
        limits.side_min = HEIGHT + 1;
        assert_refused(file.bytes, file.size, &limits, SAC_IMAGE_REJECTED, "under the limit of 25 pixels");
        free(file.bytes);
    }
}

static void files_cut_short_are_told(void **state)
{
    static const char *const names[] = {
        "colour.jpg", "progressive.jpg",
#ifdef SACCADE_WITH_PNG
        "rgb.png",    "interlaced.png",
#endif
#ifdef SACCADE_WITH_WEBP
        "lossy.webp", "lossless.webp",
#endif
    };
    sac_image_limits limits = patient_limits();

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct sac_test_file file = read_fixture(names[i]);

        /* An IEND, a JPEG's EOI or a padding byte may be missed by nobody: cut well before it. */
        for (size_t size = 16; size + 16 < file.size; size++) {
            sac_image *image;
            sac_error err = {SAC_OK, ""};
            uint8_t *copy = malloc(size); /* a block of its own: ASan sees a read past the end */

            assert_non_null(copy);
            memcpy(copy, file.bytes, size);
            if (sac_image_decode(copy, size, &limits, &image, &err) != SAC_IMAGE_CORRUPT)
                fail_msg("%s cut at %zu of %zu: %s", names[i], size, file.size, err.text);
            assert_null(image);
            assert_true(err.text[0] != '\0');
            free(copy);
        }
        free(file.bytes);
    }
}

/* Where pixel (x, y) of a stored picture of w x h belongs, by EXIF 2.32, table of tag 0x0112. */
static void upright_place(unsigned orientation, uint32_t w, uint32_t h, uint32_t x, uint32_t y,
                          uint32_t *to_x, uint32_t *to_y)
{
    const uint32_t right = w - 1 - x, below = h - 1 - y;
    const uint32_t places[8][2] = {{x, y}, {right, y}, {right, below}, {x, below},
                                   {y, x}, {below, x}, {below, right}, {y, right}};

    *to_x = places[orientation - 1][0];
    *to_y = places[orientation - 1][1];
}

static uint8_t *take_memory(void *context, size_t bytes)
{
    *(size_t *)context = bytes;
    return malloc(bytes);
}

static void every_orientation_turns_upright(void **state)
{
    enum { W = 37, H = 21 };
    uint8_t rows[H][W][3];

    (void)state;
    for (int i = 0; i < H * W * 3; i++)
        (&rows[0][0][0])[i] = (uint8_t)(i * 31 + i / 7);
    for (unsigned orientation = 1; orientation <= 8; orientation++) {
        size_t taken = 0;
        sac_canvas canvas = {.take = take_memory, .context = &taken};

        assert_int_equal(sac_canvas_open(&canvas, W, H, orientation, NULL), SAC_OK);
        for (uint32_t y = 0; y < H; y += 16)
            sac_canvas_put(&canvas, y, H - y < 16 ? H - y : 16, &rows[y][0][0], sizeof rows[0]);
        assert_int_equal(taken, W * H * 3);
        assert_int_equal(canvas.width, orientation < 5 ? W : H);
        for (uint32_t y = 0; y < H; y++)
            for (uint32_t x = 0; x < W; x++) {
                uint32_t to_x, to_y;

                upright_place(orientation, W, H, x, y, &to_x, &to_y);
                assert_memory_equal(canvas.rgb + ((size_t)to_y * canvas.width + to_x) * 3, rows[y][x], 3);
            }
        free(canvas.rgb);
    }
}

/* colour.jpg behind an APP1 with the orientation: the JPEG reader's path, with and without a band. */
static void a_jpeg_turns_by_its_exif(void **state)
{
    static const uint8_t app1[] = {0xff, 0xe1, 0, 34, 'E', 'x', 'i', 'f', 0, 0,    'M', 'M',
                                   0,    42,   0, 0,  0,   8,   0,   1,   1, 0x12, 0,   3,
                                   0,    0,    0, 1,  0,   0,   0,   0,   0, 0,    0,   0};
    enum { VALUE_AT = 29 };
    struct sac_test_file file = read_fixture("colour.jpg");
    uint8_t *bytes = malloc(file.size + sizeof app1);
    sac_image *plain = decode_fixture("colour.jpg");
    sac_image_limits limits = patient_limits();

    (void)state;
    assert_non_null(bytes);
    memcpy(bytes, file.bytes, 2);
    memcpy(bytes + 2, app1, sizeof app1);
    memcpy(bytes + 2 + sizeof app1, file.bytes + 2, file.size - 2);
    for (unsigned orientation = 1; orientation <= 8; orientation++) {
        sac_image *image;

        bytes[2 + VALUE_AT] = (uint8_t)orientation;
        assert_int_equal(sac_image_decode(bytes, file.size + sizeof app1, &limits, &image, NULL), SAC_OK);
        for (uint32_t y = 0; y < HEIGHT; y++)
            for (uint32_t x = 0; x < WIDTH; x++) {
                uint32_t to_x, to_y;

                upright_place(orientation, WIDTH, HEIGHT, x, y, &to_x, &to_y);
                assert_memory_equal(image->rgb + ((size_t)to_y * image->width + to_x) * 3,
                                    plain->rgb + ((size_t)y * WIDTH + x) * 3, 3);
            }
        sac_image_free(image);
    }
    sac_image_free(plain);
    free(bytes);
    free(file.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_decode_to_their_pixels),
        cmocka_unit_test(formats_are_named),
        cmocka_unit_test(other_formats_are_refused_by_name),
        cmocka_unit_test(formats_left_out_say_how_to_get_them),
#ifdef SACCADE_WITH_WEBP
        cmocka_unit_test(animations_are_refused),
#endif
        cmocka_unit_test(limits_hold_for_every_format),
        cmocka_unit_test(files_cut_short_are_told),
        cmocka_unit_test(every_orientation_turns_upright),
        cmocka_unit_test(a_jpeg_turns_by_its_exif),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
