/* Every write, sync and rename that the store, the checkpoint and the directory make is a moment at which the
 * process may die or the disk may fail. This test walks through all of them: a child runs a fixed list of
 * steps, and its n-th such call kills it, or is cut in half, or fails; for n = 1, 2, ... until a run is not
 * hit any more. Its parent then opens what is left: the steps that succeeded are there, the ones that failed
 * are not, and the one that was under way is there as a whole or not at all.
 *
 * The calls are those of the C library, which this program stands in for. SIGKILL keeps what the kernel was
 * given; what a power cut would lose is not tested here. */
#include "engine/saccade.h"
#include "tests/scratch.h"

#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum fault { FAULT_NONE, FAULT_DIE, FAULT_DIE_HALFWAY, FAULT_EIO, FAULT_ENOSPC };

enum { DIM = 4, IDS = 5, STEPS = 12, CREATE_D = 6, PUT_D = 7, DROP_D = 8 };

/* What the child tells its parent, in memory that both see: telling must be no call that counts. */
struct told {
    int begun, done; /* steps */
    bool struck;
    sac_status status[STEPS];
};

static struct told *told;
/* ---- the C library's calls ---- */

static enum fault fault;
static int calls_left; /* before the fault strikes */

/* Counts a call; true when the fault strikes at it. */
static bool strikes(void)
{
    bool now = fault != FAULT_NONE && --calls_left == 0;

    if (now)
        told->struck = true;
    return now;
}

static void die(void)
{
    raise(SIGKILL);
}

/* What a call does that was struck: dies, or fails. */
static int struck_call(void)
{
    if (fault == FAULT_DIE || fault == FAULT_DIE_HALFWAY)
        die();
    errno = fault == FAULT_EIO ? EIO : ENOSPC;
    return -1;
}

#define EXPORT __attribute__((visibility("default")))
#define REAL(name, type, ...) ((type(*)(__VA_ARGS__))(uintptr_t)dlsym(RTLD_NEXT, #name))

EXPORT ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    bool struck = strikes();

    if (struck && fault != FAULT_DIE_HALFWAY)
        return struck_call();
    if (struck)
        size /= 2;
    ssize_t n = REAL(pwrite, ssize_t, int, const void *, size_t, off_t)(fd, bytes, size, offset);
    if (struck)
        die();
    return n;
}

EXPORT ssize_t write(int fd, const void *bytes, size_t size)
{
    bool struck = strikes();

    if (struck && fault != FAULT_DIE_HALFWAY)
        return struck_call();
    ssize_t n = REAL(write, ssize_t, int, const void *, size_t)(fd, bytes, struck ? size / 2 : size);
    if (struck)
        die();
    return n;
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
    bool struck = strikes();

    if (struck && fault != FAULT_DIE_HALFWAY)
        return struck_call();
    ssize_t n =
        REAL(writev, ssize_t, int, const struct iovec *, int)(fd, parts, struck ? (count + 1) / 2 : count);
    if (struck)
        die();
    return n;
}

EXPORT int fsync(int fd)
{
    return strikes() ? struck_call() : REAL(fsync, int, int)(fd);
}

EXPORT int fdatasync(int fd)
{
    return strikes() ? struck_call() : REAL(fdatasync, int, int)(fd);
}

EXPORT int ftruncate(int fd, off_t size)
{
    return strikes() ? struck_call() : REAL(ftruncate, int, int, off_t)(fd, size);
}

EXPORT int rename(const char *from, const char *to)
{
    return strikes() ? struck_call() : REAL(rename, int, const char *, const char *)(from, to);
}

/* ---- the steps ---- */

static char folder[SAC_SCRATCH_PATH_MAX];
static sac_device *device;
static sac_database *db;
static sac_collection *collection;

static void fill(float *vector, uint64_t id, int version)
{
    for (int d = 0; d < DIM; d++)
        vector[d] = (float)(id * 100) + (float)version + (float)d;
}

static sac_status open_all(void)
{
    sac_device_options options;
    sac_collection_params params;
    sac_status st;

    sac_device_options_init(&options);
    options.threads = 1;
    sac_collection_params_init(&params);
    params.dim = DIM;
    params.metric = SAC_METRIC_L2;
    st = sac_device_open(&options, &device, NULL);
    if (st == SAC_OK)
        st = sac_database_open(device, folder, SAC_OPEN_CREATE, &db, NULL);
    if (st == SAC_OK)
        st = sac_database_create(db, "c", &params, NULL);
    if (st == SAC_OK)
        st = sac_collection_acquire(db, "c", &collection, NULL);
    return st;
}

static void close_all(void)
{
    sac_collection_release(collection);
    sac_database_close(db);
    sac_device_close(device);
    collection = NULL;
    db = NULL;
    device = NULL;
}

static sac_status put(sac_collection *c, uint64_t from, uint64_t to, int version)
{
    float vectors[IDS + 5][DIM];
    sac_item items[IDS + 5];

    for (uint64_t id = from; id <= to; id++) {
        fill(vectors[id], id, version);
        items[id] = (sac_item){.id = {id, NULL, 0}, .vector = vectors[id]};
    }
    return sac_collection_put(c, items + from, to - from + 1, NULL);
}

static sac_status put_into_d(void)
{
    sac_collection *d;
    sac_status st = sac_collection_acquire(db, "d", &d, NULL);

    if (st == SAC_OK)
        st = put(d, 9, 9, 1);
    sac_collection_release(d);
    return st;
}

static sac_status create_d(void)
{
    sac_collection_params params;

    sac_collection_params_init(&params);
    params.dim = DIM;
    return sac_database_create(db, "d", &params, NULL);
}

static sac_status delete_ids(uint64_t from, uint64_t to)
{
    sac_id ids[IDS] = {{from, NULL, 0}, {to, NULL, 0}};

    return sac_collection_delete(collection, ids, from == to ? 1 : 2, NULL, NULL);
}

static sac_status run_step(int step)
{
    switch (step) {
    case 0:
        return open_all();
    case 1:
        return put(collection, 0, 2, 1);
    case 2:
        return put(collection, 1, 3, 2);
    case 3:
        return delete_ids(0, 0);
    case 4:
        return sac_collection_checkpoint(collection, NULL);
    case 5:
        return put(collection, 4, 4, 3);
    case CREATE_D:
        return create_d();
    case PUT_D:
        return put_into_d();
    case DROP_D:
        return sac_database_drop(db, "d", NULL);
    case 9:
        return sac_collection_build(collection, "Flat", NULL, NULL, NULL);
    case 10:
        return delete_ids(1, 2);
    default:
        return put(collection, 0, 2, 4);
    }
}

/* What a step makes of the versions of the ids in c; 0: not there. */
static void apply_step(int step, int versions[IDS])
{
    static const struct {
        int from, to, version;
    } writes[STEPS] = {[1] = {0, 2, 1}, [2] = {1, 3, 2},  [3] = {0, 0, 0},
                       [5] = {4, 4, 3}, [10] = {1, 2, 0}, [11] = {0, 2, 4}};

    if (step != 1 && step != 2 && step != 3 && step != 5 && step != 10 && step != 11)
        return;
    for (int id = writes[step].from; id <= writes[step].to; id++)
        versions[id] = writes[step].version;
}

static void work(void)
{
    for (int step = 0; step < STEPS; step++) {
        told->begun = step + 1;
        told->status[step] = run_step(step);
        told->done = step + 1;
        if (step == 0 && told->status[0] != SAC_OK)
            break;
    }
    fault = FAULT_NONE;
    close_all();
    _exit(0);
}

/* ---- what is left ---- */

static bool c_holds(const int versions[IDS])
{
    uint64_t count = 0;

    for (uint64_t id = 0; id < IDS; id++) {
        float want[DIM];
        sac_record *record;
        sac_status st = sac_collection_get(collection, (sac_id){id, NULL, 0}, &record, NULL);
        bool same;

        count += versions[id] != 0;
        if (st != SAC_OK && (st != SAC_NOT_FOUND || versions[id] != 0))
            return false;
        if (st != SAC_OK)
            continue;
        fill(want, id, versions[id]);
        same = versions[id] != 0 && memcmp(sac_record_item(record)->vector, want, sizeof want) == 0;
        sac_record_free(record);
        if (!same)
            return false;
    }
    return sac_collection_count(collection) == count;
}

/* Every item is found by its own vector, and nothing else is. */
static void check_searches(const int versions[IDS])
{
    for (uint64_t id = 0; id < IDS; id++) {
        float vector[DIM];
        sac_results *results;
        sac_query query;
        const sac_found *found;
        size_t count;

        fill(vector, id, versions[id]);
        sac_query_init(&query);
        query.vector = vector;
        assert_int_equal(sac_collection_search(collection, &query, 1, 0, &results, NULL), SAC_OK);
        found = sac_results_get(results, 0, &count);
        assert_int_equal(count, sac_collection_count(collection));
        if (versions[id] != 0)
            assert_true(found[0].id.number == id && found[0].distance == 0);
        for (size_t i = 0; i < count; i++)
            assert_int_not_equal(versions[found[i].id.number], 0);
        sac_results_free(results);
    }
}

static bool succeeded(int step)
{
    return told->done > step && told->status[step] == SAC_OK;
}

static void check_d(void)
{
    sac_collection *d;
    sac_status st = sac_collection_acquire(db, "d", &d, NULL);

    assert_true(st == SAC_OK || st == SAC_NOT_FOUND);
    if (succeeded(CREATE_D) && told->begun <= DROP_D)
        assert_int_equal(st, SAC_OK);
    if (succeeded(DROP_D) || told->begun <= CREATE_D)
        assert_int_equal(st, SAC_NOT_FOUND);
    if (st == SAC_OK && succeeded(PUT_D))
        assert_int_equal(sac_collection_count(d), 1);
    sac_collection_release(d);
}

static void check_what_is_left(void)
{
    int versions[IDS] = {0}, with_last[IDS];

    for (int step = 0; step < told->done; step++)
        if (told->status[step] == SAC_OK)
            apply_step(step, versions);
    memcpy(with_last, versions, sizeof versions);
    if (told->begun > told->done)
        apply_step(told->begun - 1, with_last);
    assert_int_equal(open_all(), SAC_OK);
    if (!c_holds(versions)) {
        assert_true(c_holds(with_last));
        memcpy(versions, with_last, sizeof versions);
    }
    check_searches(versions);
    check_d();
    assert_int_equal(put(collection, 0, 4, 7), SAC_OK); /* and life goes on */
    close_all();
}

/* Runs the steps with the fault at the n-th call. False when the run ended before it. */
static bool strike_at(enum fault kind, int n)
{
    int status;
    pid_t child;

    sac_scratch_make(folder);
    memset(told, 0, sizeof *told);
    child = fork();
    if (child == 0) {
        calls_left = n;
        fault = kind;
        work();
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
    check_what_is_left();
    sac_scratch_remove(folder);
    return told->struck;
}

static void strike_everywhere(enum fault kind, const char *name)
{
    int n = 1;

    while (strike_at(kind, n))
        n++;
    printf("%s: %d calls\n", name, n - 1);
    assert_true(n > 40); /* fewer would mean that the calls are not seen any more */
}

static void dying_at_any_call_loses_nothing(void **state)
{
    (void)state;
    strike_everywhere(FAULT_DIE, "killed before");
}

static void dying_halfway_through_a_write_loses_nothing(void **state)
{
    (void)state;
    strike_everywhere(FAULT_DIE_HALFWAY, "killed halfway");
}

/* Nothing that failed is there, nothing that succeeded is missing; the run goes on as far as it can. */
static void a_call_that_fails_is_never_acknowledged(void **state)
{
    (void)state;
    strike_everywhere(FAULT_EIO, "EIO");
}

static void a_full_disk_at_any_call_is_never_acknowledged(void **state)
{
    (void)state;
    strike_everywhere(FAULT_ENOSPC, "ENOSPC");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dying_at_any_call_loses_nothing),
        cmocka_unit_test(dying_halfway_through_a_write_loses_nothing),
        cmocka_unit_test(a_call_that_fails_is_never_acknowledged),
        cmocka_unit_test(a_full_disk_at_any_call_is_never_acknowledged),
    };

    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return told != MAP_FAILED ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
