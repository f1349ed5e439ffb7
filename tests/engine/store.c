/* The store: ids and items as bytes, transactions, what reopening gives, and damage that is named. */
#include "engine/store.h"
#include "tests/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <cmocka.h>

enum { DIM = 5 };

static char folder[SAC_SCRATCH_PATH_MAX];

static const sac_collection_params PARAMS = {DIM, SAC_METRIC_COSINE, "auto", "builtin", "feed"};

static int make_store(void **state)
{
    sac_error err = {0};
    sac_store *store;

    sac_scratch_make(folder);
    assert_int_equal(sac_store_create(folder, &PARAMS, &err), SAC_OK);
    assert_int_equal(sac_store_open(folder, true, &store, &err), SAC_OK);
    *state = store;
    return 0;
}

static int remove_store(void **state)
{
    sac_store_close(*state);
    sac_scratch_remove(folder);
    return 0;
}

static sac_store *reopen(void **state)
{
    sac_store *store;

    sac_store_close(*state);
    *state = NULL;
    assert_int_equal(sac_store_open(folder, true, &store, NULL), SAC_OK);
    *state = store;
    return store;
}

static sac_id text_id(const char *text)
{
    return (sac_id){0, text, strlen(text)};
}

static sac_id number_id(uint64_t number)
{
    return (sac_id){number, NULL, 0};
}

static void fill(float *vector, uint64_t seed)
{
    for (int d = 0; d < DIM; d++)
        vector[d] = (float)(seed % 1000) + 0.25f * (float)d + 1.0f;
}

static uint64_t put_one(sac_store *store, sac_id id, uint64_t seed)
{
    float vector[DIM];
    sac_item item = {.id = id, .vector = vector};
    uint64_t row, replaced;

    fill(vector, seed);
    assert_int_equal(sac_store_begin(store, 1, sizeof vector, NULL), SAC_OK);
    assert_int_equal(sac_store_put(store, &item, &row, &replaced, NULL), SAC_OK);
    assert_int_equal(sac_store_commit(store, NULL), SAC_OK);
    return row;
}

/* ---- ids ---- */

static void ids_order_as_their_keys(void **state)
{
    static const char *const texts[] = {"a", "ab", "b", "\x01", "\xff\xff", "10", "9"};
    static const uint64_t numbers[] = {0, 1, 255, 256, 65536, INT64_MAX};
    sac_id ids[13];
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < 7; i++)
        ids[n++] = text_id(texts[i]);
    for (size_t i = 0; i < 6; i++)
        ids[n++] = number_id(numbers[i]);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            uint8_t a[SAC_ID_KEY_MAX], b[SAC_ID_KEY_MAX];
            size_t a_size = sac_id_key(ids[i], a), b_size = sac_id_key(ids[j], b);
            int want = memcmp(a, b, a_size < b_size ? a_size : b_size);
            int got = sac_id_compare(ids[i], ids[j]);
            sac_id back;

            want = want != 0 ? want : (a_size > b_size) - (a_size < b_size);
            assert_int_equal((got > 0) - (got < 0), (want > 0) - (want < 0));
            assert_true(sac_id_from_key(a, a_size, &back));
            assert_int_equal(sac_id_compare(back, ids[i]), 0);
        }
}

static void keys_that_are_no_ids_are_refused(void **state)
{
    static const uint8_t high[9] = {1, 0x80};
    uint8_t long_text[SAC_ID_KEY_MAX + 1] = {2};
    sac_id id;

    (void)state;
    assert_false(sac_id_from_key("", 0, &id));
    assert_false(sac_id_from_key("\x02", 1, &id));
    assert_false(sac_id_from_key("\x01\x01", 2, &id));
    assert_false(sac_id_from_key("\x03text", 5, &id));
    assert_false(sac_id_from_key(high, sizeof high, &id));
    assert_false(sac_id_from_key(long_text, sizeof long_text, &id));
    assert_true(sac_id_from_key(long_text, SAC_ID_KEY_MAX, &id));
}

/* ---- items ---- */

static sac_attribute int_attribute(const char *name, int64_t value)
{
    return (sac_attribute){
        .name = name, .name_size = strlen(name), .kind = SAC_ATTRIBUTE_INT, .integer = value};
}

static void limits_are_checked(void **state)
{
    static char long_text[SAC_ATTRIBUTE_TEXT_MAX + 1];
    sac_attribute attributes[SAC_ATTRIBUTES_MAX + 1];
    char names[SAC_ATTRIBUTES_MAX + 1][4];
    float vector[DIM], zero[DIM] = {0};
    sac_item good = {.id = number_id(7), .vector = vector}, item;

    (void)state;
    fill(vector, 1);
    for (size_t i = 0; i <= SAC_ATTRIBUTES_MAX; i++) {
        snprintf(names[i], sizeof names[i], "%zu", i);
        attributes[i] = int_attribute(names[i], (int64_t)i);
    }
#define REFUSED(...)                                                                                 \
    do {                                                                                             \
        item = good;                                                                                 \
        __VA_ARGS__;                                                                                 \
        assert_int_equal(sac_item_check(&item, DIM, SAC_METRIC_COSINE, NULL), SAC_INVALID_ARGUMENT); \
    } while (0)
    assert_int_equal(sac_item_check(&good, DIM, SAC_METRIC_COSINE, NULL), SAC_OK);
    REFUSED(item.id.number = (uint64_t)INT64_MAX + 1);
    REFUSED(item.id = text_id(""));
    REFUSED(item.id = (sac_id){0, long_text, SAC_ID_TEXT_MAX + 1});
    REFUSED(item.vector = NULL);
    REFUSED(item.vector = zero);
    REFUSED(item.source = long_text, item.source_size = sizeof long_text);
    REFUSED(item.attributes = attributes, item.attribute_count = SAC_ATTRIBUTES_MAX + 1);
    REFUSED(vector[DIM - 1] = NAN);
    REFUSED(vector[DIM - 1] = -INFINITY);
    vector[DIM - 1] = 1;
    item = good;
    item.vector = zero;
    assert_int_equal(sac_item_check(&item, DIM, SAC_METRIC_L2, NULL), SAC_OK);
    good.attributes = attributes;
    good.attribute_count = 2;
    REFUSED(attributes[1].name_size = 0);
    REFUSED(attributes[1].name = long_text, attributes[1].name_size = SAC_ATTRIBUTE_NAME_MAX + 1);
    attributes[1] = int_attribute("0", 3);
    REFUSED((void)"the same name twice");
    attributes[1] = (sac_attribute){.name = "t", .name_size = 1, .kind = SAC_ATTRIBUTE_TEXT};
    REFUSED(attributes[1].text = long_text, attributes[1].text_size = sizeof long_text);
    attributes[1] = (sac_attribute){.name = "f", .name_size = 1, .kind = SAC_ATTRIBUTE_FLOAT, .number = NAN};
    REFUSED((void)"not a number");
#undef REFUSED
}

static void full_item(sac_item *item, sac_attribute attributes[4], const float *vector)
{
    attributes[0] = int_attribute("least", INT64_MIN);
    attributes[1] =
        (sac_attribute){.name = "pi", .name_size = 2, .kind = SAC_ATTRIBUTE_FLOAT, .number = 3.14159};
    attributes[2] = (sac_attribute){
        .name = "label", .name_size = 5, .kind = SAC_ATTRIBUTE_TEXT, .text = "caf\xc3\xa9", .text_size = 5};
    attributes[3] = (sac_attribute){.name = "none", .name_size = 4, .kind = SAC_ATTRIBUTE_TEXT};
    *item = (sac_item){.id = text_id("beach.jpg"),
                       .vector = vector,
                       .attributes = attributes,
                       .attribute_count = 4,
                       .source = "/photos/beach.jpg",
                       .source_size = 17};
}

static void assert_same_item(const sac_item *got, const sac_item *want)
{
    assert_int_equal(sac_id_compare(got->id, want->id), 0);
    assert_memory_equal(got->vector, want->vector, DIM * sizeof(float));
    assert_int_equal(got->source_size, want->source_size);
    assert_memory_equal(got->source, want->source, want->source_size);
    assert_int_equal(got->attribute_count, want->attribute_count);
    for (size_t i = 0; i < want->attribute_count; i++) {
        const sac_attribute *a = &got->attributes[i], *b = &want->attributes[i];

        assert_int_equal(a->name_size, b->name_size);
        assert_memory_equal(a->name, b->name, b->name_size);
        assert_int_equal(a->kind, b->kind);
        assert_true(a->integer == b->integer && a->number == b->number && a->text_size == b->text_size);
        if (b->text_size > 0)
            assert_memory_equal(a->text, b->text, b->text_size);
    }
}

static void items_survive_reopening(void **state)
{
    sac_store *store = *state;
    sac_attribute attributes[4];
    float vector[DIM], back[DIM];
    struct sac_stored stored;
    sac_store_view view;
    sac_record *record;
    sac_item item;
    uint64_t row, replaced;

    fill(vector, 3);
    full_item(&item, attributes, vector);
    assert_int_equal(sac_store_begin(store, 1, 100, NULL), SAC_OK);
    assert_int_equal(sac_store_put(store, &item, &row, &replaced, NULL), SAC_OK);
    assert_int_equal(replaced, 0);
    assert_int_equal(sac_store_commit(store, NULL), SAC_OK);
    store = reopen(state);
    assert_string_equal(sac_store_params(store)->fingerprint, "feed");
    assert_string_equal(sac_store_params(store)->model, "builtin");
    assert_int_equal(sac_store_params(store)->metric, SAC_METRIC_COSINE);
    assert_int_equal(sac_store_view_open(store, &view, NULL), SAC_OK);
    assert_int_equal(sac_store_find(&view, item.id, &stored, NULL), SAC_OK);
    assert_int_equal(stored.row, row);
    assert_int_equal(sac_store_vector(&view, row, back, NULL), SAC_OK);
    assert_int_equal(sac_record_copy(&stored, back, DIM, ~0u, &record, NULL), SAC_OK);
    sac_store_view_close(&view);
    assert_same_item(sac_record_item(record), &item);
    sac_record_free(record);
}

static void every_flipped_byte_is_noticed(void **state)
{
    uint8_t key[SAC_ID_KEY_MAX], bytes[512];
    sac_attribute attributes[4];
    float vector[DIM] = {1};
    struct sac_stored stored;
    sac_item item;
    size_t key_size, size;

    (void)state;
    full_item(&item, attributes, vector);
    key_size = sac_id_key(item.id, key);
    size = sac_item_size(&item);
    assert_in_range(size, 1, sizeof bytes);
    sac_item_encode(&item, 9, bytes);
    assert_int_equal(sac_stored_parse(key, key_size, bytes, size, &stored, NULL), SAC_OK);
    for (size_t i = 0; i < size; i++) {
        bytes[i] ^= 0x10;
        assert_int_equal(sac_stored_parse(key, key_size, bytes, size, &stored, NULL), SAC_CORRUPT);
        bytes[i] ^= 0x10;
    }
    for (size_t cut = 0; cut < size; cut++)
        assert_int_equal(sac_stored_parse(key, key_size, bytes, cut, &stored, NULL), SAC_CORRUPT);
    key[1] ^= 1; /* the bytes of another item */
    assert_int_equal(sac_stored_parse(key, key_size, bytes, size, &stored, NULL), SAC_CORRUPT);
}

/* Lengths that lie are refused even under a checksum that holds. */
static void lying_lengths_are_refused(void **state)
{
    uint8_t key[SAC_ID_KEY_MAX], bytes[512], lie[512];
    sac_attribute attributes[4];
    float vector[DIM] = {1};
    struct sac_stored stored;
    sac_item item;
    size_t key_size, size;
    int refused = 0;

    (void)state;
    full_item(&item, attributes, vector);
    key_size = sac_id_key(item.id, key);
    size = sac_item_size(&item);
    sac_item_encode(&item, 9, bytes);
    for (size_t at = 8; at < size; at++)
        for (int flip = 1; flip < 256; flip++) {
            uint64_t checksum;
            sac_record *record;

            memcpy(lie, bytes, size);
            lie[at] ^= (uint8_t)flip;
            checksum = XXH3_64bits_withSeed(lie + 8, size - 8, XXH3_64bits(key, key_size));
            memcpy(lie, &checksum, sizeof checksum);
            if (sac_stored_parse(key, key_size, lie, size, &stored, NULL) != SAC_OK) {
                refused++;
                continue;
            }
            assert_int_equal(sac_record_copy(&stored, vector, DIM, ~0u, &record, NULL), SAC_OK);
            sac_record_free(record);
        }
    assert_true(refused > 1000);
}

/* ---- transactions ---- */

static void replacing_takes_a_new_row(void **state)
{
    sac_store *store = *state;
    uint64_t first = put_one(store, number_id(5), 1), second = put_one(store, number_id(5), 2);
    float vector[DIM], want[DIM];
    struct sac_stored stored;
    sac_store_view view;
    sac_id id;

    assert_true(second > first);
    assert_int_equal(sac_store_view_open(store, &view, NULL), SAC_OK);
    assert_int_equal(sac_store_count(&view), 1);
    assert_int_equal(sac_store_find(&view, number_id(5), &stored, NULL), SAC_OK);
    assert_int_equal(stored.row, second);
    assert_int_equal(sac_store_id(&view, first, &id, NULL), SAC_NOT_FOUND);
    assert_int_equal(sac_store_vector(&view, first, vector, NULL), SAC_NOT_FOUND);
    assert_int_equal(sac_store_id(&view, second, &id, NULL), SAC_OK);
    assert_int_equal(id.number, 5);
    assert_int_equal(sac_store_vector(&view, second, vector, NULL), SAC_OK);
    fill(want, 2);
    assert_memory_equal(vector, want, sizeof want);
    sac_store_view_close(&view);
}

static void an_aborted_transaction_leaves_nothing(void **state)
{
    sac_store *store = *state;
    float vector[DIM];
    sac_item item = {.id = number_id(1), .vector = vector};
    uint64_t before = put_one(store, number_id(1), 1), row, replaced, removed;
    struct sac_stored stored;
    sac_store_view view;

    fill(vector, 2);
    assert_int_equal(sac_store_begin(store, 2, 100, NULL), SAC_OK);
    assert_int_equal(sac_store_put(store, &item, &row, &replaced, NULL), SAC_OK);
    assert_int_equal(replaced, before);
    assert_int_equal(sac_store_delete(store, number_id(1), &removed, NULL), SAC_OK);
    assert_int_equal(removed, row);
    assert_int_equal(sac_store_delete(store, number_id(1), &removed, NULL), SAC_OK);
    assert_int_equal(removed, 0);
    sac_store_abort(store);
    assert_true(put_one(store, number_id(2), 2) > row);
    assert_int_equal(sac_store_view_open(store, &view, NULL), SAC_OK);
    assert_int_equal(sac_store_count(&view), 2);
    assert_int_equal(sac_store_find(&view, number_id(1), &stored, NULL), SAC_OK);
    assert_int_equal(stored.row, before);
    sac_store_view_close(&view);
}

static void a_view_keeps_what_it_saw(void **state)
{
    sac_store *store = *state;
    sac_store_view view;
    struct sac_stored stored;
    uint64_t rows[4];
    size_t count;

    put_one(store, number_id(1), 1);
    assert_int_equal(sac_store_view_open(store, &view, NULL), SAC_OK);
    put_one(store, number_id(2), 2);
    assert_int_equal(sac_store_count(&view), 1);
    assert_int_equal(sac_store_find(&view, number_id(2), &stored, NULL), SAC_NOT_FOUND);
    sac_store_view_close(&view);
    assert_int_equal(sac_store_view_open(store, &view, NULL), SAC_OK);
    assert_int_equal(sac_store_rows(&view, 0, 4, rows, &count, NULL), SAC_OK);
    assert_int_equal(count, 2);
    assert_int_equal(sac_store_rows(&view, rows[0], 4, rows, &count, NULL), SAC_OK);
    assert_int_equal(count, 1);
    assert_int_equal(sac_store_rows(&view, rows[0], 4, rows, &count, NULL), SAC_OK);
    assert_int_equal(count, 0);
    sac_store_view_close(&view);
}

static void items_are_listed_in_id_order(void **state)
{
    sac_store *store = *state;
    static const char *const texts[] = {"b", "a", "aa", "\xc3\xa9"};
    struct sac_stored stored;
    sac_store_view view;
    sac_id last = {0};
    int n = 0;

    for (size_t i = 0; i < 4; i++)
        put_one(store, text_id(texts[i]), i);
    put_one(store, number_id(1000), 5);
    put_one(store, number_id(3), 6);
    assert_int_equal(sac_store_view_open(store, &view, NULL), SAC_OK);
    while (sac_store_next(&view, n > 0 ? &last : NULL, &stored, NULL) == SAC_OK) {
        assert_true(n == 0 || sac_id_compare(last, stored.id) < 0);
        last = stored.id;
        n++;
    }
    assert_int_equal(n, 6);
    last = number_id(500); /* from between two */
    assert_int_equal(sac_store_next(&view, &last, &stored, NULL), SAC_OK);
    assert_int_equal(stored.id.number, 1000);
    sac_store_view_close(&view);
}

static void the_map_grows_under_a_reader_of_another_process(void **state)
{
    sac_store *store;
    int ask[2], answer[2], status;
    char byte = 0;
    pid_t child;

    sac_store_close(*state); /* a child must not use what its parent opened */
    *state = NULL;
    assert_int_equal(pipe(ask), 0);
    assert_int_equal(pipe(answer), 0);
    child = fork();
    if (child == 0) {
        sac_store_view view;
        bool good = sac_store_open(folder, false, &store, NULL) == SAC_OK;

        good = write(answer[1], &byte, 1) == 1 && read(ask[0], &byte, 1) == 1 && good;
        good = good && sac_store_view_open(store, &view, NULL) == SAC_OK && sac_store_count(&view) == 2;
        _exit(good ? 0 : 1);
    }
    assert_int_equal(read(answer[0], &byte, 1), 1);
    store = reopen(state);
    put_one(store, number_id(1), 1);
    assert_int_equal(sac_store_begin(store, 1, (size_t)1 << 30, NULL), SAC_OK); /* more than the first map */
    sac_store_abort(store);
    put_one(store, number_id(2), 2);
    assert_int_equal(write(ask[1], &byte, 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    for (int i = 0; i < 2; i++) {
        close(ask[i]);
        close(answer[i]);
    }
}

static void a_reader_cannot_write(void **state)
{
    sac_store *store;

    sac_store_close(*state);
    *state = NULL;
    assert_int_equal(sac_store_open(folder, false, &store, NULL), SAC_OK);
    *state = store;
    assert_int_equal(sac_store_begin(store, 1, 1, NULL), SAC_READ_ONLY);
    assert_false(sac_store_failed(store));
}

/* ---- faults ---- */

/* Puts until the file may not grow any further, then lifts the limit: a stand-in for a full disk. */
static void a_full_disk_refuses_and_recovers(void **state)
{
    sac_store *store = *state;
    struct rlimit before, small;
    char file[SAC_SCRATCH_PATH_MAX + 16];
    sac_error err = {0};
    sac_status st = SAC_OK;
    struct stat data;
    sac_store_view view;
    uint64_t acknowledged = 0;

    signal(SIGXFSZ, SIG_IGN);
    snprintf(file, sizeof file, "%s/data.mdb", folder);
    assert_int_equal(stat(file, &data), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = (rlim_t)data.st_size + 100 * 1000; /* not a whole page: the last write is a short one */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    while (st == SAC_OK) {
        float vector[DIM];
        char source[SAC_ATTRIBUTE_TEXT_MAX] = "x";
        sac_item item = {.id = number_id(acknowledged), .vector = vector};
        uint64_t row, replaced;

        item.source = source;
        item.source_size = sizeof source;
        fill(vector, acknowledged);
        st = sac_store_begin(store, 1, sizeof source, &err);
        if (st == SAC_OK)
            st = sac_store_put(store, &item, &row, &replaced, &err);
        if (st == SAC_OK)
            st = sac_store_commit(store, &err);
        sac_store_abort(store);
        acknowledged += st == SAC_OK;
        assert_true(acknowledged < 1000);
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(st, SAC_READ_ONLY);
    assert_non_null(strstr(err.text, "full"));
    assert_false(sac_store_failed(store));
    put_one(store, number_id(5000), 1); /* recovers by itself */
    store = reopen(state);
    assert_int_equal(sac_store_view_open(store, &view, NULL), SAC_OK);
    assert_int_equal(sac_store_count(&view), acknowledged + 1);
    sac_store_view_close(&view);
}

/* Overwrites a value behind the store's back. */
static void overwrite(const char *table, unsigned flags, const void *key, size_t key_size, const void *value,
                      size_t value_size)
{
    MDB_val k = {key_size, (void *)(uintptr_t)key}, v = {value_size, (void *)(uintptr_t)value};
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;

    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 4), 0);
    assert_int_equal(mdb_env_open(env, folder, 0, 0666), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, table, flags, &dbi), 0);
    assert_int_equal(mdb_put(txn, dbi, &k, &v, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void a_damaged_vector_is_named(void **state)
{
    uint64_t row = put_one(*state, number_id(1), 1);
    uint8_t bytes[DIM * 4 + 4] = {1, 2, 3};
    float vector[DIM];
    sac_store_view view;
    sac_error err = {0};

    sac_store_close(*state);
    *state = NULL;
    overwrite("vectors", MDB_INTEGERKEY, &row, sizeof row, bytes, sizeof bytes);
    assert_int_equal(sac_store_open(folder, true, (sac_store **)state, NULL), SAC_OK);
    assert_int_equal(sac_store_view_open(*state, &view, NULL), SAC_OK);
    assert_int_equal(sac_store_vector(&view, row, vector, &err), SAC_CORRUPT);
    assert_non_null(strstr(err.text, "row 1 "));
    sac_store_view_close(&view);
    sac_store_close(*state);
    *state = NULL;
    overwrite("vectors", MDB_INTEGERKEY, &row, sizeof row, bytes, 7);
    assert_int_equal(sac_store_open(folder, true, (sac_store **)state, NULL), SAC_OK);
    assert_int_equal(sac_store_view_open(*state, &view, NULL), SAC_OK);
    assert_int_equal(sac_store_vector(&view, row, vector, &err), SAC_CORRUPT);
    sac_store_view_close(&view);
}

static void other_formats_and_damage_are_refused_by_name(void **state)
{
    static const uint32_t format = SAC_STORE_FORMAT + 1, huge = SAC_DIM_MAX + 1;
    char file[SAC_SCRATCH_PATH_MAX + 16];
    sac_error err = {0};
    sac_store *store;
    FILE *f;

    put_one(*state, number_id(1), 1);
    sac_store_close(*state);
    *state = NULL;
    snprintf(file, sizeof file, "%s/data.mdb", folder);
    overwrite("meta", 0, "format", 6, &format, sizeof format);
    assert_int_equal(sac_store_open(folder, true, &store, &err), SAC_VERSION_MISMATCH);
    assert_non_null(strstr(err.text, "format 2"));
    overwrite("meta", 0, "format", 6, "\1\0\0\0", 4);
    overwrite("meta", 0, "dim", 3, &huge, sizeof huge);
    assert_int_equal(sac_store_open(folder, true, &store, &err), SAC_CORRUPT);
    overwrite("meta", 0, "dim", 3, "x", 1);
    assert_int_equal(sac_store_open(folder, true, &store, &err), SAC_CORRUPT);
    assert_int_equal(truncate(file, 8192), 0); /* only the two root pages are left */
    assert_int_equal(sac_store_open(folder, true, &store, &err), SAC_CORRUPT);
    f = fopen(file, "w");
    assert_non_null(f);
    for (int i = 0; i < 20000; i++)
        fputc(i * 7 & 0xff, f);
    fclose(f);
    assert_int_equal(sac_store_open(folder, true, &store, &err), SAC_CORRUPT);
    assert_int_equal(truncate(file, 0), 0);
    assert_int_equal(sac_store_open(folder, true, &store, &err), SAC_CORRUPT);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(sac_store_open(folder, true, &store, &err), SAC_NOT_FOUND);
    assert_null(store);
}

static void bad_parameters_make_no_store(void **state)
{
    sac_collection_params bad = PARAMS;

    (void)state;
    bad.dim = 0;
    assert_int_equal(sac_store_create("/nonexistent", &bad, NULL), SAC_INVALID_ARGUMENT);
    bad.dim = SAC_DIM_MAX + 1;
    assert_int_equal(sac_store_create("/nonexistent", &bad, NULL), SAC_INVALID_ARGUMENT);
    bad = PARAMS;
    bad.spec = "";
    assert_int_equal(sac_store_create("/nonexistent", &bad, NULL), SAC_INVALID_ARGUMENT);
    assert_int_equal(sac_store_create("/nonexistent", &PARAMS, NULL), SAC_IO);
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, make_store, remove_store)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_order_as_their_keys),
        cmocka_unit_test(keys_that_are_no_ids_are_refused),
        cmocka_unit_test(limits_are_checked),
        cmocka_unit_test(every_flipped_byte_is_noticed),
        cmocka_unit_test(lying_lengths_are_refused),
        cmocka_unit_test(bad_parameters_make_no_store),
        WITH_STORE(items_survive_reopening),
        WITH_STORE(replacing_takes_a_new_row),
        WITH_STORE(an_aborted_transaction_leaves_nothing),
        WITH_STORE(a_view_keeps_what_it_saw),
        WITH_STORE(items_are_listed_in_id_order),
        WITH_STORE(the_map_grows_under_a_reader_of_another_process),
        WITH_STORE(a_reader_cannot_write),
        WITH_STORE(a_full_disk_refuses_and_recovers),
        WITH_STORE(a_damaged_vector_is_named),
        WITH_STORE(other_formats_and_damage_are_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
