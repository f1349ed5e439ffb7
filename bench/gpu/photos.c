/* bench_gpu_photos -- from JPEG bytes to ids on any device: a collection built from photographs, then asked
 * with them, one at a time and by all cores at once.
 *
 *   bench_gpu_photos --model DIR --work DIR [--device cuda:0] [--photos DIR] [--count 20000] [--queries 500]
 *                    [--images 100000] [--seconds 20] [--json FILE]
 *
 * The collection gets --count files, the photographs of --photos (else scenes of its own) over and over. The
 * last part asks with --images pictures, or with as many as there is time for, and looks at what memory
 * the process and the device hold once a fifth is done and at the end: it must not grow. Shares: "cores" is
 * processor time over time and cores; "device" is the rate over what the encoder alone reaches, given
 * pictures that are decoded already. Every part tells when it ran, so that another program's samples can be
 * matched. */
#include "bench/gpu/album.h"
#include "bench/gpu/driver.h"
#include "engine/progress.h"
#include "engine/saccade.h"

#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { K = 10, BATCH = 32, CALLERS_MAX = 256, ALONE = 256, PATH_SIZE = 4096 };

struct options {
    const char *device, *model, *photos, *work, *json;
    size_t count, queries, images;
    double seconds;
};

/* One part: what it did, and what of the machine it used. */
struct part {
    const char *name;
    double began, seconds, processor; /* unix time; seconds; seconds of all cores */
    size_t images;
};

static sac_device *device;
static sac_encoder *encoder;
static sac_database *database;
static sac_collection *collection;
static struct album album;
static double alone; /* images a second of the encoder alone */
static FILE *json;

static double seconds_of(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct part begin(const char *name)
{
    return (struct part){name, seconds_of(CLOCK_REALTIME), sac_clock(), seconds_of(CLOCK_PROCESS_CPUTIME_ID),
                         0};
}

static void end(struct part *part, size_t images)
{
    part->seconds = sac_clock() - part->seconds;
    part->processor = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - part->processor;
    part->images = images;
}

static double rate_of(const struct part *part)
{
    return (double)part->images / part->seconds;
}

/* The part as a line, and as the beginning of an object of the JSON that the caller ends. */
static void tell(const struct part *part)
{
    double cores = part->processor / part->seconds / (double)sysconf(_SC_NPROCESSORS_ONLN);
    double share = rate_of(part) / alone;

    printf("%-10s %9zu images %8.2f s %9.0f images/s   cores %3.0f %%   device %3.0f %%\n", part->name,
           part->images, part->seconds, rate_of(part), 100 * cores, 100 * share);
    fflush(stdout);
    if (json != NULL)
        fprintf(json,
                ",\n\"%s\": {\"began\": %.3f, \"seconds\": %.4f, \"images\": %zu, \"images_s\": %.6g, "
                "\"cores_share\": %.4f, \"device_share\": %.4f",
                part->name, part->began, part->seconds, part->images, rate_of(part), cores, share);
}

static void tell_end(void)
{
    if (json != NULL)
        fprintf(json, "}");
}

static void prepare(size_t i, sac_prepared **out)
{
    const struct photo *photo = &album.photos[i % album.count];
    sac_error err;

    check(sac_encoder_prepare(encoder, photo->bytes, photo->size, NULL, out, &err), &err);
}

/* ---- the encoder alone ------------------------------------------------------------------------------ */

struct embedding {
    sac_prepared **pictures;
    double seconds;
    size_t images;
};

static void *embed_often(void *context)
{
    struct embedding *e = context;
    float *vectors = need(ALONE, sac_encoder_dim(encoder) * sizeof *vectors);
    double start = sac_clock();
    sac_error err;

    do {
        check(sac_encoder_embed(encoder, ALONE, e->pictures, vectors, &err), &err);
        e->images += ALONE;
    } while (sac_clock() - start < e->seconds);
    free(vectors);
    return NULL;
}

/* Two callers, so that one's copies hide behind the other's work. */
static void encoder_alone(double seconds)
{
    struct embedding callers[2];
    pthread_t threads[2];
    sac_prepared **pictures = need(ALONE, sizeof(sac_prepared *));
    struct part part;

    for (size_t i = 0; i < ALONE; i++)
        prepare(i, &pictures[i]);
    callers[0] = (struct embedding){pictures, 0, 0};
    embed_often(&callers[0]); /* memory is taken at the first call */
    part = begin("alone");
    for (int i = 0; i < 2; i++) {
        callers[i] = (struct embedding){pictures, seconds, 0};
        if (pthread_create(&threads[i], NULL, embed_often, &callers[i]) != 0)
            fail("cannot start a thread");
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    end(&part, callers[0].images + callers[1].images);
    alone = rate_of(&part);
    tell(&part);
    tell_end();
    for (size_t i = 0; i < ALONE; i++)
        sac_prepared_free(pictures[i]);
    free(pictures);
}

/* ---- a collection ----------------------------------------------------------------------------------- */

static void open_collection(const struct options *o)
{
    sac_collection_params params;
    char path[PATH_SIZE];
    sac_error err;

    snprintf(path, sizeof path, "%s/data", o->work);
    sac_collection_params_init(&params);
    params.dim = sac_encoder_dim(encoder);
    params.model = o->model;
    params.fingerprint = sac_encoder_fingerprint(encoder);
    check(sac_database_open(device, path, SAC_OPEN_CREATE, &database, &err), &err);
    check(sac_database_create(database, "photos", &params, &err), &err);
    check(sac_collection_acquire(database, "photos", &collection, &err), &err);
}

static void ingest(const struct options *o)
{
    char path[PATH_SIZE];
    const char *folder = path;
    sac_ingest_params params = {.paths = &folder, .path_count = 1};
    sac_ingest_result result;
    sac_collection_info info;
    struct part part;
    double start;
    sac_error err;

    snprintf(path, sizeof path, "%s/photos", o->work);
    album_write(&album, path, o->count);
    part = begin("ingest");
    check(sac_ingest(collection, encoder, &params, NULL, NULL, &result, &err), &err);
    end(&part, result.stored);
    tell(&part);
    start = sac_clock();
    check(sac_collection_build(collection, NULL, NULL, NULL, &err), &err);
    start = sac_clock() - start;
    sac_collection_stats(collection, &info);
    printf("           decode threads busy %.0f %%, encoder busy %.0f %%; %s built in %.2f s; %llu pictures "
           "failed\n",
           100 * result.decode_busy, 100 * result.encoder_busy, info.index.spec, start,
           (unsigned long long)result.failed);
    if (json != NULL)
        fprintf(json,
                ", \"decode_busy\": %.4f, \"encoder_busy\": %.4f, \"failed\": %llu, \"spec\": \"%s\", "
                "\"build_seconds\": %.3f",
                result.decode_busy, result.encoder_busy, (unsigned long long)result.failed, info.index.spec,
                start);
    tell_end();
}

/* ---- questions -------------------------------------------------------------------------------------- */

static size_t ask(sac_prepared *const *pictures, size_t n)
{
    sac_query queries[BATCH];
    sac_results *results;
    sac_error err;
    size_t count;

    for (size_t i = 0; i < n; i++) {
        sac_query_init(&queries[i]);
        queries[i].k = K;
    }
    check(sac_collection_search_pictures(collection, encoder, pictures, queries, n, 0, &results, &err), &err);
    (void)sac_results_get(results, n - 1, &count);
    sac_results_free(results);
    return count;
}

/* JPEG bytes to ids, one after another; how long decoding alone took is told beside. */
static void ask_one_by_one(size_t count)
{
    double *whole = need(count, sizeof *whole), *decode = need(count, sizeof *decode);
    struct spread all, decoding;
    sac_prepared *picture;
    struct part part;

    for (size_t i = 0; i < 20; i++) { /* memory is taken and passes are recorded at the first ones */
        prepare(i, &picture);
        (void)ask(&picture, 1);
        sac_prepared_free(picture);
    }
    part = begin("one");
    for (size_t i = 0; i < count; i++) {
        double start = sac_clock();

        prepare(i, &picture);
        decode[i] = sac_clock() - start;
        if (ask(&picture, 1) == 0)
            fail("a search found nothing");
        sac_prepared_free(picture);
        whole[i] = sac_clock() - start;
    }
    end(&part, count);
    tell(&part);
    all = spread_of(whole, count);
    decoding = spread_of(decode, count);
    printf("           bytes to ids p50 %.3f ms p99 %.3f ms; of it decoding p50 %.3f ms p99 %.3f ms\n",
           1e3 * all.p50, 1e3 * all.p99, 1e3 * decoding.p50, 1e3 * decoding.p99);
    if (json != NULL)
        fprintf(json,
                ", \"p50_ms\": %.5g, \"p99_ms\": %.5g, \"decode_p50_ms\": %.5g, \"decode_p99_ms\": %.5g",
                1e3 * all.p50, 1e3 * all.p99, 1e3 * decoding.p50, 1e3 * decoding.p99);
    tell_end();
    free(whole);
    free(decode);
}

/* ---- all cores at once ------------------------------------------------------------------------------- */

struct crowd {
    atomic_size_t next; /* pictures given out */
    atomic_size_t done;
    size_t images;
    double until;
};

static void *ask_often(void *context)
{
    struct crowd *crowd = context;
    sac_prepared *pictures[BATCH];
    size_t first;

    while ((first = atomic_fetch_add(&crowd->next, BATCH)) < crowd->images && sac_clock() < crowd->until) {
        size_t n = crowd->images - first < BATCH ? crowd->images - first : BATCH;

        for (size_t i = 0; i < n; i++)
            prepare(first + i, &pictures[i]);
        (void)ask(pictures, n);
        for (size_t i = 0; i < n; i++)
            sac_prepared_free(pictures[i]);
        atomic_fetch_add(&crowd->done, n);
    }
    return NULL;
}

struct held {
    double process, device; /* bytes */
};

static struct held memory_held(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long long pages = 0;
    sac_device_memory memory;

    if (file == NULL || fscanf(file, "%*u %llu", &pages) != 1)
        fail("cannot read /proc/self/statm");
    fclose(file);
    sac_device_memory_describe(device, &memory);
    return (struct held){(double)pages * (double)sysconf(_SC_PAGESIZE), (double)memory.used};
}

/* Sleeps until a fifth is done, of the pictures or of the time. */
static void wait_for_a_fifth(const struct crowd *crowd, double start)
{
    double fifth = start + (crowd->until - start) / 5;

    while (atomic_load(&crowd->done) < crowd->images / 5 && sac_clock() < fifth)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

static void ask_by_all_cores(size_t images, double seconds)
{
    uint32_t count = sac_device_threads(device);
    pthread_t threads[CALLERS_MAX];
    struct crowd crowd = {.images = images, .until = sac_clock() + seconds};
    struct held early, late;
    struct part part = begin("saturated");
    size_t at_early;

    count = count < CALLERS_MAX ? count : CALLERS_MAX;
    for (uint32_t i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, ask_often, &crowd) != 0)
            fail("cannot start a thread");
    wait_for_a_fifth(&crowd, crowd.until - seconds);
    early = memory_held();
    at_early = atomic_load(&crowd.done);
    for (uint32_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    end(&part, atomic_load(&crowd.done));
    late = memory_held();
    tell(&part);
    printf("           memory after %zu and %zu images: process %.1f and %.1f MB, device %.1f and %.1f MB\n",
           at_early, part.images, early.process / 1e6, late.process / 1e6, early.device / 1e6,
           late.device / 1e6);
    if (json != NULL)
        fprintf(json,
                ", \"callers\": %u, \"asked\": %zu, \"memory\": {\"images\": [%zu, %zu], \"process\": [%.0f, "
                "%.0f], "
                "\"device\": [%.0f, %.0f]}",
                count, images, at_early, part.images, early.process, late.process, early.device, late.device);
    tell_end();
}

/* ---- options ---------------------------------------------------------------------------------------- */

static void parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"device", required_argument, NULL, 'd'}, {"model", required_argument, NULL, 'm'},
        {"photos", required_argument, NULL, 'p'}, {"work", required_argument, NULL, 'w'},
        {"count", required_argument, NULL, 'n'},  {"queries", required_argument, NULL, 'q'},
        {"images", required_argument, NULL, 'i'}, {"seconds", required_argument, NULL, 's'},
        {"json", required_argument, NULL, 'j'},   {NULL, 0, NULL, 0}};
    int c;

    *o = (struct options){.device = "auto",
                          .model = "builtin",
                          .count = 20000,
                          .queries = 500,
                          .images = 100000,
                          .seconds = 20};
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'd':
            o->device = optarg;
            break;
        case 'm':
            o->model = optarg;
            break;
        case 'p':
            o->photos = optarg;
            break;
        case 'w':
            o->work = optarg;
            break;
        case 'n':
            o->count = strtoul(optarg, NULL, 10);
            break;
        case 'q':
            o->queries = strtoul(optarg, NULL, 10);
            break;
        case 'i':
            o->images = strtoul(optarg, NULL, 10);
            break;
        case 's':
            o->seconds = strtod(optarg, NULL);
            break;
        case 'j':
            o->json = optarg;
            break;
        default:
            exit(2);
        }
    }
    if (optind != argc || o->work == NULL || o->count == 0 || o->queries == 0 || mkdir(o->work, 0777) != 0)
        fail("usage: bench_gpu_photos --model DIR --work NEW_FOLDER [--photos DIR] ...");
}

static void open_encoder(const struct options *o)
{
    sac_device_options device_options;
    sac_encoder_options encoder_options;
    sac_error err;

    sac_device_options_init(&device_options);
    device_options.name = o->device;
    check(sac_device_open(&device_options, &device, &err), &err);
    sac_encoder_options_init(&encoder_options);
    encoder_options.batch_max = ALONE;
    check(sac_encoder_open(device, o->model, &encoder_options, &encoder, &err), &err);
}

int main(int argc, char **argv)
{
    struct options o;

    parse(argc, argv, &o);
    album_open(&album, o.photos);
    open_encoder(&o);
    printf("%s\n%s; %zu photographs, on average %.0f kB; %u threads\n", sac_device_describe(device),
           sac_encoder_name(encoder), album.count, album.mean_bytes / 1e3, sac_device_threads(device));
    if (o.json != NULL && (json = fopen(o.json, "w")) == NULL)
        fail("cannot write the file of --json");
    if (json != NULL)
        fprintf(json, "{\"model\": \"%s\", \"photographs\": %zu, \"mean_bytes\": %.0f, \"threads\": %u",
                sac_encoder_name(encoder), album.count, album.mean_bytes, sac_device_threads(device));
    encoder_alone(1);
    open_collection(&o);
    ingest(&o);
    ask_one_by_one(o.queries);
    ask_by_all_cores(o.images, o.seconds);
    if (json != NULL && (fprintf(json, "}\n") < 0 || fclose(json) != 0))
        fail("cannot write the file of --json");
    sac_collection_release(collection);
    sac_database_close(database);
    sac_encoder_close(encoder);
    sac_device_close(device);
    album_close(&album);
    return 0;
}
