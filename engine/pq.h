/* pq.h -- the product quantizer: m codebooks, each for its own slice of the components.
 *
 * (Jegou, Douze, Schmid, Product Quantization for Nearest Neighbor Search, PAMI 2011.)
 */
#ifndef SACCADE_PQ_H
#define SACCADE_PQ_H

#include "engine/progress.h"
#include "engine/workspace.h"

/* Learns codebook [m][2^nbits][dsub] from n rows [n][m * dsub] in random order, n >= 2^nbits, by k-means on
 * each slice; each component of a slice then has 256 values at most, evenly spaced. At most
 * SAC_PQ_SAMPLE_PER_CODEWORD rows a codeword are of use. meter advances by m. */
#define SAC_PQ_SAMPLE_PER_CODEWORD 128u
sac_status sac_pq_train(sac_workspace *ws, const sac_pq_shape *pq, uint32_t iterations, uint64_t seed,
                        size_t n, const sac_span *x, const sac_span *codebook, sac_progress_meter *meter);

/* What codes [n][m] (host) stand for, into x [n][m * dsub] (host). */
void sac_pq_decode(const sac_pq_shape *pq, const float *codebook, size_t n, const uint8_t *codes, float *x);

#endif
