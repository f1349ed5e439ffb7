/* Measuring the recall curve: what each setting finds of the neighbours that are known (measurement.h), and
 * what it costs by a model. What is kept of each recall is what it is at least, within one standard error.
 *
 * One scan serves every setting: candidates come in the order of their coded distance, so what a search of
 * fewer lists and less depth would have found are the first of those that lie in its lists, and re-ranking
 * puts every true neighbour among them first. Which lists are its own is asked anew for every nprobe, because
 * the coarse step compares less for fewer. */
#include "engine/calibrate.h"
#include "engine/measurement.h"
#include "engine/progress.h"
#include "kernels/reach.h"

#include <math.h>
#include <stdlib.h>

#define COUNT_MIN 64u    /* vectors that an index holds at least to be measured */
#define STEPS_MAX 64u    /* of nprobe */
#define REACHES 4u       /* of each nprobe, beside none */
#define RECALL_LEAST 0.5 /* where a curve begins, if it goes beyond */

/* Multiples of 16, because a search rounds up to one. */
static const uint32_t depths[] = {16, 32, 48, 64, 80, 112, 160, 224, 320, 448, 640, 896, SAC_MEASURED_DEPTH};
#define DEPTHS (sizeof depths / sizeof depths[0])

/* ---- one setting ------------------------------------------------------------------------------------ */

/* What all queries find, by depth, and what they look at. */
struct tally {
    double found[DEPTHS], squares[DEPTHS]; /* sums over the queries, of neighbours and of their squares */
    double lists, entries;
};

/* Adds a query that probes the first `probed` lists; their ranks are set. */
static void count_found(const sac_measurement *m, uint32_t q, uint32_t probed, struct tally *tally)
{
    const sac_measured_candidate *candidates = m->candidates + (size_t)q * SAC_MEASURED_CANDIDATES;
    uint32_t reached[DEPTHS] = {0}, place = 0, found = 0;

    for (uint32_t c = 0; c < m->lengths[q]; c++) {
        if (m->ranks[candidates[c].list] >= probed || candidates[c].kind == SAC_ABSENT)
            continue;
        for (size_t d = 0; candidates[c].kind == SAC_WANTED && d < DEPTHS; d++)
            if (place < depths[d]) {
                reached[d]++;
                break;
            }
        place++;
    }
    for (size_t d = 0; d < DEPTHS; d++) {
        found += reached[d];
        tally->found[d] += found;
        tally->squares[d] += (double)found * found;
    }
}

/* Adds every query, with the lists of `probed` that are within reach of it; 0: all. */
static void count_all(const sac_measurement *m, const sac_ivf_probed *probed, float reach,
                      struct tally *tally)
{
    *tally = (struct tally){0};
    for (uint32_t q = 0; q < m->n; q++) {
        const uint32_t *lists = probed->lists + (size_t)q * probed->width;
        const float *d = probed->distances + (size_t)q * probed->width;
        uint32_t p = 0;

        for (; p < probed->counts[q]; p++) {
            if (p > 0 && reach > 0 && !sac_within_reach(d[p], p, d[0], reach * m->pulls[q]))
                break;
            tally->entries += sac_measurement_rows(m, lists[p]);
        }
        tally->lists += p;
        sac_measurement_rank(m, probed, q, false);
        count_found(m, q, p, tally);
        sac_measurement_rank(m, probed, q, true);
    }
}

/* At least, within one standard error. */
static double recall_of(const sac_measurement *m, const struct tally *tally, size_t depth)
{
    double found = tally->found[depth], spread = tally->squares[depth] - found * found / m->n;

    return (found - sqrt(spread > 0 ? spread : 0)) / m->wanted;
}

static int compare_floats(const void *a, const void *b)
{
    const float *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* Reaches that take these shares of the queries past list p; at least 1. 0: no limit, where nobody is apart
 * from its nearest list. */
static void choose_reaches(const sac_measurement *m, const sac_ivf_probed *probed, uint32_t p, float *scratch,
                           float reaches[REACHES])
{
    static const double shares[REACHES] = {0.2, 0.4, 0.6, 0.8};
    uint32_t count = 0;

    for (uint32_t q = 0; q < m->n; q++) {
        const float *d = probed->distances + (size_t)q * probed->width;
        if (p < probed->counts[q] && d[0] > 0)
            scratch[count++] = sac_reach_of(d[p], p, d[0]) / m->pulls[q];
    }
    qsort(scratch, count, sizeof *scratch, compare_floats);
    for (uint32_t i = 0; i < REACHES; i++)
        reaches[i] = count == 0 ? 0 : fmaxf(scratch[(size_t)(shares[i] * count)], 1);
}

/* ---- the curve -------------------------------------------------------------------------------------- */

struct point {
    double cost, recall;
    uint32_t nprobe, depth;
    float reach;
};

/* What a search costs, in nanoseconds of one core as they were measured: a model, so that the same index
 * always gets the same curve. */
static double cost_of(const sac_measurement *m, const struct tally *tally, uint32_t nprobe, uint32_t depth)
{
    const sac_index *index = m->index;
    const sac_ivf *ivf = sac_index_ivf(index);
    const double byte = 1 / 20.0;    /* streamed past, from L3 */
    const double choose = 5;         /* a list nprobe may take: its exact distance, its place in the order */
    const double open = 40;          /* a list that is scanned: a cache miss or two */
    const double fetch = 30;         /* a candidate: a cache miss, most of it hidden */
    const double fetched = 1 / 12.0; /* a byte of it */
    double compared = (double)ivf->coded_dim *
                      (ivf->groups.count > 0 ? sac_probe_compared(ivf->nlist, nprobe) + ivf->groups.count
                                             : ivf->nlist * (double)sizeof(float));
    double entry = (double)sac_pq_code_bytes(ivf->pq.m, ivf->pq.nbits) + sizeof(float); /* code and bias */

    return compared * byte + nprobe * choose + tally->lists / m->n * open +
           tally->entries / m->n / index->shard_count * entry * byte +
           depth * (fetch + (double)sac_vectors_row_bytes(&index->shards[0].vectors) * fetched);
}

static int compare_cost(const void *a, const void *b)
{
    const struct point *x = a, *y = b;

    if (x->cost != y->cost)
        return x->cost < y->cost ? -1 : 1;
    return x->recall > y->recall ? -1 : x->recall < y->recall;
}

/* Keeps the points that no cheaper one reaches, and of those at most SAC_CURVE_MAX, evenly. */
static void keep_best(struct point *points, size_t count, sac_recall_curve *curve)
{
    size_t kept = 0;
    double best = 0;

    qsort(points, count, sizeof *points, compare_cost);
    for (size_t i = 0; i < count; i++)
        if (points[i].recall > best) {
            best = points[i].recall;
            kept = best < RECALL_LEAST ? 0 : kept;
            points[kept++] = points[i];
        }
    curve->count = kept < SAC_CURVE_MAX ? (uint32_t)kept : SAC_CURVE_MAX;
    for (uint32_t i = 0; i < curve->count; i++) {
        const struct point *p = &points[curve->count == 1 ? 0 : i * (kept - 1) / (curve->count - 1)];
        curve->points[i] = (sac_recall_point){(float)p->recall, p->nprobe, p->depth, p->reach};
    }
}

/* 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, ...: steps of about a quarter. */
static uint32_t next_nprobe(uint32_t nprobe)
{
    return nprobe + (nprobe < 4 ? 1 : nprobe / 4);
}

/* Adds the points of one nprobe and one reach; 0: no limit. */
static void add_points(const sac_measurement *m, const sac_ivf_probed *probed, float reach,
                       struct point *points, size_t *count)
{
    struct tally tally;

    count_all(m, probed, reach, &tally);
    for (size_t d = 0; d < DEPTHS; d++)
        points[(*count)++] = (struct point){.cost = cost_of(m, &tally, probed->width, depths[d]),
                                            .recall = recall_of(m, &tally, d),
                                            .nprobe = probed->width,
                                            .depth = depths[d],
                                            .reach = reach};
}

/* Adds the points of one nprobe. It is cheapest where a query probes somewhat more than half of it in the
 * mean. */
static sac_status measure_nprobe(const sac_measurement *m, uint32_t nprobe, struct point *points,
                                 size_t *count)
{
    float *scratch = sac_workspace_host(m->ws, m->n, sizeof *scratch), reaches[REACHES] = {0};
    sac_ivf_probed probed;
    sac_status st =
        scratch == NULL ? sac_workspace_failure(m->ws) : sac_measurement_probe(m, nprobe, &probed);

    if (st != SAC_OK)
        return st;
    if (sac_index_ivf(m->index)->distance == SAC_DISTANCE_L2SQ && nprobe > 1)
        choose_reaches(m, &probed, (uint32_t)(0.6 * nprobe), scratch, reaches);
    for (uint32_t i = 0; i < REACHES && reaches[i] > 0; i++)
        add_points(m, &probed, reaches[i], points, count);
    add_points(m, &probed, 0, points, count);
    return SAC_OK;
}

static sac_status measure(const sac_index *index, const sac_team *team, sac_progress_meter *meter,
                          sac_recall_curve *curve)
{
    sac_workspace *ws = team->ws[0];
    struct point *points = sac_workspace_host(ws, (size_t)STEPS_MAX * (REACHES + 1) * DEPTHS, sizeof *points);
    sac_measurement m;
    uint32_t most = 0;
    size_t count = 0;
    sac_status st = points == NULL ? sac_workspace_failure(ws) : sac_measurement_prepare(&m, index, team);

    if (st == SAC_OK)
        st = sac_measurement_most(&m, &most);
    if (st == SAC_OK)
        st = sac_measurement_scan(&m, most);
    for (uint32_t nprobe = 1, last = 0; st == SAC_OK && last < most; nprobe = next_nprobe(nprobe)) {
        sac_workspace_mark mark = sac_workspace_save(ws);

        last = nprobe < most ? nprobe : most;
        st = measure_nprobe(&m, last, points, &count);
        sac_workspace_restore(ws, mark);
        if (st == SAC_OK && !sac_progress_advance(meter))
            st = sac_fail(ws->err, SAC_CANCELLED, "measuring was stopped on request");
    }
    if (st == SAC_OK)
        keep_best(points, count, curve);
    return st;
}

static sac_status measure_and_keep(sac_index *index, sac_progress_fn progress, void *context, sac_error *err)
{
    sac_recall_curve curve = {0};
    sac_progress_meter meter;
    sac_team team;
    uint64_t steps = 1;
    sac_status st = sac_index_team(index, &team, err);

    if (st != SAC_OK)
        return st;
    for (uint32_t nprobe = 1; nprobe < sac_index_ivf(index)->nlist; nprobe = next_nprobe(nprobe))
        steps++;
    sac_progress_begin(&meter, progress, context, "measure", steps);
    st = measure(index, &team, &meter, &curve);
    if (st == SAC_OK) {
        pthread_rwlock_wrlock(&index->lock);
        index->curve = curve;
        pthread_rwlock_unlock(&index->lock);
        if (index->labels.live_count >= SAC_CALIBRATE_COUNT_MIN)
            st = sac_index_calibrate(index, team.ws[0]);
        if (meter.state.done < steps) /* it was enough earlier */
            (void)sac_progress_step(&meter, steps, 0);
    }
    sac_team_give_back(&team);
    return st;
}

sac_status sac_index_measure(sac_index *index, sac_progress_fn progress, void *context, sac_error *err)
{
    sac_status st = SAC_OK;

    pthread_mutex_lock(&index->writer);
    if (sac_index_ivf(index) != NULL && index->labels.live_count >= COUNT_MIN)
        st = measure_and_keep(index, progress, context, err);
    pthread_mutex_unlock(&index->writer);
    return st;
}
