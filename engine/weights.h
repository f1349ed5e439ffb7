/* weights.h -- the weights of a model folder: model.safetensors, or the shards that
 * model.safetensors.index.json names. */
#ifndef SACCADE_WEIGHTS_H
#define SACCADE_WEIGHTS_H

#include "engine/safetensors.h"

typedef struct sac_weights sac_weights; /* one thread at a time */

/* Opens every file and parses every header; no data is read. Errors: as sac_safetensors_open(), and
 * SAC_MALFORMED where the index and the shards disagree. */
sac_status sac_weights_open(const char *folder, sac_weights **out, sac_error *err);
void sac_weights_close(sac_weights *weights); /* NULL is allowed */

/* NULL where there is none of that name. */
const sac_tensor *sac_weights_find(const sac_weights *weights, const char *name);

/* Reads a tensor that must exist with exactly `count` elements, as f32 [count], and marks it as used.
 * Errors: SAC_MALFORMED (missing, of another size, not finite), SAC_UNSUPPORTED (integers), SAC_IO. */
sac_status sac_weights_read(sac_weights *weights, const char *name, uint64_t count, float *out,
                            sac_error *err);

/* The first tensor that was not read and that `expected` does not excuse, or NULL: a model with parts we do
 * not know would silently be computed wrong. */
const char *sac_weights_unused(const sac_weights *weights, bool (*expected)(const char *name));

#define SAC_SHA256_BYTES 32u

/* SHA-256 over all bytes of the files, in the order of their names. For one file this is its sha256sum. */
sac_status sac_weights_digest(const sac_weights *weights, unsigned char digest[SAC_SHA256_BYTES],
                              sac_error *err);

#endif
