/* calibrate.h -- which of two ways to go about a scan is the faster, measured and not guessed.
 *
 * A device may scan query-major, which reads a list again for each query that probes it, and list-major,
 * which decodes it once for all of them. Which is faster depends on the chip, the codes and the mean number
 * of queries that probe a list; so both are timed on this index, for batches of growing size.
 */
#ifndef SACCADE_CALIBRATE_H
#define SACCADE_CALIBRATE_H

#include "engine/index_state.h"

/* Fewer vectors are searched fast either way. */
#define SAC_CALIBRATE_COUNT_MIN 10000u

/* Sets, by the first shard, the point from which an index's lists are scanned list-major, where its device
 * has both ways; a fraction of a second. ws: of the first shard. The index holds vectors; the caller holds
 * its writer lock, or is alone. */
sac_status sac_index_calibrate(sac_index *index, sac_workspace *ws);

#endif
