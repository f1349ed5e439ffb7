/* tune.h -- the inside of sac_tune(): a job, the worlds its indexes are tried in, and their trials.
 *
 * How a sample stands for the whole. An index is tried over fewer rows with as many fewer lists, so that
 * lists are as long as they will be, and take as long to scan. What will be more is the number of lists to
 * probe and candidates to re-rank, by powers of the count that are measured, and the choice of lists, which
 * is timed with as many centroids as there will be (tune_growth.c). Exact search grows with the rows.
 */
#ifndef SACCADE_TUNE_H
#define SACCADE_TUNE_H

#include "engine/progress.h"
#include "engine/saccade.h"

#define SAC_TUNE_BATCH 1000u /* queries of a batch that is timed */
#define SAC_TUNE_COARSE_MAX 16u
#define SAC_TUNE_SPEC 96 /* bytes of an index string, as it is put together */
#define SAC_TUNE_TRIALS_MAX 32u

typedef struct sac_tune_job {
    sac_device *device;
    const sac_tune_params *params;
    uint64_t count; /* of the index that is wanted */
    sac_progress_meter meter;
    double deadline; /* by sac_clock() */
    bool cancelled;  /* the caller wants no more */
    bool late;       /* something was left out because time ran out */
    sac_error *err;
    /* Rows of params->vectors that are indexed, in random order, the first ones in every world. */
    uint64_t *rows; /* [row_count] */
    size_t row_count;
    /* The first `choosing` queries choose settings, the others tell what to expect of them. */
    float *vectors; /* [query_count][dim] */
    size_t query_count, choosing;
    sac_query *queries; /* [SAC_TUNE_BATCH or query_count, the larger], over the vectors again and again */
    sac_hit *hits;      /* [the same][k] */
    double *seconds;    /* [query_count] */
    struct {
        uint32_t nlist;
        double seconds;
    } coarse[SAC_TUNE_COARSE_MAX]; /* what was timed, in the order it was */
    size_t coarse_count;
    struct sac_tune_growth {
        double probes, candidates, build; /* powers of the count by which these grow */
    } growth;
} sac_tune_job;

/* Tells the caller that the job is alive; false: stop, because he wants it or time is up. */
bool sac_tune_goes_on(sac_tune_job *job);
/* The same as a sac_progress_fn, whose context is the job. */
bool sac_tune_watch(void *job, const sac_progress *progress);

/* How a query is asked: recall, or nprobe and depth. */
typedef struct sac_tune_setting {
    float recall;
    uint32_t nprobe, depth;
} sac_tune_setting;

/* ---- what is worth more ---- */

typedef struct sac_tune_merit {
    bool reaches; /* what was asked for */
    double recall, mean, p99;
} sac_tune_merit;

sac_tune_merit sac_tune_merit_of(const sac_tune_params *params, double recall, double mean, double p99);
bool sac_tune_better(const sac_tune_params *params, const sac_tune_merit *a, const sac_tune_merit *b);

/* ---- worlds (tune_world.c) ---- */

/* Rows that are indexed together, and the true neighbours of the queries among them. */
typedef struct sac_tune_world {
    size_t rows;       /* the first of the job's */
    uint32_t k;        /* neighbours: params->k, or all rows */
    uint64_t *nearest; /* [query_count][k], labels ascending: rows of params->vectors */
    double *reach;     /* [query_count]: the distance of the last */
} sac_tune_world;

/* Takes queries out of the vectors, or copies those that were given; puts the rest in random order. Refuses
 * what an index would refuse. */
sac_status sac_tune_prepare(sac_tune_job *job);
void sac_tune_unprepare(sac_tune_job *job);

/* Finds the truth among the first `rows`. */
sac_status sac_tune_world_open(sac_tune_job *job, size_t rows, sac_tune_world *out);
void sac_tune_world_close(sac_tune_world *world);

/* Which part of the whole a world is: 1, all of it. */
double sac_tune_share(const sac_tune_job *job, const sac_tune_world *world);

/* Makes an index of the first `rows`; *seconds: what it took. SAC_CANCELLED also where time ran out. */
sac_status sac_tune_build(sac_tune_job *job, const char *spec, size_t rows, sac_index **out, double *seconds);

/* Searches queries first .. first + n - 1 together: their hits lie in the job. */
sac_status sac_tune_search(sac_tune_job *job, const sac_index *index, sac_tune_setting setting, size_t first,
                           size_t n);
/* The recall of the hits that such a search left, and its standard error. A neighbour that is as near as the
 * last true one counts as well. */
void sac_tune_recall(const sac_tune_job *job, const sac_tune_world *world, size_t first, size_t n,
                     double *recall, double *error);

typedef struct sac_tune_times {
    double mean, p50, p99; /* seconds */
} sac_tune_times;

/* Times n queries one at a time, each by the least of a few rounds; fewer queries where they take longer than
 * `limit` seconds in all. */
sac_status sac_tune_time(sac_tune_job *job, const sac_index *index, sac_tune_setting setting, size_t n,
                         double limit, sac_tune_times *out);
/* Queries a second in batches of SAC_TUNE_BATCH. */
sac_status sac_tune_time_batch(sac_tune_job *job, const sac_index *index, sac_tune_setting setting,
                               double *rate);

/* ---- trials (tune_trial.c, tune_growth.c) ---- */

typedef struct sac_tune_trial {
    uint32_t nlist;                           /* of the whole; 0: no lists */
    char rotation[16], codec[24], refine[24]; /* "OPQ32,", "PQ32", ",Refine(SQ8)"; no lists: "", "Flat", "" */
    double built, spent;                      /* seconds that building took here, and trying it in all */
    bool done;                                /* result is filled */
    sac_tuned result;
} sac_tune_trial;

/* The index string of a trial, for so many lists. */
void sac_tune_spec(const sac_tune_trial *trial, uint32_t nlist, char *text, size_t size);

/* Builds what the trial says, finds the setting that suits the goal best, and fills in what it gives.
 * Thorough: in fine steps, also by asking for recall, judged by queries that did not choose. Where it cannot
 * be tried (too few rows, no memory, no time) it stays as it was. */
sac_status sac_tune_try(sac_tune_job *job, const sac_tune_world *world, bool thorough, sac_tune_trial *trial);

/* Finds the powers, by one trial in the sample and in a part of it. */
sac_status sac_tune_measure_growth(sac_tune_job *job, const sac_tune_world *sample,
                                   const sac_tune_trial *trial);
/* Seconds of a lone query among nlist lists of about one row, or what is expected where that cannot be timed:
 * for differences. */
sac_status sac_tune_coarse(sac_tune_job *job, uint32_t nlist, double *out);

/* ---- what is tried (tune_candidates.c) ---- */

typedef struct sac_tune_candidates {
    sac_tune_trial at[SAC_TUNE_TRIALS_MAX]; /* no two of one spec, each with the bytes that it needs */
    size_t count;
    uint64_t least_bytes; /* of those that do not fit the memory; 0: none */
    char least_spec[64];
} sac_tune_candidates;

/* Add what is not there yet, fits the memory, and is on the job's device. Exact search, and lists: */
void sac_tune_propose_first(const sac_tune_job *job, sac_tune_candidates *c);
/* What lies beside the best so far: other codes, other numbers of lists and a rotation, other storage. */
void sac_tune_propose_codes(const sac_tune_job *job, sac_tune_candidates *c, const sac_tune_trial *best);
void sac_tune_propose_shapes(const sac_tune_job *job, sac_tune_candidates *c, const sac_tune_trial *best);
void sac_tune_propose_storage(const sac_tune_job *job, sac_tune_candidates *c, const sac_tune_trial *best);

#endif
