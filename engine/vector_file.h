/* vector_file.h -- reads vectors from the files people have, a few rows at a time.
 *
 *   .fvecs .bvecs .ivecs             per row: int32 dimension, then float32, uint8 or int32 components
 *   .fbin .f16bin .u8bin .i8bin .ibin  uint32 rows, uint32 dimension, then the rows; huge sets have two
 * uint64 instead, which the size of the file tells .npy                             NumPy's format 1 to 3:
 * float32, float16 or float64, C order, 1-d or 2-d
 *
 * Everything is little-endian. The kind is told by the name's ending. A file is read with pread into owned
 * memory, front to back or from any row; it is never mapped, so a file that shrinks meanwhile is an error
 * and not a signal.
 */
#ifndef SACCADE_VECTOR_FILE_H
#define SACCADE_VECTOR_FILE_H

#include "engine/saccade.h"

typedef struct sac_vector_file sac_vector_file; /* one thread at a time */

/* True where the name ends in one of the endings above. */
bool sac_vector_file_known(const char *path);

/* Opens a file and checks that its size agrees with what its header says. The caller ends *out with
 * sac_vector_file_close(). Errors: SAC_NOT_FOUND, SAC_IO, SAC_MALFORMED (names the place),
 * SAC_UNSUPPORTED (ending, type of component), SAC_TOO_LARGE (dimension). */
sac_status sac_vector_file_open(const char *path, sac_vector_file **out, sac_error *err);
void sac_vector_file_close(sac_vector_file *file); /* NULL is allowed */

uint32_t sac_vector_file_dim(const sac_vector_file *file);
uint64_t sac_vector_file_count(const sac_vector_file *file);

/* Continues at a row, at most the count. */
void sac_vector_file_seek(sac_vector_file *file, uint64_t row);

/* Reads up to n rows as f32 [n][dim]; *got is fewer only at the end of the file.
 * Errors: SAC_IO, SAC_MALFORMED (a row of another dimension). */
sac_status sac_vector_file_read(sac_vector_file *file, size_t n, float *vectors, size_t *got, sac_error *err);

/* The same for files of whole numbers (.ivecs, .ibin: ground truth), unchanged. SAC_UNSUPPORTED for others.
 */
sac_status sac_vector_file_read_int32(sac_vector_file *file, size_t n, int32_t *values, size_t *got,
                                      sac_error *err);

#endif
