/* prepared.h -- a picture ready for an encoder, as the encoder sees it. */
#ifndef SACCADE_PREPARED_H
#define SACCADE_PREPARED_H

#include "engine/saccade.h"

struct sac_prepared {
    uint8_t *pixels; /* [height][width][3] of the encoder's input */
};

#endif
