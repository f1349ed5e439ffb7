/* What products of rounded numbers may be off by. Let q be the scaled query's part for a sub-quantizer, r a
 * code word, q' and r' the same as bf16. Then <q, r> - <q', r'> = <q - q', r'> + <q, r - r'>, which is at
 * most |q - q'| |r'| + |q| |r - r'| by Cauchy and Schwarz. These lengths are computed, not estimated, with
 * the largest |r'| and |r - r'| of the code words in the place of each, and added up over the sub-quantizers.
 * With random numbers that is about half of the 2^-8 |q| |r| that the format guarantees.
 *
 * Sums in f32 add to that. Here and in the exact distance at most 2 depth + 7 additions or products of tables
 * are rounded, each to 2^-24 of a partial sum, and no partial sum is larger than |base| + |bias| + sum
 * |q||r|; and |bias| is at most the distance and the other two together. */
#include "kernels/cpu/pq_scan_words.h"

#include "kernels/half.h"

#include <float.h>
#include <math.h>
#include <string.h>

struct sac_pq_words sac_pq_words_of(const sac_pq_shape *pq)
{
    struct sac_pq_words words = {.bytes = (uint32_t)sac_pq_code_bytes(pq->m, pq->nbits),
                                 .count = pq->nbits == 4 ? 256 : 1u << pq->nbits,
                                 .pairs = pq->nbits == 4 ? pq->dsub : (pq->dsub + 1) / 2};

    words.depth = (words.bytes * words.pairs * 2 + SAC_TILE_DEPTH - 1) / SAC_TILE_DEPTH * SAC_TILE_DEPTH;
    return words;
}

size_t sac_pq_words_count(const struct sac_pq_words *words)
{
    return (size_t)words->bytes * words->pairs * words->count * 2;
}

/* Tiles take denormal numbers for 0. */
static uint16_t round_number(float x)
{
    return fabsf(x) < FLT_MIN ? 0 : sac_f32_to_bf16(x);
}

static struct sac_pq_reach reach_of(const float *codewords, uint32_t count, uint32_t dsub)
{
    struct sac_pq_reach reach = {0.0f, 0.0f};

    for (uint32_t c = 0; c < count; c++) {
        float length = 0.0f, lost = 0.0f;

        for (uint32_t d = 0; d < dsub; d++) {
            float x = codewords[(size_t)c * dsub + d], rest = x - sac_bf16_to_f32(round_number(x));

            length += x * x;
            lost += rest * rest;
        }
        reach.length = length > reach.length || isnan(length) ? length : reach.length;
        reach.lost = lost > reach.lost || isnan(lost) ? lost : reach.lost;
    }
    reach.lost = sqrtf(reach.lost);
    reach.length = sqrtf(reach.length) + reach.lost; /* of rounded code words too */
    return reach;
}

/* Sub-quantizer j's components of byte b, which come after the `first` of another. */
static void place(const sac_pq_shape *pq, const float *codebook, const struct sac_pq_words *words, uint32_t b,
                  uint32_t j, uint32_t first)
{
    uint32_t group = words->pairs % 2 == 0 ? 2 : 1; /* pairs that lie side by side */
    uint16_t *numbers = words->numbers + (size_t)b * words->pairs * words->count * 2;

    for (uint32_t d = 0; d < pq->dsub; d++) {
        uint32_t pair = (first + d) / 2, half = (first + d) % 2;
        uint16_t *to = numbers + (size_t)(pair / group) * words->count * 2 * group + pair % group * 2 + half;

        for (uint32_t value = 0; value < words->count; value++) {
            uint32_t code = pq->nbits == 4 ? value >> j % 2 * 4 & 0xf : value;

            to[(size_t)value * 2 * group] =
                round_number(codebook[(((size_t)j << pq->nbits) + code) * pq->dsub + d]);
        }
    }
}

void sac_pq_words_round(const sac_pq_shape *pq, const float *codebook, const struct sac_pq_words *words,
                        uint32_t b, struct sac_pq_reach *reaches)
{
    uint32_t each = pq->nbits == 4 ? 2 : 1;
    size_t numbers = (size_t)words->pairs * words->count * 2;

    memset(words->numbers + b * numbers, 0, numbers * sizeof *words->numbers);
    for (uint32_t i = 0; i < each && b * each + i < pq->m; i++) {
        uint32_t j = b * each + i;

        reaches[j] = reach_of(codebook + ((size_t)j << pq->nbits) * pq->dsub, 1u << pq->nbits, pq->dsub);
        place(pq, codebook, words, b, j, i * pq->dsub);
    }
}

struct sac_pq_error sac_pq_words_query(const sac_pq_shape *pq, const struct sac_pq_words *words,
                                       const struct sac_pq_reach *reaches, const float *query, float scale,
                                       float base, uint16_t *numbers)
{
    uint32_t each = pq->nbits == 4 ? 2 : 1;
    float rounding = 5.0f * (float)(words->depth + 8) * 0x1p-24f, size = base, off = 0.0f;

    memset(numbers, 0, words->depth * sizeof *numbers);
    for (uint32_t j = 0; j < pq->m; j++) {
        uint16_t *to = numbers + (size_t)(j / each) * words->pairs * 2 + j % each * pq->dsub;
        float length = 0.0f, lost = 0.0f;

        for (uint32_t d = 0; d < pq->dsub; d++) {
            float x = scale * query[(size_t)j * pq->dsub + d], rest;

            to[d] = round_number(x);
            rest = x - sac_bf16_to_f32(to[d]);
            length += x * x;
            lost += rest * rest;
        }
        length = sqrtf(length);
        lost = sqrtf(lost);
        size += (length + lost) * reaches[j].length;
        off += lost * reaches[j].length + length * reaches[j].lost;
    }
    /* A thousandth for the rounding of these sums; the rest for numbers and sums that count as 0. */
    return (struct sac_pq_error){2.0f * (1.001f * off + rounding * size + 1e-30f), rounding};
}
