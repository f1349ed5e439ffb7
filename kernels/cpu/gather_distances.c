/* Exact distances of chosen rows: re-ranking. Memory latency is the limit: rows lie anywhere, so each group's
 * lines are asked for while the group before is computed. Twin: ref/gather_distances.c. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

#include <assert.h>
#include <math.h>

enum {
    GROUP = 16,
    CACHE_LINE = 64,
    PREFETCH_LINES = 16,   /* of a row; the hardware follows from there */
    TASK_CANDIDATES = 128, /* of one query; also what makes a second thread worth waking */
};

struct gather {
    const struct sac_gather_distances_args *args;
    const struct sac_rows_kernels *kernels;
    uint32_t query_tasks; /* tasks that a query's places are cut into; those beyond its count do nothing */
};

/* Another row of the group stands in for UINT32_MAX; all are NULL where there is none. */
static void group_locate(const struct sac_gather_distances_args *a, const uint32_t *rows, uint32_t count,
                         const void **out)
{
    size_t row_bytes = sac_row_bytes(a->dtype, a->dim);
    const void *any = NULL;

    for (uint32_t i = 0; i < count; i++) {
        if (rows[i] == UINT32_MAX)
            continue;
        sac_rows_locate(a->pages, a->page_rows, row_bytes, rows[i], 1, &out[i]);
        any = out[i];
        for (size_t at = 0; at < row_bytes && at < PREFETCH_LINES * CACHE_LINE; at += CACHE_LINE)
            __builtin_prefetch((const char *)out[i] + at, 0, SAC_PREFETCH_L2);
    }
    for (uint32_t i = 0; i < count; i++)
        if (rows[i] == UINT32_MAX)
            out[i] = any;
}

/* `total` candidates of one query, from place `first` of the arrays on. */
static void part_compute(const struct gather *g, const float *query, size_t first, uint32_t total)
{
    const struct sac_gather_distances_args *a = g->args;
    const uint32_t *rows = a->rows + first;
    const void *located[2][GROUP];

    group_locate(a, rows, total < GROUP ? total : GROUP, located[0]);
    for (uint32_t i = 0; i < total; i += GROUP) {
        uint32_t count = total - i < GROUP ? total - i : GROUP;
        uint32_t next = total - i - count;
        float *out = a->out + first + i;

        group_locate(a, rows + i + count, next < GROUP ? next : GROUP, located[(i / GROUP + 1) % 2]);
        if (located[i / GROUP % 2][0] != NULL)
            g->kernels->distances(query, located[i / GROUP % 2], count, a->dim, a->dtype, a->distance, out);
        for (uint32_t j = 0; j < count; j++)
            if (rows[i + j] == UINT32_MAX)
                out[j] = INFINITY;
    }
}

static void gather_task(void *context, uint32_t task, uint32_t worker)
{
    const struct gather *g = context;
    const struct sac_gather_distances_args *a = g->args;
    size_t query = task / g->query_tasks;
    uint32_t first = task % g->query_tasks * TASK_CANDIDATES, count = a->counts[query];

    (void)worker;
    if (first >= count)
        return;
    part_compute(g, a->queries + query * a->dim, query * a->stride + first,
                 count - first < TASK_CANDIDATES ? count - first : TASK_CANDIDATES);
}

static sac_status gather_run(sac_stream *s, const struct sac_gather_distances_args *a,
                             const struct sac_rows_kernels *kernels)
{
    struct gather gather = {a, kernels, (a->stride + TASK_CANDIDATES - 1) / TASK_CANDIDATES};

    assert(a->query_count * gather.query_tasks <= UINT32_MAX);
    sac_parallel_for(s, (uint32_t)a->query_count * gather.query_tasks, gather_task, &gather);
    return SAC_OK;
}

sac_status sac_gather_distances_avx2(sac_stream *s, const struct sac_gather_distances_args *a)
{
    return gather_run(s, a, &sac_rows_avx2);
}

sac_status sac_gather_distances_avx512(sac_stream *s, const struct sac_gather_distances_args *a)
{
    return gather_run(s, a, &sac_rows_avx512);
}
