/* linear.c -- matrix products by oneDNN, tile by tile.
 *
 * The weight is cut into panels of columns that stay in a core's second-level cache while rows stream past,
 * and each panel is packed once, into the layout that oneDNN wants (blocked for AVX-512 FMA, paired for AMX).
 * A task is one panel times a few tiles of 64 rows: product into scratch, then bias, activation, residual and
 * conversion from there to y. A last tile of fewer rows is rounded up to a planned size and reads a padded
 * copy of x, so every row goes through the same arithmetic whatever the batch. SWIGLU's panels hold the same
 * columns of both halves. Twin: ref/linear.c. Bound by the multipliers: bench_encoder prints the share of
 * peak. */
#include "kernels/cpu/linear.h"

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/cpu_features.h"
#include "kernels/cpu/onednn.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    PANEL_BYTES = 1 << 20, /* half of the second-level cache of today's server cores */
    PANEL_COLUMNS_MAX = 256,
    PANEL_COLUMNS_STEP = 16,
    TASK_TILES_MAX = 4, /* tiles that share one set-up of oneDNN's objects */
};

struct sac_linear {
    sac_device *device;
    struct sac_linear_params params; /* weight and bias are not kept */
    uint32_t columns;                /* of y */
    uint32_t panel_columns;          /* of y that a panel gives */
    uint32_t panel_sums;             /* of the product: the same, twice for SWIGLU */
    uint32_t panel_count;
    sac_onednn_plan *plan;
    size_t packed_stride; /* bytes from panel to panel */
    unsigned char *packed;
    float *bias; /* [panel_count][panel_sums] */
    sac_linear_finish_fn *finish;
};

static size_t element_size(const sac_linear *l)
{
    return l->params.precision == SAC_F32 ? 4 : 2;
}

static uint32_t divide_up(uint32_t a, uint32_t b)
{
    return a / b + (a % b != 0);
}

/* Panels as equal as steps allow, so that the last one wastes little. */
static void choose_panels(sac_linear *l)
{
    uint32_t halves = l->params.activation == SAC_ACTIVATION_SWIGLU ? 2 : 1;
    size_t most = PANEL_BYTES / (l->params.in * element_size(l));
    uint32_t count;

    most = most > PANEL_COLUMNS_MAX ? PANEL_COLUMNS_MAX : most < 64 ? 64 : most / 64 * 64;
    l->columns = l->params.out / halves;
    count = divide_up(l->columns, (uint32_t)most / halves);
    l->panel_columns = divide_up(divide_up(l->columns, count), PANEL_COLUMNS_STEP) * PANEL_COLUMNS_STEP;
    l->panel_sums = l->panel_columns * halves;
    l->panel_count = divide_up(l->columns, l->panel_columns);
}

/* Gathers the weights and biases of one panel into `rows` [panel_sums][in], zeros where the layer has ended.
 */
static void panel_gather(const sac_linear *l, const struct sac_linear_params *p, uint32_t panel, float *rows)
{
    for (uint32_t j = 0; j < l->panel_sums; j++) {
        uint32_t half = j / l->panel_columns;
        uint32_t column = panel * l->panel_columns + j % l->panel_columns;
        uint32_t from = half * l->columns + column;

        if (column >= l->columns) {
            memset(rows + (size_t)j * p->in, 0, p->in * sizeof(float));
            continue;
        }
        memcpy(rows + (size_t)j * p->in, p->weight + (size_t)from * p->in, p->in * sizeof(float));
        if (p->bias != NULL)
            l->bias[panel * l->panel_sums + j] = p->bias[from];
    }
}

static sac_status pack_panels(sac_linear *l, const struct sac_linear_params *p, sac_error *err)
{
    float *rows = malloc((size_t)l->panel_sums * p->in * sizeof(float));
    sac_status st = SAC_OK;

    if (rows == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to pack a layer of %u x %u weights", p->out, p->in);
    for (uint32_t i = 0; st == SAC_OK && i < l->panel_count; i++) {
        panel_gather(l, p, i, rows);
        st = sac_onednn_pack(l->plan, rows, l->packed + i * l->packed_stride, err);
    }
    free(rows);
    return st;
}

static sac_linear_finish_fn *choose_finish(uint32_t features)
{
#if defined(SACCADE_X86)
    if (features & SAC_CPU_BF16)
        return sac_linear_finish_bf16;
    if (features & SAC_CPU_AVX512)
        return sac_linear_finish_avx512;
    if (features & SAC_CPU_AVX2)
        return sac_linear_finish_avx2;
#endif
    (void)features;
    return sac_linear_finish_base;
}

sac_dtype sac_linear_precision_cpu(const sac_device *d)
{
    return d->features & (SAC_CPU_BF16 | SAC_CPU_AMX) ? SAC_BF16 : SAC_F32;
}

sac_status sac_linear_open_cpu(sac_device *d, const struct sac_linear_params *p, sac_linear **out,
                               sac_error *err)
{
    sac_linear *l = calloc(1, sizeof *l);
    sac_status st;

    assert(p->in > 0 && p->out > 0 && (p->precision == SAC_F32 || p->precision == SAC_BF16));
    assert(!p->residual || (p->activation == SAC_ACTIVATION_NONE && p->y_dtype == SAC_F32));
    *out = NULL;
    if (l == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for a layer");
    l->device = d;
    l->params = *p;
    l->params.weight = l->params.bias = NULL;
    l->finish = choose_finish(d->features);
    choose_panels(l);
    st = sac_onednn_plan_open(p->in, l->panel_sums, p->precision, &l->plan, err);
    if (st != SAC_OK)
        goto fail;
    l->packed_stride = (sac_onednn_packed_bytes(l->plan) + SAC_ALIGNMENT - 1) / SAC_ALIGNMENT * SAC_ALIGNMENT;
    st = sac_buffer_alloc(d, l->panel_count, l->packed_stride, (void **)&l->packed, err);
    if (st != SAC_OK)
        goto fail;
    l->bias = calloc((size_t)l->panel_count * l->panel_sums, sizeof(float));
    if (l->bias == NULL) {
        st = sac_fail(err, SAC_NO_MEMORY, "no memory for the bias of a layer");
        goto fail;
    }
    st = pack_panels(l, p, err);
    if (st != SAC_OK)
        goto fail;
    *out = l;
    return SAC_OK;
fail:
    sac_linear_close_cpu(l);
    return st;
}

void sac_linear_close_cpu(sac_linear *linear)
{
    if (linear == NULL)
        return;
    sac_onednn_plan_close(linear->plan);
    sac_buffer_free(linear->device, linear->packed);
    free(linear->bias);
    free(linear);
}

/* ---- run -------------------------------------------------------------------------------------------- */

struct run {
    const struct sac_linear_args *args;
    uint32_t tiles, task_tiles, panel_tasks; /* all tiles; of one task at most; tasks of one panel */
    /* A worker's part of the scratch: sums [64][panel_sums], a padded tile of x [64][in], oneDNN's own. */
    unsigned char *scratch;
    size_t worker_bytes, tail_at, onednn_at;
    atomic_int status;
};

static void plan_scratch(const sac_linear *l, struct run *run)
{
    size_t x_bytes = (size_t)SAC_TILE_ROWS * l->params.in * element_size(l);

    run->tail_at = sac_scratch_size((size_t)SAC_TILE_ROWS * l->panel_sums, sizeof(float));
    run->onednn_at = sac_scratch_add(run->tail_at, sac_scratch_size(x_bytes, 1));
    run->worker_bytes =
        sac_scratch_add(run->onednn_at, sac_scratch_size(sac_onednn_scratch_bytes(l->plan), 1));
}

size_t sac_linear_scratch_cpu(const sac_device *d, const struct sac_linear_args *a)
{
    struct run run;

    plan_scratch(a->linear, &run);
    return sac_scratch_size(d->threads, run.worker_bytes);
}

static sac_status do_tile(const struct run *run, struct sac_onednn_use *use, uint32_t panel, uint32_t tile,
                          unsigned char *scratch)
{
    const struct sac_linear_args *a = run->args;
    const sac_linear *l = a->linear;
    size_t row = (size_t)tile * SAC_TILE_ROWS, row_bytes = l->params.in * element_size(l);
    uint32_t rows = a->rows - row < SAC_TILE_ROWS ? (uint32_t)(a->rows - row) : SAC_TILE_ROWS;
    uint32_t step = sac_onednn_step(l->plan), padded = divide_up(rows, step) * step;
    uint32_t column = panel * l->panel_columns;
    const unsigned char *x = (const unsigned char *)a->x + row * row_bytes;
    sac_status st;

    if (padded != rows) {
        memcpy(scratch + run->tail_at, x, rows * row_bytes);
        memset(scratch + run->tail_at + rows * row_bytes, 0, (padded - rows) * row_bytes);
        x = scratch + run->tail_at;
    }
    st = sac_onednn_tile(use, padded, x, (float *)scratch);
    if (st != SAC_OK)
        return st;
    l->finish(&(struct sac_linear_finish_args){
        .sums = (float *)scratch,
        .sums_stride = l->panel_sums,
        .bias = l->bias + (size_t)panel * l->panel_sums,
        .rows = rows,
        .columns = l->columns - column < l->panel_columns ? l->columns - column : l->panel_columns,
        .gate = l->panel_columns,
        .activation = l->params.activation,
        .residual = l->params.residual,
        .y_dtype = l->params.y_dtype,
        .y = (unsigned char *)a->y + (row * l->columns + column) * (l->params.y_dtype == SAC_F32 ? 4 : 2),
        .y_stride = l->columns,
    });
    return SAC_OK;
}

static void task_run(void *context, uint32_t task, uint32_t worker)
{
    struct run *run = context;
    const sac_linear *l = run->args->linear;
    uint32_t panel = task / run->panel_tasks, tile = task % run->panel_tasks * run->task_tiles;
    uint32_t end = tile + run->task_tiles < run->tiles ? tile + run->task_tiles : run->tiles;
    unsigned char *scratch = run->scratch + worker * run->worker_bytes;
    struct sac_onednn_use use;
    sac_status st =
        sac_onednn_begin(&use, l->plan, l->packed + panel * l->packed_stride, scratch + run->onednn_at);

    for (; st == SAC_OK && tile < end; tile++)
        st = do_tile(run, &use, panel, tile, scratch);
    sac_onednn_end(&use);
    if (st != SAC_OK)
        atomic_store(&run->status, st);
}

sac_status sac_linear_cpu(sac_stream *s, const struct sac_linear_args *a)
{
    const sac_linear *l = a->linear;
    struct run run = {.args = a};
    size_t per_worker;

    if (a->rows == 0)
        return SAC_OK;
    assert(a->rows <= (size_t)UINT32_MAX * SAC_TILE_ROWS / TASK_TILES_MAX / l->panel_count);
    plan_scratch(l, &run);
    sac_scratch_reset(s);
    run.scratch = sac_scratch_take(s, s->device->threads, run.worker_bytes);
    if (run.scratch == NULL)
        return SAC_NO_MEMORY;
    run.tiles = (uint32_t)((a->rows + SAC_TILE_ROWS - 1) / SAC_TILE_ROWS);
    per_worker = (size_t)run.tiles * l->panel_count / ((size_t)s->device->threads * 4);
    run.task_tiles = per_worker < 1 ? 1 : per_worker > TASK_TILES_MAX ? TASK_TILES_MAX : (uint32_t)per_worker;
    run.panel_tasks = divide_up(run.tiles, run.task_tiles);
    sac_parallel_for(s, run.panel_tasks * l->panel_count, task_run, &run);
    return (sac_status)atomic_load(&run.status);
}
