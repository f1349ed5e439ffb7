/* unit_rows.c -- the twin, some rows a task, with LANES sums side by side that the compiler keeps in vectors:
 * otherwise each addition would wait for the one before it. */
#include "kernels/cpu/cpu.h"

#include <math.h>

enum { LANES = 8, TASK_ELEMENTS = 32768 };

struct run {
    const struct sac_unit_rows_args *args;
    size_t task_rows;
};

static double squares(const float *row, uint32_t width)
{
    double sums[LANES] = {0.0}, sum = 0.0;
    uint32_t w = 0;

    for (; width - w >= LANES; w += LANES)
        for (int i = 0; i < LANES; i++)
            sums[i] += (double)row[w + i] * row[w + i];
    for (; w < width; w++)
        sum += (double)row[w] * row[w];
    for (int i = 0; i < LANES; i++)
        sum += sums[i];
    return sum;
}

static void task_run(void *context, uint32_t task, uint32_t worker)
{
    const struct run *run = context;
    const struct sac_unit_rows_args *a = run->args;
    size_t i = task * run->task_rows, end = i + run->task_rows;
    uint32_t spoiled = 0;

    (void)worker;
    for (end = end < a->rows ? end : a->rows; i < end; i++) {
        float *row = a->x + i * a->width;
        double sum = squares(row, a->width), scale = 1.0 / sqrt(sum);

        if (!(sum > 0.0 && isfinite(sum))) {
            spoiled++;
            continue;
        }
        for (uint32_t w = 0; w < a->width; w++)
            row[w] = (float)(row[w] * scale);
    }
    __atomic_fetch_add(a->spoiled, spoiled, __ATOMIC_RELAXED);
}

sac_status sac_unit_rows_cpu(sac_stream *s, const struct sac_unit_rows_args *a)
{
    struct run run = {a, TASK_ELEMENTS / a->width + 1};

    *a->spoiled = 0;
    sac_parallel_for(s, (uint32_t)((a->rows + run.task_rows - 1) / run.task_rows), task_run, &run);
    return SAC_OK;
}
