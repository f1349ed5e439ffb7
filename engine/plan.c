/* What an index will need, before it is needed: the same arithmetic that lists, vectors and labels follow
 * when they grow, for a count that is not there yet. */
#include "engine/plan.h"

#include "engine/index_spec.h"
#include "engine/ivf.h"
#include "engine/saccade.h"
#include "engine/vectors.h"
#include "kernels/page.h"

#include <string.h>

#define LABEL_BYTES 14u      /* a label, its bit, and its share of the table of labels; less: labels.h */
#define MEAN_DEPTH 128u      /* candidates of a search that asks for the default recall: about */
#define MEAN_PROBE_SHARE 32u /* it probes one list in so many, about */

/* Lists differ in size, so the last page of each is half full on the average; or, where they hardly differ,
 * every one has the pages that the mean needs. */
static uint64_t list_pages(const sac_index_spec *spec, uint64_t count)
{
    uint64_t spread = count / SAC_PAGE_ROWS + (spec->nlist + 1) / 2;
    uint64_t mean = (count + spec->nlist - 1) / spec->nlist;
    uint64_t even = (uint64_t)spec->nlist * sac_page_count((uint32_t)mean);

    return spread > even ? spread : even;
}

static void plan_lists(const sac_index_spec *spec, uint32_t dim, uint64_t count, sac_plan *out)
{
    sac_pq_shape pq = sac_index_spec_shape(spec);
    uint64_t pages = list_pages(spec, count), floats;

    floats = (uint64_t)spec->nlist * (spec->coded_dim + 2) + (((uint64_t)pq.m << pq.nbits) * pq.dsub);
    if (spec->rotate)
        floats += 2 * (uint64_t)dim * spec->coded_dim;
    if (spec->rabitq)
        floats += 2 * (uint64_t)SAC_ROTATE_ROUNDS * spec->coded_dim;
    out->bytes_codes = pages * sac_page_bytes(&pq);
    /* Directory: a pointer a page, a page number in its chain (with room to grow), two numbers a list. */
    out->bytes_other = floats * sizeof(float) + sac_groups_plan(spec->nlist, spec->coded_dim) +
                       pages * (sizeof(void *) + 2 * sizeof(uint32_t)) + spec->nlist * sizeof(sac_list);
    /* Positions; of each page the list it belongs to, and whether it is free. */
    out->bytes_host += count * sizeof(uint32_t) + pages * 2 * sizeof(uint32_t);
}

/* Memory of a search beyond the index: queries, tables, probes and candidates, as device memory. */
static uint64_t search_bytes(const sac_index_spec *spec, uint32_t dim, uint32_t batch)
{
    uint64_t each = 2 * (uint64_t)dim * sizeof(float);

    if (spec->nlist == 0)
        return batch * (each + 64 * (sizeof(float) + sizeof(uint32_t)));
    each += (uint64_t)spec->coded_dim * sizeof(float);
    each += (spec->nlist / MEAN_PROBE_SHARE + 1) * 2 * sizeof(sac_probe);
    each += (uint64_t)MEAN_DEPTH * 4 * (sizeof(float) + sizeof(uint32_t));
    each += ((uint64_t)spec->m << spec->nbits) * sizeof(float);
    return batch * each;
}

static uint64_t training_bytes(const sac_index_spec *spec, uint32_t dim, uint64_t count)
{
    uint64_t rows = spec->nlist > 0 ? sac_ivf_train_max(spec) : 0;

    rows = rows < count ? rows : count;
    /* The sample, residuals of a part of it, and what assignment and update need of it. */
    return rows * (2 * (uint64_t)dim * sizeof(float) + 24);
}

sac_status sac_index_plan(const sac_index_params *params, uint64_t count, uint32_t batch, sac_plan *out,
                          sac_error *err)
{
    uint32_t dim = params->dim;
    sac_index_spec spec;
    sac_vectors vectors;
    sac_status st;

    *out = (sac_plan){0};
    if (dim < 1 || dim > SAC_DIM_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "vectors of %u components: use 1 to %u", dim, SAC_DIM_MAX);
    if (count >= UINT32_MAX)
        return sac_fail(err, SAC_TOO_LARGE, "an index holds at most %u vectors: split a larger collection",
                        UINT32_MAX - 1);
    st = sac_index_spec_parse(params->spec, dim, &spec, err);
    if (st != SAC_OK)
        return st;
    if (spec.automatic)
        sac_index_spec_choose(count, count, dim, &spec);
    sac_index_spec_format(&spec, dim, out->spec, sizeof out->spec);
    out->nlist = spec.nlist;
    out->m = spec.m;
    out->nbits = spec.nbits;
    if (spec.nlist > 0)
        plan_lists(&spec, dim, count, out);
    vectors = (sac_vectors){.dim = dim, .dtype = spec.dtype};
    out->bytes_vectors = count * (sac_vectors_row_bytes(&vectors) + sizeof(float));
    out->bytes_other += count / 8; /* the bitmap of live slots */
    out->bytes_host += count * LABEL_BYTES;
    out->bytes_search = search_bytes(&spec, dim, batch);
    out->bytes_training = training_bytes(&spec, dim, count);
    return SAC_OK;
}

/* What the shards of a device have in all, and what of it is taken. */
static sac_device_memory memory_of(const sac_device *device)
{
    sac_device_memory all = {0};

    for (uint32_t i = 0; i < sac_device_shard_count(device); i++) {
        sac_device_memory one;

        sac_device_memory_describe(sac_device_shard((sac_device *)device, i), &one);
        all.budget += one.budget;
        all.used += one.used;
    }
    return all;
}

sac_status sac_plan_check(const sac_device *device, const sac_index_params *params, uint64_t count,
                          sac_error *err)
{
    const double mib = 1024.0 * 1024;
    sac_device_memory memory;
    uint64_t need, room;
    sac_plan plan;
    sac_status st;

    if (sac_device_host_visible(device))
        return SAC_OK;
    st = sac_index_plan(params, count, 1, &plan, err);
    if (st != SAC_OK)
        return st;
    memory = memory_of(device);
    room = memory.budget > memory.used ? memory.budget - memory.used : 0;
    need = plan.bytes_codes + plan.bytes_other + plan.bytes_search;
    if (need <= room)
        return SAC_OK;
    return sac_fail(
        err, SAC_DEVICE_MEMORY,
        "%s of %llu vectors needs %.1f MiB beside its vectors, but %.1f MiB of %.1f are free on %s: "
        "%.1f MiB are missing; use shorter codes, more devices, or drop another collection",
        plan.spec, (unsigned long long)count, (double)need / mib, (double)room / mib,
        (double)memory.budget / mib, sac_device_describe(device), (double)(need - room) / mib);
}
