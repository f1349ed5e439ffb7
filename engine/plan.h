/* plan.h -- whether an index will fit, before memory is taken for it. The public half is sac_index_plan(). */
#ifndef SACCADE_PLAN_H
#define SACCADE_PLAN_H

#include "engine/index_spec.h"

/* SAC_DEVICE_MEMORY, saying how much is missing, where an index of so many vectors cannot be built on the
 * device, of which others may have taken a part, but for `held` bytes (UINT64_MAX: all of it) that are not
 * theirs. On a GPU vectors do not count: those that find no room stay in host memory. In the host's memory
 * everything does, also what is needed at least while it is built; without a limit that is all the machine
 * has. */
sac_status sac_plan_check(const sac_device *device, const sac_index_spec *spec, uint32_t dim, uint64_t count,
                          uint64_t held, sac_error *err);

/* Of n rows in the host's memory, those to learn from: as many as are of use and as there is memory for,
 * where each is copied `copies` times before. SAC_DEVICE_MEMORY where they would be too few. */
sac_status sac_plan_sample(const sac_device *device, const sac_index_spec *spec, uint32_t dim, size_t n,
                           uint32_t copies, size_t *rows, sac_error *err);

#endif
