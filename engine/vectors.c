#include "engine/vectors.h"

#include <stdlib.h>

/* A page is about this large: whole huge pages, and little waste in a small index. */
#define PAGE_BYTES ((size_t)2 << 20)

void sac_vectors_init(sac_vectors *vectors, sac_device *device, uint32_t dim, sac_dtype dtype)
{
    *vectors = (sac_vectors){.device = device, .dim = dim, .dtype = dtype, .page_rows = 64};
    while ((size_t)vectors->page_rows * 2 * sac_vectors_row_bytes(vectors) <= PAGE_BYTES)
        vectors->page_rows *= 2;
}

void sac_vectors_free(sac_vectors *vectors)
{
    for (size_t i = 0; i < vectors->page_count; i++)
        sac_buffer_free(vectors->device, vectors->pages[i]);
    free(vectors->pages);
    sac_buffer_free(vectors->device, vectors->norms);
    *vectors = (sac_vectors){0};
}

static sac_status grow_norms(sac_vectors *vectors, sac_workspace *ws, size_t slot_count)
{
    size_t capacity = slot_count + slot_count / 4 + 1024;
    float *kept = malloc((vectors->norm_capacity + 1) * sizeof *kept);
    void *norms = NULL;
    sac_status st;

    if (kept == NULL)
        return sac_fail(ws->err, SAC_NO_MEMORY, "no memory for the norms of %zu vectors", slot_count);
    st = sac_buffer_alloc(vectors->device, capacity, sizeof(float), &norms, ws->err);
    if (st == SAC_OK)
        st = sac_stream_download(ws->stream, kept, vectors->norms, vectors->norm_capacity * sizeof *kept);
    if (st == SAC_OK)
        st = sac_stream_wait(ws->stream);
    if (st == SAC_OK)
        st = sac_stream_upload(ws->stream, norms, kept, vectors->norm_capacity * sizeof *kept);
    if (st == SAC_OK)
        st = sac_stream_wait(ws->stream);
    free(kept);
    if (st != SAC_OK) {
        sac_buffer_free(vectors->device, norms);
        return st;
    }
    sac_buffer_free(vectors->device, vectors->norms);
    vectors->norms = norms;
    vectors->norm_capacity = capacity;
    return SAC_OK;
}

sac_status sac_vectors_reserve(sac_vectors *vectors, sac_workspace *ws, size_t slot_count)
{
    size_t wanted = (slot_count + vectors->page_rows - 1) / vectors->page_rows;
    sac_status st = SAC_OK;

    if (wanted > vectors->page_capacity) {
        size_t capacity = wanted + wanted / 2 + 4;
        void **pages = reallocarray(vectors->pages, capacity, sizeof *pages);
        if (pages == NULL)
            return sac_fail(ws->err, SAC_NO_MEMORY, "no memory for a directory of %zu pages", capacity);
        vectors->pages = pages;
        vectors->page_capacity = capacity;
    }
    if (slot_count > vectors->norm_capacity)
        st = grow_norms(vectors, ws, slot_count);
    for (; st == SAC_OK && vectors->page_count < wanted; vectors->page_count++)
        st = sac_buffer_alloc(vectors->device, vectors->page_rows, sac_vectors_row_bytes(vectors),
                              &vectors->pages[vectors->page_count], ws->err);
    return st;
}

static sac_status write_norms(sac_vectors *vectors, sac_workspace *ws, size_t n, const float *stored,
                              const uint32_t *slots)
{
    sac_span norms;
    const float *values;
    sac_status st;

    if (!sac_workspace_span(ws, n, sizeof(float), &norms))
        return SAC_NO_MEMORY;
    st = sac_run_norms(
        ws, &(struct sac_norms_args){.x = stored, .n = n, .dim = vectors->dim, .out = norms.device});
    if (st == SAC_OK)
        st = sac_span_pull(ws, &norms);
    values = norms.host;
    for (size_t i = 0, end; st == SAC_OK && i < n; i = end) { /* slots mostly come in runs */
        for (end = i + 1; end < n && slots[end] == slots[end - 1] + 1; end++)
            continue;
        st = sac_stream_upload(ws->stream, vectors->norms + slots[i], values + i, (end - i) * sizeof *values);
    }
    return st == SAC_OK ? sac_stream_wait(ws->stream) : st;
}

sac_status sac_vectors_write(sac_vectors *vectors, sac_workspace *ws, size_t n, const float *x,
                             const uint32_t *slots)
{
    sac_workspace_mark mark = sac_workspace_save(ws);
    uint32_t *rows = sac_workspace_device(ws, n, sizeof *rows);
    float *stored = NULL;
    sac_status st;

    if (rows == NULL)
        return SAC_NO_MEMORY;
    st = sac_stream_upload(ws->stream, rows, slots, n * sizeof *rows);
    if (st == SAC_OK)
        st = sac_run_rows_write(ws, &(struct sac_rows_write_args){.x = x,
                                                                  .n = n,
                                                                  .dim = vectors->dim,
                                                                  .pages = vectors->pages,
                                                                  .page_rows = vectors->page_rows,
                                                                  .dtype = vectors->dtype,
                                                                  .rows = rows});
    if (st == SAC_OK &&
        vectors->dtype != SAC_F32) { /* the norm is of what is stored, not of what was given */
        stored = sac_workspace_device(ws, n, (size_t)vectors->dim * sizeof *stored);
        st = stored == NULL ? SAC_NO_MEMORY : sac_vectors_read(vectors, ws, n, slots, stored);
    }
    if (st == SAC_OK)
        st = write_norms(vectors, ws, n, stored != NULL ? stored : x, slots);
    sac_workspace_restore(ws, mark);
    return st;
}

sac_status sac_vectors_read(const sac_vectors *vectors, sac_workspace *ws, size_t n, const uint32_t *slots,
                            float *to)
{
    uint32_t *rows = sac_workspace_device(ws, n, sizeof *rows);
    sac_status st;

    if (rows == NULL)
        return SAC_NO_MEMORY;
    st = sac_stream_upload(ws->stream, rows, slots, n * sizeof *rows);
    if (st != SAC_OK)
        return sac_fail(ws->err, st, "cannot copy slots to the device");
    return sac_run_rows_read(ws, &(struct sac_rows_read_args){.pages = (const void *const *)vectors->pages,
                                                              .page_rows = vectors->page_rows,
                                                              .dtype = vectors->dtype,
                                                              .dim = vectors->dim,
                                                              .rows = rows,
                                                              .n = n,
                                                              .out = to});
}

sac_status sac_vectors_nearest(const sac_vectors *vectors, sac_workspace *ws, sac_distance distance, size_t n,
                               const float *queries, size_t slot_count, const uint64_t *live, uint32_t k,
                               const sac_span *distances, const sac_span *slots)
{
    sac_status st =
        sac_run_nearest(ws, &(struct sac_nearest_args){.queries = queries,
                                                       .query_count = n,
                                                       .dim = vectors->dim,
                                                       .distance = distance,
                                                       .pages = (const void *const *)vectors->pages,
                                                       .page_rows = vectors->page_rows,
                                                       .dtype = vectors->dtype,
                                                       .row_count = slot_count,
                                                       .live = live,
                                                       .norms = vectors->norms,
                                                       .k = k,
                                                       .out_distance = distances->device,
                                                       .out_index = slots->device});

    if (st == SAC_OK)
        st = sac_span_pull(ws, distances);
    return st == SAC_OK ? sac_span_pull(ws, slots) : st;
}

sac_status sac_vectors_distances(const sac_vectors *vectors, sac_workspace *ws, sac_distance distance,
                                 size_t n, const float *queries, const uint32_t *slots,
                                 const uint32_t *counts, float *out)
{
    return sac_run_gather_distances(
        ws, &(struct sac_gather_distances_args){.queries = queries,
                                                .query_count = n,
                                                .dim = vectors->dim,
                                                .distance = distance,
                                                .pages = (const void *const *)vectors->pages,
                                                .page_rows = vectors->page_rows,
                                                .dtype = vectors->dtype,
                                                .rows = slots,
                                                .counts = counts,
                                                .out = out});
}

uint64_t sac_vectors_bytes(const sac_vectors *vectors)
{
    return vectors->page_count * vectors->page_rows * sac_vectors_row_bytes(vectors) +
           vectors->norm_capacity * sizeof(float);
}
