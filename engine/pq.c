#include "engine/pq.h"

#include "engine/kmeans.h"

#include <math.h>
#include <string.h>

#define GRID_STEPS 255.0f

/* Moves each component of the codewords to the nearest of 256 values that lie evenly between its least and
 * its largest, so that a scan may take bytes for them and lose nothing (kernels/cpu/pq_scan_levels.c). That
 * is a small part of what codewords are off by. */
static void move_to_grid(float *codewords, size_t count, uint32_t dsub)
{
    for (uint32_t d = 0; d < dsub; d++) {
        float low = codewords[d], high = low, step;

        for (size_t c = 1; c < count; c++) {
            low = fminf(low, codewords[c * dsub + d]);
            high = fmaxf(high, codewords[c * dsub + d]);
        }
        step = (high - low) / GRID_STEPS;
        for (size_t c = 0; step > 0.0f && c < count; c++)
            codewords[c * dsub + d] = low + step * rintf((codewords[c * dsub + d] - low) / step);
    }
}

sac_status sac_pq_train(sac_workspace *ws, const sac_pq_shape *pq, uint32_t iterations, uint64_t seed,
                        size_t n, const sac_span *x, const sac_span *codebook, sac_progress_meter *meter)
{
    sac_workspace_mark mark = sac_workspace_save(ws);
    size_t dim = (size_t)pq->m * pq->dsub, codewords = (size_t)1 << pq->nbits;
    sac_kmeans_params params = {.dim = pq->dsub, .k = (uint32_t)codewords, .iterations = iterations};
    sac_span slice, centroids;
    sac_status st = SAC_OK;

    if (!sac_workspace_span(ws, n, pq->dsub * sizeof(float), &slice) ||
        !sac_workspace_span(ws, codewords, pq->dsub * sizeof(float), &centroids))
        st = sac_workspace_failure(ws);
    for (uint32_t j = 0; st == SAC_OK && j < pq->m; j++) {
        for (size_t i = 0; i < n; i++)
            memcpy((float *)slice.host + i * pq->dsub,
                   (const float *)x->host + i * dim + (size_t)j * pq->dsub, pq->dsub * sizeof(float));
        st = sac_span_push(ws, &slice);
        params.seed = seed + j;
        if (st == SAC_OK)
            st = sac_kmeans(ws, &params, n, &slice, &centroids, NULL);
        move_to_grid(centroids.host, codewords, pq->dsub);
        memcpy((float *)codebook->host + j * codewords * pq->dsub, centroids.host,
               codewords * pq->dsub * sizeof(float));
        if (st == SAC_OK && meter != NULL && !sac_progress_advance(meter))
            st = sac_fail(ws->err, SAC_CANCELLED, "training was stopped on request");
    }
    if (st == SAC_OK)
        st = sac_span_push(ws, codebook);
    sac_workspace_restore(ws, mark);
    return st;
}

void sac_pq_decode(const sac_pq_shape *pq, const float *codebook, size_t n, const uint8_t *codes, float *x)
{
    for (size_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < pq->m; j++) {
            size_t codeword = ((size_t)j << pq->nbits) + codes[i * pq->m + j];
            memcpy(x + (i * pq->m + j) * pq->dsub, codebook + codeword * pq->dsub, pq->dsub * sizeof(float));
        }
}
