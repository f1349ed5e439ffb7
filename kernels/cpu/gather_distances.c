/* Exact distances of chosen rows: re-ranking. Memory latency is the limit: rows lie anywhere, so each group's
 * lines are asked for while the group before is computed. Twin: ref/gather_distances.c. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

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
};

/* Where the candidates of one task are. */
struct part {
    size_t query, first;
    uint32_t count;
};

/* UINT32_MAX stands in as the query itself would: any readable address. */
static void group_locate(const struct sac_gather_distances_args *a, const uint32_t *rows, uint32_t count,
                         const void *instead, const void **out)
{
    size_t row_bytes = sac_row_bytes(a->dim, a->dtype);

    for (uint32_t i = 0; i < count; i++) {
        if (rows[i] == UINT32_MAX)
            out[i] = instead;
        else
            sac_rows_locate(a->pages, a->page_rows, row_bytes, rows[i], 1, &out[i]);
        for (size_t at = 0; at < row_bytes && at < PREFETCH_LINES * CACHE_LINE; at += CACHE_LINE)
            __builtin_prefetch((const char *)out[i] + at);
    }
}

static void part_compute(const struct gather *g, const struct part *part)
{
    const struct sac_gather_distances_args *a = g->args;
    const uint32_t *rows = a->rows + part->first;
    const float *query = a->queries + part->query * a->dim;
    const void *located[2][GROUP];

    group_locate(a, rows, part->count < GROUP ? part->count : GROUP, query, located[0]);
    for (uint32_t i = 0; i < part->count; i += GROUP) {
        uint32_t count = part->count - i < GROUP ? part->count - i : GROUP;
        uint32_t next = part->count - i - count;
        float *out = a->out + part->first + i;

        group_locate(a, rows + i + count, next < GROUP ? next : GROUP, query, located[(i / GROUP + 1) % 2]);
        g->kernels->distances(query, located[i / GROUP % 2], count, a->dim, a->dtype, a->distance, out);
        for (uint32_t j = 0; j < count; j++)
            if (rows[i + j] == UINT32_MAX)
                out[j] = INFINITY;
    }
}

static uint32_t tasks_of(uint32_t count)
{
    return (count + TASK_CANDIDATES - 1) / TASK_CANDIDATES;
}

/* Finds the part by walking the counts: a few thousand additions at most, against thousands of distances. */
static void gather_task(void *context, uint32_t task, uint32_t worker)
{
    const struct gather *g = context;
    struct part part = {0, 0, 0};
    uint32_t first;

    (void)worker;
    for (; task >= tasks_of(g->args->counts[part.query]); part.query++) {
        task -= tasks_of(g->args->counts[part.query]);
        part.first += g->args->counts[part.query];
    }
    first = task * TASK_CANDIDATES;
    part.count = g->args->counts[part.query] - first;
    if (part.count > TASK_CANDIDATES)
        part.count = TASK_CANDIDATES;
    part.first += first;
    part_compute(g, &part);
}

static sac_status gather_run(sac_stream *s, const struct sac_gather_distances_args *a,
                             const struct sac_rows_kernels *kernels)
{
    struct gather gather = {a, kernels};
    uint32_t tasks = 0;

    for (size_t q = 0; q < a->query_count; q++)
        tasks += tasks_of(a->counts[q]);
    sac_parallel_for(s, tasks, gather_task, &gather);
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
