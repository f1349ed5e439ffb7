/* Sums of the rows of each cluster. Work is split by columns, so every sum is added in the order of the rows,
 * as the twin does (ref/cluster_sums.c), whatever the number of threads. Floor: reading the rows once. */
#include "kernels/cpu/cpu.h"

#include <string.h>

enum { COLUMNS_MIN = 16 }; /* a cache line: narrower slices would read lines twice */

struct cluster_sums {
    const struct sac_cluster_sums_args *args;
    uint32_t columns; /* of a task */
};

static void sums_task(void *context, uint32_t task, uint32_t worker)
{
    const struct cluster_sums *c = context;
    const struct sac_cluster_sums_args *a = c->args;
    uint32_t first = task * c->columns, columns = a->dim - first < c->columns ? a->dim - first : c->columns;

    (void)worker;
    for (uint32_t i = 0; i < a->k; i++)
        memset(a->sums + (size_t)i * a->dim + first, 0, columns * sizeof *a->sums);
    if (task == 0)
        memset(a->counts, 0, a->k * sizeof *a->counts);
    for (size_t i = 0; i < a->n; i++) {
        float *restrict sum = a->sums + (size_t)a->index[i] * a->dim + first;
        const float *restrict x = a->x + i * a->dim + first;

        for (uint32_t d = 0; d < columns; d++)
            sum[d] += x[d];
        if (task == 0)
            a->counts[a->index[i]]++;
    }
}

sac_status sac_cluster_sums_avx2(sac_stream *s, const struct sac_cluster_sums_args *a)
{
    struct cluster_sums sums = {.args = a};
    uint32_t threads = s->device->threads;

    sums.columns = ((a->dim + threads - 1) / threads + COLUMNS_MIN - 1) / COLUMNS_MIN * COLUMNS_MIN;
    sac_parallel_for(s, (a->dim + sums.columns - 1) / sums.columns, sums_task, &sums);
    return SAC_OK;
}
