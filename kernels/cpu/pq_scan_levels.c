/* Codebook and queries as bytes. Component i of a code word r is offset_i + step_i * level_i, of a query q
 * scale * q_i * step_i = unit * number_i + rest_i. With levels taken from their middle, which moves sum
 * middle_i * rest_i into a constant,
 *     scale * <q, r> = constant + unit * sum number_i * level_i + sum rest_i * (level_i - middle_i).
 * The last sum is left out. Rests and levels know nothing of each other, so it is to the sum of the same
 * levels with scale * q_i * step_i, by which distances of different rows differ, as sqrt(sum rest_i^2) is to
 * sqrt(sum (scale * q_i * step_i)^2): for numbers like a normal distribution's 1/120, a tenth of what codes
 * of 4 bits a component lose. A query that would lose more than 1/32 is not fine enough. Codebooks are
 * trained on the grid of 255 steps (engine/pq.c), so levels lose nothing; one that is not loses half a
 * step. */
#include "kernels/cpu/pq_scan_levels.h"

#include <math.h>

enum { LEVELS = 255, NUMBER_MOST = 127 };

#define LOST_MOST (1.0f / 1024) /* of the differences between distances, squared */

struct sac_pq_levels sac_pq_levels_of(const sac_pq_shape *pq)
{
    uint32_t components = pq->m * pq->dsub;

    return (struct sac_pq_levels){.bytes = (uint32_t)sac_pq_code_bytes(pq->m, pq->nbits),
                                  .width = pq->nbits == 4 ? 2 * pq->dsub : pq->dsub,
                                  .components = components,
                                  .depth =
                                      (components + SAC_TILE_DEPTH - 1) / SAC_TILE_DEPTH * SAC_TILE_DEPTH};
}

/* Component i, the d-th of sub-quantizer j. */
static void round_component(const sac_pq_shape *pq, const float *codewords,
                            const struct sac_pq_levels *levels, uint32_t j, uint32_t d)
{
    uint32_t i = j * pq->dsub + d, count = 1u << pq->nbits;
    uint8_t *table = levels->table + (size_t)i * SAC_TILE_VALUES, found[SAC_TILE_VALUES] = {0};
    float low = codewords[d], high = low, inverse, sum = 0.0f;

    for (uint32_t c = 1; c < count; c++) {
        float x = codewords[(size_t)c * pq->dsub + d];

        low = x < low ? x : low;
        high = x > high ? x : high;
    }
    levels->offset[i] = low;
    levels->step[i] = (high - low) / (float)LEVELS;
    inverse = levels->step[i] > 0.0f ? (float)LEVELS / (high - low) : 0.0f;
    for (uint32_t c = 0; c < count; c++) {
        float level = (codewords[(size_t)c * pq->dsub + d] - low) * inverse + 0.5f;

        found[c] = (uint8_t)(level < (float)LEVELS ? level : (float)LEVELS);
        sum += (float)found[c];
    }
    levels->middle[i] = sum / (float)count;
    for (uint32_t value = 0; value < SAC_TILE_VALUES; value++)
        table[value] = found[pq->nbits == 4 ? value >> j % 2 * 4 & 0xf : value & (count - 1)];
}

void sac_pq_levels_round(const sac_pq_shape *pq, const float *codebook, const struct sac_pq_levels *levels,
                         uint32_t b)
{
    uint32_t each = pq->nbits == 4 ? 2 : 1;

    for (uint32_t j = b * each; j < (b + 1) * each && j < pq->m; j++)
        for (uint32_t d = 0; d < pq->dsub; d++)
            round_component(pq, codebook + ((size_t)j << pq->nbits) * pq->dsub, levels, j, d);
}

struct sac_pq_level_query sac_pq_levels_query(const struct sac_pq_levels *levels, const float *query,
                                              float scale, int8_t *numbers)
{
    float largest = 0.0f, constant = 0.0f, all = 0.0f, lost = 0.0f, unit, inverse;

    for (uint32_t i = 0; i < levels->components; i++) {
        float x = scale * query[i] * levels->step[i];

        largest = fabsf(x) > largest ? fabsf(x) : largest;
    }
    unit = largest / (float)NUMBER_MOST;
    inverse = unit > 0.0f ? 1.0f / unit : 0.0f;
    if (!isfinite(inverse))
        unit = inverse = 0.0f;
    for (uint32_t i = 0; i < levels->components; i++) {
        float x = scale * query[i] * levels->step[i], rest;

        numbers[i] = (int8_t)lrintf(x * inverse);
        rest = x - unit * (float)numbers[i];
        constant += scale * query[i] * levels->offset[i] + levels->middle[i] * rest;
        all += x * x;
        lost += rest * rest;
    }
    for (uint32_t i = levels->components; i < levels->depth; i++)
        numbers[i] = 0;
    return (struct sac_pq_level_query){unit, constant, lost <= LOST_MOST * all};
}
