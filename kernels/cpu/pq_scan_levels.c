/* What products of whole numbers may be off by. Component i of a code word r is offset_i + step_i * level_i
 * up to lost_i, of a query q scale * q_i * step_i = unit * number_i up to rest_i. Then scale * <q, r> -
 * constant - unit * sum number_i * level_i,    constant = scale * sum q_i * offset_i, is at most sum |scale *
 * q_i| * lost_i + 255 * |rest_i|. These sums are computed, not estimated. A number has 15 bits, and codebooks
 * are trained on the grid of 255 steps (engine/pq.c), which leaves next to nothing to lost_i; one that is not
 * is off by more, and more rows are looked at.
 *
 * Sums in f32 add to that. Here and in the exact distance at most 2 depth + 7 additions or products of tables
 * are rounded, each to 2^-24 of a partial sum, and no partial sum is larger than |base| + |bias| +
 * sum |scale * q_i * offset_i| + 255 * |scale * q_i * step_i|; and |bias| is at most the distance and the
 * others together. */
#include "kernels/cpu/pq_scan_levels.h"

#include <math.h>
#include <string.h>

enum { LEVELS = 255, NUMBER_MOST = 127 * SAC_TILE_HIGH + SAC_TILE_HIGH / 2 - 1 };

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
    uint8_t *table = levels->table + (size_t)i * SAC_TILE_VALUES;
    float low = codewords[d], high = low, lost = 0.0f, step;

    for (uint32_t c = 1; c < count; c++) {
        low = fminf(low, codewords[(size_t)c * pq->dsub + d]);
        high = fmaxf(high, codewords[(size_t)c * pq->dsub + d]);
    }
    step = (high - low) / (float)LEVELS;
    for (uint32_t value = 0; value < SAC_TILE_VALUES; value++) {
        uint32_t code = pq->nbits == 4 ? value >> j % 2 * 4 & 0xf : value % count;
        float x = codewords[(size_t)code * pq->dsub + d];

        table[value] = step > 0.0f ? (uint8_t)lrintf(fminf((x - low) / step, (float)LEVELS)) : 0;
        lost = fmaxf(lost, fabsf(x - (low + step * (float)table[value])));
    }
    levels->offset[i] = low;
    levels->step[i] = step;
    levels->lost[i] = lost + 0x1p-22f * (fabsf(low) + fabsf(high)); /* of the sums here */
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
                                              float scale, float base, int8_t *numbers)
{
    float largest = 0.0f, constant = 0.0f, size = base, off = 0.0f, rests = 0.0f, unit, inverse;
    float rounding = 5.0f * (float)(levels->depth + 8) * 0x1p-24f;

    for (uint32_t i = 0; i < levels->components; i++) {
        float x = scale * query[i];

        constant += x * levels->offset[i];
        size += fabsf(x * levels->offset[i]) + (float)LEVELS * fabsf(x * levels->step[i]);
        off += fabsf(x) * levels->lost[i];
        largest = fabsf(x * levels->step[i]) > largest ? fabsf(x * levels->step[i]) : largest;
    }
    unit = largest / (float)NUMBER_MOST;
    inverse = unit > 0.0f ? 1.0f / unit : 0.0f;
    if (!isfinite(inverse))
        unit = inverse = 0.0f;
    memset(numbers, 0, 2 * (size_t)levels->depth);
    for (uint32_t i = 0; i < levels->components; i++) {
        float x = scale * query[i] * levels->step[i];
        int32_t number = (int32_t)lrintf(x * inverse);
        int32_t high = (number + SAC_TILE_HIGH / 2) >> 7;

        numbers[i] = (int8_t)high;
        numbers[levels->depth + i] = (int8_t)(number - high * SAC_TILE_HIGH);
        rests += fabsf(x - unit * (float)number);
    }
    /* A thousandth for the rounding of these sums; the rest for numbers and sums that count as 0. */
    off = 1.001f * (off + (float)LEVELS * rests);
    return (struct sac_pq_level_query){unit, constant, {2.0f * (off + rounding * size + 1e-30f), rounding}};
}
