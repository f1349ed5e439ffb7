#include "engine/ivf.h"

#include "engine/kmeans.h"
#include "engine/pq.h"
#include "engine/random.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COARSE_SAMPLE_PER_LIST 96u
#define COARSE_ITERATIONS 10u
#define PQ_ITERATIONS 8u
#define CENTROID_PAGE 4096u /* rows; also the most that one coarse search returns */

/* ---- making and training ---------------------------------------------------------------------------- */

static size_t codebook_count(const sac_pq_shape *pq)
{
    return ((size_t)pq->m << pq->nbits) * pq->dsub;
}

sac_status sac_ivf_open(sac_device *device, uint32_t dim, sac_metric metric, const sac_index_spec *spec,
                        sac_ivf **out, sac_error *err)
{
    sac_ivf *ivf = calloc(1, sizeof *ivf);
    void *memory[3] = {NULL};
    sac_status st;

    *out = NULL;
    if (ivf == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for an index");
    ivf->device = device;
    ivf->distance = metric == SAC_METRIC_IP ? SAC_DISTANCE_NEG_IP : SAC_DISTANCE_L2SQ;
    ivf->dim = dim;
    ivf->coded_dim = spec->coded_dim;
    ivf->nlist = spec->nlist;
    ivf->pq = (sac_pq_shape){.m = spec->m, .nbits = spec->nbits, .dsub = spec->coded_dim / spec->m};
    st = sac_lists_init(&ivf->lists, device, ivf->pq, ivf->nlist, err);
    if (st == SAC_OK)
        st = sac_buffer_alloc(device, ivf->nlist, ivf->coded_dim * sizeof(float), &memory[0], err);
    if (st == SAC_OK)
        st = sac_buffer_alloc(device, ivf->nlist, sizeof(float), &memory[1], err);
    if (st == SAC_OK)
        st = sac_buffer_alloc(device, codebook_count(&ivf->pq), sizeof(float), &memory[2], err);
    ivf->centroids = memory[0];
    ivf->centroid_norms = memory[1];
    ivf->codebook = memory[2];
    ivf->norms = calloc(ivf->nlist, sizeof *ivf->norms);
    if (st == SAC_OK && ivf->norms == NULL)
        st = sac_fail(err, SAC_NO_MEMORY, "no memory for %u lists", ivf->nlist);
    if (st != SAC_OK) {
        sac_ivf_close(ivf);
        return st;
    }
    *out = ivf;
    return SAC_OK;
}

void sac_ivf_close(sac_ivf *ivf)
{
    if (ivf == NULL)
        return;
    sac_lists_free(&ivf->lists);
    sac_rotation_close(&ivf->rotation);
    sac_buffer_free(ivf->device, ivf->centroids);
    sac_buffer_free(ivf->device, ivf->centroid_norms);
    sac_buffer_free(ivf->device, ivf->codebook);
    free(ivf->norms);
    free(ivf);
}

size_t sac_ivf_train_min(const sac_index_spec *spec)
{
    size_t codewords = (size_t)1 << spec->nbits;

    return spec->nlist > codewords ? spec->nlist : codewords;
}

static size_t quantizer_sample(uint32_t nbits)
{
    return (size_t)SAC_PQ_SAMPLE_PER_CODEWORD << nbits;
}

size_t sac_ivf_train_max(const sac_index_spec *spec)
{
    size_t coarse = (size_t)COARSE_SAMPLE_PER_LIST * spec->nlist, fine = quantizer_sample(spec->nbits);

    return coarse > fine ? coarse : fine;
}

uint64_t sac_ivf_train_steps(const sac_index_spec *spec)
{
    return COARSE_ITERATIONS + spec->m + (spec->rotate ? SAC_OPQ_ROUNDS : 0);
}

/* Copies what is on the host to where searches read it, and derives the norms. */
static sac_status set_centroids(sac_ivf *ivf, sac_workspace *ws, const float *centroids,
                                const float *codebook)
{
    size_t bytes = ivf->nlist * (size_t)ivf->coded_dim * sizeof(float);
    sac_status st = sac_stream_upload(ws->stream, ivf->centroids, centroids, bytes);

    if (st == SAC_OK)
        st = sac_stream_upload(ws->stream, ivf->codebook, codebook, codebook_count(&ivf->pq) * sizeof(float));
    if (st == SAC_OK)
        st = sac_run_norms(
            ws, &(struct sac_norms_args){
                    .x = ivf->centroids, .n = ivf->nlist, .dim = ivf->coded_dim, .out = ivf->centroid_norms});
    if (st == SAC_OK)
        st = sac_stream_download(ws->stream, ivf->norms, ivf->centroid_norms, ivf->nlist * sizeof(float));
    if (st == SAC_OK)
        st = sac_stream_wait(ws->stream);
    return st == SAC_OK ? SAC_OK : sac_fail(ws->err, st, "cannot set the centroids: %s", sac_status_text(st));
}

sac_status sac_ivf_restore(sac_ivf *ivf, sac_workspace *ws, const float *centroids, const float *codebook,
                           const float *rotation)
{
    sac_status st =
        sac_rotation_open(&ivf->rotation, ivf->device, ivf->dim, ivf->coded_dim, rotation, ws->err);

    return st == SAC_OK ? set_centroids(ivf, ws, centroids, codebook) : st;
}

/* What the quantizer is to code: up to `want` rows, evenly taken, minus their nearest centroid. */
static sac_status residuals(sac_workspace *ws, uint32_t dim, uint32_t nlist, size_t n, const sac_span *x,
                            const sac_span *centroids, size_t want, sac_span *out, size_t *count)
{
    sac_span norms, index;
    sac_status st;

    *count = n < want ? n : want;
    if (!sac_workspace_span(ws, *count, dim * sizeof(float), out) ||
        !sac_workspace_span(ws, nlist, sizeof(float), &norms) ||
        !sac_workspace_span(ws, *count, sizeof(uint32_t), &index))
        return SAC_NO_MEMORY;
    for (size_t i = 0; i < *count; i++)
        memcpy((float *)out->host + i * dim, (const float *)x->host + i * n / *count * dim,
               dim * sizeof(float));
    st = sac_span_push(ws, out);
    if (st == SAC_OK)
        st = sac_run_norms(ws, &(struct sac_norms_args){
                                   .x = centroids->device, .n = nlist, .dim = dim, .out = norms.device});
    if (st == SAC_OK)
        st = sac_run_assign(ws, &(struct sac_assign_args){.x = out->device,
                                                          .n = *count,
                                                          .dim = dim,
                                                          .centroids = centroids->device,
                                                          .centroid_norms = norms.device,
                                                          .k = nlist,
                                                          .index = index.device});
    if (st == SAC_OK)
        st = sac_span_pull(ws, &index);
    for (size_t i = 0; st == SAC_OK && i < *count; i++) {
        float *row = (float *)out->host + i * dim;
        const float *centroid =
            (const float *)centroids->host + ((const uint32_t *)index.host)[i] * (size_t)dim;
        for (uint32_t d = 0; d < dim; d++)
            row[d] -= centroid[d];
    }
    return st == SAC_OK ? sac_span_push(ws, out) : st;
}

/* Rotating does not change distances, so centroids and residuals are found before it, and rotated. */
static sac_status train_rotation(sac_ivf *ivf, sac_workspace *ws, uint64_t seed, size_t n,
                                 const sac_span *residual, sac_progress_meter *meter)
{
    size_t used = n < SAC_OPQ_SAMPLE ? n : SAC_OPQ_SAMPLE;
    float *matrix = sac_workspace_host(ws, (size_t)ivf->coded_dim * ivf->dim, sizeof *matrix);
    sac_status st = matrix == NULL
                        ? SAC_NO_MEMORY
                        : sac_opq_train(ws, &ivf->pq, seed, used, ivf->dim, residual, matrix, meter);

    if (st == SAC_OK)
        st = sac_rotation_open(&ivf->rotation, ivf->device, ivf->dim, ivf->coded_dim, matrix, ws->err);
    return st;
}

static sac_status train(sac_ivf *ivf, sac_workspace *ws, uint64_t seed, size_t n, const sac_span *x,
                        bool rotate, sac_progress_meter *meter)
{
    sac_kmeans_params coarse = {
        .dim = ivf->dim, .k = ivf->nlist, .iterations = COARSE_ITERATIONS, .seed = seed, .balance = true};
    sac_span centroids, codebook, residual, coded_centroids, coded_residual;
    size_t count;
    sac_status st;

    if (!sac_workspace_span(ws, ivf->nlist, ivf->dim * sizeof(float), &centroids) ||
        !sac_workspace_span(ws, codebook_count(&ivf->pq), sizeof(float), &codebook))
        return SAC_NO_MEMORY;
    st = sac_kmeans(ws, &coarse, n, x, &centroids, meter);
    if (st == SAC_OK)
        st = residuals(ws, ivf->dim, ivf->nlist, n, x, &centroids, quantizer_sample(ivf->pq.nbits), &residual,
                       &count);
    if (st == SAC_OK && rotate)
        st = train_rotation(ivf, ws, seed + 1, count, &residual, meter);
    else if (st == SAC_OK)
        st = sac_rotation_open(&ivf->rotation, ivf->device, ivf->dim, ivf->coded_dim, NULL, ws->err);
    if (st == SAC_OK)
        st = sac_rotation_apply(&ivf->rotation, ws, ivf->nlist, &centroids, &coded_centroids);
    if (st == SAC_OK)
        st = sac_rotation_apply(&ivf->rotation, ws, count, &residual, &coded_residual);
    if (st == SAC_OK)
        st = sac_pq_train(ws, &ivf->pq, PQ_ITERATIONS, seed + 2, count, &coded_residual, &codebook, meter);
    return st == SAC_OK ? set_centroids(ivf, ws, coded_centroids.host, codebook.host) : st;
}

sac_status sac_ivf_train(sac_ivf *ivf, sac_workspace *ws, uint64_t seed, size_t n, const sac_span *x,
                         bool rotate, sac_progress_meter *meter)
{
    sac_workspace_mark mark = sac_workspace_save(ws);
    sac_status st = train(ivf, ws, seed, n, x, rotate, meter);

    if (st != SAC_OK)
        sac_rotation_close(&ivf->rotation);
    sac_workspace_restore(ws, mark);
    return st;
}

/* ---- adding ----------------------------------------------------------------------------------------- */

sac_status sac_ivf_encode(const sac_ivf *ivf, sac_workspace *ws, size_t n, const sac_span *x,
                          sac_ivf_entries *out)
{
    sac_span coded, index, bias;
    uint8_t *codes = sac_workspace_device(ws, n, ivf->pq.m);
    bool l2 = ivf->distance == SAC_DISTANCE_L2SQ;
    sac_status st;

    if (codes == NULL || !sac_workspace_span(ws, n, sizeof(uint32_t), &index) ||
        !sac_workspace_span(ws, n, sizeof(float), &bias))
        return SAC_NO_MEMORY;
    memset(bias.host, 0, bias.bytes);
    st = sac_span_push(ws, &bias);
    if (st == SAC_OK)
        st = sac_rotation_apply(&ivf->rotation, ws, n, x, &coded);
    if (st == SAC_OK)
        st = sac_run_assign(ws, &(struct sac_assign_args){.x = coded.device,
                                                          .n = n,
                                                          .dim = ivf->coded_dim,
                                                          .centroids = ivf->centroids,
                                                          .centroid_norms = ivf->centroid_norms,
                                                          .k = ivf->nlist,
                                                          .index = index.device});
    if (st == SAC_OK)
        st = sac_run_pq_encode(ws, &(struct sac_pq_encode_args){.pq = ivf->pq,
                                                                .codebook = ivf->codebook,
                                                                .x = coded.device,
                                                                .n = n,
                                                                .centroids = ivf->centroids,
                                                                .index = index.device,
                                                                .codes = codes,
                                                                .norms = l2 ? bias.device : NULL});
    if (st == SAC_OK)
        st = sac_span_pull(ws, &index);
    *out = (sac_ivf_entries){.n = n, .list = index.host, .codes = codes, .bias = bias.device};
    return st;
}

sac_status sac_ivf_append(sac_ivf *ivf, sac_workspace *ws, const sac_ivf_entries *entries,
                          const uint32_t *slots)
{
    return sac_lists_append(&ivf->lists, ws, entries->n, entries->list, entries->codes, entries->bias, slots);
}

/* ---- searching -------------------------------------------------------------------------------------- */

/* The lists that each query of a batch probes, nearest first. */
struct probing {
    sac_probe **probes;
    uint32_t *counts;
};

/* The `width` nearest centroids of every query, as spans [n][width]. width is at most CENTROID_PAGE. */
static sac_status nearest_centroids(const sac_ivf *ivf, sac_workspace *ws, size_t n, const float *x,
                                    uint32_t first, uint32_t rows, uint32_t width, sac_span *distance,
                                    sac_span *index)
{
    uint32_t page_count = (rows + CENTROID_PAGE - 1) / CENTROID_PAGE;
    const void **pages = sac_workspace_host(ws, page_count, sizeof *pages);
    sac_status st;

    if (pages == NULL || !sac_workspace_span(ws, n * width, sizeof(float), distance) ||
        !sac_workspace_span(ws, n * width, sizeof(uint32_t), index))
        return SAC_NO_MEMORY;
    for (uint32_t p = 0; p < page_count; p++)
        pages[p] = ivf->centroids + ((size_t)first + (size_t)p * CENTROID_PAGE) * ivf->coded_dim;
    st = sac_run_nearest(ws, &(struct sac_nearest_args){.queries = x,
                                                        .query_count = n,
                                                        .dim = ivf->coded_dim,
                                                        .distance = ivf->distance,
                                                        .pages = pages,
                                                        .page_rows = CENTROID_PAGE,
                                                        .dtype = SAC_F32,
                                                        .row_count = rows,
                                                        .norms = ivf->centroid_norms + first,
                                                        .k = width,
                                                        .out_distance = distance->device,
                                                        .out_index = index->device});
    if (st == SAC_OK)
        st = sac_span_pull(ws, distance);
    return st == SAC_OK ? sac_span_pull(ws, index) : st;
}

/* The constant part of the distance to everything in a list. */
static float probe_base(const sac_ivf *ivf, uint32_t list, float distance)
{
    return ivf->distance == SAC_DISTANCE_L2SQ ? distance - ivf->norms[list] : distance;
}

/* How many of a query's probes it takes, given all `width` of them: nprobe, and more until they hold `need`
 * entries. */
static uint32_t probes_needed(const sac_ivf *ivf, const sac_ivf_query *query, const sac_probe *probes,
                              uint32_t width, uint64_t *held)
{
    uint32_t count = 0;

    for (*held = 0; count < width && (count < query->nprobe || *held < query->need); count++)
        *held += ivf->lists.views[probes[count].list].row_count;
    return count;
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

/* All lists of one query in order: for the rare query that needs more than one coarse search returns. */
static sac_status rank_all(const sac_ivf *ivf, sac_workspace *ws, const float *x, sac_probe *probes)
{
    sac_workspace_mark mark = sac_workspace_save(ws);
    struct ranked_probe *ranked = sac_workspace_host(ws, ivf->nlist, sizeof *ranked);
    sac_status st = ranked == NULL ? SAC_NO_MEMORY : SAC_OK;

    for (uint32_t first = 0; st == SAC_OK && first < ivf->nlist; first += CENTROID_PAGE) {
        uint32_t rows = ivf->nlist - first < CENTROID_PAGE ? ivf->nlist - first : CENTROID_PAGE;
        sac_span distance, index;
        st = nearest_centroids(ivf, ws, 1, x, first, rows, rows, &distance, &index);
        for (uint32_t i = 0; st == SAC_OK && i < rows; i++) {
            uint32_t list = first + ((const uint32_t *)index.host)[i];
            float d = ((const float *)distance.host)[i];
            ranked[first + i] = (struct ranked_probe){d, {list, probe_base(ivf, list, d)}};
        }
    }
    if (st == SAC_OK)
        qsort(ranked, ivf->nlist, sizeof *ranked, compare_ranked);
    for (uint32_t i = 0; st == SAC_OK && i < ivf->nlist; i++)
        probes[i] = ranked[i].probe;
    sac_workspace_restore(ws, mark);
    return st;
}

/* Probes of one query whose nearest lists hold too few entries. */
static sac_status widen(const sac_ivf *ivf, sac_workspace *ws, const float *x, const sac_ivf_query *query,
                        sac_probe **probes, uint32_t *count)
{
    uint64_t held;
    sac_status st;

    *probes = sac_workspace_host(ws, ivf->nlist, sizeof **probes);
    st = *probes == NULL ? SAC_NO_MEMORY : rank_all(ivf, ws, x, *probes);
    if (st == SAC_OK)
        *count = probes_needed(ivf, query, *probes, ivf->nlist, &held);
    return st;
}

static sac_status choose_probes(const sac_ivf *ivf, sac_workspace *ws, size_t n, const float *x,
                                const sac_ivf_query *queries, struct probing *out)
{
    uint32_t width = 0;
    sac_span distance, index;
    sac_status st;

    for (size_t q = 0; q < n; q++)
        width = queries[q].nprobe > width ? queries[q].nprobe : width;
    width = width < CENTROID_PAGE ? width : CENTROID_PAGE;
    out->probes = sac_workspace_host(ws, n, sizeof(sac_probe *));
    out->counts = sac_workspace_host(ws, n, sizeof *out->counts);
    if (out->probes == NULL || out->counts == NULL)
        return SAC_NO_MEMORY;
    st = nearest_centroids(ivf, ws, n, x, 0, ivf->nlist, width, &distance, &index);
    for (size_t q = 0; st == SAC_OK && q < n; q++) {
        const float *d = (const float *)distance.host + q * width;
        const uint32_t *lists = (const uint32_t *)index.host + q * width;
        uint32_t own = queries[q].nprobe < width ? queries[q].nprobe : width;
        uint64_t held;

        out->probes[q] = sac_workspace_host(ws, own, sizeof(sac_probe));
        if (out->probes[q] == NULL)
            return SAC_NO_MEMORY;
        for (uint32_t i = 0; i < own; i++)
            out->probes[q][i] = (sac_probe){lists[i], probe_base(ivf, lists[i], d[i])};
        out->counts[q] = probes_needed(ivf, &queries[q], out->probes[q], own, &held);
        if ((held < queries[q].need || own < queries[q].nprobe) && own < ivf->nlist)
            st = widen(ivf, ws, x + q * ivf->coded_dim, &queries[q], &out->probes[q], &out->counts[q]);
    }
    return st;
}

static sac_status make_tables(const sac_ivf *ivf, sac_workspace *ws, size_t n, const float *x, float **tables)
{
    *tables = sac_workspace_device(ws, n, sac_ivf_table_bytes(ivf));
    if (*tables == NULL)
        return SAC_NO_MEMORY;
    return sac_run_pq_table(ws,
                            &(struct sac_pq_table_args){.pq = ivf->pq,
                                                        .codebook = ivf->codebook,
                                                        .queries = x,
                                                        .query_count = n,
                                                        .scale = ivf->distance == SAC_DISTANCE_L2SQ ? -2 : -1,
                                                        .tables = *tables});
}

static sac_status scan(const sac_ivf *ivf, sac_workspace *ws, size_t n, const float *tables,
                       const struct probing *probing, sac_ivf_query *queries, sac_ivf_candidates *out)
{
    uint32_t *depths = sac_workspace_host(ws, n, sizeof *depths);
    float **distances = sac_workspace_host(ws, n, sizeof *distances);
    uint32_t **slots = sac_workspace_host(ws, n, sizeof *slots);
    size_t total = 0;

    if (depths == NULL || distances == NULL || slots == NULL)
        return SAC_NO_MEMORY;
    for (size_t q = 0; q < n; q++) {
        queries[q].depth = (queries[q].depth + 15) / 16 * 16; /* keeps each query's results aligned */
        queries[q].at = total;
        depths[q] = queries[q].depth;
        total += queries[q].depth;
    }
    if (!sac_workspace_span(ws, total, sizeof(float), &out->distance) ||
        !sac_workspace_span(ws, total, sizeof(uint32_t), &out->slot))
        return SAC_NO_MEMORY;
    for (size_t q = 0; q < n; q++) {
        distances[q] = (float *)out->distance.device + queries[q].at;
        slots[q] = (uint32_t *)out->slot.device + queries[q].at;
    }
    out->counts = depths;
    return sac_run_pq_scan(
        ws, &(struct sac_pq_scan_args){.pq = ivf->pq,
                                       .page_codes = (const uint8_t *const *)ivf->lists.page_codes,
                                       .page_bias = (const float *const *)ivf->lists.page_bias,
                                       .page_slots = (const uint32_t *const *)ivf->lists.page_slots,
                                       .lists = ivf->lists.views,
                                       .tables = tables,
                                       .query_count = n,
                                       .probes = (const sac_probe *const *)probing->probes,
                                       .probe_counts = probing->counts,
                                       .depths = depths,
                                       .out_distance = distances,
                                       .out_slot = slots});
}

sac_status sac_ivf_search(const sac_ivf *ivf, sac_workspace *ws, size_t n, const sac_span *x,
                          sac_ivf_query *queries, sac_ivf_candidates *out)
{
    struct probing probing;
    sac_span coded;
    float *tables;
    sac_status st = sac_rotation_apply(&ivf->rotation, ws, n, x, &coded);

    if (st == SAC_OK)
        st = choose_probes(ivf, ws, n, coded.device, queries, &probing);
    if (st == SAC_OK)
        st = make_tables(ivf, ws, n, coded.device, &tables);
    return st == SAC_OK ? scan(ivf, ws, n, tables, &probing, queries, out) : st;
}

size_t sac_ivf_table_bytes(const sac_ivf *ivf)
{
    return ((size_t)ivf->pq.m << ivf->pq.nbits) * sizeof(float);
}

uint64_t sac_ivf_other_bytes(const sac_ivf *ivf)
{
    uint64_t floats = (uint64_t)ivf->nlist * (ivf->coded_dim + 2) + codebook_count(&ivf->pq);

    if (ivf->rotation.matrix != NULL)
        floats += 2 * (uint64_t)ivf->dim * ivf->coded_dim;
    return floats * sizeof(float) + sac_lists_host_bytes(&ivf->lists);
}
