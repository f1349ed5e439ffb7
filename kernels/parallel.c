/* A pool of helper threads.
 *
 * A call is a `struct call` on the caller's stack. The caller publishes it in pool->call under the lock;
 * helpers join it under the lock and claim tasks from its counter without one. To finish, the caller takes
 * the call back (no more joins) and waits until those who joined have left; only then does the stack frame go
 * away. Idle helpers watch pool->posted for a few microseconds, because an operation rarely comes alone, and
 * then sleep.
 */
#include "kernels/parallel.h"

#include "kernels/backend.h"

#include <assert.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { IDLE_SPINS = 200 }; /* pauses before a thread sleeps: about 10 microseconds */

struct call {
    sac_parallel_fn *fn;
    void *context;
    uint32_t count;
    atomic_uint next;    /* first task that nobody has claimed */
    atomic_uint helpers; /* joined and not left; written under the lock */
    uint32_t worker_next;
};

struct sac_parallel {
    uint32_t threads;
    uint32_t helper_count;
    atomic_uint callers; /* threads inside sac_parallel_run() */
    atomic_uint posted;  /* changes whenever there is news for helpers */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_cond_t left;
    struct call *call; /* under the lock, as all below */
    uint32_t sleepers;
    bool stop;
    pthread_t helpers[];
};

static _Thread_local bool inside_task;

static void pause_briefly(void)
{
#if defined(SACCADE_X86)
    __builtin_ia32_pause();
#endif
}

static void run_tasks(struct call *call, uint32_t worker)
{
    uint32_t task;

    while ((task = atomic_fetch_add_explicit(&call->next, 1, memory_order_relaxed)) < call->count)
        call->fn(call->context, task, worker);
}

/* As run_tasks(), but makes room for other callers. The caller itself never leaves, so nothing is left
 * undone. */
static void help(sac_parallel *pool, struct call *call, uint32_t worker)
{
    uint32_t task;

    while (atomic_load_explicit(&pool->callers, memory_order_relaxed) + worker <= pool->threads) {
        task = atomic_fetch_add_explicit(&call->next, 1, memory_order_relaxed);
        if (task >= call->count)
            return;
        call->fn(call->context, task, worker);
    }
}

/* Returns with the lock held and something new to look at. */
static void wait_for_post(sac_parallel *pool, unsigned seen)
{
    for (int i = 0; i < IDLE_SPINS; i++) {
        if (atomic_load_explicit(&pool->posted, memory_order_acquire) != seen)
            break;
        pause_briefly();
    }
    pthread_mutex_lock(&pool->lock);
    pool->sleepers++;
    while (atomic_load_explicit(&pool->posted, memory_order_relaxed) == seen && !pool->stop)
        pthread_cond_wait(&pool->wake, &pool->lock);
    pool->sleepers--;
}

static void *helper_main(void *arg)
{
    sac_parallel *pool = arg;
    unsigned seen = 0;

    inside_task = true;
    for (;;) {
        struct call *call;
        uint32_t worker;

        wait_for_post(pool, seen);
        seen = atomic_load_explicit(&pool->posted, memory_order_relaxed);
        call = pool->call;
        if (pool->stop || call == NULL) {
            bool stop = pool->stop;

            pthread_mutex_unlock(&pool->lock);
            if (stop)
                return NULL;
            continue;
        }
        worker = call->worker_next++;
        atomic_fetch_add_explicit(&call->helpers, 1, memory_order_relaxed);
        pthread_mutex_unlock(&pool->lock);

        help(pool, call, worker);

        pthread_mutex_lock(&pool->lock);
        if (atomic_fetch_sub_explicit(&call->helpers, 1, memory_order_release) == 1)
            pthread_cond_signal(&pool->left);
        pthread_mutex_unlock(&pool->lock);
    }
}

/* Helpers take no signals: those are for the threads that the program set up for them. */
static bool helper_start(sac_parallel *pool, pthread_t *out)
{
    sigset_t all, before;
    bool started;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    started = pthread_create(out, NULL, helper_main, pool) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

sac_parallel *sac_parallel_open(uint32_t threads)
{
    sac_parallel *pool;

    assert(threads >= 1);
    pool = calloc(1, sizeof *pool + (threads - 1) * sizeof pool->helpers[0]);
    if (pool == NULL)
        return NULL;
    pool->threads = threads;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->left, NULL);
    for (; pool->helper_count < threads - 1; pool->helper_count++) {
        if (!helper_start(pool, &pool->helpers[pool->helper_count])) {
            sac_parallel_close(pool);
            return NULL;
        }
    }
    return pool;
}

void sac_parallel_close(sac_parallel *pool)
{
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    atomic_fetch_add_explicit(&pool->posted, 1, memory_order_release);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->helper_count; i++)
        pthread_join(pool->helpers[i], NULL);
    pthread_cond_destroy(&pool->left);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* False where another call has the helpers. */
static bool post(sac_parallel *pool, struct call *call)
{
    bool posted = false;

    pthread_mutex_lock(&pool->lock);
    if (pool->call == NULL) {
        pool->call = call;
        posted = true;
        atomic_fetch_add_explicit(&pool->posted, 1, memory_order_release);
        if (pool->sleepers > 0)
            pthread_cond_broadcast(&pool->wake);
    }
    pthread_mutex_unlock(&pool->lock);
    return posted;
}

static void take_back(sac_parallel *pool, struct call *call)
{
    pthread_mutex_lock(&pool->lock);
    pool->call = NULL;
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < IDLE_SPINS; i++) {
        if (atomic_load_explicit(&call->helpers, memory_order_acquire) == 0)
            return;
        pause_briefly();
    }
    pthread_mutex_lock(&pool->lock);
    while (atomic_load_explicit(&call->helpers, memory_order_acquire) > 0)
        pthread_cond_wait(&pool->left, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

void sac_parallel_run(sac_parallel *pool, uint32_t count, sac_parallel_fn *fn, void *context)
{
    struct call call = {.fn = fn, .context = context, .count = count, .worker_next = 1};
    bool nested = inside_task, posted;

    if (nested) {
        run_tasks(&call, 0);
        return;
    }
    atomic_fetch_add_explicit(&pool->callers, 1, memory_order_relaxed);
    inside_task = true;
    posted = count > 1 && pool->helper_count > 0 && post(pool, &call);
    run_tasks(&call, 0);
    if (posted)
        take_back(pool, &call);
    inside_task = false;
    atomic_fetch_sub_explicit(&pool->callers, 1, memory_order_relaxed);
}

void sac_parallel_for(sac_stream *stream, uint32_t count, sac_parallel_fn *fn, void *context)
{
    sac_parallel_run(stream->device->parallel, count, fn, context);
}

uint32_t sac_parallel_cores(void)
{
    cpu_set_t set;
    int count;

    if (sched_getaffinity(0, sizeof set, &set) != 0) /* more than CPU_SETSIZE cores: use that many */
        return CPU_SETSIZE;
    count = CPU_COUNT(&set);
    return count > 0 ? (uint32_t)count : 1;
}
