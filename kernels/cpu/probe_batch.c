/* Rough distances of many queries at once. A query looks at a fifth of the lists or so, but tiles multiply
 * all of them with 32 queries in less time than it takes to bring that fifth near for each query by itself.
 * Products stay in L1; of each only what its query asked for becomes a distance. */
#include "kernels/cpu/probe_batch.h"

#include "kernels/backend.h"

#include <string.h>

enum {
    MOST_LISTS = 1 << 16, /* of 128 components: the packs take 8 MB, a thread's distances 16 */
    TASK_PACKS = 16
};

bool sac_probe_batch_pays(const sac_device *d, const struct sac_probe_args *a)
{
    size_t blocks = (a->query_count + SAC_ROUGH_QUERIES - SAC_PROBE_BLOCK_LEAST) / SAC_ROUGH_QUERIES;

    return a->rough != NULL && a->nlist <= MOST_LISTS && blocks >= d->threads;
}

/* ---- memory ----------------------------------------------------------------------------------------- */

static uint32_t step_count(uint32_t dim)
{
    return (dim + SAC_ROUGH_STEP - 1) / SAC_ROUGH_STEP;
}

static size_t parts_bytes(uint32_t dim)
{
    return (size_t)step_count(dim) * SAC_ROUGH_STEP;
}

static uint32_t pack_count(uint32_t n)
{
    return (n + SAC_ROUGH_ROWS - 1) / SAC_ROUGH_ROWS;
}

static size_t packs_scratch(uint32_t n, uint32_t dim)
{
    return sac_scratch_size(pack_count(n), SAC_ROUGH_ROWS * parts_bytes(dim)) +
           sac_scratch_size(n, sizeof(float));
}

static bool packs_take(sac_stream *s, uint32_t n, uint32_t dim, struct sac_rough_packs *out)
{
    out->n = n;
    out->steps = step_count(dim);
    out->packs = sac_scratch_take(s, pack_count(n), SAC_ROUGH_ROWS * parts_bytes(dim));
    out->scales = sac_scratch_take(s, n, sizeof *out->scales);
    return out->packs != NULL && out->scales != NULL;
}

static size_t block_scratch(const struct sac_probe_args *a)
{
    size_t groups = SAC_ROUGH_QUERIES * (size_t)a->group_count;

    return sac_scratch_size(SAC_ROUGH_QUERIES, parts_bytes(a->dim)) +
           sac_scratch_size(a->group_count, sizeof(uint64_t)) +
           sac_scratch_size(SAC_ROUGH_QUERIES * SAC_ROUGH_STRIDE, sizeof(int32_t)) +
           sac_scratch_size(groups, sizeof(uint32_t)) + sac_scratch_size(groups, sizeof(float)) +
           sac_scratch_size(SAC_ROUGH_QUERIES * (size_t)a->nlist, sizeof(float));
}

static bool block_take(sac_stream *s, const struct sac_probe_args *a, struct sac_probe_block *out)
{
    size_t groups = SAC_ROUGH_QUERIES * (size_t)a->group_count;
    uint32_t *chosen;

    out->parts = sac_scratch_take(s, SAC_ROUGH_QUERIES, parts_bytes(a->dim));
    out->choosers = sac_scratch_take(s, a->group_count, sizeof *out->choosers);
    out->products = sac_scratch_take(s, SAC_ROUGH_QUERIES * SAC_ROUGH_STRIDE, sizeof *out->products);
    chosen = sac_scratch_take(s, groups, sizeof *chosen);
    out->heads = sac_scratch_take(s, groups, sizeof *out->heads);
    out->lists = sac_scratch_take(s, SAC_ROUGH_QUERIES * (size_t)a->nlist, sizeof *out->lists);
    if (out->parts == NULL || out->choosers == NULL || out->products == NULL || chosen == NULL ||
        out->heads == NULL || out->lists == NULL)
        return false;
    for (uint32_t q = 0; q < SAC_ROUGH_QUERIES; q++)
        out->chosen[q].groups = chosen + (size_t)q * a->group_count;
    memset(out->parts, 0, SAC_ROUGH_QUERIES * parts_bytes(a->dim)); /* queries that are missing are 0 */
    return true;
}

size_t sac_probe_batch_scratch(const sac_device *d, const struct sac_probe_args *a)
{
    return packs_scratch(a->group_count, a->dim) + packs_scratch(a->nlist, a->dim) +
           sac_scratch_size(d->threads, sizeof(struct sac_probe_block)) + d->threads * block_scratch(a);
}

bool sac_probe_batch_take(sac_stream *s, const struct sac_probe_args *a, struct sac_probe_batch *out)
{
    out->args = a;
    out->blocks = sac_scratch_take(s, s->device->threads, sizeof *out->blocks);
    if (out->blocks == NULL || !packs_take(s, a->group_count, a->dim, &out->heads) ||
        !packs_take(s, a->nlist, a->dim, &out->lists))
        return false;
    for (uint32_t i = 0; i < s->device->threads; i++)
        if (!block_take(s, a, &out->blocks[i]))
            return false;
    return true;
}

/* ---- comparing -------------------------------------------------------------------------------------- */

static void pack_task(void *context, uint32_t task, uint32_t worker)
{
    const struct sac_probe_batch *b = context;
    uint32_t heads = pack_count(b->heads.n), all = heads + pack_count(b->lists.n);

    (void)worker;
    for (uint32_t i = task * TASK_PACKS; i < (task + 1) * TASK_PACKS && i < all; i++) {
        if (i < heads)
            sac_rough_tiles_pack(b->args->rough_heads, b->args->dim, &b->heads, i);
        else
            sac_rough_tiles_pack(b->args->rough, b->args->dim, &b->lists, i - heads);
    }
}

void sac_probe_batch_pack(sac_stream *s, const struct sac_probe_batch *batch)
{
    uint32_t all = pack_count(batch->heads.n) + pack_count(batch->lists.n);

    sac_parallel_for(s, (all + TASK_PACKS - 1) / TASK_PACKS, pack_task, (void *)batch);
}

/* Rows of a matrix whose products are known, from `first` on. */
struct window {
    const struct sac_rough_packs *matrix;
    const float *norms; /* [n], or NULL */
    uint32_t first, end;
};

/* Distances of query q from rows begin..end-1, as far as they are in the window; out: from row 0 on. */
static void finish(const struct sac_probe_block *block, const struct window *window, uint32_t q,
                   uint32_t begin, uint32_t end, float *out)
{
    begin = begin > window->first ? begin : window->first;
    end = end < window->end ? end : window->end;
    sac_rough_tiles_distances(&block->queries[q],
                              block->products + q * SAC_ROUGH_STRIDE + (begin - window->first),
                              window->matrix->scales + begin, end - begin,
                              window->norms != NULL ? window->norms + begin : NULL, out + begin);
}

static void finish_all(const struct sac_probe_block *block, const struct window *window, float *out)
{
    for (uint32_t q = 0; q < block->count; q++)
        finish(block, window, q, window->first, window->end, out + (size_t)q * window->matrix->n);
}

/* The next rows' products, of which there must be some. */
static void next_window(const struct sac_probe_block *block, struct window *window)
{
    uint32_t left = window->matrix->n - window->end;

    window->first = window->end;
    window->end += left < SAC_ROUGH_WINDOW ? left : SAC_ROUGH_WINDOW;
    sac_rough_tiles_multiply(block->parts, block->count, window->matrix, window->first, window->end,
                             block->products);
}

void sac_probe_block_begin(const struct sac_probe_batch *batch, const struct sac_rough_kernels *rough,
                           size_t first, struct sac_probe_block *block)
{
    const struct sac_probe_args *a = batch->args;
    size_t left = a->query_count - first;
    struct window window = {&batch->heads, a->distance == SAC_DISTANCE_L2SQ ? a->head_norms : NULL, 0, 0};

    block->count = left < SAC_ROUGH_QUERIES ? (uint32_t)left : SAC_ROUGH_QUERIES;
    for (uint32_t q = 0; q < block->count; q++) {
        block->queries[q].parts = block->parts + q * parts_bytes(a->dim);
        rough->prepare(a->queries + (first + q) * a->dim, a->dim, &block->queries[q]);
    }
    sac_rough_tiles_begin();
    while (window.end < a->group_count) {
        next_window(block, &window);
        finish_all(block, &window, block->heads);
    }
    sac_rough_tiles_end();
}

/* For each group that begins in the window or before it, from `group` on: distances for whoever chose it.
 * Returns the first group that goes on behind the window. */
static uint32_t finish_groups(const struct sac_probe_batch *batch, const struct sac_probe_block *block,
                              const struct window *window, uint32_t group)
{
    const struct sac_probe_args *a = batch->args;

    for (; group < a->group_count && a->group_first[group] < window->end; group++) {
        uint32_t begin = a->group_first[group], end = a->group_first[group + 1];

        for (uint64_t left = block->choosers[group]; left != 0 && begin < end; left &= left - 1) {
            uint32_t q = (uint32_t)__builtin_ctzll(left);

            finish(block, window, q, begin, end, block->lists + (size_t)q * a->nlist);
        }
        if (end > window->end)
            break;
    }
    return group;
}

void sac_probe_block_lists(const struct sac_probe_batch *batch, struct sac_probe_block *block)
{
    const struct sac_probe_args *a = batch->args;
    struct window window = {&batch->lists, a->distance == SAC_DISTANCE_L2SQ ? a->centroid_norms : NULL, 0, 0};
    uint32_t group = 0;

    if (a->group_count > 0)
        memset(block->choosers, 0, a->group_count * sizeof *block->choosers);
    for (uint32_t q = 0; q < block->count && a->group_count > 0; q++)
        for (uint32_t i = 0; i < block->chosen[q].count; i++)
            block->choosers[block->chosen[q].groups[i]] |= UINT64_C(1) << q;
    sac_rough_tiles_begin();
    while (window.end < a->nlist) {
        next_window(block, &window);
        if (a->group_count > 0)
            group = finish_groups(batch, block, &window, group);
        else
            finish_all(block, &window, block->lists);
    }
    sac_rough_tiles_end();
}
