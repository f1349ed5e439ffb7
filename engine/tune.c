/* Which index, and how to ask it. First over a sample: how many lists, then which codes for them, then what
 * lies beside the best (more and fewer lists, a rotation), then how vectors are stored (tune_candidates.c);
 * each step goes on from the best so far, because these choices hardly depend on each other. Then the best
 * few again, thoroughly, over as many rows as there is time for. */
#include "engine/tune.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ROWS_MIN = 100,
    SAMPLE_MIN = 2000,
    SAMPLE_MAX = 200000,
    SAMPLE_A_SECOND = 400, /* of 128 components */
    VERIFIED_MAX = 4,
};
#define TRYING_SHARE 0.5 /* of the time; the rest is for verifying */

struct tuner {
    sac_tune_job job;
    sac_progress_fn progress;
    void *context;
    double began, truth_seconds;
    sac_tune_world sample;
    sac_tune_candidates trials;
    size_t tried; /* of the trials have had their turn */
};

void sac_tune_params_init(sac_tune_params *p)
{
    *p = (sac_tune_params){.metric = SAC_METRIC_COSINE, .k = 10, .recall = 0.95f, .seconds = 120, .seed = 1};
}

/* ---- what is worth more ----------------------------------------------------------------------------- */

/* How far a merit is from the goal: 0 where it reaches it. */
static double miss(const sac_tune_params *p, const sac_tune_merit *m)
{
    double goal = (double)p->recall;

    return fmax(goal - m->recall, 0) / (1.01 - goal) +
           (p->latency > 0 ? fmax(m->p99 / p->latency - 1, 0) : 0);
}

sac_tune_merit sac_tune_merit_of(const sac_tune_params *p, double recall, double mean, double p99)
{
    sac_tune_merit m = {.recall = recall, .mean = mean, .p99 = p99};

    m.reaches = !(miss(p, &m) > 0);
    return m;
}

bool sac_tune_better(const sac_tune_params *p, const sac_tune_merit *a, const sac_tune_merit *b)
{
    if (a->reaches != b->reaches)
        return a->reaches;
    if (!a->reaches && miss(p, a) != miss(p, b))
        return miss(p, a) < miss(p, b);
    if (a->reaches && p->recall == 0 && a->recall != b->recall)
        return a->recall > b->recall;
    return a->mean < b->mean;
}

static sac_tune_merit merit_of(const sac_tune_params *p, const sac_tuned *t)
{
    sac_tune_merit m = sac_tune_merit_of(p, (double)t->recall, t->seconds_mean, t->seconds_p99);

    m.reaches = t->reaches;
    return m;
}

/* Trials that were verified go before others that are said to reach the goal too. */
static bool goes_before(const sac_tune_params *p, const sac_tune_trial *a, const sac_tune_trial *b)
{
    sac_tune_merit x = merit_of(p, &a->result), y = merit_of(p, &b->result);

    if (a->done != b->done)
        return a->done;
    if (a->result.reaches == b->result.reaches && a->result.verified != b->result.verified)
        return a->result.verified;
    return sac_tune_better(p, &x, &y);
}

static void sort_trials(struct tuner *t)
{
    for (size_t i = 1; i < t->trials.count; i++) { /* few, and not a strict order where numbers are equal */
        sac_tune_trial moved = t->trials.at[i];
        size_t to = i;
        for (; to > 0 && goes_before(t->job.params, &moved, &t->trials.at[to - 1]); to--)
            t->trials.at[to] = t->trials.at[to - 1];
        t->trials.at[to] = moved;
    }
}

/* ---- over the sample -------------------------------------------------------------------------------- */

static sac_status is_cancelled(struct tuner *t)
{
    return sac_fail(t->job.err, SAC_CANCELLED, "tuning was stopped on request");
}

static sac_status try_proposed(struct tuner *t, const char *stage)
{
    const sac_tune_params *p = t->job.params;
    sac_status st = SAC_OK;

    if (t->tried == t->trials.count)
        return SAC_OK;
    sac_progress_begin(&t->job.meter, t->progress, t->context, stage, t->trials.count - t->tried);
    for (; st == SAC_OK && t->tried < t->trials.count; t->tried++) {
        double now = sac_clock();
        t->job.deadline = t->tried == 0 ? INFINITY : t->began + TRYING_SHARE * p->seconds;
        if (now >= t->job.deadline) {
            t->job.late = true;
            continue;
        }
        st = sac_tune_try(&t->job, &t->sample, false, &t->trials.at[t->tried]);
        if (st == SAC_OK && !sac_progress_advance(&t->job.meter))
            st = is_cancelled(t);
    }
    return st;
}

/* The best with lists, to go on from; NULL: none was tried. A copy, since proposals come after it. */
static const sac_tune_trial *best_lists(const struct tuner *t, sac_tune_trial *copy)
{
    const sac_tune_trial *best = NULL;

    for (size_t i = 0; i < t->trials.count; i++)
        if (t->trials.at[i].nlist > 0 && t->trials.at[i].done &&
            (best == NULL || goes_before(t->job.params, &t->trials.at[i], best)))
            best = &t->trials.at[i];
    if (best == NULL)
        return NULL;
    *copy = *best;
    return copy;
}

static size_t sample_rows(const struct tuner *t)
{
    const sac_tune_params *p = t->job.params;
    double rows = p->seconds * SAMPLE_A_SECOND * sqrt(128.0 / p->dim);

    rows = fmin(fmax(rows, SAMPLE_MIN), SAMPLE_MAX);
    return rows * 2 < (double)t->job.row_count ? (size_t)rows : t->job.row_count;
}

/* The truth of a world, and how long it took. */
static sac_status open_world(struct tuner *t, size_t rows, sac_tune_world *out)
{
    double began = sac_clock();
    sac_status st;

    sac_progress_begin(&t->job.meter, t->progress, t->context, "truth", 1);
    st = sac_tune_world_open(&t->job, rows, out);
    t->truth_seconds = sac_clock() - began;
    if (st == SAC_OK && !sac_progress_advance(&t->job.meter))
        st = is_cancelled(t);
    return st;
}

/* By the first trial with lists, where a sample is to stand for more. */
static sac_status measure_growth(struct tuner *t)
{
    const sac_tune_trial *trial = NULL;
    sac_status st;

    for (size_t i = t->trials.count; i-- > 0;)
        trial = t->trials.at[i].nlist > 0 ? &t->trials.at[i] : trial;
    if (trial == NULL || sac_tune_share(&t->job, &t->sample) >= 1)
        return SAC_OK;
    sac_progress_begin(&t->job.meter, t->progress, t->context, "growth", 1);
    st = sac_tune_measure_growth(&t->job, &t->sample, trial);
    if (st == SAC_CANCELLED && !t->job.cancelled)
        t->job.late = true;
    else if (st == SAC_OK && !sac_progress_advance(&t->job.meter))
        t->job.cancelled = true;
    if (t->job.cancelled)
        return is_cancelled(t);
    return st == SAC_CANCELLED || st == SAC_INVALID_ARGUMENT ? SAC_OK : st;
}

static sac_status try_sample(struct tuner *t)
{
    static void (*const steps[])(const sac_tune_job *, sac_tune_candidates *, const sac_tune_trial *) = {
        sac_tune_propose_codes, sac_tune_propose_shapes, sac_tune_propose_storage};
    static const char *const stages[] = {"codes", "shape", "storage"};
    const sac_tune_trial *best;
    sac_tune_trial copy;
    sac_status st;

    t->job.deadline = INFINITY; /* bounded by the sample */
    st = open_world(t, sample_rows(t), &t->sample);
    t->job.deadline = t->began + TRYING_SHARE * t->job.params->seconds;
    if (st == SAC_OK)
        st = measure_growth(t);
    if (st == SAC_OK)
        st = try_proposed(t, "lists");
    for (size_t i = 0; st == SAC_OK && i < sizeof steps / sizeof *steps; i++) {
        best = best_lists(t, &copy);
        if (best == NULL)
            break;
        steps[i](&t->job, &t->trials, best);
        st = try_proposed(t, stages[i]);
    }
    return st;
}

/* ---- once more, thoroughly -------------------------------------------------------------------------- */

/* Of all rows, half, a quarter, ...: the most that let two be built, and looked at twice as closely, in what
 * time is left. */
static size_t verified_rows(const struct tuner *t)
{
    const sac_tune_trial *best = &t->trials.at[0];
    double left = t->began + t->job.params->seconds - sac_clock();
    double powers = best->nlist > 0 ? t->job.growth.build : 1;
    size_t rows = t->job.row_count;

    for (; rows > t->sample.rows + t->sample.rows / 2; rows /= 2) {
        double more = (double)rows / (double)t->sample.rows;
        double look =
            2 * (best->spent - best->built) * (best->nlist > 0 ? pow(more, t->job.growth.probes) : more);
        if (t->truth_seconds * more + 2 * (best->built * pow(more, powers) + look) < left)
            return rows;
    }
    return t->sample.rows;
}

/* The best that has not had its turn, and of another number of lists or other codes than those that had,
 * while there is one: what is alike shares the sample's mistakes. NULL: all had theirs. */
static sac_tune_trial *next_to_verify(struct tuner *t, const bool *had)
{
    sac_tune_trial *any = NULL;

    for (size_t i = 0; i < t->trials.count; i++) {
        bool alike = false;

        if (had[i] || !t->trials.at[i].done)
            continue;
        for (size_t j = 0; j < t->trials.count; j++)
            alike = alike || (had[j] && t->trials.at[j].nlist == t->trials.at[i].nlist &&
                              strcmp(t->trials.at[j].codec, t->trials.at[i].codec) == 0);
        if (!alike)
            return &t->trials.at[i];
        any = any == NULL ? &t->trials.at[i] : any;
    }
    return any;
}

/* What a sample's times miss, caches that hold it above all, they miss for all: those that were not verified
 * get the mean of the factors by which the others turned out slower. */
static void correct_others(struct tuner *t, double log_sum, size_t n)
{
    double factor = n > 0 ? exp(log_sum / (double)n) : 1;

    for (size_t i = 0; i < t->trials.count; i++) {
        sac_tuned *r = &t->trials.at[i].result;

        if (r->verified || t->trials.at[i].nlist == 0 || factor <= 1)
            continue;
        r->seconds_mean *= factor;
        r->seconds_p50 *= factor;
        r->seconds_p99 *= factor;
        r->reaches = r->reaches && (t->job.params->latency == 0 || r->seconds_p99 <= t->job.params->latency);
    }
}

static sac_status verify_in(struct tuner *t, const sac_tune_world *world)
{
    bool had[SAC_TUNE_TRIALS_MAX] = {false};
    size_t n = 0, compared = 0;
    double longest = 0, log_sum = 0;
    sac_tune_trial *trial;
    sac_status st = SAC_OK;

    while (n < t->trials.count && n < VERIFIED_MAX && t->trials.at[n].done)
        n++;
    sac_progress_begin(&t->job.meter, t->progress, t->context, "verify", n);
    for (size_t i = 0; st == SAC_OK && i < n && (trial = next_to_verify(t, had)) != NULL; i++) {
        double promised = trial->result.seconds_mean;

        had[trial - t->trials.at] = true;
        if (sac_clock() + longest > t->job.deadline) {
            t->job.late = true;
            break;
        }
        st = sac_tune_try(&t->job, world, true, trial);
        longest = fmax(longest, 0.7 * trial->spent);
        if (trial->result.verified && trial->nlist > 0) {
            log_sum += log(trial->result.seconds_mean / promised);
            compared++;
        }
        if (st == SAC_OK && !sac_progress_advance(&t->job.meter))
            st = is_cancelled(t);
    }
    correct_others(t, log_sum, compared);
    return st;
}

static sac_status verify(struct tuner *t)
{
    sac_tune_world more = {0};
    size_t rows = verified_rows(t);
    sac_status st = SAC_OK;

    t->job.deadline = t->began + t->job.params->seconds;
    if (rows == t->sample.rows)
        return verify_in(t, &t->sample);
    st = open_world(t, rows, &more);
    if (st == SAC_CANCELLED && !t->job.cancelled) {
        t->job.late = true;
        return SAC_OK;
    }
    if (st == SAC_OK)
        st = verify_in(t, &more);
    sac_tune_world_close(&more);
    return st;
}

/* ---- the whole -------------------------------------------------------------------------------------- */

static sac_status check_params(const sac_tune_params *p, sac_error *err)
{
    if (p->dim < 1 || p->dim > SAC_DIM_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "vectors of %u components: use 1 to %u", p->dim,
                        SAC_DIM_MAX);
    if (p->k < 1 || p->k > SAC_K_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "k=%u; use 1 to %u", p->k, SAC_K_MAX);
    if (!(p->recall >= 0 && p->recall <= 1))
        return sac_fail(err, SAC_INVALID_ARGUMENT, "recall=%g; use a number up to 1", (double)p->recall);
    if (!(p->latency >= 0) || !(p->seconds > 0))
        return sac_fail(err, SAC_INVALID_ARGUMENT, "latency=%g s, seconds=%g: neither can be negative",
                        p->latency, p->seconds);
    if (p->recall == 0 && p->latency == 0)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "no goal: give a recall, a latency, or both");
    if (p->n < ROWS_MIN || p->n >= UINT32_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "%zu vectors: tuning wants %d at least; so few need no index but Flat", p->n,
                        ROWS_MIN);
    if (p->count != 0 && (p->count < p->n || p->count >= UINT32_MAX))
        return sac_fail(err, SAC_INVALID_ARGUMENT,
                        "%llu vectors, of which %zu are given: use the number of all",
                        (unsigned long long)p->count, p->n);
    if (p->queries != NULL && p->query_count == 0)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "there are no queries");
    return SAC_OK;
}

static sac_status make_result(struct tuner *t, sac_tuning **out)
{
    sac_tuned *at = calloc(t->trials.count, sizeof *at);

    *out = calloc(1, sizeof **out);
    if (*out == NULL || at == NULL) {
        free(at);
        free(*out);
        *out = NULL;
        return sac_fail(t->job.err, SAC_NO_MEMORY, "no memory for what was found");
    }
    **out = (sac_tuning){.at = at,
                         .out_of_time = t->job.late,
                         .held_back = t->job.params->queries == NULL,
                         .query_count = (uint32_t)t->job.query_count,
                         .seconds = sac_clock() - t->began};
    for (size_t i = 0; i < t->trials.count; i++)
        if (t->trials.at[i].done)
            at[(*out)->count++] = t->trials.at[i].result;
    return SAC_OK;
}

static sac_status tune(struct tuner *t, sac_tuning **out)
{
    sac_status st;

    sac_tune_propose_first(&t->job, &t->trials);
    if (t->trials.count == 0)
        return sac_fail(
            t->job.err, SAC_INVALID_ARGUMENT,
            "no index of %llu vectors of %u components fits %.1f MiB: the smallest, %s, needs %.1f",
            (unsigned long long)t->job.count, t->job.params->dim, (double)t->job.params->memory / (1 << 20),
            t->trials.least_spec, (double)t->trials.least_bytes / (1 << 20));
    st = sac_tune_prepare(&t->job);
    if (st == SAC_OK)
        st = try_sample(t);
    sort_trials(t);
    if (st == SAC_OK)
        st = verify(t);
    sort_trials(t);
    return st == SAC_OK ? make_result(t, out) : st;
}

sac_status sac_tune(sac_device *device, const sac_tune_params *params, sac_progress_fn progress,
                    void *context, sac_tuning **out, sac_error *err)
{
    struct tuner *t;
    sac_status st = check_params(params, err);

    *out = NULL;
    if (st != SAC_OK)
        return st;
    t = calloc(1, sizeof *t);
    if (t == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for tuning");
    t->job.device = device;
    t->job.params = params;
    t->job.count = params->count != 0 ? params->count : params->n;
    t->job.err = err;
    t->progress = progress;
    t->context = context;
    t->began = sac_clock();
    st = tune(t, out);
    sac_tune_world_close(&t->sample);
    sac_tune_unprepare(&t->job);
    free(t);
    return st;
}

void sac_tuning_free(sac_tuning *tuning)
{
    if (tuning == NULL)
        return;
    free((void *)tuning->at);
    free(tuning);
}
