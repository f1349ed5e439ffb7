/* ingest.h -- how a picture's path becomes the id of its item. */
#ifndef SACCADE_INGEST_H
#define SACCADE_INGEST_H

#include "engine/saccade.h"

/* The id is the absolute path as text. A path longer than an id may be becomes "~", the 32 hexadecimal digits
 * of its XXH3-128, "~", and as much of its end as fits, from a character's first byte on. The id points into
 * the path or into buffer. */
sac_id sac_ingest_id(const char *path, char buffer[SAC_ID_TEXT_MAX]);

#endif
