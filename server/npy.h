/* npy.h -- writes a NumPy file (format 1.0) of f32 [n][dim], row after row, n known only at the end. */
#ifndef SACCADE_SERVER_NPY_H
#define SACCADE_SERVER_NPY_H

#include "engine/saccade.h"

typedef struct sac_npy_writer sac_npy_writer;

/* path: the file, which appears whole when the writer is finished and not before; "-": stdout, which may be a
 * pipe. The caller ends *out with sac_npy_finish() or sac_npy_abandon(). Errors: SAC_IO. */
sac_status sac_npy_open(const char *path, uint32_t dim, sac_npy_writer **out, sac_error *err);
sac_status sac_npy_write(sac_npy_writer *writer, size_t n, const float *vectors, sac_error *err);
/* Completes the file. The writer is gone afterwards, whatever comes back. */
sac_status sac_npy_finish(sac_npy_writer *writer, sac_error *err);
void sac_npy_abandon(sac_npy_writer *writer); /* leaves nothing behind; NULL is allowed */

#endif
