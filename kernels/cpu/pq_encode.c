/* Codes of many rows: the codebook is transposed once, so that a register holds one component of many
 * codewords and short sub-vectors waste no lanes. Twin: ref/pq_encode.c. Floor: 2^nbits * dim subtractions
 * and FMA a row. Where there are tiles, and enough codewords to fill them, see pq_encode_amx.c. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/pq.h"
#include "kernels/cpu/pq_encode_tiles.h"

#include <assert.h>
#include <string.h>

enum {
    TASK_ROWS = 64,
    TILED_ROWS = 256,     /* of a task on tiles, so that a sub-quantizer's codewords stay in L1 for a while */
    NORM_ROWS = 16,       /* whose norms are computed together */
    TILED_NBITS_MIN = 6,  /* fewer codewords do not fill the tiles */
    TILED_ROWS_MIN = 256, /* fewer rows are not worth packing the codewords */
};

struct worker {
    float *residual; /* [task_rows][dim]; on tiles [task_rows / 16][dim][16] */
    float *decoded;  /* [NORM_ROWS][dim] */
    uint8_t *codes;  /* on tiles: [m][task_rows] */
};

struct encode {
    const struct sac_pq_encode_args *args;
    const struct sac_pq_kernels *kernels;
    bool tiled;
    uint32_t task_rows;
    float *codewords; /* [m][dsub][2^nbits] */
    uint16_t *words;  /* on tiles, instead: [m][sac_pq_encode_words_size()] */
    float *zeros;     /* [dim] */
    struct worker *workers;
};

static struct encode encode_of(const struct sac_pq_encode_args *a, const struct sac_pq_kernels *kernels,
                               bool tiled)
{
    return (struct encode){
        .args = a, .kernels = kernels, .tiled = tiled, .task_rows = tiled ? TILED_ROWS : TASK_ROWS};
}

/* Bytes of the codewords as they are packed. */
static size_t packed_size(const struct encode *e)
{
    const sac_pq_shape *pq = &e->args->pq;

    return e->tiled ? pq->m * sac_pq_encode_words_size(1u << pq->nbits, pq->dsub) * sizeof(uint16_t)
                    : ((size_t)pq->m * pq->dsub << pq->nbits) * sizeof(float);
}

static size_t scratch_of(const sac_device *d, const struct encode *e)
{
    size_t m = e->args->pq.m, dim = m * e->args->pq.dsub;

    return sac_scratch_size(packed_size(e), 1) + sac_scratch_size(dim, sizeof(float)) +
           sac_scratch_size(d->threads, sizeof(struct worker)) +
           d->threads *
               (sac_scratch_size(e->task_rows * dim, sizeof(float)) +
                sac_scratch_size(NORM_ROWS * dim, sizeof(float)) + sac_scratch_size(e->task_rows * m, 1));
}

static bool workspace_take(sac_stream *s, struct encode *e)
{
    size_t m = e->args->pq.m, dim = m * e->args->pq.dsub;
    void *packed = sac_scratch_take(s, packed_size(e), 1);

    e->codewords = e->tiled ? NULL : packed;
    e->words = e->tiled ? packed : NULL;
    e->zeros = sac_scratch_take(s, dim, sizeof *e->zeros);
    e->workers = sac_scratch_take(s, s->device->threads, sizeof *e->workers);
    if (packed == NULL || e->zeros == NULL || e->workers == NULL)
        return false;
    memset(e->zeros, 0, dim * sizeof *e->zeros);
    for (uint32_t i = 0; i < s->device->threads; i++) {
        struct worker *w = &e->workers[i];

        w->residual = sac_scratch_take(s, e->task_rows * dim, sizeof(float));
        w->decoded = sac_scratch_take(s, NORM_ROWS * dim, sizeof(float));
        w->codes = sac_scratch_take(s, e->task_rows * m, 1);
        if (w->residual == NULL || w->decoded == NULL || w->codes == NULL)
            return false;
    }
    return true;
}

/* ---- codewords -------------------------------------------------------------------------------------- */

static void pack_task(void *context, uint32_t task, uint32_t worker)
{
    const struct encode *e = context;
    uint32_t dsub = e->args->pq.dsub, count = 1u << e->args->pq.nbits;
    const float *from = e->args->codebook + (size_t)task * count * dsub;
    float *to = e->codewords + (size_t)task * count * dsub;

    (void)worker;
    if (e->tiled) {
        sac_pq_encode_tiles_words(from, count, dsub, e->words + task * sac_pq_encode_words_size(count, dsub));
        return;
    }
    for (uint32_t c = 0; c < count; c++)
        for (uint32_t d = 0; d < dsub; d++)
            to[(size_t)d * count + c] = from[(size_t)c * dsub + d];
}

/* ---- rows ------------------------------------------------------------------------------------------- */

static const float *residuals(const struct encode *e, struct worker *w, size_t first, uint32_t rows)
{
    const struct sac_pq_encode_args *a = e->args;
    size_t dim = (size_t)a->pq.m * a->pq.dsub;

    if (a->centroids == NULL)
        return a->x + first * dim;
    for (uint32_t i = 0; i < rows; i++) {
        const float *x = a->x + (first + i) * dim, *c = a->centroids + a->index[first + i] * dim;

        for (size_t d = 0; d < dim; d++)
            w->residual[i * dim + d] = x[d] - c[d];
    }
    return w->residual;
}

/* Centroid + decoded residual of one row. */
static void decode(const struct encode *e, size_t row, float *restrict to)
{
    const struct sac_pq_encode_args *a = e->args;
    uint32_t m = a->pq.m, dsub = a->pq.dsub;
    const float *centroid = a->centroids != NULL ? a->centroids + (size_t)a->index[row] * m * dsub : e->zeros;

    for (uint32_t j = 0; j < m; j++, centroid += dsub, to += dsub) {
        const float *word = a->codebook + (((size_t)j << a->pq.nbits) + a->codes[row * m + j]) * dsub;

        for (uint32_t d = 0; d < dsub; d++)
            to[d] = word[d] + centroid[d];
    }
}

/* Norms of up to NORM_ROWS rows, as their distances from 0. */
static void decoded_norms(const struct encode *e, struct worker *w, size_t first, uint32_t count)
{
    const struct sac_pq_encode_args *a = e->args;
    size_t dim = (size_t)a->pq.m * a->pq.dsub;
    const void *rows[NORM_ROWS];

    for (uint32_t i = 0; i < count; i++) {
        decode(e, first + i, w->decoded + i * dim);
        rows[i] = w->decoded + i * dim;
    }
    e->kernels->rows->distances(e->zeros, rows, count, (uint32_t)dim, SAC_F32, SAC_DISTANCE_L2SQ,
                                a->norms + first);
}

static void encode_rows(const struct encode *e, struct worker *w, size_t first, uint32_t rows)
{
    const struct sac_pq_encode_args *a = e->args;
    uint32_t m = a->pq.m, dsub = a->pq.dsub, count = 1u << a->pq.nbits;
    const float *x = residuals(e, w, first, rows);

    for (uint32_t j = 0; j < m; j++)
        e->kernels->encode(e->codewords + (size_t)j * count * dsub, count, dsub, x + (size_t)j * dsub,
                           (size_t)m * dsub, rows, a->codes + first * m + j, m);
}

/* Residuals of a task's rows, 16 of them side by side. */
static void turn_rows(const struct encode *e, struct worker *w, size_t first, uint32_t rows)
{
    const struct sac_pq_encode_args *a = e->args;
    size_t dim = (size_t)a->pq.m * a->pq.dsub;

    for (uint32_t i = 0; i < rows; i += SAC_PQ_ENCODE_GROUP) {
        uint32_t count = rows - i < SAC_PQ_ENCODE_GROUP ? rows - i : SAC_PQ_ENCODE_GROUP;
        const float *x[SAC_PQ_ENCODE_GROUP], *centroids[SAC_PQ_ENCODE_GROUP];

        for (uint32_t r = 0; r < count; r++) {
            x[r] = a->x + (first + i + r) * dim;
            centroids[r] = a->centroids != NULL ? a->centroids + a->index[first + i + r] * dim : NULL;
        }
        sac_pq_encode_tiles_turn(x, a->centroids != NULL ? centroids : NULL, count, (uint32_t)dim,
                                 w->residual + i * dim);
    }
}

/* The last group of rows is multiplied with itself where it has no neighbour. */
static void encode_tiled(const struct encode *e, struct worker *w, size_t first, uint32_t rows)
{
    const struct sac_pq_encode_args *a = e->args;
    uint32_t m = a->pq.m, dsub = a->pq.dsub, count = 1u << a->pq.nbits;
    size_t dim = (size_t)m * dsub, size = sac_pq_encode_words_size(count, dsub);

    turn_rows(e, w, first, rows);
    sac_pq_encode_tiles_begin();
    for (uint32_t j = 0; j < m; j++)
        for (uint32_t i = 0; i < rows; i += SAC_PQ_ENCODE_PAIR) {
            uint32_t next = i + SAC_PQ_ENCODE_GROUP < rows ? i + SAC_PQ_ENCODE_GROUP : i;
            size_t at = (size_t)j * dsub * SAC_PQ_ENCODE_GROUP;
            const float *groups[2] = {w->residual + i * dim + at, w->residual + next * dim + at};

            sac_pq_encode_tiles_nearest(e->words + j * size, count, dsub, groups,
                                        w->codes + (size_t)j * TILED_ROWS + i);
        }
    sac_pq_encode_tiles_end();
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < m; j++)
            a->codes[(first + i) * m + j] = w->codes[(size_t)j * TILED_ROWS + i];
}

static void encode_task(void *context, uint32_t task, uint32_t worker)
{
    const struct encode *e = context;
    const struct sac_pq_encode_args *a = e->args;
    struct worker *w = &e->workers[worker];
    size_t first = (size_t)task * e->task_rows;
    uint32_t rows = a->n - first < e->task_rows ? (uint32_t)(a->n - first) : e->task_rows;

    if (e->tiled)
        encode_tiled(e, w, first, rows);
    else
        encode_rows(e, w, first, rows);
    for (uint32_t i = 0; a->norms != NULL && i < rows; i += NORM_ROWS)
        decoded_norms(e, w, first + i, rows - i < NORM_ROWS ? rows - i : NORM_ROWS);
}

/* ---- the operation ---------------------------------------------------------------------------------- */

bool sac_pq_encode_tiles_pay(const struct sac_pq_encode_args *a)
{
    return a->n >= TILED_ROWS_MIN && a->pq.nbits >= TILED_NBITS_MIN && a->pq.dsub <= SAC_PQ_ENCODE_DSUB_MAX;
}

static sac_status encode_run(sac_stream *s, struct encode *e)
{
    const struct sac_pq_encode_args *a = e->args;

    assert((a->centroids == NULL) == (a->index == NULL));
    if (a->n == 0)
        return SAC_OK;
    sac_scratch_reset(s);
    if (!workspace_take(s, e))
        return SAC_NO_MEMORY;
    sac_parallel_for(s, a->pq.m, pack_task, e);
    sac_parallel_for(s, (uint32_t)((a->n + e->task_rows - 1) / e->task_rows), encode_task, e);
    return SAC_OK;
}

size_t sac_pq_encode_scratch_cpu(const sac_device *d, const struct sac_pq_encode_args *a)
{
    struct encode e = encode_of(a, NULL, false);

    return scratch_of(d, &e);
}

size_t sac_pq_encode_scratch_amx(const sac_device *d, const struct sac_pq_encode_args *a)
{
    struct encode e = encode_of(a, NULL, sac_pq_encode_tiles_pay(a));

    return scratch_of(d, &e);
}

sac_status sac_pq_encode_avx2(sac_stream *s, const struct sac_pq_encode_args *a)
{
    struct encode e = encode_of(a, &sac_pq_avx2, false);

    return encode_run(s, &e);
}

sac_status sac_pq_encode_avx512(sac_stream *s, const struct sac_pq_encode_args *a)
{
    struct encode e = encode_of(a, &sac_pq_avx512, false);

    return encode_run(s, &e);
}

sac_status sac_pq_encode_amx(sac_stream *s, const struct sac_pq_encode_args *a)
{
    struct encode e = encode_of(a, &sac_pq_avx512, sac_pq_encode_tiles_pay(a));

    return encode_run(s, &e);
}
