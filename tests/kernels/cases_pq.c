/* Cases of the product quantizer and of writing lists. */
#include "tests/kernels/cases.h"

#include "kernels/page.h"

#include <math.h>
#include <string.h>

/* A case names the fields that an operation uses, in shapes too. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

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
    {.n = 127, .pq = {2, 8, 9}, .k = 2, .flags = CASE_NORMS | CASE_CENTROIDS}, /* tiles of 128, slices of 8 */
    {.n = 128, .pq = {3, 7, 8}, .flags = CASE_NORMS | CASE_DUPLICATES},
    {.n = 129, .pq = {2, 5, 7}, .flags = CASE_NORMS},
    {.n = 257, .pq = {1, 8, 33}, .flags = CASE_NORMS | CASE_INTEGERS},
    /* Tiles of 16 x 16, two by two, from 256 rows and 6 bits on: ends of groups, of pairs and of tasks of 256
     * rows; one to four steps of 32 numbers; dim no multiple of 16. */
    {.n = 255, .pq = {3, 8, 4}, .flags = CASE_NORMS},
    {.n = 256, .pq = {3, 8, 4}, .k = 5, .flags = CASE_NORMS | CASE_CENTROIDS},
    {.n = 257, .pq = {7, 8, 1}, .flags = CASE_NORMS},
    {.n = 271, .pq = {5, 7, 4}, .k = 1, .flags = CASE_NORMS | CASE_CENTROIDS},
    {.n = 272, .pq = {2, 6, 5}, .flags = CASE_NORMS | CASE_INTEGERS},
    {.n = 273, .pq = {4, 8, 8}, .k = 3, .flags = CASE_NORMS | CASE_CENTROIDS | CASE_INTEGERS},
    {.n = 288, .pq = {3, 8, 9}, .k = 3, .flags = CASE_CENTROIDS},
    {.n = 289, .pq = {2, 8, 10}, .flags = CASE_NORMS | CASE_DUPLICATES},
    {.n = 511, .pq = {1, 8, 15}, .flags = CASE_NORMS},
    {.n = 512, .pq = {3, 6, 16}, .k = 2, .flags = CASE_NORMS | CASE_CENTROIDS},
    {.n = 513, .pq = {2, 6, 2}, .flags = CASE_NORMS | CASE_DUPLICATES},
    {.n = 300, .pq = {2, 8, 17}, .flags = CASE_NORMS},
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
    a->codes = kernel_output(data, c->n, c->pq.m);
    if (c->flags & CASE_NORMS)
        a->norms = kernel_output(data, c->n, sizeof(float));
    data->bytes = (double)c->n * dim * 4;
    data->flops = 2.0 * c->n * dim * (1 << c->pq.nbits);
}

KERNEL_RUN(pq_encode)
KERNEL_SCRATCH(pq_encode)

/* Squared distance of row i's sub-vector j to a codeword; *lengths: of both, squared. */
static double codeword_distance(const struct sac_pq_encode_args *a, size_t i, uint32_t j, uint32_t code,
                                double *lengths)
{
    uint32_t dsub = a->pq.dsub, dim = a->pq.m * dsub;
    double sum = 0.0;

    *lengths = 0.0;

    for (uint32_t d = 0; d < dsub; d++) {
        double x = a->x[i * dim + j * dsub + d];
        double word = a->codebook[(((size_t)j << a->pq.nbits) + code) * dsub + d];

        x -= a->centroids != NULL ? a->centroids[(size_t)a->index[i] * dim + j * dsub + d] : 0.0;
        sum += (x - word) * (x - word);
        *lengths += x * x + word * word;
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
            double lengths, nearest = codeword_distance(a, i, j, code, &lengths);

            if (code == other)
                continue;
            if (data->c->flags & (CASE_INTEGERS | CASE_DUPLICATES))
                return "another codeword where distances are exact or tie";
            if (other >> a->pq.nbits != 0)
                return "a codeword that there is not";
            if (codeword_distance(a, i, j, other, &lengths) > nearest + 1e-5 * (nearest + lengths))
                return "a codeword that is not the nearest";
        }
        if (a->norms != NULL && same && !kernel_near(norms[i], got_norms[i], 1e-5f, norms[i]))
            return "wrong norm";
    }
    return NULL;
}

const struct kernel_op pq_encode_op = {"pq_encode",    pq_encode_cases, COUNT(pq_encode_cases),
                                       pq_encode_make, pq_encode_run,   pq_encode_scratch,
                                       pq_encode_check};

/* ---- list_write and list_move ---- */

enum { LIST_PAGES = 20 };

static unsigned char *const *list_pages(struct kernel_data *data)
{
    size_t page_bytes = sac_page_bytes(&data->c->pq);
    unsigned char *memory = kernel_output(data, LIST_PAGES, page_bytes);
    unsigned char **pages = kernel_pointers(data, LIST_PAGES);

    for (uint32_t i = 0; i < LIST_PAGES; i++)
        pages[i] = memory + i * page_bytes;
    return pages;
}

static const char *bytes_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    return memcmp(want[0], got[0], data->out_bytes[0]) == 0 ? NULL : "different bytes";
}

static const struct kernel_case list_write_cases[] = {
    {.n = 0, .pq = {4, 8, 1}},         {.n = 1, .pq = {1, 4, 1}},
    {.n = 100, .pq = {7, 4, 1}},       {.n = 1280, .pq = {8, 4, 1}},
    {.n = 1000, .pq = {9, 8, 1}},      {.n = 1280, .pq = {64, 8, 1}},
    {.n = 300, .pq = {5, 6, 1}},       {.n = 63, .pq = {65, 4, 1}},
    {.n = 65, .pq = {64, 4, 1}},       {.n = 64, .pq = {63, 5, 1}},
    {.n = 129, .pq = {65, 8, 1}},      {.n = 70, .pq = {512, 7, 1}},
    {.n = 100, .pq = {7, 4, 4, true}}, {.n = 1280, .pq = {192, 4, 4, true}},
};

static void list_write_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    uint8_t *codes = kernel_block(data, c->n, c->pq.m);
    float *bias = kernel_block(data, c->n, sizeof *bias);
    float *factors = kernel_block(data, c->n, sizeof *factors);
    uint32_t *slots = kernel_block(data, c->n, sizeof *slots), at = 0;
    uint32_t *positions = kernel_block(data, c->n, sizeof *positions);

    for (uint32_t i = 0; i < c->n; i++) {
        for (uint32_t j = 0; j < c->pq.m; j++)
            codes[i * c->pq.m + j] = (uint8_t)kernel_random(data, 1u << c->pq.nbits);
        bias[i] = kernel_random_float(data);
        factors[i] = kernel_random_float(data);
        slots[i] = kernel_random(data, UINT32_MAX);
        positions[i] = at++;
        if (c->n < LIST_PAGES * SAC_PAGE_ROWS / 2)
            at += kernel_random(data, 2);
    }
    data->args.list_write = (struct sac_list_write_args){.pq = c->pq,
                                                         .codes = codes,
                                                         .bias = bias,
                                                         .factors = c->pq.factors ? factors : NULL,
                                                         .slots = slots,
                                                         .positions = positions,
                                                         .n = c->n};
    data->args.list_write.pages = list_pages(data);
    data->bytes = 2.0 * c->n * (c->pq.m + 8);
}

KERNEL_RUN(list_write)

const struct kernel_op list_write_op = {"list_write",    list_write_cases, COUNT(list_write_cases),
                                        list_write_make, list_write_run,   NULL,
                                        bytes_check};

static const struct kernel_case list_move_cases[] = {
    {.n = 1, .pq = {1, 4, 1}},    {.n = 200, .pq = {7, 4, 1}},  {.n = 200, .pq = {8, 8, 1}},
    {.n = 200, .pq = {33, 5, 1}}, {.n = 50, .pq = {511, 4, 1}}, {.n = 200, .pq = {25, 4, 4, true}},
};

/* Over pages that hold a pattern. */
static void list_move_make(struct kernel_data *data)
{
    struct sac_list_move_args *a = &data->args.list_move;

    *a = (struct sac_list_move_args){.pq = data->c->pq, .pages = list_pages(data)};
    for (size_t i = 0; i < data->out_bytes[0]; i++)
        a->pages[0][i] = (unsigned char)(i * 7 + i / 251);
    data->bytes = 2.0 * data->c->n * (data->c->pq.m + 8);
}

/* n moves between places that follow from a fixed rule. */
static sac_status list_move_run(sac_stream *stream, const struct kernel_data *data,
                                const union kernel_args *args)
{
    const struct sac_ops *ops = sac_device_ops(sac_stream_device(stream));
    struct sac_list_move_args a = args->list_move;
    sac_status st = ops->list_move != NULL && kernel_knows(ops, data->c) ? SAC_OK : SAC_UNSUPPORTED;

    for (uint32_t i = 0; i < data->c->n && st == SAC_OK; i++) {
        a.from = (i * 389 + 17) % (LIST_PAGES * SAC_PAGE_ROWS);
        a.to = (i * 57 + 801) % (LIST_PAGES * SAC_PAGE_ROWS);
        st = ops->list_move(stream, &a);
    }
    return st;
}

const struct kernel_op list_move_op = {
    "list_move", list_move_cases, COUNT(list_move_cases), list_move_make, list_move_run, NULL, bytes_check};

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
    a->tables = kernel_output(data, (size_t)c->queries * c->pq.m << c->pq.nbits, sizeof(float));
    data->bytes = (double)data->out_bytes[0];
    data->flops = 2.0 * c->queries * c->pq.m * c->pq.dsub * (1 << c->pq.nbits);
}

KERNEL_RUN(pq_table)

static const char *pq_table_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const float *tables = want[0], *got_tables = got[0];
    float scale = 2.0f * (float)data->c->pq.dsub; /* |q_j||c| is at most dsub */

    for (size_t i = 0; i < data->out_bytes[0] / sizeof(float); i++)
        if (!kernel_near(tables[i], got_tables[i], 2e-6f, scale))
            return "wrong entry";
    return NULL;
}

const struct kernel_op pq_table_op = {"pq_table",   pq_table_cases, COUNT(pq_table_cases), pq_table_make,
                                      pq_table_run, NULL,           pq_table_check};
