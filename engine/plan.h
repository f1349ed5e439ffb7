/* plan.h -- whether an index will fit, before memory is taken for it. The public half is sac_index_plan(). */
#ifndef SACCADE_PLAN_H
#define SACCADE_PLAN_H

#include "engine/saccade.h"

/* SAC_DEVICE_MEMORY, saying how much is missing, where an index of so many vectors cannot be held by the
 * device, of which other indexes may have taken a part. Vectors do not count: those that find no room stay in
 * host memory. Devices that use the host's memory are not judged: what is free there is not ours to know. */
sac_status sac_plan_check(const sac_device *device, const sac_index_params *params, uint64_t count,
                          sac_error *err);

#endif
