/* A collection: what is put is found at once, what is deleted is gone, and reopening changes nothing. */
#include "engine/saccade.h"
#include "tests/scratch.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { DIM = 8 };

static sac_device *device;
static sac_database *db;
static sac_collection *collection;
static char folder[SAC_SCRATCH_PATH_MAX];

static int open_device(void **state)
{
    (void)state;
    return sac_device_open(NULL, &device, NULL) == SAC_OK ? 0 : -1;
}

static int close_device(void **state)
{
    (void)state;
    sac_device_close(device);
    return 0;
}

static void open_collection_to(sac_open_mode mode, sac_metric metric)
{
    sac_collection_params params;
    sac_error err = {0};

    sac_collection_params_init(&params);
    params.dim = DIM;
    params.metric = metric;
    if (sac_database_open(device, folder, mode, &db, &err) != SAC_OK ||
        sac_database_create(db, "c", &params, &err) != SAC_OK ||
        sac_collection_acquire(db, "c", &collection, &err) != SAC_OK)
        fail_msg("%s", err.text);
}

static void open_collection(sac_metric metric)
{
    open_collection_to(SAC_OPEN_CREATE, metric);
}

static void close_collection(void)
{
    sac_collection_release(collection);
    sac_database_close(db);
    db = NULL;
    collection = NULL;
}

static void reopen(void)
{
    close_collection();
    open_collection(SAC_METRIC_L2);
}

static int make_collection(void **state)
{
    (void)state;
    sac_scratch_make(folder);
    open_collection(SAC_METRIC_L2);
    return 0;
}

static int remove_collection(void **state)
{
    (void)state;
    close_collection();
    sac_scratch_remove(folder);
    return 0;
}

static sac_id number_id(uint64_t number)
{
    return (sac_id){number, NULL, 0};
}

/* A vector that no other seed gives: its first component is the seed. */
static void fill(float *vector, uint64_t seed)
{
    vector[0] = (float)seed;
    for (int d = 1; d < DIM; d++)
        vector[d] = (float)((seed * 2654435761u >> d) % 7);
}

static sac_status put(uint64_t number, uint64_t seed)
{
    float vector[DIM];
    sac_item item = {.id = number_id(number), .vector = vector};

    fill(vector, seed);
    return sac_collection_put(collection, &item, 1, NULL);
}

static void put_range(uint64_t from, uint64_t to)
{
    static float vectors[4096][DIM];
    static sac_item items[4096];
    size_t n = to - from;

    assert_in_range(n, 1, 4096);
    for (size_t i = 0; i < n; i++) {
        fill(vectors[i], from + i);
        items[i] = (sac_item){.id = number_id(from + i), .vector = vectors[i]};
    }
    assert_int_equal(sac_collection_put(collection, items, n, NULL), SAC_OK);
}

/* Searches for the vector of a seed. */
static sac_results *search(uint64_t seed, uint32_t k, unsigned with, bool exact)
{
    float vector[DIM];
    sac_results *results;
    sac_query query;
    sac_error err = {0};

    fill(vector, seed);
    sac_query_init(&query);
    query.vector = vector;
    query.k = k;
    query.exact = exact;
    if (sac_collection_search(collection, &query, 1, with, &results, &err) != SAC_OK)
        fail_msg("%s", err.text);
    return results;
}

/* The number of the nearest item when it is at distance 0, else -1. */
static int64_t find_with(uint64_t seed, bool exact)
{
    sac_results *results = search(seed, 1, 0, exact);
    size_t count;
    const sac_found *found = sac_results_get(results, 0, &count);
    int64_t number = count == 1 && found->distance == 0 ? (int64_t)found->id.number : -1;

    sac_results_free(results);
    return number;
}

static int64_t find(uint64_t seed)
{
    return find_with(seed, false);
}

static void a_put_is_found_by_the_next_search(void **state)
{
    size_t removed;
    sac_id ids[3] = {number_id(1), number_id(99), number_id(1)};

    (void)state;
    assert_int_equal(find(10), -1);
    assert_int_equal(put(1, 10), SAC_OK);
    assert_int_equal(find(10), 1);
    assert_int_equal(put(1, 20), SAC_OK);
    assert_int_equal(find(10), -1);
    assert_int_equal(find(20), 1);
    assert_int_equal(sac_collection_count(collection), 1);
    assert_int_equal(sac_collection_delete(collection, ids, 3, &removed, NULL), SAC_OK);
    assert_int_equal(removed, 1);
    assert_int_equal(find(20), -1);
    assert_int_equal(sac_collection_count(collection), 0);
    assert_int_equal(sac_collection_delete(collection, ids, 3, &removed, NULL), SAC_OK);
    assert_int_equal(removed, 0);
    assert_int_equal(sac_collection_put(collection, NULL, 0, NULL), SAC_OK);
    assert_int_equal(sac_collection_delete(collection, NULL, 0, NULL, NULL), SAC_OK);
}

static void one_bad_item_stops_all_of_its_call(void **state)
{
    float vectors[3][DIM];
    sac_item items[3];
    sac_error err = {0};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        fill(vectors[i], i + 1);
        items[i] = (sac_item){.id = number_id(i), .vector = vectors[i]};
    }
    vectors[2][3] = NAN;
    assert_int_equal(sac_collection_put(collection, items, 3, &err), SAC_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "item 2"));
    assert_int_equal(sac_collection_check(collection, &items[2], NULL), SAC_INVALID_ARGUMENT);
    assert_int_equal(sac_collection_check(collection, &items[1], NULL), SAC_OK);
    vectors[2][3] = 1;
    items[2].id = number_id(0);
    assert_int_equal(sac_collection_put(collection, items, 3, &err), SAC_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "twice"));
    assert_int_equal(sac_collection_count(collection), 0);
    assert_int_equal(find(1), -1);
    items[2].id = number_id(2);
    assert_int_equal(sac_collection_put(collection, items, 3, &err), SAC_OK);
    assert_int_equal(find(1), 0);
}

static void results_ascend_and_ties_go_to_the_smaller_id(void **state)
{
    float vector[DIM];
    sac_item item = {.vector = vector};
    sac_results *results;
    const sac_found *found;
    size_t count;

    (void)state;
    fill(vector, 5);
    item.id = (sac_id){0, "b", 1}; /* the later the row, the smaller the id */
    assert_int_equal(sac_collection_put(collection, &item, 1, NULL), SAC_OK);
    item.id = (sac_id){0, "a", 1};
    assert_int_equal(sac_collection_put(collection, &item, 1, NULL), SAC_OK);
    for (uint64_t id = 40; id > 30; id--)
        assert_int_equal(put(id, 5), SAC_OK);
    put_range(1000, 1100);
    results = search(5, 50, 0, false);
    found = sac_results_get(results, 0, &count);
    assert_int_equal(count, 50);
    for (size_t i = 0; i < 10; i++)
        assert_true(found[i].distance == 0 && found[i].id.text == NULL && found[i].id.number == 31 + i);
    assert_true(found[10].id.text_size == 1 && found[10].id.text[0] == 'a' && found[11].id.text[0] == 'b');
    for (size_t i = 1; i < count; i++)
        assert_true(found[i - 1].distance <= found[i].distance && found[i].score == -found[i].distance);
    assert_null(found[0].item);
    sac_results_free(results);
    results = search(5, SAC_K_MAX, 0, false); /* a short result is a short list */
    sac_results_get(results, 0, &count);
    assert_int_equal(count, 112);
    sac_results_free(results);
}

static void hits_carry_what_is_asked_for(void **state)
{
    sac_attribute colour = {
        .name = "colour", .name_size = 6, .kind = SAC_ATTRIBUTE_TEXT, .text = "red", .text_size = 3};
    float vector[DIM];
    sac_item item = {.id = {0, "x", 1},
                     .vector = vector,
                     .attributes = &colour,
                     .attribute_count = 1,
                     .source = "/a.jpg",
                     .source_size = 6};
    const sac_item *got;
    sac_results *results;
    size_t count;

    (void)state;
    fill(vector, 3);
    assert_int_equal(sac_collection_put(collection, &item, 1, NULL), SAC_OK);
    for (unsigned with = 1; with < 8; with++) {
        results = search(3, 1, with, false);
        got = sac_results_get(results, 0, &count)->item;
        assert_int_equal(count, 1);
        assert_non_null(got);
        assert_true(got->id.text_size == 1 && got->id.text[0] == 'x');
        assert_int_equal(got->attribute_count, with & SAC_WITH_ATTRIBUTES ? 1 : 0);
        assert_true((got->vector != NULL) == ((with & SAC_WITH_VECTOR) != 0));
        assert_int_equal(got->source_size, with & SAC_WITH_SOURCE ? 6 : 0);
        if (with & SAC_WITH_ATTRIBUTES)
            assert_memory_equal(got->attributes[0].text, "red", 3);
        if (with & SAC_WITH_VECTOR)
            assert_memory_equal(got->vector, vector, sizeof vector);
        sac_results_free(results);
    }
}

static uint64_t indexed(void)
{
    sac_collection_info info;

    sac_collection_stats(collection, &info);
    return info.index.count;
}

/* Filling takes memory for no index; the first search makes one, and what follows enters it. */
static void what_is_opened_to_be_filled_has_no_index_before_it_is_searched(void **state)
{
    sac_collection_info info;

    (void)state;
    close_collection();
    open_collection_to(SAC_OPEN_FILL, SAC_METRIC_L2);
    put_range(0, 50);
    assert_int_equal(put(7, 1007), SAC_OK);
    assert_int_equal(sac_collection_delete(collection, &(sac_id){.number = 8}, 1, NULL, NULL), SAC_OK);
    sac_collection_stats(collection, &info);
    assert_int_equal(info.count, 49);
    assert_int_equal(info.index.count, 0);
    assert_string_equal(info.index.spec, "Flat");
    assert_int_equal(sac_collection_recall_curve(collection, NULL, 0), 0);
    assert_int_equal(sac_collection_checkpoint(collection, NULL), SAC_OK); /* there is nothing to save */
    assert_int_equal(find(1007), 7);
    assert_true(find(8) != 8);
    assert_int_equal(indexed(), 49);
    assert_int_equal(put(60, 60), SAC_OK);
    assert_int_equal(find(60), 60);
    assert_int_equal(indexed(), 50);
    close_collection();
    open_collection_to(SAC_OPEN_FILL, SAC_METRIC_L2);
    assert_int_equal(indexed(), 0);
    put_range(100, 900);
    assert_int_equal(sac_collection_build(collection, "IVF8,PQ4x4", NULL, NULL, NULL), SAC_OK);
    assert_int_equal(indexed(), 850);
    assert_int_equal(find(500), 500);
    close_collection();
    open_collection_to(SAC_OPEN_FILL, SAC_METRIC_L2); /* a checkpoint is kept up to date */
    assert_int_equal(indexed(), 850);
    assert_int_equal(put(901, 901), SAC_OK);
    assert_int_equal(indexed(), 851);
}

static void searches_are_checked(void **state)
{
    float vector[DIM] = {1};
    sac_query query;
    sac_results *results;

    (void)state;
    sac_query_init(&query);
    query.vector = vector;
    query.k = 0;
    assert_int_equal(sac_collection_search(collection, &query, 1, 0, &results, NULL), SAC_INVALID_ARGUMENT);
    assert_null(results);
    query.k = SAC_K_MAX + 1;
    assert_int_equal(sac_collection_search(collection, &query, 1, 0, &results, NULL), SAC_INVALID_ARGUMENT);
    query.k = 1;
    vector[2] = NAN;
    assert_int_equal(sac_collection_search(collection, &query, 1, 0, &results, NULL), SAC_INVALID_ARGUMENT);
    assert_int_equal(sac_collection_search(collection, NULL, 0, 0, &results, NULL), SAC_OK);
    sac_results_free(results);
}

struct listing {
    uint64_t next, stop_at;
    bool vectors;
};

static bool expect_next(void *context, const sac_item *item)
{
    struct listing *listing = context;
    float want[DIM];

    assert_int_equal(item->id.number, listing->next);
    assert_true((item->vector != NULL) == listing->vectors);
    fill(want, listing->next);
    if (listing->vectors)
        assert_memory_equal(item->vector, want, sizeof want);
    return ++listing->next != listing->stop_at;
}

static void items_are_listed_in_order(void **state)
{
    struct listing listing = {.next = 100};
    sac_id after = number_id(149);

    (void)state;
    put_range(100, 400);
    assert_int_equal(sac_collection_each(collection, NULL, false, expect_next, &listing, NULL), SAC_OK);
    assert_int_equal(listing.next, 400);
    listing = (struct listing){.next = 150, .stop_at = 250, .vectors = true};
    assert_int_equal(sac_collection_each(collection, &after, true, expect_next, &listing, NULL), SAC_OK);
    assert_int_equal(listing.next, 250);
    after = number_id(5000);
    assert_int_equal(sac_collection_each(collection, &after, true, expect_next, &listing, NULL), SAC_OK);
    assert_int_equal(listing.next, 250);
}

static void cosine_refuses_zeros_and_keeps_lengths(void **state)
{
    float vector[DIM] = {0};
    sac_item item = {.id = number_id(1), .vector = vector};
    sac_results *results;
    const sac_found *found;
    sac_query query;
    size_t count;

    (void)state;
    sac_scratch_make(folder);
    open_collection(SAC_METRIC_COSINE);
    assert_int_equal(sac_collection_put(collection, &item, 1, NULL), SAC_INVALID_ARGUMENT);
    vector[1] = 12.5f;
    assert_int_equal(sac_collection_put(collection, &item, 1, NULL), SAC_OK);
    close_collection();
    open_collection(SAC_METRIC_COSINE);
    sac_query_init(&query);
    query.vector = vector;
    assert_int_equal(sac_collection_search(collection, &query, 1, SAC_WITH_VECTOR, &results, NULL), SAC_OK);
    found = sac_results_get(results, 0, &count);
    assert_int_equal(count, 1);
    assert_true(fabsf(found->score - 1.0f) < 1e-6f);
    assert_true(found->item->vector[1] == 12.5f); /* as it was given */
    sac_results_free(results);
    close_collection();
    sac_scratch_remove(folder);
}

/* ---- reopening ---- */

static void assert_exactly(uint64_t from, uint64_t to)
{
    struct listing listing = {.next = from, .vectors = true};
    sac_collection_info info;

    assert_int_equal(sac_collection_each(collection, NULL, true, expect_next, &listing, NULL), SAC_OK);
    assert_int_equal(listing.next, to);
    for (uint64_t i = from; i < to; i++)
        assert_int_equal(find(i), i);
    sac_collection_stats(collection, &info);
    assert_int_equal(info.count, to - from);
    assert_int_equal(info.index.count, to - from);
}

static void delete_range(uint64_t from, uint64_t to)
{
    size_t removed;

    for (uint64_t i = from; i < to; i++) {
        sac_id id = number_id(i);

        assert_int_equal(sac_collection_delete(collection, &id, 1, &removed, NULL), SAC_OK);
        assert_int_equal(removed, 1);
    }
}

static void reopening_derives_what_the_checkpoint_lacks(void **state)
{
    (void)state;
    put_range(0, 300);
    reopen(); /* without any checkpoint */
    assert_exactly(0, 300);
    assert_int_equal(sac_collection_checkpoint(collection, NULL), SAC_OK);
    reopen();
    assert_exactly(0, 300);
    put_range(250, 400); /* some of them again: other rows under the same ids */
    delete_range(0, 100);
    reopen(); /* with one that is behind */
    assert_exactly(100, 400);
    assert_int_equal(sac_collection_checkpoint(collection, NULL), SAC_OK);
    delete_range(100, 400);
    reopen();
    assert_exactly(0, 0);
}

static void write_checkpoint(const void *bytes, size_t size)
{
    char path[SAC_SCRATCH_PATH_MAX + 64];
    FILE *f;

    snprintf(path, sizeof path, "%s/collections/c/index.sac", folder);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

static size_t read_checkpoint(uint8_t *bytes, size_t capacity)
{
    char path[SAC_SCRATCH_PATH_MAX + 64];
    size_t size;
    FILE *f;

    snprintf(path, sizeof path, "%s/collections/c/index.sac", folder);
    f = fopen(path, "r");
    assert_non_null(f);
    size = fread(bytes, 1, capacity, f);
    fclose(f);
    return size;
}

static void a_damaged_checkpoint_is_derived_again(void **state)
{
    static uint8_t good[1 << 16], bad[1 << 16];
    sac_collection_info info;
    size_t size;

    (void)state;
    put_range(0, 100);
    assert_int_equal(sac_collection_checkpoint(collection, NULL), SAC_OK);
    size = read_checkpoint(good, sizeof good);
    for (int round = 0; round < 12; round++) {
        memcpy(bad, good, size);
        bad[(size - 1) * (size_t)round / 11] ^= 0x40;
        close_collection();
        write_checkpoint(bad, round == 11 ? 0 : size);
        open_collection(SAC_METRIC_L2);
        assert_exactly(0, 100);
        sac_collection_stats(collection, &info);
        assert_true(info.checkpoint_refused);
    }
    for (size_t cut = 1; cut < size; cut += size / 7) {
        close_collection();
        write_checkpoint(good, cut);
        open_collection(SAC_METRIC_L2);
        assert_exactly(0, 100);
    }
    assert_int_equal(sac_collection_checkpoint(collection, NULL), SAC_OK);
    reopen();
    sac_collection_stats(collection, &info);
    assert_false(info.checkpoint_refused);
}

static void a_foreign_checkpoint_is_refused(void **state)
{
    sac_index_params params;
    sac_index *index;
    char path[SAC_SCRATCH_PATH_MAX + 64];
    float vector[DIM + 1] = {1};
    uint64_t label = 1;
    sac_collection_info info;

    (void)state;
    put_range(0, 10);
    close_collection();
    sac_index_params_init(&params);
    params.dim = DIM + 1;
    params.spec = "Flat";
    snprintf(path, sizeof path, "%s/collections/c/index.sac", folder);
    assert_int_equal(sac_index_create(device, &params, &index, NULL), SAC_OK);
    assert_int_equal(sac_index_add(index, 1, vector, &label, NULL, NULL, NULL), SAC_OK);
    assert_int_equal(sac_index_save(index, path, true, NULL), SAC_OK);
    sac_index_close(index);
    open_collection(SAC_METRIC_L2);
    assert_exactly(0, 10);
    sac_collection_stats(collection, &info);
    assert_true(info.checkpoint_refused);
}

/* ---- building ---- */

static bool count_stages(void *context, const sac_progress *progress)
{
    (void)progress;
    ++*(int *)context;
    return true;
}

static bool cancel(void *context, const sac_progress *progress)
{
    (void)context;
    (void)progress;
    return false;
}

static void a_build_changes_the_index_and_no_answer(void **state)
{
    sac_collection_info info;
    sac_error err = {0};
    int reports = 0;

    (void)state;
    for (uint64_t i = 0; i < 3; i++)
        put_range(i * 1000, (i + 1) * 1000);
    assert_int_equal(sac_collection_build(collection, "IVF16,PQ4", cancel, NULL, &err), SAC_CANCELLED);
    sac_collection_stats(collection, &info);
    assert_string_equal(info.index.spec, "Flat");
    if (sac_collection_build(collection, "IVF16,PQ4", count_stages, &reports, &err) != SAC_OK)
        fail_msg("%s", err.text);
    assert_true(reports > 0);
    sac_collection_stats(collection, &info);
    assert_int_equal(info.index.nlist, 16);
    assert_int_equal(info.index.count, 3000);
    put_range(3000, 3010); /* the built index goes on living */
    delete_range(0, 10);
    assert_int_equal(find(3005), 3005);
    assert_int_equal(find(5), -1);
    reopen(); /* from the checkpoint that the build saved */
    sac_collection_stats(collection, &info);
    assert_int_equal(info.index.nlist, 16);
    assert_true(info.index.measured);
    for (uint64_t i = 10; i < 3010; i += 10)
        assert_int_equal(find(i), i);
    assert_int_equal(sac_collection_build(collection, "nonsense", NULL, NULL, &err), SAC_INVALID_ARGUMENT);
    assert_int_equal(sac_collection_build(collection, "Flat", NULL, NULL, &err), SAC_OK);
    assert_exactly(10, 3010);
}

static ino_t checkpoint_inode(void)
{
    char path[SAC_SCRATCH_PATH_MAX + 64];
    struct stat st;

    snprintf(path, sizeof path, "%s/collections/c/index.sac", folder);
    return stat(path, &st) == 0 ? st.st_ino : 0;
}

static void closing_saves_what_many_writes_came_after(void **state)
{
    ino_t saved;

    (void)state;
    put_range(0, 1000);
    reopen(); /* Flat: nothing worth saving */
    assert_int_equal(checkpoint_inode(), 0);
    assert_int_equal(sac_collection_build(collection, "IVF4,PQ4x4", NULL, NULL, NULL), SAC_OK);
    saved = checkpoint_inode();
    assert_int_not_equal(saved, 0);
    put_range(1000, 1400);
    delete_range(0, 100);
    reopen();
    assert_int_equal(checkpoint_inode(), saved);
    put_range(1000, 1600); /* with those of before, enough */
    reopen();
    assert_int_not_equal(checkpoint_inode(), saved);
    assert_int_equal(sac_collection_count(collection), 1500);
    assert_int_equal(find(1555), 1555);
}

static void small_and_empty_collections_can_be_built(void **state)
{
    sac_error err = {0};

    (void)state;
    if (sac_collection_build(collection, NULL, NULL, NULL, &err) != SAC_OK)
        fail_msg("%s", err.text);
    put_range(0, 3);
    if (sac_collection_build(collection, NULL, NULL, NULL, &err) != SAC_OK)
        fail_msg("%s", err.text);
    assert_exactly(0, 3);
}

/* ---- many threads ---- */

enum { FIXED = 64, CHURN_MS = 400 };

static atomic_bool churn_over;

/* Puts the same items again and again: each of them must be found at any moment. */
static void *replace_items(void *context)
{
    uint64_t first = *(uint64_t *)context;

    for (uint64_t round = 0; !atomic_load(&churn_over); round++) {
        float vectors[4][DIM];
        sac_item items[4];

        for (uint64_t i = 0; i < 4; i++) {
            uint64_t number = first + (round * 4 + i) % (FIXED / 2);

            fill(vectors[i], number);
            items[i] = (sac_item){.id = number_id(number), .vector = vectors[i]};
        }
        if (sac_collection_put(collection, items, 4, NULL) != SAC_OK)
            abort();
    }
    return NULL;
}

/* Puts and deletes items of its own: what it was promised must hold for its next search. */
static void *come_and_go(void *context)
{
    (void)context;
    for (uint64_t number = 10000; !atomic_load(&churn_over); number++) {
        sac_id id = number_id(number);
        size_t removed;

        if (put(number, number) != SAC_OK || find_with(number, true) != (int64_t)number)
            abort();
        if (sac_collection_delete(collection, &id, 1, &removed, NULL) != SAC_OK || removed != 1 ||
            find_with(number, true) != -1)
            abort();
    }
    return NULL;
}

static void *search_items(void *context)
{
    uint64_t *searches = context;

    for (uint64_t i = 0; !atomic_load(&churn_over); i++) {
        sac_results *results = search(i % FIXED, 5, SAC_WITH_ATTRIBUTES, true);
        size_t count;
        const sac_found *found = sac_results_get(results, 0, &count);

        if (count != 5 || found[0].distance != 0 || found[0].id.number != i % FIXED)
            abort();
        for (size_t a = 0; a < count; a++)
            for (size_t b = 0; b < a; b++)
                if (found[a].id.number == found[b].id.number)
                    abort();
        sac_results_free(results);
        ++*searches;
    }
    return NULL;
}

/* Swaps one kind of index for the other as often as it can. */
static void *build_again(void *context)
{
    (void)context;
    for (int round = 0; !atomic_load(&churn_over); round++) {
        const char *spec = round % 2 == 0 ? "IVF4,PQ2x4" : "Flat";
        sac_collection_info info;

        if (sac_collection_build(collection, spec, NULL, NULL, NULL) != SAC_OK ||
            sac_collection_checkpoint(collection, NULL) != SAC_OK)
            abort();
        sac_collection_stats(collection, &info);
        usleep(1000);
    }
    return NULL;
}

static void searches_never_miss_while_others_write_and_build(void **state)
{
    uint64_t first[2] = {0, FIXED / 2}, searches[2] = {0, 0};
    pthread_t threads[6];

    (void)state;
    put_range(0, FIXED);
    atomic_store(&churn_over, false);
    pthread_create(&threads[0], NULL, replace_items, &first[0]);
    pthread_create(&threads[1], NULL, replace_items, &first[1]);
    pthread_create(&threads[2], NULL, search_items, &searches[0]);
    pthread_create(&threads[3], NULL, search_items, &searches[1]);
    pthread_create(&threads[4], NULL, come_and_go, NULL);
    pthread_create(&threads[5], NULL, build_again, NULL);
    usleep(CHURN_MS * 1000);
    atomic_store(&churn_over, true);
    for (size_t i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    assert_true(searches[0] > 10 && searches[1] > 10);
    reopen();
    for (uint64_t i = 0; i < FIXED; i++)
        assert_int_equal(find(i), i);
}

static void a_full_disk_refuses_and_searches_go_on(void **state)
{
    struct rlimit before, small;
    char file[SAC_SCRATCH_PATH_MAX + 64];
    struct stat data;
    sac_collection_info info;
    uint64_t stored = 0;
    sac_status st;

    (void)state;
    signal(SIGXFSZ, SIG_IGN);
    snprintf(file, sizeof file, "%s/collections/c/data.mdb", folder);
    assert_int_equal(stat(file, &data), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = (rlim_t)data.st_size + 150 * 1000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    while ((st = put(stored, stored)) == SAC_OK && stored < 100000)
        stored++;
    assert_int_equal(st, SAC_READ_ONLY);
    assert_int_equal(find(stored), -1);
    for (uint64_t i = 0; i < stored; i += 50)
        assert_int_equal(find(i), i);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    sac_collection_stats(collection, &info);
    assert_false(info.read_only);
    assert_int_equal(put(stored, stored), SAC_OK);
    reopen();
    assert_exactly(0, stored + 1);
}

#define WITH_COLLECTION(test) cmocka_unit_test_setup_teardown(test, make_collection, remove_collection)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_COLLECTION(a_put_is_found_by_the_next_search),
        WITH_COLLECTION(one_bad_item_stops_all_of_its_call),
        WITH_COLLECTION(results_ascend_and_ties_go_to_the_smaller_id),
        WITH_COLLECTION(hits_carry_what_is_asked_for),
        WITH_COLLECTION(what_is_opened_to_be_filled_has_no_index_before_it_is_searched),
        WITH_COLLECTION(searches_are_checked),
        WITH_COLLECTION(items_are_listed_in_order),
        cmocka_unit_test(cosine_refuses_zeros_and_keeps_lengths),
        WITH_COLLECTION(reopening_derives_what_the_checkpoint_lacks),
        WITH_COLLECTION(a_damaged_checkpoint_is_derived_again),
        WITH_COLLECTION(a_foreign_checkpoint_is_refused),
        WITH_COLLECTION(a_build_changes_the_index_and_no_answer),
        WITH_COLLECTION(closing_saves_what_many_writes_came_after),
        WITH_COLLECTION(small_and_empty_collections_can_be_built),
        WITH_COLLECTION(searches_never_miss_while_others_write_and_build),
        WITH_COLLECTION(a_full_disk_refuses_and_searches_go_on),
    };

    return cmocka_run_group_tests(tests, open_device, close_device);
}
