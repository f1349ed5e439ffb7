/* One trial: an index is built, its recall is measured over steps of nprobe and depth, all queries of a step
 * together, and three settings are timed with lone queries. Scanning takes time by the list and re-ranking by
 * the candidate, so those three tell what every setting takes; the one that is picked is timed itself. */
#include "engine/tune.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    PROBES = 48, /* steps of nprobe and depth at most */
    DEPTHS = 6,
    DEPTH_STEP = 16, /* candidates are kept in sixteens */
    QUICK_QUERIES = 250,
    TIMED_QUERIES = 64, /* for the three */
    PICKS = 3,          /* settings that are timed before one is believed */
    STEPS_BEYOND = 4,   /* more lists than are needed may need fewer candidates */
    ASK_LEAST = 500,    /* recall to ask for, in thousandths; where a recall is wanted, this much below it */
    ASK_BELOW = 100,
    ASK_MOST = 999,
    ASK_MARGIN = 10, /* curves of two builds of an index differ, and are steps */
};
#define TIMING_SECONDS 0.5
#define RECALL_ENOUGH 0.9995

struct grid {
    uint32_t nprobe[PROBES], depth[DEPTHS];
    size_t probes, depths, reached; /* reached: the step of nprobe from which the goal is in reach */
    double recall[PROBES][DEPTHS], error[PROBES][DEPTHS];
    double fixed, a_probe, a_candidate; /* seconds */
    double tail;                        /* the 99th percentile, as a multiple of the mean */
};

struct
try {
    sac_tune_job *job;
    const sac_tune_world *world;
    const sac_index *index;
    bool thorough;
    uint32_t nlist; /* of this index */
    size_t queries; /* the first so many choose */
    /* What the whole takes beyond this: times as many lists and candidates, and seconds to choose lists. */
    double more_probes, more_candidates, elsewhere;
    struct grid grid;
};

void sac_tune_spec(const sac_tune_trial *t, uint32_t nlist, char *text, size_t size)
{
    if (t->nlist == 0)
        snprintf(text, size, "%s", t->codec);
    else
        snprintf(text, size, "%sIVF%u,%s%s", t->rotation, nlist, t->codec, t->refine);
}

/* ---- recall over the grid --------------------------------------------------------------------------- */

static sac_status measure_recall(struct try *t, sac_tune_setting setting, double *recall, double *error)
{
    sac_status st = sac_tune_search(t->job, t->index, setting, 0, t->queries);

    if (st == SAC_OK)
        sac_tune_recall(t->job, t->world, 0, t->queries, recall, error);
    return st;
}

/* From `first` on, k at least: doubling, or in a thorough trial in steps of two fifths. */
static void choose_depths(struct try *t, double first)
{
    struct grid *g = &t->grid;
    double step = t->thorough ? 1.4 : 2, wanted = fmax(first, t->job->params->k);
    uint32_t most = t->world->rows < SAC_DEPTH_MAX ? (uint32_t)t->world->rows : SAC_DEPTH_MAX;

    for (; g->depths < DEPTHS; wanted *= step) {
        uint32_t depth = ((uint32_t)wanted + DEPTH_STEP - 1) / DEPTH_STEP * DEPTH_STEP;
        if (g->depths > 0 && depth <= g->depth[g->depths - 1])
            depth = g->depth[g->depths - 1] + DEPTH_STEP;
        wanted = depth > wanted ? depth : wanted;
        if (g->depths > 0 && depth > most)
            break;
        g->depth[g->depths++] = depth;
    }
}

static uint32_t next_nprobe(const struct try *t, uint32_t nprobe)
{
    uint32_t step = t->thorough ? nprobe / 6 : nprobe / 3, next = nprobe + (step < 1 ? 1 : step);

    return next < t->nlist ? next : t->nlist;
}

static sac_status time_setting(struct try *t, uint32_t nprobe, uint32_t depth, sac_tune_times *out)
{
    return sac_tune_time(t->job, t->index, (sac_tune_setting){.nprobe = nprobe, .depth = depth},
                         TIMED_QUERIES, TIMING_SECONDS, out);
}

/* Recall at every depth that matters for one nprobe, the largest first: depths that are far from the goal, or
 * lose much, have no place in an answer. */
static sac_status measure_step(struct try *t, uint32_t nprobe, double *most)
{
    struct grid *g = &t->grid;
    size_t row = g->probes++, last = g->depths - 1;
    double goal = (double)t->job->params->recall;
    sac_status st = SAC_OK;

    g->nprobe[row] = nprobe;
    for (size_t d = 0; d <= last; d++)
        g->recall[row][d] = g->error[row][d] = 0;
    for (size_t d = last + 1; st == SAC_OK && d-- > 0;) {
        sac_tune_setting setting = {.nprobe = nprobe, .depth = g->depth[d]};
        st = measure_recall(t, setting, &g->recall[row][d], &g->error[row][d]);
        if (g->recall[row][d] < fmax(goal - 0.02, g->recall[row][last] - 0.1))
            break;
    }
    *most = g->recall[row][last];
    return st;
}

/* Steps on until there are enough, recall is, or, where time is limited, a query takes longer. first: where
 * to begin; a part of what a quick trial chose. */
static sac_status measure_grid(struct try *t, uint32_t first, double first_depth)
{
    const sac_tune_params *p = t->job->params;
    struct grid *g = &t->grid;
    size_t beyond = 0;
    bool more = true;
    sac_status st = SAC_OK;

    choose_depths(t, first_depth);
    first = first < 1 ? 1 : first > t->nlist ? t->nlist : first;
    for (uint32_t nprobe = first; st == SAC_OK && more; nprobe = next_nprobe(t, nprobe)) {
        sac_tune_times times = {0};
        double most = 0;
        st = measure_step(t, nprobe, &most);
        if (st == SAC_OK && p->latency > 0)
            st = time_setting(t, nprobe, g->depth[0], &times);
        if (most < (double)p->recall)
            g->reached = g->probes;
        else
            beyond += p->recall > 0;
        more = g->probes < PROBES && nprobe < t->nlist && most < RECALL_ENOUGH && beyond <= STEPS_BEYOND &&
               (p->latency == 0 || times.mean <= p->latency);
    }
    if (g->reached >= g->probes || p->recall == 0)
        g->reached = g->probes - 1;
    return st;
}

/* ---- time ------------------------------------------------------------------------------------------- */

/* What a setting takes: the least there is, and more for each list and each candidate. */
static sac_status fit_time(struct try *t, const sac_tune_trial *trial)
{
    struct grid *g = &t->grid;
    uint32_t probes = g->nprobe[g->reached], least = g->depth[0], most = g->depth[g->depths - 1];
    sac_tune_times one, many, deep;
    double few = 0, all = 0;
    sac_status st = time_setting(t, 1, least, &one);

    if (st == SAC_OK)
        st = time_setting(t, probes, least, &many);
    if (st == SAC_OK)
        st = time_setting(t, probes, most, &deep);
    if (st != SAC_OK)
        return st;
    g->a_probe = probes > 1 ? fmax(many.mean - one.mean, 0) / (probes - 1) : 0;
    g->a_candidate = most > least ? fmax(deep.mean - many.mean, 0) / (most - least) : 0;
    g->fixed = one.mean - g->a_probe - g->a_candidate * least;
    g->tail = many.p99 / many.mean;
    if (t->nlist == trial->nlist)
        return SAC_OK;
    st = sac_tune_coarse(t->job, t->nlist, &few);
    if (st == SAC_OK)
        st = sac_tune_coarse(t->job, trial->nlist, &all);
    t->elsewhere = fmax(all - few, 0);
    return st;
}

/* ---- the setting ------------------------------------------------------------------------------------ */

static uint32_t whole_probes(const struct try *t, uint32_t nprobe)
{
    return (uint32_t)ceil(nprobe * t->more_probes);
}

static uint32_t whole_depth(const struct try *t, uint32_t depth)
{
    double most = t->more_candidates > 1 ? ceil(depth * t->more_candidates / DEPTH_STEP) * DEPTH_STEP : depth;

    return most < SAC_DEPTH_MAX ? (uint32_t)most : SAC_DEPTH_MAX;
}

/* Mean time of a setting of the whole, but for what is elsewhere. */
static double modelled(const struct try *t, sac_tune_setting whole)
{
    const struct grid *g = &t->grid;

    return g->fixed + g->a_probe * whole.nprobe + g->a_candidate * whole.depth;
}

/* A setting of the whole. scale: what timing said of this model before. In a thorough trial recall has to be
 * had beyond doubt. */
static sac_tune_setting pick(const struct try *t, double scale, sac_tune_setting *here)
{
    const struct grid *g = &t->grid;
    sac_tune_setting best = {0};
    sac_tune_merit best_merit = {0};

    for (size_t p = 0; p < g->probes; p++)
        for (size_t d = 0; d < g->depths; d++) {
            sac_tune_setting whole = {.nprobe = whole_probes(t, g->nprobe[p]),
                                      .depth = whole_depth(t, g->depth[d])};
            double mean = scale * modelled(t, whole);
            double recall = g->recall[p][d] - (t->thorough ? g->error[p][d] : 0);
            sac_tune_merit merit =
                sac_tune_merit_of(t->job->params, recall, mean + t->elsewhere, mean * g->tail + t->elsewhere);
            if (best.nprobe > 0 && !sac_tune_better(t->job->params, &merit, &best_merit))
                continue;
            best = whole;
            best_merit = merit;
            *here = (sac_tune_setting){.nprobe = g->nprobe[p], .depth = g->depth[d]};
        }
    return best;
}

/* Times a setting of the whole: as far as there are so many lists, and from there by the model. */
static sac_status time_whole(struct try *t, sac_tune_setting whole, sac_tune_times *out)
{
    sac_tune_setting setting = whole;
    double missing;
    sac_status st;

    if (setting.nprobe > t->nlist)
        setting.nprobe = t->nlist;
    missing = modelled(t, whole) - modelled(t, setting) + t->elsewhere;
    st = sac_tune_time(t->job, t->index, setting, t->queries, TIMING_SECONDS, out);
    out->mean += missing;
    out->p50 += missing;
    out->p99 += missing;
    return st;
}

static bool too_slow(const struct try *t, const sac_tune_times *times)
{
    return t->job->params->latency > 0 && times->p99 > t->job->params->latency;
}

/* here: the setting of this index that finds as much. */
static sac_status settle(struct try *t, sac_tune_setting *whole, sac_tune_setting *here,
                         sac_tune_times *times)
{
    double scale = 1;
    sac_status st = SAC_OK;

    for (int i = 0; st == SAC_OK && i < PICKS; i++) {
        *whole = pick(t, scale, here);
        st = time_whole(t, *whole, times);
        if (!too_slow(t, times))
            break;
        scale = fmax(scale * 1.1, (times->p99 - t->elsewhere) / (modelled(t, *whole) * t->grid.tail));
    }
    return st;
}

/* Whether more may be asked for: the recall that is wanted is not there yet, or there is time left. */
static sac_status may_ask_more(struct try *t, uint32_t thousandths, bool *more)
{
    const sac_tune_params *p = t->job->params;
    sac_tune_setting setting = {.recall = (float)thousandths / 1000};
    sac_tune_times times = {0};
    double recall = 0, error = 0;
    sac_status st;

    if (p->recall > 0)
        st = measure_recall(t, setting, &recall, &error);
    else
        st = sac_tune_time(t->job, t->index, setting, TIMED_QUERIES, TIMING_SECONDS, &times);
    *more = p->recall > 0 ? recall - error < (double)p->recall : !too_slow(t, &times);
    return st;
}

/* The recall to ask for instead: a little above the least that gives what is wanted, or the most that is in
 * time. */
static sac_status settle_by_recall(struct try *t, float *ask, sac_tune_times *times)
{
    uint32_t goal = (uint32_t)(t->job->params->recall * 1000), high = ASK_MOST;
    uint32_t low = goal > ASK_LEAST + ASK_BELOW ? goal - ASK_BELOW : ASK_LEAST;
    sac_status st = SAC_OK;

    while (st == SAC_OK && low < high) {
        uint32_t middle = (low + high) / 2;
        bool more;
        st = may_ask_more(t, middle, &more);
        low = more ? middle + 1 : low;
        high = more ? high : middle;
    }
    if (goal == 0)
        low = low > ASK_LEAST ? low - 1 : ASK_LEAST;
    else
        low = low + ASK_MARGIN < ASK_MOST ? low + ASK_MARGIN : ASK_MOST;
    *ask = (float)low / 1000;
    if (st == SAC_OK)
        st = sac_tune_time(t->job, t->index, (sac_tune_setting){.recall = *ask}, t->queries, TIMING_SECONDS,
                           times);
    return st;
}

/* ---- what comes out --------------------------------------------------------------------------------- */

static void note_times(sac_tuned *out, const sac_tune_times *times, double factor)
{
    out->seconds_mean = times->mean * factor;
    out->seconds_p50 = times->p50 * factor;
    out->seconds_p99 = times->p99 * factor;
}

/* Judges a setting by the queries that did not choose it; in a quick trial, by those that did. */
static sac_status judge(struct try *t, sac_tune_setting setting, sac_tuned *out)
{
    sac_tune_job *job = t->job;
    size_t first = t->thorough && job->choosing < job->query_count ? job->choosing : 0;
    size_t n = first > 0 ? job->query_count - first : t->queries;
    double recall = 0, error = 0;
    sac_status st = sac_tune_search(job, t->index, setting, first, n);

    if (st != SAC_OK)
        return st;
    sac_tune_recall(job, t->world, first, n, &recall, &error);
    out->recall = (float)recall;
    out->recall_error = (float)error;
    return t->thorough ? sac_tune_time_batch(job, t->index, setting, &out->batch_rate) : SAC_OK;
}

/* Whether asking for recall is the better way than the setting that was settled on. Of the whole the curve
 * will know more than the powers do, so there it is preferred; it is as fast as the setting, then. */
static sac_status try_asking(struct try *t, sac_tune_setting *here, sac_tuned *out)
{
    const sac_tune_params *p = t->job->params;
    bool whole = sac_tune_share(t->job, t->world) >= 1;
    sac_tune_merit by_setting, by_asking;
    sac_tune_times times = {0};
    double seen = 0, error = 0;
    float ask = 0;
    sac_status st = measure_recall(t, *here, &seen, &error);

    by_setting = sac_tune_merit_of(p, seen - error, out->seconds_mean, out->seconds_p99);
    if (st == SAC_OK)
        st = sac_index_measure((sac_index *)t->index, sac_tune_watch, t->job, t->job->err);
    if (st == SAC_OK)
        st = settle_by_recall(t, &ask, &times);
    if (st == SAC_OK)
        st = measure_recall(t, (sac_tune_setting){.recall = ask}, &seen, &error);
    if (st != SAC_OK)
        return st;
    by_asking = sac_tune_merit_of(p, seen - error, whole ? times.mean : out->seconds_mean,
                                  whole ? times.p99 : out->seconds_p99);
    if (sac_tune_better(p, &by_setting, &by_asking))
        return SAC_OK;
    out->ask = ask;
    *here = (sac_tune_setting){.recall = ask};
    if (whole)
        note_times(out, &times, 1);
    return SAC_OK;
}

static sac_status try_lists(struct try *t, const sac_tune_trial *trial, sac_tuned *out)
{
    sac_tune_setting whole = {0}, here = {0}, asked;
    sac_tune_times times = {0};
    double share = sac_tune_share(t->job, t->world);
    sac_status st = t->thorough ? measure_grid(t, (uint32_t)(out->nprobe / t->more_probes / 3),
                                               out->depth / t->more_candidates / 2)
                                : measure_grid(t, 1, 1);

    if (st == SAC_OK)
        st = fit_time(t, trial);
    if (st == SAC_OK)
        st = settle(t, &whole, &here, &times);
    if (st != SAC_OK)
        return st;
    out->nprobe = whole.nprobe < trial->nlist ? whole.nprobe : trial->nlist;
    out->depth = whole.depth;
    note_times(out, &times, 1);
    asked = here;
    if (t->thorough && (share >= 1 || t->job->params->recall > 0))
        st = try_asking(t, &asked, out);
    if (st == SAC_OK)
        st = judge(t, asked, out);
    if (share < 1)
        out->batch_rate *= modelled(t, here) / out->seconds_mean;
    return st;
}

static sac_status try_flat(struct try *t, sac_tuned *out)
{
    double share = sac_tune_share(t->job, t->world);
    sac_tune_times times;
    sac_status st =
        sac_tune_time(t->job, t->index, (sac_tune_setting){0}, t->queries, 2 * TIMING_SECONDS, &times);

    if (st == SAC_OK)
        st = judge(t, (sac_tune_setting){0}, out);
    note_times(out, &times, 1 / share);
    out->batch_rate *= share;
    return st;
}

static bool is_skipped(const sac_tune_job *job, sac_status status)
{
    return (status == SAC_CANCELLED && !job->cancelled) || status == SAC_INVALID_ARGUMENT ||
           status == SAC_DEVICE_MEMORY || status == SAC_NO_MEMORY;
}

sac_status sac_tune_try(sac_tune_job *job, const sac_tune_world *world, bool thorough, sac_tune_trial *trial)
{
    double began = sac_clock(), share = sac_tune_share(job, world);
    struct try t = {.job = job, .world = world, .thorough = thorough, .more_probes = 1, .more_candidates = 1};
    sac_tuned out = trial->result;
    sac_index *index;
    char spec[SAC_TUNE_SPEC];
    sac_status st;

    t.nlist = trial->nlist;
    if (share < 1) {
        t.nlist = (uint32_t)ceil(trial->nlist * share);
        t.more_probes = pow(1 / share, job->growth.probes);
        t.more_candidates = pow(1 / share, job->growth.candidates);
    }
    t.queries = thorough || job->choosing < QUICK_QUERIES ? job->choosing : QUICK_QUERIES;
    sac_tune_spec(trial, t.nlist, spec, sizeof spec);
    st = sac_tune_build(job, spec, world->rows, &index, &trial->built);
    t.index = index;
    out.ask = 0;
    if (st == SAC_OK)
        st = trial->nlist > 0 ? try_lists(&t, trial, &out) : try_flat(&t, &out);
    sac_index_close(index);
    trial->spent = sac_clock() - began;
    if (st != SAC_OK) {
        job->late = job->late || st == SAC_CANCELLED;
        return is_skipped(job, st) ? SAC_OK : st;
    }
    out.rows = world->rows;
    out.verified = thorough;
    out.extrapolated = share < 1;
    out.build_seconds =
        trial->built * (share < 1 ? pow(1 / share, trial->nlist > 0 ? job->growth.build : 1) : 1);
    out.reaches = sac_tune_merit_of(job->params, (double)(out.recall + (thorough ? out.recall_error : 0)),
                                    out.seconds_mean, out.seconds_p99)
                      .reaches;
    trial->result = out;
    trial->done = true;
    return SAC_OK;
}
