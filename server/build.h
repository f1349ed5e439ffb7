/* build.h -- the parts of `saccade build`: what goes in, and how vectors get there. */
#ifndef SACCADE_SERVER_BUILD_H
#define SACCADE_SERVER_BUILD_H

#include "engine/saccade.h"

/* The names to take in: operands, and the lines of a list. */
struct sac_inputs {
    char **at; /* copies */
    size_t count;
    bool vectors; /* vector files, not pictures */
};

/* files_from: a file with a name per line ("-": stdin), or NULL. Errors: SAC_IO; SAC_INVALID_ARGUMENT
 * (nothing named, or pictures and vectors together). */
sac_status sac_inputs_collect(struct sac_inputs *inputs, char **operands, size_t operand_count,
                              const char *files_from, sac_error *err);
void sac_inputs_free(struct sac_inputs *inputs);

/* Rows of vector files. */
sac_status sac_build_count(const struct sac_inputs *files, uint64_t *total, sac_error *err);

/* Puts the rows of vector files into a collection under the ids id_base, id_base + 1, ... over all files, as
 * sac_ingest() does with pictures: whole batches are committed, a row that is there with the same vector is
 * skipped, one that cannot be stored (NaN, zero length for cosine) goes on the error list. */
sac_status sac_build_vectors(sac_collection *collection, const struct sac_inputs *files, uint64_t id_base,
                             const char *error_list, sac_progress_fn progress, void *context,
                             sac_ingest_result *result, sac_error *err);

#endif
