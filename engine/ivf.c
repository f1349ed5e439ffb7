#include "engine/ivf.h"

#include "engine/kmeans.h"
#include "engine/pq.h"
#include "engine/rabitq.h"
#include "engine/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of a million SIFT vectors and 2048 or 8192 lists, 48 leave 5 to 10 % more entries to be scanned for a
 * recall of 0.95 than 96; with 2048 lists, 192 leave as many. */
#define COARSE_SAMPLE_PER_LIST 96u
#define COARSE_ITERATIONS 8u
#define PQ_ITERATIONS 8u
#define LIST_MAJOR_GUESS 8.0f /* until it is measured */

/* ---- making and training ---------------------------------------------------------------------------- */

static size_t codebook_count(const sac_pq_shape *pq)
{
    return ((size_t)pq->m << pq->nbits) * pq->dsub;
}

static float first_guess(const struct sac_ops *ops, const sac_pq_shape *pq)
{
    if (pq->factors || (ops->pq_scan_schedules & 1u << SAC_LIST_MAJOR) == 0)
        return INFINITY;
    return (ops->pq_scan_schedules & 1u << SAC_QUERY_MAJOR) != 0 ? LIST_MAJOR_GUESS : 0;
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
    ivf->pq = sac_index_spec_shape(spec);
    ivf->list_major_from = first_guess(sac_device_ops(device), &ivf->pq);
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
    sac_groups_close(&ivf->groups);
    sac_buffer_free(ivf->device, ivf->centroids);
    sac_buffer_free(ivf->device, ivf->centroid_norms);
    sac_buffer_free(ivf->device, ivf->codebook);
    free(ivf->norms);
    free(ivf);
}

size_t sac_ivf_train_min(const sac_index_spec *spec)
{
    size_t codewords = spec->rabitq ? 1 : (size_t)1 << spec->nbits;

    return spec->nlist > codewords ? spec->nlist : codewords;
}

static size_t quantizer_sample(uint32_t nbits)
{
    return (size_t)SAC_PQ_SAMPLE_PER_CODEWORD << nbits;
}

size_t sac_ivf_train_residuals(const sac_index_spec *spec)
{
    return spec->rabitq ? 0 : quantizer_sample(spec->nbits);
}

size_t sac_ivf_train_max(const sac_index_spec *spec)
{
    size_t coarse = (size_t)COARSE_SAMPLE_PER_LIST * spec->nlist, fine = sac_ivf_train_residuals(spec);

    return coarse > fine ? coarse : fine;
}

uint64_t sac_ivf_train_steps(const sac_index_spec *spec)
{
    return COARSE_ITERATIONS + (spec->rabitq ? 0 : spec->m) + (spec->rotate ? SAC_OPQ_ROUNDS : 0);
}

/* RaBitQ's, as a piece of the workspace; NULL where there is no room. */
static const float *fixed_codebook(const sac_ivf *ivf, sac_workspace *ws)
{
    float *codebook = sac_workspace_host(ws, codebook_count(&ivf->pq), sizeof *codebook);

    if (codebook != NULL)
        sac_rabitq_codebook(ivf->pq.m, codebook);
    return codebook;
}

/* Copies what is on the host to where searches read it, and derives the rest. */
static sac_status set_learnt(sac_ivf *ivf, sac_workspace *ws, const sac_ivf_learnt *learnt)
{
    size_t bytes = ivf->nlist * (size_t)ivf->coded_dim * sizeof(float);
    const float *codebook = ivf->pq.factors ? fixed_codebook(ivf, ws) : learnt->codebook;
    sac_status st;

    if (codebook == NULL)
        return sac_workspace_failure(ws);
    st = sac_stream_upload(ws->stream, ivf->centroids, learnt->centroids, bytes);
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
    if (st != SAC_OK)
        return sac_fail(ws->err, st, "cannot set the centroids: %s", sac_status_text(st));
    return sac_groups_open(&ivf->groups, ws, ivf->nlist, ivf->coded_dim, learnt->centroids, ivf->centroids,
                           learnt->group_count, learnt->group_first);
}

sac_status sac_ivf_restore(sac_ivf *ivf, sac_workspace *ws, const sac_ivf_learnt *learnt)
{
    sac_status st = ivf->pq.factors ? sac_rotation_open_random(&ivf->rotation, ws, ivf->dim, ivf->coded_dim,
                                                               learnt->rotation)
                                    : sac_rotation_open(&ivf->rotation, ivf->device, ivf->dim, ivf->coded_dim,
                                                        learnt->rotation, ws->err);

    return st == SAC_OK ? set_learnt(ivf, ws, learnt) : st;
}

sac_status sac_ivf_share(const sac_ivf *ivf, sac_workspace *ws, sac_ivf *other, sac_workspace *other_ws)
{
    sac_ivf_learnt learnt = {.rotation = ivf->pq.factors ? ivf->rotation.signs : ivf->rotation.matrix,
                             .group_count = ivf->groups.count,
                             .group_first = ivf->groups.first};
    sac_span centroids, codebook;
    sac_status st;

    if (!sac_workspace_view(ws, ivf->centroids, ivf->nlist, ivf->coded_dim * sizeof(float), &centroids) ||
        !sac_workspace_view(ws, ivf->codebook, codebook_count(&ivf->pq), sizeof(float), &codebook))
        return sac_workspace_failure(ws);
    learnt.centroids = centroids.host;
    learnt.codebook = codebook.host;
    st = sac_span_fetch(ws, &centroids);
    if (st == SAC_OK)
        st = sac_span_pull(ws, &codebook);
    return st == SAC_OK ? sac_ivf_restore(other, other_ws, &learnt) : st;
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
        return sac_workspace_failure(ws);
    for (size_t i = 0; i < *count; i++)
        memcpy((float *)out->host + i * dim, (const float *)x->host + i * n / *count * dim,
               dim * sizeof(float));
    st = sac_span_push(ws, out);
    if (st == SAC_OK)
        st = sac_kmeans_assign(ws, dim, *count, out->device, nlist, centroids->device, norms.device,
                               index.device, NULL);
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
                        ? sac_workspace_failure(ws)
                        : sac_opq_train(ws, &ivf->pq, seed, used, ivf->dim, residual, matrix, meter);

    if (st == SAC_OK)
        st = sac_rotation_open(&ivf->rotation, ivf->device, ivf->dim, ivf->coded_dim, matrix, ws->err);
    return st;
}

/* Signs need no learning: the rotation is drawn, and takes the centroids along. */
static sac_status train_rabitq(sac_ivf *ivf, sac_workspace *ws, uint64_t seed, const sac_span *centroids,
                               sac_ivf_learnt *learnt)
{
    float *signs = sac_workspace_host(ws, (size_t)SAC_ROTATE_ROUNDS * ivf->coded_dim, sizeof *signs);
    sac_span coded = {0};
    sac_status st;

    if (signs == NULL)
        return sac_workspace_failure(ws);
    sac_rabitq_signs(seed, ivf->coded_dim, signs);
    st = sac_rotation_open_random(&ivf->rotation, ws, ivf->dim, ivf->coded_dim, signs);
    if (st == SAC_OK)
        st = sac_rotation_apply(&ivf->rotation, ws, ivf->nlist, centroids, &coded);
    if (st == SAC_OK)
        st = sac_span_pull(ws, &coded);
    learnt->centroids = coded.host;
    return st == SAC_OK ? set_learnt(ivf, ws, learnt) : st;
}

static sac_status train(sac_ivf *ivf, sac_workspace *ws, uint64_t seed, size_t n, const sac_span *x,
                        bool rotate, sac_progress_meter *meter)
{
    sac_kmeans_params coarse = {
        .dim = ivf->dim, .k = ivf->nlist, .iterations = COARSE_ITERATIONS, .seed = seed, .balance = true};
    uint32_t *group_first = sac_workspace_host(ws, sac_groups_most(ivf->nlist) + 1, sizeof *group_first);
    sac_ivf_learnt learnt = {.group_first = group_first};
    sac_span centroids, codebook, residual, coded_centroids, coded_residual;
    size_t count;
    sac_status st;

    if (group_first == NULL || !sac_workspace_span(ws, ivf->nlist, ivf->dim * sizeof(float), &centroids) ||
        !sac_workspace_span(ws, codebook_count(&ivf->pq), sizeof(float), &codebook))
        return sac_workspace_failure(ws);
    st = sac_kmeans(ws, &coarse, n, x, &centroids, meter);
    if (st == SAC_OK)
        st = sac_groups_train(ws, seed + 3, ivf->nlist, ivf->dim, &centroids, &learnt.group_count,
                              group_first);
    if (st == SAC_OK && ivf->pq.factors)
        return train_rabitq(ivf, ws, seed + 1, &centroids, &learnt);
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
        st = sac_span_fetch(ws, &coded_centroids);
    if (st == SAC_OK)
        st = sac_span_pull(ws, &coded_residual);
    if (st == SAC_OK)
        st = sac_pq_train(ws, &ivf->pq, PQ_ITERATIONS, seed + 2, count, &coded_residual, &codebook, meter);
    if (st != SAC_OK)
        return st;
    learnt.centroids = coded_centroids.host;
    learnt.codebook = codebook.host;
    return set_learnt(ivf, ws, &learnt);
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

/* Codes and biases of rotated rows, by what the index's codec is. */
static sac_status encode(const sac_ivf *ivf, sac_workspace *ws, size_t n, const float *x,
                         const uint32_t *index, uint8_t *codes, float *bias, float *factors)
{
    bool l2 = ivf->distance == SAC_DISTANCE_L2SQ;
    sac_status st;

    if (ivf->pq.factors)
        return sac_run_rabitq_encode(ws, &(struct sac_rabitq_encode_args){.x = x,
                                                                          .n = n,
                                                                          .dim = ivf->coded_dim,
                                                                          .centroids = ivf->centroids,
                                                                          .index = index,
                                                                          .distance = ivf->distance,
                                                                          .codes = codes,
                                                                          .bias = bias,
                                                                          .factors = factors});
    st = l2 ? SAC_OK : sac_stream_clear(ws->stream, bias, n * sizeof *bias);
    if (st != SAC_OK)
        return sac_fail(ws->err, st, "cannot clear the biases: %s", sac_status_text(st));
    return sac_run_pq_encode(ws, &(struct sac_pq_encode_args){.pq = ivf->pq,
                                                              .codebook = ivf->codebook,
                                                              .x = x,
                                                              .n = n,
                                                              .centroids = ivf->centroids,
                                                              .index = index,
                                                              .codes = codes,
                                                              .norms = l2 ? bias : NULL});
}

sac_status sac_ivf_encode(const sac_ivf *ivf, sac_workspace *ws, size_t n, const sac_span *x,
                          sac_ivf_entries *out)
{
    sac_span coded, index;
    uint8_t *codes = sac_workspace_device(ws, n, ivf->pq.m);
    float *bias = sac_workspace_device(ws, n, sizeof *bias);
    float *factors = sac_workspace_device(ws, ivf->pq.factors ? n : 0, sizeof *factors);
    sac_status st;

    if (codes == NULL || bias == NULL || factors == NULL ||
        !sac_workspace_span(ws, n, sizeof(uint32_t), &index))
        return sac_workspace_failure(ws);
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
        st = encode(ivf, ws, n, coded.device, index.device, codes, bias, factors);
    if (st == SAC_OK)
        st = sac_span_pull(ws, &index);
    *out = (sac_ivf_entries){.n = n, .list = index.host, .codes = codes, .bias = bias, .factors = factors};
    return st;
}

sac_status sac_ivf_append(sac_ivf *ivf, sac_workspace *ws, const sac_ivf_entries *entries,
                          const uint32_t *slots)
{
    return sac_lists_append(&ivf->lists, ws, entries->n, entries->list, entries->codes, entries->bias,
                            entries->factors, slots);
}

uint64_t sac_ivf_other_bytes(const sac_ivf *ivf)
{
    uint64_t floats = (uint64_t)ivf->nlist * (ivf->coded_dim + 2) + codebook_count(&ivf->pq);

    if (ivf->rotation.matrix != NULL)
        floats += 2 * (uint64_t)ivf->dim * ivf->coded_dim;
    if (ivf->rotation.signs != NULL)
        floats += 2 * (uint64_t)SAC_ROTATE_ROUNDS * ivf->coded_dim;
    return floats * sizeof(float) + sac_groups_bytes(&ivf->groups, ivf->nlist, ivf->coded_dim) +
           sac_lists_directory_bytes(&ivf->lists);
}
