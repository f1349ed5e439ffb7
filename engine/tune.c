/* Which index, and how to ask it. First over a sample: how many lists, then which codes for them, then what
 * lies beside the best (more and fewer lists, a rotation), then how vectors are stored; each step goes on
 * from the best so far, because these choices hardly depend on each other. Then the best few again,
 * thoroughly, over as many rows as there is time for. */
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
    TRIALS_MAX = 32,
    VERIFIED_MAX = 4,
    LIST_MIN = 8, /* rows: shorter lists cost more than they spare */
};
#define TRYING_SHARE 0.5 /* of the time; the rest is for verifying */

struct tuner {
    sac_tune_job job;
    sac_progress_fn progress;
    void *context;
    double began, truth_seconds;
    sac_tune_world sample;
    sac_tune_trial trials[TRIALS_MAX];
    size_t count, tried;  /* trials that there are, and that have had their turn */
    uint64_t least_bytes; /* of those that do not fit the memory; 0: none */
    char least_spec[64];
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
    for (size_t i = 1; i < t->count; i++) { /* few, and not a strict order where numbers are equal */
        sac_tune_trial moved = t->trials[i];
        size_t to = i;
        for (; to > 0 && goes_before(t->job.params, &moved, &t->trials[to - 1]); to--)
            t->trials[to] = t->trials[to - 1];
        t->trials[to] = moved;
    }
}

/* ---- what is tried ---------------------------------------------------------------------------------- */

/* Computes what a trial needs; false: no such index, or one that the memory does not hold. */
static bool fits(struct tuner *t, sac_tune_trial *trial)
{
    const sac_tune_params *p = t->job.params;
    sac_index_params params = {.dim = p->dim, .metric = p->metric};
    char spec[SAC_TUNE_SPEC];
    sac_plan plan;

    sac_tune_spec(trial, trial->nlist, spec, sizeof spec);
    params.spec = spec;
    if (sac_index_plan(&params, t->job.count, 1, &plan, NULL) != SAC_OK)
        return false;
    memcpy(trial->result.spec, plan.spec, sizeof trial->result.spec);
    trial->result.bytes = plan.bytes_codes + plan.bytes_vectors + plan.bytes_other + plan.bytes_host;
    if (p->memory == 0 || trial->result.bytes <= p->memory)
        return true;
    if (t->least_bytes == 0 || trial->result.bytes < t->least_bytes) {
        t->least_bytes = trial->result.bytes;
        memcpy(t->least_spec, plan.spec, sizeof t->least_spec);
    }
    return false;
}

static void propose(struct tuner *t, sac_tune_trial trial)
{
    bool known = false;

    if (t->count == TRIALS_MAX || !fits(t, &trial))
        return;
    for (size_t i = 0; i < t->count; i++)
        known = known || strcmp(t->trials[i].result.spec, trial.result.spec) == 0;
    if (!known)
        t->trials[t->count++] = trial;
}

static sac_tune_trial trial_of(uint32_t nlist, const char *rotation, const char *codec, const char *refine)
{
    sac_tune_trial trial = {.nlist = nlist};

    snprintf(trial.rotation, sizeof trial.rotation, "%s", rotation);
    snprintf(trial.codec, sizeof trial.codec, "%s", codec);
    snprintf(trial.refine, sizeof trial.refine, "%s", refine);
    return trial;
}

static const char *const refines[] = {"", ",Refine(SQfp16)", ",Refine(SQ8)"};
enum { REFINES = sizeof refines / sizeof *refines };

/* With vectors stored as well as the memory allows. */
static void propose_lists(struct tuner *t, uint32_t nlist, const char *rotation, const char *codec)
{
    size_t before = t->count;

    for (size_t i = 0; i < REFINES && t->count == before; i++)
        propose(t, trial_of(nlist, rotation, codec, refines[i]));
}

static uint32_t lists_of(const struct tuner *t, double factor)
{
    double nlist = ceil(factor * sqrt((double)t->job.count) / 16) * 16;

    nlist = fmin(nlist, (double)t->job.count / LIST_MIN);
    return nlist < 1 ? 1 : (uint32_t)nlist;
}

/* "PQ32" or "PQ64x4": components by code. */
static void propose_codes(struct tuner *t, uint32_t nlist, const char *rotation, uint32_t components,
                          uint32_t bits)
{
    uint32_t dim = t->job.params->dim, m = (dim + components - 1) / components;
    char codec[24], opq[16] = "";

    snprintf(codec, sizeof codec, bits == 8 ? "PQ%u" : "PQ%ux%u", m, bits);
    if (rotation[0] != '\0')
        snprintf(opq, sizeof opq, "OPQ%u,", m);
    propose_lists(t, nlist, opq, codec);
}

/* Long vectors are more redundant. */
static uint32_t components_of(const struct tuner *t)
{
    return t->job.params->dim <= 512 ? 4 : 8;
}

static void propose_first(struct tuner *t)
{
    static const double factors[] = {4, 8, 2, 16}; /* the likeliest first */
    static const char *const flat[] = {"Flat", "SQfp16", "SQ8"};

    for (size_t i = 0; i < sizeof flat / sizeof *flat; i++)
        propose(t, trial_of(0, "", flat[i], ""));
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++)
        propose_codes(t, lists_of(t, factors[i]), "", components_of(t), 8);
}

static void propose_other_codes(struct tuner *t, const sac_tune_trial *best)
{
    uint32_t usual = components_of(t);

    propose_codes(t, best->nlist, "", usual / 2, 8);
    propose_codes(t, best->nlist, "", usual * 2, 8);
    propose_codes(t, best->nlist, "", usual / 2, 4);
}

/* Between the numbers of lists that were tried, and a rotation. */
static void propose_beside(struct tuner *t, const sac_tune_trial *best)
{
    char rotation[sizeof best->rotation];
    unsigned m;

    for (int i = -1; i <= 1; i += 2) {
        double nlist = ceil(best->nlist * pow(2, 0.5 * i) / 16) * 16;
        propose_lists(t, (uint32_t)fmin(fmax(nlist, lists_of(t, 2)), lists_of(t, 16)), "", best->codec);
    }
    if (sscanf(best->codec, "PQ%u", &m) != 1)
        return;
    snprintf(rotation, sizeof rotation, "OPQ%u,", m);
    propose_lists(t, best->nlist, rotation, best->codec);
}

static void propose_storage(struct tuner *t, const sac_tune_trial *best)
{
    for (size_t i = 0; i < REFINES; i++)
        propose(t, trial_of(best->nlist, best->rotation, best->codec, refines[i]));
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

    if (t->tried == t->count)
        return SAC_OK;
    sac_progress_begin(&t->job.meter, t->progress, t->context, stage, t->count - t->tried);
    for (; st == SAC_OK && t->tried < t->count; t->tried++) {
        double now = sac_clock();
        t->job.deadline = t->tried == 0 ? INFINITY : t->began + TRYING_SHARE * p->seconds;
        if (now >= t->job.deadline) {
            t->job.late = true;
            continue;
        }
        st = sac_tune_try(&t->job, &t->sample, false, &t->trials[t->tried]);
        if (st == SAC_OK && !sac_progress_advance(&t->job.meter))
            st = is_cancelled(t);
    }
    return st;
}

/* The best with lists, to go on from; NULL: none was tried. A copy, since proposals come after it. */
static const sac_tune_trial *best_lists(const struct tuner *t, sac_tune_trial *copy)
{
    const sac_tune_trial *best = NULL;

    for (size_t i = 0; i < t->count; i++)
        if (t->trials[i].nlist > 0 && t->trials[i].done &&
            (best == NULL || goes_before(t->job.params, &t->trials[i], best)))
            best = &t->trials[i];
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

    for (size_t i = t->count; i-- > 0;)
        trial = t->trials[i].nlist > 0 ? &t->trials[i] : trial;
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
    static void (*const steps[])(struct tuner *, const sac_tune_trial *) = {propose_other_codes,
                                                                            propose_beside, propose_storage};
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
        steps[i](t, best);
        st = try_proposed(t, stages[i]);
    }
    return st;
}

/* ---- once more, thoroughly -------------------------------------------------------------------------- */

/* Of all rows, half, a quarter, ...: the most that let two be built, and looked at twice as closely, in what
 * time is left. */
static size_t verified_rows(const struct tuner *t)
{
    const sac_tune_trial *best = &t->trials[0];
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

    for (size_t i = 0; i < t->count; i++) {
        bool alike = false;

        if (had[i] || !t->trials[i].done)
            continue;
        for (size_t j = 0; j < t->count; j++)
            alike = alike || (had[j] && t->trials[j].nlist == t->trials[i].nlist &&
                              strcmp(t->trials[j].codec, t->trials[i].codec) == 0);
        if (!alike)
            return &t->trials[i];
        any = any == NULL ? &t->trials[i] : any;
    }
    return any;
}

/* What a sample's times miss, caches that hold it above all, they miss for all: those that were not verified
 * get the mean of the factors by which the others turned out slower. */
static void correct_others(struct tuner *t, double log_sum, size_t n)
{
    double factor = n > 0 ? exp(log_sum / (double)n) : 1;

    for (size_t i = 0; i < t->count; i++) {
        sac_tuned *r = &t->trials[i].result;

        if (r->verified || t->trials[i].nlist == 0 || factor <= 1)
            continue;
        r->seconds_mean *= factor;
        r->seconds_p50 *= factor;
        r->seconds_p99 *= factor;
        r->reaches = r->reaches && (t->job.params->latency == 0 || r->seconds_p99 <= t->job.params->latency);
    }
}

static sac_status verify_in(struct tuner *t, const sac_tune_world *world)
{
    bool had[TRIALS_MAX] = {false};
    size_t n = 0, compared = 0;
    double longest = 0, log_sum = 0;
    sac_tune_trial *trial;
    sac_status st = SAC_OK;

    while (n < t->count && n < VERIFIED_MAX && t->trials[n].done)
        n++;
    sac_progress_begin(&t->job.meter, t->progress, t->context, "verify", n);
    for (size_t i = 0; st == SAC_OK && i < n && (trial = next_to_verify(t, had)) != NULL; i++) {
        double promised = trial->result.seconds_mean;

        had[trial - t->trials] = true;
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
    sac_tuned *at = calloc(t->count, sizeof *at);

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
    for (size_t i = 0; i < t->count; i++)
        if (t->trials[i].done)
            at[(*out)->count++] = t->trials[i].result;
    return SAC_OK;
}

static sac_status tune(struct tuner *t, sac_tuning **out)
{
    sac_status st;

    propose_first(t);
    if (t->count == 0)
        return sac_fail(
            t->job.err, SAC_INVALID_ARGUMENT,
            "no index of %llu vectors of %u components fits %.1f MiB: the smallest, %s, needs %.1f",
            (unsigned long long)t->job.count, t->job.params->dim, (double)t->job.params->memory / (1 << 20),
            t->least_spec, (double)t->least_bytes / (1 << 20));
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
