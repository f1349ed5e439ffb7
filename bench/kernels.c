/* bench_kernels -- every operation of kernels/ on every instruction set of this machine, beside the plain C
 * twin and beside what the machine can do at most. */
#include "tests/kernels/cases.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static const char *const isas[] = {"avx2", "avx512core", "avx512"};
enum { ISA_COUNT = sizeof isas / sizeof isas[0] };

struct options {
    const char *op, *text, *isa, *device;
    uint32_t threads;
    double seconds;
    bool json, ref;
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- what the machine can do: one thread ---- */

static double memcpy_rate(void) /* bytes read and written a second, beyond the caches */
{
    size_t bytes = (size_t)256 << 20;
    char *both = malloc(2 * bytes);
    double best = 1e9;

    if (both == NULL)
        return 0.0;
    memset(both, 1, 2 * bytes);
    for (int i = 0; i < 4; i++) {
        double start = now();

        memcpy(both + bytes, both, bytes);
        best = now() - start < best ? now() - start : best;
    }
    free(both);
    return 2.0 * (double)bytes / best;
}

#if defined(__x86_64__)
enum { FMA_ROUNDS = 10000000, FMA_CHAINS = 10 };

__attribute__((target("avx512f"))) static float fma_avx512(void)
{
    __m512 x[FMA_CHAINS], y = _mm512_set1_ps(0.999f);

    for (int c = 0; c < FMA_CHAINS; c++)
        x[c] = _mm512_set1_ps((float)c);
    for (int i = 0; i < FMA_ROUNDS; i++)
        for (int c = 0; c < FMA_CHAINS; c++)
            x[c] = _mm512_fmadd_ps(x[c], y, y);
    for (int c = 1; c < FMA_CHAINS; c++)
        x[0] = _mm512_add_ps(x[0], x[c]);
    return _mm512_cvtss_f32(x[0]);
}

__attribute__((target("avx2,fma"))) static float fma_avx2(void)
{
    __m256 x[FMA_CHAINS], y = _mm256_set1_ps(0.999f);

    for (int c = 0; c < FMA_CHAINS; c++)
        x[c] = _mm256_set1_ps((float)c);
    for (int i = 0; i < FMA_ROUNDS; i++)
        for (int c = 0; c < FMA_CHAINS; c++)
            x[c] = _mm256_fmadd_ps(x[c], y, y);
    for (int c = 1; c < FMA_CHAINS; c++)
        x[0] = _mm256_add_ps(x[0], x[c]);
    return _mm256_cvtss_f32(x[0]);
}

static double fma_rate(void)
{
    bool wide = __builtin_cpu_supports("avx512f");
    volatile float keep;
    double start = now();

    if (!wide && !__builtin_cpu_supports("avx2"))
        return 0.0;
    keep = wide ? fma_avx512() : fma_avx2();
    (void)keep;
    return 2.0 * (wide ? 16 : 8) * FMA_CHAINS * FMA_ROUNDS / (now() - start);
}
#else
static double fma_rate(void)
{
    return 0.0;
}
#endif

/* ---- one case on one device ---- */

/* Runs between two waits: on a device that works beside the host, waiting is not what is measured. */
static int runs_of(const sac_device *device)
{
    return sac_device_host_visible(device) ? 1 : 10;
}

/* Seconds of one run, of the best; negative where the device does not do the case. */
static double case_seconds(const struct kernel_data *data, sac_device *device, double budget)
{
    double best = 1e9, end;
    int runs = runs_of(device);
    struct kernel_copy copy;
    sac_stream *stream;
    sac_status st;

    if (sac_stream_open(device, 0, &stream, NULL) != SAC_OK ||
        kernel_copy_make(&copy, data, stream) != SAC_OK || kernel_reserve(data, &copy, stream) != SAC_OK ||
        sac_stream_wait(stream) != SAC_OK) {
        fprintf(stderr, "bench_kernels: no memory for a case of %s\n", data->op->name);
        exit(1);
    }
    end = now() + budget;
    do {
        double start = now(), took;

        st = SAC_OK;
        for (int i = 0; i < runs && st == SAC_OK; i++)
            st = kernel_run(data, &copy, stream);
        if (st == SAC_OK)
            st = sac_stream_wait(stream);
        took = (now() - start) / runs;
        best = took < best ? took : best;
    } while (st == SAC_OK && now() < end);
    if (st != SAC_OK && st != SAC_UNSUPPORTED) {
        fprintf(stderr, "bench_kernels: %s on %s: %s\n", data->op->name, sac_device_describe(device),
                sac_status_text(st));
        exit(1);
    }
    kernel_copy_free(&copy);
    sac_stream_close(stream);
    return st == SAC_OK ? best : -1.0;
}

static void case_name(const struct kernel_case *c, char *name, size_t size)
{
    static const char *const dtypes[] = {[SAC_F16] = " f16", [SAC_BF16] = " bf16", [SAC_I8] = " i8"};

    snprintf(name, size, "n=%u dim=%u k=%u q=%u pq=%ux%ux%u%s%s%s%s%s%s", c->n, c->dim, c->k, c->queries,
             c->pq.m, c->pq.nbits, c->pq.dsub, c->dtype == SAC_F32 ? "" : dtypes[c->dtype],
             c->distance == SAC_DISTANCE_NEG_IP ? " ip" : "", c->flags & CASE_NORMS ? " norms" : "",
             c->flags & CASE_CENTROIDS ? " residual" : "", c->flags & CASE_FILTERS ? " filters" : "",
             c->flags & CASE_LISTS ? " lists" : "");
}

static void report(const struct options *options, const struct kernel_data *data, const char *isa,
                   double seconds)
{
    char name[128];

    if (seconds < 0.0)
        return;
    case_name(data->c, name, sizeof name);
    if (options->json)
        printf("{\"op\":\"%s\",\"case\":\"%s\",\"isa\":\"%s\",\"threads\":%u,\"us\":%.2f,\"gbps\":%.2f,"
               "\"gflops\":%.2f}\n",
               data->op->name, name, isa, options->threads, seconds * 1e6, data->bytes / seconds * 1e-9,
               data->flops / seconds * 1e-9);
    else
        printf("%-17s %-52s %-10s %11.1f us %8.2f GB/s %8.2f G/s\n", data->op->name, name, isa, seconds * 1e6,
               data->bytes / seconds * 1e-9, data->flops / seconds * 1e-9);
    fflush(stdout);
}

static sac_device *open_device(const char *name, const char *isa, uint32_t threads)
{
    sac_device_options options;
    sac_device *device;
    sac_error err;

    sac_device_options_init(&options);
    options.name = name;
    options.isa = isa;
    options.threads = threads;
    if (sac_device_open(&options, &device, &err) != SAC_OK) {
        fprintf(stderr, "bench_kernels: %s\n", err.text);
        exit(1);
    }
    return device;
}

static void device_bench(const struct options *options, const struct kernel_data *data, const char *name,
                         const char *isa)
{
    sac_device *device = open_device(name, isa, options->threads);

    report(options, data, isa != NULL ? isa : name, case_seconds(data, device, options->seconds));
    sac_device_close(device);
}

static void op_bench(const struct options *options, const struct kernel_op *op)
{
    for (size_t i = 0; i < op->case_count; i++) {
        struct kernel_data data;
        char name[128];

        case_name(&op->cases[i], name, sizeof name);
        if (!(op->cases[i].flags & CASE_BENCH) ||
            (options->text != NULL && strstr(name, options->text) == NULL))
            continue;
        kernel_data_make(&data, op, &op->cases[i], 1);
        if (options->ref)
            device_bench(options, &data, "ref", NULL);
        if (options->device != NULL)
            device_bench(options, &data, options->device, NULL);
        for (size_t isa = 0; options->device == NULL && isa < ISA_COUNT; isa++)
            if (options->isa == NULL || strcmp(options->isa, isas[isa]) == 0)
                device_bench(options, &data, "cpu", isas[isa]);
        kernel_data_free(&data);
    }
}

static const char help[] =
    "usage: bench_kernels [--op NAME] [--case TEXT] [--isa ISA | --device NAME] [--threads N] [--seconds S]\n"
    "                     [--no-ref] [--json]\n"
    "\n"
    "Times every operation of kernels/ on its larger cases: the plain C twin, then each instruction set of "
    "the CPU\n"
    "or another device, whose memory holds the data before the clock starts.\n"
    "GB/s counts the bytes that must be moved at least, G/s the arithmetic (products and sums, or "
    "look-ups).\n"
    "\n"
    "  bench_kernels                           everything, one thread\n"
    "  bench_kernels --op pq_scan --threads 2  one operation on two threads\n"
    "  bench_kernels --op nearest --case q=1   the cases whose name has that text\n"
    "  bench_kernels --device cuda:0 --no-ref  everything on a GPU\n"
    "  bench_kernels --json                    one JSON object a line\n"
    "\n"
    "  --seconds S  time for each measurement, of which the best run counts (default 0.2)\n"
    "  --no-ref     leave out the twin, which is slow\n";

static int options_parse(int argc, char **argv, struct options *options)
{
    static const struct option longs[] = {
        {"op", required_argument, NULL, 'o'},      {"case", required_argument, NULL, 'c'},
        {"isa", required_argument, NULL, 'i'},     {"device", required_argument, NULL, 'd'},
        {"threads", required_argument, NULL, 't'}, {"seconds", required_argument, NULL, 's'},
        {"no-ref", no_argument, NULL, 'n'},        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
    };
    int opt;

    *options = (struct options){.threads = 1, .seconds = 0.2, .ref = true};
    while ((opt = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        switch (opt) {
        case 'o':
            options->op = optarg;
            break;
        case 'c':
            options->text = optarg;
            break;
        case 'i':
            options->isa = optarg;
            break;
        case 'd':
            options->device = optarg;
            break;
        case 't':
            options->threads = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 's':
            options->seconds = strtod(optarg, NULL);
            break;
        case 'n':
            options->ref = false;
            break;
        case 'j':
            options->json = true;
            break;
        case 'h':
            fputs(help, stdout);
            exit(0);
        default:
            fputs(help, stderr);
            return 2;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct options options;
    sac_device *device;

    if (options_parse(argc, argv, &options) != 0)
        return 2;
    device = open_device(options.device != NULL ? options.device : "cpu", NULL, options.threads);
    if (options.json)
        printf("{\"machine\":\"%s\",\"memcpy_gbps\":%.2f,\"fma_gflops\":%.2f}\n", sac_device_describe(device),
               memcpy_rate() * 1e-9, fma_rate() * 1e-9);
    else
        printf("%s; one thread at most: memcpy %.1f GB/s, FMA %.1f GFLOP/s\n", sac_device_describe(device),
               memcpy_rate() * 1e-9, fma_rate() * 1e-9);
    sac_device_close(device);
    for (size_t i = 0; i < kernel_op_count; i++)
        if (options.op == NULL || strcmp(options.op, kernel_ops[i]->name) == 0)
            op_bench(&options, kernel_ops[i]);
    return 0;
}
