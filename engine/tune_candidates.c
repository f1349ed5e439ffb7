/* Which indexes are worth a trial. Numbers of lists first, with the usual codes; then other codes for the
 * best number, numbers between those, a rotation, and other ways to store vectors. */
#include "engine/rabitq.h"
#include "engine/tune.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    LIST_MIN = 8,   /* rows: shorter lists cost more than they spare */
    LONG_MIN = 192, /* components, from which on RaBitQ may rank better than as many bytes of PQ */
};

/* Computes what a trial needs; false: no such index, or one that the memory does not hold. */
static bool fits(const sac_tune_job *job, sac_tune_candidates *c, sac_tune_trial *trial)
{
    const sac_tune_params *p = job->params;
    sac_index_params params = {.dim = p->dim, .metric = p->metric};
    char spec[SAC_TUNE_SPEC];
    sac_plan plan;

    sac_tune_spec(trial, trial->nlist, spec, sizeof spec);
    params.spec = spec;
    if (sac_index_plan(&params, job->count, 1, &plan, NULL) != SAC_OK)
        return false;
    memcpy(trial->result.spec, plan.spec, sizeof trial->result.spec);
    trial->result.bytes = plan.bytes_codes + plan.bytes_vectors + plan.bytes_other + plan.bytes_host;
    if (p->memory == 0 || trial->result.bytes <= p->memory)
        return true;
    if (c->least_bytes == 0 || trial->result.bytes < c->least_bytes) {
        c->least_bytes = trial->result.bytes;
        memcpy(c->least_spec, plan.spec, sizeof c->least_spec);
    }
    return false;
}

static void propose(const sac_tune_job *job, sac_tune_candidates *c, sac_tune_trial trial)
{
    bool known = false;

    if (c->count == SAC_TUNE_TRIALS_MAX || !fits(job, c, &trial))
        return;
    for (size_t i = 0; i < c->count; i++)
        known = known || strcmp(c->at[i].result.spec, trial.result.spec) == 0;
    if (!known)
        c->at[c->count++] = trial;
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
static void propose_lists(const sac_tune_job *job, sac_tune_candidates *c, uint32_t nlist,
                          const char *rotation, const char *codec)
{
    size_t before = c->count;

    for (size_t i = 0; i < REFINES && c->count == before; i++)
        propose(job, c, trial_of(nlist, rotation, codec, refines[i]));
}

static uint32_t lists_of(const sac_tune_job *job, double factor)
{
    double nlist = ceil(factor * sqrt((double)job->count) / 16) * 16;

    nlist = fmin(nlist, (double)job->count / LIST_MIN);
    return nlist < 1 ? 1 : (uint32_t)nlist;
}

/* "PQ32" or "PQ64x4": components by code. */
static void propose_pq(const sac_tune_job *job, sac_tune_candidates *c, uint32_t nlist, uint32_t components,
                       uint32_t bits)
{
    uint32_t m = (job->params->dim + components - 1) / components;
    char codec[24];

    snprintf(codec, sizeof codec, bits == 8 ? "PQ%u" : "PQ%ux%u", m, bits);
    propose_lists(job, c, nlist, "", codec);
}

static void propose_rabitq(const sac_tune_job *job, sac_tune_candidates *c, uint32_t nlist)
{
    if (job->params->dim >= LONG_MIN && sac_has_rabitq(job->device))
        propose_lists(job, c, nlist, "", "RaBitQ");
}

/* Long vectors are more redundant. */
static uint32_t components_of(const sac_tune_job *job)
{
    return job->params->dim <= 512 ? 4 : 8;
}

void sac_tune_propose_first(const sac_tune_job *job, sac_tune_candidates *c)
{
    static const double factors[] = {4, 8, 2, 16}; /* the likeliest first */
    static const char *const flat[] = {"Flat", "SQfp16", "SQ8"};

    for (size_t i = 0; i < sizeof flat / sizeof *flat; i++)
        propose(job, c, trial_of(0, "", flat[i], ""));
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
        propose_pq(job, c, lists_of(job, factors[i]), components_of(job), 8);
        if (i == 0) /* soonest built, and it may fit where codebooks of PQ do not */
            propose_rabitq(job, c, lists_of(job, factors[i]));
    }
}

void sac_tune_propose_codes(const sac_tune_job *job, sac_tune_candidates *c, const sac_tune_trial *best)
{
    uint32_t usual = components_of(job);

    propose_pq(job, c, best->nlist, usual / 2, 8);
    propose_pq(job, c, best->nlist, usual * 2, 8);
    propose_pq(job, c, best->nlist, usual / 2, 4);
    propose_rabitq(job, c, best->nlist);
}

void sac_tune_propose_shapes(const sac_tune_job *job, sac_tune_candidates *c, const sac_tune_trial *best)
{
    char rotation[sizeof best->rotation];
    unsigned m;

    for (int i = -1; i <= 1; i += 2) {
        double nlist = ceil(best->nlist * pow(2, 0.5 * i) / 16) * 16;
        nlist = fmin(fmax(nlist, lists_of(job, 2)), lists_of(job, 16));
        propose_lists(job, c, (uint32_t)nlist, "", best->codec);
    }
    if (sscanf(best->codec, "PQ%u", &m) != 1)
        return;
    snprintf(rotation, sizeof rotation, "OPQ%u,", m);
    propose_lists(job, c, best->nlist, rotation, best->codec);
}

void sac_tune_propose_storage(const sac_tune_job *job, sac_tune_candidates *c, const sac_tune_trial *best)
{
    for (size_t i = 0; i < REFINES; i++)
        propose(job, c, trial_of(best->nlist, best->rotation, best->codec, refines[i]));
}
