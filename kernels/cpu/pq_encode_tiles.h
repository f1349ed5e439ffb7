/* pq_encode_tiles.h -- nearest codewords on tiles of bf16 numbers (pq_encode_amx.c), with distances as good
 * as f32: |x|^2 - 2 <x, c> + |c|^2 as one product, every number in three pieces. */
#ifndef SACCADE_CPU_PQ_ENCODE_TILES_H
#define SACCADE_CPU_PQ_ENCODE_TILES_H

#include "kernels/backend.h"

enum {
    SAC_PQ_ENCODE_GROUP = 16, /* rows whose components lie side by side */
    SAC_PQ_ENCODE_PAIR = 32,  /* rows that are multiplied together; codewords are a multiple of it */
    SAC_PQ_ENCODE_STEP = 32,  /* numbers that one instruction multiplies */
    SAC_PQ_ENCODE_DSUB_MAX = 16,
    SAC_PQ_ENCODE_STEPS_MAX = 4,
};

/* A component takes six numbers, and both lengths six. */
static inline uint32_t sac_pq_encode_steps(uint32_t dsub)
{
    return (6 * (dsub + 1) + SAC_PQ_ENCODE_STEP - 1) / SAC_PQ_ENCODE_STEP;
}

/* bf16 numbers of the codewords of one sub-quantizer. */
static inline size_t sac_pq_encode_words_size(uint32_t count, uint32_t dsub)
{
    return (size_t)count * SAC_PQ_ENCODE_STEP * sac_pq_encode_steps(dsub);
}

/* Whether sac_pq_encode_amx() is for tiles then. */
bool sac_pq_encode_tiles_pay(const struct sac_pq_encode_args *a);

/* Packs codewords [count][dsub], dsub <= SAC_PQ_ENCODE_DSUB_MAX. */
void sac_pq_encode_tiles_words(const float *codewords, uint32_t count, uint32_t dsub, uint16_t *words);

/* Rows x[i], less centroids[i] unless centroids is NULL, of up to SAC_PQ_ENCODE_GROUP rows, component by
 * component: to [dim][SAC_PQ_ENCODE_GROUP]; rows that are not there are 0. */
void sac_pq_encode_tiles_turn(const float *const *x, const float *const *centroids, uint32_t rows,
                              uint32_t dim, float *to);

/* Around sac_pq_encode_tiles_nearest(), on the thread that calls it. */
void sac_pq_encode_tiles_begin(void);
void sac_pq_encode_tiles_end(void);

/* codes[i]: the nearest of `count` packed codewords, for the rows of two groups, of whose components those of
 * one sub-quantizer are given, each [dsub][SAC_PQ_ENCODE_GROUP]. */
void sac_pq_encode_tiles_nearest(const uint16_t *words, uint32_t count, uint32_t dsub,
                                 const float *const groups[2], uint8_t codes[SAC_PQ_ENCODE_PAIR]);

#endif
