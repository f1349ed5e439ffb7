#include "tests/kernels/cases.h"

#include "kernels/backend.h"
#include "kernels/half.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct kernel_op *const kernel_ops[] = {
    &norms_op,     &assign_op,    &cluster_sums_op, &nearest_op,   &gather_distances_op, &rows_write_op,
    &rows_read_op, &pq_encode_op, &list_write_op,   &list_move_op, &pq_table_op,         &pq_scan_op,
};
const size_t kernel_op_count = sizeof kernel_ops / sizeof kernel_ops[0];

void kernel_data_make(struct kernel_data *data, const struct kernel_op *op, const struct kernel_case *c,
                      uint64_t seed)
{
    *data = (struct kernel_data){.op = op, .c = c, .random = seed};
    op->make(data);
}

void kernel_data_free(struct kernel_data *data)
{
    for (size_t i = 0; i < data->block_count; i++)
        free(data->blocks[i]);
}

void *kernel_block(struct kernel_data *data, size_t count, size_t size)
{
    void *block = NULL;

    if (data->block_count == BLOCKS_MAX || posix_memalign(&block, 64, count * size + 64) != 0) {
        fprintf(stderr, "cases: no memory\n");
        exit(1);
    }
    data->blocks[data->block_count++] = block;
    return block;
}

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t random_bits(struct kernel_data *data)
{
    uint64_t z = data->random += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint32_t kernel_random(struct kernel_data *data, uint32_t below)
{
    return (uint32_t)((random_bits(data) >> 32) * below >> 32);
}

float kernel_random_float(struct kernel_data *data)
{
    if (data->c->flags & CASE_INTEGERS)
        return (float)kernel_random(data, 192);
    return (float)(int64_t)random_bits(data) * 0x1p-63f;
}

float *kernel_random_rows(struct kernel_data *data, size_t n, uint32_t dim)
{
    float *rows = kernel_block(data, n * dim, sizeof *rows);

    for (size_t i = 0; i < n; i++) {
        float *row = rows + i * dim;

        if (data->c->flags & CASE_DUPLICATES && i >= 3) {
            memcpy(row, rows + kernel_random(data, 3) * dim, sizeof *row * dim);
            continue;
        }
        for (uint32_t d = 0; d < dim; d++)
            row[d] = kernel_random_float(data);
        if (data->c->flags & CASE_NAN && i % 5 == 2)
            row[kernel_random(data, dim)] = NAN;
    }
    return rows;
}

void **kernel_paged_rows(struct kernel_data *data, const float *rows, size_t n, uint32_t dim,
                         uint32_t page_rows, sac_dtype dtype)
{
    size_t page_count = n / page_rows + 1, page_bytes = (size_t)page_rows * dim * (dtype == SAC_F32 ? 4 : 2);
    void **pages = kernel_block(data, page_count, sizeof *pages);
    unsigned char *memory = kernel_block(data, page_count, page_bytes);

    memset(memory, 0xff, page_count * page_bytes);
    for (size_t i = 0; i < page_count; i++)
        pages[i] = memory + (page_count - 1 - i) * page_bytes; /* not in the order of memory */
    for (size_t i = 0; rows != NULL && i < n; i++) {
        void *page = pages[i / page_rows];
        size_t at = i % page_rows * dim;

        if (dtype == SAC_F32)
            memcpy((float *)page + at, rows + i * dim, sizeof *rows * dim);
        for (uint32_t d = 0; dtype == SAC_F16 && d < dim; d++)
            ((uint16_t *)page)[at + d] = sac_f32_to_f16(rows[i * dim + d]);
    }
    return pages;
}

sac_status kernel_reserve(sac_stream *stream, size_t bytes)
{
    sac_status st = sac_stream_reserve(stream, bytes, NULL);

    if (st == SAC_OK)
        stream->scratch_bytes = bytes; /* the allocation is larger: it was rounded up */
    return st;
}

bool kernel_near(float want, float got, float tolerance, float scale)
{
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got);
    if (isinf(want) || isinf(got))
        return want == got;
    return fabsf(want - got) <= tolerance * scale;
}
