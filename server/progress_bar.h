/* progress_bar.h -- where a long job stands, on stderr, and a way to stop it.
 *
 * On a terminal: one line per stage, redrawn in place. Elsewhere (a pipe, a log file): a plain line when a
 * stage ends, and every ten seconds before. While watched, the first SIGINT or SIGTERM asks the job to
 * stop and keep what is done; a second one ends the process at once.
 */
#ifndef SACCADE_SERVER_PROGRESS_BAR_H
#define SACCADE_SERVER_PROGRESS_BAR_H

#include "engine/saccade.h"

struct sac_bar {
    bool quiet;        /* draw nothing */
    bool terminal;     /* stderr is one */
    const char *stage; /* being shown; NULL: none yet */
    sac_progress last;
    double shown_at; /* CLOCK_MONOTONIC seconds */
};

/* Starts watching for signals; one bar at a time. */
void sac_bar_begin(struct sac_bar *bar, bool quiet);
/* A sac_progress_fn; context is the bar. */
bool sac_bar_show(void *bar, const sac_progress *progress);
/* Ends the line of the stage being shown, and puts the signals back. */
void sac_bar_end(struct sac_bar *bar);
/* True after SIGINT or SIGTERM. */
bool sac_bar_interrupted(void);

#endif
