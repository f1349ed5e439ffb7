/* progress.h -- tells a caller how far a long job is, a few times a second at most. */
#ifndef SACCADE_PROGRESS_H
#define SACCADE_PROGRESS_H

#include "engine/saccade.h"

typedef struct sac_progress_meter {
    sac_progress_fn fn; /* NULL: nobody listens */
    void *context;
    sac_progress state;
    double began, reported; /* seconds of the monotonic clock */
} sac_progress_meter;

/* Seconds of the monotonic clock. */
double sac_clock(void);

void sac_progress_begin(sac_progress_meter *meter, sac_progress_fn fn, void *context, const char *stage,
                        uint64_t total);

/* `done` of the total are done, and `failed` of them failed. False when the caller wants the job to end. The
 * first step and the last are always reported. */
bool sac_progress_step(sac_progress_meter *meter, uint64_t done, uint64_t failed);

/* The same for one more than before. */
bool sac_progress_advance(sac_progress_meter *meter);

#endif
