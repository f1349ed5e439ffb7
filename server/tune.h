/* tune.h -- the parts of `saccade tune`: what it was asked, the vectors it reads, and what it says. */
#ifndef SACCADE_SERVER_TUNE_H
#define SACCADE_SERVER_TUNE_H

#include "server/local.h"

struct sac_tune_ask {
    struct sac_local local;
    const char *file;    /* of vectors; NULL: the collection */
    const char *queries; /* a file; NULL: none */
    const char *metric;  /* NULL: l2, or the collection's */
    float recall;        /* 0: none is asked for */
    double latency;      /* seconds; 0: none is asked for */
    uint64_t memory, seed;
    float seconds;
    uint32_t k;
    bool json;
};

/* An even sample of the vectors, or all, and the queries. */
typedef struct sac_tune_input {
    sac_tune_params params; /* points at the two */
    float *vectors, *queries;
} sac_tune_input;

/* Reads what fits a share of the machine's memory. The device is open. Errors: as sac_vector_file_open(),
 * sac_local_open_collection(); SAC_INVALID_ARGUMENT (queries of another dimension), SAC_CANCELLED. */
sac_status sac_tune_read(struct sac_tune_ask *ask, sac_tune_input *out, sac_progress_fn progress,
                         void *context, sac_error *err);
void sac_tune_input_free(sac_tune_input *input);

/* A table, the choice, what to type next, and what is uncertain, on stdout. */
void sac_tune_print(const struct sac_tune_ask *ask, const sac_tune_input *input, const sac_tuning *tuning);
sac_status sac_tune_print_json(const struct sac_tune_ask *ask, const sac_tune_input *input,
                               const sac_tuning *tuning, sac_error *err);
/* Where nothing reached the goal: what came nearest, and what would reach it, as err's text. */
void sac_tune_explain(const sac_tune_input *input, const sac_tuning *tuning, sac_error *err);

#endif
