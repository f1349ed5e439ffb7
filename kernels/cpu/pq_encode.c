/* Codes of many rows: the codebook is transposed once, so that a register holds one component of many
 * codewords and short sub-vectors waste no lanes. Twin: ref/pq_encode.c. Floor: 2^nbits * dim subtractions
 * and FMA a row. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/pq.h"

#include <assert.h>
#include <string.h>

enum { TASK_ROWS = 64, NORM_ROWS = 16 /* whose norms are computed together */ };

struct worker {
    float *residual; /* [TASK_ROWS][dim] */
    float *decoded;  /* [NORM_ROWS][dim] */
};

struct encode {
    const struct sac_pq_encode_args *args;
    const struct sac_pq_kernels *kernels;
    float *codewords; /* [m][dsub][2^nbits] */
    float *zeros;     /* [dim] */
    struct worker *workers;
};

size_t sac_pq_encode_scratch_cpu(const sac_device *d, const struct sac_pq_encode_args *a)
{
    size_t dim = (size_t)a->pq.m * a->pq.dsub;

    return sac_scratch_size(dim << a->pq.nbits, sizeof(float)) + sac_scratch_size(dim, sizeof(float)) +
           sac_scratch_size(d->threads, sizeof(struct worker)) +
           d->threads * (sac_scratch_size(TASK_ROWS * dim, sizeof(float)) +
                         sac_scratch_size(NORM_ROWS * dim, sizeof(float)));
}

static bool workspace_take(sac_stream *s, struct encode *e)
{
    size_t dim = (size_t)e->args->pq.m * e->args->pq.dsub;

    e->codewords = sac_scratch_take(s, dim << e->args->pq.nbits, sizeof(float));
    e->zeros = sac_scratch_take(s, dim, sizeof *e->zeros);
    e->workers = sac_scratch_take(s, s->device->threads, sizeof *e->workers);
    if (e->codewords == NULL || e->zeros == NULL || e->workers == NULL)
        return false;
    memset(e->zeros, 0, dim * sizeof *e->zeros);
    for (uint32_t i = 0; i < s->device->threads; i++) {
        struct worker *w = &e->workers[i];

        w->residual = sac_scratch_take(s, TASK_ROWS * dim, sizeof(float));
        w->decoded = sac_scratch_take(s, NORM_ROWS * dim, sizeof(float));
        if (w->residual == NULL || w->decoded == NULL)
            return false;
    }
    return true;
}

static void transpose_task(void *context, uint32_t task, uint32_t worker)
{
    const struct encode *e = context;
    uint32_t dsub = e->args->pq.dsub, count = 1u << e->args->pq.nbits;
    const float *from = e->args->codebook + (size_t)task * count * dsub;
    float *to = e->codewords + (size_t)task * count * dsub;

    (void)worker;
    for (uint32_t c = 0; c < count; c++)
        for (uint32_t d = 0; d < dsub; d++)
            to[(size_t)d * count + c] = from[(size_t)c * dsub + d];
}

static const float *residuals(const struct encode *e, struct worker *w, size_t first, uint32_t rows)
{
    const struct sac_pq_encode_args *a = e->args;
    size_t dim = (size_t)a->pq.m * a->pq.dsub;

    if (a->centroids == NULL)
        return a->x + first * dim;
    for (uint32_t i = 0; i < rows; i++) {
        const float *x = a->x + (first + i) * dim, *c = a->centroids + a->index[first + i] * dim;

        for (size_t d = 0; d < dim; d++)
            w->residual[i * dim + d] = x[d] - c[d];
    }
    return w->residual;
}

/* Centroid + decoded residual of one row. */
static void decode(const struct encode *e, size_t row, float *restrict to)
{
    const struct sac_pq_encode_args *a = e->args;
    uint32_t m = a->pq.m, dsub = a->pq.dsub;
    const float *centroid = a->centroids != NULL ? a->centroids + (size_t)a->index[row] * m * dsub : e->zeros;

    for (uint32_t j = 0; j < m; j++, centroid += dsub, to += dsub) {
        const float *word = a->codebook + (((size_t)j << a->pq.nbits) + a->codes[row * m + j]) * dsub;

        for (uint32_t d = 0; d < dsub; d++)
            to[d] = word[d] + centroid[d];
    }
}

/* Norms of up to NORM_ROWS rows, as their distances from 0. */
static void decoded_norms(const struct encode *e, struct worker *w, size_t first, uint32_t count)
{
    const struct sac_pq_encode_args *a = e->args;
    size_t dim = (size_t)a->pq.m * a->pq.dsub;
    const void *rows[NORM_ROWS];

    for (uint32_t i = 0; i < count; i++) {
        decode(e, first + i, w->decoded + i * dim);
        rows[i] = w->decoded + i * dim;
    }
    e->kernels->rows->distances(e->zeros, rows, count, (uint32_t)dim, SAC_F32, SAC_DISTANCE_L2SQ,
                                a->norms + first);
}

static void encode_task(void *context, uint32_t task, uint32_t worker)
{
    const struct encode *e = context;
    const struct sac_pq_encode_args *a = e->args;
    struct worker *w = &e->workers[worker];
    uint32_t m = a->pq.m, dsub = a->pq.dsub, count = 1u << a->pq.nbits;
    size_t first = (size_t)task * TASK_ROWS, dim = (size_t)m * dsub;
    uint32_t rows = a->n - first < TASK_ROWS ? (uint32_t)(a->n - first) : TASK_ROWS;
    const float *x = residuals(e, w, first, rows);

    for (uint32_t j = 0; j < m; j++)
        e->kernels->encode(e->codewords + (size_t)j * count * dsub, count, dsub, x + (size_t)j * dsub, dim,
                           rows, a->codes + first * m + j, m);
    for (uint32_t i = 0; a->norms != NULL && i < rows; i += NORM_ROWS)
        decoded_norms(e, w, first + i, rows - i < NORM_ROWS ? rows - i : NORM_ROWS);
}

static sac_status encode_run(sac_stream *s, const struct sac_pq_encode_args *a,
                             const struct sac_pq_kernels *kernels)
{
    struct encode encode = {.args = a, .kernels = kernels};

    assert((a->centroids == NULL) == (a->index == NULL));
    if (a->n == 0)
        return SAC_OK;
    sac_scratch_reset(s);
    if (!workspace_take(s, &encode))
        return SAC_NO_MEMORY;
    sac_parallel_for(s, a->pq.m, transpose_task, &encode);
    sac_parallel_for(s, (uint32_t)((a->n + TASK_ROWS - 1) / TASK_ROWS), encode_task, &encode);
    return SAC_OK;
}

sac_status sac_pq_encode_avx2(sac_stream *s, const struct sac_pq_encode_args *a)
{
    return encode_run(s, a, &sac_pq_avx2);
}

sac_status sac_pq_encode_avx512(sac_stream *s, const struct sac_pq_encode_args *a)
{
    return encode_run(s, a, &sac_pq_avx512);
}
