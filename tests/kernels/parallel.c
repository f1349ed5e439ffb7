/* The pool of threads: every task once, workers apart, nested and concurrent calls, nothing oversubscribed.
 */
#include "kernels/parallel.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>

#include <cmocka.h>

enum { TASKS = 500, THREADS = 3 };

struct work {
    sac_parallel *pool;
    uint32_t plain[TASKS]; /* written by tasks without atomics: the pool orders them */
    atomic_uint busy[THREADS];
    atomic_uint clashes;
};

static void count_task(void *context, uint32_t task, uint32_t worker)
{
    struct work *work = context;

    if (worker >= THREADS || atomic_fetch_add(&work->busy[worker], 1) != 0) {
        atomic_fetch_add(&work->clashes, 1);
        return;
    }
    work->plain[task]++;
    atomic_fetch_sub(&work->busy[worker], 1);
}

static bool every_task_ran(const struct work *work, uint32_t count, uint32_t times)
{
    for (uint32_t i = 0; i < TASKS; i++)
        if (work->plain[i] != (i < count ? times : 0))
            return false;
    return work->clashes == 0;
}

static void runs_every_task_once(void **state)
{
    (void)state;
    for (uint32_t threads = 1; threads <= THREADS; threads++) {
        sac_parallel *pool = sac_parallel_open(threads);

        assert_non_null(pool);
        for (uint32_t count = 0; count <= TASKS; count = count * 2 + 1) {
            struct work work = {.pool = pool};

            sac_parallel_run(pool, count, count_task, &work);
            assert_true(every_task_ran(&work, count, 1));
        }
        sac_parallel_close(pool);
    }
    sac_parallel_close(NULL);
}

static void nested_task(void *context, uint32_t task, uint32_t worker)
{
    struct work *outer = context;
    struct work inner = {.pool = outer->pool};

    sac_parallel_run(outer->pool, 10, count_task, &inner);
    if (every_task_ran(&inner, 10, 1))
        count_task(outer, task, worker);
}

static void nested_calls_run_on_their_own_thread(void **state)
{
    struct work work = {.pool = sac_parallel_open(THREADS)};

    (void)state;
    assert_non_null(work.pool);
    sac_parallel_run(work.pool, 100, nested_task, &work);
    assert_true(every_task_ran(&work, 100, 1));
    sac_parallel_close(work.pool);
}

static void *call_often(void *arg)
{
    struct work work = {.pool = arg};

    for (int i = 0; i < 300; i++)
        sac_parallel_run(work.pool, 20, count_task, &work);
    return every_task_ran(&work, 20, 300) ? NULL : arg;
}

static void concurrent_calls_do_not_meet(void **state)
{
    sac_parallel *pool = sac_parallel_open(THREADS);
    pthread_t callers[4];

    (void)state;
    assert_non_null(pool);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&callers[i], NULL, call_often, pool), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;

        assert_int_equal(pthread_join(callers[i], &failed), 0);
        assert_null(failed);
    }
    sac_parallel_close(pool);
}

static void at_least_one_core(void **state)
{
    (void)state;
    assert_true(sac_parallel_cores() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_every_task_once),
        cmocka_unit_test(nested_calls_run_on_their_own_thread),
        cmocka_unit_test(concurrent_calls_do_not_meet),
        cmocka_unit_test(at_least_one_core),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
