/* attention_amx.c -- attention in bf16 on matrix tiles (AMX). Twin: ref/attention.c.
 *
 * A task is one picture, one head and up to TASK_ROWS queries. k and v are packed once per task in the layout
 * that the tile product wants of its right side: pairs of the inner dimension side by side, rows of 16
 * columns. Then ROWS queries at a time: scores by tiles into the first-level cache as f32, softmax there,
 * probabilities as bf16, and tiles again for the product with v. e^x is 2^t with a cubic for the fraction
 * (1e-4 relative: the probabilities are rounded to 2^-9 right after). Bound by those exponentials, not by the
 * tiles.
 *
 * Tiles are 16 rows of 64 bytes throughout; 0-3 sums, 4-5 left, 6-7 right. */
#include "kernels/cpu/amx.h"
#include "kernels/cpu/cpu.h"

#include <assert.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>

enum {
    TILE = 16,      /* rows of a tile, and f32 columns */
    TILE_PAIR = 32, /* bf16 columns of a tile */
    ROWS = 2 * TILE,
    TASK_ROWS = 4 * ROWS,
};

/* Sizes and places of a worker's part of the scratch, in bytes. */
struct layout {
    uint32_t tokens, dim; /* kv_tokens and head_dim, rounded up to whole pairs of tiles */
    size_t v, q, scores, probabilities, y, total;
};

struct run {
    const struct sac_attention_args *args;
    struct layout at;
    unsigned char *scratch;
    uint32_t row_tasks; /* tasks of one head */
};

static struct layout layout_of(const struct sac_attention_args *a)
{
    struct layout at = {.tokens = (a->kv_tokens + TILE_PAIR - 1) / TILE_PAIR * TILE_PAIR,
                        .dim = (a->head_dim + TILE_PAIR - 1) / TILE_PAIR * TILE_PAIR};
    size_t head = (size_t)at.tokens * at.dim * sizeof(uint16_t);

    at.v = head; /* after k */
    at.q = at.v + head;
    at.scores = at.q + (size_t)ROWS * at.dim * sizeof(uint16_t);
    at.probabilities = at.scores + (size_t)ROWS * at.tokens * sizeof(float);
    at.y = at.probabilities + (size_t)ROWS * at.tokens * sizeof(uint16_t);
    at.total = at.y + (size_t)ROWS * at.dim * sizeof(float);
    return at;
}

size_t sac_attention_scratch_amx(const sac_device *d, const struct sac_attention_args *a)
{
    if (a->dtype != SAC_BF16)
        return sac_attention_scratch_avx512(d, a);
    return sac_scratch_size(sac_scratch_size(layout_of(a).total, 1), d->threads);
}

/* ---- packing ---------------------------------------------------------------------------------------- */

/* Up to 32 numbers of a row from column d on, zeros beyond the head. */
static __m512i load_pairs(const uint16_t *row, uint32_t d, uint32_t head_dim)
{
    uint32_t left = head_dim > d ? head_dim - d : 0;
    __mmask32 mask = left >= 32 ? 0xffffffffu : (1u << left) - 1u;

    return _mm512_maskz_loadu_epi16(mask, row + d);
}

/* k: tile (d / 32, t / 16), its row p the pair 2p, 2p + 1 of 16 tokens. */
static void pack_k(const struct sac_attention_args *a, const struct layout *at, const uint16_t *k,
                   uint16_t *to)
{
    for (uint32_t t = 0; t < at->tokens; t += TILE)
        for (uint32_t d = 0; d < at->dim; d += TILE_PAIR) {
            uint16_t *tile =
                to + ((size_t)(d / TILE_PAIR) * (at->tokens / TILE) + t / TILE) * (TILE * TILE_PAIR);
            __m512i rows[TILE];

            for (uint32_t i = 0; i < TILE; i++)
                rows[i] = t + i < a->kv_tokens
                              ? load_pairs(k + (size_t)(t + i) * a->kv_stride, d, a->head_dim)
                              : _mm512_setzero_si512();
            sac_amx_transpose(rows);
            for (uint32_t i = 0; i < TILE; i++)
                _mm512_store_si512(tile + i * TILE_PAIR, rows[i]);
        }
}

/* v: tile (t / 32, d / 16), its row p the tokens 2p and 2p + 1 at 16 columns. */
static void pack_v(const struct sac_attention_args *a, const struct layout *at, const uint16_t *v,
                   uint16_t *to)
{
    const __m512i interleave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                                23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);

    for (uint32_t t = 0; t < at->tokens; t += 2)
        for (uint32_t d = 0; d < at->dim; d += TILE_PAIR) {
            const uint16_t *row = v + (size_t)t * a->kv_stride;
            __m512i even = t < a->kv_tokens ? load_pairs(row, d, a->head_dim) : _mm512_setzero_si512();
            __m512i odd = t + 1 < a->kv_tokens ? load_pairs(row + a->kv_stride, d, a->head_dim)
                                               : _mm512_setzero_si512();
            uint16_t *tile = to +
                             ((size_t)(t / TILE_PAIR) * (at->dim / TILE) + d / TILE) * (TILE * TILE_PAIR) +
                             (size_t)(t % TILE_PAIR / 2) * TILE_PAIR;
            __m512i low = _mm512_inserti64x4(even, _mm512_castsi512_si256(odd), 1);
            __m512i high = _mm512_inserti64x4(odd, _mm512_extracti64x4_epi64(even, 1), 0);

            _mm512_store_si512(tile, _mm512_permutexvar_epi16(interleave, low));
            _mm512_store_si512(tile + TILE * TILE_PAIR, _mm512_permutexvar_epi16(interleave, high));
        }
}

/* ---- products --------------------------------------------------------------------------------------- */

static void configure_tiles(void)
{
    const uint8_t rows[8] = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE};

    sac_amx_configure(rows);
}

/* to [ROWS][columns] = left [ROWS][inner] right, right in tiles (inner / 32, columns / 16); inner and columns
 * are multiples of 32. */
static void multiply(const uint16_t *left, const uint16_t *right, uint32_t inner, uint32_t columns, float *to)
{
    const size_t tile = (size_t)TILE * TILE_PAIR, right_row = tile * (columns / TILE);

    for (uint32_t j = 0; j < columns; j += 2 * TILE) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (uint32_t i = 0; i < inner; i += TILE_PAIR) {
            const uint16_t *r = right + i / TILE_PAIR * right_row + j / TILE * tile;

            _tile_loadd(6, r, 64);
            _tile_loadd(7, r + tile, 64);
            _tile_loadd(4, left + i, inner * sizeof(uint16_t));
            _tile_loadd(5, left + i + (size_t)TILE * inner, inner * sizeof(uint16_t));
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, to + j, columns * sizeof(float));
        _tile_stored(1, to + j + TILE, columns * sizeof(float));
        _tile_stored(2, to + j + (size_t)TILE * columns, columns * sizeof(float));
        _tile_stored(3, to + j + TILE + (size_t)TILE * columns, columns * sizeof(float));
    }
}

/* ---- softmax ---------------------------------------------------------------------------------------- */

/* 2^t for t <= 0: whole part by the exponent, fraction by a cubic fitted on 0..1 (relative error 7.5e-5). */
static __m512 power_of_two(__m512 t)
{
    __m512 f = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 p = _mm512_set1_ps(0.0780245f);

    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.2260672f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.6958335f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.9999252f));
    return _mm512_scalef_ps(p, t);
}

/* scores [tokens rounded up] -> unnormalised probabilities as bf16, 0 beyond the tokens; returns their sum.
 */
static float exponentials(float *scores, uint32_t tokens, uint32_t padded, float scale, uint16_t *to)
{
    const __m512 factor = _mm512_set1_ps(scale * 1.44269504f);
    __m512 highest = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();

    for (uint32_t t = tokens; t < padded; t++)
        scores[t] = -INFINITY;
    for (uint32_t t = 0; t < padded; t += TILE)
        highest = _mm512_max_ps(highest, _mm512_load_ps(scores + t));
    highest = _mm512_set1_ps(_mm512_reduce_max_ps(highest));
    for (uint32_t t = 0; t < padded; t += 2 * TILE) {
        /* The difference first: of large scores a product's rounding alone is more than an exponent holds. */
        __m512 below_a = _mm512_sub_ps(_mm512_load_ps(scores + t), highest);
        __m512 below_b = _mm512_sub_ps(_mm512_load_ps(scores + t + TILE), highest);
        __m512 a = power_of_two(_mm512_mul_ps(below_a, factor));
        __m512 b = power_of_two(_mm512_mul_ps(below_b, factor));

        sum = _mm512_add_ps(sum, _mm512_add_ps(a, b));
        _mm512_store_si512(to + t, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
    return _mm512_reduce_add_ps(sum);
}

/* ---- attention -------------------------------------------------------------------------------------- */

static void write_row(const float *y, float factor, uint32_t head_dim, uint16_t *to)
{
    for (uint32_t d = 0; d < head_dim; d += TILE) {
        __mmask16 mask = head_dim - d >= TILE ? 0xffff : (__mmask16)((1u << (head_dim - d)) - 1u);
        __m512 scaled = _mm512_mul_ps(_mm512_load_ps(y + d), _mm512_set1_ps(factor));

        _mm256_mask_storeu_epi16(to + d, mask, (__m256i)_mm512_cvtneps_pbh(scaled));
    }
}

/* Queries [token, token + count), count <= ROWS, of picture and head. Rows that are not there repeat the
 * last. */
static void attend(const struct run *run, size_t picture, uint32_t head, uint32_t token, uint32_t count,
                   unsigned char *scratch)
{
    const struct sac_attention_args *a = run->args;
    const struct layout *at = &run->at;
    const uint16_t *k = (uint16_t *)scratch, *v = (uint16_t *)(scratch + at->v);
    uint16_t *q = (uint16_t *)(scratch + at->q), *p = (uint16_t *)(scratch + at->probabilities);
    float *scores = (float *)(scratch + at->scores), *y = (float *)(scratch + at->y), sums[ROWS];

    for (uint32_t r = 0; r < ROWS; r++) {
        size_t row = picture * a->q_tokens + token + (r < count ? r : count - 1);
        const uint16_t *from = (const uint16_t *)a->q + row * a->q_stride + (size_t)head * a->head_dim;

        for (uint32_t d = 0; d < at->dim; d += TILE_PAIR)
            _mm512_store_si512(q + (size_t)r * at->dim + d, load_pairs(from, d, a->head_dim));
    }
    multiply(q, k, at->dim, at->tokens, scores);
    for (uint32_t r = 0; r < ROWS; r++)
        sums[r] = exponentials(scores + (size_t)r * at->tokens, a->kv_tokens, at->tokens, a->scale,
                               p + (size_t)r * at->tokens);
    multiply(p, v, at->tokens, at->dim, y);
    for (uint32_t r = 0; r < count; r++)
        write_row(y + (size_t)r * at->dim, 1.0f / sums[r], a->head_dim,
                  (uint16_t *)a->y + ((picture * a->q_tokens + token + r) * a->heads + head) * a->head_dim);
}

static void task_run(void *context, uint32_t task, uint32_t worker)
{
    const struct run *run = context;
    const struct sac_attention_args *a = run->args;
    unsigned char *scratch = run->scratch + worker * run->at.total;
    uint32_t head = task / run->row_tasks % a->heads, token = task % run->row_tasks * TASK_ROWS;
    size_t picture = task / run->row_tasks / a->heads;
    size_t kv_at = picture * a->kv_tokens * a->kv_stride + (size_t)head * a->head_dim;
    uint32_t end = a->q_tokens - token < TASK_ROWS ? a->q_tokens : token + TASK_ROWS;

    pack_k(a, &run->at, (const uint16_t *)a->k + kv_at, (uint16_t *)scratch);
    pack_v(a, &run->at, (const uint16_t *)a->v + kv_at, (uint16_t *)(scratch + run->at.v));
    configure_tiles();
    for (; token < end; token += ROWS)
        attend(run, picture, head, token, end - token < ROWS ? end - token : ROWS, scratch);
    _tile_release();
}

sac_status sac_attention_amx(sac_stream *s, const struct sac_attention_args *a)
{
    struct run run = {.args = a, .at = layout_of(a), .row_tasks = (a->q_tokens + TASK_ROWS - 1) / TASK_ROWS};

    if (a->dtype != SAC_BF16)
        return sac_attention_avx512(s, a);
    assert(a->kv_tokens > 0 && a->n * a->heads * run.row_tasks <= UINT32_MAX);
    run.at.total = sac_scratch_size(run.at.total, 1);
    sac_scratch_reset(s);
    run.scratch = sac_scratch_take(s, s->device->threads, run.at.total);
    if (run.scratch == NULL)
        return SAC_NO_MEMORY;
    sac_parallel_for(s, (uint32_t)a->n * a->heads * run.row_tasks, task_run, &run);
    return SAC_OK;
}
