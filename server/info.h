/* info.h -- what `saccade info` knows, as JSON with the names of PROTOCOL.md, and as text for people. */
#ifndef SACCADE_SERVER_INFO_H
#define SACCADE_SERVER_INFO_H

#include "engine/saccade.h"

#include <jansson.h>

/* {version, compiler, device, image_formats}. NULL: no memory. */
json_t *sac_info_program(const sac_device *device);
/* {collection, count, dim, metric, model, fingerprint, index, nlist, m, nbits, list_imbalance, trained,
 * measured, bytes_store, bytes_codes, bytes_vectors, bytes_other, read_only, recall: [{recall, nprobe,
 * depth, reach}]}. */
json_t *sac_info_collection(const char *name, const sac_collection *collection);

/* Prints either with its `collections`; what is missing is left out. */
void sac_info_print(const json_t *info);

#endif
