/* Squared norms as distances to the zero vector, many rows at a time. Twin: ref/norms.c. Floor: reading the
 * rows. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

enum { TASK_ROWS = 1024, GROUP = 64, PIECE = 1024 /* components a pass */ };

struct norms {
    const struct sac_norms_args *args;
    const struct sac_rows_kernels *kernels;
};

static void group_compute(const struct norms *n, size_t first, uint32_t count)
{
    static const float zeros[PIECE];
    const struct sac_norms_args *a = n->args;
    const void *rows[GROUP];
    float sums[GROUP];

    for (uint32_t d = 0; d < a->dim; d += PIECE) {
        for (uint32_t i = 0; i < count; i++)
            rows[i] = a->x + (first + i) * a->dim + d;
        n->kernels->distances(zeros, rows, count, a->dim - d < PIECE ? a->dim - d : PIECE, SAC_F32,
                              SAC_DISTANCE_L2SQ, sums);
        for (uint32_t i = 0; i < count; i++)
            a->out[first + i] = sums[i] + (d > 0 ? a->out[first + i] : 0.0f);
    }
}

static void norms_task(void *context, uint32_t task, uint32_t worker)
{
    const struct norms *n = context;
    size_t end = (size_t)(task + 1) * TASK_ROWS;

    (void)worker;
    end = end < n->args->n ? end : n->args->n;
    for (size_t first = (size_t)task * TASK_ROWS; first < end; first += GROUP)
        group_compute(n, first, end - first < GROUP ? (uint32_t)(end - first) : GROUP);
}

static sac_status norms_run(sac_stream *s, const struct sac_norms_args *a,
                            const struct sac_rows_kernels *kernels)
{
    struct norms norms = {a, kernels};

    sac_parallel_for(s, (uint32_t)((a->n + TASK_ROWS - 1) / TASK_ROWS), norms_task, &norms);
    return SAC_OK;
}

sac_status sac_norms_avx2(sac_stream *s, const struct sac_norms_args *a)
{
    return norms_run(s, a, &sac_rows_avx2);
}

sac_status sac_norms_avx512(sac_stream *s, const struct sac_norms_args *a)
{
    return norms_run(s, a, &sac_rows_avx512);
}
