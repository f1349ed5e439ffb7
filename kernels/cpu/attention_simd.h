/* attention_simd.h -- attention on registers of floats, for attention_<isa>.c. Twin: ref/attention.c.
 *
 * A task is one picture, one head and up to TASK_ROWS queries. It packs that head's k, transposed, and v as
 * f32 into scratch (about 100 KB at 197 tokens: second-level cache), then takes ROWS queries at a time: their
 * scores against all tokens stay in the first-level cache through softmax and the product with v. bf16 is
 * read and written as such and computed in f32. Bound by the multipliers. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd_math.h"

#include <assert.h>
#include <math.h>

enum {
    ROWS = 6,                         /* queries at a time: ROWS * COLUMNS sums, COLUMNS of k, one of q */
    COLUMNS = VF_LANES == 16 ? 4 : 2, /* registers side by side */
    TASK_ROWS = 22 * ROWS,
};

/* Sizes and places of a worker's part of the scratch, in floats. */
struct layout {
    uint32_t tokens, dim; /* kv_tokens and head_dim, rounded up to whole registers */
    size_t v, q, scores, y, total;
};

struct run {
    const struct sac_attention_args *args;
    struct layout at;
    float *scratch;
    uint32_t row_tasks; /* tasks of one head */
};

static uint32_t round_up(uint32_t x)
{
    return (x + VF_LANES - 1) / VF_LANES * VF_LANES;
}

static struct layout layout_of(const struct sac_attention_args *a)
{
    struct layout at = {.tokens = round_up(a->kv_tokens), .dim = round_up(a->head_dim)};

    at.v = (size_t)at.dim * at.tokens; /* after k */
    at.q = at.v + (size_t)at.tokens * at.dim;
    at.scores = at.q + (size_t)ROWS * at.dim;
    at.y = at.scores + (size_t)ROWS * at.tokens;
    at.total = at.y + (size_t)ROWS * at.dim;
    return at;
}

size_t VF_NAME(sac_attention_scratch)(const sac_device *d, const struct sac_attention_args *a)
{
    return sac_scratch_size(sac_scratch_size(layout_of(a).total, sizeof(float)), d->threads);
}

static vf load_any(const void *from, sac_dtype dtype, size_t at, vf_part part)
{
    return dtype == SAC_F32 ? vf_load_part((const float *)from + at, part)
                            : vf_load_part_bf16((const uint16_t *)from + at, part);
}

/* One token of one head as f32, zeros up to the whole register. */
static void read_token(const struct sac_attention_args *a, const void *from, size_t at, vf factor, float *to)
{
    for (uint32_t d = 0; d < a->head_dim; d += VF_LANES) {
        vf_part part = vf_first(a->head_dim - d < VF_LANES ? a->head_dim - d : VF_LANES);

        vf_store(to + d, vf_mul(load_any(from, a->dtype, at + d, part), factor));
    }
}

/* k[d][t] and v[t][d] of one head; zeros beyond. */
static void pack_head(const struct sac_attention_args *a, const struct layout *at, size_t kv_at,
                      float *scratch)
{
    float *k = scratch, *v = scratch + at->v;

    for (uint32_t t0 = 0; t0 < at->tokens; t0 += VF_LANES) {
        for (uint32_t t = t0; t < t0 + VF_LANES; t++) {
            float *row = v + (size_t)t * at->dim; /* borrowed: k passes through v's place */

            if (t < a->kv_tokens)
                read_token(a, a->k, kv_at + t * a->kv_stride, vf_set(1.0f), row);
            else
                for (uint32_t d = 0; d < at->dim; d++)
                    row[d] = 0.0f;
        }
        for (uint32_t d = 0; d < a->head_dim; d++)
            for (uint32_t t = 0; t < VF_LANES; t++)
                k[(size_t)d * at->tokens + t0 + t] = v[(size_t)(t0 + t) * at->dim + d];
    }
    for (uint32_t t = 0; t < a->kv_tokens; t++) /* rows beyond are zero already */
        read_token(a, a->v, kv_at + t * a->kv_stride, vf_set(1.0f), v + (size_t)t * at->dim);
}

/* to[r][j] = sum over i of left[r][i] right[i][j], for ROWS rows and `registers` registers from column 0 on.
 */
static inline void multiply_block(const float *left, size_t left_stride, const float *right,
                                  size_t right_stride, uint32_t inner, uint32_t registers, float *to,
                                  size_t to_stride)
{
    vf sums[ROWS][COLUMNS];

    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t c = 0; c < registers; c++)
            sums[r][c] = vf_set(0.0f);
    for (uint32_t i = 0; i < inner; i++) {
        vf row[COLUMNS];

        for (uint32_t c = 0; c < registers; c++)
            row[c] = vf_load(right + i * right_stride + c * VF_LANES);
        for (uint32_t r = 0; r < ROWS; r++) {
            vf x = vf_set(left[r * left_stride + i]);

            for (uint32_t c = 0; c < registers; c++)
                sums[r][c] = vf_fma(x, row[c], sums[r][c]);
        }
    }
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t c = 0; c < registers; c++)
            vf_store(to + r * to_stride + c * VF_LANES, sums[r][c]);
}

static void multiply(const float *left, size_t left_stride, const float *right, size_t right_stride,
                     uint32_t inner, uint32_t columns, float *to, size_t to_stride)
{
    uint32_t j = 0;

    for (; j + COLUMNS * VF_LANES <= columns; j += COLUMNS * VF_LANES)
        multiply_block(left, left_stride, right + j, right_stride, inner, COLUMNS, to + j, to_stride);
    for (; j < columns; j += VF_LANES)
        multiply_block(left, left_stride, right + j, right_stride, inner, 1, to + j, to_stride);
}

/* scores [tokens rounded up] -> e^(score - highest), 0 beyond; returns their sum. */
static float exponentials(float *scores, uint32_t tokens)
{
    vf highest = vf_set(-INFINITY), sum = vf_set(0.0f);

    for (uint32_t t = tokens; t % VF_LANES != 0; t++)
        scores[t] = -INFINITY;
    for (uint32_t t = 0; t < tokens; t += VF_LANES)
        highest = vf_max(highest, vf_load(scores + t));
    highest = vf_set(vf_highest(highest));
    for (uint32_t t = 0; t < tokens; t += VF_LANES) {
        vf e = vf_exp(vf_sub(vf_load(scores + t), highest));

        vf_store(scores + t, e);
        sum = vf_add(sum, e);
    }
    return vf_sum(sum);
}

static void write_row(const struct sac_attention_args *a, const float *y, float factor, size_t to)
{
    for (uint32_t d = 0; d < a->head_dim; d += VF_LANES) {
        vf_part part = vf_first(a->head_dim - d < VF_LANES ? a->head_dim - d : VF_LANES);
        vf value = vf_mul(vf_load(y + d), vf_set(factor));

        if (a->dtype == SAC_F32)
            vf_store_part((float *)a->y + to + d, value, part);
        else
            vf_store_part_bf16((uint16_t *)a->y + to + d, value, part);
    }
}

/* Queries [token, token + count), count <= ROWS, of picture and head. Rows that are not there repeat the
 * last. */
static void attend(const struct run *run, size_t picture, uint32_t head, uint32_t token, uint32_t count,
                   float *scratch)
{
    const struct sac_attention_args *a = run->args;
    const struct layout *at = &run->at;
    float *q = scratch + at->q, *scores = scratch + at->scores, *y = scratch + at->y, sums[ROWS];

    for (uint32_t r = 0; r < ROWS; r++) {
        size_t row = picture * a->q_tokens + token + (r < count ? r : count - 1);

        read_token(a, a->q, row * a->q_stride + (size_t)head * a->head_dim, vf_set(a->scale),
                   q + r * at->dim);
    }
    multiply(q, at->dim, scratch, at->tokens, a->head_dim, at->tokens, scores, at->tokens);
    for (uint32_t r = 0; r < ROWS; r++)
        sums[r] = exponentials(scores + (size_t)r * at->tokens, a->kv_tokens);
    multiply(scores, at->tokens, scratch + at->v, at->dim, a->kv_tokens, at->dim, y, at->dim);
    for (uint32_t r = 0; r < count; r++)
        write_row(a, y + r * at->dim, 1.0f / sums[r],
                  ((picture * a->q_tokens + token + r) * a->heads + head) * a->head_dim);
}

static void task_run(void *context, uint32_t task, uint32_t worker)
{
    const struct run *run = context;
    const struct sac_attention_args *a = run->args;
    float *scratch = run->scratch + worker * run->at.total;
    uint32_t head = task / run->row_tasks % a->heads, token = task % run->row_tasks * TASK_ROWS;
    size_t picture = task / run->row_tasks / a->heads;
    uint32_t end = a->q_tokens - token < TASK_ROWS ? a->q_tokens : token + TASK_ROWS;

    pack_head(a, &run->at, picture * a->kv_tokens * a->kv_stride + (size_t)head * a->head_dim, scratch);
    for (; token < end; token += ROWS)
        attend(run, picture, head, token, end - token < ROWS ? end - token : ROWS, scratch);
}

sac_status VF_NAME(sac_attention)(sac_stream *s, const struct sac_attention_args *a)
{
    struct run run = {.args = a, .at = layout_of(a), .row_tasks = (a->q_tokens + TASK_ROWS - 1) / TASK_ROWS};

    assert(a->kv_tokens > 0 && a->n * a->heads * run.row_tasks <= UINT32_MAX);
    run.at.total = sac_scratch_size(run.at.total, sizeof(float)) / sizeof(float);
    sac_scratch_reset(s);
    run.scratch = sac_scratch_take(s, s->device->threads, run.at.total * sizeof(float));
    if (run.scratch == NULL)
        return SAC_NO_MEMORY;
    sac_parallel_for(s, (uint32_t)a->n * a->heads * run.row_tasks, task_run, &run);
    return SAC_OK;
}
