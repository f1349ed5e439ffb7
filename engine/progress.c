#include "engine/progress.h"

#include <time.h>

#define REPORT_SECONDS 0.2

double sac_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void sac_progress_begin(sac_progress_meter *meter, sac_progress_fn fn, void *context, const char *stage,
                        uint64_t total)
{
    *meter = (sac_progress_meter){.fn = fn, .context = context, .began = sac_clock()};
    meter->state = (sac_progress){.stage = stage, .total = total, .seconds_left = -1};
    meter->reported = meter->began - REPORT_SECONDS; /* so the first step is told at once */
}

bool sac_progress_step(sac_progress_meter *meter, uint64_t done, uint64_t failed)
{
    double now;

    meter->state.done = done;
    meter->state.failed = failed;
    if (meter->fn == NULL)
        return true;
    now = sac_clock();
    if (now - meter->reported < REPORT_SECONDS && done < meter->state.total)
        return true;
    meter->reported = now;
    meter->state.seconds = now - meter->began;
    meter->state.seconds_left =
        done == 0 ? -1 : meter->state.seconds * (double)(meter->state.total - done) / (double)done;
    return meter->fn(meter->context, &meter->state);
}

bool sac_progress_advance(sac_progress_meter *meter)
{
    return sac_progress_step(meter, meter->state.done + 1, 0);
}
