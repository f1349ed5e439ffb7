#include "engine/opq.h"

#include "engine/pq.h"
#include "engine/random.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- applying --------------------------------------------------------------------------------------- */

static sac_status open_linear(const struct sac_ops *ops, sac_device *device, uint32_t in, uint32_t out,
                              const float *matrix, sac_linear **linear, sac_error *err)
{
    return ops->linear_open(
        device, &(struct sac_linear_params){.in = in, .out = out, .weight = matrix, .precision = SAC_F32},
        linear, err);
}

sac_status sac_rotation_open(sac_rotation *rotation, sac_device *device, uint32_t in, uint32_t out,
                             const float *matrix, sac_error *err)
{
    size_t bytes = (size_t)in * out * sizeof *matrix;
    sac_status st;

    *rotation = (sac_rotation){.in = in, .out = out, .device = device, .ops = sac_device_ops(device)};
    if (matrix == NULL)
        return SAC_OK;
    rotation->matrix = malloc(bytes);
    if (rotation->matrix == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a rotation of %u components", in);
    memcpy(rotation->matrix, matrix, bytes);
    st = open_linear(rotation->ops, device, in, out, matrix, &rotation->linear, err);
    if (st != SAC_OK)
        sac_rotation_close(rotation);
    return st;
}

sac_status sac_rotation_open_random(sac_rotation *rotation, sac_workspace *ws, uint32_t in, uint32_t out,
                                    const float *signs)
{
    size_t bytes = (size_t)SAC_ROTATE_ROUNDS * out * sizeof *signs;
    void *memory = NULL;
    sac_status st;

    *rotation = (sac_rotation){.in = in, .out = out, .device = ws->device, .ops = ws->ops};
    rotation->signs = malloc(bytes);
    if (rotation->signs == NULL)
        return sac_fail(ws->err, SAC_NO_MEMORY, "no memory for a rotation of %u components", in);
    memcpy(rotation->signs, signs, bytes);
    st = sac_buffer_alloc(ws->device, bytes, 1, &memory, ws->err);
    rotation->device_signs = memory;
    if (st == SAC_OK) {
        st = sac_stream_upload(ws->stream, memory, rotation->signs, bytes);
        if (st == SAC_OK)
            st = sac_stream_wait(ws->stream);
        if (st != SAC_OK)
            (void)sac_fail(ws->err, st, "cannot set the rotation: %s", sac_status_text(st));
    }
    if (st != SAC_OK)
        sac_rotation_close(rotation);
    return st;
}

void sac_rotation_close(sac_rotation *rotation)
{
    if (rotation->device_signs != NULL)
        sac_buffer_free(rotation->device, rotation->device_signs);
    free(rotation->signs);
    if (rotation->linear != NULL)
        rotation->ops->linear_close(rotation->linear);
    free(rotation->matrix);
    *rotation = (sac_rotation){0};
}

static sac_status run_linear(sac_workspace *ws, const sac_linear *linear, size_t n, const float *x, float *y)
{
    return sac_run_linear(ws, &(struct sac_linear_args){.linear = linear, .x = x, .rows = n, .y = y});
}

sac_status sac_rotation_prepare(const sac_rotation *rotation, sac_workspace *ws, size_t n, const sac_span *x,
                                sac_span *y)
{
    if (rotation->matrix == NULL && rotation->signs == NULL && rotation->in == rotation->out) {
        *y = *x;
        return SAC_OK;
    }
    return sac_workspace_span(ws, n, rotation->out * sizeof(float), y) ? SAC_OK : sac_workspace_failure(ws);
}

static sac_status append_zeros(const sac_rotation *rotation, sac_workspace *ws, size_t n, const float *x,
                               float *y)
{
    size_t from = rotation->in * sizeof(float), to = rotation->out * sizeof(float);
    sac_status st = sac_stream_clear(ws->stream, y, n * to);

    if (st == SAC_OK)
        st = sac_stream_copy_rows(ws->stream, y, to, x, from, from, n);
    return st == SAC_OK ? SAC_OK
                        : sac_fail(ws->err, st, "cannot append zeros to vectors: %s", sac_status_text(st));
}

sac_status sac_rotation_run(const sac_rotation *rotation, sac_workspace *ws, size_t n, const sac_span *x,
                            const sac_span *y)
{
    if (rotation->matrix != NULL)
        return run_linear(ws, rotation->linear, n, x->device, y->device);
    if (rotation->signs != NULL)
        return sac_run_rotate(ws, &(struct sac_rotate_args){.x = x->device,
                                                            .n = n,
                                                            .in = rotation->in,
                                                            .out = rotation->out,
                                                            .signs = rotation->device_signs,
                                                            .y = y->device});
    return y->device == x->device ? SAC_OK : append_zeros(rotation, ws, n, x->device, y->device);
}

sac_status sac_rotation_apply(const sac_rotation *rotation, sac_workspace *ws, size_t n, const sac_span *x,
                              sac_span *y)
{
    sac_status st = sac_rotation_prepare(rotation, ws, n, x, y);

    return st == SAC_OK ? sac_rotation_run(rotation, ws, n, x, y) : st;
}

/* ---- learning --------------------------------------------------------------------------------------- */

#define POLAR_STEPS_MAX 80
#define POLAR_TOLERANCE 1e-5 /* mean square of what is missing to the unit matrix */
#define SUBSPACE_STEPS 12

/* out [rows][columns] = a [rows][k] times the transpose of b [columns][k]; all on the host. */
static sac_status product(sac_workspace *ws, uint32_t rows, uint32_t k, uint32_t columns, const float *a,
                          const float *b, float *out)
{
    sac_workspace_mark mark = sac_workspace_save(ws);
    sac_linear *linear = NULL;
    sac_span from, to;
    sac_status st;

    if (!sac_workspace_span(ws, rows, k * sizeof(float), &from) ||
        !sac_workspace_span(ws, rows, columns * sizeof(float), &to))
        return sac_workspace_failure(ws);
    memcpy(from.host, a, (size_t)rows * k * sizeof *a);
    st = sac_span_push(ws, &from);
    if (st == SAC_OK)
        st = open_linear(ws->ops, ws->device, k, columns, b, &linear, ws->err);
    if (st == SAC_OK)
        st = run_linear(ws, linear, rows, from.device, to.device);
    if (st == SAC_OK)
        st = sac_span_pull(ws, &to);
    if (st == SAC_OK)
        memcpy(out, to.host, (size_t)rows * columns * sizeof *out);
    ws->ops->linear_close(linear);
    sac_workspace_restore(ws, mark);
    return st;
}

static void transpose(const float *from, size_t rows, size_t columns, float *to)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            to[c * rows + r] = from[r * columns + c];
}

/* Turns a [rows][columns], rows <= columns, into the nearest matrix with orthonormal rows: x <- 3/2 x - 1/2
 * (x x') x, which takes every singular value in (0, sqrt 3) to 1. */
static sac_status make_orthonormal(sac_workspace *ws, uint32_t rows, uint32_t columns, float *x)
{
    size_t count = (size_t)rows * columns;
    sac_workspace_mark mark = sac_workspace_save(ws);
    float *gram = sac_workspace_host(ws, (size_t)rows * rows, sizeof *gram);
    float *turned = sac_workspace_host(ws, count, sizeof *turned);
    float *next = sac_workspace_host(ws, count, sizeof *next);
    double norm = 0, missing = 1;
    sac_status st = SAC_OK;

    if (gram == NULL || turned == NULL || next == NULL) {
        sac_workspace_restore(ws, mark);
        return sac_workspace_failure(ws);
    }
    for (size_t i = 0; i < count; i++)
        norm += (double)x[i] * x[i];
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(x[i] / sqrt(norm));
    for (int step = 0; st == SAC_OK && step < POLAR_STEPS_MAX && missing > POLAR_TOLERANCE; step++) {
        st = product(ws, rows, columns, rows, x, x, gram);
        if (st != SAC_OK)
            break;
        missing = 0;
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t c = 0; c < rows; c++) {
                float *g = &gram[(size_t)r * rows + c];
                double off = (r == c) - (double)*g;
                missing += off * off;
                *g = (r == c ? 1.5f : 0) - 0.5f * *g;
            }
        missing /= rows;
        transpose(x, rows, columns, turned);
        st = product(ws, rows, rows, columns, gram, turned, next);
        if (st == SAC_OK)
            memcpy(x, next, count * sizeof *x);
    }
    sac_workspace_restore(ws, mark);
    return st;
}

/* The same for any shape: where there are more rows than columns, the columns become orthonormal. */
static sac_status polar_factor(sac_workspace *ws, uint32_t rows, uint32_t columns, float *x)
{
    sac_workspace_mark mark = sac_workspace_save(ws);
    float *turned;
    sac_status st;

    if (rows <= columns)
        return make_orthonormal(ws, rows, columns, x);
    turned = sac_workspace_host(ws, (size_t)rows * columns, sizeof *turned);
    if (turned == NULL)
        return sac_workspace_failure(ws);
    transpose(x, rows, columns, turned);
    st = make_orthonormal(ws, columns, rows, turned);
    if (st == SAC_OK)
        transpose(turned, columns, rows, x);
    sac_workspace_restore(ws, mark);
    return st;
}

struct learning {
    sac_workspace *ws;
    const sac_pq_shape *pq;
    size_t n;
    uint32_t in, out;
    const float *x_turned; /* host [in][n] */
    sac_span codebook;
    sac_span codes;        /* [n][m] */
    float *decoded;        /* host [n][out] */
    float *decoded_turned; /* host [out][n] */
};

/* Where the rotation starts: at the components as they are, or, where fewer come out than go in, at the
 * directions of most variance (subspace iteration on x'x). */
static sac_status start(struct learning *l, float *matrix)
{
    sac_workspace *ws = l->ws;
    sac_workspace_mark mark = sac_workspace_save(ws);
    float *covariance, *next;
    sac_random random = {l->in};
    sac_status st = SAC_OK;

    memset(matrix, 0, (size_t)l->in * l->out * sizeof *matrix);
    for (uint32_t i = 0; i < l->in && i < l->out; i++)
        matrix[(size_t)i * l->in + i] = 1;
    if (l->out >= l->in)
        return SAC_OK;
    for (size_t i = 0; i < (size_t)l->in * l->out; i++)
        matrix[i] = (float)(sac_random_unit(&random) - 0.5);
    covariance = sac_workspace_host(ws, (size_t)l->in * l->in, sizeof *covariance);
    next = sac_workspace_host(ws, (size_t)l->in * l->out, sizeof *next);
    if (covariance == NULL || next == NULL)
        return sac_workspace_failure(l->ws);
    st = product(ws, l->in, (uint32_t)l->n, l->in, l->x_turned, l->x_turned, covariance);
    for (int step = 0; st == SAC_OK && step < SUBSPACE_STEPS; step++) {
        st = product(ws, l->out, l->in, l->in, matrix, covariance, next);
        memcpy(matrix, next, (size_t)l->in * l->out * sizeof *matrix);
        if (st == SAC_OK)
            st = polar_factor(ws, l->out, l->in, matrix);
    }
    sac_workspace_restore(ws, mark);
    return st;
}

static sac_status encode(struct learning *l, const sac_span *rotated)
{
    sac_status st = sac_run_pq_encode(l->ws, &(struct sac_pq_encode_args){.pq = *l->pq,
                                                                          .codebook = l->codebook.device,
                                                                          .x = rotated->device,
                                                                          .n = l->n,
                                                                          .codes = l->codes.device});
    return st == SAC_OK ? sac_span_pull(l->ws, &l->codes) : st;
}

/* One step of Lloyd's in every slice: codewords move to the mean of what they code. */
static sac_status update_codebook(struct learning *l, const sac_span *rotated)
{
    const sac_pq_shape *pq = l->pq;
    size_t codewords = (size_t)pq->m << pq->nbits;
    const uint8_t *codes = l->codes.host;
    const float *x = rotated->host;
    sac_workspace_mark mark = sac_workspace_save(l->ws);
    double *sums = sac_workspace_host(l->ws, codewords * pq->dsub, sizeof *sums);
    uint32_t *counts = sac_workspace_host(l->ws, codewords, sizeof *counts);
    float *codebook = l->codebook.host;

    if (sums == NULL || counts == NULL)
        return sac_workspace_failure(l->ws);
    memset(sums, 0, codewords * pq->dsub * sizeof *sums);
    memset(counts, 0, codewords * sizeof *counts);
    for (size_t i = 0; i < l->n * pq->m; i++) {
        size_t codeword = (i % pq->m << pq->nbits) + codes[i];
        counts[codeword]++;
        for (uint32_t d = 0; d < pq->dsub; d++)
            sums[codeword * pq->dsub + d] += x[i * pq->dsub + d];
    }
    for (size_t c = 0; c < codewords; c++)
        for (uint32_t d = 0; counts[c] > 0 && d < pq->dsub; d++)
            codebook[c * pq->dsub + d] = (float)(sums[c * pq->dsub + d] / counts[c]);
    sac_workspace_restore(l->ws, mark);
    return sac_span_push(l->ws, &l->codebook);
}

/* The orthonormal matrix that takes x nearest to what it decoded to. A little of the matrix before keeps
 * directions in which nothing was decoded from being lost. */
static sac_status procrustes(struct learning *l, float *matrix)
{
    size_t count = (size_t)l->in * l->out;
    sac_workspace_mark mark = sac_workspace_save(l->ws);
    float *cross = sac_workspace_host(l->ws, count, sizeof *cross);
    double norm = 0;
    sac_status st;

    if (cross == NULL)
        return sac_workspace_failure(l->ws);
    transpose(l->decoded, l->n, l->out, l->decoded_turned);
    st = product(l->ws, l->out, (uint32_t)l->n, l->in, l->decoded_turned, l->x_turned, cross);
    for (size_t i = 0; st == SAC_OK && i < count; i++)
        norm += (double)cross[i] * cross[i];
    for (size_t i = 0; st == SAC_OK && i < count; i++)
        matrix[i] = cross[i] + (float)(1e-3 * sqrt(norm / l->in)) * matrix[i];
    if (st == SAC_OK)
        st = polar_factor(l->ws, l->out, l->in, matrix);
    sac_workspace_restore(l->ws, mark);
    return st;
}

static sac_status round_of_learning(struct learning *l, const sac_span *x, bool first, uint64_t seed,
                                    float *matrix)
{
    sac_workspace *ws = l->ws;
    sac_workspace_mark mark = sac_workspace_save(ws);
    sac_rotation rotation;
    sac_span rotated;
    sac_status st = sac_rotation_open(&rotation, ws->device, l->in, l->out, matrix, ws->err);

    if (st == SAC_OK)
        st = sac_rotation_apply(&rotation, ws, l->n, x, &rotated);
    if (st == SAC_OK)
        st = sac_span_pull(ws, &rotated);
    if (st == SAC_OK && first)
        st = sac_pq_train(ws, l->pq, 4, seed, l->n, &rotated, &l->codebook, NULL);
    if (st == SAC_OK)
        st = encode(l, &rotated);
    if (st == SAC_OK)
        st = update_codebook(l, &rotated);
    if (st == SAC_OK)
        st = encode(l, &rotated);
    if (st == SAC_OK) {
        sac_pq_decode(l->pq, l->codebook.host, l->n, l->codes.host, l->decoded);
        st = procrustes(l, matrix);
    }
    sac_rotation_close(&rotation);
    sac_workspace_restore(ws, mark);
    return st;
}

sac_status sac_opq_train(sac_workspace *ws, const sac_pq_shape *pq, uint64_t seed, size_t n, uint32_t in,
                         const sac_span *x, float *matrix, sac_progress_meter *meter)
{
    sac_workspace_mark mark = sac_workspace_save(ws);
    struct learning l = {.ws = ws, .pq = pq, .n = n, .in = in, .out = pq->m * pq->dsub};
    float *x_turned = sac_workspace_host(ws, n * in, sizeof *x_turned);
    sac_status st = SAC_OK;

    l.decoded = sac_workspace_host(ws, n * l.out, sizeof *l.decoded);
    l.decoded_turned = sac_workspace_host(ws, n * l.out, sizeof *l.decoded_turned);
    if (x_turned == NULL || l.decoded == NULL || l.decoded_turned == NULL ||
        !sac_workspace_span(ws, n, pq->m, &l.codes) ||
        !sac_workspace_span(ws, ((size_t)pq->m << pq->nbits) * pq->dsub, sizeof(float), &l.codebook))
        st = sac_workspace_failure(ws);
    if (st == SAC_OK) {
        transpose(x->host, n, in, x_turned);
        l.x_turned = x_turned;
        st = start(&l, matrix);
    }
    for (uint32_t round = 0; st == SAC_OK && round < SAC_OPQ_ROUNDS; round++) {
        st = round_of_learning(&l, x, round == 0, seed, matrix);
        if (st == SAC_OK && meter != NULL && !sac_progress_advance(meter))
            st = sac_fail(ws->err, SAC_CANCELLED, "training was stopped on request");
    }
    sac_workspace_restore(ws, mark);
    return st;
}
