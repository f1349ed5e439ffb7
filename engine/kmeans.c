#include "engine/kmeans.h"

#include "engine/random.h"

#include <assert.h>
#include <string.h>

#define SEED_POOL_PER_CENTRE 12u /* points that seeding looks at */
#define SEED_FIRST_SHARE 8u      /* 1/8 of the centres are drawn evenly */
#define HALVINGS 3u              /* of the rows, for the first iterations */
#define ROWS_PER_CENTRE_MIN 12u  /* that an iteration looks at */
#define SMALL_SHARE 0.4          /* of the mean size: smaller clusters are merged while balancing */

struct run {
    sac_workspace *ws;
    const sac_kmeans_params *params;
    size_t n; /* rows that this iteration looks at */
    const sac_span *x, *centroids;
    sac_random random;
    sac_span norms, index, sums, counts;
};

/* Rows for an iteration when `left` follow it. */
static size_t rows_for(const sac_kmeans_params *p, size_t n, uint32_t left)
{
    size_t least = (size_t)p->k * ROWS_PER_CENTRE_MIN,
           rows = n >> (left / 2 < HALVINGS ? left / 2 : HALVINGS);

    rows = rows > least ? rows : least;
    return rows < n ? rows : n;
}

static float *row(const sac_span *span, size_t i, uint32_t dim)
{
    return (float *)span->host + i * dim;
}

sac_status sac_kmeans_assign(sac_workspace *ws, uint32_t dim, size_t n, const float *x, uint32_t k,
                             const float *centroids, float *norms, uint32_t *index, float *distance)
{
    sac_status st =
        sac_run_norms(ws, &(struct sac_norms_args){.x = centroids, .n = k, .dim = dim, .out = norms});

    if (st != SAC_OK)
        return st;
    return sac_run_assign(ws, &(struct sac_assign_args){.x = x,
                                                        .n = n,
                                                        .dim = dim,
                                                        .centroids = centroids,
                                                        .centroid_norms = norms,
                                                        .k = k,
                                                        .index = index,
                                                        .distance = distance});
}

/* Of the first k centroids as they are now. */
static sac_status assign(struct run *run, size_t n, const sac_span *x, uint32_t k, const sac_span *index,
                         const sac_span *distance)
{
    return sac_kmeans_assign(run->ws, run->params->dim, n, x->device, k, run->centroids->device,
                             run->norms.device, index->device, distance != NULL ? distance->device : NULL);
}

/* Draws `want` rows of the pool into the centres from `have` on, by weight and without repetition; `sums` are
 * the running sums of the weights. */
static void draw(struct run *run, const sac_span *pool, size_t pool_count, double *sums, bool *taken,
                 uint32_t have, uint32_t want)
{
    uint32_t dim = run->params->dim;

    for (uint32_t i = 0, tries = 0; i < want; tries++) {
        double at = sac_random_unit(&run->random) * sums[pool_count - 1];
        size_t low = 0, high = pool_count - 1;
        while (low < high) {
            size_t middle = low + (high - low) / 2;
            if (sums[middle] > at)
                high = middle;
            else
                low = middle + 1;
        }
        if (sums[pool_count - 1] <= 0 || tries > 8 * want + 64) /* few distinct points: any will do */
            low = sac_random_below(&run->random, pool_count);
        else if (taken[low])
            continue;
        taken[low] = true;
        memcpy(row(run->centroids, have + i, dim), row(pool, low, dim), dim * sizeof(float));
        i++;
    }
}

static sac_status seed(struct run *run)
{
    const sac_kmeans_params *p = run->params;
    sac_workspace *ws = run->ws;
    size_t wanted = (size_t)p->k * SEED_POOL_PER_CENTRE, count = wanted < run->n ? wanted : run->n;
    uint32_t have = p->k / SEED_FIRST_SHARE + 1, next = 0;
    uint64_t *rows = sac_workspace_host(ws, count, sizeof *rows);
    double *sums = sac_workspace_host(ws, count, sizeof *sums);
    bool *taken = sac_workspace_host(ws, count, sizeof *taken);
    sac_span pool, index, distance;
    sac_status st = SAC_OK;

    if (rows == NULL || sums == NULL || taken == NULL ||
        !sac_workspace_span(ws, count, p->dim * sizeof(float), &pool) ||
        !sac_workspace_span(ws, count, sizeof(uint32_t), &index) ||
        !sac_workspace_span(ws, count, sizeof(float), &distance))
        return sac_workspace_failure(ws);
    sac_random_sample(&run->random, run->n, count, rows);
    for (size_t i = 0; i < count; i++) {
        memcpy(row(&pool, i, p->dim), row(run->x, rows[i], p->dim), p->dim * sizeof(float));
        sums[i] = (double)(i + 1);
        taken[i] = false;
    }
    st = sac_span_push(ws, &pool);
    for (have = have < p->k ? have : p->k; st == SAC_OK; have += next) {
        draw(run, &pool, count, sums, taken, have - (next ? next : have), next ? next : have);
        st = sac_span_push(ws, run->centroids);
        if (st != SAC_OK || have == p->k)
            break;
        st = assign(run, count, &pool, have, &index, &distance);
        if (st == SAC_OK)
            st = sac_span_pull(ws, &distance);
        for (size_t i = 0; i < count; i++)
            sums[i] = (i ? sums[i - 1] : 0) + (taken[i] ? 0 : ((float *)distance.host)[i]);
        next = p->k - have < have ? p->k - have : have;
    }
    return st;
}

/* Sets a centre down half-way between the centre of a larger cluster and a random member of it. */
static void move_into_large(struct run *run, uint32_t centre)
{
    const uint32_t *index = run->index.host, *counts = run->counts.host;
    uint32_t dim = run->params->dim;
    double mean = (double)run->n / run->params->k;
    size_t member = 0;

    for (int tries = 0; tries < 64; tries++) { /* larger clusters are met more often */
        member = sac_random_below(&run->random, run->n);
        if (counts[index[member]] > mean)
            break;
    }
    for (uint32_t d = 0; d < dim; d++)
        row(run->centroids, centre, dim)[d] =
            0.5f * (row(run->centroids, index[member], dim)[d] + row(run->x, member, dim)[d]);
}

static sac_status update(struct run *run, bool balance)
{
    const sac_kmeans_params *p = run->params;
    sac_workspace *ws = run->ws;
    const uint32_t *counts = run->counts.host;
    double small = balance ? SMALL_SHARE * (double)run->n / p->k : 0;
    sac_status st;

    st = sac_run_cluster_sums(ws, &(struct sac_cluster_sums_args){.x = run->x->device,
                                                                  .n = run->n,
                                                                  .dim = p->dim,
                                                                  .index = run->index.device,
                                                                  .k = p->k,
                                                                  .sums = run->sums.device,
                                                                  .counts = run->counts.device});
    if (st == SAC_OK)
        st = sac_span_pull(ws, &run->sums);
    if (st == SAC_OK)
        st = sac_span_pull(ws, &run->counts);
    if (st == SAC_OK)
        st = sac_span_pull(ws, &run->index);
    if (st != SAC_OK)
        return st;
    for (uint32_t c = 0; c < p->k; c++)
        for (uint32_t d = 0; counts[c] > 0 && d < p->dim; d++)
            row(run->centroids, c, p->dim)[d] = row(&run->sums, c, p->dim)[d] / (float)counts[c];
    for (uint32_t c = 0; c < p->k; c++)
        if (counts[c] <= small)
            move_into_large(run, c);
    return sac_span_push(ws, run->centroids);
}

sac_status sac_kmeans(sac_workspace *ws, const sac_kmeans_params *params, size_t n, const sac_span *x,
                      const sac_span *centroids, sac_progress_meter *meter)
{
    sac_workspace_mark mark = sac_workspace_save(ws);
    struct run run = {
        .ws = ws, .params = params, .n = n, .x = x, .centroids = centroids, .random = {params->seed}};
    sac_status st = SAC_OK;

    assert(n >= params->k && params->k >= 1);
    if (!sac_workspace_span(ws, params->k, sizeof(float), &run.norms) ||
        !sac_workspace_span(ws, n, sizeof(uint32_t), &run.index) ||
        !sac_workspace_span(ws, params->k, params->dim * sizeof(float), &run.sums) ||
        !sac_workspace_span(ws, params->k, sizeof(uint32_t), &run.counts))
        st = sac_workspace_failure(ws);
    else
        st = seed(&run);
    for (uint32_t i = 0; st == SAC_OK && i < params->iterations; i++) {
        run.n = rows_for(params, n, params->iterations - 1 - i);
        st = assign(&run, run.n, x, params->k, &run.index, NULL);
        if (st == SAC_OK)
            st = update(&run, params->balance && i < params->iterations * 3 / 4);
        if (st == SAC_OK && meter != NULL && !sac_progress_advance(meter))
            st = sac_fail(ws->err, SAC_CANCELLED, "training was stopped on request");
    }
    sac_workspace_restore(ws, mark);
    return st;
}
