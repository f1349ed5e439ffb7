/* bench_gpu_encoder -- an encoder on any device, as a worker that encoder.py takes turns with.
 *
 *   bench_gpu_encoder MODEL [--device cuda:0] [--precision auto] [--batch-max 512] [--side 224]
 *
 * Answers with a line of JSON for itself, then for each line of stdin:
 *
 *   embed PIXELS VECTORS         pictures [n][side][side][3] of one file -> vectors f32 [n][dim] in the other
 *   time BATCH SECONDS CALLERS   images a second, pictures in host memory to vectors in host memory, by
 * CALLERS threads that each wait for their own batch; the times of their calls
 *
 * side is the input's own, so nothing is scaled: the network and its copies are what is measured. */
#include "bench/gpu/driver.h"
#include "engine/progress.h"
#include "engine/saccade.h"

#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CALLERS_MAX = 8, TIMES_MAX = 1 << 16, PATH_SIZE = 1024 };

struct options {
    const char *device, *precision, *model;
    uint32_t batch_max, side;
};

struct caller {
    sac_encoder *encoder;
    sac_prepared **pictures; /* [batch] */
    float *vectors;
    size_t batch, calls;
    double seconds, ended;
    double times[TIMES_MAX];
};

static sac_device *device;
static sac_encoder *encoder;

/* Pictures of noise that differ from each other; nothing here depends on what they show. */
static void make_pictures(sac_prepared **out, size_t count, uint32_t side)
{
    size_t bytes = (size_t)side * side * 3;
    sac_image image = {side, side, need(bytes, 1)};
    sac_error err;

    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < bytes; j++)
            image.rgb[j] = (uint8_t)((i * bytes + j) * 2654435761u >> 13);
        check(sac_encoder_prepare_image(encoder, &image, NULL, &out[i], &err), &err);
    }
    free(image.rgb);
}

static void free_pictures(sac_prepared **pictures, size_t count)
{
    for (size_t i = 0; i < count; i++)
        sac_prepared_free(pictures[i]);
    free(pictures);
}

/* ---- embed ------------------------------------------------------------------------------------------ */

static uint8_t *read_all(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes;
    long end;

    if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (end = ftell(file)) < 0)
        fail("cannot read the pictures");
    *size = (size_t)end;
    bytes = need(*size + 1, 1);
    rewind(file);
    if (fread(bytes, 1, *size, file) != *size)
        fail("cannot read the pictures");
    fclose(file);
    return bytes;
}

static void embed(const char *source, const char *target, uint32_t side)
{
    size_t size, picture = (size_t)side * side * 3, n;
    uint8_t *bytes = read_all(source, &size);
    uint32_t dim = sac_encoder_dim(encoder);
    sac_prepared **pictures;
    float *vectors;
    FILE *file;
    sac_error err;

    n = size / picture;
    pictures = need(n, sizeof(sac_prepared *));
    vectors = need(n, dim * sizeof *vectors);
    for (size_t i = 0; i < n; i++) {
        sac_image image = {side, side, bytes + i * picture};

        check(sac_encoder_prepare_image(encoder, &image, NULL, &pictures[i], &err), &err);
    }
    check(sac_encoder_embed(encoder, n, pictures, vectors, &err), &err);
    file = fopen(target, "wb");
    if (file == NULL || fwrite(vectors, dim * sizeof *vectors, n, file) != n || fclose(file) != 0)
        fail("cannot write the vectors");
    printf("{\"count\": %zu}\n", n);
    free_pictures(pictures, n);
    free(vectors);
    free(bytes);
}

/* ---- time ------------------------------------------------------------------------------------------- */

static void *call_often(void *context)
{
    struct caller *c = context;
    double start = sac_clock(), now = start;
    sac_error err;

    do {
        double before = now;

        check(sac_encoder_embed(c->encoder, c->batch, c->pictures, c->vectors, &err), &err);
        now = sac_clock();
        c->times[c->calls++] = now - before;
    } while (now - start < c->seconds && c->calls < TIMES_MAX);
    c->ended = now;
    return NULL;
}

static struct caller *open_caller(size_t batch, double seconds, uint32_t side)
{
    struct caller *c = need(1, sizeof *c);
    sac_error err;

    c->encoder = encoder;
    c->batch = batch;
    c->seconds = seconds;
    c->pictures = need(batch, sizeof(sac_prepared *));
    c->vectors = need(batch, sac_encoder_dim(encoder) * sizeof *c->vectors);
    make_pictures(c->pictures, batch, side);
    for (int warm = 0; warm < 2; warm++) /* memory is taken and the passes recorded at the first ones */
        check(sac_encoder_embed(encoder, batch, c->pictures, c->vectors, &err), &err);
    return c;
}

static void close_caller(struct caller *c)
{
    free_pictures(c->pictures, c->batch);
    free(c->vectors);
    free(c);
}

static void time_calls(size_t batch, double seconds, int count, uint32_t side)
{
    struct caller *callers[CALLERS_MAX];
    pthread_t threads[CALLERS_MAX];
    double start, end = 0;
    struct spread spread;
    size_t calls = 0;

    for (int i = 0; i < count; i++)
        callers[i] = open_caller(batch, seconds, side);
    start = sac_clock();
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, call_often, callers[i]) != 0)
            fail("cannot start a thread");
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        calls += callers[i]->calls;
        end = callers[i]->ended > end ? callers[i]->ended : end;
    }
    spread = spread_of(callers[0]->times, callers[0]->calls);
    printf("{\"images_s\": %.6g, \"p50_ms\": %.6g, \"p99_ms\": %.6g, \"calls\": %zu}\n",
           (double)(calls * batch) / (end - start), 1e3 * spread.p50, 1e3 * spread.p99, calls);
    for (int i = 0; i < count; i++)
        close_caller(callers[i]);
}

/* ---- requests --------------------------------------------------------------------------------------- */

static void answer(const char *line, uint32_t side)
{
    char source[PATH_SIZE], target[PATH_SIZE];
    double seconds;
    size_t batch;
    int callers;

    if (sscanf(line, "embed %1023s %1023s", source, target) == 2)
        embed(source, target, side);
    else if (sscanf(line, "time %zu %lf %d", &batch, &seconds, &callers) == 3 && batch > 0 && callers > 0 &&
             callers <= CALLERS_MAX)
        time_calls(batch, seconds, callers, side);
    else
        fail("a request is \"embed PIXELS VECTORS\" or \"time BATCH SECONDS CALLERS\"");
    fflush(stdout);
}

static void parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {{"device", required_argument, NULL, 'd'},
                                          {"precision", required_argument, NULL, 'p'},
                                          {"batch-max", required_argument, NULL, 'b'},
                                          {"side", required_argument, NULL, 's'},
                                          {NULL, 0, NULL, 0}};
    int c;

    *o = (struct options){.device = "auto", .precision = "auto", .batch_max = 512, .side = 224};
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'd':
            o->device = optarg;
            break;
        case 'p':
            o->precision = optarg;
            break;
        case 'b':
            o->batch_max = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 's':
            o->side = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        default:
            exit(2);
        }
    }
    if (optind + 1 != argc || o->side == 0)
        fail("usage: bench_gpu_encoder MODEL [--device NAME] [--precision NAME] [--batch-max N] [--side N]");
    o->model = argv[optind];
}

int main(int argc, char **argv)
{
    sac_device_options device_options;
    sac_encoder_options encoder_options;
    sac_device_memory memory;
    char line[2 * PATH_SIZE + 16];
    struct options o;
    sac_error err;

    parse(argc, argv, &o);
    sac_device_options_init(&device_options);
    device_options.name = o.device;
    check(sac_device_open(&device_options, &device, &err), &err);
    sac_encoder_options_init(&encoder_options);
    encoder_options.precision = o.precision;
    encoder_options.batch_max = o.batch_max;
    check(sac_encoder_open(device, o.model, &encoder_options, &encoder, &err), &err);
    sac_device_memory_describe(device, &memory);
    printf("{\"name\": \"saccade %s on %s\", \"dim\": %u, \"bytes_device\": %llu}\n", sac_version(),
           sac_device_describe(device), sac_encoder_dim(encoder), (unsigned long long)memory.used);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL)
        answer(line, o.side);
    sac_encoder_close(encoder);
    sac_device_close(device);
    return 0;
}
