/* Nearest centroid of every row: |c|^2 - 2 <x, c> by register-tiled products with the smallest kept in
 * registers, then the winner's distance directly. Centroids are packed once per call. Twin: ref/assign.c.
 * Floor: n * k * dim multiplications and additions at the FMA peak. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

#include <assert.h>
#include <math.h>

struct assign {
    const struct sac_assign_args *args;
    const struct sac_rows_kernels *kernels;
    float *panels; /* [panel_count][dim][panel_rows] */
    float *norms;  /* [panel_count * panel_rows], padded with infinity */
    uint32_t panel_count;
};

static size_t padded(uint32_t k)
{
    return ((size_t)k + SAC_PANEL_ROWS_MAX - 1) / SAC_PANEL_ROWS_MAX * SAC_PANEL_ROWS_MAX;
}

size_t sac_assign_scratch_cpu(const sac_device *d, const struct sac_assign_args *a)
{
    (void)d;
    return sac_scratch_add(sac_scratch_size(padded(a->k) * a->dim, sizeof(float)),
                           sac_scratch_size(padded(a->k), sizeof(float)));
}

static void pack_task(void *context, uint32_t task, uint32_t worker)
{
    const struct assign *assign = context;
    const struct sac_assign_args *a = assign->args;
    uint32_t panel_rows = assign->kernels->panel_rows, first = task * panel_rows;
    uint32_t count = a->k - first < panel_rows ? a->k - first : panel_rows;
    const void *rows[SAC_PANEL_ROWS_MAX];

    (void)worker;
    for (uint32_t i = 0; i < panel_rows; i++) {
        rows[i] = a->centroids + (size_t)(first + (i < count ? i : 0)) * a->dim;
        assign->norms[first + i] = i < count ? a->centroid_norms[first + i] : INFINITY;
    }
    assign->kernels->pack(rows, count, a->dim, SAC_F32, assign->panels + (size_t)first * a->dim);
}

static void assign_task(void *context, uint32_t task, uint32_t worker)
{
    const struct assign *assign = context;
    const struct sac_assign_args *a = assign->args;
    size_t first = (size_t)task * SAC_ARG_MIN_ROWS;
    uint32_t count = a->n - first < SAC_ARG_MIN_ROWS ? (uint32_t)(a->n - first) : SAC_ARG_MIN_ROWS;

    (void)worker;
    assign->kernels->arg_min(a->x + first * a->dim, count, a->dim, assign->panels, assign->panel_count,
                             assign->norms, a->index + first);
    for (size_t i = first; a->distance != NULL && i < first + count; i++) {
        const void *centroid = a->centroids + (size_t)a->index[i] * a->dim;

        assign->kernels->distances(a->x + i * a->dim, &centroid, 1, a->dim, SAC_F32, SAC_DISTANCE_L2SQ,
                                   a->distance + i);
    }
}

static sac_status assign_run(sac_stream *s, const struct sac_assign_args *a,
                             const struct sac_rows_kernels *kernels)
{
    struct assign assign = {.args = a, .kernels = kernels};

    assert(a->k >= 1);
    if (a->n == 0)
        return SAC_OK;
    sac_scratch_reset(s);
    assign.panels = sac_scratch_take(s, padded(a->k) * a->dim, sizeof *assign.panels);
    assign.norms = sac_scratch_take(s, padded(a->k), sizeof *assign.norms);
    if (assign.panels == NULL || assign.norms == NULL)
        return SAC_NO_MEMORY;
    assign.panel_count = (a->k + kernels->panel_rows - 1) / kernels->panel_rows;
    sac_parallel_for(s, assign.panel_count, pack_task, &assign);
    sac_parallel_for(s, (uint32_t)((a->n + SAC_ARG_MIN_ROWS - 1) / SAC_ARG_MIN_ROWS), assign_task, &assign);
    return SAC_OK;
}

sac_status sac_assign_avx2(sac_stream *s, const struct sac_assign_args *a)
{
    return assign_run(s, a, &sac_rows_avx2);
}

sac_status sac_assign_avx512(sac_stream *s, const struct sac_assign_args *a)
{
    return assign_run(s, a, &sac_rows_avx512);
}
