/* recorded.h -- work that recurs, put on the stream at the cost of one launch.
 *
 * A lone query on a GPU is a chain of small kernels that take less time than their launches. So a workspace
 * keeps what a search of one shape put on its stream as a recording (device.h) and plays it for the next: the
 * pieces are the same, since a workspace hands them out in the same order, and only what is in them differs.
 * The first time is plain, which brings all memory that is needed; the second records.
 */
#ifndef SACCADE_RECORDED_H
#define SACCADE_RECORDED_H

#include "engine/workspace.h"

/* Puts work on the workspace's stream: what submit(context) puts there, by itself or from a recording. submit
 * takes its device memory as pieces of ws, and depends on nothing but the shape, on where the next pieces are
 * - and on memory that those address. Where the device has no recordings this is submit(context). */
sac_status sac_submit_recorded(sac_workspace *ws, const sac_shape *shape, sac_status (*submit)(void *context),
                               void *context);

/* Frees what is recorded. */
void sac_recorded_free(sac_workspace *ws);

#endif
