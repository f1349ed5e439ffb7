/* Nearest centroids by products of bf16 numbers (assign_amx.c), with the results of the f32 version to the
 * bit.
 *
 * A row first gets the least score |c|^2 - 2 <x, c> of every block of 16 centroids from products of x and c
 * rounded to bf16. How far such a score may be from that of the f32 version is bounded by what rounding took
 * away from this row and from any centroid (slack_of()). So the centroid that f32 would find is in a block
 * whose least is within twice that bound of the row's least: of a million SIFT vectors and 2048 to 8192
 * centroids, 1.2 to 1.3 blocks a row. The scores of these are computed in f32, with the f32 version's order
 * of additions, block by block, so that the rows of a block share its centroids. Rows that rounding tells too
 * little about (NaN, infinities, numbers that overflow, more candidates than places) are left to the f32
 * version.
 *
 * Distances do not change when one vector is subtracted from rows and centroids, and the bound shrinks with
 * their lengths: so the centroids' mean is, roughly.
 *
 * Twin: ref/assign.c. Floor: n * k * dim products at the tiles' 512 a cycle. */
#include "kernels/cpu/assign.h"
#include "kernels/cpu/assign_tiles.h"
#include "kernels/cpu/cpu.h"

#include <assert.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>

enum {
    LANES = 16,
    PACK = SAC_ASSIGN_PACK,
    DIM_MIN = 16, /* below, tiles are mostly filled with zeros */
    K_MIN = 64,   /* fewer blocks leave little out */
    N_MIN = 64,
    CENTRE_ROWS = 256, /* centroids whose mean is the centre, at most */
    CANDIDATES = 16,   /* blocks that a row may have to look into */
    TASK_ROWS_MAX = 4096,
    TASK_BYTES = 2 << 20,   /* of a task's rows as bf16 */
    GROUP_BYTES = 24 << 10, /* of rows that stay in L1 while centroids go by */
    GROUP_ROWS_MAX = 96,
    PIECE_BYTES = 512 << 10, /* of centroids that stay in L2 while groups of rows go by */
    LOOK_ROWS = 8,           /* that are looked at together in f32: as many as hide an addition's latency */
};
#define WHOLE UINT32_MAX /* candidates of a row that is left to the f32 version */

struct candidate {
    float least;
    uint32_t block;
};

/* Sizes, and where a worker's pieces are in its part of the scratch, in bytes. */
struct layout {
    uint32_t packs; /* of centroids */
    uint32_t piece_packs, group_rows, task_rows;
    size_t pack_size; /* bf16 numbers */
    size_t slack, least, leasts, counts, candidates, starts, order, gathered, total;
};

struct worker {
    uint16_t *rows;               /* packs of the task's rows */
    float *slack;                 /* [task_rows]; -inf: no candidates are looked for */
    float *least;                 /* [task_rows] */
    float *leasts;                /* [blocks of a piece][rows of a group] */
    uint32_t *counts;             /* [task_rows] of candidates, or WHOLE */
    struct candidate *candidates; /* [task_rows][CANDIDATES] */
    uint32_t *starts;             /* [blocks + 1] */
    uint32_t *order;              /* [task_rows * CANDIDATES]: rows by block */
    float *gathered;              /* [SAC_ARG_MIN_ROWS][dim] */
};

struct assign {
    const struct sac_assign_args *args;
    struct layout at;
    struct sac_assign_panels panels;
    float *centre;       /* [dim] */
    uint16_t *tiles;     /* [packs][pack_size]: -2 (c - centre) */
    float *norms;        /* [packs * PACK]: |c - centre|^2, infinity from k on */
    float *whole, *lost; /* [packs * PACK]: squares, as sac_assign_tiles_pack() says */
    unsigned char *scratch;
    float centre_length;
    float longest, most_lost; /* of all centroids */
    float largest_norm;       /* of norms and of those given */
};

static uint32_t clamp(size_t x, uint32_t least, uint32_t most)
{
    return x < least ? least : x > most ? most : (uint32_t)x;
}

static uint32_t packs_of(size_t rows)
{
    return (uint32_t)((rows + PACK - 1) / PACK);
}

static struct layout layout_of(const sac_device *d, const struct sac_assign_args *a)
{
    size_t pack = sac_assign_pack_size(a->dim), bytes = pack * sizeof(uint16_t), rows;
    struct layout at = {.packs = packs_of(a->k), .pack_size = pack};
    uint32_t most = clamp(TASK_BYTES / bytes, 1, TASK_ROWS_MAX / PACK), blocks = at.packs * 2;

    at.piece_packs = clamp(PIECE_BYTES / bytes, 1, at.packs);
    at.group_rows = clamp(GROUP_BYTES / bytes, 1, GROUP_ROWS_MAX / PACK) * PACK;
    at.task_rows = rows = clamp(packs_of((a->n + d->threads - 1) / d->threads), 1, most) * PACK;
    at.slack = sac_scratch_size(rows / PACK, bytes);
    at.least = at.slack + sac_scratch_size(rows, sizeof(float));
    at.leasts = at.least + sac_scratch_size(rows, sizeof(float));
    at.counts = at.leasts + sac_scratch_size((size_t)at.piece_packs * 2 * at.group_rows, sizeof(float));
    at.candidates = at.counts + sac_scratch_size(rows, sizeof(uint32_t));
    at.starts = at.candidates + sac_scratch_size(rows * CANDIDATES, sizeof(struct candidate));
    at.order = at.starts + sac_scratch_size((size_t)blocks + 1, sizeof(uint32_t));
    at.gathered = at.order + sac_scratch_size(rows * CANDIDATES, sizeof(uint32_t));
    at.total = at.gathered + sac_scratch_size((size_t)SAC_ARG_MIN_ROWS * a->dim, sizeof(float));
    return at;
}

static bool pays(const struct sac_assign_args *a)
{
    return a->dim >= DIM_MIN && a->k >= K_MIN && a->n >= N_MIN;
}

size_t sac_assign_scratch_amx(const sac_device *d, const struct sac_assign_args *a)
{
    size_t sum = sac_assign_panels_size(a), rows;
    struct layout at;

    if (!pays(a))
        return sac_assign_short_pays(a) ? sac_assign_short_scratch(d, a) : sum;
    at = layout_of(d, a);
    rows = (size_t)at.packs * PACK;
    sum = sac_scratch_add(sum, sac_scratch_size(a->dim, sizeof(float)));
    sum = sac_scratch_add(sum, sac_scratch_size(at.packs * at.pack_size, sizeof(uint16_t)));
    sum = sac_scratch_add(sum, 3 * sac_scratch_size(rows, sizeof(float)));
    return sac_scratch_add(sum, sac_scratch_size(d->threads, at.total));
}

static bool workspace_take(sac_stream *s, struct assign *assign)
{
    const struct sac_assign_args *a = assign->args;
    size_t rows = (size_t)assign->at.packs * PACK;

    assign->centre = sac_scratch_take(s, a->dim, sizeof *assign->centre);
    assign->tiles = sac_scratch_take(s, assign->at.packs * assign->at.pack_size, sizeof *assign->tiles);
    assign->norms = sac_scratch_take(s, rows, sizeof *assign->norms);
    assign->whole = sac_scratch_take(s, rows, sizeof *assign->whole);
    assign->lost = sac_scratch_take(s, rows, sizeof *assign->lost);
    assign->scratch = sac_scratch_take(s, s->device->threads, assign->at.total);
    return assign->centre != NULL && assign->tiles != NULL && assign->norms != NULL &&
           assign->whole != NULL && assign->lost != NULL && assign->scratch != NULL;
}

static struct worker worker_of(const struct assign *assign, uint32_t worker)
{
    const struct layout *at = &assign->at;
    unsigned char *base = assign->scratch + worker * at->total;

    return (struct worker){.rows = (void *)base,
                           .slack = (void *)(base + at->slack),
                           .least = (void *)(base + at->least),
                           .leasts = (void *)(base + at->leasts),
                           .counts = (void *)(base + at->counts),
                           .candidates = (void *)(base + at->candidates),
                           .starts = (void *)(base + at->starts),
                           .order = (void *)(base + at->order),
                           .gathered = (void *)(base + at->gathered)};
}

/* ---- centroids -------------------------------------------------------------------------------------- */

static void find_centre(struct assign *assign)
{
    const struct sac_assign_args *a = assign->args;
    uint32_t count = a->k < CENTRE_ROWS ? a->k : CENTRE_ROWS;
    float sum = 0.0f;

    memset(assign->centre, 0, a->dim * sizeof *assign->centre);
    for (uint32_t i = 0; i < count; i++) {
        const float *restrict c = a->centroids + (size_t)((uint64_t)i * a->k / count) * a->dim;
        float *restrict centre = assign->centre;

        for (uint32_t d = 0; d < a->dim; d++)
            centre[d] += c[d] / (float)count;
    }
    for (uint32_t d = 0; d < a->dim; d++)
        sum += assign->centre[d] * assign->centre[d];
    assign->centre_length = sum; /* its square so far */
}

static void pack_task(void *context, uint32_t task, uint32_t worker)
{
    const struct assign *assign = context;
    const struct sac_assign_args *a = assign->args;
    uint32_t first = task * PACK, count = a->k - first < PACK ? a->k - first : PACK;
    const float *centroids = a->centroids + (size_t)first * a->dim;
    const void *rows[PACK];
    float products[PACK];

    (void)worker;
    for (uint32_t i = 0; i < count; i++)
        rows[i] = centroids + (size_t)i * a->dim;
    assign->panels.kernels->distances(assign->centre, rows, count, a->dim, SAC_F32, SAC_DISTANCE_NEG_IP,
                                      products);
    for (uint32_t i = 0; i < PACK; i++)
        assign->norms[first + i] =
            i < count ? a->centroid_norms[first + i] + 2 * products[i] + assign->centre_length : INFINITY;
    sac_assign_tiles_pack(centroids, count, a->dim, assign->centre, -2.0f, false,
                          assign->tiles + task * assign->at.pack_size, assign->whole + first,
                          assign->lost + first);
}

/* A length from its square, never too short. What numbers below 1e-19 lose when they are squared is less than
 * the addend. */
static float length_of(float square)
{
    return sqrtf(square) * 1.001f + 1e-18f;
}

/* The largest of x, or infinity where one is not finite. */
static float largest_of(const float *x, uint32_t n)
{
    float largest = 0.0f;

    for (uint32_t i = 0; i < n; i++)
        largest = !(fabsf(x[i]) < INFINITY) ? INFINITY : fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    return largest;
}

static void pack_centroids(sac_stream *s, struct assign *assign)
{
    const struct sac_assign_args *a = assign->args;
    float norm;

    find_centre(assign);
    sac_parallel_for(s, assign->at.packs, pack_task, assign);
    assign->longest = length_of(largest_of(assign->whole, a->k));
    assign->most_lost = length_of(largest_of(assign->lost, a->k));
    assign->largest_norm = largest_of(assign->norms, a->k);
    norm = largest_of(a->centroid_norms, a->k);
    assign->largest_norm = norm > assign->largest_norm ? norm : assign->largest_norm;
    assign->centre_length = length_of(assign->centre_length);
}

/* ---- rows ------------------------------------------------------------------------------------------- */

/* Twice the most by which a row's score and that of the f32 version differ, from the squared lengths of the
 * row (less the centre) and of what rounding took from it; but for what is the same for all centroids. With x
 * = b + e, b being bf16, and y = -2 c likewise, <x, y> - <b_x, b_y> = <e_x, y> + <x, e_y> - <e_x, e_y>. A sum
 * of dim products adds at most dim 2^-24 |x| |y| (twice that is allowed for, here and there), and adding the
 * norm 2^-24 of what is added. Infinite, or NaN, where something might overflow. */
static float slack_of(const struct assign *assign, float whole, float lost)
{
    float x = length_of(whole), e = length_of(lost), y = assign->longest, f = assign->most_lost;
    float centre = 2 * assign->centre_length, unit = ((float)assign->args->dim + 64) * 0x1p-23f;
    float rounding = e * y + x * f + e * f;
    float sums = (x + e) * (y + f) + (x + centre) * (y + centre);

    return 2.02f * (rounding + unit * sums + 0x1p-20f * assign->largest_norm) + 1e-30f;
}

static void pack_rows(const struct assign *assign, struct worker *w, size_t first, uint32_t count)
{
    const struct sac_assign_args *a = assign->args;
    uint32_t packs = packs_of(count);
    float *whole = w->slack, *lost = w->least;

    for (uint32_t p = 0; p < packs; p++) {
        uint32_t at = p * PACK, rows = count - at < PACK ? count - at : PACK;

        sac_assign_tiles_pack(a->x + (first + at) * a->dim, rows, a->dim, assign->centre, 1.0f, true,
                              w->rows + p * assign->at.pack_size, whole + at, lost + at);
    }
    for (uint32_t i = 0; i < packs * PACK; i++) {
        float slack = i < count ? slack_of(assign, whole[i], lost[i]) : -INFINITY;
        bool known = slack < INFINITY;

        w->counts[i] = known ? 0 : WHOLE;
        w->slack[i] = known ? slack : -INFINITY;
        w->least[i] = INFINITY;
    }
}

/* ---- candidates ------------------------------------------------------------------------------------- */

/* Leaves out those that the row's least has ruled out since. */
static uint32_t candidates_left(struct candidate *candidates, uint32_t count, float most)
{
    uint32_t left = 0;

    for (uint32_t i = 0; i < count; i++)
        if (candidates[i].least <= most)
            candidates[left++] = candidates[i];
    return left;
}

static void add_candidate(struct worker *w, uint32_t row, uint32_t block, float least)
{
    struct candidate *candidates = w->candidates + (size_t)row * CANDIDATES;

    if (w->counts[row] == CANDIDATES)
        w->counts[row] = candidates_left(candidates, CANDIDATES, w->least[row] + w->slack[row]);
    if (w->counts[row] < CANDIDATES) {
        candidates[w->counts[row]++] = (struct candidate){least, block};
        return;
    }
    w->counts[row] = WHOLE;
    w->slack[row] = -INFINITY;
}

/* Of 16 rows, the blocks of a piece that may hold the nearest. */
static void find_candidates(struct worker *w, uint32_t row, const float *leasts, size_t stride,
                            uint32_t first_block, uint32_t blocks)
{
    __m512 most = _mm512_add_ps(_mm512_load_ps(w->least + row), _mm512_load_ps(w->slack + row));

    for (uint32_t b = 0; b < blocks; b++, leasts += stride) {
        uint32_t rows = _mm512_cmp_ps_mask(_mm512_load_ps(leasts), most, _CMP_LE_OQ);

        for (; rows != 0; rows &= rows - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(rows);

            if (w->counts[row + i] != WHOLE)
                add_candidate(w, row + i, first_block + b, leasts[i]);
        }
    }
}

static void find_blocks(const struct assign *assign, struct worker *w, uint32_t count)
{
    const struct layout *at = &assign->at;
    uint32_t all = packs_of(count) * PACK, steps = sac_assign_steps(assign->args->dim);

    sac_assign_tiles_begin();
    for (uint32_t p = 0; p < at->packs; p += at->piece_packs) {
        uint32_t packs = at->packs - p < at->piece_packs ? at->packs - p : at->piece_packs;

        for (uint32_t r = 0; r < all; r += at->group_rows) {
            uint32_t rows = all - r < at->group_rows ? all - r : at->group_rows;

            sac_assign_tiles_least(assign->tiles + p * at->pack_size, assign->norms + (size_t)p * PACK, packs,
                                   w->rows + r / PACK * at->pack_size, rows / PACK, steps, w->leasts,
                                   w->least + r);
            for (uint32_t i = 0; i < rows; i += LANES)
                find_candidates(w, r + i, w->leasts + i, rows, 2 * p, 2 * packs);
        }
    }
    sac_assign_tiles_end();
}

/* ---- in f32 ----------------------------------------------------------------------------------------- */

/* The least score of each of LOOK_ROWS rows in a block, and which centroid of it has it. Not inlined: there
 * are just enough registers for the rows' addresses. */
static __attribute__((noinline)) void look(const float *const x[LOOK_ROWS], uint32_t dim, const float *panel,
                                           uint32_t panel_rows, const float *norms, float *score,
                                           uint32_t *index)
{
    __m512 sums[LOOK_ROWS];

    for (int i = 0; i < LOOK_ROWS; i++)
        sums[i] = _mm512_setzero_ps();
    for (uint32_t d = 0; d < dim; d++, panel += panel_rows) {
        __m512 centroids = _mm512_load_ps(panel);

#pragma GCC unroll 8
        for (int i = 0; i < LOOK_ROWS; i++)
            sums[i] = _mm512_fmadd_ps(_mm512_set1_ps(x[i][d]), centroids, sums[i]);
    }
    for (int i = 0; i < LOOK_ROWS; i++) {
        __m512 scores = _mm512_fmadd_ps(_mm512_set1_ps(-2.0f), sums[i], _mm512_load_ps(norms));

        score[i] = _mm512_reduce_min_ps(scores);
        index[i] = (uint32_t)__builtin_ctz(_mm512_cmp_ps_mask(scores, _mm512_set1_ps(score[i]), _CMP_EQ_OQ) |
                                           0x10000);
    }
}

/* Rows that are looked at next come from anywhere. */
static void prefetch(const float *x, uint32_t dim)
{
    for (uint32_t d = 0; d < dim; d += LANES)
        _mm_prefetch((const char *)(x + d), _MM_HINT_T0);
}

/* Looks into a block for the first `count` of the `left` rows, which have it as a candidate. Blocks come in
 * order, so among equals the first stays. */
static void look_into(const struct assign *assign, struct worker *w, size_t first, uint32_t block,
                      const uint32_t *rows, uint32_t count, uint32_t left)
{
    const struct sac_assign_args *a = assign->args;
    const struct sac_assign_panels *p = &assign->panels;
    uint32_t panel_rows = p->kernels->panel_rows, at = block * SAC_ASSIGN_BLOCK;
    const float *panel = p->panels + (size_t)(at - at % panel_rows) * a->dim + at % panel_rows;

    for (uint32_t r = 0; r < count; r += LOOK_ROWS) {
        const float *x[LOOK_ROWS];
        float score[LOOK_ROWS];
        uint32_t index[LOOK_ROWS];

        for (uint32_t i = 0; i < LOOK_ROWS; i++)
            x[i] = a->x + (first + rows[r + i < count ? r + i : r]) * a->dim;
        for (uint32_t i = r + LOOK_ROWS; i < r + 2 * LOOK_ROWS && i < left; i++)
            prefetch(a->x + (first + rows[i]) * a->dim, a->dim);
        look(x, a->dim, panel, panel_rows, p->norms + at, score, index);
        for (uint32_t i = 0; i < LOOK_ROWS && r + i < count; i++) {
            if (!(score[i] < w->least[rows[r + i]]))
                continue;
            w->least[rows[r + i]] = score[i];
            a->index[first + rows[r + i]] = at + index[i];
        }
    }
}

/* Rows by candidate block, and what f32 says about them. */
static void look_into_blocks(const struct assign *assign, struct worker *w, size_t first, uint32_t count)
{
    uint32_t blocks = 2 * assign->at.packs, *starts = w->starts;

    memset(starts, 0, (blocks + 1) * sizeof *starts);
    for (uint32_t row = 0; row < count; row++) {
        struct candidate *candidates = w->candidates + (size_t)row * CANDIDATES;

        assign->args->index[first + row] = 0;
        if (w->counts[row] == WHOLE)
            continue;
        w->counts[row] = candidates_left(candidates, w->counts[row], w->least[row] + w->slack[row]);
        w->least[row] = INFINITY;
        for (uint32_t i = 0; i < w->counts[row]; i++)
            starts[candidates[i].block + 1]++;
    }
    for (uint32_t b = 0; b < blocks; b++)
        starts[b + 1] += starts[b];
    for (uint32_t row = 0; row < count; row++)
        for (uint32_t i = 0; w->counts[row] != WHOLE && i < w->counts[row]; i++)
            w->order[starts[w->candidates[(size_t)row * CANDIDATES + i].block]++] = row;
    for (uint32_t b = 0, at = 0; b < blocks; at = starts[b++]) /* starts are ends now */
        look_into(assign, w, first, b, w->order + at, starts[b] - at, starts[blocks] - at);
}

/* Rows that are left to the f32 version, gathered because it wants many at a time. */
static void look_everywhere(const struct assign *assign, struct worker *w, size_t first, uint32_t count)
{
    const struct sac_assign_args *a = assign->args;
    const struct sac_assign_panels *p = &assign->panels;
    uint32_t rows[SAC_ARG_MIN_ROWS], index[SAC_ARG_MIN_ROWS], gathered = 0;

    for (uint32_t row = 0; row < count; row++) {
        if (w->counts[row] == WHOLE) {
            memcpy(w->gathered + (size_t)gathered * a->dim, a->x + (first + row) * a->dim,
                   a->dim * sizeof *w->gathered);
            rows[gathered++] = row;
        }
        if (gathered < SAC_ARG_MIN_ROWS && row + 1 < count)
            continue;
        p->kernels->arg_min(w->gathered, gathered, a->dim, p->panels, p->count, p->norms, index);
        for (uint32_t i = 0; i < gathered; i++)
            a->index[first + rows[i]] = index[i];
        gathered = 0;
    }
}

/* ---- the operation ---------------------------------------------------------------------------------- */

static void assign_task(void *context, uint32_t task, uint32_t worker)
{
    const struct assign *assign = context;
    const struct sac_assign_args *a = assign->args;
    struct worker w = worker_of(assign, worker);
    size_t first = (size_t)task * assign->at.task_rows;
    uint32_t count = a->n - first < assign->at.task_rows ? (uint32_t)(a->n - first) : assign->at.task_rows;

    pack_rows(assign, &w, first, count);
    find_blocks(assign, &w, count);
    look_into_blocks(assign, &w, first, count);
    look_everywhere(assign, &w, first, count);
    sac_assign_distances(a, assign->panels.kernels, first, count);
}

sac_status sac_assign_amx(sac_stream *s, const struct sac_assign_args *a)
{
    struct assign assign = {.args = a};

    assert(a->k >= 1);
    if (!pays(a))
        return sac_assign_short_pays(a) ? sac_assign_short(s, a) : sac_assign_avx512(s, a);
    assign.at = layout_of(s->device, a);
    sac_scratch_reset(s);
    if (!sac_assign_panels_make(s, a, &sac_rows_avx512, &assign.panels) || !workspace_take(s, &assign))
        return SAC_NO_MEMORY;
    pack_centroids(s, &assign);
    sac_parallel_for(s, (uint32_t)((a->n + assign.at.task_rows - 1) / assign.at.task_rows), assign_task,
                     &assign);
    return SAC_OK;
}
