/* Cases of the search of inverted lists: which entries of the lists that are probed. */
#include "tests/kernels/cases.h"

#include "kernels/backend.h"
#include "kernels/page.h"
#include "kernels/select.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A case names the fields that an operation uses, in shapes too. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define IP SAC_DISTANCE_NEG_IP

/* ---- pq_scan: n rows over k lists; every query probes them all or all but one, to depth dim at most ---- */

static const struct kernel_case pq_scan_cases[] = {
    {.n = 0, .k = 1, .dim = 5, .queries = 1, .pq = {4, 8, 1}},
    {.n = 100, .k = 1, .dim = 5, .queries = 0, .pq = {4, 8, 1}},
    {.n = 1, .k = 1, .dim = 1, .queries = 1, .pq = {1, 8, 1}},
    {.n = 63, .k = 1, .dim = 100, .queries = 1, .pq = {3, 4, 1}},
    {.n = 65, .k = 2, .dim = 10, .queries = 2, .pq = {8, 4, 1}},
    {.n = 3000, .k = 5, .dim = 10, .queries = 1, .pq = {33, 4, 1}},
    {.n = 3000, .k = 5, .dim = 10, .queries = 3, .pq = {16, 5, 1}},
    {.n = 3000, .k = 7, .dim = 100, .queries = 2, .pq = {9, 6, 1}},
    {.n = 3000, .k = 3, .dim = 1, .queries = 2, .pq = {12, 7, 1}},
    {.n = 20000, .k = 11, .dim = 100, .queries = 1, .pq = {32, 8, 1}},
    {.n = 20000, .k = 11, .dim = 100, .queries = 5, .pq = {16, 8, 1}, .flags = CASE_NAN},
    {.n = 9000, .k = 4, .dim = 4096, .queries = 1, .pq = {8, 8, 1}},
    {.n = 9000, .k = 4, .dim = 4096, .queries = 6, .pq = {8, 8, 4}, .flags = CASE_COUNTS | CASE_FILTERS},
    {.n = 2000, .k = 4, .dim = 20, .queries = 1, .pq = {512, 8, 1}},
    {.n = 2000, .k = 2, .dim = 20, .queries = 1, .pq = {511, 4, 1}},
    {.n = 20000, .k = 6, .dim = 50, .queries = 1, .pq = {16, 8, 1}, .flags = CASE_DUPLICATES},
    {.n = 9000, .k = 6, .dim = 50, .queries = 4, .pq = {16, 4, 1}, .flags = CASE_DUPLICATES},
    {.n = 9000, .k = 6, .dim = 50, .queries = 1, .pq = {16, 8, 1}, .flags = CASE_INTEGERS},
    {.n = 5000, .k = 9, .dim = 10, .queries = 1, .pq = {16, 8, 4}, .flags = CASE_FILTERS},
    {.n = 5000, .k = 9, .dim = 100, .queries = 9, .pq = {16, 4, 4}, .flags = CASE_COUNTS | CASE_FILTERS},
    {.n = 5000, .k = 9, .dim = 100, .queries = 9, .pq = {24, 8, 4}, .distance = IP, .flags = CASE_COUNTS},
    /* around pages of 64 entries, which are scanned four at a time, and two together */
    {.n = 64, .k = 1, .dim = 64, .queries = 2, .pq = {31, 8, 1}},
    {.n = 191, .k = 1, .dim = 20, .queries = 1, .pq = {10, 8, 4}, .flags = CASE_FILTERS},
    {.n = 256, .k = 1, .dim = 30, .queries = 2, .pq = {17, 4, 1}},
    {.n = 320, .k = 1, .dim = 300, .queries = 1, .pq = {20, 8, 1}},
    {.n = 127, .k = 1, .dim = 10, .queries = 1, .pq = {24, 8, 1}},
    {.n = 128, .k = 1, .dim = 128, .queries = 2, .pq = {25, 6, 1}},
    {.n = 129, .k = 1, .dim = 10, .queries = 1, .pq = {49, 4, 1}},
    {.n = 257, .k = 1, .dim = 300, .queries = 2, .pq = {12, 7, 1}},
    {.n = 2049, .k = 1, .dim = 20, .queries = 1, .pq = {13, 5, 1}},
    {.n = 3000, .k = 1100, .dim = 20, .queries = 3, .pq = {8, 8, 1}, .flags = CASE_COUNTS},
    {.n = 6000, .k = 2, .dim = 4096, .queries = 1, .pq = {512, 8, 1}, .flags = CASE_FILTERS},
    {.n = 63, .k = 1, .dim = 100, .queries = 1, .pq = {3, 4, 4, true}},
    {.n = 3000, .k = 5, .dim = 10, .queries = 3, .pq = {32, 4, 4, true}},
    {.n = 20000, .k = 11, .dim = 100, .queries = 1, .pq = {192, 4, 4, true}},
    {.n = 5000,
     .k = 9,
     .dim = 100,
     .queries = 9,
     .pq = {127, 4, 4, true},
     .flags = CASE_COUNTS | CASE_FILTERS},
    {.n = 5000, .k = 9, .dim = 30, .queries = 4, .pq = {64, 4, 4, true}, .distance = IP, .flags = CASE_NAN},
    {.n = 9000, .k = 6, .dim = 50, .queries = 4, .pq = {16, 4, 4, true}, .flags = CASE_DUPLICATES},
    {.n = 2000, .k = 3, .dim = 4096, .queries = 2, .pq = {512, 4, 4, true}},
    {.n = 30, .k = 2, .dim = 5, .queries = 1, .pq = {4, 8, 4}, .flags = CASE_LISTS},
    {.n = 3000, .k = 5, .dim = 10, .queries = 3, .pq = {16, 8, 4}, .flags = CASE_LISTS},
    {.n = 3000, .k = 5, .dim = 10, .queries = 17, .pq = {33, 4, 2}, .distance = IP, .flags = CASE_LISTS},
    {.n = 3000, .k = 7, .dim = 100, .queries = 70, .pq = {9, 6, 3}, .flags = CASE_LISTS | CASE_COUNTS},
    {.n = 3000, .k = 3, .dim = 1, .queries = 5, .pq = {12, 7, 8}, .flags = CASE_LISTS | CASE_FILTERS},
    {.n = 9000, .k = 5, .dim = 4096, .queries = 3, .pq = {8, 8, 12}, .flags = CASE_LISTS | CASE_COUNTS},
    {.n = 3000, .k = 3, .dim = 50, .queries = 4, .pq = {16, 8, 1}, .flags = CASE_LISTS | CASE_DUPLICATES},
    {.n = 3000, .k = 3, .dim = 50, .queries = 4, .pq = {16, 5, 5}, .flags = CASE_LISTS | CASE_NAN},
    {.n = 0, .k = 2, .dim = 5, .queries = 3, .pq = {4, 8, 2}, .flags = CASE_LISTS},
    {.n = 100, .k = 1, .dim = 5, .queries = 0, .pq = {4, 8, 2}, .flags = CASE_LISTS},
    {.n = 1, .k = 1, .dim = 1, .queries = 1, .pq = {1, 4, 1}, .flags = CASE_LISTS},
    {.n = 64, .k = 1, .dim = 64, .queries = 8, .pq = {15, 4, 2}, .flags = CASE_LISTS},
    {.n = 65, .k = 1, .dim = 70, .queries = 9, .pq = {17, 8, 2}, .flags = CASE_LISTS},
    {.n = 300, .k = 2, .dim = 30, .queries = 16, .pq = {3, 8, 33}, .distance = IP, .flags = CASE_LISTS},
    {.n = 2100, .k = 1, .dim = 10, .queries = 33, .pq = {12, 8, 8}, .flags = CASE_LISTS | CASE_INTEGERS},
    {.n = 4200, .k = 1, .dim = 20, .queries = 2, .pq = {9, 8, 3}, .flags = CASE_LISTS | CASE_FILTERS},
    {.n = 3000, .k = 1100, .dim = 10, .queries = 3, .pq = {4, 6, 2}, .flags = CASE_LISTS | CASE_COUNTS},
    {.n = 600, .k = 3, .dim = 1000, .queries = 140, .pq = {4, 8, 4}, .flags = CASE_LISTS | CASE_COUNTS},
    {.n = 1300, .k = 2, .dim = 10, .queries = 3, .pq = {40, 8, 8}, .flags = CASE_LISTS},
    {.n = 1300, .k = 2, .dim = 10, .queries = 9, .pq = {72, 8, 8}, .flags = CASE_LISTS | CASE_FILTERS},
    {.n = 700, .k = 2, .dim = 10, .queries = 18, .pq = {130, 8, 4}, .flags = CASE_LISTS},
    {.n = 700, .k = 2, .dim = 10, .queries = 3, .pq = {250, 8, 2}, .flags = CASE_LISTS | CASE_COUNTS},
    {.n = 200, .k = 2, .dim = 10, .queries = 3, .pq = {512, 4, 8}, .flags = CASE_LISTS},
    {.n = 9000,
     .k = 3,
     .dim = 300,
     .queries = 5,
     .pq = {4, 8, 2},
     .flags = CASE_LISTS | CASE_DUPLICATES | CASE_FILTERS},
    /* around the CPU's tiles: chunks of 128 rows, tasks of 1024 and 64 queries, parts of a batch */
    {.n = 127, .k = 1, .dim = 10, .queries = 15, .pq = {32, 8, 4}, .flags = CASE_LISTS},
    {.n = 129, .k = 1, .dim = 10, .queries = 17, .pq = {16, 8, 8}, .distance = IP, .flags = CASE_LISTS},
    {.n = 1025, .k = 1, .dim = 20, .queries = 65, .pq = {8, 8, 4}, .flags = CASE_LISTS},
    {.n = 5000,
     .k = 40,
     .dim = 16,
     .queries = 130,
     .pq = {32, 8, 4},
     .flags = CASE_LISTS | CASE_FILTERS | CASE_COUNTS},
    {.n = 300, .k = 2, .dim = 4096, .queries = 20, .pq = {512, 8, 1}, .flags = CASE_LISTS},
    {.n = 900, .k = 3, .dim = 20, .queries = 40, .pq = {512, 8, 1}, .flags = CASE_LISTS | CASE_OUTLIERS},
    {.n = 400000, .k = 32, .dim = 100, .queries = 1, .pq = {64, 8, 1}, .flags = CASE_BENCH},
    {.n = 8192, .k = 8, .dim = 100, .queries = 50, .pq = {64, 8, 1}, .flags = CASE_BENCH},
    {.n = 50000, .k = 64, .dim = 100, .queries = 50, .pq = {64, 8, 1}, .flags = CASE_BENCH},
    {.n = 50000, .k = 64, .dim = 100, .queries = 50, .pq = {32, 8, 1}, .flags = CASE_BENCH},
    {.n = 50000, .k = 64, .dim = 100, .queries = 50, .pq = {64, 6, 1}, .flags = CASE_BENCH},
    {.n = 50000, .k = 64, .dim = 100, .queries = 50, .pq = {64, 4, 1}, .flags = CASE_BENCH},
    {.n = 50000, .k = 64, .dim = 100, .queries = 50, .pq = {64, 8, 1}, .flags = CASE_BENCH | CASE_FILTERS},
    {.n = 50000, .k = 64, .dim = 100, .queries = 50, .pq = {192, 4, 4, true}, .flags = CASE_BENCH},
    {.n = 50000, .k = 64, .dim = 100, .queries = 50, .pq = {192, 4, 4}, .flags = CASE_BENCH},
    {.n = 200000, .k = 64, .dim = 100, .queries = 1000, .pq = {64, 8, 8}, .flags = CASE_BENCH | CASE_LISTS},
};

/* The first places of a sequence that visits 0..size-1 once each, for a power of two. */
static uint32_t scattered(uint32_t i, uint32_t size)
{
    return i * 2654435761u & (size - 1);
}

static uint32_t slot_bound(const struct kernel_case *c)
{
    uint32_t bound = 64;

    while (bound < (c->n / SAC_PAGE_ROWS + c->k + 1) * SAC_PAGE_ROWS)
        bound *= 2;
    return bound;
}

/* Some are much larger than those of the pages before. */
static float factor_make(struct kernel_data *data, uint32_t number, uint32_t line)
{
    float factor = data->c->flags & CASE_DUPLICATES ? 0.25f : 0.6f + 0.5f * kernel_random_float(data);

    return number % 7 == 6 && line == 13 ? 20.0f * factor : factor;
}

static void page_fill(struct kernel_data *data, unsigned char *page, uint32_t number)
{
    const struct kernel_case *c = data->c;
    uint32_t code_max = c->flags & CASE_DUPLICATES ? 1 : c->pq.nbits == 4 ? 256 : 1u << c->pq.nbits;

    for (size_t i = 0; i < sac_page_code_bytes(&c->pq); i++)
        page[i] = (unsigned char)kernel_random(data, code_max);
    for (uint32_t line = 0; line < SAC_PAGE_ROWS; line++) {
        float bias = c->flags & CASE_DUPLICATES ? 0.5f : kernel_random_float(data);

        if (c->flags & CASE_NAN && line % 50 == 0)
            bias = line % 100 == 0 ? NAN : INFINITY;
        sac_page_bias(&c->pq, page)[line] = bias;
        if (c->pq.factors)
            sac_page_factors(&c->pq, page)[line] = factor_make(data, number, line);
        sac_page_slots(&c->pq, page)[line] = scattered(number * SAC_PAGE_ROWS + line, slot_bound(c));
    }
}

/* Lists of unequal lengths, the last of them empty where there are several; pages are handed out from the
 * last. */
static void pool_make(struct kernel_data *data, sac_list_pool *pool)
{
    const struct kernel_case *c = data->c;
    uint32_t page_max = c->n / SAC_PAGE_ROWS + c->k + 1, next = 0, left = c->n;
    sac_list *lists = kernel_block(data, c->k, sizeof *lists);
    uint32_t *chains = kernel_block(data, page_max, sizeof *chains);
    unsigned char *memory = kernel_block(data, page_max, sac_page_bytes(&c->pq));
    unsigned char **pages = kernel_pointers(data, page_max);

    for (uint32_t i = 0; i < page_max; i++) {
        pages[i] = memory + i * sac_page_bytes(&c->pq);
        chains[i] = page_max - 1 - i;
        page_fill(data, pages[i], i);
    }
    for (uint32_t i = 0; i < c->k; i++) {
        uint32_t rows = c->k == 1       ? left
                        : i + 2 == c->k ? left
                        : i + 1 == c->k ? 0
                                        : kernel_random(data, left + 1);

        rows = c->flags & CASE_BENCH ? c->n / c->k : rows;
        lists[i] = (sac_list){next, rows};
        next += (rows + SAC_PAGE_ROWS - 1) / SAC_PAGE_ROWS;
        left -= rows;
    }
    *pool = (sac_list_pool){c->pq, c->k, pages, chains, lists};
}

static const float *tables_make(struct kernel_data *data, const struct sac_pq_scan_args *a)
{
    const sac_pq_shape *pq = &data->c->pq;
    size_t words = (size_t)pq->m << pq->nbits;
    float *tables = kernel_block(data, a->query_count * words, sizeof *tables);

    for (size_t i = 0; i < a->query_count * words; i++) {
        const float *query = a->queries + i / words * pq->m * pq->dsub;
        size_t word = i % words;

        tables[i] = a->scale * (float)kernel_dot(query + (word >> pq->nbits) * pq->dsub,
                                                 a->codebook + word * pq->dsub, pq->dsub);
    }
    return tables;
}

/* Numbers of ten bits: rounding to bf16 changes them, but products and sums of few are exact in f32 in any
 * order. So whoever makes its own table makes the twin's. */
static float *short_rows(struct kernel_data *data, size_t n, uint32_t dim)
{
    float *rows = kernel_random_rows(data, n, dim);

    for (size_t i = 0; i < n * dim; i++)
        rows[i] = rintf(rows[i] * 512.0f) / 512.0f;
    return rows;
}

static bool has_outlier(const struct kernel_case *c, size_t q)
{
    return c->flags & CASE_OUTLIERS && q % 3 == 1;
}

static const float *scan_queries(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    uint32_t dim = c->pq.m * c->pq.dsub;
    float *queries = short_rows(data, c->queries, dim);

    for (size_t q = 0; q < c->queries; q++)
        if (has_outlier(c, q))
            queries[q * dim] = 128.0f;
    return queries;
}

static void pq_scan_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    struct sac_pq_scan_args *a = &data->args.pq_scan;
    sac_probe *probes = kernel_block(data, (size_t)c->queries * c->k, sizeof *probes);
    uint32_t *probe_counts = kernel_block(data, c->queries, sizeof *probe_counts);
    uint32_t *depths = kernel_block(data, c->queries, sizeof *depths);
    struct kernel_case finite = *c;

    *a = (struct sac_pq_scan_args){.schedule = c->flags & CASE_LISTS ? SAC_LIST_MAJOR : SAC_QUERY_MAJOR,
                                   .scale = c->distance == IP ? -1.0f : -2.0f,
                                   .query_count = c->queries,
                                   .probes = probes,
                                   .probe_counts = probe_counts,
                                   .probe_stride = c->k,
                                   .depths = depths,
                                   .depth_stride = c->dim};
    pool_make(data, &a->pool);
    finite.flags &= ~(uint32_t)CASE_NAN;
    data->c = &finite;
    a->codebook = short_rows(data, (size_t)c->pq.m << c->pq.nbits, c->pq.dsub);
    a->queries = scan_queries(data);
    data->c = c;
    a->tables = tables_make(data, a);
    a->filters = kernel_filters(data, slot_bound(c));
    for (uint32_t q = 0; q < c->queries; q++) {
        for (uint32_t p = 0; p < c->k; p++)
            probes[(size_t)q * c->k + p] = (sac_probe){(p + q * 7) % c->k, kernel_random_float(data)};
        probe_counts[q] = c->flags & CASE_COUNTS && q % 5 == 3 ? 0 : c->k - (c->k > 4 && q % 2 == 1);
        depths[q] = !(c->flags & CASE_COUNTS) ? c->dim
                    : q % 3 == 1              ? 1
                    : q % 3 == 2              ? c->dim / 2 + 1
                                              : c->dim;
    }
    a->out_distance = kernel_output(data, (size_t)c->queries * c->dim, sizeof(float));
    a->out_slot = kernel_output(data, (size_t)c->queries * c->dim, sizeof(uint32_t));
    data->bytes = (double)c->queries * c->n * ((double)sac_pq_code_bytes(c->pq.m, c->pq.nbits) + 4);
    data->flops = (double)c->queries * c->n * c->pq.m;
}

/* The plain C twin of both schedules is the one that looks up. */
static sac_status pq_scan_run(sac_stream *stream, const struct kernel_data *data,
                              const union kernel_args *args)
{
    const struct sac_ops *ops = sac_device_ops(sac_stream_device(stream));
    struct sac_pq_scan_args a = args->pq_scan;

    if (sac_stream_device(stream)->backend == &sac_backend_ref)
        a.schedule = SAC_QUERY_MAJOR;
    if (ops->pq_scan == NULL || !(ops->pq_scan_schedules >> a.schedule & 1) || !kernel_knows(ops, data->c))
        return SAC_UNSUPPORTED;
    return ops->pq_scan(stream, &a);
}

static size_t pq_scan_scratch(const sac_device *device, const union kernel_args *args)
{
    const struct sac_ops *ops = sac_device_ops(device);

    if (ops->pq_scan == NULL || !(ops->pq_scan_schedules >> args->pq_scan.schedule & 1))
        return 0;
    return ops->pq_scan_scratch(device, &args->pq_scan);
}

/* What a query may find, by slot. */
struct candidate {
    double distance;
    bool there, found;
};

/* Computes the distance of every entry that the query may find; returns how far rounding may move one when it
 * is chosen, and in `exact` how far a result may be off. */
static double candidates_make(const struct sac_pq_scan_args *a, size_t q, struct candidate *candidates,
                              double *exact)
{
    const sac_pq_shape *pq = &a->pool.pq;
    const float *table = a->tables + (q * pq->m << pq->nbits), *query = a->queries + q * pq->m * pq->dsub;
    const uint64_t *filter = a->filters != NULL ? a->filters[q] : NULL;
    double magnitude = 0.0, longest = 0.0, unit = 0.0, largest = pq->factors ? 0.0 : 1.0;

    for (uint32_t j = 0; j < pq->m; j++) {
        float low = INFINITY, high = -INFINITY;
        double length = 0.0;

        for (uint32_t code = 0; code >> pq->nbits == 0; code++) {
            size_t word = ((size_t)j << pq->nbits) + code;
            const float *r = a->codebook + word * pq->dsub;

            low = fminf(low, table[word]);
            high = fmaxf(high, table[word]);
            length = fmax(length, kernel_dot(r, r, pq->dsub));
        }
        longest += length;
        unit = fmax(unit, (high - low) / 255.0);
    }
    for (uint32_t p = 0; p < a->probe_counts[q]; p++) {
        const sac_probe *probe = &a->probes[q * a->probe_stride + p];
        const sac_list *list = &a->pool.lists[probe->list];

        for (uint32_t i = 0; i < list->row_count; i++) {
            unsigned char *page = a->pool.pages[a->pool.chains[list->first + i / SAC_PAGE_ROWS]];
            uint32_t line = i % SAC_PAGE_ROWS, slot = sac_page_slots(pq, page)[line];
            double sum = (double)probe->base + sac_page_bias(pq, page)[line], size = fabs(sum);
            double factor = pq->factors ? (double)sac_page_factors(pq, page)[line] : 1.0;

            for (uint32_t j = 0; j < pq->m; j++) {
                size_t word = ((size_t)j << pq->nbits) + sac_page_code(pq, page, line, j);

                sum += factor * (double)table[word];
                size += factor * fabs((double)table[word]);
            }
            if (filter == NULL || (filter[slot / 64] >> slot % 64 & 1))
                candidates[slot] = (struct candidate){.distance = sum, .there = true};
            magnitude = isfinite(size) ? fmax(magnitude, size) : magnitude;
            largest = fmax(largest, factor);
        }
    }
    *exact = 1e-5 * magnitude;
    if (a->schedule == SAC_QUERY_MAJOR)
        return (double)pq->m * unit / 2 * largest + *exact;
    return *exact +=
           0x1p-7 * fabs((double)a->scale) * sqrt(kernel_dot(query, query, pq->m * pq->dsub) * longest);
}

/* NaN last. */
static int double_compare(const void *one, const void *two)
{
    double a = *(const double *)one, b = *(const double *)two;

    return isnan(a) || isnan(b) ? isnan(a) - isnan(b) : (a > b) - (a < b);
}

/* Nothing is missing that is better than the last one kept by more than the tolerance. */
static const char *missing_check(const struct candidate *candidates, uint32_t bound, uint32_t depth,
                                 uint32_t found, double tolerance)
{
    double *distances = malloc((size_t)bound * sizeof *distances), cut = INFINITY;
    uint32_t count = 0;
    const char *wrong = NULL;

    if (distances == NULL)
        return "no memory";
    for (uint32_t slot = 0; slot < bound; slot++)
        if (candidates[slot].there)
            distances[count++] = candidates[slot].distance;
    qsort(distances, count, sizeof *distances, double_compare);
    if (count > depth)
        cut = distances[depth - 1];
    if (found != (count < depth ? count : depth))
        wrong = "wrong number of results";
    for (uint32_t slot = 0; slot < bound && wrong == NULL; slot++)
        if (candidates[slot].there && !candidates[slot].found &&
            candidates[slot].distance < cut - 2 * tolerance)
            wrong = "a nearer entry left out";
    free(distances);
    return wrong;
}

/* Entries that are the same but for their slots, and of one list, tie however they are computed. */
static const char *tie_check(const struct candidate *candidates, uint32_t bound, uint32_t last)
{
    for (uint32_t slot = 0; slot < last && slot < bound; slot++)
        if (candidates[slot].there && !candidates[slot].found &&
            candidates[slot].distance == candidates[last].distance)
            return "a tie went to the larger slot";
    return NULL;
}

static const char *query_check(const struct kernel_data *data, size_t q, const float *distance,
                               const uint32_t *slot, struct candidate *candidates)
{
    const struct sac_pq_scan_args *a = &data->args.pq_scan;
    uint32_t bound = slot_bound(data->c), found = 0, last = 0;
    double tolerance, exact;
    const char *wrong;

    memset(candidates, 0, bound * sizeof *candidates);
    tolerance = candidates_make(a, q, candidates, &exact);
    for (uint32_t i = 0; i < a->depths[q]; i++) {
        if (slot[i] == UINT32_MAX) {
            if (!isinf(distance[i]) || distance[i] < 0)
                return "an unused place is not infinitely far";
            continue;
        }
        if (found++ < i)
            return "a result after an unused place";
        if (slot[i] >= bound || !candidates[slot[i]].there)
            return "a slot that is not to be found";
        if (candidates[slot[i]].found)
            return "a slot twice";
        candidates[last = slot[i]].found = true;
        if (!kernel_near((float)candidates[slot[i]].distance, distance[i], (float)exact, 1.0f))
            return "a distance beyond the tolerance";
        if (i > 0 && !sac_nearer(distance[i - 1], slot[i - 1], distance[i], slot[i]))
            return "not ascending";
    }
    wrong = missing_check(candidates, bound, a->depths[q], found, tolerance);
    if (wrong == NULL && found > 0 && data->c->flags & CASE_DUPLICATES)
        wrong = tie_check(candidates, bound, last);
    return wrong;
}

/* Query-major the CPU promises the twin's results to the bit, list-major of queries for which bytes are not
 * fine enough; the contract less. */
static const char *pq_scan_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const struct sac_pq_scan_args *a = &data->args.pq_scan;
    const float *distance = want[0], *got_distance = got[0];
    const uint32_t *slot = want[1], *got_slot = got[1];
    struct candidate *candidates;
    const char *wrong = NULL;

    for (size_t i = 0; data->twin && i < a->query_count * a->depth_stride; i++) {
        if (a->schedule != SAC_QUERY_MAJOR && !has_outlier(data->c, i / a->depth_stride))
            continue;
        if (!kernel_near(distance[i], got_distance[i], 0.0f, 0.0f))
            return "another distance";
        if (slot[i] != got_slot[i])
            return "another slot";
    }
    candidates = malloc(slot_bound(data->c) * sizeof *candidates);
    if (candidates == NULL)
        return "no memory";
    for (size_t q = 0; q < a->query_count && wrong == NULL; q++)
        wrong = query_check(data, q, got_distance + q * a->depth_stride, got_slot + q * a->depth_stride,
                            candidates);
    free(candidates);
    return wrong;
}

const struct kernel_op pq_scan_op = {"pq_scan",   pq_scan_cases,   COUNT(pq_scan_cases), pq_scan_make,
                                     pq_scan_run, pq_scan_scratch, pq_scan_check};
