/* ingest.c -- decode threads -> a bounded queue of prepared pictures -> the calling thread, which embeds and
 * stores.
 *
 * A slot holds one prepared picture. Decode threads take free slots and queue them as ready; the calling
 * thread empties them into a flight: a batch that it submits to the encoder, and lands when it is through. On
 * a device that works beside the host two flights are in the air, so that it has the next one's work before
 * it is done with the last: the calling thread waits for the device only while less than a batch is queued.
 * The slots bound the memory, and a thread that finds none free waits.
 */
#include "engine/ingest.h"

#include "engine/collection.h"
#include "engine/encoder.h"
#include "engine/progress.h"
#include "engine/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    HOST_BATCH = 16, /* embedded at a time where it takes long: rows enough for a product, and soon done */
    FLIGHTS_MAX = 2,
    COMMIT_ITEMS = 256, /* a commit comes after so many pictures */
    THREADS_MAX = 256,
    FILE_BYTES_MAX = 64 << 20, /* above every limit that a decoder could have */
    WAIT_MS = 100,             /* for a batch to fill */
};

#define COMMIT_SECONDS 0.25 /* or so long after the last one: what a kill can cost */

struct slot {
    const struct sac_walk_file *file;
    uint64_t size; /* of the file as it was read */
    int64_t mtime_ns;
    sac_prepared *picture; /* while it is ready */
};

/* An embedded picture that waits for its commit; vectors lie beside. */
struct pending {
    const char *path;
    sac_attribute attributes[2];
    char id_buffer[SAC_ID_TEXT_MAX];
};

/* Pictures on their way through the encoder. */
struct flight {
    sac_embeddings *embeddings; /* NULL: there was no memory to submit them all at once */
    sac_prepared **pictures;    /* [batch] */
    struct pending *items;      /* [batch] */
    size_t n;
    double began;
};

struct ingest {
    sac_collection *collection;
    sac_encoder *encoder;
    const sac_ingest_params *params;
    sac_ingest_result *result;
    sac_progress_meter meter;
    struct sac_walk walk; /* after the scan: only what is to be embedded */
    size_t dim;

    pthread_mutex_t lock; /* of everything up to `errors` */
    pthread_cond_t slot_ready, slot_free;
    struct slot *slots, **ready, **idle;
    size_t slot_count, ready_count, idle_count;
    size_t next; /* file to be decoded */
    size_t threads_running;
    bool stop;
    uint64_t failed;
    double decode_seconds; /* of all threads */
    FILE *errors;          /* NULL: none wanted */

    /* Of the calling thread. */
    size_t batch;
    struct slot **taken; /* [batch] */
    struct flight flights[FLIGHTS_MAX];
    size_t flights_max, first_flight, flight_count; /* a ring: the first one was submitted first */
    double encoder_seconds, landed_at;
    struct pending *pending; /* [COMMIT_ITEMS + batch], like the next two */
    sac_item *items;
    float *vectors; /* [][dim] */
    size_t pending_count;
    uint64_t embedded;
    double committed_at;
};

/* Under the lock, or before and after the threads run. */
static void note_failure(struct ingest *in, const char *path, const char *reason)
{
    in->failed++;
    if (in->errors == NULL)
        return;
    for (const char *c = path; *c != '\0'; c++) /* one line a picture, whatever its name holds */
        fputc((uint8_t)*c < 0x20 ? '?' : *c, in->errors);
    fprintf(in->errors, "\t%s\n", reason);
}

/* ---- scan: what is to be done ---- */

static bool has_number(const sac_item *item, const char *name, int64_t value)
{
    for (size_t i = 0; i < item->attribute_count; i++) {
        const sac_attribute *a = &item->attributes[i];

        if (a->name_size == strlen(name) && memcmp(a->name, name, a->name_size) == 0)
            return a->kind == SAC_ATTRIBUTE_INT && a->integer == value;
    }
    return false;
}

static bool is_stored(const struct ingest *in, const struct sac_walk_file *file)
{
    char buffer[SAC_ID_TEXT_MAX];
    sac_record *record;
    bool same;

    if (sac_collection_get(in->collection, sac_ingest_id(file->path, buffer), &record, NULL) != SAC_OK)
        return false;
    same = has_number(sac_record_item(record), "size", (int64_t)file->size) &&
           has_number(sac_record_item(record), "mtime_ns", file->mtime_ns);
    sac_record_free(record);
    return same;
}

static bool scan_tick(void *context, size_t found)
{
    struct ingest *in = context;

    in->meter.state.total = found + 1; /* nobody knows yet */
    return sac_progress_step(&in->meter, found, 0);
}

static sac_status scan(struct ingest *in, sac_error *err)
{
    size_t left = 0;
    sac_status st = sac_walk_paths(in->params->paths, in->params->path_count, scan_tick, in, &in->walk, err);

    if (st != SAC_OK)
        return st;
    in->result->found = in->walk.count;
    in->meter.state.total = in->walk.count;
    for (size_t i = 0; i < in->walk.count; i++) {
        if (is_stored(in, &in->walk.files[i]))
            in->result->skipped++;
        else
            in->walk.files[left++] = in->walk.files[i];
        if (!sac_progress_step(&in->meter, i + 1, 0))
            return sac_fail(err, SAC_CANCELLED, "stopped on request before anything was embedded");
    }
    in->walk.count = left;
    return SAC_OK;
}

/* ---- decode threads ---- */

/* Reads a whole file. *bytes belongs to the thread and grows as needed. */
static sac_status read_file(const char *path, struct slot *slot, uint8_t **bytes, size_t *capacity,
                            sac_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hold us up */
    struct stat st;
    uint64_t at = 0;

    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        int code = fd < 0 ? errno : S_ISDIR(st.st_mode) ? EISDIR : EINVAL;

        if (fd >= 0)
            close(fd);
        return sac_fail(err, SAC_IO, "cannot read: %s", strerror(code));
    }
    slot->size = (uint64_t)st.st_size;
    slot->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    if (slot->size > FILE_BYTES_MAX) {
        close(fd);
        return sac_fail(err, SAC_IMAGE_REJECTED, "%" PRIu64 " bytes: at most %d are read", slot->size,
                        FILE_BYTES_MAX);
    }
    if (slot->size > *capacity) {
        free(*bytes);
        *bytes = malloc(slot->size);
        *capacity = *bytes != NULL ? slot->size : 0;
    }
    while (at < slot->size && *bytes != NULL) {
        ssize_t n = read(fd, *bytes + at, slot->size - at);

        if (n == 0 || (n < 0 && errno != EINTR)) /* 0: it shrank; errno would be an older call's */
            break;
        at += n > 0 ? (uint64_t)n : 0;
    }
    close(fd);
    if (*capacity < slot->size)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for %" PRIu64 " bytes", slot->size);
    return at == slot->size ? SAC_OK : sac_fail(err, SAC_IO, "cannot read: it changed or the disk failed");
}

/* The next picture and a slot to put it into; false when there is nothing more to do. */
static bool take_work(struct ingest *in, struct slot **slot)
{
    bool more;

    pthread_mutex_lock(&in->lock);
    while (in->idle_count == 0 && !in->stop && in->next < in->walk.count)
        pthread_cond_wait(&in->slot_free, &in->lock);
    more = !in->stop && in->next < in->walk.count;
    if (more) {
        *slot = in->idle[--in->idle_count];
        (*slot)->file = &in->walk.files[in->next++];
    }
    pthread_mutex_unlock(&in->lock);
    return more;
}

static void hand_over(struct ingest *in, struct slot *slot, sac_status st, double seconds,
                      const sac_error *err)
{
    pthread_mutex_lock(&in->lock);
    in->decode_seconds += seconds;
    if (st == SAC_OK) {
        in->ready[in->ready_count++] = slot;
    } else {
        note_failure(in, slot->file->path, err->text);
        in->idle[in->idle_count++] = slot;
    }
    pthread_cond_signal(&in->slot_ready);
    pthread_mutex_unlock(&in->lock);
}

static void *decode_pictures(void *context)
{
    struct ingest *in = context;
    uint8_t *bytes = NULL;
    size_t capacity = 0;
    struct slot *slot;

    while (take_work(in, &slot)) {
        double began = sac_clock();
        sac_error err = {0};
        sac_status st = read_file(slot->file->path, slot, &bytes, &capacity, &err);

        if (st == SAC_OK)
            st = sac_encoder_prepare(in->encoder, bytes, slot->size, NULL, &slot->picture, &err);
        hand_over(in, slot, st, sac_clock() - began, &err);
    }
    free(bytes);
    pthread_mutex_lock(&in->lock);
    in->threads_running--;
    pthread_cond_signal(&in->slot_ready);
    pthread_cond_broadcast(&in->slot_free); /* those that wait for a slot: the work may be over */
    pthread_mutex_unlock(&in->lock);
    return NULL;
}

/* ---- embed and store ---- */

/* Commits what is pending. */
static sac_status commit(struct ingest *in, sac_error *err)
{
    sac_status st;

    for (size_t i = 0; i < in->pending_count; i++) {
        struct pending *p = &in->pending[i];

        in->items[i] = (sac_item){.id = sac_ingest_id(p->path, p->id_buffer),
                                  .vector = in->vectors + i * in->dim,
                                  .attributes = p->attributes,
                                  .attribute_count = 2,
                                  .source = p->path,
                                  .source_size = strlen(p->path)};
    }
    st = sac_collection_put(in->collection, in->items, in->pending_count, err);
    if (st == SAC_OK)
        in->result->stored += in->pending_count;
    in->pending_count = 0;
    pthread_mutex_lock(&in->lock);
    if (in->errors != NULL)
        fflush(in->errors);
    pthread_mutex_unlock(&in->lock);
    in->committed_at = sac_clock();
    return st;
}

static sac_attribute int_attribute(const char *name, int64_t value)
{
    return (sac_attribute){
        .name = name, .name_size = strlen(name), .kind = SAC_ATTRIBUTE_INT, .integer = value};
}

/* Under the lock: there is a whole batch, or all that will come. */
static bool batch_ready(const struct ingest *in)
{
    return in->ready_count >= in->batch || in->threads_running == 0;
}

/* Moves ready pictures into a flight: waits a little for a full one. *over when no more will come. */
static void take_batch(struct ingest *in, struct flight *flight, bool *over)
{
    struct timespec until;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += WAIT_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    flight->n = 0;
    pthread_mutex_lock(&in->lock);
    while (!batch_ready(in) && rc == 0)
        rc = pthread_cond_timedwait(&in->slot_ready, &in->lock, &until);
    while (flight->n < in->batch && in->ready_count > 0)
        in->taken[flight->n++] = in->ready[--in->ready_count];
    *over = in->threads_running == 0 && in->ready_count == 0;
    pthread_mutex_unlock(&in->lock);
    for (size_t i = 0; i < flight->n; i++) {
        struct pending *p = &flight->items[i];
        struct slot *slot = in->taken[i];

        flight->pictures[i] = slot->picture;
        slot->picture = NULL;
        p->path = slot->file->path;
        p->attributes[0] = int_attribute("size", (int64_t)slot->size);
        p->attributes[1] = int_attribute("mtime_ns", slot->mtime_ns);
    }
    pthread_mutex_lock(&in->lock);
    for (size_t i = 0; i < flight->n; i++)
        in->idle[in->idle_count++] = in->taken[i];
    pthread_cond_broadcast(&in->slot_free);
    pthread_mutex_unlock(&in->lock);
}

/* Sends the next pictures into the encoder, where there are any. */
static sac_status launch(struct ingest *in, bool *over, sac_error *err)
{
    struct flight *flight = &in->flights[(in->first_flight + in->flight_count) % in->flights_max];
    sac_status st;

    take_batch(in, flight, over);
    if (flight->n == 0)
        return SAC_OK;
    in->flight_count++;
    flight->began = sac_clock();
    st = sac_encoder_submit(in->encoder, flight->n, flight->pictures, &flight->embeddings, err);
    return st == SAC_DEVICE_MEMORY ? SAC_OK : st; /* landing takes them in smaller parts */
}

static void empty_flight(struct flight *flight)
{
    sac_embeddings_release(flight->embeddings);
    flight->embeddings = NULL;
    for (size_t i = 0; i < flight->n; i++)
        sac_prepared_free(flight->pictures[i]);
    flight->n = 0;
}

/* Waits for the oldest flight and adds what it brings to what is pending. */
static sac_status land(struct ingest *in, sac_error *err)
{
    struct flight *flight = &in->flights[in->first_flight];
    float *vectors = in->vectors + in->pending_count * in->dim;
    sac_status st = flight->embeddings != NULL
                        ? sac_embeddings_fetch(flight->embeddings, vectors, err)
                        : sac_encoder_embed(in->encoder, flight->n, flight->pictures, vectors, err);
    double now = sac_clock(), from = flight->began > in->landed_at ? flight->began : in->landed_at;

    in->encoder_seconds += now - from; /* a flight that is through by now is busy until it is looked at */
    in->landed_at = now;
    if (st == SAC_OK) {
        memcpy(in->pending + in->pending_count, flight->items, flight->n * sizeof *flight->items);
        in->pending_count += flight->n;
        in->embedded += flight->n;
    }
    empty_flight(flight);
    in->first_flight = (in->first_flight + 1) % in->flights_max;
    in->flight_count--;
    return st;
}

static bool report(struct ingest *in)
{
    uint64_t failed;

    pthread_mutex_lock(&in->lock);
    failed = in->failed;
    pthread_mutex_unlock(&in->lock);
    return sac_progress_step(&in->meter, in->embedded + failed, failed);
}

/* Whether the next flight starts before the oldest lands. */
static bool launch_next(struct ingest *in, bool over)
{
    bool ready;

    if (over || in->flight_count == in->flights_max)
        return false;
    pthread_mutex_lock(&in->lock);
    ready = batch_ready(in);
    pthread_mutex_unlock(&in->lock);
    return ready || in->flight_count == 0;
}

static sac_status embed_some(struct ingest *in, bool *over, sac_error *err)
{
    sac_status st;

    if (launch_next(in, *over))
        return launch(in, over, err);
    st = in->flight_count > 0 ? land(in, err) : SAC_OK;
    if (st == SAC_OK && (in->pending_count >= COMMIT_ITEMS ||
                         (in->pending_count > 0 && sac_clock() - in->committed_at >= COMMIT_SECONDS)))
        st = commit(in, err);
    if (st == SAC_OK && !report(in))
        st = sac_fail(err, SAC_CANCELLED, "stopped on request: what is done is kept");
    return st;
}

static sac_status embed_pictures(struct ingest *in, sac_error *err)
{
    sac_status st = SAC_OK;
    bool over = false;

    in->committed_at = sac_clock();
    while (st == SAC_OK && (!over || in->flight_count > 0))
        st = embed_some(in, &over, err);
    if ((st == SAC_OK || st == SAC_CANCELLED) && in->pending_count > 0) {
        sac_status last = commit(in, st == SAC_OK ? err : NULL);

        st = last == SAC_OK ? st : last;
    }
    return st;
}

/* ---- the whole ---- */

static bool make_flights(struct ingest *in)
{
    size_t pending = COMMIT_ITEMS + in->batch;
    bool good;

    in->taken = calloc(in->batch, sizeof(struct slot *));
    in->pending = calloc(pending, sizeof *in->pending);
    in->items = calloc(pending, sizeof *in->items);
    in->vectors = calloc(pending, in->dim * sizeof *in->vectors);
    good = in->taken != NULL && in->pending != NULL && in->items != NULL && in->vectors != NULL;
    for (size_t i = 0; i < in->flights_max && good; i++) {
        in->flights[i].pictures = calloc(in->batch, sizeof(sac_prepared *));
        in->flights[i].items = calloc(in->batch, sizeof *in->flights[i].items);
        good = in->flights[i].pictures != NULL && in->flights[i].items != NULL;
    }
    return good;
}

static sac_status make_slots(struct ingest *in, size_t threads, sac_error *err)
{
    bool host = sac_device_host_visible(sac_encoder_device(in->encoder)), good;

    in->batch = sac_encoder_pass(in->encoder);
    if (host && in->batch > HOST_BATCH)
        in->batch = HOST_BATCH;
    in->flights_max = host ? 1 : FLIGHTS_MAX;
    in->slot_count = 2 * in->batch + threads;
    in->slots = calloc(in->slot_count, sizeof *in->slots);
    in->ready = calloc(in->slot_count, sizeof(struct slot *));
    in->idle = calloc(in->slot_count, sizeof(struct slot *));
    good = make_flights(in) && in->slots != NULL && in->ready != NULL && in->idle != NULL;
    for (size_t i = 0; i < in->slot_count && good; i++)
        in->idle[in->idle_count++] = &in->slots[i];
    return good ? SAC_OK : sac_fail(err, SAC_NO_MEMORY, "no memory for a queue of pictures");
}

static void free_slots(struct ingest *in)
{
    for (size_t i = 0; i < in->slot_count && in->slots != NULL; i++)
        sac_prepared_free(in->slots[i].picture);
    for (size_t i = 0; i < in->flights_max; i++) {
        empty_flight(&in->flights[i]);
        free(in->flights[i].pictures);
        free(in->flights[i].items);
    }
    free(in->slots);
    free(in->ready);
    free(in->idle);
    free(in->taken);
    free(in->pending);
    free(in->items);
    free(in->vectors);
}

/* What was busy how much of the time. */
static void measure(struct ingest *in, size_t threads, double seconds)
{
    in->result->decode_threads = (uint32_t)threads;
    if (seconds > 0) {
        in->result->decode_busy = in->decode_seconds / (seconds * (double)threads);
        in->result->encoder_busy = in->encoder_seconds / seconds;
    }
}

static sac_status run_threads(struct ingest *in, size_t threads, sac_error *err)
{
    pthread_t ids[THREADS_MAX];
    double began = sac_clock();
    size_t started = 0;
    sac_status st = SAC_OK;

    in->threads_running = threads;
    while (started < threads && pthread_create(&ids[started], NULL, decode_pictures, in) == 0)
        started++;
    pthread_mutex_lock(&in->lock);
    in->threads_running -= threads - started;
    pthread_mutex_unlock(&in->lock);
    if (started == 0)
        st = sac_fail(err, SAC_NO_MEMORY, "no decode thread could be started");
    if (st == SAC_OK)
        st = embed_pictures(in, err);
    pthread_mutex_lock(&in->lock);
    in->stop = true;
    pthread_cond_broadcast(&in->slot_free);
    pthread_mutex_unlock(&in->lock);
    for (size_t i = 0; i < started; i++)
        pthread_join(ids[i], NULL);
    measure(in, started > 0 ? started : 1, sac_clock() - began);
    return st;
}

static sac_status ingest_all(struct ingest *in, sac_progress_fn progress, void *context, sac_error *err)
{
    size_t threads = in->params->decode_threads != 0 ? in->params->decode_threads
                                                     : sac_device_threads(in->collection->device);
    sac_status st;

    threads = threads < THREADS_MAX ? threads : THREADS_MAX;
    sac_progress_begin(&in->meter, progress, context, "scan", 0);
    st = scan(in, err);
    sac_progress_begin(&in->meter, progress, context, "embed", in->walk.count);
    if (st == SAC_OK && in->walk.count > 0)
        st = make_slots(in, threads, err);
    if (st == SAC_OK && in->walk.count > 0)
        st = run_threads(in, threads, err);
    in->result->failed = in->failed;
    free_slots(in);
    sac_walk_free(&in->walk);
    return st;
}

static void init_locks(struct ingest *in)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&in->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&in->slot_ready, &attr);
    pthread_cond_init(&in->slot_free, &attr);
    pthread_condattr_destroy(&attr);
}

sac_status sac_ingest(sac_collection *collection, sac_encoder *encoder, const sac_ingest_params *params,
                      sac_progress_fn progress, void *context, sac_ingest_result *result, sac_error *err)
{
    struct ingest in = {.collection = collection,
                        .encoder = encoder,
                        .params = params,
                        .result = result,
                        .dim = sac_encoder_dim(encoder)};
    double began = sac_clock();
    sac_status st = sac_collection_check_encoder(collection, encoder, err);

    *result = (sac_ingest_result){0};
    if (st == SAC_OK && !collection->writable)
        st = sac_fail(err, SAC_READ_ONLY, "the database was opened for reading");
    if (st != SAC_OK)
        return st;
    if (params->error_list != NULL) {
        in.errors = fopen(params->error_list, "ae");
        if (in.errors == NULL)
            return sac_fail(err, SAC_IO, "cannot write the error list %s: %s", params->error_list,
                            strerror(errno));
    }
    init_locks(&in);
    st = ingest_all(&in, progress, context, err);
    pthread_cond_destroy(&in.slot_free);
    pthread_cond_destroy(&in.slot_ready);
    pthread_mutex_destroy(&in.lock);
    if (in.errors != NULL && fclose(in.errors) != 0 && st == SAC_OK)
        st = sac_fail(err, SAC_IO, "cannot write the error list %s: %s", params->error_list, strerror(errno));
    result->seconds = sac_clock() - began;
    return st;
}
