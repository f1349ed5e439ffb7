/* json_file.h -- a JSON file of a model folder, bounded in size. */
#ifndef SACCADE_JSON_FILE_H
#define SACCADE_JSON_FILE_H

#include "engine/saccade.h"

#include <jansson.h>

/* Reads folder/name, an object of at most 16 MiB. *out is the caller's (json_decref).
 * Errors: SAC_NOT_FOUND, SAC_IO, SAC_TOO_LARGE, SAC_MALFORMED, SAC_NO_MEMORY. */
sac_status sac_json_file_load(const char *folder, const char *name, json_t **out, sac_error *err);

#endif
