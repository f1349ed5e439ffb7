/* Nearest centroid of every row: |c|^2 - 2 <x, c> by register-tiled products with the smallest kept in
 * registers, then the winner's distance directly. Centroids are packed once per call. Twin: ref/assign.c.
 * Floor: n * k * dim multiplications and additions at the FMA peak. */
#include "kernels/cpu/assign.h"

#include "kernels/cpu/cpu.h"

#include <assert.h>
#include <math.h>

/* ---- panels ----------------------------------------------------------------------------------------- */

struct packing {
    const struct sac_assign_args *args;
    const struct sac_assign_panels *panels;
};

static size_t padded(uint32_t k)
{
    return ((size_t)k + SAC_PANEL_ROWS_MAX - 1) / SAC_PANEL_ROWS_MAX * SAC_PANEL_ROWS_MAX;
}

size_t sac_assign_panels_size(const struct sac_assign_args *a)
{
    return sac_scratch_add(sac_scratch_size(padded(a->k) * a->dim, sizeof(float)),
                           sac_scratch_size(padded(a->k), sizeof(float)));
}

static void pack_task(void *context, uint32_t task, uint32_t worker)
{
    const struct packing *packing = context;
    const struct sac_assign_args *a = packing->args;
    const struct sac_assign_panels *p = packing->panels;
    uint32_t panel_rows = p->kernels->panel_rows, first = task * panel_rows;
    uint32_t count = a->k - first < panel_rows ? a->k - first : panel_rows;
    const void *rows[SAC_PANEL_ROWS_MAX];

    (void)worker;
    for (uint32_t i = 0; i < panel_rows; i++) {
        rows[i] = a->centroids + (size_t)(first + (i < count ? i : 0)) * a->dim;
        p->norms[first + i] = i < count ? a->centroid_norms[first + i] : INFINITY;
    }
    p->kernels->pack(rows, count, a->dim, SAC_F32, p->panels + (size_t)first * a->dim);
}

bool sac_assign_panels_make(sac_stream *s, const struct sac_assign_args *a,
                            const struct sac_rows_kernels *kernels, struct sac_assign_panels *out)
{
    out->kernels = kernels;
    out->panels = sac_scratch_take(s, padded(a->k) * a->dim, sizeof *out->panels);
    out->norms = sac_scratch_take(s, padded(a->k), sizeof *out->norms);
    out->count = (a->k + kernels->panel_rows - 1) / kernels->panel_rows;
    if (out->panels == NULL || out->norms == NULL)
        return false;
    sac_parallel_for(s, out->count, pack_task, &(struct packing){a, out});
    return true;
}

/* ---- rows ------------------------------------------------------------------------------------------- */

struct assign {
    const struct sac_assign_args *args;
    struct sac_assign_panels panels;
};

size_t sac_assign_scratch_cpu(const sac_device *d, const struct sac_assign_args *a)
{
    (void)d;
    return sac_assign_panels_size(a);
}

void sac_assign_distances(const struct sac_assign_args *a, const struct sac_rows_kernels *kernels,
                          size_t first, uint32_t count)
{
    for (size_t i = first; a->distance != NULL && i < first + count; i++) {
        const void *centroid = a->centroids + (size_t)a->index[i] * a->dim;

        kernels->distances(a->x + i * a->dim, &centroid, 1, a->dim, SAC_F32, SAC_DISTANCE_L2SQ,
                           a->distance + i);
    }
}

static void assign_task(void *context, uint32_t task, uint32_t worker)
{
    const struct assign *assign = context;
    const struct sac_assign_args *a = assign->args;
    const struct sac_assign_panels *p = &assign->panels;
    size_t first = (size_t)task * SAC_ARG_MIN_ROWS;
    uint32_t count = a->n - first < SAC_ARG_MIN_ROWS ? (uint32_t)(a->n - first) : SAC_ARG_MIN_ROWS;

    (void)worker;
    p->kernels->arg_min(a->x + first * a->dim, count, a->dim, p->panels, p->count, p->norms,
                        a->index + first);
    sac_assign_distances(a, p->kernels, first, count);
}

static sac_status assign_run(sac_stream *s, const struct sac_assign_args *a,
                             const struct sac_rows_kernels *kernels)
{
    struct assign assign = {.args = a};

    assert(a->k >= 1);
    if (a->n == 0)
        return SAC_OK;
    sac_scratch_reset(s);
    if (!sac_assign_panels_make(s, a, kernels, &assign.panels))
        return SAC_NO_MEMORY;
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
