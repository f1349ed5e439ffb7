#include "engine/index_state.h"

sac_status sac_index_measure(sac_index *index, sac_progress_fn progress, void *context, sac_error *err)
{
    (void)index;
    (void)progress;
    (void)context;
    (void)err;
    return SAC_OK;
}
