/* Resize: the twin against checksums of Pillow's results, every variant against the twin bit for bit. */
#include "kernels/backend.h"
#include "tests/picture.h"

#include <stdio.h>
#include <string.h>

enum { GUARD = 0xa7, STRIDE_SPARE = 5 };

struct device {
    sac_device *handle;
    sac_stream *stream;
};

/* NULL handle where this machine has no such instructions. */
static struct device open_device(const char *name, const char *isa)
{
    sac_device_options options;
    struct device d = {NULL, NULL};

    sac_device_options_init(&options);
    options.name = name;
    options.isa = isa;
    options.threads = 1;
    if (sac_device_open(&options, &d.handle, NULL) != SAC_OK)
        return d;
    assert_int_equal(sac_stream_open(d.handle, 0, &d.stream, NULL), SAC_OK);
    return d;
}

static void close_device(struct device d)
{
    sac_stream_close(d.stream);
    sac_device_close(d.handle);
}

/* Runs the operation with guard bytes around every row; the result is dense and freed by the caller. */
static uint8_t *run_resize(struct device d, struct sac_resize_args args)
{
    const struct sac_ops *ops = sac_device_ops(d.handle);
    size_t row = (size_t)args.window_width * 3, bytes;
    uint8_t *padded, *dense = malloc(row * args.window_height + 1);

    args.to_stride = row + STRIDE_SPARE;
    bytes = args.to_stride * (args.window_height + 1);
    padded = malloc(bytes);
    assert_non_null(padded);
    assert_non_null(dense);
    memset(padded, GUARD, bytes);
    args.to = padded + STRIDE_SPARE;
    assert_int_equal(sac_stream_reserve(d.stream, ops->resize_scratch(d.handle, &args), NULL), SAC_OK);
    assert_int_equal(ops->resize(d.stream, &args), SAC_OK);
    assert_int_equal(sac_stream_wait(d.stream), SAC_OK);
    for (uint32_t y = 0; y < args.window_height; y++)
        memcpy(dense + y * row, args.to + y * args.to_stride, row);
    for (uint32_t y = 0; y <= args.window_height; y++)
        for (size_t i = 0; i < STRIDE_SPARE; i++)
            assert_int_equal(padded[y * args.to_stride + i], GUARD);
    free(padded);
    return dense;
}

static bool read_case(FILE *file, struct sac_resize_args *args, unsigned long long *want)
{
    char filter[16];
    int got = fscanf(file, "%u %u %lf %lf %lf %lf %u %u %u %u %u %u %15s %llx", &args->from_width,
                     &args->from_height, &args->box[0], &args->box[1], &args->box[2], &args->box[3],
                     &args->full_width, &args->full_height, &args->window_x, &args->window_y,
                     &args->window_width, &args->window_height, filter, want);

    if (got == EOF)
        return false;
    assert_int_equal(got, 14);
    args->filter = strcmp(filter, "bicubic") == 0 ? SAC_FILTER_BICUBIC : SAC_FILTER_BILINEAR;
    return true;
}

static void compare_with_pillow(const char *name, const char *isa)
{
    struct device d = open_device(name, isa);
    FILE *file = fopen("tests/fixtures/resize.txt", "r");
    struct sac_resize_args args = {0};
    unsigned long long want;
    int count = 0;

    assert_non_null(file);
    if (d.handle == NULL) {
        fclose(file);
        skip();
    }
    for (; read_case(file, &args, &want); count++) {
        uint8_t *from = sac_test_picture(args.from_width, args.from_height), *made;

        args.from = from;
        args.from_stride = (size_t)args.from_width * 3;
        made = run_resize(d, args);
        if (sac_test_checksum(made, (size_t)args.window_width * args.window_height * 3) != want)
            fail_msg("line %d: %ux%u to %ux%u is not what Pillow makes", count + 1, args.from_width,
                     args.from_height, args.full_width, args.full_height);
        free(made);
        free(from);
    }
    assert_true(count > 40);
    fclose(file);
    close_device(d);
}

static void ref_equals_pillow(void **state)
{
    (void)state;
    compare_with_pillow("ref", NULL);
}

static void avx2_equals_pillow(void **state)
{
    (void)state;
    compare_with_pillow("cpu", "avx2");
}

static void avx512_equals_pillow(void **state)
{
    (void)state;
    compare_with_pillow("cpu", "avx512");
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static struct sac_resize_args random_case(uint32_t *seed)
{
    struct sac_resize_args a = {.from_width = 1 + next_random(seed) % 90,
                                .from_height = 1 + next_random(seed) % 90,
                                .full_width = 1 + next_random(seed) % 120,
                                .full_height = 1 + next_random(seed) % 120,
                                .filter = next_random(seed) % 2 ? SAC_FILTER_BICUBIC : SAC_FILTER_BILINEAR};
    double left = next_random(seed) % (4 * a.from_width) / 4.0,
           top = next_random(seed) % (4 * a.from_height) / 4.0;

    a.box[0] = left;
    a.box[1] = top;
    a.box[2] = left + 0.25 + next_random(seed) % (uint32_t)(4 * (a.from_width - left)) / 4.0;
    a.box[3] = top + 0.25 + next_random(seed) % (uint32_t)(4 * (a.from_height - top)) / 4.0;
    a.window_x = next_random(seed) % a.full_width;
    a.window_y = next_random(seed) % a.full_height;
    a.window_width = next_random(seed) % (a.full_width - a.window_x + 1);
    a.window_height = next_random(seed) % (a.full_height - a.window_y + 1);
    return a;
}

static void compare_with_twin(const char *isa)
{
    struct device ref = open_device("ref", NULL), d = open_device("cpu", isa);
    uint32_t seed = 20260101;

    if (d.handle == NULL) {
        close_device(ref);
        skip();
    }
    for (int i = 0; i < 1500; i++) {
        uint32_t case_seed = seed;
        struct sac_resize_args args = random_case(&seed);
        uint8_t *from = sac_test_picture(args.from_width, args.from_height), *want, *got;

        args.from = from;
        args.from_stride = (size_t)args.from_width * 3;
        want = run_resize(ref, args);
        got = run_resize(d, args);
        if (memcmp(want, got, (size_t)args.window_width * args.window_height * 3) != 0)
            fail_msg("seed %u: %ux%u to %ux%u differs from the twin", case_seed, args.from_width,
                     args.from_height, args.full_width, args.full_height);
        free(want);
        free(got);
        free(from);
    }
    close_device(ref);
    close_device(d);
}

static void avx2_equals_the_twin(void **state)
{
    (void)state;
    compare_with_twin("avx2");
}

static void avx512_equals_the_twin(void **state)
{
    (void)state;
    compare_with_twin("avx512");
}

/* A part of a larger picture gives what a copy of that part gives: nothing around it is mixed in. */
static void compare_part_with_copy(const char *name)
{
    enum { WIDTH = 61, HEIGHT = 43, X = 9, Y = 7, PART_WIDTH = 52, PART_HEIGHT = 36 };
    struct device d = open_device(name, NULL);
    uint8_t *whole = sac_test_picture(WIDTH, HEIGHT), part[PART_HEIGHT * PART_WIDTH * 3], *want, *got;
    struct sac_resize_args args = {.from_width = PART_WIDTH,
                                   .from_height = PART_HEIGHT,
                                   .box = {0, 0, PART_WIDTH, PART_HEIGHT},
                                   .full_width = 20,
                                   .full_height = 20,
                                   .window_width = 20,
                                   .window_height = 20};

    for (int y = 0; y < PART_HEIGHT; y++)
        memcpy(part + y * PART_WIDTH * 3, whole + ((Y + y) * WIDTH + X) * 3, (size_t)PART_WIDTH * 3);
    args.from = part;
    args.from_stride = (size_t)PART_WIDTH * 3;
    want = run_resize(d, args);
    args.from = whole + (Y * WIDTH + X) * 3;
    args.from_stride = (size_t)WIDTH * 3;
    got = run_resize(d, args);
    assert_memory_equal(want, got, (size_t)20 * 20 * 3);
    free(want);
    free(got);
    free(whole);
    close_device(d);
}

static void a_part_gives_what_its_copy_gives(void **state)
{
    (void)state;
    compare_part_with_copy("ref");
    compare_part_with_copy("cpu");
}

static void a_long_picture_takes_little_scratch(void **state)
{
    struct device d = open_device("cpu", NULL);
    struct sac_resize_args args = {.from_width = 16384,
                                   .from_height = 16,
                                   .box = {0, 0, 16384, 16},
                                   .full_width = 253952,
                                   .full_height = 248,
                                   .window_x = 126864,
                                   .window_y = 12,
                                   .window_width = 224,
                                   .window_height = 224,
                                   .filter = SAC_FILTER_BICUBIC};

    (void)state;
    assert_true(sac_device_ops(d.handle)->resize_scratch(d.handle, &args) < 1 << 20);
    close_device(d);
}

static void too_little_scratch_is_told(void **state)
{
    struct device d = open_device("cpu", NULL);
    uint8_t from[64 * 3] = {0}, to[3];
    struct sac_resize_args args = {.from = from,
                                   .from_width = 64,
                                   .from_height = 1,
                                   .from_stride = sizeof from,
                                   .box = {0, 0, 64, 1},
                                   .full_width = 1,
                                   .full_height = 1,
                                   .window_width = 1,
                                   .window_height = 1,
                                   .to = to,
                                   .to_stride = 3};

    (void)state;
    d.stream->scratch_bytes = 0;
    assert_int_equal(sac_device_ops(d.handle)->resize(d.stream, &args), SAC_NO_MEMORY);
    close_device(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ref_equals_pillow),
        cmocka_unit_test(avx2_equals_pillow),
        cmocka_unit_test(avx512_equals_pillow),
        cmocka_unit_test(avx2_equals_the_twin),
        cmocka_unit_test(avx512_equals_the_twin),
        cmocka_unit_test(a_long_picture_takes_little_scratch),
        cmocka_unit_test(a_part_gives_what_its_copy_gives),
        cmocka_unit_test(too_little_scratch_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
