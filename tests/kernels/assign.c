/* assign finds the same centroids to the bit with every instruction set of AVX-512, though one of them first
 * looks at numbers rounded to bf16 (not so for rows of fewer than 16 components, in their hundreds): for data
 * that rounds well, badly, or not at all. SACCADE_TEST_SEED=... repeats a run. */
#include "kernels/backend.h"
#include "tests/kernels/open_device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { THREADS = 3, WAYS = 4 };

enum kind {
    SPREAD,     /* centroids all over, rows too */
    CLUSTERED,  /* rows around centroids */
    OFFSET,     /* the same far from 0 */
    CLOSE,      /* all so close together that bf16 tells nothing */
    BYTES,      /* whole numbers 0..255: equal distances, exactly */
    DUPLICATES, /* few distinct centroids */
    EXTREMES,   /* rows with NaN, infinities, zeros, numbers that overflow or underflow */
    HUGE_ONE,   /* a centroid whose norm overflows */
    TINY,       /* numbers that are denormal when squared */
    KINDS
};

static const struct shape {
    uint32_t n, k, dim;
} shapes[] = {
    {64, 64, 16},    {65, 65, 17},    {95, 127, 31},   {96, 128, 32},   {97, 129, 33},    {127, 255, 64},
    {128, 256, 128}, {129, 257, 129}, {200, 100, 200}, {333, 1000, 96}, {500, 2200, 128}, {300, 333, 768},
    {64, 2100, 200}, {63, 64, 16},    {64, 63, 16},    {64, 64, 15},
};

static sac_device *devices[WAYS];
static uint64_t state_of_random;

static double unit(void)
{
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return (double)(state_of_random >> 11) * 0x1p-53;
}

static float number(void) /* about normal */
{
    return (float)(unit() + unit() + unit() + unit() - 2);
}

static int open_devices(void **state)
{
    const char *seed = getenv("SACCADE_TEST_SEED");

    (void)state;
    state_of_random = seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
    print_message("SACCADE_TEST_SEED=%llu\n", (unsigned long long)state_of_random);
    devices[0] = open_device("cpu", "avx512core", 1);
    for (uint32_t i = 1; i < WAYS; i++)
        devices[i] = open_device("cpu", "avx512", i);
    return 0;
}

static int close_devices(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < WAYS; i++)
        sac_device_close(devices[i]);
    return 0;
}

static void *memory(size_t count, size_t size)
{
    void *p;

    assert_int_equal(posix_memalign(&p, 64, count * size + 64), 0);
    return p;
}

static void spoil(float *row, uint32_t i, uint32_t dim)
{
    static const float extremes[] = {NAN, INFINITY, -INFINITY, 3e38f, -1e25f, 1e-40f, 0, 1e19f, 3.39e38f};
    float extreme = extremes[i % (sizeof extremes / sizeof extremes[0])];

    if (i % 3 == 0)
        row[(size_t)(unit() * dim)] = extreme;
    if (i % 3 == 1)
        for (uint32_t d = 0; d < dim; d++)
            row[d] = extreme;
}

static float value(enum kind kind)
{
    if (kind == BYTES)
        return (float)(int)(unit() * 256);
    return kind == TINY ? number() * 1e-22f : kind == CLOSE ? 1000 + number() * 1e-3f : number();
}

static void make(enum kind kind, const struct shape *s, float *x, float *centroids)
{
    float offset = kind == OFFSET ? 30.0f : 0.0f;

    for (size_t i = 0; i < (size_t)s->k * s->dim; i++)
        centroids[i] = value(kind) + offset;
    for (uint32_t c = 3; kind == DUPLICATES && c < s->k; c++)
        memcpy(centroids + (size_t)c * s->dim, centroids + (size_t)(unit() * 3) * s->dim, s->dim * sizeof *x);
    if (kind == HUGE_ONE)
        centroids[(size_t)(s->k / 2) * s->dim] = 1e20f;
    for (uint32_t i = 0; i < s->n; i++) {
        float *row = x + (size_t)i * s->dim;
        const float *centroid = centroids + (size_t)(unit() * s->k) * s->dim;

        for (uint32_t d = 0; d < s->dim; d++)
            row[d] = kind == CLUSTERED || kind == OFFSET ? centroid[d] + 0.3f * number() : value(kind);
        if (kind == EXTREMES)
            spoil(row, i, s->dim);
    }
}

static void run(sac_device *device, const struct sac_assign_args *args)
{
    const struct sac_ops *ops = sac_device_ops(device);
    sac_stream *stream;

    assert_int_equal(sac_stream_open(device, ops->assign_scratch(device, args), &stream, NULL), SAC_OK);
    assert_int_equal(ops->assign(stream, args), SAC_OK);
    sac_stream_close(stream);
}

static void compare(enum kind kind, const struct shape *s)
{
    float *x = memory((size_t)s->n * s->dim, sizeof *x),
          *centroids = memory((size_t)s->k * s->dim, sizeof *x);
    float *norms = memory(s->k, sizeof *norms), *distance[2];
    uint32_t *index[2];
    struct sac_assign_args args = {
        .x = x, .n = s->n, .dim = s->dim, .centroids = centroids, .centroid_norms = norms, .k = s->k};

    make(kind, s, x, centroids);
    for (uint32_t c = 0; c < s->k; c++) {
        norms[c] = 0;
        for (uint32_t d = 0; d < s->dim; d++)
            norms[c] += centroids[(size_t)c * s->dim + d] * centroids[(size_t)c * s->dim + d];
    }
    for (int i = 0; i < 2; i++) {
        index[i] = memory(s->n, sizeof *index[i]);
        distance[i] = memory(s->n, sizeof *distance[i]);
    }
    for (uint32_t way = 0; way < WAYS; way++) {
        int i = way > 0;

        memset(index[i], 0xff, s->n * sizeof *index[i]);
        args.index = index[i];
        args.distance = way % 2 == 0 ? distance[0] : NULL;
        run(devices[way], &args);
        for (uint32_t r = 0; r < s->n; r++)
            if (index[0][r] != index[i][r])
                fail_msg("kind %d, n %u, k %u, dim %u, way %u: row %u is nearest to %u, but %u was found",
                         kind, s->n, s->k, s->dim, way, r, index[0][r], index[i][r]);
    }
    for (int i = 0; i < 2; i++) {
        free(index[i]);
        free(distance[i]);
    }
    free(norms);
    free(centroids);
    free(x);
}

static void every_instruction_set_agrees(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
            compare((enum kind)kind, &shapes[s]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_instruction_set_agrees)};

    return cmocka_run_group_tests(tests, open_devices, close_devices);
}
