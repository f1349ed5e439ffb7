/* pq_scan_words.h -- codebook and queries as bf16 for the list-major scan, and how far that is off. */
#ifndef SACCADE_CPU_PQ_SCAN_WORDS_H
#define SACCADE_CPU_PQ_SCAN_WORDS_H

#include "kernels/cpu/pq_scan_tiles.h"

/* Of a sub-quantizer's code words: the largest length, and the largest length of what rounding took away. */
struct sac_pq_reach {
    float length, lost;
};

/* |computed distance - exact one| <= margin / 2 + relative / 2 * |distance|. */
struct sac_pq_error {
    float margin, relative;
};

/* Everything but the numbers themselves. */
struct sac_pq_words sac_pq_words_of(const sac_pq_shape *pq);
size_t sac_pq_words_count(const struct sac_pq_words *words); /* of numbers */

/* Rounds the code words of byte b of a code, which are of one sub-quantizer or two. */
void sac_pq_words_round(const sac_pq_shape *pq, const float *codebook, const struct sac_pq_words *words,
                        uint32_t b, struct sac_pq_reach *reaches);

/* Rounds scale * query to words->depth numbers; base: the largest |base| of its probes. */
struct sac_pq_error sac_pq_words_query(const sac_pq_shape *pq, const struct sac_pq_words *words,
                                       const struct sac_pq_reach *reaches, const float *query, float scale,
                                       float base, uint16_t *numbers);

#endif
