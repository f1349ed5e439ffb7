/* Cases of the operations on plain vectors. */
#include "tests/kernels/cases.h"

#include "kernels/half.h"
#include "kernels/select.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

enum { PAGE_ROWS = 100 }; /* no multiple of any vector width */

/* ---- norms ---- */

static const struct kernel_case norms_cases[] = {
    {.n = 0, .dim = 8},
    {.n = 1, .dim = 1},
    {.n = 3, .dim = 7},
    {.n = 16, .dim = 8},
    {.n = 17, .dim = 15},
    {.n = 31, .dim = 16},
    {.n = 33, .dim = 17},
    {.n = 5, .dim = 31},
    {.n = 40, .dim = 33},
    {.n = 900, .dim = 128},
    {.n = 70, .dim = 511},
    {.n = 70, .dim = 1024},
    {.n = 33, .dim = 256},
    {.n = 9, .dim = 260},
    {.n = 50, .dim = 24, .flags = CASE_NAN},
    {.n = 100000, .dim = 128, .flags = CASE_BENCH},
};

static void norms_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;

    data->args.norms = (struct sac_norms_args){.n = c->n, .dim = c->dim};
    data->args.norms.x = kernel_random_rows(data, c->n, c->dim);
    data->args.norms.out = kernel_output(data, c->n, sizeof(float));
    data->bytes = 4.0 * c->n * c->dim;
    data->flops = 2.0 * c->n * c->dim;
}

KERNEL_RUN(norms)

static const char *norms_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const float *norms = want[0], *got_norms = got[0];

    for (size_t i = 0; i < data->c->n; i++)
        if (!kernel_near(norms[i], got_norms[i], 1e-5f, norms[i]))
            return "wrong norm";
    return NULL;
}

const struct kernel_op norms_op = {"norms",   norms_cases, COUNT(norms_cases), norms_make,
                                   norms_run, NULL,        norms_check};

/* ---- assign ---- */

static const struct kernel_case assign_cases[] = {
    {.n = 0, .dim = 8, .k = 3},
    {.n = 1, .dim = 1, .k = 1},
    {.n = 7, .dim = 3, .k = 2},
    {.n = 33, .dim = 17, .k = 31},
    {.n = 100, .dim = 16, .k = 33, .flags = CASE_NAN},
    {.n = 301, .dim = 128, .k = 100, .flags = CASE_INTEGERS},
    {.n = 500, .dim = 96, .k = 257},
    {.n = 200, .dim = 40, .k = 64, .flags = CASE_DUPLICATES},
    {.n = 50, .dim = 511, .k = 65},
    {.n = 1000, .dim = 5, .k = 1000},
    {.n = 128, .dim = 64, .k = 128},
    {.n = 129, .dim = 65, .k = 129, .flags = CASE_NAN},
    {.n = 1, .dim = 130, .k = 600},
    {.n = 150, .dim = 1500, .k = 300},
    {.n = 300, .dim = 1, .k = 2000}, /* so close that products cannot tell */
    {.n = 40, .dim = 7, .k = 1, .flags = CASE_NAN},
    {.n = 64, .dim = 16, .k = 64}, /* from here on, around the edges of tiles and packs of tiles */
    {.n = 65, .dim = 31, .k = 65},
    {.n = 95, .dim = 32, .k = 255},
    {.n = 96, .dim = 33, .k = 256, .flags = CASE_NAN},
    {.n = 97, .dim = 200, .k = 257},
    {.n = 66, .dim = 128, .k = 1000, .flags = CASE_DUPLICATES},
    {.n = 64, .dim = 768, .k = 97, .flags = CASE_INTEGERS},
    {.n = 255, .dim = 4, .k = 256}, /* short rows, from 256 of them and 64 centroids on */
    {.n = 256, .dim = 4, .k = 256, .flags = CASE_INTEGERS},
    {.n = 1025, .dim = 8, .k = 256},
    {.n = 300, .dim = 15, .k = 128, .flags = CASE_DUPLICATES},
    {.n = 289, .dim = 1, .k = 64},
    {.n = 600, .dim = 7, .k = 64, .flags = CASE_NAN | CASE_INTEGERS},
    {.n = 400, .dim = 6, .k = 512},
    {.n = 20000, .dim = 128, .k = 1024, .flags = CASE_BENCH},
    {.n = 4000, .dim = 768, .k = 1024, .flags = CASE_BENCH},
    {.n = 32768, .dim = 4, .k = 256, .flags = CASE_BENCH},
};

static void assign_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    struct sac_assign_args *a = &data->args.assign;
    float *norms = kernel_block(data, c->k, sizeof *norms), *centroids;
    struct kernel_case plain = *c;

    *a = (struct sac_assign_args){.n = c->n, .dim = c->dim, .k = c->k};
    a->x = kernel_random_rows(data, c->n, c->dim);
    plain.flags &= ~(uint32_t)CASE_NAN; /* centroids are finite */
    data->c = &plain;
    centroids = kernel_random_rows(data, c->k, c->dim);
    data->c = c;
    for (uint32_t i = 0; i < c->k; i++) {
        const float *centroid = centroids + (size_t)i * c->dim;

        norms[i] = (float)kernel_dot(centroid, centroid, c->dim);
    }
    a->centroids = centroids;
    a->centroid_norms = norms;
    a->index = kernel_output(data, c->n, sizeof(uint32_t));
    if (c->n % 2 == 0)
        a->distance = kernel_output(data, c->n, sizeof(float));
    data->bytes = 4.0 * c->dim * ((double)c->n + c->k);
    data->flops = 2.0 * c->n * c->k * c->dim;
}

KERNEL_RUN(assign)
KERNEL_SCRATCH(assign)

static double l2sq(const float *x, const float *y, uint32_t dim)
{
    double sum = 0.0;

    for (uint32_t d = 0; d < dim; d++)
        sum += ((double)x[d] - y[d]) * ((double)x[d] - y[d]);
    return sum;
}

static double norm(const float *x, uint32_t dim)
{
    return kernel_dot(x, x, dim);
}

static const char *assign_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const struct sac_assign_args *a = &data->args.assign;
    const uint32_t *index = want[0], *got_index = got[0];
    const float *distance = a->distance != NULL ? want[1] : NULL, *got_distance = got[1];

    for (size_t i = 0; i < a->n; i++) {
        const float *x = a->x + i * a->dim, *centroid;

        if (got_index[i] >= a->k)
            return "no such centroid";
        centroid = a->centroids + (size_t)got_index[i] * a->dim;
        if (got_index[i] != index[i]) {
            double other = l2sq(x, a->centroids + (size_t)index[i] * a->dim, a->dim);

            if (data->c->flags & (CASE_INTEGERS | CASE_DUPLICATES | CASE_NAN))
                return "another centroid where distances are exact, tie or are NaN";
            if (l2sq(x, centroid, a->dim) > other + 1e-5 * (norm(x, a->dim) + norm(centroid, a->dim)))
                return "a centroid that is not the nearest";
        }
        if (distance != NULL && !kernel_near(distance[i], got_distance[i], 1e-5f,
                                             (float)(norm(x, a->dim) + norm(centroid, a->dim))))
            return "wrong distance";
    }
    return NULL;
}

const struct kernel_op assign_op = {"assign",   assign_cases,   COUNT(assign_cases), assign_make,
                                    assign_run, assign_scratch, assign_check};

/* ---- cluster_sums ---- */

static const struct kernel_case cluster_sums_cases[] = {
    {.n = 0, .dim = 3, .k = 2},
    {.n = 1, .dim = 1, .k = 1},
    {.n = 100, .dim = 17, .k = 7},
    {.n = 3000, .dim = 128, .k = 100},
    {.n = 500, .dim = 33, .k = 600},
    {.n = 100, .dim = 200, .k = 1},
    /* chunks of 256 rows: clusters that fill them, end with them, or cross several */
    {.n = 255, .dim = 3, .k = 1},
    {.n = 256, .dim = 129, .k = 1},
    {.n = 257, .dim = 3, .k = 1},
    {.n = 513, .dim = 5, .k = 3},
    {.n = 1024, .dim = 2, .k = 2},
    {.n = 1500, .dim = 130, .k = 1},
    {.n = 2000, .dim = 64, .k = 9, .flags = CASE_INTEGERS},
    {.n = 100000, .dim = 128, .k = 1024, .flags = CASE_BENCH},
};

static void cluster_sums_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    uint32_t *index = kernel_block(data, c->n, sizeof *index);

    for (uint32_t i = 0; i < c->n; i++)
        index[i] = kernel_random(data, c->k);
    data->args.cluster_sums =
        (struct sac_cluster_sums_args){.n = c->n, .dim = c->dim, .index = index, .k = c->k};
    data->args.cluster_sums.x = kernel_random_rows(data, c->n, c->dim);
    data->args.cluster_sums.sums = kernel_output(data, (size_t)c->k * c->dim, sizeof(float));
    data->args.cluster_sums.counts = kernel_output(data, c->k, sizeof(uint32_t));
    data->bytes = 4.0 * c->n * c->dim;
    data->flops = 1.0 * c->n * c->dim;
}

KERNEL_RUN(cluster_sums)
KERNEL_SCRATCH(cluster_sums)

static const char *cluster_sums_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const float *sums = want[0], *got_sums = got[0];

    if (memcmp(want[1], got[1], data->out_bytes[1]) != 0)
        return "wrong count";
    for (size_t i = 0; i < data->out_bytes[0] / sizeof(float); i++)
        if (!kernel_near(sums[i], got_sums[i], 1e-5f, (float)data->c->n / (float)data->c->k + 10.0f))
            return "wrong sum";
    return NULL;
}

const struct kernel_op cluster_sums_op = {"cluster_sums",    cluster_sums_cases, COUNT(cluster_sums_cases),
                                          cluster_sums_make, cluster_sums_run,   cluster_sums_scratch,
                                          cluster_sums_check};

/* ---- nearest ---- */

#define IP SAC_DISTANCE_NEG_IP

static const struct kernel_case nearest_cases[] = {
    {.n = 0, .dim = 4, .k = 3, .queries = 2},
    {.n = 10, .dim = 4, .k = 3, .queries = 0},
    {.n = 1, .dim = 1, .k = 2, .queries = 1},
    {.n = 15, .dim = 7, .k = 4, .queries = 1},
    {.n = 17, .dim = 33, .k = 100, .queries = 3, .distance = IP},
    {.n = 257, .dim = 16, .k = 1, .queries = 1, .flags = CASE_LIVE},
    {.n = 1000, .dim = 128, .k = 10, .queries = 1, .flags = CASE_INTEGERS},
    {.n = 3000, .dim = 96, .k = 100, .queries = 5, .dtype = SAC_F16, .flags = CASE_LIVE},
    {.n = 3000, .dim = 31, .k = 10, .queries = 1, .dtype = SAC_F16, .distance = IP},
    {.n = 9000, .dim = 24, .k = 50, .queries = 2, .flags = CASE_DUPLICATES | CASE_LIVE},
    {.n = 9000, .dim = 8, .k = 4096, .queries = 1},
    {.n = 5000, .dim = 32, .k = 20, .queries = 1, .distance = IP},
    {.n = 2000, .dim = 32, .k = 10, .queries = 7, .flags = CASE_FILTERS},
    {.n = 2000, .dim = 19, .k = 100, .queries = 5, .flags = CASE_FILTERS | CASE_LIVE, .distance = IP},
    {.n = 2000, .dim = 19, .k = 10, .queries = 3, .dtype = SAC_I8, .flags = CASE_LIVE},
    {.n = 300, .dim = 1, .k = 10, .queries = 3, .dtype = SAC_I8, .distance = IP},
    /* batches with norms, which may be computed as matrix products */
    {.n = 20, .dim = 5, .k = 30, .queries = 40, .flags = CASE_NORMS},
    {.n = 3000, .dim = 128, .k = 10, .queries = 33, .flags = CASE_NORMS | CASE_INTEGERS},
    {.n = 3000, .dim = 65, .k = 100, .queries = 100, .flags = CASE_NORMS | CASE_LIVE},
    {.n = 3001, .dim = 96, .k = 7, .queries = 64, .flags = CASE_NORMS, .distance = IP},
    {.n = 2999, .dim = 40, .k = 5, .queries = 61, .flags = CASE_NORMS, .dtype = SAC_F16},
    {.n = 6000, .dim = 16, .k = 20, .queries = 50, .flags = CASE_NORMS | CASE_DUPLICATES},
    {.n = 3000, .dim = 48, .k = 30, .queries = 45, .flags = CASE_NORMS | CASE_FILTERS | CASE_LIVE},
    {.n = 1000, .dim = 70, .k = 10, .queries = 20, .flags = CASE_NORMS, .dtype = SAC_I8},
    {.n = 127, .dim = 64, .k = 4, .queries = 128},
    {.n = 385, .dim = 66, .k = 30, .queries = 129, .flags = CASE_FILTERS},
    {.n = 700, .dim = 1030, .k = 9, .queries = 17, .dtype = SAC_F16, .distance = IP},
    {.n = 2500, .dim = 12, .k = 700, .queries = 18, .flags = CASE_LIVE},
    {.n = 2000, .dim = 1, .k = 10, .queries = 20}, /* so close that products cannot tell */
    /* tiles: packs of 32 rows and 32 queries from 24 queries on, blocks of 256 rows and of 512 queries, steps
     * of 32 components; far more rows than a block so that bounds are lowered */
    {.n = 255, .dim = 16, .k = 3, .queries = 23, .flags = CASE_NORMS},
    {.n = 256, .dim = 31, .k = 3, .queries = 24, .flags = CASE_NORMS},
    {.n = 257, .dim = 32, .k = 300, .queries = 31, .flags = CASE_NORMS, .distance = IP},
    {.n = 31, .dim = 33, .k = 5, .queries = 32, .flags = CASE_NORMS, .dtype = SAC_F16},
    {.n = 33, .dim = 63, .k = 5, .queries = 33, .flags = CASE_NORMS, .dtype = SAC_I8},
    {.n = 20000, .dim = 17, .k = 1, .queries = 65, .flags = CASE_NORMS | CASE_LIVE},
    {.n = 2300, .dim = 100, .k = 11, .queries = 512, .flags = CASE_NORMS | CASE_FILTERS},
    {.n = 300, .dim = 97, .k = 2, .queries = 513, .flags = CASE_NORMS, .dtype = SAC_I8, .distance = IP},
    {.n = 2000, .dim = 20, .k = 10, .queries = 1030, .flags = CASE_NORMS | CASE_INTEGERS},
    {.n = 9000, .dim = 64, .k = 20, .queries = 40, .flags = CASE_NORMS | CASE_DUPLICATES | CASE_LIVE},
    {.n = 1024, .dim = 128, .k = 32, .queries = 1, .flags = CASE_BENCH},
    {.n = 4096, .dim = 768, .k = 32, .queries = 1, .flags = CASE_BENCH},
    {.n = 200000, .dim = 128, .k = 10, .queries = 1, .flags = CASE_BENCH},
    {.n = 200000, .dim = 128, .k = 10, .queries = 1, .dtype = SAC_F16, .flags = CASE_BENCH},
    {.n = 1024, .dim = 128, .k = 32, .queries = 256, .flags = CASE_BENCH | CASE_NORMS},
    {.n = 20000, .dim = 128, .k = 100, .queries = 200, .flags = CASE_BENCH | CASE_NORMS},
    {.n = 10000, .dim = 768, .k = 10, .queries = 100, .flags = CASE_BENCH | CASE_NORMS},
};

static void nearest_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    struct sac_nearest_args *a = &data->args.nearest;
    float *rows = kernel_random_rows(data, c->n, c->dim), *norms = kernel_block(data, c->n, sizeof *norms);
    uint64_t *live = kernel_block(data, c->n / 64 + 1, sizeof *live);

    *a = (struct sac_nearest_args){.query_count = c->queries,
                                   .dim = c->dim,
                                   .distance = c->distance,
                                   .page_rows = PAGE_ROWS,
                                   .dtype = c->dtype,
                                   .row_count = c->n,
                                   .k = c->k};
    a->queries = kernel_random_rows(data, c->queries, c->dim);
    a->pages = kernel_paged_rows(data, rows, c->n, c->dim, PAGE_ROWS, c->dtype);
    a->filters = kernel_filters(data, c->n);
    for (uint32_t i = 0; i < c->n; i++)
        norms[i] = (float)norm(rows + (size_t)i * c->dim, c->dim);
    for (uint32_t i = 0; i <= c->n / 64; i++)
        live[i] = i == 3 ? 0 : i == 5 ? UINT64_MAX : (uint64_t)kernel_random(data, UINT32_MAX) * 0x100000401u;
    a->norms = c->flags & CASE_NORMS ? norms : NULL;
    a->live = c->flags & CASE_LIVE ? live : NULL;
    a->out_distance = kernel_output(data, (size_t)c->queries * c->k, sizeof(float));
    a->out_index = kernel_output(data, (size_t)c->queries * c->k, sizeof(uint32_t));
    data->bytes = (double)c->n * (double)sac_row_bytes(c->dtype, c->dim);
    data->flops = 2.0 * c->n * c->dim * c->queries;
}

KERNEL_RUN(nearest)
KERNEL_SCRATCH(nearest)

/* Where sums are exact (whole numbers, few distinct rows) every place must agree. Elsewhere rounding may
 * exchange neighbours whose distances agree within the tolerance. */
static const char *nearest_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const float *distance = want[0], *got_distance = got[0];
    const uint32_t *index = want[1], *got_index = got[1];
    float scale = 4.0f * (float)data->c->dim;
    bool exact = data->c->flags & CASE_INTEGERS;

    for (size_t i = 0; i < (size_t)data->c->queries * data->c->k; i++) {
        if (!kernel_near(distance[i], got_distance[i], exact ? 0.0f : 3e-7f, scale))
            return "wrong distance";
        if (index[i] == got_index[i])
            continue;
        if (exact || (index[i] == UINT32_MAX) != (got_index[i] == UINT32_MAX) ||
            data->c->flags & CASE_DUPLICATES)
            return "another row where distances are exact or tie";
        if (i % data->c->k > 0 && !(got_distance[i - 1] <= got_distance[i]))
            return "not ascending";
    }
    return NULL;
}

const struct kernel_op nearest_op = {"nearest",   nearest_cases,   COUNT(nearest_cases), nearest_make,
                                     nearest_run, nearest_scratch, nearest_check};

/* ---- gather_distances: n rows, k places a query ---- */

static const struct kernel_case gather_distances_cases[] = {
    {.n = 10, .dim = 4, .k = 3, .queries = 0},
    {.n = 1, .dim = 1, .k = 1, .queries = 1},
    {.n = 1, .dim = 1, .k = 1, .queries = 1, .dtype = SAC_I8},
    {.n = 500, .dim = 7, .k = 15, .queries = 3, .flags = CASE_COUNTS},
    {.n = 500, .dim = 16, .k = 16, .queries = 2, .distance = IP},
    {.n = 500, .dim = 33, .k = 17, .queries = 2, .dtype = SAC_F16},
    {.n = 500, .dim = 30, .k = 33, .queries = 9, .dtype = SAC_I8, .flags = CASE_COUNTS},
    {.n = 500, .dim = 129, .k = 200, .queries = 3, .dtype = SAC_I8, .distance = IP},
    {.n = 2000, .dim = 128, .k = 1000, .queries = 5, .flags = CASE_INTEGERS | CASE_COUNTS},
    {.n = 2000, .dim = 768, .k = 100, .queries = 30, .dtype = SAC_F16, .distance = IP},
    {.n = 300, .dim = 8, .k = 63, .queries = 2, .dtype = SAC_F16},
    {.n = 300, .dim = 256, .k = 65, .queries = 5, .dtype = SAC_F16, .flags = CASE_COUNTS},
    {.n = 300, .dim = 260, .k = 17, .queries = 3, .flags = CASE_INTEGERS},
    {.n = 300, .dim = 264, .k = 64, .queries = 3, .dtype = SAC_F16, .flags = CASE_COUNTS},
    {.n = 300, .dim = 128, .k = 64, .queries = 2, .dtype = SAC_I8},
    {.n = 300, .dim = 516, .k = 31, .queries = 2, .dtype = SAC_I8, .distance = IP},
    {.n = 200000, .dim = 128, .k = 200, .queries = 1, .flags = CASE_BENCH},
    {.n = 200000, .dim = 128, .k = 200, .queries = 100, .flags = CASE_BENCH},
    {.n = 40000, .dim = 768, .k = 200, .queries = 100, .dtype = SAC_F16, .flags = CASE_BENCH},
    {.n = 40000, .dim = 768, .k = 200, .queries = 100, .dtype = SAC_I8, .flags = CASE_BENCH},
};

static void gather_distances_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    struct sac_gather_distances_args *a = &data->args.gather_distances;
    float *x = kernel_random_rows(data, c->n, c->dim);
    uint32_t stride = c->k + (c->flags & CASE_COUNTS ? 5 : 0), total = 0;
    uint32_t *rows = kernel_block(data, (size_t)c->queries * stride, sizeof *rows);
    uint32_t *counts = kernel_block(data, c->queries, sizeof *counts);

    for (uint32_t q = 0; q < c->queries; q++) {
        counts[q] = !(c->flags & CASE_COUNTS) ? c->k : q % 4 == 1 ? 0 : kernel_random(data, c->k) + 1;
        total += counts[q];
        for (uint32_t i = 0; i < stride; i++) /* what must not be read would lead far away */
            rows[q * stride + i] = i >= counts[q] ? UINT32_MAX - 1
                                   : i % 10 == 9  ? UINT32_MAX
                                                  : kernel_random(data, c->n);
    }
    *a = (struct sac_gather_distances_args){.query_count = c->queries,
                                            .dim = c->dim,
                                            .distance = c->distance,
                                            .page_rows = PAGE_ROWS,
                                            .dtype = c->dtype,
                                            .rows = rows,
                                            .counts = counts,
                                            .stride = stride};
    a->queries = kernel_random_rows(data, c->queries, c->dim);
    a->pages = kernel_paged_rows(data, x, c->n, c->dim, PAGE_ROWS, c->dtype);
    a->out = kernel_output(data, (size_t)c->queries * stride, sizeof(float));
    data->bytes = (double)total * (double)sac_row_bytes(c->dtype, c->dim);
    data->flops = 3.0 * total * c->dim;
}

KERNEL_RUN(gather_distances)

/* Places beyond a query's count stay poisoned: NaN, which only NaN meets. */
static const char *gather_distances_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const float *distance = want[0], *got_distance = got[0];
    bool exact = data->c->flags & CASE_INTEGERS;

    for (size_t i = 0; i < data->out_bytes[0] / sizeof(float); i++)
        if (!kernel_near(distance[i], got_distance[i], exact ? 0.0f : 3e-7f, 4.0f * (float)data->c->dim))
            return "wrong distance";
    return NULL;
}

const struct kernel_op gather_distances_op = {
    "gather_distances",     gather_distances_cases, COUNT(gather_distances_cases),
    gather_distances_make,  gather_distances_run,   NULL,
    gather_distances_check,
};

/* ---- select: the best k of n candidates ---- */

static const struct kernel_case select_cases[] = {
    {.n = 10, .k = 3, .queries = 0},
    {.n = 1, .k = 1, .queries = 1},
    {.n = 0, .k = 5, .queries = 2},
    {.n = 10, .k = 100, .queries = 3},
    {.n = 255, .k = 1, .queries = 4, .flags = CASE_COUNTS},
    {.n = 1000, .k = 10, .queries = 9, .flags = CASE_COUNTS | CASE_NAN},
    {.n = 3000, .k = 100, .queries = 5, .flags = CASE_DUPLICATES | CASE_COUNTS},
    {.n = 2048, .k = 1024, .queries = 2},
    {.n = 2049, .k = 1025, .queries = 2, .flags = CASE_INTEGERS},
    {.n = 9000, .k = 4096, .queries = 3, .flags = CASE_COUNTS},
    {.n = 4096, .k = 4096, .queries = 1, .flags = CASE_DUPLICATES},
    {.n = 20000, .k = 64, .queries = 3, .flags = CASE_DUPLICATES}, /* ties down to the last bits */
    {.n = 40000, .k = 10, .queries = 1, .flags = CASE_NAN},        /* long rows: several blocks each */
    {.n = 50001, .k = 1000, .queries = 2, .flags = CASE_COUNTS},
    {.n = 33000, .k = 4096, .queries = 1},
    {.n = 1000, .k = 100, .queries = 1000, .flags = CASE_BENCH},
    {.n = 100000, .k = 100, .queries = 10, .flags = CASE_BENCH},
};

static void select_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    size_t total = (size_t)c->queries * c->n;
    float *distance = kernel_block(data, total, sizeof *distance);
    uint32_t *index = kernel_block(data, total, sizeof *index);
    uint32_t *counts = kernel_block(data, c->queries, sizeof *counts);

    for (size_t i = 0; i < total; i++) {
        distance[i] = c->flags & CASE_DUPLICATES ? (float)kernel_random(data, 3) : kernel_random_float(data);
        if (c->flags & CASE_NAN && i % 5 == 2)
            distance[i] = i % 10 == 7 ? INFINITY : NAN;
        index[i] = i % 7 == 6 ? UINT32_MAX : (uint32_t)i * 2654435761u; /* distinct */
    }
    for (uint32_t q = 0; q < c->queries; q++)
        counts[q] = q % 4 == 1 ? 0 : kernel_random(data, c->n + 1);
    data->args.select = (struct sac_select_args){.distance = distance,
                                                 .index = index,
                                                 .query_count = c->queries,
                                                 .counts = c->flags & CASE_COUNTS ? counts : NULL,
                                                 .stride = c->n,
                                                 .keep = c->k};
    data->args.select.out_distance = kernel_output(data, (size_t)c->queries * c->k, sizeof(float));
    data->args.select.out_index = kernel_output(data, (size_t)c->queries * c->k, sizeof(uint32_t));
    data->bytes = 8.0 * (double)total;
    data->flops = (double)total;
}

KERNEL_RUN(select)
KERNEL_SCRATCH(select)

static const char *select_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const float *distance = want[0], *got_distance = got[0];

    if (memcmp(want[1], got[1], data->out_bytes[1]) != 0)
        return "another index";
    for (size_t i = 0; i < data->out_bytes[0] / sizeof(float); i++)
        if (!kernel_near(distance[i], got_distance[i], 0.0f, 0.0f))
            return "another distance";
    return NULL;
}

const struct kernel_op select_op = {"select",   select_cases,   COUNT(select_cases), select_make,
                                    select_run, select_scratch, select_check};

/* ---- merge: the lists of k shards, n long ---- */

static const struct kernel_case merge_cases[] = {
    {.n = 10, .dim = 10, .k = 2, .queries = 0},
    {.n = 1, .dim = 1, .k = 1, .queries = 1},
    {.n = 1, .dim = 64, .k = 64, .queries = 3},
    {.n = 26, .dim = 26, .k = 2, .queries = 1},
    {.n = 26, .dim = 52, .k = 2, .queries = 9, .flags = CASE_DUPLICATES},
    {.n = 127, .dim = 100, .k = 3, .queries = 5, .flags = CASE_NAN},
    {.n = 128, .dim = 384, .k = 3, .queries = 7, .flags = CASE_DUPLICATES},
    {.n = 129, .dim = 129, .k = 8, .queries = 2, .flags = CASE_DUPLICATES | CASE_NAN},
    {.n = 4096, .dim = 4096, .k = 3, .queries = 2},
    {.n = 26, .dim = 26, .k = 8, .queries = 10000, .flags = CASE_BENCH},
};

struct merge_entry {
    float distance;
    uint32_t index;
};

static int merge_compare(const void *a, const void *b)
{
    const struct merge_entry *x = a, *y = b;

    if (x->index == UINT32_MAX || y->index == UINT32_MAX)
        return (x->index == UINT32_MAX) - (y->index == UINT32_MAX);
    return sac_nearer(x->distance, x->index, y->distance, y->index) ? -1 : 1;
}

/* One list: distinct rows in any order of distance, then sorted; every third has unused places. */
static void merge_fill(struct kernel_data *data, uint32_t list, float *distance, uint32_t *index)
{
    const struct kernel_case *c = data->c;
    uint32_t used = list % 3 == 1 ? kernel_random(data, c->n + 1) : c->n;
    struct merge_entry *entries = calloc((size_t)c->n + 1, sizeof *entries);

    if (entries == NULL)
        abort();
    for (uint32_t i = 0; i < c->n; i++) {
        float any = c->flags & CASE_DUPLICATES ? (float)kernel_random(data, 3) : kernel_random_float(data);
        bool odd = c->flags & CASE_NAN && i % 5 == 2;

        entries[i].distance = i >= used ? INFINITY : odd ? (i % 10 == 7 ? INFINITY : NAN) : any;
        entries[i].index = i >= used ? UINT32_MAX : 3 * i + kernel_random(data, 3);
    }
    qsort(entries, c->n, sizeof *entries, merge_compare);
    for (uint32_t i = 0; i < c->n; i++) {
        distance[i] = entries[i].distance;
        index[i] = entries[i].index;
    }
    free(entries);
}

static void merge_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    size_t rows = (size_t)c->queries * c->k, total = rows * c->n;
    float *distance = kernel_block(data, total, sizeof *distance);
    uint32_t *index = kernel_block(data, total, sizeof *index);

    for (size_t r = 0; r < rows; r++)
        merge_fill(data, (uint32_t)r, distance + r * c->n, index + r * c->n);
    data->args.merge = (struct sac_merge_args){.distance = distance,
                                               .index = index,
                                               .query_count = c->queries,
                                               .lists = c->k,
                                               .stride = c->n,
                                               .keep = c->dim};
    data->args.merge.out_distance = kernel_output(data, (size_t)c->queries * c->dim, sizeof(float));
    data->args.merge.out_index = kernel_output(data, (size_t)c->queries * c->dim, sizeof(uint32_t));
    data->bytes = 8.0 * (double)total;
    data->flops = (double)total;
}

KERNEL_RUN(merge)

const struct kernel_op merge_op = {"merge",   merge_cases, COUNT(merge_cases), merge_make,
                                   merge_run, NULL,        select_check};

/* ---- rows_write and rows_read ---- */

static const struct kernel_case rows_cases[] = {
    {.n = 0, .dim = 3},
    {.n = 1, .dim = 1},
    {.n = 1, .dim = 1, .dtype = SAC_F16},
    {.n = 50, .dim = 7},
    {.n = 50, .dim = 15, .dtype = SAC_F16},
    {.n = 40, .dim = 33, .dtype = SAC_F16, .flags = CASE_NAN},
    {.n = 333, .dim = 128, .dtype = SAC_F16},
    {.n = 1, .dim = 1, .dtype = SAC_I8},
    {.n = 60, .dim = 13, .dtype = SAC_I8},
    {.n = 333, .dim = 128, .dtype = SAC_I8},
    {.n = 333, .dim = 128},
    {.n = 31, .dim = 256, .dtype = SAC_F16},
    {.n = 33, .dim = 264, .dtype = SAC_F16},
    {.n = 7, .dim = 260},
    {.n = 65, .dim = 260, .dtype = SAC_I8},
    {.n = 9, .dim = 515, .dtype = SAC_I8},
    {.n = 100000, .dim = 128, .dtype = SAC_F16, .flags = CASE_BENCH},
};

static void *const *output_pages(struct kernel_data *data, size_t count, size_t bytes)
{
    void **pages = kernel_pointers(data, count);
    unsigned char *memory;

    bytes = (bytes + 63) / 64 * 64;
    memory = kernel_output(data, count, bytes);
    for (size_t i = 0; i < count; i++)
        pages[i] = memory + i * bytes;
    return pages;
}

static void rows_write_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    uint32_t *rows = kernel_block(data, c->n, sizeof *rows);
    float *x = kernel_random_rows(data, c->n, c->dim);

    for (uint32_t i = 0; i < c->n; i++) /* distinct, some unused */
        rows[i] = c->n + c->n / 2 - 1 - i;
    for (uint32_t i = 0; c->dtype != SAC_I8 && i + 6 < c->n * c->dim; i += 61) { /* the extremes of f16 */
        const float extremes[] = {65519.9f, 65520.0f, -1e-7f, 2.9802322e-8f, 6.1e-5f, 0x1.ffcp-15f, -0.0f};

        x[i] = extremes[i % 7];
    }
    for (uint32_t i = 0; c->dtype == SAC_I8 && i < c->n / 3 * c->dim; i++) /* no scale, and small ones */
        x[i] *= i / c->dim % 2 == 0 ? 0.0f : 0x1p-140f;
    data->args.rows_write = (struct sac_rows_write_args){
        .x = x, .n = c->n, .dim = c->dim, .page_rows = PAGE_ROWS, .dtype = c->dtype, .rows = rows};
    data->args.rows_write.pages =
        output_pages(data, c->n * 3 / 2 / PAGE_ROWS + 1, PAGE_ROWS * sac_row_bytes(c->dtype, c->dim));
    data->bytes = (double)c->n * (4.0 * c->dim + (double)sac_row_bytes(c->dtype, c->dim));
}

KERNEL_RUN(rows_write)

static bool f16_is_nan(uint16_t half)
{
    return (half & 0x7fff) > 0x7c00;
}

/* Byte for byte, but that a NaN may be any NaN other than the poison. */
static const char *rows_write_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const uint16_t *half = want[0], *got_half = got[0];

    if (data->c->dtype != SAC_F16)
        return memcmp(want[0], got[0], data->out_bytes[0]) == 0 ? NULL : "different bytes";
    for (size_t i = 0; i < data->out_bytes[0] / sizeof *half; i++)
        if (half[i] != got_half[i] &&
            (!f16_is_nan(half[i]) || !f16_is_nan(got_half[i]) || half[i] == 0xffff || got_half[i] == 0xffff))
            return "different bytes";
    return NULL;
}

const struct kernel_op rows_write_op = {"rows_write",   rows_cases, COUNT(rows_cases), rows_write_make,
                                        rows_write_run, NULL,       rows_write_check};

static void rows_read_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    float *x = kernel_random_rows(data, c->n, c->dim);
    uint32_t *rows = kernel_block(data, c->n, sizeof *rows);

    for (uint32_t i = 0; i < c->n; i++)
        rows[i] = kernel_random(data, c->n);
    data->args.rows_read = (struct sac_rows_read_args){
        .page_rows = PAGE_ROWS, .dtype = c->dtype, .dim = c->dim, .rows = rows, .n = c->n};
    data->args.rows_read.pages = kernel_paged_rows(data, x, c->n, c->dim, PAGE_ROWS, c->dtype);
    data->args.rows_read.out = kernel_output(data, (size_t)c->n * c->dim, sizeof(float));
    data->bytes = (double)c->n * (4.0 * c->dim + (double)sac_row_bytes(c->dtype, c->dim));
}

KERNEL_RUN(rows_read)

static const char *rows_read_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const uint32_t *bits = want[0], *got_bits = got[0];

    for (size_t i = 0; i < data->out_bytes[0] / sizeof *bits; i++)
        if (bits[i] != got_bits[i] && (!isnan(sac_f32_from_bits(bits[i])) || got_bits[i] == UINT32_MAX ||
                                       !isnan(sac_f32_from_bits(got_bits[i]))))
            return "another component";
    return NULL;
}

const struct kernel_op rows_read_op = {"rows_read",   rows_cases, COUNT(rows_cases), rows_read_make,
                                       rows_read_run, NULL,       rows_read_check};
