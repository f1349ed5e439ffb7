/* kill -9 at random moments of a stream of puts, deletes, builds and checkpoints. A child does the work and
 * says what it is about to do and what was acknowledged; its parent kills it, opens what is left, and holds
 * it against that: acknowledged puts are there bit for bit, acknowledged deletes are gone, the one operation
 * that was under way is there as a whole or not at all, and nothing else is.
 *
 * SACCADE_TEST_KILLS sets how many times (20), SACCADE_TEST_SEED repeats a run. */
#include "engine/saccade.h"
#include "tests/scratch.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { DIM = 16, IDS = 96, GROUP_MAX = 8, RUN_MS_MAX = 250 };

/* One operation on distinct ids: version 0 deletes. */
struct operation {
    uint32_t count;
    uint32_t ids[GROUP_MAX], versions[GROUP_MAX];
};

/* What goes through the pipe. */
struct message {
    uint32_t acknowledged; /* 0: about to begin */
    struct operation operation;
};

static char folder[SAC_SCRATCH_PATH_MAX];
static uint64_t random_state;
static uint32_t versions[IDS]; /* what is stored of each id; 0: nothing */
static uint32_t next_version = 1;

static uint32_t draw(uint32_t below) /* xorshift64 (Marsaglia 2003) */
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % below;
}

/* No two versions of any id share a vector. */
static void fill(float *vector, uint32_t id, uint32_t version)
{
    vector[0] = (float)id;
    vector[1] = (float)version;
    for (uint32_t d = 2; d < DIM; d++)
        vector[d] = (float)((id * 31 + d * version) % 17);
}

static sac_status open_all(sac_open_mode mode, sac_device **device, sac_database **db, sac_collection **c)
{
    sac_collection_params params;
    sac_device_options options;
    sac_error err = {0};
    sac_status st;

    sac_device_options_init(&options);
    options.threads = 1; /* threads would not survive the fork */
    sac_collection_params_init(&params);
    params.dim = DIM;
    params.metric = SAC_METRIC_L2;
    st = sac_device_open(&options, device, &err);
    if (st == SAC_OK)
        st = sac_database_open(*device, folder, mode, db, &err);
    if (st == SAC_OK)
        st = sac_database_create(*db, "c", &params, &err);
    if (st == SAC_OK)
        st = sac_collection_acquire(*db, "c", c, &err);
    if (st != SAC_OK)
        printf("open: %s\n", err.text);
    return st;
}

static void close_all(sac_device *device, sac_database *db, sac_collection *c)
{
    sac_collection_release(c);
    sac_database_close(db);
    sac_device_close(device);
}

/* ---- the child ---- */

static bool deletes(const struct operation *op)
{
    return op->versions[0] == 0;
}

static struct operation draw_operation(void)
{
    struct operation op = {.count = 1 + draw(GROUP_MAX)};
    bool remove = draw(3) == 0;
    uint32_t first = draw(IDS);

    for (uint32_t i = 0; i < op.count; i++) {
        op.ids[i] = (first + i * 7) % IDS; /* distinct: 7 and 96 share no divisor */
        op.versions[i] = remove ? 0 : next_version++;
    }
    return op;
}

static sac_status apply(sac_collection *c, const struct operation *op)
{
    float vectors[GROUP_MAX][DIM];
    sac_item items[GROUP_MAX];
    sac_id ids[GROUP_MAX];

    for (uint32_t i = 0; i < op->count; i++) {
        ids[i] = (sac_id){op->ids[i], NULL, 0};
        fill(vectors[i], op->ids[i], op->versions[i]);
        items[i] = (sac_item){.id = ids[i], .vector = vectors[i]};
    }
    return deletes(op) ? sac_collection_delete(c, ids, op->count, NULL, NULL)
                       : sac_collection_put(c, items, op->count, NULL);
}

static void work_until_killed(int pipe_fd)
{
    sac_device *device;
    sac_database *db;
    sac_collection *c;

    if (open_all(SAC_OPEN_CREATE, &device, &db, &c) != SAC_OK)
        _exit(1);
    for (;;) {
        struct message message = {0, draw_operation()};
        uint32_t chance = draw(40);

        if (chance == 0 && sac_collection_checkpoint(c, NULL) != SAC_OK)
            _exit(2);
        if (chance == 1 && sac_collection_build(c, "Flat", NULL, NULL, NULL) != SAC_OK)
            _exit(3);
        if (chance == 2) /* refused while there are too few to train on */
            sac_collection_build(c, "IVF4,PQ4x4", NULL, NULL, NULL);
        if (write(pipe_fd, &message, sizeof message) != sizeof message ||
            apply(c, &message.operation) != SAC_OK)
            _exit(4);
        message.acknowledged = 1;
        if (write(pipe_fd, &message, sizeof message) != sizeof message)
            _exit(5);
    }
}

/* ---- the parent ---- */

static void note(const struct operation *op)
{
    for (uint32_t i = 0; i < op->count; i++) {
        versions[op->ids[i]] = op->versions[i];
        if (op->versions[i] >= next_version)
            next_version = op->versions[i] + 1;
    }
}

/* Reads what the child said into `versions`. True when an operation was under way. */
static bool read_messages(int pipe_fd, struct operation *under_way, size_t *acknowledged)
{
    struct message message;
    bool begun = false;

    while (read(pipe_fd, &message, sizeof message) == sizeof message) {
        begun = !message.acknowledged;
        *under_way = message.operation;
        if (message.acknowledged) {
            note(&message.operation);
            ++*acknowledged;
        }
    }
    return begun;
}

/* True when the id is there with exactly this version (0: not there). */
static bool stored_as(const sac_collection *c, uint32_t id, uint32_t version)
{
    float want[DIM];
    sac_record *record;
    sac_status st = sac_collection_get(c, (sac_id){id, NULL, 0}, &record, NULL);
    bool same;

    if (st != SAC_OK)
        return st == SAC_NOT_FOUND && version == 0;
    fill(want, id, version);
    same = version != 0 && memcmp(sac_record_item(record)->vector, want, sizeof want) == 0;
    sac_record_free(record);
    return same;
}

/* The operation is stored as a whole, or not at all; takes over which. */
static void settle(const sac_collection *c, const struct operation *op)
{
    uint32_t after = 0, before = 0;

    for (uint32_t i = 0; i < op->count; i++) {
        after += stored_as(c, op->ids[i], op->versions[i]);
        before += stored_as(c, op->ids[i], versions[op->ids[i]]);
    }
    assert_true(after == op->count || before == op->count);
    if (after == op->count)
        note(op);
}

static void check_search(const sac_collection *c, uint32_t id, bool exact)
{
    float vector[DIM];
    sac_results *results;
    sac_query query;
    const sac_found *found;
    size_t count;

    fill(vector, id, versions[id] != 0 ? versions[id] : 1);
    sac_query_init(&query);
    query.vector = vector;
    query.exact = exact;
    assert_int_equal(sac_collection_search(c, &query, 1, SAC_WITH_VECTOR, &results, NULL), SAC_OK);
    found = sac_results_get(results, 0, &count);
    if (exact && versions[id] != 0)
        assert_true(count > 0 && found[0].id.number == id && found[0].distance == 0);
    for (size_t i = 0; i < count; i++) { /* whatever is found is stored, as it is stored */
        float want[DIM];

        assert_in_range(found[i].id.number, 0, IDS - 1);
        assert_int_not_equal(versions[found[i].id.number], 0);
        fill(want, (uint32_t)found[i].id.number, versions[found[i].id.number]);
        assert_memory_equal(found[i].item->vector, want, sizeof want);
    }
    sac_results_free(results);
}

static void check_all(const struct operation *under_way)
{
    sac_device *device;
    sac_database *db;
    sac_collection *c;
    sac_collection_info info;
    uint32_t count = 0;

    assert_int_equal(open_all(SAC_OPEN_CREATE, &device, &db, &c), SAC_OK);
    if (under_way != NULL)
        settle(c, under_way);
    for (uint32_t id = 0; id < IDS; id++) {
        assert_true(stored_as(c, id, versions[id]));
        check_search(c, id, true);
        check_search(c, id, false);
        count += versions[id] != 0;
    }
    sac_collection_stats(c, &info);
    assert_int_equal(info.count, count);
    assert_int_equal(info.index.count, count);
    assert_false(info.checkpoint_refused); /* a checkpoint is whole or is not there */
    close_all(device, db, c);
}

static void kill_once(size_t *acknowledged)
{
    struct timespec pause = {0, 1000000L * (1 + draw(RUN_MS_MAX))};
    struct operation under_way;
    int ends[2], status;
    bool begun;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        close(ends[0]);
        random_state ^= (*acknowledged + 1) * 0x9e3779b97f4a7c15u; /* not what the last child did */
        work_until_killed(ends[1]);
    }
    close(ends[1]);
    /* The pipe holds a few hundred messages and then stops the child: so it is emptied while it runs. */
    if (fork() == 0) {
        nanosleep(&pause, NULL);
        kill(child, SIGKILL);
        _exit(0);
    }
    begun = read_messages(ends[0], &under_way, acknowledged);
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_true(wait(&status) > 0);
    check_all(begun ? &under_way : NULL);
}

static void nothing_acknowledged_is_lost(void **state)
{
    const char *kills_text = getenv("SACCADE_TEST_KILLS"), *seed_text = getenv("SACCADE_TEST_SEED");
    unsigned long kills = kills_text != NULL ? strtoul(kills_text, NULL, 10) : 20;
    uint64_t seed = seed_text != NULL ? strtoull(seed_text, NULL, 10) : (uint64_t)time(NULL);
    size_t acknowledged = 0;

    (void)state;
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout); /* or every child would say it again */
    random_state = seed * 2 + 1;
    sac_scratch_make(folder);
    for (unsigned long i = 0; i < kills; i++)
        kill_once(&acknowledged);
    printf("%lu kills, %zu operations acknowledged, none lost\n", kills, acknowledged);
    assert_true(acknowledged > kills);
    sac_scratch_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_acknowledged_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
