#include "engine/groups.h"

#include "engine/kmeans.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS_PER_ROOT 2.0 /* times the square root of nlist */
#define ITERATIONS 10u

uint32_t sac_groups_most(uint32_t nlist)
{
    return nlist < SAC_GROUPS_LISTS_MIN ? 0 : (uint32_t)(GROUPS_PER_ROOT * sqrt(nlist));
}

/* ---- finding them ----------------------------------------------------------------------------------- */

/* group[i]: the nearest of `count` heads to centroid i. */
static sac_status find_heads(sac_workspace *ws, uint64_t seed, uint32_t nlist, uint32_t dim,
                             const sac_span *centroids, uint32_t count, sac_span *group)
{
    sac_kmeans_params params = {
        .dim = dim, .k = count, .iterations = ITERATIONS, .seed = seed, .balance = true};
    sac_span heads, norms;
    sac_status st;

    if (!sac_workspace_span(ws, nlist, sizeof(uint32_t), group) ||
        !sac_workspace_span(ws, count, dim * sizeof(float), &heads) ||
        !sac_workspace_span(ws, count, sizeof(float), &norms))
        return sac_workspace_failure(ws);
    st = sac_kmeans(ws, &params, nlist, centroids, &heads, NULL);
    if (st == SAC_OK)
        st = sac_kmeans_assign(ws, dim, nlist, centroids->device, count, heads.device, norms.device,
                               group->device, NULL);
    return st == SAC_OK ? sac_span_pull(ws, group) : st;
}

/* Moves each centroid to its group; first[g] .. first[g + 1] are those of group g, empty groups left out. */
static sac_status bring_together(sac_workspace *ws, uint32_t nlist, uint32_t dim, const sac_span *centroids,
                                 const uint32_t *group, uint32_t *count, uint32_t *first)
{
    float *sorted = sac_workspace_host(ws, nlist, dim * sizeof *sorted);
    uint32_t done = 0, groups = 0;

    if (sorted == NULL)
        return sac_workspace_failure(ws);
    first[0] = 0;
    for (uint32_t g = 0; g < *count; g++) {
        for (uint32_t i = 0; i < nlist; i++)
            if (group[i] == g)
                memcpy(sorted + (size_t)done++ * dim, (const float *)centroids->host + (size_t)i * dim,
                       dim * sizeof *sorted);
        if (done > first[groups])
            first[++groups] = done;
    }
    *count = groups;
    memcpy(centroids->host, sorted, centroids->bytes);
    return sac_span_push(ws, centroids);
}

sac_status sac_groups_train(sac_workspace *ws, uint64_t seed, uint32_t nlist, uint32_t dim,
                            const sac_span *centroids, uint32_t *count, uint32_t *first)
{
    sac_workspace_mark mark = sac_workspace_save(ws);
    sac_span group;
    sac_status st;

    *count = sac_groups_most(nlist);
    if (*count == 0)
        return SAC_OK;
    st = find_heads(ws, seed, nlist, dim, centroids, *count, &group);
    if (st == SAC_OK)
        st = bring_together(ws, nlist, dim, centroids, group.host, count, first);
    sac_workspace_restore(ws, mark);
    return st;
}

/* ---- having them ------------------------------------------------------------------------------------ */

static sac_status allocate(sac_groups *g, uint32_t nlist, uint32_t dim, sac_error *err)
{
    size_t row_bytes = sac_row_bytes(SAC_I8, dim), spare = SAC_ROUGH_SPARE;
    void *memory[5] = {NULL};
    sac_status st = sac_buffer_alloc(g->device, nlist * row_bytes + spare, 1, &memory[0], err);

    if (st == SAC_OK && g->count > 0)
        st = sac_buffer_alloc(g->device, g->count * row_bytes + spare, 1, &memory[1], err);
    if (st == SAC_OK && g->count > 0)
        st = sac_buffer_alloc(g->device, g->count, dim * sizeof(float), &memory[2], err);
    if (st == SAC_OK && g->count > 0)
        st = sac_buffer_alloc(g->device, g->count, sizeof(float), &memory[3], err);
    if (st == SAC_OK && g->count > 0)
        st = sac_buffer_alloc(g->device, g->count + 1, sizeof(uint32_t), &memory[4], err);
    g->rough = memory[0];
    g->rough_heads = memory[1];
    g->heads = memory[2];
    g->head_norms = memory[3];
    g->device_first = memory[4];
    return st;
}

/* The rows of a matrix that the device has, as bytes. */
static sac_status make_rough(sac_workspace *ws, uint32_t n, uint32_t dim, const float *matrix, void *rough)
{
    sac_span page, rows;
    sac_status st;

    if (!sac_workspace_span(ws, 1, sizeof(void *), &page) ||
        !sac_workspace_span(ws, n, sizeof(uint32_t), &rows))
        return sac_workspace_failure(ws);
    *(void **)page.host = rough;
    for (uint32_t i = 0; i < n; i++)
        ((uint32_t *)rows.host)[i] = i;
    st = sac_span_push(ws, &page);
    if (st == SAC_OK)
        st = sac_span_push(ws, &rows);
    if (st == SAC_OK)
        st = sac_run_rows_write(ws, &(struct sac_rows_write_args){.x = matrix,
                                                                  .n = n,
                                                                  .dim = dim,
                                                                  .pages = page.device,
                                                                  .page_rows = n,
                                                                  .dtype = SAC_I8,
                                                                  .rows = rows.device});
    return st;
}

static void mean_of(const float *rows, uint32_t n, uint32_t dim, float *mean)
{
    for (uint32_t d = 0; d < dim; d++) {
        double sum = 0;

        for (uint32_t i = 0; i < n; i++)
            sum += rows[(size_t)i * dim + d];
        mean[d] = n > 0 ? (float)(sum / n) : 0;
    }
}

static sac_status make_heads(sac_groups *g, sac_workspace *ws, uint32_t dim, const float *centroids)
{
    float *heads = sac_workspace_host(ws, g->count, dim * sizeof *heads);
    sac_status st;

    if (heads == NULL)
        return sac_workspace_failure(ws);
    for (uint32_t i = 0; i < g->count; i++)
        mean_of(centroids + (size_t)g->first[i] * dim, g->first[i + 1] - g->first[i], dim,
                heads + (size_t)i * dim);
    st = sac_stream_upload(ws->stream, g->heads, heads, (size_t)g->count * dim * sizeof *heads);
    if (st == SAC_OK)
        st = sac_stream_upload(ws->stream, g->device_first, g->first, (g->count + 1) * sizeof *g->first);
    if (st != SAC_OK)
        return sac_fail(ws->err, st, "cannot set the groups of lists: %s", sac_status_text(st));
    st = sac_run_norms(
        ws, &(struct sac_norms_args){.x = g->heads, .n = g->count, .dim = dim, .out = g->head_norms});
    return st == SAC_OK ? make_rough(ws, g->count, dim, g->heads, g->rough_heads) : st;
}

sac_status sac_groups_open(sac_groups *groups, sac_workspace *ws, uint32_t nlist, uint32_t dim,
                           const float *centroids, const float *device_centroids, uint32_t count,
                           const uint32_t *first)
{
    sac_workspace_mark mark = sac_workspace_save(ws);
    sac_status st;

    *groups = (sac_groups){.device = ws->device, .count = count};
    if (count > 0) {
        groups->first = malloc((count + 1) * sizeof *first);
        if (groups->first == NULL)
            return sac_fail(ws->err, SAC_NO_MEMORY, "no memory for %u groups of lists", count);
        memcpy(groups->first, first, (count + 1) * sizeof *first);
    }
    if (!ws->ops->probe_groups)
        return SAC_OK;
    st = allocate(groups, nlist, dim, ws->err);
    if (st == SAC_OK)
        st = make_rough(ws, nlist, dim, device_centroids, groups->rough);
    if (st == SAC_OK && count > 0)
        st = make_heads(groups, ws, dim, centroids);
    if (st == SAC_OK)
        st = sac_workspace_wait(ws);
    sac_workspace_restore(ws, mark);
    return st;
}

void sac_groups_close(sac_groups *groups)
{
    free(groups->first);
    sac_buffer_free(groups->device, groups->device_first);
    sac_buffer_free(groups->device, groups->heads);
    sac_buffer_free(groups->device, groups->head_norms);
    sac_buffer_free(groups->device, groups->rough);
    sac_buffer_free(groups->device, groups->rough_heads);
    *groups = (sac_groups){0};
}

void sac_groups_give(const sac_groups *groups, struct sac_probe_args *args)
{
    if (groups->rough == NULL)
        return;
    args->rough = groups->rough;
    args->rough_heads = groups->rough_heads;
    args->group_count = groups->count;
    args->group_first = groups->device_first;
    args->heads = groups->heads;
    args->head_norms = groups->head_norms;
}

static uint64_t bytes_of(uint32_t nlist, uint32_t dim, uint64_t groups)
{
    uint64_t row_bytes = sac_row_bytes(SAC_I8, dim);

    return nlist * row_bytes + groups * (row_bytes + dim * sizeof(float) + sizeof(float) + sizeof(uint32_t));
}

uint64_t sac_groups_bytes(const sac_groups *groups, uint32_t nlist, uint32_t dim)
{
    return groups->rough != NULL ? bytes_of(nlist, dim, groups->count) : 0;
}

uint64_t sac_groups_plan(uint32_t nlist, uint32_t dim)
{
    return bytes_of(nlist, dim, sac_groups_most(nlist));
}
