/* What an index will need, before it is needed: the same arithmetic that lists, vectors and labels follow
 * when they grow, for a count that is not there yet. */
#include "engine/plan.h"

#include "engine/ivf.h"
#include "engine/vectors.h"
#include "kernels/page.h"

#include <stdio.h>

#define LABEL_BYTES 14u          /* a label, its bit, and its share of the table of labels; less: labels.h */
#define MEAN_DEPTH 128u          /* candidates of a search that asks for the default recall: about */
#define MEAN_PROBE_SHARE 32u     /* it probes one list in so many, about */
#define ROWS_PER_LIST_LEAST 32u  /* to learn from */
#define ROWS_PER_LIST_SEEDED 12u /* that k-means draws its first centres from */
/* What adding and measuring need at least: in any case, rows that are on their way, and for each vector. */
#define BUILD_LEAST ((uint64_t)48 << 20)
#define BUILD_ROWS 2048u
#define BUILD_ROW_BYTES 12u

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

/* The sample and, one after the other, what finding the lists and what learning the codes need of it. */
static uint64_t training_bytes(const sac_index_spec *spec, uint32_t dim, uint64_t rows)
{
    uint64_t row = (uint64_t)dim * sizeof(float), coded = (uint64_t)spec->coded_dim * sizeof(float);
    uint64_t pool = (uint64_t)spec->nlist * ROWS_PER_LIST_SEEDED, residuals = sac_ivf_train_residuals(spec);
    uint64_t rotated = spec->rotate ? SAC_OPQ_SAMPLE : 0, lists, codes;

    pool = pool < rows ? pool : rows;
    residuals = residuals < rows ? residuals : rows;
    rotated = rotated < rows ? rotated : rows;
    lists = pool * (row + 32) + spec->nlist * 6 * row;
    codes = residuals * (row + coded + 64) + rotated * (row + 4 * coded);
    return rows * (row + 16) + (lists > codes ? lists : codes);
}

static void plan_spec(const sac_index_spec *spec, uint32_t dim, uint64_t count, uint32_t batch, sac_plan *out)
{
    sac_vectors vectors = {.dim = dim, .dtype = spec->dtype};
    uint64_t rows = spec->nlist > 0 ? sac_ivf_train_max(spec) : 0;

    *out = (sac_plan){.nlist = spec->nlist, .m = spec->m, .nbits = spec->nbits};
    sac_index_spec_format(spec, dim, out->spec, sizeof out->spec);
    if (spec->nlist > 0)
        plan_lists(spec, dim, count, out);
    out->bytes_vectors = count * (sac_vectors_row_bytes(&vectors) + sizeof(float));
    out->bytes_other += count / 8; /* the bitmap of live slots */
    out->bytes_host += count * LABEL_BYTES;
    out->bytes_search = search_bytes(spec, dim, batch);
    if (rows > 0)
        out->bytes_training = training_bytes(spec, dim, rows < count ? rows : count);
}

sac_status sac_index_plan(const sac_index_params *params, uint64_t count, uint32_t batch, sac_plan *out,
                          sac_error *err)
{
    uint32_t dim = params->dim;
    sac_index_spec spec;
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
    plan_spec(&spec, dim, count, batch, out);
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

/* What there is beside what others have taken, if `held` bytes of it are not others'. */
static uint64_t room_of(const sac_device *device, uint64_t held)
{
    sac_device_memory memory = memory_of(device);
    uint64_t others = memory.used > held ? memory.used - held : 0;

    return memory.budget > others ? memory.budget - others : 0;
}

/* Fewer rows than these teach too little. */
static uint64_t rows_least(const sac_index_spec *spec)
{
    uint64_t coarse = (uint64_t)spec->nlist * ROWS_PER_LIST_LEAST, fine = sac_ivf_train_residuals(spec) / 2;

    return coarse > fine ? coarse : fine;
}

sac_status sac_plan_sample(const sac_device *device, const sac_index_spec *spec, uint32_t dim, size_t n,
                           uint32_t copies, size_t *rows, sac_error *err)
{
    const double mib = 1024.0 * 1024;
    uint64_t most = sac_ivf_train_max(spec), least = rows_least(spec), need, room = room_of(device, 0);
    char text[64];

    least = least < n ? least : n;
    *rows = most < n ? (size_t)most : n;
    for (;;) {
        need = training_bytes(spec, dim, *rows) + (uint64_t)copies * *rows * dim * sizeof(float);
        if (need <= room)
            return SAC_OK;
        if (*rows <= least)
            break;
        *rows -= *rows / 16 + 1;
        *rows = *rows > least ? *rows : (size_t)least;
    }
    sac_index_spec_format(spec, dim, text, sizeof text);
    return sac_fail(
        err, SAC_DEVICE_MEMORY,
        "training %s needs %.1f MiB, but %.1f MiB of memory are there for it: %.1f MiB are missing; "
        "allow more memory, or use fewer lists",
        text, (double)need / mib, (double)room / mib, (double)(need - room) / mib);
}

/* What an index needs in a memory that holds all of it, together with what adds to it and measures it. */
static uint64_t host_bytes(const sac_index_spec *spec, uint32_t dim, uint64_t count, sac_plan *plan)
{
    uint64_t row = (uint64_t)dim * sizeof(float), beside = 0;

    plan_spec(spec, dim, count, 1, plan);
    if (spec->nlist > 0)
        beside = BUILD_LEAST + BUILD_ROWS * row + count * BUILD_ROW_BYTES + spec->nlist * 4 * row;
    return plan->bytes_codes + plan->bytes_vectors + plan->bytes_other + plan->bytes_host + beside;
}

static sac_status check_host(const sac_device *device, const sac_index_spec *spec, uint32_t dim,
                             uint64_t count, uint64_t held, sac_error *err)
{
    const double mib = 1024.0 * 1024;
    uint64_t room = room_of(device, held), need;
    char advice[128] = "allow more memory, or use fewer vectors, Refine(SQ8) and PQ with fewer bytes";
    sac_index_spec smaller = *spec;
    sac_plan plan, other;

    need = host_bytes(spec, dim, count, &plan);
    if (need <= room)
        return SAC_OK;
    smaller.dtype = SAC_I8;
    if (host_bytes(&smaller, dim, count, &other) <= room)
        snprintf(advice, sizeof advice, "allow more memory, or use %s, which fits", other.spec);
    return sac_fail(
        err, SAC_DEVICE_MEMORY,
        "%s of %llu vectors needs %.1f MiB, but %.1f MiB of memory are there for it: %.1f MiB are "
        "missing; %s",
        plan.spec, (unsigned long long)count, (double)need / mib, (double)room / mib,
        (double)(need - room) / mib, advice);
}

static sac_status check_device(const sac_device *device, const sac_index_spec *spec, uint32_t dim,
                               uint64_t count, uint64_t held, sac_error *err)
{
    const double mib = 1024.0 * 1024;
    uint64_t room = room_of(device, held), need;
    sac_plan plan;

    plan_spec(spec, dim, count, 1, &plan);
    need = plan.bytes_codes + plan.bytes_other + plan.bytes_search;
    if (need <= room)
        return SAC_OK;
    return sac_fail(
        err, SAC_DEVICE_MEMORY,
        "%s of %llu vectors needs %.1f MiB beside its vectors, but %.1f MiB of %.1f are free on %s: "
        "%.1f MiB are missing; use shorter codes, more devices, or drop another collection",
        plan.spec, (unsigned long long)count, (double)need / mib, (double)room / mib,
        (double)memory_of(device).budget / mib, sac_device_describe(device), (double)(need - room) / mib);
}

sac_status sac_plan_check(const sac_device *device, const sac_index_spec *spec, uint32_t dim, uint64_t count,
                          uint64_t held, sac_error *err)
{
    sac_index_spec chosen = *spec;

    if (chosen.automatic)
        sac_index_spec_choose(count, count, dim, &chosen);
    return sac_device_host_visible(device) ? check_host(device, &chosen, dim, count, held, err)
                                           : check_device(device, &chosen, dim, count, held, err);
}
