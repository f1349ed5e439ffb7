#include "tests/kernels/cases.h"

#include "kernels/backend.h"
#include "kernels/half.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct kernel_op *const kernel_ops[] = {
    &norms_op,      &assign_op,     &cluster_sums_op, &nearest_op,   &gather_distances_op, &select_op,
    &merge_op,      &rows_write_op, &rows_read_op,    &pq_encode_op, &rotate_op,           &rabitq_encode_op,
    &list_write_op, &list_move_op,  &probe_op,        &pq_table_op,  &linear_op,           &pq_scan_op,
    &layer_norm_op, &tokens_op,     &unit_rows_op,    &patchify_op,  &attention_op,
};
const size_t kernel_op_count = sizeof kernel_ops / sizeof kernel_ops[0];

void kernel_data_make(struct kernel_data *data, const struct kernel_op *op, const struct kernel_case *c,
                      uint64_t seed)
{
    memset(data, 0, sizeof *data);
    data->op = op;
    data->c = c;
    data->random = seed;
    op->make(data);
}

void kernel_data_free(struct kernel_data *data)
{
    for (size_t i = 0; i < data->block_count; i++)
        free(data->blocks[i].memory);
}

void *kernel_block(struct kernel_data *data, size_t count, size_t size)
{
    struct kernel_array *block = &data->blocks[data->block_count];

    if (data->block_count == BLOCKS_MAX || posix_memalign(&block->memory, 64, count * size + 1) != 0) {
        fprintf(stderr, "cases: no memory\n");
        exit(1);
    }
    block->bytes = count * size;
    block->pointers = false;
    data->block_count++;
    return block->memory;
}

void *kernel_pointers(struct kernel_data *data, size_t count)
{
    void *pointers = kernel_block(data, count, sizeof(void *));

    data->blocks[data->block_count - 1].pointers = true;
    memset(pointers, 0, count * sizeof(void *));
    return pointers;
}

void *kernel_output(struct kernel_data *data, size_t count, size_t size)
{
    size_t bytes = count * size;
    unsigned char *memory = kernel_block(data, bytes + OUTPUT_GUARD, 1);

    data->outputs[data->output_count] = data->block_count - 1;
    data->out_bytes[data->output_count++] = bytes;
    memset(memory, KERNEL_POISON, bytes);
    memset(memory + bytes, KERNEL_GUARD, OUTPUT_GUARD);
    return memory;
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

static void store_row(float *x, uint32_t dim, sac_dtype dtype, unsigned char *to)
{
    float longest = 0.0f, scale;

    if (dtype == SAC_F32)
        memcpy(to, x, sizeof *x * dim);
    for (uint32_t d = 0; dtype == SAC_F16 && d < dim; d++) {
        uint16_t half = sac_f32_to_f16(x[d]);

        memcpy(to + 2 * d, &half, sizeof half);
        x[d] = sac_f16_to_f32(half);
    }
    if (dtype != SAC_I8)
        return;
    for (uint32_t d = 0; d < dim; d++)
        longest = fmaxf(longest, fabsf(x[d]));
    scale = longest / 127.0f;
    memset(to, 0, sac_row_bytes(dtype, dim));
    memcpy(to, &scale, sizeof scale);
    for (uint32_t d = 0; scale > 0.0f && d < dim; d++) {
        int8_t whole = (int8_t)rintf(x[d] / scale);

        to[4 + d] = (unsigned char)whole;
        x[d] = scale * (float)whole;
    }
}

const void *const *kernel_paged_rows(struct kernel_data *data, float *rows, size_t n, uint32_t dim,
                                     uint32_t page_rows, sac_dtype dtype)
{
    size_t page_count = n / page_rows + 1, row_bytes = sac_row_bytes(dtype, dim);
    size_t page_bytes = (page_rows * row_bytes + 63) / 64 * 64;
    const void **pages = kernel_pointers(data, page_count);
    unsigned char *memory = kernel_block(data, page_count, page_bytes);

    memset(memory, 0xff, page_count * page_bytes);
    for (size_t i = 0; i < page_count; i++)
        pages[i] = memory + (page_count - 1 - i) * page_bytes; /* not in the order of memory */
    for (size_t i = 0; i < n; i++)
        store_row(rows + i * dim, dim, dtype,
                  memory + (page_count - 1 - i / page_rows) * page_bytes + i % page_rows * row_bytes);
    return pages;
}

const uint64_t *const *kernel_filters(struct kernel_data *data, size_t bits)
{
    size_t words = (bits + 63) / 64, queries = data->c->queries;
    const uint64_t **filters;
    uint64_t *memory;

    if (!(data->c->flags & CASE_FILTERS))
        return NULL;
    filters = kernel_pointers(data, queries);
    memory = kernel_block(data, queries * words, sizeof *memory);
    for (size_t q = 0; q < queries; q++) {
        for (size_t i = 0; i < words; i++) {
            uint64_t half = random_bits(data);

            memory[q * words + i] = q % 4 == 0   ? half
                                    : q % 4 == 1 ? half & random_bits(data) & random_bits(data) &
                                                       random_bits(data) & random_bits(data)
                                                 : 0;
        }
        filters[q] = q % 4 == 3 ? NULL : memory + q * words;
    }
    return filters;
}

/* ---- in a device's memory ---- */

static uintptr_t relocated(const struct kernel_copy *copy, const struct kernel_data *data, uintptr_t word)
{
    for (size_t i = 0; i < data->block_count; i++) {
        uintptr_t from = (uintptr_t)data->blocks[i].memory;

        if (word >= from && word <= from + data->blocks[i].bytes)
            return (uintptr_t)copy->buffers[i] + (word - from);
    }
    return word;
}

static void relocate(const struct kernel_copy *copy, const struct kernel_data *data, void *words,
                     size_t bytes)
{
    for (size_t at = 0; at + sizeof(uintptr_t) <= bytes; at += sizeof(uintptr_t)) {
        uintptr_t word;

        memcpy(&word, (unsigned char *)words + at, sizeof word);
        word = relocated(copy, data, word);
        memcpy((unsigned char *)words + at, &word, sizeof word);
    }
}

static sac_status block_upload(const struct kernel_copy *copy, const struct kernel_data *data, size_t i,
                               sac_stream *stream)
{
    const struct kernel_array *block = &data->blocks[i];
    void *words;
    sac_status st;

    if (!block->pointers)
        return sac_stream_upload(stream, copy->buffers[i], block->memory, block->bytes);
    words = malloc(block->bytes + 1);
    if (words == NULL)
        return SAC_NO_MEMORY;
    memcpy(words, block->memory, block->bytes);
    relocate(copy, data, words, block->bytes);
    st = sac_stream_upload(stream, copy->buffers[i], words, block->bytes);
    free(words);
    return st;
}

sac_status kernel_copy_make(struct kernel_copy *copy, const struct kernel_data *data, sac_stream *stream)
{
    sac_status st = SAC_OK;

    memset(copy, 0, sizeof *copy);
    copy->device = sac_stream_device(stream);
    for (; copy->buffer_count < data->block_count && st == SAC_OK; copy->buffer_count++) {
        size_t bytes = data->blocks[copy->buffer_count].bytes;

        st = sac_buffer_alloc(copy->device, bytes > 0 ? bytes : 1, 1, &copy->buffers[copy->buffer_count],
                              NULL);
    }
    if (st == SAC_OK)
        st = kernel_copy_upload(copy, data, stream);
    memcpy(&copy->args, &data->args, sizeof copy->args);
    relocate(copy, data, &copy->args, sizeof copy->args);
    if (st != SAC_OK)
        kernel_copy_free(copy);
    return st;
}

sac_status kernel_copy_upload(const struct kernel_copy *copy, const struct kernel_data *data,
                              sac_stream *stream)
{
    sac_status st = SAC_OK;

    for (size_t i = 0; i < data->block_count && st == SAC_OK; i++)
        st = block_upload(copy, data, i, stream);
    return st;
}

void kernel_copy_free(struct kernel_copy *copy)
{
    for (size_t i = 0; i < copy->buffer_count; i++)
        sac_buffer_free(copy->device, copy->buffers[i]);
    copy->buffer_count = 0;
}

sac_status kernel_reserve(const struct kernel_data *data, const struct kernel_copy *copy, sac_stream *stream)
{
    size_t bytes = data->op->scratch != NULL ? data->op->scratch(copy->device, &copy->args) : 0;
    sac_status st = sac_stream_reserve(stream, bytes, NULL);

    if (st == SAC_OK)
        stream->scratch_bytes = bytes; /* the allocation is larger: it was rounded up */
    return st;
}

sac_status kernel_run(const struct kernel_data *data, const struct kernel_copy *copy, sac_stream *stream)
{
    return data->op->run(stream, data, &copy->args);
}

sac_status kernel_copy_read(const struct kernel_copy *copy, const struct kernel_data *data,
                            sac_stream *stream, void *const *out)
{
    sac_status st = SAC_OK;

    for (size_t i = 0; i < data->output_count && st == SAC_OK; i++)
        st = sac_stream_download(stream, out[i], copy->buffers[data->outputs[i]],
                                 data->out_bytes[i] + OUTPUT_GUARD);
    return st == SAC_OK ? sac_stream_wait(stream) : st;
}

/* ---- comparing ---- */

bool kernel_near(float want, float got, float tolerance, float scale)
{
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got);
    if (isinf(want) || isinf(got))
        return want == got;
    return fabsf(want - got) <= tolerance * scale;
}

double kernel_dot(const float *x, const float *y, uint32_t dim)
{
    double sum = 0.0;

    for (uint32_t d = 0; d < dim; d++)
        sum += (double)x[d] * y[d];
    return sum;
}
