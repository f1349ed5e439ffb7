/* rough.h -- a query against rows of bytes (SAC_I8) that lie one after another: distances to choose by.
 *
 * The query becomes bytes as well, so a product is a whole number, the same on every instruction set. Query
 * and row are each off by up to 1/254 of their largest component.
 */
#ifndef SACCADE_CPU_ROUGH_H
#define SACCADE_CPU_ROUGH_H

#include "kernels/ops.h"

enum { SAC_ROUGH_STEP = 64 }; /* a query is padded with zeros to a multiple of this */

struct sac_rough_query {
    void *parts; /* [dim, padded] of the kernels' own; aligned, room for two bytes each */
    float scale; /* a component is scale * part */
    float norm;  /* |query|^2, about */
    int32_t sum; /* of all parts */
};

struct sac_rough_kernels {
    /* Fills all but the pointer. */
    void (*prepare)(const float *query, uint32_t dim, struct sac_rough_query *out);
    /* out[i] = norms[i] - 2 <query, row i>, or - <query, row i> where norms is NULL; i < n. Up to 64 bytes
     * behind the rows are read. */
    void (*distances)(const struct sac_rough_query *query, const void *rows, uint32_t n, uint32_t dim,
                      const float *norms, float *out);
};

extern const struct sac_rough_kernels sac_rough_avx2, sac_rough_avx512, sac_rough_vnni;

#endif
