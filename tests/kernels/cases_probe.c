/* Cases of coarse search: which lists a query probes. n lists, width k, in groups or not, with rough rows
 * where dtype is SAC_I8. */
#include "tests/kernels/cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define IP SAC_DISTANCE_NEG_IP

static const struct kernel_case probe_cases[] = {
    {.n = 10, .dim = 4, .k = 3, .queries = 0},
    {.n = 1, .dim = 1, .k = 1, .queries = 1},
    {.n = 5, .dim = 3, .k = 5, .queries = 2},
    {.n = 100, .dim = 17, .k = 1, .queries = 3},
    {.n = 255, .dim = 16, .k = 8, .queries = 9, .distance = IP},
    {.n = 257, .dim = 33, .k = 257, .queries = 4},
    {.n = 600, .dim = 96, .k = 64, .queries = 33, .flags = CASE_INTEGERS},
    {.n = 600, .dim = 40, .k = 300, .queries = 5, .flags = CASE_DUPLICATES},
    {.n = 1000, .dim = 128, .k = 32, .queries = 70},
    {.n = 1000, .dim = 65, .k = 100, .queries = 40, .distance = IP},
    {.n = 4500, .dim = 8, .k = 4096, .queries = 3},
    /* around tiles of 128 x 128 x 64, one and several, and rows too long to stay in shared memory */
    {.n = 128, .dim = 64, .k = 16, .queries = 128},
    {.n = 129, .dim = 63, .k = 129, .queries = 129},
    {.n = 2100, .dim = 200, .k = 10, .queries = 17},
    {.n = 300, .dim = 1500, .k = 5, .queries = 20, .distance = IP},
    {.n = 1800, .dim = 2, .k = 900, .queries = 18},
    /* reaches */
    {.n = 1, .dim = 3, .k = 1, .queries = 2, .flags = CASE_REACHES},
    {.n = 300, .dim = 12, .k = 60, .queries = 40, .flags = CASE_REACHES},
    {.n = 600, .dim = 96, .k = 64, .queries = 33, .flags = CASE_REACHES | CASE_INTEGERS},
    {.n = 600, .dim = 40, .k = 300, .queries = 5, .flags = CASE_REACHES | CASE_DUPLICATES},
    {.n = 2000, .dim = 3, .k = 1500, .queries = 20, .flags = CASE_REACHES},
    /* rough rows */
    {.n = 1, .dim = 1, .k = 1, .queries = 1, .dtype = SAC_I8},
    {.n = 17, .dim = 3, .k = 17, .queries = 9, .dtype = SAC_I8},
    {.n = 300, .dim = 31, .k = 20, .queries = 9, .dtype = SAC_I8, .flags = CASE_REACHES},
    {.n = 555, .dim = 33, .k = 64, .queries = 5, .dtype = SAC_I8, .distance = IP},
    {.n = 1000, .dim = 128, .k = 100, .queries = 20, .dtype = SAC_I8, .flags = CASE_INTEGERS},
    {.n = 600, .dim = 40, .k = 300, .queries = 5, .dtype = SAC_I8, .flags = CASE_DUPLICATES},
    {.n = 200, .dim = 4096, .k = 20, .queries = 3, .dtype = SAC_I8, .flags = CASE_REACHES},
    {.n = 200, .dim = 4095, .k = 20, .queries = 3, .dtype = SAC_I8, .distance = IP},
    /* groups: of one list or of none, fewer lists than are compared, and more */
    {.n = 1, .dim = 1, .k = 1, .queries = 1, .groups = 1},
    {.n = 10, .dim = 4, .k = 3, .queries = 0, .groups = 2},
    {.n = 40, .dim = 5, .k = 10, .queries = 5, .groups = 100},
    {.n = 400, .dim = 7, .k = 400, .queries = 9, .groups = 20, .dtype = SAC_I8},
    {.n = 3000, .dim = 2, .k = 40, .queries = 30, .groups = 60},
    {.n = 3000, .dim = 3, .k = 40, .queries = 30, .groups = 60, .flags = CASE_INTEGERS | CASE_REACHES},
    {.n = 3000, .dim = 24, .k = 300, .queries = 20, .groups = 55, .dtype = SAC_I8, .flags = CASE_REACHES},
    {.n = 3000, .dim = 15, .k = 30, .queries = 20, .groups = 257, .dtype = SAC_I8, .distance = IP},
    {.n = 3000, .dim = 6, .k = 3000, .queries = 8, .groups = 33, .flags = CASE_DUPLICATES},
    {.n = 9000, .dim = 8, .k = 100, .queries = 5, .groups = 95, .dtype = SAC_I8, .flags = CASE_REACHES},
    /* around blocks of 32 and 64 queries, and tiles of 16 of them, packs of 32 rows, windows of 128, steps of
     * 64 components */
    {.n = 1, .dim = 1, .k = 1, .queries = 32, .dtype = SAC_I8},
    {.n = 15, .dim = 63, .k = 7, .queries = 31, .dtype = SAC_I8},
    {.n = 16, .dim = 64, .k = 16, .queries = 32, .dtype = SAC_I8, .distance = IP},
    {.n = 17, .dim = 65, .k = 5, .queries = 33, .dtype = SAC_I8, .flags = CASE_REACHES},
    {.n = 31, .dim = 5, .k = 31, .queries = 47, .dtype = SAC_I8, .flags = CASE_INTEGERS},
    {.n = 33, .dim = 129, .k = 20, .queries = 48, .dtype = SAC_I8, .flags = CASE_DUPLICATES},
    {.n = 127, .dim = 128, .k = 30, .queries = 63, .dtype = SAC_I8, .flags = CASE_REACHES},
    {.n = 128, .dim = 12, .k = 128, .queries = 64, .dtype = SAC_I8},
    {.n = 129, .dim = 191, .k = 40, .queries = 65, .dtype = SAC_I8, .distance = IP},
    {.n = 1000, .dim = 66, .k = 100, .queries = 95, .dtype = SAC_I8, .flags = CASE_REACHES},
    {.n = 300, .dim = 1500, .k = 20, .queries = 96, .dtype = SAC_I8},
    {.n = 40, .dim = 5, .k = 10, .queries = 49, .groups = 100, .dtype = SAC_I8, .flags = CASE_REACHES},
    {.n = 640, .dim = 70, .k = 60, .queries = 81, .groups = 3, .dtype = SAC_I8, .flags = CASE_REACHES},
    {.n = 1000, .dim = 64, .k = 50, .queries = 128, .groups = 129, .dtype = SAC_I8, .distance = IP},
    {.n = 3000, .dim = 31, .k = 30, .queries = 161, .groups = 110, .dtype = SAC_I8, .flags = CASE_REACHES},
    {.n = 1024, .dim = 128, .k = 64, .queries = 1, .flags = CASE_BENCH},
    {.n = 1024, .dim = 128, .k = 64, .queries = 1, .dtype = SAC_I8, .flags = CASE_BENCH},
    {.n = 4096, .dim = 768, .k = 64, .queries = 1, .dtype = SAC_I8, .flags = CASE_BENCH},
    {.n = 8192, .dim = 128, .k = 55, .queries = 1, .groups = 91, .dtype = SAC_I8, .flags = CASE_BENCH},
    {.n = 8192, .dim = 128, .k = 55, .queries = 1000, .groups = 91, .dtype = SAC_I8, .flags = CASE_BENCH},
    {.n = 4096, .dim = 128, .k = 64, .queries = 1000, .dtype = SAC_I8, .flags = CASE_BENCH},
};

/* Groups of any size, some empty, of which the last has the rest; their centroids lie around a point each. */
static void probe_make_groups(struct kernel_data *data, float *centroids)
{
    const struct kernel_case *c = data->c;
    struct sac_probe_args *a = &data->args.probe;
    uint32_t *first = kernel_block(data, c->groups + 1, sizeof *first);
    float *heads = kernel_random_rows(data, c->groups, c->dim);
    float *norms = kernel_block(data, c->groups, sizeof *norms);

    first[0] = 0;
    for (uint32_t g = 0; g < c->groups; g++) {
        uint32_t left = c->n - first[g],
                 size = g % 7 == 3 ? 0 : kernel_random(data, 2 * c->n / c->groups + 2);

        size = size < left ? size : left;
        first[g + 1] = g + 1 == c->groups ? c->n : first[g] + size;
        for (size_t i = first[g]; i < first[g + 1] && !(c->flags & CASE_DUPLICATES); i++)
            for (uint32_t d = 0; d < c->dim; d++) {
                float *x = &centroids[i * c->dim + d], near = 0.2f * *x + heads[(size_t)g * c->dim + d];

                *x = c->flags & CASE_INTEGERS ? rintf(near) : near;
            }
        for (uint32_t d = 0; d < c->dim; d++) {
            double sum = 0.0;

            for (size_t i = first[g]; i < first[g + 1]; i++)
                sum += centroids[i * c->dim + d];
            if (first[g + 1] > first[g])
                heads[(size_t)g * c->dim + d] = (float)(sum / (first[g + 1] - first[g]));
        }
        norms[g] = (float)kernel_dot(heads + (size_t)g * c->dim, heads + (size_t)g * c->dim, c->dim);
    }
    a->group_count = c->groups;
    a->group_first = first;
    a->heads = heads;
    a->head_norms = norms;
}

static const void *rough_rows(struct kernel_data *data, const float *rows, size_t n)
{
    size_t bytes = n * sac_row_bytes(SAC_I8, data->c->dim);
    float *copy = kernel_block(data, n * data->c->dim, sizeof *copy);
    unsigned char *rough = kernel_block(data, bytes + SAC_ROUGH_SPARE, 1);

    memcpy(copy, rows, n * data->c->dim * sizeof *copy);
    memset(rough, 0x7f, bytes + SAC_ROUGH_SPARE);
    memcpy(rough, kernel_paged_rows(data, copy, n, data->c->dim, (uint32_t)n + 1, SAC_I8)[0], bytes);
    return rough;
}

/* What a query needs is little, what most lists hold, or more than there is. */
static void probe_make_wishes(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    uint32_t *nprobes = kernel_block(data, c->queries, sizeof *nprobes);
    uint32_t *needs = kernel_block(data, c->queries, sizeof *needs);
    float *reaches = kernel_block(data, c->queries, sizeof *reaches);

    for (uint32_t q = 0; q < c->queries; q++) {
        nprobes[q] = q % 5 == 4 || c->flags & CASE_BENCH ? c->k : kernel_random(data, c->k / 4 + 1) + 1;
        needs[q] = c->flags & CASE_BENCH || q % 4 == 0 ? 0
                   : q % 4 == 3                        ? UINT32_MAX
                                                       : kernel_random(data, c->k * 400);
        nprobes[q] = nprobes[q] < c->k ? nprobes[q] : c->k;
        reaches[q] = q % 6 == 5   ? INFINITY
                     : q % 6 == 4 ? 1.0f
                                  : 1.0f + 0.001f * (float)kernel_random(data, q % 2 ? 3000 : 500);
    }
    data->args.probe.nprobes = nprobes;
    data->args.probe.needs = needs;
    data->args.probe.reaches = c->flags & CASE_REACHES ? reaches : NULL;
}

/* Every third list is empty. */
static void probe_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    struct sac_probe_args *a = &data->args.probe;
    float *norms = kernel_block(data, c->n, sizeof *norms), *centroids;
    sac_list *lists = kernel_block(data, c->n, sizeof *lists);

    *a = (struct sac_probe_args){.query_count = c->queries,
                                 .dim = c->dim,
                                 .distance = c->distance,
                                 .centroid_norms = norms,
                                 .lists = lists,
                                 .nlist = c->n,
                                 .width = c->k};
    a->queries = kernel_random_rows(data, c->queries, c->dim);
    a->centroids = centroids = kernel_random_rows(data, c->n, c->dim);
    if (c->groups > 0)
        probe_make_groups(data, centroids);
    if (c->dtype == SAC_I8)
        a->rough = rough_rows(data, centroids, c->n);
    if (c->dtype == SAC_I8 && c->groups > 0)
        a->rough_heads = rough_rows(data, a->heads, c->groups);
    for (uint32_t i = 0; i < c->n; i++) {
        const float *centroid = centroids + (size_t)i * c->dim;

        norms[i] = (float)kernel_dot(centroid, centroid, c->dim);
        lists[i] = (sac_list){i, i % 3 == 1 ? 0 : kernel_random(data, 1000)};
    }
    if (c->flags & CASE_REACHES && c->queries > 1) /* a query at no distance */
        memcpy((float *)a->queries + c->dim, centroids, c->dim * sizeof *centroids);
    probe_make_wishes(data);
    a->probes = kernel_output(data, (size_t)c->queries * c->k, sizeof *a->probes);
    a->counts = kernel_output(data, c->queries, sizeof(uint32_t));
    a->held = kernel_output(data, c->queries, sizeof(uint32_t));
    data->bytes = 4.0 * c->n * c->dim;
    data->flops = 2.0 * c->n * c->dim * c->queries;
}

KERNEL_RUN(probe)
KERNEL_SCRATCH(probe)

/* A query's exact distance to row i of a matrix, and what tolerances are shares of. */
static double probe_distance(const struct sac_probe_args *a, size_t q, const float *rows, size_t i,
                             double *scale)
{
    const float *query = a->queries + q * a->dim, *row = rows + i * a->dim;
    double dot = 0.0, between = 0.0, norms = 0.0;

    for (uint32_t d = 0; d < a->dim; d++) {
        double x = query[d], y = row[d];

        dot += x * y;
        between += (x - y) * (x - y);
        norms += x * x + y * y;
    }
    *scale = norms;
    return a->distance == IP ? -dot : between;
}

/* What a query may have looked at, for all that is known from outside. */
enum looked { LOOKED_NEVER, LOOKED_PERHAPS, LOOKED_SURELY };

/* Groups that must go before one, or may, and what they hold. */
static enum looked group_looked_at(const struct sac_probe_args *a, size_t q, uint32_t group)
{
    uint32_t wanted = sac_probe_compared(a->nlist, a->nprobes[q]), must = 0, may = 0;
    double scale, own = probe_distance(a, q, a->heads, group, &scale);

    for (uint32_t g = 0; g < a->group_count; g++) {
        double other_scale, other = probe_distance(a, q, a->heads, g, &other_scale);
        double within = 1e-2 * fmax(scale, other_scale);
        uint32_t size = a->group_first[g + 1] - a->group_first[g];

        must += g != group && other + within < own ? size : 0;
        may += g != group && other - within <= own ? size : 0;
    }
    return may < wanted ? LOOKED_SURELY : must >= wanted ? LOOKED_NEVER : LOOKED_PERHAPS;
}

/* looked[list], for a query that stayed with the nearest groups or one that looked at all. */
static void probe_looked_at(const struct sac_probe_args *a, size_t q, bool all, unsigned char *looked)
{
    memset(looked, LOOKED_SURELY, a->nlist);
    for (uint32_t g = 0; g < a->group_count && !all; g++)
        memset(looked + a->group_first[g], (int)group_looked_at(a, q, g),
               a->group_first[g + 1] - a->group_first[g]);
}

/* The lists taken and their order, against the exact distances of those that were looked at. *left: the least
 * distance that one which was left out may have. */
static const char *probe_order_check(const struct sac_probe_args *a, size_t q, const sac_probe *probes,
                                     uint32_t count, const unsigned char *looked, double *left)
{
    double worst = -INFINITY, before = -INFINITY, scale;
    bool *taken = calloc(a->nlist, sizeof *taken);
    const char *wrong = taken == NULL ? "no memory" : NULL;

    *left = INFINITY;
    for (uint32_t p = 0; p < count && wrong == NULL; p++) {
        uint32_t list = probes[p].list;
        double distance = probe_distance(a, q, a->centroids, list, &scale);
        double base = a->distance == IP ? distance : distance - a->centroid_norms[list];

        if (taken[list])
            wrong = "a list twice";
        else if (looked[list] == LOOKED_NEVER)
            wrong = "a list of a far group";
        else if (!(fabs(probes[p].base - base) <= 1e-5 * scale))
            wrong = "wrong base";
        else if (distance < before - 1e-5 * scale || (distance == before && list < probes[p - 1].list))
            wrong = "lists out of order";
        taken[list] = true;
        before = distance;
        worst = fmax(worst, distance - 1e-2 * scale);
    }
    for (uint32_t list = 0; list < a->nlist && wrong == NULL; list++) {
        double distance = probe_distance(a, q, a->centroids, list, &scale);

        if (taken[list] || looked[list] != LOOKED_SURELY)
            continue;
        if (distance < worst)
            wrong = "a nearer list left out";
        *left = fmin(*left, distance + 1e-2 * scale);
    }
    free(taken);
    return wrong;
}

/* Whether the p-th list, at a distance, is within reach; `slack` makes it more likely, or less. */
static bool probe_within(const struct sac_probe_args *a, size_t q, const sac_probe *probes, uint32_t p,
                         double distance, double slack)
{
    double scale, first = probe_distance(a, q, a->centroids, probes[0].list, &scale);
    double reach = a->reaches != NULL ? a->reaches[q] * (1 + 1e-5 * slack) : INFINITY;

    if (isinf(reach) || first <= 1e-5 * scale * (slack > 0))
        return true;
    return distance - 1e-5 * scale * slack <=
           reach * reach * (first + 1e-5 * scale * slack) / pow(p + 1, 0.2);
}

/* How many probes a query takes, given what they hold and the least distance that the next one may have. */
static const char *probe_count_check(const struct sac_probe_args *a, size_t q, const sac_probe *probes,
                                     uint32_t count, uint32_t held, double left)
{
    uint64_t sum = 0, last = 0;
    double scale, distance;

    for (uint32_t p = 0; p < count; p++) {
        last = a->lists[probes[p].list].row_count;
        sum += last;
    }
    if (held != (sum < UINT32_MAX ? sum : UINT32_MAX))
        return "wrong number of entries held";
    if (count < a->width && sum < a->needs[q])
        return "too few probes for what is needed";
    if (count < a->nprobes[q] && probe_within(a, q, probes, count, left, -1))
        return "too few probes";
    distance = probe_distance(a, q, a->centroids, probes[count - 1].list, &scale);
    if (sum - last >= a->needs[q] &&
        (count > a->nprobes[q] || !probe_within(a, q, probes, count - 1, distance, 1)))
        return "too many probes";
    return NULL;
}

static const char *probe_query_check(const struct sac_probe_args *a, size_t q, const sac_probe *probes,
                                     uint32_t count, uint32_t held, bool all)
{
    unsigned char *looked = malloc(a->nlist);
    const char *wrong = looked == NULL ? "no memory" : NULL;
    double left;

    if (count < 1 || count > a->width)
        wrong = "impossible number of probes";
    for (uint32_t p = 0; p < count && wrong == NULL; p++)
        if (probes[p].list >= a->nlist)
            wrong = "no such list";
    if (wrong == NULL) {
        probe_looked_at(a, q, all, looked);
        wrong = probe_order_check(a, q, probes, count, looked, &left);
    }
    if (wrong == NULL)
        wrong = probe_count_check(a, q, probes, count, held, left);
    free(looked);
    return wrong;
}

static const char *probe_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const struct sac_probe_args *a = &data->args.probe;
    const sac_probe *probes = want[0], *got_probes = got[0];
    const uint32_t *counts = want[1], *got_counts = got[1], *got_held = got[2];

    for (size_t q = 0; q < a->query_count; q++) {
        const sac_probe *mine = got_probes + q * a->width;
        const char *wrong = probe_query_check(a, q, mine, got_counts[q], got_held[q], a->group_count == 0);

        if (wrong != NULL && a->group_count > 0 && (a->needs[q] > 0 || !data->twin))
            wrong = probe_query_check(a, q, mine, got_counts[q], got_held[q], true);
        if (wrong != NULL)
            return wrong;
        if (!data->twin || a->rough != NULL || !(data->c->flags & (CASE_INTEGERS | CASE_DUPLICATES)))
            continue;
        if (got_counts[q] != counts[q])
            return "another number of probes";
        for (uint32_t p = 0; p < counts[q]; p++)
            if (mine[p].list != probes[q * a->width + p].list)
                return "another list where distances are exact or tie";
    }
    return NULL;
}

const struct kernel_op probe_op = {"probe",   probe_cases,   COUNT(probe_cases), probe_make,
                                   probe_run, probe_scratch, probe_check};
