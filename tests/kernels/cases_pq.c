/* Cases of the product quantizer and the inverted lists. */
#include "tests/kernels/cases.h"

#include <math.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- pq_encode ---- */

static const struct kernel_case pq_encode_cases[] = {
    {.n = 0, .pq = {4, 8, 4}},
    {.n = 1, .pq = {1, 4, 1}},
    {.n = 7, .pq = {3, 4, 5}, .flags = CASE_NORMS},
    {.n = 33, .pq = {16, 8, 8}, .k = 7, .flags = CASE_NORMS | CASE_CENTROIDS},
    {.n = 50, .pq = {5, 5, 3}, .k = 1, .flags = CASE_CENTROIDS},
    {.n = 64, .pq = {8, 6, 16}, .flags = CASE_NORMS},
    {.n = 65, .pq = {6, 7, 17}, .k = 3, .flags = CASE_NORMS | CASE_CENTROIDS},
    {.n = 700, .pq = {32, 8, 4}, .k = 9, .flags = CASE_NORMS | CASE_CENTROIDS},
    {.n = 300, .pq = {64, 4, 2}, .flags = CASE_NORMS | CASE_INTEGERS},
    {.n = 130, .pq = {8, 8, 4}, .flags = CASE_NORMS | CASE_DUPLICATES},
    {.n = 40000, .pq = {32, 8, 4}, .k = 100, .flags = CASE_NORMS | CASE_CENTROIDS | CASE_BENCH},
    {.n = 20000, .pq = {64, 8, 8}, .flags = CASE_NORMS | CASE_BENCH},
    {.n = 40000, .pq = {64, 4, 2}, .flags = CASE_NORMS | CASE_BENCH},
};

static void pq_encode_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    uint32_t dim = c->pq.m * c->pq.dsub;
    struct sac_pq_encode_args *a = &data->args.pq_encode;

    *a = (struct sac_pq_encode_args){.pq = c->pq, .n = c->n};
    a->codebook = kernel_random_rows(data, (size_t)c->pq.m << c->pq.nbits, c->pq.dsub);
    a->x = kernel_random_rows(data, c->n, dim);
    if (c->flags & CASE_CENTROIDS) {
        uint32_t *index = kernel_block(data, c->n, sizeof *index);

        a->centroids = kernel_random_rows(data, c->k, dim);
        for (uint32_t i = 0; i < c->n; i++)
            index[i] = kernel_random(data, c->k);
        a->index = index;
    }
    data->out_bytes[0] = (size_t)c->n * c->pq.m;
    data->out_bytes[1] = c->flags & CASE_NORMS ? c->n * sizeof(float) : 0;
    data->bytes = (double)c->n * dim * 4;
    data->flops = 2.0 * c->n * dim * (1 << c->pq.nbits);
}

static sac_status pq_encode_run(const struct kernel_data *data, sac_stream *stream, void *const *out)
{
    const struct sac_ops *ops = sac_device_ops(sac_stream_device(stream));
    struct sac_pq_encode_args a = data->args.pq_encode;
    sac_status st;

    a.codes = out[0];
    a.norms = data->out_bytes[1] > 0 ? out[1] : NULL;
    st = kernel_reserve(stream, ops->pq_encode_scratch(sac_stream_device(stream), &a));
    return st != SAC_OK ? st : ops->pq_encode(stream, &a);
}

/* Squared distance of row i's sub-vector j to a codeword. */
static double codeword_distance(const struct sac_pq_encode_args *a, size_t i, uint32_t j, uint32_t code)
{
    uint32_t dsub = a->pq.dsub, dim = a->pq.m * dsub;
    double sum = 0.0;

    for (uint32_t d = 0; d < dsub; d++) {
        double x = a->x[i * dim + j * dsub + d];
        double word = a->codebook[(((size_t)j << a->pq.nbits) + code) * dsub + d];

        x -= a->centroids != NULL ? a->centroids[(size_t)a->index[i] * dim + j * dsub + d] : 0.0;
        sum += (x - word) * (x - word);
    }
    return sum;
}

static const char *pq_encode_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const struct sac_pq_encode_args *a = &data->args.pq_encode;
    const uint8_t *codes = want[0], *got_codes = got[0];
    const float *norms = want[1], *got_norms = got[1];

    for (size_t i = 0; i < a->n; i++) {
        bool same = memcmp(codes + i * a->pq.m, got_codes + i * a->pq.m, a->pq.m) == 0;

        for (uint32_t j = 0; j < a->pq.m; j++) {
            uint8_t code = codes[i * a->pq.m + j], other = got_codes[i * a->pq.m + j];
            double nearest = codeword_distance(a, i, j, code);

            if (code == other)
                continue;
            if (data->c->flags & (CASE_INTEGERS | CASE_DUPLICATES))
                return "another codeword where distances are exact or tie";
            if (other >> a->pq.nbits != 0 || codeword_distance(a, i, j, other) > nearest * (1 + 1e-5) + 1e-6)
                return "a codeword that is not the nearest";
        }
        if (data->out_bytes[1] > 0 && same && !kernel_near(norms[i], got_norms[i], 1e-5f, norms[i]))
            return "wrong norm";
    }
    return NULL;
}

const struct kernel_op pq_encode_op = {
    "pq_encode", pq_encode_cases, COUNT(pq_encode_cases), pq_encode_make, pq_encode_run, pq_encode_check,
};

/* ---- list_write and list_move ---- */

enum { LIST_PAGES = 5 };

struct list_pages {
    uint8_t *codes[LIST_PAGES];
    float *bias[LIST_PAGES];
    uint32_t *slots[LIST_PAGES];
};

static struct list_pages list_pages_in(const sac_pq_shape *pq, void *const *out)
{
    size_t page_bytes = SAC_PAGE_ROWS * sac_pq_code_bytes(pq->m, pq->nbits);
    struct list_pages pages;

    for (uint32_t i = 0; i < LIST_PAGES; i++) {
        pages.codes[i] = (uint8_t *)out[0] + i * page_bytes;
        pages.bias[i] = (float *)out[1] + (size_t)i * SAC_PAGE_ROWS;
        pages.slots[i] = (uint32_t *)out[2] + (size_t)i * SAC_PAGE_ROWS;
    }
    return pages;
}

static void list_outputs(struct kernel_data *data)
{
    const sac_pq_shape *pq = &data->c->pq;

    data->out_bytes[0] = LIST_PAGES * SAC_PAGE_ROWS * sac_pq_code_bytes(pq->m, pq->nbits);
    data->out_bytes[1] = sizeof(float) * LIST_PAGES * SAC_PAGE_ROWS;
    data->out_bytes[2] = sizeof(uint32_t) * LIST_PAGES * SAC_PAGE_ROWS;
}

static const char *bytes_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    for (size_t i = 0; i < OUTPUTS_MAX; i++)
        if (data->out_bytes[i] > 0 && memcmp(want[i], got[i], data->out_bytes[i]) != 0)
            return "different bytes";
    return NULL;
}

static const struct kernel_case list_write_cases[] = {
    {.n = 0, .pq = {4, 8, 1}},    {.n = 1, .pq = {1, 4, 1}},    {.n = 100, .pq = {7, 4, 1}},
    {.n = 1280, .pq = {8, 4, 1}}, {.n = 1000, .pq = {9, 8, 1}}, {.n = 1280, .pq = {64, 8, 1}},
    {.n = 300, .pq = {5, 6, 1}},
};

static void list_write_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    uint8_t *codes = kernel_block(data, c->n, c->pq.m);
    float *bias = kernel_block(data, c->n, sizeof *bias);
    uint32_t *slots = kernel_block(data, c->n, sizeof *slots), at = 0;
    uint32_t *positions = kernel_block(data, c->n, sizeof *positions);

    for (uint32_t i = 0; i < c->n; i++) {
        for (uint32_t j = 0; j < c->pq.m; j++)
            codes[i * c->pq.m + j] = (uint8_t)kernel_random(data, 1u << c->pq.nbits);
        bias[i] = kernel_random_float(data);
        slots[i] = kernel_random(data, UINT32_MAX);
        positions[i] = at++;
        if (c->n < LIST_PAGES * SAC_PAGE_ROWS / 2)
            at += kernel_random(data, 2);
    }
    data->args.list_write = (struct sac_list_write_args){
        .pq = c->pq, .codes = codes, .bias = bias, .slots = slots, .positions = positions, .n = c->n};
    list_outputs(data);
    data->bytes = 2.0 * c->n * (c->pq.m + 8);
}

static sac_status list_write_run(const struct kernel_data *data, sac_stream *stream, void *const *out)
{
    struct list_pages pages = list_pages_in(&data->c->pq, out);
    struct sac_list_write_args a = data->args.list_write;

    a.page_codes = pages.codes;
    a.page_bias = pages.bias;
    a.page_slots = pages.slots;
    return sac_device_ops(sac_stream_device(stream))->list_write(stream, &a);
}

const struct kernel_op list_write_op = {
    "list_write", list_write_cases, COUNT(list_write_cases), list_write_make, list_write_run, bytes_check,
};

static const struct kernel_case list_move_cases[] = {
    {.n = 1, .pq = {1, 4, 1}},
    {.n = 200, .pq = {7, 4, 1}},
    {.n = 200, .pq = {8, 8, 1}},
    {.n = 200, .pq = {33, 5, 1}},
};

static void list_move_make(struct kernel_data *data)
{
    data->args.list_move = (struct sac_list_move_args){.pq = data->c->pq};
    list_outputs(data);
    data->bytes = 2.0 * data->c->n * (data->c->pq.m + 8);
}

/* n moves between places that follow from a fixed rule, over pages that hold a pattern. */
static sac_status list_move_run(const struct kernel_data *data, sac_stream *stream, void *const *out)
{
    struct list_pages pages = list_pages_in(&data->c->pq, out);
    struct sac_list_move_args a = data->args.list_move;

    a.page_codes = pages.codes;
    a.page_bias = pages.bias;
    a.page_slots = pages.slots;
    for (size_t o = 0; o < OUTPUTS_MAX; o++)
        for (size_t i = 0; i < data->out_bytes[o]; i++)
            ((uint8_t *)out[o])[i] = (uint8_t)(i * 7 + i / 251);
    for (uint32_t i = 0; i < data->c->n; i++) {
        sac_status st;

        a.from = (i * 389 + 17) % (LIST_PAGES * SAC_PAGE_ROWS);
        a.to = (i * 57 + 801) % (LIST_PAGES * SAC_PAGE_ROWS);
        st = sac_device_ops(sac_stream_device(stream))->list_move(stream, &a);
        if (st != SAC_OK)
            return st;
    }
    return SAC_OK;
}

const struct kernel_op list_move_op = {
    "list_move", list_move_cases, COUNT(list_move_cases), list_move_make, list_move_run, bytes_check,
};

/* ---- pq_table ---- */

static const struct kernel_case pq_table_cases[] = {
    {.queries = 0, .pq = {4, 8, 4}},
    {.queries = 1, .pq = {1, 4, 1}},
    {.queries = 1, .pq = {3, 5, 2}},
    {.queries = 2, .pq = {16, 8, 8}},
    {.queries = 3, .pq = {5, 6, 3}},
    {.queries = 1, .pq = {7, 7, 7}},
    {.queries = 1, .pq = {32, 8, 4}},
    {.queries = 1, .pq = {4, 8, 16}},
    {.queries = 5, .pq = {3, 8, 17}},
    {.queries = 1, .pq = {2, 4, 33}},
    {.queries = 70, .pq = {64, 4, 2}},
    {.queries = 1, .pq = {6, 8, 12}},
    {.queries = 1, .pq = {2, 4, 48}},
    {.queries = 100, .pq = {32, 8, 4}, .flags = CASE_BENCH},
    {.queries = 100, .pq = {16, 8, 8}, .flags = CASE_BENCH},
    {.queries = 100, .pq = {64, 8, 8}, .flags = CASE_BENCH},
    {.queries = 100, .pq = {64, 8, 12}, .flags = CASE_BENCH},
    {.queries = 100, .pq = {64, 4, 2}, .flags = CASE_BENCH},
};

static void pq_table_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    struct sac_pq_table_args *a = &data->args.pq_table;

    *a = (struct sac_pq_table_args){.pq = c->pq, .query_count = c->queries, .scale = -2.0f};
    a->codebook = kernel_random_rows(data, (size_t)c->pq.m << c->pq.nbits, c->pq.dsub);
    a->queries = kernel_random_rows(data, c->queries, c->pq.m * c->pq.dsub);
    data->out_bytes[0] = ((size_t)c->queries * c->pq.m << c->pq.nbits) * sizeof(float);
    data->bytes = (double)data->out_bytes[0];
    data->flops = 2.0 * c->queries * c->pq.m * c->pq.dsub * (1 << c->pq.nbits);
}

static sac_status pq_table_run(const struct kernel_data *data, sac_stream *stream, void *const *out)
{
    struct sac_pq_table_args a = data->args.pq_table;

    a.tables = out[0];
    return sac_device_ops(sac_stream_device(stream))->pq_table(stream, &a);
}

static const char *pq_table_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const float *tables = want[0], *got_tables = got[0];
    float scale = 2.0f * (float)data->c->pq.dsub; /* |q_j||c| is at most dsub */

    for (size_t i = 0; i < data->out_bytes[0] / sizeof(float); i++)
        if (!kernel_near(tables[i], got_tables[i], 2e-6f, scale))
            return "wrong entry";
    return NULL;
}

const struct kernel_op pq_table_op = {
    "pq_table", pq_table_cases, COUNT(pq_table_cases), pq_table_make, pq_table_run, pq_table_check,
};

/* ---- pq_scan: n rows over k lists; every query probes them all, with depth dim ---- */

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
    {.n = 2000, .k = 4, .dim = 20, .queries = 1, .pq = {512, 8, 1}},
    {.n = 2000, .k = 2, .dim = 20, .queries = 1, .pq = {511, 4, 1}},
    {.n = 20000, .k = 6, .dim = 50, .queries = 1, .pq = {16, 8, 1}, .flags = CASE_DUPLICATES},
    {.n = 9000, .k = 6, .dim = 50, .queries = 4, .pq = {16, 4, 1}, .flags = CASE_DUPLICATES},
    {.n = 9000, .k = 6, .dim = 50, .queries = 1, .pq = {16, 8, 1}, .flags = CASE_INTEGERS},
    {.n = 400000, .k = 32, .dim = 100, .queries = 1, .pq = {64, 8, 1}, .flags = CASE_BENCH},
    {.n = 8192, .k = 8, .dim = 100, .queries = 50, .pq = {64, 8, 1}, .flags = CASE_BENCH},
    {.n = 50000, .k = 64, .dim = 100, .queries = 50, .pq = {64, 8, 1}, .flags = CASE_BENCH},
    {.n = 50000, .k = 64, .dim = 100, .queries = 50, .pq = {32, 8, 1}, .flags = CASE_BENCH},
    {.n = 50000, .k = 64, .dim = 100, .queries = 50, .pq = {64, 6, 1}, .flags = CASE_BENCH},
    {.n = 50000, .k = 64, .dim = 100, .queries = 50, .pq = {64, 4, 1}, .flags = CASE_BENCH},
};

/* Lists of unequal lengths, the last of them empty where there are several; pages are handed out interleaved.
 */
static void pq_scan_lists(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    uint32_t page_max = c->n / SAC_PAGE_ROWS + c->k + 1, next = 0, left = c->n;
    size_t page_bytes = SAC_PAGE_ROWS * sac_pq_code_bytes(c->pq.m, c->pq.nbits);
    sac_list_view *lists = kernel_block(data, c->k, sizeof *lists);
    uint32_t *numbers = kernel_block(data, page_max, sizeof *numbers);
    uint8_t *codes = kernel_block(data, page_max, page_bytes),
            **page_codes = kernel_block(data, page_max, sizeof *page_codes);
    float *bias = kernel_block(data, page_max, SAC_PAGE_ROWS * sizeof *bias);
    float **page_bias = kernel_block(data, page_max, sizeof *page_bias);
    uint32_t *slots = kernel_block(data, page_max, SAC_PAGE_ROWS * sizeof *slots);
    uint32_t **page_slots = kernel_block(data, page_max, sizeof *page_slots);
    uint32_t code_max = c->flags & CASE_DUPLICATES ? 1 : c->pq.nbits == 4 ? 256 : 1u << c->pq.nbits;

    for (uint32_t i = 0; i < page_max; i++) {
        page_codes[i] = codes + i * page_bytes;
        page_bias[i] = bias + (size_t)i * SAC_PAGE_ROWS;
        page_slots[i] = slots + (size_t)i * SAC_PAGE_ROWS;
        numbers[i] = page_max - 1 - i;
    }
    for (size_t i = 0; i < page_max * page_bytes; i++)
        codes[i] = (uint8_t)kernel_random(data, code_max);
    for (size_t i = 0; i < (size_t)page_max * SAC_PAGE_ROWS; i++) {
        bias[i] = c->flags & CASE_DUPLICATES ? 0.5f : kernel_random_float(data);
        slots[i] = (uint32_t)(i * 2654435761u); /* distinct */
        if (c->flags & CASE_NAN && i % 50 == 0)
            bias[i] = i % 100 == 0 ? NAN : INFINITY;
    }
    for (uint32_t i = 0; i < c->k; i++) {
        uint32_t rows = c->k == 1       ? left
                        : i + 2 == c->k ? left
                        : i + 1 == c->k ? 0
                                        : kernel_random(data, left + 1);

        rows = c->flags & CASE_BENCH ? c->n / c->k : rows;
        lists[i] = (sac_list_view){numbers + next, (rows + SAC_PAGE_ROWS - 1) / SAC_PAGE_ROWS, rows};
        next += lists[i].page_count;
        left -= rows;
    }
    data->args.pq_scan.lists = lists;
    data->args.pq_scan.page_codes = (const uint8_t *const *)page_codes;
    data->args.pq_scan.page_bias = (const float *const *)page_bias;
    data->args.pq_scan.page_slots = (const uint32_t *const *)page_slots;
}

static void pq_scan_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    struct sac_pq_scan_args *a = &data->args.pq_scan;
    sac_probe *probes = kernel_block(data, (size_t)c->queries * c->k, sizeof *probes);
    float *tables = kernel_block(data, (size_t)c->queries * c->pq.m << c->pq.nbits, sizeof *tables);
    const sac_probe **query_probes = kernel_block(data, c->queries, sizeof *query_probes);
    uint32_t *probe_counts = kernel_block(data, c->queries, sizeof *probe_counts);
    uint32_t *depths = kernel_block(data, c->queries, sizeof *depths);

    *a = (struct sac_pq_scan_args){.pq = c->pq, .query_count = c->queries};
    pq_scan_lists(data);
    for (size_t i = 0; i < (size_t)c->queries * c->pq.m << c->pq.nbits; i++)
        tables[i] = kernel_random_float(data);
    a->tables = tables;
    for (uint32_t q = 0; q < c->queries; q++) {
        for (uint32_t p = 0; p < c->k; p++)
            probes[(size_t)q * c->k + p] = (sac_probe){(p * 7 + q) % c->k, kernel_random_float(data)};
        query_probes[q] = probes + (size_t)q * c->k;
        probe_counts[q] = c->k - (c->k > 4 && q % 2 == 1); /* lists repeat where 7 divides k: allowed */
        depths[q] = q % 3 == 2 ? c->dim / 2 + 1 : c->dim;
        data->out_bytes[0] += depths[q] * sizeof(float);
        data->out_bytes[1] += depths[q] * sizeof(uint32_t);
    }
    a->probes = query_probes;
    a->probe_counts = probe_counts;
    a->depths = depths;
    data->bytes = (double)c->queries * c->n * ((double)sac_pq_code_bytes(c->pq.m, c->pq.nbits) + 4);
    data->flops = (double)c->queries * c->n * c->pq.m;
}

static sac_status pq_scan_run(const struct kernel_data *data, sac_stream *stream, void *const *out)
{
    enum { QUERIES_MAX = 64 };
    const struct sac_ops *ops = sac_device_ops(sac_stream_device(stream));
    struct sac_pq_scan_args a = data->args.pq_scan;
    float *distance[QUERIES_MAX];
    uint32_t *slot[QUERIES_MAX];
    size_t at = 0;
    sac_status st;

    for (size_t q = 0; q < a.query_count; q++) {
        distance[q] = (float *)out[0] + at;
        slot[q] = (uint32_t *)out[1] + at;
        at += a.depths[q];
    }
    a.out_distance = distance;
    a.out_slot = slot;
    st = kernel_reserve(stream, ops->pq_scan_scratch(sac_stream_device(stream), &a));
    return st != SAC_OK ? st : ops->pq_scan(stream, &a);
}

/* Stricter than the contract: this backend promises the twin's results to the bit. */
static const char *pq_scan_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const float *distance = want[0], *got_distance = got[0];
    const uint32_t *slot = want[1], *got_slot = got[1];

    for (size_t i = 0; i < data->out_bytes[0] / sizeof(float); i++) {
        if (!kernel_near(distance[i], got_distance[i], 0.0f, 0.0f))
            return "another distance";
        if (slot[i] != got_slot[i])
            return "another slot";
    }
    return NULL;
}

const struct kernel_op pq_scan_op = {
    "pq_scan", pq_scan_cases, COUNT(pq_scan_cases), pq_scan_make, pq_scan_run, pq_scan_check,
};
