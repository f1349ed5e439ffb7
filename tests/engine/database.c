/* A directory of collections: who may open it, what is in it, and what is left after a kill. */
#include "engine/saccade.h"
#include "tests/scratch.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static sac_device *device;
static char folder[SAC_SCRATCH_PATH_MAX];
static sac_collection_params params;

static int open_device(void **state)
{
    (void)state;
    sac_collection_params_init(&params);
    params.dim = 4;
    params.metric = SAC_METRIC_L2;
    return sac_device_open(NULL, &device, NULL) == SAC_OK ? 0 : -1;
}

static int close_device(void **state)
{
    (void)state;
    sac_device_close(device);
    return 0;
}

static int make_folder(void **state)
{
    (void)state;
    sac_scratch_make(folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    sac_scratch_remove(folder);
    return 0;
}

static sac_database *open_database(sac_open_mode mode)
{
    sac_database *db;
    sac_error err = {0};

    if (sac_database_open(device, folder, mode, &db, &err) != SAC_OK)
        fail_msg("%s", err.text);
    return db;
}

static void put_number(sac_collection *c, uint64_t number)
{
    float vector[4] = {(float)number, 1, 2, 3};
    sac_item item = {.id = {number, NULL, 0}, .vector = vector};

    assert_int_equal(sac_collection_put(c, &item, 1, NULL), SAC_OK);
}

static void write_file(const char *name, const char *text)
{
    char path[SAC_SCRATCH_PATH_MAX + 64];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void make_subfolder(const char *name)
{
    char path[SAC_SCRATCH_PATH_MAX + 64];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(mkdir(path, 0777), 0);
}

static bool exists(const char *name)
{
    char path[SAC_SCRATCH_PATH_MAX + 64];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static size_t count_collections(sac_database *db, const char *first)
{
    char **names;
    size_t count;

    assert_int_equal(sac_database_list(db, &names, &count, NULL), SAC_OK);
    if (count > 0)
        assert_string_equal(names[0], first);
    free(names);
    return count;
}

static void collections_are_made_listed_and_dropped(void **state)
{
    sac_database *db = open_database(SAC_OPEN_CREATE);
    sac_collection *c;

    (void)state;
    assert_int_equal(count_collections(db, ""), 0);
    assert_int_equal(sac_database_create(db, "photos", &params, NULL), SAC_OK);
    assert_int_equal(sac_database_create(db, "birds", &params, NULL), SAC_OK);
    assert_int_equal(sac_database_create(db, "birds", &params, NULL), SAC_OK); /* the same again */
    assert_int_equal(count_collections(db, "birds"), 2);
    assert_int_equal(sac_database_drop(db, "birds", NULL), SAC_OK);
    assert_int_equal(count_collections(db, "photos"), 1);
    assert_int_equal(sac_collection_acquire(db, "birds", &c, NULL), SAC_NOT_FOUND);
    assert_null(c);
    assert_int_equal(sac_database_drop(db, "birds", NULL), SAC_NOT_FOUND);
    sac_database_close(db);
    db = open_database(SAC_OPEN_WRITE);
    assert_int_equal(count_collections(db, "photos"), 1);
    sac_database_close(db);
}

static void another_of_the_same_name_is_refused(void **state)
{
    sac_database *db = open_database(SAC_OPEN_CREATE);
    sac_collection_params other;

    (void)state;
    assert_int_equal(sac_database_create(db, "a", &params, NULL), SAC_OK);
    other = params;
    other.dim = 5;
    assert_int_equal(sac_database_create(db, "a", &other, NULL), SAC_ALREADY_EXISTS);
    other = params;
    other.metric = SAC_METRIC_IP;
    assert_int_equal(sac_database_create(db, "a", &other, NULL), SAC_ALREADY_EXISTS);
    other = params;
    other.spec = "Flat";
    assert_int_equal(sac_database_create(db, "a", &other, NULL), SAC_ALREADY_EXISTS);
    other = params;
    other.fingerprint = "beef";
    assert_int_equal(sac_database_create(db, "a", &other, NULL), SAC_ALREADY_EXISTS);
    other = params;
    other.dim = 0;
    assert_int_equal(sac_database_create(db, "b", &other, NULL), SAC_INVALID_ARGUMENT);
    assert_int_equal(count_collections(db, "a"), 1);
    sac_database_close(db);
}

static void names_stay_inside_the_directory(void **state)
{
    static const char *const bad[] = {"", ".", "..", "../x", "a/b", "-a", "_a", ".new-a", "a b", "\xc3\xa9"};
    sac_database *db = open_database(SAC_OPEN_CREATE);
    char name[SAC_NAME_MAX + 2];
    sac_collection *c;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(sac_database_create(db, bad[i], &params, NULL), SAC_INVALID_ARGUMENT);
        assert_int_equal(sac_collection_acquire(db, bad[i], &c, NULL), SAC_INVALID_ARGUMENT);
        assert_int_equal(sac_database_drop(db, bad[i], NULL), SAC_INVALID_ARGUMENT);
    }
    memset(name, 'a', sizeof name);
    name[SAC_NAME_MAX + 1] = '\0';
    assert_int_equal(sac_database_create(db, name, &params, NULL), SAC_INVALID_ARGUMENT);
    name[SAC_NAME_MAX] = '\0';
    assert_int_equal(sac_database_create(db, name, &params, NULL), SAC_OK);
    assert_int_equal(sac_database_create(db, "0-_Z", &params, NULL), SAC_OK);
    sac_database_close(db);
}

static void holders_of_a_dropped_collection_finish(void **state)
{
    sac_database *db = open_database(SAC_OPEN_CREATE);
    sac_collection *old, *again, *fresh;
    sac_record *record;
    float vector[4] = {0};
    sac_item item = {.vector = vector};

    (void)state;
    assert_int_equal(sac_database_create(db, "a", &params, NULL), SAC_OK);
    assert_int_equal(sac_collection_acquire(db, "a", &old, NULL), SAC_OK);
    assert_int_equal(sac_collection_acquire(db, "a", &again, NULL), SAC_OK);
    assert_ptr_equal(old, again);
    put_number(old, 1);
    assert_int_equal(sac_database_drop(db, "a", NULL), SAC_OK);
    assert_int_equal(sac_collection_put(old, &item, 1, NULL), SAC_NOT_FOUND);
    assert_int_equal(sac_collection_get(old, (sac_id){1, NULL, 0}, &record, NULL), SAC_NOT_FOUND);
    assert_int_equal(sac_collection_checkpoint(old, NULL), SAC_NOT_FOUND);
    assert_int_equal(sac_database_create(db, "a", &params, NULL), SAC_OK);
    assert_int_equal(sac_collection_acquire(db, "a", &fresh, NULL), SAC_OK);
    assert_ptr_not_equal(fresh, old);
    assert_int_equal(sac_collection_count(fresh), 0);
    put_number(fresh, 7);
    sac_collection_release(again);
    sac_collection_release(old);
    assert_int_equal(sac_collection_count(fresh), 1);
    sac_collection_release(fresh);
    sac_database_close(db);
}

static void leftovers_go_and_strays_stay(void **state)
{
    sac_database *db = open_database(SAC_OPEN_CREATE);

    (void)state;
    assert_int_equal(sac_database_create(db, "a", &params, NULL), SAC_OK);
    sac_database_close(db);
    make_subfolder("collections/.new-half");
    write_file("collections/.new-half/data.mdb", "");
    make_subfolder("collections/.drop-old-0");
    write_file("collections/.drop-old-0/data.mdb", "half deleted");
    make_subfolder("collections/empty");
    write_file("collections/notes.txt", "not ours");
    write_file("collections/a/stray", "not ours");
    write_file("stray", "");
    write_file("saccade.json.tmp", "");
    db = open_database(SAC_OPEN_WRITE);
    assert_false(exists("collections/.new-half"));
    assert_false(exists("collections/.drop-old-0"));
    assert_true(exists("collections/notes.txt") && exists("collections/a/stray") && exists("stray"));
    assert_int_equal(count_collections(db, "a"), 1);
    sac_database_close(db);
}

static void only_databases_are_opened(void **state)
{
    sac_database *db;
    sac_error err = {0};

    (void)state;
    assert_int_equal(sac_database_open(device, folder, SAC_OPEN_READ, &db, &err), SAC_NOT_FOUND);
    assert_int_equal(sac_database_open(device, folder, SAC_OPEN_WRITE, &db, &err), SAC_NOT_FOUND);
    assert_int_equal(sac_database_open(device, "/nonexistent/x", SAC_OPEN_WRITE, &db, &err), SAC_NOT_FOUND);
    assert_int_equal(sac_database_open(device, "/nonexistent/x", SAC_OPEN_CREATE, &db, &err), SAC_NOT_FOUND);
    assert_false(exists("lock"));
    write_file("holiday.jpg", "");
    assert_int_equal(sac_database_open(device, folder, SAC_OPEN_CREATE, &db, &err), SAC_INVALID_ARGUMENT);
    assert_null(db);
    assert_false(exists("collections"));
}

static void other_formats_are_refused_by_name(void **state)
{
    sac_database *db = open_database(SAC_OPEN_CREATE);
    sac_error err = {0};

    (void)state;
    sac_database_close(db);
    write_file("saccade.json", "{\"saccade\": \"database\", \"format\": 2}");
    assert_int_equal(sac_database_open(device, folder, SAC_OPEN_READ, &db, &err), SAC_VERSION_MISMATCH);
    assert_int_equal(sac_database_open(device, folder, SAC_OPEN_CREATE, &db, &err), SAC_VERSION_MISMATCH);
    assert_non_null(strstr(err.text, "format 2"));
    write_file("saccade.json", "{\"format\": \"1\"}");
    assert_int_equal(sac_database_open(device, folder, SAC_OPEN_WRITE, &db, &err), SAC_CORRUPT);
    write_file("saccade.json", "");
    assert_int_equal(sac_database_open(device, folder, SAC_OPEN_WRITE, &db, &err), SAC_CORRUPT);
    write_file("saccade.json", "{\"format\": 1}");
    sac_database_close(open_database(SAC_OPEN_WRITE));
}

/* Runs `work` in a child, which has a device of its own since threads do not survive a fork; true when it
 * returns true. */
static bool in_child(bool (*work)(void))
{
    sac_device_options options;
    int status;
    pid_t child = fork();

    sac_device_options_init(&options);
    options.threads = 1;
    if (child == 0)
        _exit(sac_device_open(&options, &device, NULL) == SAC_OK && work() ? 0 : 1);
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool is_busy(void)
{
    sac_database *db;
    sac_error err = {0};

    return sac_database_open(device, folder, SAC_OPEN_WRITE, &db, &err) == SAC_BUSY &&
           sac_database_open(device, folder, SAC_OPEN_CREATE, &db, &err) == SAC_BUSY;
}

static bool reads_one_item(void)
{
    sac_database *db;
    sac_collection *c;
    sac_record *record;
    sac_results *results;
    float vector[4] = {5, 1, 2, 3};
    sac_item item = {.id = {9, NULL, 0}, .vector = vector};
    sac_query query;
    size_t count = 0;
    bool good = sac_database_open(device, folder, SAC_OPEN_READ, &db, NULL) == SAC_OK &&
                sac_collection_acquire(db, "a", &c, NULL) == SAC_OK;

    if (!good)
        return false;
    sac_query_init(&query);
    query.vector = vector;
    good = sac_collection_count(c) == 1 &&
           sac_collection_get(c, (sac_id){5, NULL, 0}, &record, NULL) == SAC_OK &&
           sac_collection_search(c, &query, 1, 0, &results, NULL) == SAC_OK &&
           sac_results_get(results, 0, &count)[0].id.number == 5 && count == 1 &&
           sac_collection_put(c, &item, 1, NULL) == SAC_READ_ONLY &&
           sac_collection_build(c, NULL, NULL, NULL, NULL) == SAC_READ_ONLY &&
           sac_collection_checkpoint(c, NULL) == SAC_READ_ONLY &&
           sac_database_drop(db, "a", NULL) == SAC_READ_ONLY &&
           sac_database_create(db, "b", &params, NULL) == SAC_READ_ONLY;
    if (good) {
        sac_record_free(record);
        sac_results_free(results);
    }
    sac_collection_release(c);
    sac_database_close(db);
    return good;
}

static void one_writer_and_any_readers(void **state)
{
    sac_database *db = open_database(SAC_OPEN_CREATE), *second;
    sac_collection *c;

    (void)state;
    assert_int_equal(sac_database_create(db, "a", &params, NULL), SAC_OK);
    assert_int_equal(sac_collection_acquire(db, "a", &c, NULL), SAC_OK);
    put_number(c, 5);
    assert_true(in_child(is_busy));
    assert_true(in_child(reads_one_item));
    /* LMDB forbids a second handle in the process that holds the first. */
    assert_int_equal(sac_database_open(device, folder, SAC_OPEN_WRITE, &second, NULL), SAC_BUSY);
    assert_int_equal(sac_database_open(device, folder, SAC_OPEN_READ, &second, NULL), SAC_BUSY);
    put_number(c, 6);
    sac_collection_release(c);
    sac_database_close(db);
    assert_false(in_child(is_busy));
}

static bool dies_while_it_holds_the_lock(void)
{
    sac_database *db;
    sac_collection *c;
    bool good = sac_database_open(device, folder, SAC_OPEN_CREATE, &db, NULL) == SAC_OK &&
                sac_database_create(db, "a", &params, NULL) == SAC_OK &&
                sac_collection_acquire(db, "a", &c, NULL) == SAC_OK;

    if (good)
        raise(SIGKILL);
    return good;
}

static void locks_of_the_dead_do_no_harm(void **state)
{
    (void)state;
    assert_false(in_child(dies_while_it_holds_the_lock));
    assert_false(in_child(dies_while_it_holds_the_lock));
    sac_database_close(open_database(SAC_OPEN_WRITE));
}

static void a_damaged_collection_harms_no_other(void **state)
{
    sac_database *db = open_database(SAC_OPEN_CREATE);
    sac_collection *c;

    (void)state;
    assert_int_equal(sac_database_create(db, "bad", &params, NULL), SAC_OK);
    assert_int_equal(sac_database_create(db, "good", &params, NULL), SAC_OK);
    write_file("collections/bad/data.mdb", "this was a database once");
    assert_int_equal(sac_collection_acquire(db, "bad", &c, NULL), SAC_CORRUPT);
    assert_int_equal(sac_collection_acquire(db, "bad", &c, NULL), SAC_CORRUPT);
    assert_int_equal(sac_collection_acquire(db, "good", &c, NULL), SAC_OK);
    sac_collection_release(c);
    assert_int_equal(sac_database_drop(db, "bad", NULL), SAC_OK);
    assert_int_equal(count_collections(db, "good"), 1);
    sac_database_close(db);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(collections_are_made_listed_and_dropped),
        IN_FOLDER(another_of_the_same_name_is_refused),
        IN_FOLDER(names_stay_inside_the_directory),
        IN_FOLDER(holders_of_a_dropped_collection_finish),
        IN_FOLDER(leftovers_go_and_strays_stay),
        IN_FOLDER(only_databases_are_opened),
        IN_FOLDER(other_formats_are_refused_by_name),
        IN_FOLDER(one_writer_and_any_readers),
        IN_FOLDER(locks_of_the_dead_do_no_harm),
        IN_FOLDER(a_damaged_collection_harms_no_other),
    };

    return cmocka_run_group_tests(tests, open_device, close_device);
}
