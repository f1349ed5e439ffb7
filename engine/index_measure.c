/* Measuring the recall curve.
 *
 * The queries are vectors that the index holds, each left out of its own answer. They are easier than those
 * of users: parts of the same photo are in the index with them, and they helped to train it. So each is made
 * a stranger first: its nearest HIDDEN neighbours, where its relatives are, are taken out of the world, and
 * what must be found are the next 10. Of the two recalls, with relatives and without, the lower counts.
 *
 * One scan per nprobe serves every depth: candidates come in the order of their coded distance, so what a
 * depth d would have found are those among the first d, and re-ranking puts every true neighbour among them
 * first. */
#include "engine/calibrate.h"
#include "engine/progress.h"
#include "engine/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define QUERIES 400u
#define QUERIES_MIN 20u
#define COUNT_MIN 64u /* vectors that an index holds at least to be measured */
#define RESULTS 10u
#define HIDDEN 10u
#define KNOWN (1 + HIDDEN + RESULTS) /* itself, its relatives, and the next */
#define PROBES_MAX 64u               /* steps of nprobe */
#define RECALL_ENOUGH 0.9995

static const uint32_t depths[] = {10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 896, 1280};
#define DEPTHS (sizeof depths / sizeof depths[0])

struct measurement {
    const sac_index *index;
    const sac_team *team;
    sac_workspace *ws; /* the first of the team */
    uint32_t n;
    uint32_t *slots;  /* [n]: the queries */
    uint32_t *known;  /* [n][KNOWN]: each query's nearest, itself among them, nearest first */
    uint32_t *counts; /* [n]: how many are known */
    sac_span *x;      /* for each shard [n][dim] */
};

/* ---- queries and truth ------------------------------------------------------------------------------ */

static void choose_queries(struct measurement *m)
{
    const sac_labels *labels = &m->index->labels;
    sac_random random = {m->index->seed + 3};
    uint32_t seen = 0, taken = 0;

    for (uint32_t slot = 0; taken < m->n; slot++) { /* selection sampling over the live ones */
        if (!sac_labels_live(labels, slot))
            continue;
        if (sac_random_unit(&random) * (labels->live_count - seen++) < m->n - taken)
            m->slots[taken++] = slot;
    }
}

/* Copies the queries that a shard stores from there to where all shards read them. */
static sac_status read_queries(struct measurement *m, uint32_t shard)
{
    sac_workspace *ws = m->team->ws[shard];
    uint32_t *slots = sac_workspace_host(ws, m->n, sizeof *slots), count = 0, row = 0, dim = m->index->dim;
    sac_span rows;
    sac_status st;

    if (slots == NULL || !sac_workspace_span(ws, m->n, dim * sizeof(float), &rows))
        return sac_workspace_failure(ws);
    for (uint32_t q = 0; q < m->n; q++)
        if (m->slots[q] % m->team->count == shard)
            slots[count++] = m->slots[q] / m->team->count;
    st = sac_vectors_read(&m->index->shards[shard].vectors, ws, count, slots, rows.device);
    if (st == SAC_OK)
        st = sac_span_pull(ws, &rows);
    for (uint32_t q = 0; st == SAC_OK && q < m->n; q++) {
        if (m->slots[q] % m->team->count != shard)
            continue;
        for (uint32_t s = 0; s < m->team->count; s++)
            memcpy((float *)m->x[s].host + (size_t)q * dim, (const float *)rows.host + (size_t)row * dim,
                   dim * sizeof(float));
        row++;
    }
    return st;
}

/* What the shards found for n queries, pieces of [n][stride], as slots of the whole on the host. */
static sac_status collect(const struct measurement *m, size_t n, uint32_t stride,
                          const sac_shard_found *found, sac_span *slots)
{
    sac_shard_found all = found[0];
    sac_status st = SAC_OK;

    if (m->team->count > 1) {
        all.distance = sac_workspace_device(m->ws, n * stride, sizeof *all.distance);
        all.slot = sac_workspace_device(m->ws, n * stride, sizeof *all.slot);
        if (all.distance == NULL || all.slot == NULL)
            return sac_workspace_failure(m->ws);
        st = sac_team_merge(m->team, n, stride, found, stride, &all);
    }
    if (st == SAC_OK && !sac_workspace_view(m->ws, all.slot, n * stride, sizeof(uint32_t), slots))
        st = sac_workspace_failure(m->ws);
    return st == SAC_OK ? sac_span_pull(m->ws, slots) : st;
}

static sac_status find_on(const struct measurement *m, uint32_t shard, uint32_t width, sac_shard_found *found)
{
    const sac_index *index = m->index;
    sac_workspace *ws = m->team->ws[shard];

    found->distance = sac_workspace_device(ws, (size_t)m->n * width, sizeof *found->distance);
    found->slot = sac_workspace_device(ws, (size_t)m->n * width, sizeof *found->slot);
    if (found->distance == NULL || found->slot == NULL)
        return sac_workspace_failure(ws);
    return sac_vectors_nearest(&index->shards[shard].vectors, ws, sac_index_distance(index), m->n,
                               m->x[shard].device, index->labels.live[shard].copy,
                               sac_labels_slots_of(&index->labels, shard), NULL, width, found->distance,
                               found->slot);
}

static sac_status find_truth(struct measurement *m)
{
    uint32_t live = m->index->labels.live_count, width = live < KNOWN ? live : KNOWN;
    sac_shard_found found[SAC_SHARDS_MAX] = {{0}};
    sac_span slot;
    sac_status st = SAC_OK;

    for (uint32_t s = 0; st == SAC_OK && s < m->team->count; s++)
        st = find_on(m, s, width, &found[s]);
    if (st == SAC_OK)
        st = collect(m, m->n, width, found, &slot);
    for (uint32_t q = 0; st == SAC_OK && q < m->n; q++) {
        const uint32_t *nearest = (const uint32_t *)slot.host + (size_t)q * width;
        m->counts[q] = 0;
        for (uint32_t i = 0; i < width && m->counts[q] < KNOWN - 1; i++)
            if (nearest[i] != m->slots[q])
                m->known[q * KNOWN + m->counts[q]++] = nearest[i];
    }
    return st;
}

static sac_status prepare(struct measurement *m, const sac_index *index, const sac_team *team)
{
    uint32_t wanted = index->labels.live_count / 4;
    sac_workspace *ws = team->ws[0];
    sac_status st = SAC_OK;

    m->index = index;
    m->team = team;
    m->ws = ws;
    m->n = wanted < QUERIES_MIN ? QUERIES_MIN : wanted > QUERIES ? QUERIES : wanted;
    m->slots = sac_workspace_host(ws, m->n, sizeof *m->slots);
    m->known = sac_workspace_host(ws, (size_t)m->n * KNOWN, sizeof *m->known);
    m->counts = sac_workspace_host(ws, m->n, sizeof *m->counts);
    m->x = sac_workspace_host(ws, team->count, sizeof *m->x);
    if (m->slots == NULL || m->known == NULL || m->counts == NULL || m->x == NULL)
        return sac_workspace_failure(ws);
    for (uint32_t s = 0; s < team->count; s++)
        if (!sac_workspace_span(team->ws[s], m->n, index->dim * sizeof(float), &m->x[s]))
            return sac_workspace_failure(team->ws[s]);
    choose_queries(m);
    for (uint32_t s = 0; st == SAC_OK && s < team->count; s++)
        st = read_queries(m, s);
    for (uint32_t s = 0; st == SAC_OK && s < team->count; s++)
        st = sac_span_push(team->ws[s], &m->x[s]);
    return st == SAC_OK ? find_truth(m) : st;
}

/* ---- one nprobe ------------------------------------------------------------------------------------- */

/* Found neighbours by depth: with relatives there, and with them hidden. */
struct tally {
    uint64_t wanted[2], found[2][DEPTHS];
};

/* The place, among a query's candidates, of every neighbour it has; UINT32_MAX where it is not. */
static void find_places(const struct measurement *m, uint32_t q, const uint32_t *candidates, uint32_t count,
                        uint32_t places[KNOWN])
{
    const uint32_t *known = m->known + (size_t)q * KNOWN;
    uint32_t place = 0;

    memset(places, 0xff, KNOWN * sizeof *places);
    for (uint32_t c = 0; c < count && candidates[c] != SAC_NO_SLOT; c++) {
        if (candidates[c] == m->slots[q])
            continue;
        for (uint32_t i = 0; i < m->counts[q]; i++)
            if (known[i] == candidates[c])
                places[i] = place;
        place++;
    }
}

static void count_found(struct tally *tally, int world, const uint32_t *places, uint32_t hidden,
                        uint32_t count)
{
    for (uint32_t i = hidden; i < count && i < hidden + RESULTS; i++) {
        uint32_t place = places[i];

        tally->wanted[world]++;
        if (place == UINT32_MAX)
            continue;
        for (uint32_t h = 0; h < hidden; h++)
            place -= places[h] < places[i];
        for (size_t d = 0; d < DEPTHS; d++)
            tally->found[world][d] += place < depths[d];
    }
}

/* The candidates that a shard has for the queries, nearest first by their codes. */
static sac_status scan_on(const struct measurement *m, uint32_t shard, uint32_t nprobe,
                          sac_shard_found *found, uint32_t *stride)
{
    const sac_ivf *ivf = m->index->shards[shard].ivf;
    sac_workspace *ws = m->team->ws[shard];
    sac_ivf_query *queries = sac_workspace_host(ws, m->n, sizeof *queries);
    sac_ivf_batch batch;
    sac_status st;

    if (queries == NULL)
        return sac_workspace_failure(ws);
    for (uint32_t i = 0; i < m->n; i++)
        queries[i] = (sac_ivf_query){.nprobe = nprobe, .depth = depths[DEPTHS - 1] + HIDDEN + 1};
    st = sac_ivf_prepare(ivf, ws, m->n, &m->x[shard], queries, 1, &batch);
    *found = (sac_shard_found){batch.distance, batch.slot};
    *stride = batch.stride;
    return st == SAC_OK ? sac_ivf_submit(ivf, ws, &batch) : st;
}

/* Counts what the queries find. Every shard re-ranks as many candidates as are asked for, so a search finds
 * no less. */
static sac_status scan_all(const struct measurement *m, uint32_t nprobe, struct tally *tally)
{
    sac_shard_found found[SAC_SHARDS_MAX] = {{0}};
    uint32_t stride = 0;
    sac_span slots;
    sac_status st = SAC_OK;

    *tally = (struct tally){0};
    for (uint32_t s = 0; st == SAC_OK && s < m->team->count; s++)
        st = scan_on(m, s, nprobe, &found[s], &stride);
    if (st == SAC_OK)
        st = collect(m, m->n, stride, found, &slots);
    for (uint32_t q = 0; st == SAC_OK && q < m->n; q++) {
        uint32_t places[KNOWN];
        find_places(m, q, (const uint32_t *)slots.host + (size_t)q * stride, stride, places);
        count_found(tally, 0, places, 0, m->counts[q]);
        count_found(tally, 1, places, HIDDEN, m->counts[q]);
    }
    return st;
}

static sac_status scan(const struct measurement *m, uint32_t nprobe, struct tally *tally)
{
    sac_workspace_mark marks[SAC_SHARDS_MAX] = {{0}};
    sac_status st;

    for (uint32_t s = 0; s < m->team->count; s++)
        marks[s] = sac_workspace_save(m->team->ws[s]);
    st = scan_all(m, nprobe, tally);
    for (uint32_t s = 0; s < m->team->count; s++)
        sac_workspace_restore(m->team->ws[s], marks[s]);
    return st;
}

static double recall_of(const struct tally *tally, size_t depth)
{
    double lower = 1;

    for (int world = 0; world < 2; world++) {
        double recall = (double)tally->found[world][depth] / (double)tally->wanted[world];
        if (tally->wanted[world] > 0 && recall < lower)
            lower = recall;
    }
    return lower;
}

/* ---- the curve -------------------------------------------------------------------------------------- */

struct point {
    double cost, recall;
    uint32_t nprobe, depth;
};

/* What a search costs, in nanoseconds of one core as they were measured: a model, so that the same index
 * always gets the same curve. Code bytes stream past at 30 GB/s, opening a list costs a cache miss or two,
 * and a candidate one per few lines of its vector. */
static double cost_of(const sac_index *index, uint32_t nprobe, uint32_t depth)
{
    const sac_ivf *ivf = sac_index_ivf(index);
    double list_bytes = (double)index->labels.live_count / index->shard_count / ivf->nlist *
                        ((double)sac_pq_code_bytes(ivf->pq.m, ivf->pq.nbits) + 8);

    return nprobe * (100 + list_bytes / 30) +
           depth * (40 + (double)sac_vectors_row_bytes(&index->shards[0].vectors) / 8);
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
            points[kept++] = points[i];
        }
    curve->count = kept < SAC_CURVE_MAX ? (uint32_t)kept : SAC_CURVE_MAX;
    for (uint32_t i = 0; i < curve->count; i++) {
        const struct point *p = &points[curve->count == 1 ? 0 : i * (kept - 1) / (curve->count - 1)];
        curve->points[i] = (sac_recall_point){(float)p->recall, p->nprobe, p->depth};
    }
}

/* 1, 2, 3, 4, 5, 7, 9, 12, ...: steps of about a quarter, up to all lists. */
static uint32_t next_nprobe(uint32_t nprobe, uint32_t nlist)
{
    uint32_t next = nprobe + (nprobe < 4 ? 1 : nprobe / 4);

    return nprobe == nlist ? 0 : next < nlist ? next : nlist;
}

static sac_status measure(const sac_index *index, const sac_team *team, sac_progress_meter *meter,
                          sac_recall_curve *curve)
{
    sac_workspace *ws = team->ws[0];
    struct point *points = sac_workspace_host(ws, PROBES_MAX * DEPTHS, sizeof *points);
    struct measurement m;
    size_t count = 0;
    double reached = 0;
    sac_status st = points == NULL ? sac_workspace_failure(ws) : prepare(&m, index, team);

    for (uint32_t nprobe = 1; st == SAC_OK && nprobe != 0 && reached < RECALL_ENOUGH;
         nprobe = next_nprobe(nprobe, sac_index_ivf(index)->nlist)) {
        struct tally tally;
        st = scan(&m, nprobe, &tally);
        for (size_t d = 0; st == SAC_OK && d < DEPTHS; d++) {
            reached = recall_of(&tally, d);
            points[count++] = (struct point){cost_of(index, nprobe, depths[d]), reached, nprobe, depths[d]};
        }
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
    uint64_t steps = 0;
    sac_status st = sac_index_team(index, &team, err);

    if (st != SAC_OK)
        return st;
    for (uint32_t nprobe = 1; nprobe != 0; nprobe = next_nprobe(nprobe, sac_index_ivf(index)->nlist))
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
