/* clusters.h -- vectors for benchmarks, by the hundred million: clusters of uneven size in a few directions,
 * and a little noise in all of them, as embeddings have. Any row can be made at any time; the same row is
 * always the same.
 *
 * Row = centre + sum_i z_i b_i / sqrt(1 + i) + noise: CLUSTERS_DIRECTIONS directions b_i, shared by the
 * clusters of a group, with z_i normal, so the spectrum decays and the intrinsic dimension is about 20;
 * centres are normal, and cluster c is drawn with a weight that falls as its rank. Evenly random vectors
 * would be no test: nothing finds neighbours among them.
 */
#ifndef SACCADE_BENCH_GPU_CLUSTERS_H
#define SACCADE_BENCH_GPU_CLUSTERS_H

#include <stddef.h>
#include <stdint.h>

enum { CLUSTERS_DIRECTIONS = 24, CLUSTERS_GROUPS = 16 };

struct clusters {
    uint32_t dim, count;
    uint64_t seed;
    float *centres;    /* [count][dim] */
    float *directions; /* [CLUSTERS_GROUPS][CLUSTERS_DIRECTIONS][dim] */
};

/* For about `rows` rows. Ends the program when there is no memory. */
void clusters_make(struct clusters *clusters, uint32_t dim, size_t rows, uint64_t seed);
void clusters_free(struct clusters *clusters);

/* Rows first..first+n-1 of stream `stream` (0: the base, 1: queries) to out [n][dim], by `threads` threads.
 */
void clusters_rows(const struct clusters *clusters, uint32_t stream, size_t first, size_t n, uint32_t threads,
                   float *out);

#endif
