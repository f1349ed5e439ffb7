#include "engine/calibrate.h"

#include "engine/progress.h"
#include "engine/random.h"

#include <math.h>

#define BATCH_LEAST 16u
#define BATCH_LEAST_HOST 512u /* what fewer queries keep lies in a CPU's caches; of larger batches not */
#define BATCH_MOST 4096u
#define TRIES 64
#define TURNS_LEAST 2
#define SECONDS_LEAST 0.005 /* a batch is searched for, so that small ones have more turns */
#define SECONDS_MAX 0.3     /* in all; a batch that was begun is finished */

/* Vectors of the first shard, drawn evenly, in the place of queries; hardly ever one that was deleted. */
static sac_status draw_queries(const sac_index *index, sac_workspace *ws, size_t n, sac_span *x)
{
    uint32_t *slots = sac_workspace_host(ws, n, sizeof *slots);
    sac_random random = {index->seed + 5};

    if (slots == NULL || !sac_workspace_span(ws, n, index->dim * sizeof(float), x))
        return sac_workspace_failure(ws);
    for (size_t i = 0; i < n; i++)
        for (int tries = 0;
             tries == 0 || (tries < TRIES && !sac_labels_live(&index->labels, slots[i] * index->shard_count));
             tries++)
            slots[i] = (uint32_t)sac_random_below(&random, sac_labels_slots_of(&index->labels, 0));
    return sac_vectors_read(&index->shards[0].vectors, ws, n, slots, x->device);
}

/* Time of a search of n queries: the less of two, since the first may find memory that is not there yet, or
 * caches that hold what the other schedule reads. */
static sac_status time_search(const sac_index *index, sac_workspace *ws, size_t n, const sac_span *x,
                              const sac_ivf_query *queries, sac_schedule schedule, double *least)
{
    sac_status st = SAC_OK;

    for (int turn = 0; st == SAC_OK && turn < 2; turn++) {
        sac_workspace_mark mark = sac_workspace_save(ws);
        sac_ivf_batch batch;
        double start;

        st = sac_ivf_prepare(sac_index_ivf(index), ws, n, x, queries, 1, &batch);
        batch.schedule = schedule;
        if (st == SAC_OK)
            st = sac_workspace_wait(ws);
        start = sac_clock();
        if (st == SAC_OK)
            st = sac_ivf_submit(sac_index_ivf(index), ws, &batch);
        if (st == SAC_OK)
            st = sac_workspace_wait(ws);
        *least = fmin(*least, sac_clock() - start);
        sac_workspace_restore(ws, mark);
    }
    return st;
}

/* Time of a search of n queries list-major by that of one query-major: by turns, the least of each, because
 * the machine may do other things meanwhile. */
static sac_status time_both(const sac_index *index, sac_workspace *ws, size_t n, const sac_span *x,
                            const sac_ivf_query *queries, double *out)
{
    double began = sac_clock(), by_query = INFINITY, by_list = INFINITY;
    sac_status st = SAC_OK;

    for (int turn = 0; st == SAC_OK && (turn < TURNS_LEAST || sac_clock() - began < SECONDS_LEAST); turn++) {
        st = time_search(index, ws, n, x, queries, SAC_QUERY_MAJOR, &by_query);
        if (st == SAC_OK)
            st = time_search(index, ws, n, x, queries, SAC_LIST_MAJOR, &by_list);
    }
    *out = by_list / by_query;
    return st;
}

/* A larger share of the lists, up to the typical one; then more queries. */
static void grow(size_t *n, uint32_t *nprobe, uint32_t typical)
{
    if (*nprobe == typical)
        *n *= 2;
    *nprobe = *nprobe < typical / 2 ? 2 * *nprobe : typical;
}

/* Where the two are even, in queries a list: between the last that query-major won and the first that
 * list-major won. On a CPU the batch stays as large as it needs to be to leave the caches, and more lists are
 * probed; then, and elsewhere, more queries come. Nothing is shared where lists meet less than one query
 * each, so no such batch is timed. */
static sac_status find_crossover(const sac_index *index, sac_workspace *ws, size_t most, const sac_span *x,
                                 sac_ivf_query *queries, float *out)
{
    const bool host = sac_device_host_visible(index->device);
    uint32_t nlist = sac_index_ivf(index)->nlist, typical = queries[0].nprobe, nprobe = typical;
    double began = sac_clock(), met = 0, met_before;
    double ratio = 2, before; /* 2: of batches too small to be timed */
    size_t n = host ? BATCH_LEAST_HOST : BATCH_LEAST;
    sac_status st = SAC_OK;

    if (host && nlist / n < typical)
        nprobe = nlist / n > 1 ? (uint32_t)(nlist / n) : 1;
    for (; n <= most; grow(&n, &nprobe, typical)) {
        met_before = met > 0 ? met : (double)n * nprobe / nlist / 2;
        met = (double)n * nprobe / nlist;
        if (met < 1)
            continue;
        for (size_t i = 0; i < n; i++)
            queries[i].nprobe = nprobe;
        before = ratio;
        st = time_both(index, ws, n, x, queries, &ratio);
        if (st != SAC_OK)
            break;
        *out = (float)(met * sqrt(2));
        if (ratio < 1) /* from where they were even at the latest to where they are here */
            *out = (float)(met * pow(met_before / met, log(ratio) / (log(ratio) - log(before))));
        if (ratio < 1 || sac_clock() - began > SECONDS_MAX)
            break;
    }
    return st == SAC_DEVICE_MEMORY ? SAC_OK : st; /* such batches are cut anyway */
}

sac_status sac_index_calibrate(sac_index *index, sac_workspace *ws)
{
    const uint32_t both = 1u << SAC_QUERY_MAJOR | 1u << SAC_LIST_MAJOR;
    sac_workspace_mark mark = sac_workspace_save(ws);
    sac_recall_point typical;
    sac_ivf_query one;
    sac_ivf_query *queries;
    sac_span x;
    float crossover;
    sac_status st;

    if (sac_index_ivf(index) == NULL || sac_index_ivf(index)->pq.factors ||
        (ws->ops->pq_scan_schedules & both) != both)
        return SAC_OK;
    crossover = sac_index_ivf(index)->list_major_from;
    typical = sac_recall_curve_pick(&index->curve, SAC_RECALL_DEFAULT, 10, sac_index_ivf(index)->nlist);
    /* No reach, which would leave out probes that are counted here. */
    one = (sac_ivf_query){.nprobe = typical.nprobe, .depth = typical.depth, .need = 10};
    queries = sac_workspace_host(ws, BATCH_MOST, sizeof *queries);
    st = queries == NULL ? sac_workspace_failure(ws) : draw_queries(index, ws, BATCH_MOST, &x);
    for (size_t i = 0; st == SAC_OK && i < BATCH_MOST; i++)
        queries[i] = one;
    if (st == SAC_OK)
        st = find_crossover(index, ws, BATCH_MOST, &x, queries, &crossover);
    if (st == SAC_OK) {
        pthread_rwlock_wrlock(&index->lock);
        for (uint32_t i = 0; i < index->shard_count; i++)
            index->shards[i].ivf->list_major_from = crossover;
        pthread_rwlock_unlock(&index->lock);
    }
    sac_workspace_restore(ws, mark);
    return st;
}
