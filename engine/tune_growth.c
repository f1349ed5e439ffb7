/* From a sample to the whole.
 *
 * How many more lists have to be probed depends on the data: on a million SIFT descriptors in lists of 500 it
 * is 6.7, 12, 23 and 32 lists for recall 0.95 in samples of 25,000, 100,000, 400,000 and in all of them - a
 * power of 0.4 of the count - and hardly more candidates. So one index is tried with a quarter of the sample
 * too, and what grew between the two goes on growing by the same power.
 *
 * What choosing lists costs: an index of that many lists over about as many rows answers queries that probe a
 * few. Learning centroids grows with the square of their number, so from some point on the cost, too, is
 * continued from how it grew between the two largest that were timed. */
#include "engine/tune.h"

#include <math.h>
#include <stdio.h>

enum { QUERIES = 250, TIMED_QUERIES = 64, DEPTH_MOST = 640, SMALLER = 4, PROBES = 32 };
#define LIMIT_SECONDS 0.2
#define SHARE 0.05         /* of the time that is left, for one number of lists */
#define MULTIPLY_RATE 5e10 /* multiplications and additions a second that training does at least, and its */
#define ITERATIONS 12      /* rounds, for a guess at how long it takes */

/* ---- lists and candidates --------------------------------------------------------------------------- */

struct needs {
    double probes, candidates, build_seconds; /* for the recall that is wanted; between steps, too */
};

/* The number at which a curve between two measured steps crosses the goal. */
static double crossing(double goal, double below_at, double below, double at, double recall)
{
    double part = recall > below ? (goal - below) / (recall - below) : 1;

    return below_at * pow(at / below_at, fmin(fmax(part, 0), 1));
}

static sac_status recall_at(sac_tune_job *job, const sac_tune_world *world, const sac_index *index,
                            double nprobe, double depth, double *recall)
{
    size_t n = job->query_count < QUERIES ? job->query_count : QUERIES;
    double error;
    sac_status st = sac_tune_search(
        job, index, (sac_tune_setting){.nprobe = (uint32_t)nprobe, .depth = (uint32_t)depth}, 0, n);

    if (st == SAC_OK)
        sac_tune_recall(job, world, 0, n, recall, &error);
    return st;
}

/* Lists until the goal with more candidates than are needed; then candidates with more lists. */
static sac_status find_needs(sac_tune_job *job, const sac_tune_world *world, const sac_index *index,
                             uint32_t nlist, struct needs *out)
{
    double goal = job->params->recall > 0 ? fmin((double)job->params->recall, 0.98) : 0.95;
    double before = 0, recall = 0, at_before = 1, lists = 1, depth = job->params->k, most;
    sac_status st = recall_at(job, world, index, 1, DEPTH_MOST, &recall);

    while (st == SAC_OK && recall < goal && lists < nlist) {
        before = recall;
        at_before = lists;
        lists = fmin(ceil(lists * 1.3), nlist);
        st = recall_at(job, world, index, lists, DEPTH_MOST, &recall);
    }
    out->probes = crossing(goal, at_before, before, lists, recall);
    most = fmin(4 * lists, nlist);
    if (st == SAC_OK)
        st = recall_at(job, world, index, most, depth, &recall);
    for (before = 0, at_before = depth; st == SAC_OK && recall < goal && depth < DEPTH_MOST;) {
        before = recall;
        at_before = depth;
        depth = fmin(ceil(depth * 1.5 / 16) * 16, DEPTH_MOST);
        st = recall_at(job, world, index, most, depth, &recall);
    }
    out->candidates = crossing(goal, at_before, before, depth, recall);
    return st;
}

static sac_status needs_in(sac_tune_job *job, const sac_tune_world *world, const sac_tune_trial *trial,
                           struct needs *out)
{
    uint32_t nlist = (uint32_t)ceil(trial->nlist * sac_tune_share(job, world));
    sac_index *index;
    char spec[SAC_TUNE_SPEC];
    sac_status st;

    sac_tune_spec(trial, nlist, spec, sizeof spec);
    st = sac_tune_build(job, spec, world->rows, &index, &out->build_seconds);
    if (st == SAC_OK)
        st = find_needs(job, world, index, nlist, out);
    sac_index_close(index);
    return st;
}

static double power_of(double more, double less, double low, double high)
{
    return fmin(fmax(log(more / less) / log(SMALLER), low), high);
}

sac_status sac_tune_measure_growth(sac_tune_job *job, const sac_tune_world *sample,
                                   const sac_tune_trial *trial)
{
    sac_tune_world smaller = {0};
    struct needs more, less;
    sac_status st = sac_tune_world_open(job, sample->rows / SMALLER, &smaller);

    job->growth = (struct sac_tune_growth){.probes = 0.4, .candidates = 0.1, .build = 1.5};
    if (st == SAC_OK)
        st = needs_in(job, &smaller, trial, &less);
    if (st == SAC_OK)
        st = needs_in(job, sample, trial, &more);
    sac_tune_world_close(&smaller);
    if (st == SAC_OK)
        job->growth = (struct sac_tune_growth){
            .probes = power_of(more.probes, less.probes, 0, 0.8),
            .candidates = power_of(more.candidates, less.candidates, 0.05, 0.2),
            .build = power_of(more.build_seconds, less.build_seconds, 1, 2),
        };
    return st;
}

/* ---- choosing lists --------------------------------------------------------------------------------- */

/* From the two largest: seconds grow with a power of the number, between its root and itself. */
static double continued(const sac_tune_job *job, uint32_t nlist)
{
    size_t last = 0, before = SAC_TUNE_COARSE_MAX;
    double power = 1;

    for (size_t i = 1; i < job->coarse_count; i++)
        if (job->coarse[i].nlist > job->coarse[last].nlist) {
            before = last;
            last = i;
        } else if (before == SAC_TUNE_COARSE_MAX || job->coarse[i].nlist > job->coarse[before].nlist) {
            before = i;
        }
    if (before != SAC_TUNE_COARSE_MAX)
        power = log(job->coarse[last].seconds / job->coarse[before].seconds) /
                log((double)job->coarse[last].nlist / job->coarse[before].nlist);
    power = fmin(fmax(power, 0.5), 1);
    return job->coarse[last].seconds * pow((double)nlist / job->coarse[last].nlist, power);
}

static bool affordable(const sac_tune_job *job, uint32_t nlist)
{
    double work = (double)nlist * nlist * job->params->dim * ITERATIONS / MULTIPLY_RATE;

    return job->coarse_count == 0 || (nlist <= job->row_count && job->coarse_count < SAC_TUNE_COARSE_MAX &&
                                      work < SHARE * (job->deadline - sac_clock()));
}

static sac_status measure(sac_tune_job *job, uint32_t nlist, double *out)
{
    const sac_tune_setting few = {.nprobe = PROBES, .depth = job->params->k};
    uint32_t m = job->params->dim < 8 ? job->params->dim : 8;
    size_t rows = nlist < 256 ? 256 : nlist;
    sac_index *index;
    sac_tune_times times;
    char spec[64];
    sac_status st;

    snprintf(spec, sizeof spec, "IVF%u,PQ%ux4", nlist, m);
    st = sac_tune_build(job, spec, rows < job->row_count ? rows : job->row_count, &index, out);
    if (st == SAC_OK)
        st = sac_tune_time(job, index, few, TIMED_QUERIES, LIMIT_SECONDS, &times);
    sac_index_close(index);
    if (st == SAC_OK)
        *out = times.mean;
    return st;
}

sac_status sac_tune_coarse(sac_tune_job *job, uint32_t nlist, double *out)
{
    uint32_t timed = nlist < job->row_count ? nlist : (uint32_t)job->row_count;
    sac_status st;

    for (size_t i = 0; i < job->coarse_count; i++)
        if (job->coarse[i].nlist == nlist) {
            *out = job->coarse[i].seconds;
            return SAC_OK;
        }
    if (!affordable(job, timed)) {
        *out = continued(job, nlist);
        return SAC_OK;
    }
    st = measure(job, timed, out);
    if (st != SAC_OK)
        return st;
    job->coarse[job->coarse_count].nlist = timed;
    job->coarse[job->coarse_count++].seconds = *out;
    if (timed < nlist)
        *out = continued(job, nlist);
    return SAC_OK;
}
