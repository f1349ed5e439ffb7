/* safetensors.h -- reads the tensors of one .safetensors file.
 *
 * The format: u64 little-endian length of a JSON header; the header, an object of
 * name: {"dtype", "shape", "data_offsets": [begin, end]} and "__metadata__"; then the data. A file comes from
 * strangers, so nothing of it is believed: a header over SAC_SAFETENSORS_HEADER_MAX, more than
 * SAC_SAFETENSORS_TENSORS_MAX tensors, nesting deeper than SAC_SAFETENSORS_DEPTH_MAX, a name twice, unknown
 * fields, a shape whose size overflows or disagrees with its offsets, overlaps, holes and bytes after the
 * last tensor are all refused before memory for data is taken. Data is read with pread into owned memory and
 * never mapped, so a file that shrinks meanwhile is an error and not a signal.
 */
#ifndef SACCADE_SAFETENSORS_H
#define SACCADE_SAFETENSORS_H

#include "engine/saccade.h"

#define SAC_SAFETENSORS_HEADER_MAX ((size_t)8 << 20)
#define SAC_SAFETENSORS_TENSORS_MAX 4096u
#define SAC_SAFETENSORS_DEPTH_MAX 4u
#define SAC_SAFETENSORS_NAME_MAX 256u
#define SAC_TENSOR_RANK_MAX 8u

typedef enum sac_tensor_type {
    SAC_TENSOR_F32,
    SAC_TENSOR_F16,
    SAC_TENSOR_BF16,
    SAC_TENSOR_OTHER, /* of known size, but no weights: integers, f64, f8 */
} sac_tensor_type;

typedef struct sac_tensor {
    char *name;
    sac_tensor_type type;
    uint32_t rank;
    uint64_t shape[SAC_TENSOR_RANK_MAX];
    uint64_t count; /* elements: the product of shape */
    uint64_t begin; /* of its bytes, from the end of the header */
    uint64_t bytes;
} sac_tensor;

typedef struct sac_safetensors sac_safetensors; /* immutable; safe to share between threads */

/* Checks a header (the JSON alone) against data_bytes of data behind it. On success *out is the caller's,
 * without a file: only its tensors can be looked at. Errors: SAC_MALFORMED, SAC_TOO_LARGE, SAC_NO_MEMORY. */
sac_status sac_safetensors_parse(const char *header, size_t header_bytes, uint64_t data_bytes,
                                 sac_safetensors **out, sac_error *err);

/* Opens a file and parses its header. Also SAC_NOT_FOUND, SAC_IO. */
sac_status sac_safetensors_open(const char *path, sac_safetensors **out, sac_error *err);
void sac_safetensors_close(sac_safetensors *file); /* NULL is allowed */

/* Tensors in the order of their data. */
const sac_tensor *sac_safetensors_tensors(const sac_safetensors *file, size_t *count);
/* NULL where there is none of that name. */
const sac_tensor *sac_safetensors_find(const sac_safetensors *file, const char *name);

/* Reads a tensor of this file as f32 [tensor->count]. Errors: SAC_UNSUPPORTED (integers), SAC_MALFORMED (NaN
 * or infinity among the weights), SAC_IO (also where the file has shrunk). */
sac_status sac_safetensors_read(const sac_safetensors *file, const sac_tensor *tensor, float *out,
                                sac_error *err);

#endif
