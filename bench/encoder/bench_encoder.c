/* bench_encoder -- images per second of an encoder, as a worker that a script can take turns with.
 *
 *   bench_encoder MODEL PRECISION THREADS
 *
 * Prints a line that describes itself, then for each line "BATCH SECONDS" of stdin the images per second of
 * that many seconds in batches of that size, and for "peak SECONDS" the GFLOP/s of one big product in the
 * precision. Only the network is timed: pixels are prepared already. */
#include "engine/saccade.h"
#include "kernels/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH_MAX = 64, SIDE = 224, PEAK_IN = 1024, PEAK_OUT = 4096, PEAK_ROWS = 2048 };

static double seconds_of(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct span {
    double wall, cpu; /* seconds */
};

static struct span now(void)
{
    return (struct span){seconds_of(CLOCK_MONOTONIC), seconds_of(CLOCK_PROCESS_CPUTIME_ID)};
}

static bool before(struct span begin, double seconds, struct span *end)
{
    *end = now();
    return end->wall - begin.wall < seconds;
}

static void print_rate(double done, struct span begin, struct span end)
{
    printf("%.6g %.6g\n", done / (end.wall - begin.wall), done / (end.cpu - begin.cpu));
}

static void check(sac_status st, const sac_error *err)
{
    if (st == SAC_OK)
        return;
    fprintf(stderr, "bench_encoder: %s\n", err->text);
    exit(1);
}

static void print_images_per_second(sac_encoder *encoder, size_t batch, double seconds)
{
    static uint8_t rgb[SIDE * SIDE * 3];
    const sac_image image = {SIDE, SIDE, rgb};
    sac_prepared *pictures[BATCH_MAX];
    float *vectors = malloc(batch * sac_encoder_dim(encoder) * sizeof *vectors);
    struct span begin, end;
    size_t done = 0;
    sac_error err;

    if (vectors == NULL)
        exit(1);
    for (size_t i = 0; i < batch; i++) {
        for (size_t j = 0; j < sizeof rgb; j++)
            rgb[j] = (uint8_t)((i * sizeof rgb + j) * 2654435761u >> 13);
        check(sac_encoder_prepare_image(encoder, &image, NULL, &pictures[i], &err), &err);
    }
    check(sac_encoder_embed(encoder, batch, pictures, vectors, &err), &err);
    begin = now();
    do {
        check(sac_encoder_embed(encoder, batch, pictures, vectors, &err), &err);
        done += batch;
    } while (before(begin, seconds, &end));
    for (size_t i = 0; i < batch; i++)
        sac_prepared_free(pictures[i]);
    free(vectors);
    print_rate((double)done, begin, end);
}

static void print_peak(sac_device *device, sac_dtype precision, double seconds)
{
    const struct sac_ops *ops = sac_device_ops(device);
    float *weight = calloc((size_t)PEAK_IN * PEAK_OUT, sizeof *weight);
    struct sac_linear_params params = {
        .in = PEAK_IN, .out = PEAK_OUT, .weight = weight, .precision = precision, .y_dtype = precision};
    struct sac_linear_args args = {.rows = PEAK_ROWS};
    void *x, *y;
    sac_linear *linear;
    sac_stream *stream;
    sac_error err;
    struct span begin, end;
    int count = 0;

    check(ops->linear_open(device, &params, &linear, &err), &err);
    check(sac_buffer_alloc(device, (size_t)PEAK_ROWS * PEAK_IN, 4, &x, &err), &err);
    check(sac_buffer_alloc(device, (size_t)PEAK_ROWS * PEAK_OUT, 4, &y, &err), &err);
    memset(x, 0, (size_t)PEAK_ROWS * PEAK_IN * 4);
    args.linear = linear;
    args.x = x;
    args.y = y;
    check(sac_stream_borrow(device, ops->linear_scratch(device, &args), &stream, &err), &err);
    begin = now();
    do {
        check(ops->linear(stream, &args), &err);
        count++;
    } while (before(begin, seconds, &end));
    sac_stream_give_back(stream);
    sac_buffer_free(device, x);
    sac_buffer_free(device, y);
    ops->linear_close(linear);
    free(weight);
    print_rate(2e-9 * PEAK_IN * PEAK_OUT * PEAK_ROWS * count, begin, end);
}

int main(int argc, char **argv)
{
    sac_device_options device_options;
    sac_encoder_options options;
    sac_device *device;
    sac_encoder *encoder;
    sac_error err;
    char line[128];

    if (argc != 4) {
        fprintf(stderr, "usage: bench_encoder MODEL PRECISION THREADS < requests\n");
        return 2;
    }
    sac_device_options_init(&device_options);
    device_options.threads = (uint32_t)atoi(argv[3]);
    check(sac_device_open(&device_options, &device, &err), &err);
    sac_encoder_options_init(&options);
    options.precision = argv[2];
    check(sac_encoder_open(device, argv[1], &options, &encoder, &err), &err);
    printf("saccade %s on %s\n", sac_version(), sac_device_describe(device));
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        size_t batch;
        double seconds;

        if (sscanf(line, "peak %lf", &seconds) == 1)
            print_peak(device, strcmp(argv[2], "bf16") == 0 ? SAC_BF16 : SAC_F32, seconds);
        else if (sscanf(line, "%zu %lf", &batch, &seconds) == 2 && batch >= 1 && batch <= BATCH_MAX)
            print_images_per_second(encoder, batch, seconds);
        else
            return 2;
        fflush(stdout);
    }
    sac_encoder_close(encoder);
    sac_device_close(device);
    return 0;
}
