/* opq.h -- from a vector to what is coded: padded with zeros, rotated so that the quantizer loses less, or
 * rotated at random (rabitq.h).
 *
 * The first rotation is learnt as in Ge, He, Ke, Sun, Optimized Product Quantization (CVPR 2013), the
 * non-parametric way: quantize the rotated rows, then take the orthonormal matrix that brings the rows
 * nearest to what they decoded to (orthogonal Procrustes), and again. That matrix is the polar factor of a
 * product of the two, found by Newton-Schulz iteration, which is nothing but matrix products.
 */
#ifndef SACCADE_OPQ_H
#define SACCADE_OPQ_H

#include "engine/progress.h"
#include "engine/workspace.h"

/* With neither matrix nor signs, only zeros are appended. */
typedef struct sac_rotation {
    uint32_t in, out; /* components before and after */
    sac_device *device;
    const struct sac_ops *ops;
    float *matrix;       /* host [out][in], orthonormal rows or columns; NULL: none */
    sac_linear *linear;  /* the same on the device */
    float *signs;        /* host [SAC_ROTATE_ROUNDS][out] of a random one; NULL: none */
    float *device_signs; /* the same on the device */
} sac_rotation;

/* Takes a copy of matrix (NULL allowed). */
sac_status sac_rotation_open(sac_rotation *rotation, sac_device *device, uint32_t in, uint32_t out,
                             const float *matrix, sac_error *err);
/* The random one: takes a copy of signs. */
sac_status sac_rotation_open_random(sac_rotation *rotation, sac_workspace *ws, uint32_t in, uint32_t out,
                                    const float *signs);
void sac_rotation_close(sac_rotation *rotation); /* zero-initialised is allowed */

/* *y is x itself where nothing changes, else a new piece of the workspace [n][out]. Puts nothing on the
 * stream. */
sac_status sac_rotation_prepare(const sac_rotation *rotation, sac_workspace *ws, size_t n, const sac_span *x,
                                sac_span *y);

/* Computes *y from what the device has of *x. Not waited for, and not fetched: y->host does not hold it yet.
 */
sac_status sac_rotation_run(const sac_rotation *rotation, sac_workspace *ws, size_t n, const sac_span *x,
                            const sac_span *y);

/* Both. */
sac_status sac_rotation_apply(const sac_rotation *rotation, sac_workspace *ws, size_t n, const sac_span *x,
                              sac_span *y);

/* Rounds of SAC_OPQ_ROUNDS: the meter advances by one each. */
#define SAC_OPQ_ROUNDS 10u
/* Rows that learning makes use of, at most. */
#define SAC_OPQ_SAMPLE 32768u

/* Learns a matrix [out][in] for a quantizer from n rows [n][in], n >= 2^nbits; out = m * dsub. */
sac_status sac_opq_train(sac_workspace *ws, const sac_pq_shape *pq, uint64_t seed, size_t n, uint32_t in,
                         const sac_span *x, float *matrix, sac_progress_meter *meter);

#endif
