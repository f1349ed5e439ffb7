/* Searching an inverted file: lists are probed, their entries scanned. */
#include "engine/ivf.h"
#include "kernels/reach.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#define TABLES_HOST 256u /* of queries that a CPU scans by their tables at a time: they stay in a cache */

enum { NPROBES, NEEDS, DEPTHS, REACHES, SETTINGS };

static uint32_t *setting(const sac_ivf_batch *batch, void *side, int which)
{
    return (uint32_t *)side + which * batch->setting_stride;
}

sac_schedule sac_ivf_schedule(const sac_ivf *ivf, uint64_t probes)
{
    return (float)probes / (float)ivf->nlist >= ivf->list_major_from ? SAC_LIST_MAJOR : SAC_QUERY_MAJOR;
}

sac_status sac_ivf_prepare(const sac_ivf *ivf, sac_workspace *ws, size_t n, const sac_span *x,
                           const sac_ivf_query *queries, uint32_t width, sac_ivf_batch *out)
{
    uint32_t most = ivf->nlist < SAC_PROBES_MAX ? ivf->nlist : SAC_PROBES_MAX;

    uint64_t probes = 0;

    *out = (sac_ivf_batch){.n = n, .x = *x, .width = width, .setting_stride = (n + 15) / 16 * 16};
    for (size_t q = 0; q < n; q++) {
        probes += queries[q].nprobe;
        uint32_t depth = (queries[q].depth + 15) / 16 * 16;
        out->width = queries[q].nprobe > out->width ? queries[q].nprobe : out->width;
        out->stride = depth > out->stride ? depth : out->stride;
    }
    out->width = out->width < most ? out->width : most;
    out->schedule = sac_ivf_schedule(ivf, probes);
    out->distance = sac_workspace_device(ws, n * out->stride, sizeof *out->distance);
    out->slot = sac_workspace_device(ws, n * out->stride, sizeof *out->slot);
    if (out->distance == NULL || out->slot == NULL ||
        !sac_workspace_span(ws, n, sizeof(uint32_t), &out->held) ||
        !sac_workspace_span(ws, SETTINGS * out->setting_stride, sizeof(uint32_t), &out->settings))
        return sac_workspace_failure(ws);
    out->depths = setting(out, out->settings.device, DEPTHS);
    out->host_depths = setting(out, out->settings.host, DEPTHS);
    for (size_t q = 0; q < n; q++) {
        setting(out, out->settings.host, NPROBES)[q] =
            queries[q].nprobe < out->width ? queries[q].nprobe : out->width;
        setting(out, out->settings.host, NEEDS)[q] = queries[q].need;
        setting(out, out->settings.host, DEPTHS)[q] = queries[q].depth;
        ((float *)setting(out, out->settings.host, REACHES))[q] =
            queries[q].reach > 0 ? queries[q].reach : INFINITY;
    }
    return sac_rotation_prepare(&ivf->rotation, ws, n, x, &out->coded);
}

/* A probe of lists first .. first + rows - 1 only, which then have the numbers from 0; what the queries want
 * and where it goes is the caller's. */
static struct sac_probe_args probe_args(const sac_ivf *ivf, size_t n, const float *x, uint32_t first,
                                        uint32_t rows)
{
    return (struct sac_probe_args){.queries = x,
                                   .query_count = n,
                                   .dim = ivf->coded_dim,
                                   .distance = ivf->distance,
                                   .centroids = ivf->centroids + (size_t)first * ivf->coded_dim,
                                   .centroid_norms = ivf->centroid_norms + first,
                                   .lists = (const sac_list *)ivf->lists.lists.copy + first,
                                   .nlist = rows};
}

/* Of the query from the list's centroid, never below 0 where it is a square. */
static float list_distance(const sac_ivf *ivf, const sac_probe *p)
{
    return ivf->distance == SAC_DISTANCE_L2SQ ? fmaxf(p->base + ivf->norms[p->list], 0) : p->base;
}

static sac_status probe(const sac_ivf *ivf, sac_workspace *ws, const sac_ivf_batch *batch, sac_probe *probes,
                        uint32_t *counts)
{
    struct sac_probe_args args = probe_args(ivf, batch->n, batch->coded.device, 0, ivf->nlist);

    args.nprobes = setting(batch, batch->settings.device, NPROBES);
    args.needs = setting(batch, batch->settings.device, NEEDS);
    sac_groups_give(&ivf->groups, &args);
    if (ivf->distance == SAC_DISTANCE_L2SQ)
        args.reaches = (const float *)setting(batch, batch->settings.device, REACHES);
    args.width = batch->width;
    args.probes = probes;
    args.counts = counts;
    args.held = batch->held.device;
    return sac_run_probe(ws, &args);
}

static float scale_of(const sac_ivf *ivf)
{
    return ivf->distance == SAC_DISTANCE_L2SQ ? -2 : -1;
}

static size_t table_bytes(const sac_ivf *ivf)
{
    return ((size_t)ivf->pq.m << ivf->pq.nbits) * sizeof(float);
}

/* Query-major, so many queries at a time that their tables are no burden. */
static sac_status scan_by_tables(const sac_ivf *ivf, sac_workspace *ws, const struct sac_pq_scan_args *all)
{
    size_t n = all->query_count, most = ws->share / 4 / table_bytes(ivf) + 1;
    struct sac_pq_scan_args some = *all;
    sac_status st = SAC_OK;
    float *tables;

    if (sac_device_host_visible(ivf->device) && most > TABLES_HOST)
        most = TABLES_HOST;
    tables = sac_workspace_device(ws, n < most ? n : most, table_bytes(ivf));
    if (tables == NULL)
        return sac_workspace_failure(ws);
    some.tables = tables;
    for (size_t q = 0; st == SAC_OK && q < n; q += most) {
        some.query_count = n - q < most ? n - q : most;
        some.queries = all->queries + q * ivf->coded_dim;
        some.probes = all->probes + q * all->probe_stride;
        some.probe_counts = all->probe_counts + q;
        some.depths = all->depths + q;
        some.filters = all->filters != NULL ? all->filters + q : NULL;
        some.out_distance = all->out_distance + q * all->depth_stride;
        some.out_slot = all->out_slot + q * all->depth_stride;
        st = sac_run_pq_table(ws, &(struct sac_pq_table_args){.pq = ivf->pq,
                                                              .codebook = ivf->codebook,
                                                              .queries = some.queries,
                                                              .query_count = some.query_count,
                                                              .scale = all->scale,
                                                              .tables = tables});
        if (st == SAC_OK)
            st = sac_run_pq_scan(ws, &some);
    }
    return st;
}

static sac_status scan(const sac_ivf *ivf, sac_workspace *ws, const sac_ivf_batch *batch,
                       const sac_probe *probes, const uint32_t *counts, uint32_t probe_stride)
{
    struct sac_pq_scan_args args = {.pool = sac_lists_pool(&ivf->lists),
                                    .schedule = batch->schedule,
                                    .scale = scale_of(ivf),
                                    .codebook = ivf->codebook,
                                    .queries = batch->coded.device,
                                    .query_count = batch->n,
                                    .probes = probes,
                                    .probe_counts = counts,
                                    .probe_stride = probe_stride,
                                    .depths = batch->depths,
                                    .depth_stride = batch->stride,
                                    .filters = batch->filters,
                                    .out_distance = batch->distance,
                                    .out_slot = batch->slot};

    return batch->schedule == SAC_QUERY_MAJOR ? scan_by_tables(ivf, ws, &args) : sac_run_pq_scan(ws, &args);
}

/* Settings and what is coded, onto the device. */
static sac_status push(const sac_ivf *ivf, sac_workspace *ws, const sac_ivf_batch *batch)
{
    sac_status st = sac_span_push(ws, &batch->settings);

    return st == SAC_OK ? sac_rotation_run(&ivf->rotation, ws, batch->n, &batch->x, &batch->coded) : st;
}

sac_status sac_ivf_submit(const sac_ivf *ivf, sac_workspace *ws, sac_ivf_batch *batch)
{
    sac_probe *probes = sac_workspace_device(ws, batch->n * batch->width, sizeof *probes);
    uint32_t *counts = sac_workspace_device(ws, batch->n, sizeof *counts);
    sac_status st = probes == NULL || counts == NULL ? sac_workspace_failure(ws) : push(ivf, ws, batch);

    if (st == SAC_OK)
        st = probe(ivf, ws, batch, probes, counts);
    if (st == SAC_OK)
        st = scan(ivf, ws, batch, probes, counts, batch->width);
    return st == SAC_OK ? sac_span_fetch(ws, &batch->held) : st;
}

sac_status sac_ivf_probe(const sac_ivf *ivf, sac_workspace *ws, const sac_ivf_batch *batch,
                         sac_ivf_probed *out)
{
    size_t places = batch->n * batch->width;
    sac_span probes, counts;
    sac_status st;

    out->width = batch->width;
    out->lists = sac_workspace_host(ws, places, sizeof *out->lists);
    out->distances = sac_workspace_host(ws, places, sizeof *out->distances);
    if (out->lists == NULL || out->distances == NULL ||
        !sac_workspace_span(ws, places, sizeof(sac_probe), &probes) ||
        !sac_workspace_span(ws, batch->n, sizeof(uint32_t), &counts))
        return sac_workspace_failure(ws);
    st = push(ivf, ws, batch);
    if (st == SAC_OK)
        st = probe(ivf, ws, batch, probes.device, counts.device);
    if (st == SAC_OK)
        st = sac_span_fetch(ws, &probes);
    if (st == SAC_OK)
        st = sac_span_pull(ws, &counts);
    out->counts = counts.host;
    for (size_t q = 0; st == SAC_OK && q < batch->n; q++)
        for (size_t i = q * batch->width; i < q * batch->width + out->counts[q]; i++) {
            out->lists[i] = ((const sac_probe *)probes.host)[i].list;
            out->distances[i] = list_distance(ivf, &((const sac_probe *)probes.host)[i]);
        }
    return st;
}

bool sac_ivf_is_short(const sac_ivf *ivf, const sac_ivf_batch *batch, const sac_ivf_query *query, size_t i)
{
    return batch->width < ivf->nlist &&
           (query->nprobe > batch->width || ((const uint32_t *)batch->held.host)[i] < query->need);
}

struct ranked_probe {
    float distance;
    sac_probe probe;
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked_probe *x = a, *y = b;

    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return x->probe.list < y->probe.list ? -1 : x->probe.list > y->probe.list;
}

/* All lists of one query in order. */
static sac_status rank_all(const sac_ivf *ivf, sac_workspace *ws, const float *x, struct ranked_probe *ranked)
{
    uint32_t *counts = sac_workspace_device(ws, 16, sizeof *counts);
    uint32_t *held = sac_workspace_device(ws, 16, sizeof *held);
    struct sac_probe_args args;
    sac_span settings, probes;
    sac_status st = SAC_OK;

    if (counts == NULL || held == NULL || !sac_workspace_span(ws, 32, sizeof(uint32_t), &settings) ||
        !sac_workspace_span(ws, SAC_PROBES_MAX, sizeof(sac_probe), &probes))
        return sac_workspace_failure(ws);
    for (uint32_t first = 0; st == SAC_OK && first < ivf->nlist; first += SAC_PROBES_MAX) {
        uint32_t rows = ivf->nlist - first < SAC_PROBES_MAX ? ivf->nlist - first : SAC_PROBES_MAX;

        ((uint32_t *)settings.host)[0] = rows; /* nprobe */
        ((uint32_t *)settings.host)[16] = 0;   /* need */
        args = probe_args(ivf, 1, x, first, rows);
        args.nprobes = settings.device;
        args.needs = (uint32_t *)settings.device + 16;
        args.width = rows;
        args.probes = probes.device;
        args.counts = counts;
        args.held = held;
        st = sac_span_push(ws, &settings);
        if (st == SAC_OK)
            st = sac_run_probe(ws, &args);
        if (st == SAC_OK)
            st = sac_span_pull(ws, &probes);
        for (uint32_t i = 0; st == SAC_OK && i < rows; i++) {
            sac_probe p = ((const sac_probe *)probes.host)[i];
            p.list += first;
            ranked[first + i] = (struct ranked_probe){list_distance(ivf, &p), p};
        }
    }
    if (st == SAC_OK)
        qsort(ranked, ivf->nlist, sizeof *ranked, compare_ranked);
    return st;
}

static bool wants_more(const sac_ivf *ivf, const sac_ivf_query *query, const struct ranked_probe *ranked,
                       uint32_t taken)
{
    bool near = query->reach == 0 || ivf->distance != SAC_DISTANCE_L2SQ ||
                sac_within_reach(ranked[taken].distance, taken, ranked[0].distance, query->reach);

    return taken < query->nprobe && near;
}

sac_status sac_ivf_submit_widest(const sac_ivf *ivf, sac_workspace *ws, const sac_ivf_query *query,
                                 sac_ivf_batch *batch)
{
    struct ranked_probe *ranked = sac_workspace_host(ws, ivf->nlist, sizeof *ranked);
    sac_span probes, count;
    uint64_t held = 0;
    uint32_t taken = 0;
    sac_status st;

    assert(batch->n == 1);
    if (ranked == NULL || !sac_workspace_span(ws, ivf->nlist, sizeof(sac_probe), &probes) ||
        !sac_workspace_span(ws, 1, sizeof(uint32_t), &count))
        return sac_workspace_failure(ws);
    st = push(ivf, ws, batch);
    if (st == SAC_OK)
        st = rank_all(ivf, ws, batch->coded.device, ranked);
    if (st != SAC_OK)
        return st;
    for (; taken < ivf->nlist && (held < query->need || wants_more(ivf, query, ranked, taken)); taken++) {
        ((sac_probe *)probes.host)[taken] = ranked[taken].probe;
        held += sac_lists_rows(&ivf->lists, ranked[taken].probe.list);
    }
    *(uint32_t *)count.host = taken;
    st = sac_span_push(ws, &probes);
    if (st == SAC_OK)
        st = sac_span_push(ws, &count);
    return st == SAC_OK ? scan(ivf, ws, batch, probes.device, count.device, ivf->nlist) : st;
}
