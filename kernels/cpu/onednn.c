#include "kernels/cpu/onednn.h"

#include <assert.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <string.h>

/* Weak: a oneDNN built on another thread library has no OpenMP beside it, and then there is nothing to tell.
 */
extern void omp_set_num_threads(int count) __attribute__((weak));
extern int omp_get_max_threads(void) __attribute__((weak));

enum { TILE_KINDS_MAX = SAC_TILE_ROWS / SAC_TILE_STEP_F32 };

/* ---- what differs between the versions ------------------------------------------------------------- */

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t desc_ref; /* a shape with its layout, looked at */
typedef dnnl_memory_desc_t desc;           /* the same, owned */

static desc_ref desc_look(const desc *d)
{
    return *d;
}

static dnnl_status_t desc_make(desc *d, int64_t rows, int64_t columns, sac_dtype dtype, dnnl_format_tag_t tag)
{
    dnnl_dims_t dims = {rows, columns};

    return dnnl_memory_desc_create_with_tag(d, 2, dims, dtype == SAC_BF16 ? dnnl_bf16 : dnnl_f32, tag);
}

static void desc_free(desc *d)
{
    if (*d != NULL)
        dnnl_memory_desc_destroy(*d);
}

static dnnl_status_t product_make(dnnl_primitive_desc_t *out, dnnl_engine_t engine, desc_ref x,
                                  desc_ref weight, desc_ref sums, dnnl_primitive_attr_t attributes)
{
    return dnnl_matmul_primitive_desc_create(out, engine, x, weight, NULL, sums, attributes);
}
#else
typedef const dnnl_memory_desc_t *desc_ref;
typedef dnnl_memory_desc_t desc;

static desc_ref desc_look(const desc *d)
{
    return d;
}

static dnnl_status_t desc_make(desc *d, int64_t rows, int64_t columns, sac_dtype dtype, dnnl_format_tag_t tag)
{
    dnnl_dims_t dims = {rows, columns};

    return dnnl_memory_desc_init_by_tag(d, 2, dims, dtype == SAC_BF16 ? dnnl_bf16 : dnnl_f32, tag);
}

static void desc_free(desc *d)
{
    (void)d;
}

static dnnl_status_t product_make(dnnl_primitive_desc_t *out, dnnl_engine_t engine, desc_ref x,
                                  desc_ref weight, desc_ref sums, dnnl_primitive_attr_t attributes)
{
    dnnl_matmul_desc_t product;
    dnnl_status_t st = dnnl_matmul_desc_init(&product, x, weight, NULL, sums);

    return st != dnnl_success ? st : dnnl_primitive_desc_create(out, &product, attributes, engine, NULL);
}
#endif

/* ---- plan ------------------------------------------------------------------------------------------- */

struct sac_onednn_plan {
    uint32_t in, out, step;
    sac_dtype precision;
    dnnl_engine_t engine;
    struct tile {
        dnnl_primitive_desc_t desc;
        dnnl_primitive_t product;
    } tiles[TILE_KINDS_MAX]; /* for (i + 1) * step rows */
    size_t packed_bytes, scratch_bytes;
};

static int omp_enter(void)
{
    int threads = 0;

    if (omp_set_num_threads != NULL && omp_get_max_threads != NULL) {
        threads = omp_get_max_threads();
        omp_set_num_threads(1);
    }
    return threads;
}

static void omp_leave(int threads)
{
    if (threads > 0)
        omp_set_num_threads(threads);
}

static desc_ref plan_query(const sac_onednn_plan *plan, uint32_t rows, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(plan->tiles[rows / plan->step - 1].desc, what, 0);
}

/* weight NULL: oneDNN chooses its layout. */
static dnnl_status_t tile_make(sac_onednn_plan *plan, uint32_t rows, desc_ref weight,
                               dnnl_primitive_attr_t attributes)
{
    struct tile *tile = &plan->tiles[rows / plan->step - 1];
    desc x = {0}, any = {0}, sums = {0};
    dnnl_status_t st = desc_make(&x, rows, plan->in, plan->precision, dnnl_ab);
    size_t scratch;

    if (st == dnnl_success)
        st = desc_make(&any, plan->in, plan->out, plan->precision, dnnl_format_tag_any);
    if (st == dnnl_success)
        st = desc_make(&sums, rows, plan->out, SAC_F32, dnnl_ab);
    if (st == dnnl_success)
        st = product_make(&tile->desc, plan->engine, desc_look(&x), weight != NULL ? weight : desc_look(&any),
                          desc_look(&sums), attributes);
    if (st == dnnl_success)
        st = dnnl_primitive_create(&tile->product, tile->desc);
    desc_free(&x);
    desc_free(&any);
    desc_free(&sums);
    if (st != dnnl_success)
        return st;
    scratch = dnnl_memory_desc_get_size(plan_query(plan, rows, dnnl_query_scratchpad_md));
    plan->scratch_bytes = scratch > plan->scratch_bytes ? scratch : plan->scratch_bytes;
    return dnnl_success;
}

static dnnl_status_t plan_fill(sac_onednn_plan *plan)
{
    dnnl_primitive_attr_t attributes = NULL;
    desc_ref weight = NULL;
    dnnl_status_t st = dnnl_engine_create(&plan->engine, dnnl_cpu, 0);

    if (st != dnnl_success)
        return st;
    st = dnnl_primitive_attr_create(&attributes);
    if (st == dnnl_success)
        st = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    for (uint32_t rows = SAC_TILE_ROWS; st == dnnl_success && rows > 0; rows -= plan->step) {
        st = tile_make(plan, rows, weight, attributes);
        if (st == dnnl_success)
            weight = plan_query(plan, SAC_TILE_ROWS, dnnl_query_weights_md);
    }
    if (st == dnnl_success)
        plan->packed_bytes = dnnl_memory_desc_get_size(weight);
    if (attributes != NULL)
        dnnl_primitive_attr_destroy(attributes);
    return st;
}

static sac_status status_from(dnnl_status_t st, const sac_onednn_plan *plan, const char *doing,
                              sac_error *err)
{
    switch (st) {
    case dnnl_success:
        return SAC_OK;
    case dnnl_out_of_memory:
        return sac_fail(err, SAC_NO_MEMORY, "no memory %s a %u x %u layer", doing, plan->out, plan->in);
    case dnnl_unimplemented:
        return sac_fail(err, SAC_UNSUPPORTED, "oneDNN has no %s product for this CPU: use precision f32",
                        plan->precision == SAC_BF16 ? "bf16" : "f32");
    default:
        return sac_fail(err, SAC_INTERNAL, "oneDNN status %d %s a %u x %u layer", (int)st, doing, plan->out,
                        plan->in);
    }
}

sac_status sac_onednn_plan_open(uint32_t in, uint32_t out, sac_dtype precision, sac_onednn_plan **plan,
                                sac_error *err)
{
    sac_onednn_plan *p = calloc(1, sizeof *p);
    sac_status st;
    int threads;

    *plan = NULL;
    if (p == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory for the plan of a layer");
    p->in = in;
    p->out = out;
    p->precision = precision;
    p->step = precision == SAC_F32 ? SAC_TILE_STEP_F32 : SAC_TILE_STEP_BF16;
    threads = omp_enter();
    st = status_from(plan_fill(p), p, "planning", err);
    omp_leave(threads);
    if (st != SAC_OK) {
        sac_onednn_plan_close(p);
        return st;
    }
    *plan = p;
    return SAC_OK;
}

void sac_onednn_plan_close(sac_onednn_plan *plan)
{
    if (plan == NULL)
        return;
    for (int i = 0; i < TILE_KINDS_MAX; i++) {
        if (plan->tiles[i].product != NULL)
            dnnl_primitive_destroy(plan->tiles[i].product);
        if (plan->tiles[i].desc != NULL)
            dnnl_primitive_desc_destroy(plan->tiles[i].desc);
    }
    if (plan->engine != NULL)
        dnnl_engine_destroy(plan->engine);
    free(plan);
}

uint32_t sac_onednn_step(const sac_onednn_plan *plan)
{
    return plan->step;
}

size_t sac_onednn_packed_bytes(const sac_onednn_plan *plan)
{
    return plan->packed_bytes;
}

size_t sac_onednn_scratch_bytes(const sac_onednn_plan *plan)
{
    return plan->scratch_bytes;
}

/* ---- pack: a reorder from [out][in] f32 to the layout that the product chose ------------------------- */

static dnnl_status_t reorder(const sac_onednn_plan *plan, desc_ref from_desc, dnnl_memory_t from,
                             desc_ref to_desc, dnnl_memory_t to)
{
    dnnl_primitive_desc_t how = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_stream_t stream = NULL;
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    dnnl_status_t st =
        dnnl_reorder_primitive_desc_create(&how, from_desc, plan->engine, to_desc, plan->engine, NULL);

    if (st == dnnl_success)
        st = dnnl_primitive_create(&primitive, how);
    if (st == dnnl_success)
        st = dnnl_stream_create(&stream, plan->engine, dnnl_stream_default_flags);
    if (st == dnnl_success)
        st = dnnl_primitive_execute(primitive, stream, 2, args);
    if (st == dnnl_success)
        st = dnnl_stream_wait(stream);
    if (stream != NULL)
        dnnl_stream_destroy(stream);
    if (primitive != NULL)
        dnnl_primitive_destroy(primitive);
    if (how != NULL)
        dnnl_primitive_desc_destroy(how);
    return st;
}

sac_status sac_onednn_pack(const sac_onednn_plan *plan, const float *weight, void *packed, sac_error *err)
{
    desc_ref to_desc = plan_query(plan, SAC_TILE_ROWS, dnnl_query_weights_md);
    desc from_desc = {0};
    dnnl_memory_t from = NULL, to = NULL;
    int threads = omp_enter();
    dnnl_status_t st = desc_make(&from_desc, plan->in, plan->out, SAC_F32, dnnl_ba);

    if (st == dnnl_success)
        st = dnnl_memory_create(&from, desc_look(&from_desc), plan->engine, (void *)weight);
    if (st == dnnl_success)
        st = dnnl_memory_create(&to, to_desc, plan->engine, packed);
    if (st == dnnl_success)
        st = reorder(plan, desc_look(&from_desc), from, to_desc, to);
    if (from != NULL)
        dnnl_memory_destroy(from);
    if (to != NULL)
        dnnl_memory_destroy(to);
    desc_free(&from_desc);
    omp_leave(threads);
    return status_from(st, plan, "packing", err);
}

/* ---- use -------------------------------------------------------------------------------------------- */

static sac_status memory_make(const sac_onednn_plan *plan, uint32_t rows, dnnl_query_t what, const void *at,
                              void **out)
{
    dnnl_memory_t memory;

    if (dnnl_memory_create(&memory, plan_query(plan, rows, what), plan->engine, (void *)at) != dnnl_success)
        return SAC_NO_MEMORY;
    *out = memory;
    return SAC_OK;
}

static void memory_free(void **memory)
{
    if (*memory != NULL)
        dnnl_memory_destroy(*memory);
    *memory = NULL;
}

sac_status sac_onednn_begin(struct sac_onednn_use *use, const sac_onednn_plan *plan, const void *packed,
                            void *scratch)
{
    dnnl_stream_t stream;

    *use = (struct sac_onednn_use){.plan = plan, .scratch_at = scratch, .omp_threads = omp_enter()};
    if (dnnl_stream_create(&stream, plan->engine, dnnl_stream_default_flags) != dnnl_success)
        return SAC_NO_MEMORY;
    use->stream = stream;
    return memory_make(plan, SAC_TILE_ROWS, dnnl_query_weights_md, packed, &use->weight);
}

static void tile_free(struct sac_onednn_use *use)
{
    memory_free(&use->x);
    memory_free(&use->sums);
    memory_free(&use->scratch);
    use->rows = 0;
}

static sac_status tile_switch(struct sac_onednn_use *use, uint32_t rows, const void *x, float *sums)
{
    sac_status st;

    tile_free(use);
    st = memory_make(use->plan, rows, dnnl_query_src_md, x, &use->x);
    if (st == SAC_OK)
        st = memory_make(use->plan, rows, dnnl_query_dst_md, sums, &use->sums);
    if (st == SAC_OK)
        st = memory_make(use->plan, rows, dnnl_query_scratchpad_md, use->scratch_at, &use->scratch);
    if (st == SAC_OK)
        use->rows = rows;
    return st;
}

sac_status sac_onednn_tile(struct sac_onednn_use *use, uint32_t rows, const void *x, float *sums)
{
    sac_status st;

    assert(rows > 0 && rows <= SAC_TILE_ROWS && rows % use->plan->step == 0);
    if (use->rows != rows) {
        st = tile_switch(use, rows, x, sums);
        if (st != SAC_OK)
            return st;
    } else if (dnnl_memory_set_data_handle(use->x, (void *)x) != dnnl_success ||
               dnnl_memory_set_data_handle(use->sums, sums) != dnnl_success) {
        return SAC_INTERNAL;
    }
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, use->x},
                              {DNNL_ARG_WEIGHTS, use->weight},
                              {DNNL_ARG_DST, use->sums},
                              {DNNL_ARG_SCRATCHPAD, use->scratch}};

    return dnnl_primitive_execute(use->plan->tiles[rows / use->plan->step - 1].product, use->stream, 4,
                                  args) == dnnl_success
               ? SAC_OK
               : SAC_INTERNAL;
}

void sac_onednn_end(struct sac_onednn_use *use)
{
    tile_free(use);
    memory_free(&use->weight);
    if (use->stream != NULL)
        dnnl_stream_destroy(use->stream);
    omp_leave(use->omp_threads);
}
