/* From folders to a collection: what is stored, what is skipped, what is refused, and what a kill costs. */
#include "engine/ingest.h"
#include "tests/scratch.h"

#include <jpeglib.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIDE = 32 };

static char folder[SAC_SCRATCH_PATH_MAX]; /* photos/ and data/ */
static sac_device *device;
static sac_encoder *encoder;
static sac_database *db;
static sac_collection *collection;

static const char *at(const char *name)
{
    static char paths[4][2 * SAC_SCRATCH_PATH_MAX];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* A small JPEG that differs with the seed. */
static void write_picture(const char *name, unsigned seed)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    FILE *f = fopen(at(name), "w");
    uint8_t row[SIDE * 3];
    JSAMPROW rows = row;

    assert_non_null(f);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, f);
    jpeg.image_width = jpeg.image_height = SIDE;
    jpeg.input_components = 3;
    jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    for (unsigned y = 0; y < SIDE; y++) {
        for (unsigned x = 0; x < SIDE * 3; x++)
            row[x] = (uint8_t)(seed * 37 + x * (seed % 5 + 1) + y * (seed % 7));
        jpeg_write_scanlines(&jpeg, &rows, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    fclose(f);
}

static void write_text(const char *name, const char *text)
{
    FILE *f = fopen(at(name), "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void write_pictures(unsigned n)
{
    char name[64];

    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof name, "photos/%04u.jpg", i);
        write_picture(name, i);
    }
}

static void open_collection_with(uint32_t threads, const char *device_name, const char *model)
{
    sac_device_options options;
    sac_collection_params params;
    sac_error err = {0};

    sac_device_options_init(&options);
    options.name = device_name;
    options.threads = threads;
    sac_collection_params_init(&params);
    if (sac_device_open(&options, &device, &err) != SAC_OK ||
        sac_encoder_open(device, model, NULL, &encoder, &err) != SAC_OK)
        fail_msg("%s", err.text);
    params.dim = sac_encoder_dim(encoder);
    params.model = model;
    params.fingerprint = sac_encoder_fingerprint(encoder);
    if (sac_database_open(device, at("data"), SAC_OPEN_CREATE, &db, &err) != SAC_OK ||
        sac_database_create(db, "c", &params, &err) != SAC_OK ||
        sac_collection_acquire(db, "c", &collection, &err) != SAC_OK)
        fail_msg("%s", err.text);
}

static void open_collection(uint32_t threads)
{
    open_collection_with(threads, NULL, "builtin");
}

static void close_collection(void)
{
    sac_collection_release(collection);
    sac_database_close(db);
    sac_encoder_close(encoder);
    sac_device_close(device);
}

static int make_folders(void **state)
{
    char *real;

    (void)state;
    sac_scratch_make(folder);
    real = realpath(folder, NULL);
    strcpy(folder, real);
    free(real);
    return mkdir(at("photos"), 0777);
}

static int make_collection(void **state)
{
    make_folders(state);
    open_collection(2);
    return 0;
}

static int remove_collection(void **state)
{
    (void)state;
    close_collection();
    sac_scratch_remove(folder);
    return 0;
}

static int remove_folders(void **state)
{
    (void)state;
    sac_scratch_remove(folder);
    return 0;
}

static sac_ingest_result ingest(sac_status want, sac_progress_fn progress, void *context)
{
    const char *path = at("photos");
    sac_ingest_params params = {.paths = &path, .path_count = 1, .error_list = at("errors.txt")};
    sac_ingest_result result;
    sac_error err = {0};
    sac_status st = sac_ingest(collection, encoder, &params, progress, context, &result, &err);

    if (st != want)
        fail_msg("%s: %s", sac_status_name(st), err.text);
    return result;
}

static void assert_result(sac_ingest_result result, uint64_t stored, uint64_t skipped, uint64_t failed)
{
    assert_int_equal(result.found, stored + skipped + failed);
    assert_int_equal(result.stored, stored);
    assert_int_equal(result.skipped, skipped);
    assert_int_equal(result.failed, failed);
}

static size_t count_lines(const char *name, const char *part)
{
    FILE *f = fopen(at(name), "r");
    char line[8192];
    size_t count = 0;

    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        count += strstr(line, part) != NULL && strchr(line, '\t') != NULL;
    if (f != NULL)
        fclose(f);
    return count;
}

static void pictures_become_items(void **state)
{
    sac_record *record;
    const sac_item *item;
    const char *path;
    struct stat st;
    float vector[4096];
    sac_prepared *picture;
    uint8_t bytes[16384];
    size_t size;
    FILE *f;

    (void)state;
    mkdir(at("photos/sub"), 0777);
    write_picture("photos/sub/a.jpg", 1);
    write_picture("photos/b.jpg", 2);
    assert_result(ingest(SAC_OK, NULL, NULL), 2, 0, 0);
    path = at("photos/sub/a.jpg");
    assert_int_equal(sac_collection_get(collection, (sac_id){0, path, strlen(path)}, &record, NULL), SAC_OK);
    item = sac_record_item(record);
    assert_int_equal(item->source_size, strlen(path));
    assert_memory_equal(item->source, path, strlen(path));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(item->attribute_count, 2);
    assert_int_equal(item->attributes[0].integer, st.st_size);
    assert_int_equal(item->attributes[1].integer, st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
    f = fopen(path, "r"); /* the vector is what the encoder gives for this file alone */
    size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_int_equal(sac_encoder_prepare(encoder, bytes, size, NULL, &picture, NULL), SAC_OK);
    assert_int_equal(sac_encoder_embed(encoder, 1, &picture, vector, NULL), SAC_OK);
    assert_memory_equal(item->vector, vector, sac_encoder_dim(encoder) * sizeof(float));
    sac_prepared_free(picture);
    sac_record_free(record);
}

/* Through a network, on the device that SACCADE_TEST_DEVICE names: several flights, and who was busy. */
static void a_network_embeds_as_it_does_alone(void **state)
{
    enum { PICTURES = 70 };
    char name[64], path[2 * SAC_SCRATCH_PATH_MAX];
    sac_ingest_result result;
    uint8_t bytes[16384];
    float vector[4096];

    (void)state;
    open_collection_with(2, getenv("SACCADE_TEST_DEVICE"), "tests/fixtures/encoder/dinov2");
    write_pictures(PICTURES);
    write_text("photos/broken.jpg", "no");
    result = ingest(SAC_OK, NULL, NULL);
    assert_result(result, PICTURES, 0, 1);
    assert_int_equal(result.decode_threads, 2);
    assert_true(result.decode_busy > 0 && result.decode_busy <= 1.01);
    assert_true(result.encoder_busy > 0 && result.encoder_busy <= 1.01);
    for (unsigned i = 0; i < PICTURES; i += 9) {
        sac_prepared *picture;
        sac_record *record;
        const float *stored;
        size_t size;
        FILE *f;

        snprintf(name, sizeof name, "photos/%04u.jpg", i);
        snprintf(path, sizeof path, "%s", at(name));
        f = fopen(path, "r");
        assert_non_null(f);
        size = fread(bytes, 1, sizeof bytes, f);
        fclose(f);
        assert_int_equal(sac_encoder_prepare(encoder, bytes, size, NULL, &picture, NULL), SAC_OK);
        assert_int_equal(sac_encoder_embed(encoder, 1, &picture, vector, NULL), SAC_OK);
        sac_prepared_free(picture);
        assert_int_equal(sac_collection_get(collection, (sac_id){0, path, strlen(path)}, &record, NULL),
                         SAC_OK);
        stored = sac_record_item(record)->vector;
        for (uint32_t d = 0; d < sac_encoder_dim(encoder); d++)
            assert_true(fabsf(stored[d] - vector[d]) < 2e-2f);
        sac_record_free(record);
    }
    close_collection();
}

static void broken_pictures_stop_nothing(void **state)
{
    char pipe_path[SAC_SCRATCH_PATH_MAX + 64];
    const char *paths[3];
    sac_ingest_params params = {.path_count = 3};
    sac_ingest_result result;

    (void)state;
    write_pictures(40);
    write_text("photos/empty.jpg", "");
    write_text("photos/text.jpg", "this is no picture");
    write_text("photos/new\nline\tand tab.png", "\x89PNG\r\n\x1a\n");
    write_text("photos/notes.txt", "not looked at");
    assert_int_equal(truncate(at("photos/0007.jpg"), 300), 0);
    assert_int_equal(symlink("nowhere", at("photos/dangling.jpg")), 0);
    snprintf(pipe_path, sizeof pipe_path, "%s", at("photos/pipe.jpg"));
    assert_int_equal(mkfifo(pipe_path, 0666), 0);
    assert_result(ingest(SAC_OK, NULL, NULL), 39, 0, 5);
    assert_int_equal(count_lines("errors.txt", "/photos/"), 5);
    assert_int_equal(count_lines("errors.txt", "new?line?and tab.png"), 1);
    params.paths = paths;
    paths[0] = at("photos/text.jpg"); /* no error list, and named files that are missing or broken */
    paths[1] = pipe_path;
    paths[2] = "/nonexistent/x.jpg";
    assert_int_equal(sac_ingest(collection, encoder, &params, NULL, NULL, &result, NULL), SAC_OK);
    assert_result(result, 0, 0, 3);
    assert_int_equal(sac_collection_count(collection), 39);
}

static void what_is_there_is_skipped(void **state)
{
    (void)state;
    write_pictures(30);
    assert_result(ingest(SAC_OK, NULL, NULL), 30, 0, 0);
    assert_result(ingest(SAC_OK, NULL, NULL), 0, 30, 0);
    write_picture("photos/0003.jpg", 77); /* changed */
    write_picture("photos/new.jpg", 78);
    assert_int_equal(unlink(at("photos/0004.jpg")), 0); /* gone: its item stays */
    assert_result(ingest(SAC_OK, NULL, NULL), 2, 28, 0);
    assert_int_equal(sac_collection_count(collection), 31);
}

static bool stop_after(void *context, const sac_progress *progress)
{
    return strcmp(progress->stage, "embed") != 0 || progress->done < *(uint64_t *)context;
}

static void a_cancelled_run_resumes(void **state)
{
    uint64_t limit = 1;
    sac_ingest_result first;

    (void)state;
    write_pictures(400);
    first = ingest(SAC_CANCELLED, stop_after, &limit);
    assert_true(first.found == 400 && first.stored > 0 && first.stored < 400 && first.skipped == 0);
    assert_int_equal(sac_collection_count(collection), first.stored);
    assert_result(ingest(SAC_OK, NULL, NULL), 400 - first.stored, first.stored, 0);
    assert_int_equal(sac_collection_count(collection), 400);
}

struct watched {
    sac_progress last;
    int scans, embeds;
};

static bool watch(void *context, const sac_progress *progress)
{
    struct watched *watched = context;

    watched->scans += strcmp(progress->stage, "scan") == 0;
    watched->embeds += strcmp(progress->stage, "embed") == 0;
    assert_true(progress->done <= progress->total);
    watched->last = *progress;
    return true;
}

static void progress_is_told(void **state)
{
    struct watched watched = {.scans = 0};

    (void)state;
    write_pictures(50);
    write_text("photos/broken.jpg", "no");
    ingest(SAC_OK, watch, &watched);
    assert_true(watched.scans > 0 && watched.embeds > 0);
    assert_int_equal(watched.last.done, 51);
    assert_int_equal(watched.last.total, 51);
    assert_int_equal(watched.last.failed, 1);
}

static void another_encoders_collection_is_refused(void **state)
{
    sac_collection_params params;
    const char *path = at("photos");
    sac_ingest_params ingest_params = {.paths = &path, .path_count = 1};
    sac_ingest_result result;
    sac_collection *other;

    (void)state;
    sac_collection_describe(collection, &params);
    params.fingerprint = "another";
    assert_int_equal(sac_database_create(db, "other", &params, NULL), SAC_OK);
    assert_int_equal(sac_collection_acquire(db, "other", &other, NULL), SAC_OK);
    assert_int_equal(sac_ingest(other, encoder, &ingest_params, NULL, NULL, &result, NULL),
                     SAC_VERSION_MISMATCH);
    sac_collection_release(other);
}

static void long_paths_become_short_ids(void **state)
{
    char part[200], path[700], buffer[SAC_ID_TEXT_MAX], buffer2[SAC_ID_TEXT_MAX];
    sac_id id, other;

    (void)state;
    memset(part, 'd', sizeof part - 1);
    part[sizeof part - 1] = '\0';
    snprintf(path, sizeof path, "/%s/%s/x.jpg", part, part);
    id = sac_ingest_id(path, buffer);
    assert_int_equal(id.text_size, SAC_ID_TEXT_MAX);
    assert_memory_equal(id.text + SAC_ID_TEXT_MAX - 6, "/x.jpg", 6);
    path[5] = 'e'; /* in the part that is left out */
    other = sac_ingest_id(path, buffer2);
    assert_int_not_equal(memcmp(id.text, other.text, SAC_ID_TEXT_MAX), 0);
    memset(path, 'a', 180);
    for (int i = 0; i < 120; i++) /* the cut falls into a character of two bytes */
        memcpy(path + 180 + 2 * i - 1, "\xc3\xa9", 3);
    id = sac_ingest_id(path, buffer);
    assert_in_range(id.text_size, SAC_ID_TEXT_MAX - 1, SAC_ID_TEXT_MAX);
    assert_int_equal((uint8_t)id.text[34], 0xc3);
    id = sac_ingest_id("/a.jpg", buffer);
    assert_int_equal(id.text_size, 6);
    mkdir(at("photos/long"), 0777);
    snprintf(path, sizeof path, "photos/long/%s", part);
    mkdir(at(path), 0777);
    snprintf(path, sizeof path, "photos/long/%s/%s.jpg", part, part);
    write_picture(path, 1);
    assert_result(ingest(SAC_OK, NULL, NULL), 1, 0, 0);
    assert_result(ingest(SAC_OK, NULL, NULL), 0, 1, 0);
}

/* A child ingests and is killed; what it had committed is not done again. */
static void a_killed_run_resumes(void **state)
{
    enum { PICTURES = 1200, KILLS = 4 };
    uint64_t stored = 0;

    (void)state;
    write_pictures(PICTURES);
    for (unsigned i = 0; i < KILLS; i++) {
        pid_t child = fork();
        int status;

        if (child == 0) {
            open_collection(1);
            ingest(SAC_OK, NULL, NULL);
            close_collection();
            _exit(0);
        }
        usleep(50000 + 60000 * i);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        open_collection(1);
        assert_true(sac_collection_count(collection) >= stored);
        stored = sac_collection_count(collection);
        close_collection();
    }
    open_collection(1);
    assert_result(ingest(SAC_OK, NULL, NULL), PICTURES - stored, stored, 0);
    assert_int_equal(sac_collection_count(collection), PICTURES);
    assert_result(ingest(SAC_OK, NULL, NULL), 0, PICTURES, 0);
    close_collection();
}

#define WITH_COLLECTION(test) cmocka_unit_test_setup_teardown(test, make_collection, remove_collection)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_killed_run_resumes, make_folders, remove_folders),
        WITH_COLLECTION(pictures_become_items),
        cmocka_unit_test_setup_teardown(a_network_embeds_as_it_does_alone, make_folders, remove_folders),
        WITH_COLLECTION(broken_pictures_stop_nothing),
        WITH_COLLECTION(what_is_there_is_skipped),
        WITH_COLLECTION(a_cancelled_run_resumes),
        WITH_COLLECTION(progress_is_told),
        WITH_COLLECTION(another_encoders_collection_is_refused),
        WITH_COLLECTION(long_paths_become_short_ids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
