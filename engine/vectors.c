#include "engine/vectors.h"

#include <stdlib.h>
#include <string.h>

/* A page is about this large: whole huge pages, and little waste in a small index. */
#define PAGE_BYTES ((size_t)2 << 20)
/* Of a device whose memory is its own: what is left to codes, tables and workspaces, an eighth. */
#define RESERVE_SHARE 8u

sac_status sac_vectors_init(sac_vectors *vectors, sac_device *device, uint32_t dim, sac_dtype dtype,
                            sac_error *err)
{
    sac_status st;

    *vectors = (sac_vectors){.device = device, .dim = dim, .dtype = dtype, .page_rows = 64};
    while ((size_t)vectors->page_rows * 2 * sac_vectors_row_bytes(vectors) <= PAGE_BYTES)
        vectors->page_rows *= 2;
    sac_mirror_init(&vectors->pages, device, sizeof(void *));
    sac_mirror_init(&vectors->norms, device, sizeof(void *));
    st = sac_mirror_reserve(&vectors->norms, NULL, 1, NULL, err);
    if (st == SAC_OK) /* so that searches of an empty index have something to point at */
        st = sac_mirror_reserve(&vectors->pages, NULL, 1, NULL, err);
    if (st != SAC_OK)
        sac_vectors_free(vectors);
    return st;
}

static bool is_on_host(const sac_vectors *vectors, size_t page)
{
    return vectors->on_host[page / 64] >> page % 64 & 1;
}

bool sac_vectors_on_host(const sac_vectors *vectors, uint32_t slot)
{
    return sac_device_host_visible(vectors->device) || is_on_host(vectors, slot / vectors->page_rows);
}

void sac_vectors_free(sac_vectors *vectors)
{
    void **pages = vectors->pages.host;

    for (size_t i = 0; i < vectors->page_count; i++)
        if (is_on_host(vectors, i))
            sac_host_free(vectors->device, pages[i]);
        else
            sac_buffer_free(vectors->device, pages[i]);
    if (vectors->norm_capacity > 0)
        sac_buffer_free(vectors->device, *(void **)vectors->norms.host);
    free(vectors->on_host);
    sac_mirror_free(&vectors->pages);
    sac_mirror_free(&vectors->norms);
    *vectors = (sac_vectors){0};
}

/* ---- room ------------------------------------------------------------------------------------------- */

static sac_status grow_norms(sac_vectors *vectors, sac_workspace *ws, size_t slot_count)
{
    size_t capacity = slot_count + slot_count / 4 + 1024;
    void **place = vectors->norms.host, *norms = NULL;
    sac_status st = sac_buffer_alloc(vectors->device, capacity, sizeof(float), &norms, ws->err);

    if (st != SAC_OK)
        return st;
    if (vectors->norm_capacity > 0)
        st = sac_stream_copy(ws->stream, norms, *place, vectors->norm_capacity * sizeof(float));
    if (st == SAC_OK)
        st = sac_stream_wait(ws->stream);
    if (st != SAC_OK) {
        sac_buffer_free(vectors->device, norms);
        return sac_fail(ws->err, st, "cannot move the norms of %zu vectors: %s", slot_count,
                        sac_status_text(st));
    }
    if (vectors->norm_capacity > 0)
        sac_buffer_free(vectors->device, *place);
    *place = norms;
    sac_mirror_touch(&vectors->norms, 0, 1);
    vectors->norm_capacity = capacity;
    vectors->layout++;
    return SAC_OK;
}

static sac_status grow_directory(sac_vectors *vectors, sac_workspace *ws, size_t wanted)
{
    size_t capacity = (wanted + wanted / 2 + 64) / 64 * 64;
    bool moved = false;
    sac_status st = sac_mirror_reserve(&vectors->pages, ws->stream, wanted, &moved, ws->err);
    uint64_t *on_host;

    vectors->layout += moved;
    if (st != SAC_OK || wanted <= vectors->page_capacity)
        return st;
    on_host = reallocarray(vectors->on_host, capacity / 64, sizeof *on_host);
    if (on_host == NULL)
        return sac_fail(ws->err, SAC_NO_MEMORY, "no memory for a directory of %zu pages", capacity);
    memset(on_host + vectors->page_capacity / 64, 0, (capacity - vectors->page_capacity) / 8);
    vectors->on_host = on_host;
    vectors->page_capacity = capacity;
    return SAC_OK;
}

static bool has_room(const sac_vectors *vectors, size_t bytes)
{
    sac_device_memory memory;

    if (sac_device_host_visible(vectors->device))
        return true;
    sac_device_memory_describe(vectors->device, &memory);
    return memory.used + bytes <= memory.budget - memory.budget / RESERVE_SHARE;
}

static sac_status add_page(sac_vectors *vectors, sac_workspace *ws)
{
    size_t page = vectors->page_count, bytes = vectors->page_rows * sac_vectors_row_bytes(vectors);
    void *memory = NULL;
    sac_status st = SAC_DEVICE_MEMORY;
    bool on_host;

    if (has_room(vectors, bytes))
        st = sac_buffer_alloc(vectors->device, bytes, 1, &memory, ws->err);
    on_host = st == SAC_DEVICE_MEMORY && !sac_device_host_visible(vectors->device);
    if (on_host)
        st = sac_host_alloc(vectors->device, bytes, 1, &memory, ws->err);
    if (st != SAC_OK)
        return st;
    if (on_host)
        vectors->on_host[page / 64] |= UINT64_C(1) << page % 64;
    vectors->host_page_count += on_host;
    ((void **)vectors->pages.host)[page] = memory;
    sac_mirror_touch(&vectors->pages, page, 1);
    vectors->page_count++;
    return SAC_OK;
}

sac_status sac_vectors_reserve(sac_vectors *vectors, sac_workspace *ws, size_t slot_count)
{
    size_t wanted = (slot_count + vectors->page_rows - 1) / vectors->page_rows;
    sac_status st = grow_directory(vectors, ws, wanted), synced;

    if (st == SAC_OK && slot_count > vectors->norm_capacity)
        st = grow_norms(vectors, ws, slot_count);
    while (st == SAC_OK && vectors->page_count < wanted)
        st = add_page(vectors, ws);
    synced = sac_mirror_sync(&vectors->pages, ws->stream);
    if (synced == SAC_OK)
        synced = sac_mirror_sync(&vectors->norms, ws->stream);
    if (st == SAC_OK && synced != SAC_OK)
        st = sac_fail(ws->err, synced, "cannot update the directory of vectors: %s", sac_status_text(synced));
    return st;
}

/* ---- rows ------------------------------------------------------------------------------------------- */

/* Slots as the device sees them. */
static sac_status push_slots(sac_workspace *ws, size_t n, const uint32_t *slots, sac_span *out)
{
    if (!sac_workspace_span(ws, n, sizeof *slots, out))
        return sac_workspace_failure(ws);
    memcpy(out->host, slots, out->bytes);
    return sac_span_push(ws, out);
}

static sac_status read_rows(const sac_vectors *vectors, sac_workspace *ws, size_t n, const uint32_t *rows,
                            float *to)
{
    return sac_run_rows_read(ws, &(struct sac_rows_read_args){.pages = vectors->pages.copy,
                                                              .page_rows = vectors->page_rows,
                                                              .dtype = vectors->dtype,
                                                              .dim = vectors->dim,
                                                              .rows = rows,
                                                              .n = n,
                                                              .out = to});
}

/* The norm is of what is stored, not of what was given; x: the same as f32, or NULL. */
static sac_status write_norms(sac_vectors *vectors, sac_workspace *ws, size_t n, const float *x,
                              const uint32_t *rows)
{
    float *stored = NULL, *norms = sac_workspace_device(ws, n, sizeof *norms);
    sac_status st = norms == NULL ? sac_workspace_failure(ws) : SAC_OK;

    if (st == SAC_OK && (x == NULL || vectors->dtype != SAC_F32)) {
        stored = sac_workspace_device(ws, n, (size_t)vectors->dim * sizeof *stored);
        st = stored == NULL ? sac_workspace_failure(ws) : read_rows(vectors, ws, n, rows, stored);
    }
    if (st == SAC_OK)
        st = sac_run_norms(ws,
                           &(struct sac_norms_args){
                               .x = stored != NULL ? stored : x, .n = n, .dim = vectors->dim, .out = norms});
    if (st == SAC_OK)
        st = sac_run_rows_write(ws, &(struct sac_rows_write_args){.x = norms,
                                                                  .n = n,
                                                                  .dim = 1,
                                                                  .pages = vectors->norms.copy,
                                                                  .page_rows = UINT32_MAX,
                                                                  .dtype = SAC_F32,
                                                                  .rows = rows});
    return st;
}

sac_status sac_vectors_write(sac_vectors *vectors, sac_workspace *ws, size_t n, const float *x,
                             const uint32_t *slots)
{
    sac_span rows;
    sac_status st = push_slots(ws, n, slots, &rows);

    if (st == SAC_OK)
        st = sac_run_rows_write(ws, &(struct sac_rows_write_args){.x = x,
                                                                  .n = n,
                                                                  .dim = vectors->dim,
                                                                  .pages = vectors->pages.copy,
                                                                  .page_rows = vectors->page_rows,
                                                                  .dtype = vectors->dtype,
                                                                  .rows = rows.device});
    return st == SAC_OK ? write_norms(vectors, ws, n, x, rows.device) : st;
}

sac_status sac_vectors_load(sac_vectors *vectors, sac_workspace *ws, uint32_t first, size_t n,
                            const void *rows)
{
    size_t row = sac_vectors_row_bytes(vectors);
    sac_span numbers;
    sac_status st = SAC_OK;

    if (!sac_workspace_span(ws, n, sizeof(uint32_t), &numbers))
        return sac_workspace_failure(ws);
    for (size_t i = 0, count; st == SAC_OK && i < n; i += count) {
        size_t slot = first + i, left = vectors->page_rows - slot % vectors->page_rows;
        unsigned char *to = (unsigned char *)sac_vectors_row(vectors, (uint32_t)slot);

        count = n - i < left ? n - i : left;
        if (sac_vectors_on_host(vectors, (uint32_t)slot))
            memcpy(to, (const unsigned char *)rows + i * row, count * row);
        else
            st = sac_stream_upload(ws->stream, to, (const unsigned char *)rows + i * row, count * row);
    }
    if (st != SAC_OK)
        return sac_fail(ws->err, st, "cannot copy vectors to the device: %s", sac_status_text(st));
    for (size_t i = 0; i < n; i++)
        ((uint32_t *)numbers.host)[i] = (uint32_t)(first + i);
    st = sac_span_push(ws, &numbers);
    return st == SAC_OK ? write_norms(vectors, ws, n, NULL, numbers.device) : st;
}

sac_status sac_vectors_read(const sac_vectors *vectors, sac_workspace *ws, size_t n, const uint32_t *slots,
                            float *to)
{
    sac_span rows;
    sac_status st = push_slots(ws, n, slots, &rows);

    return st == SAC_OK ? read_rows(vectors, ws, n, rows.device, to) : st;
}

/* ---- searching -------------------------------------------------------------------------------------- */

sac_status sac_vectors_nearest(const sac_vectors *vectors, sac_workspace *ws, sac_distance distance, size_t n,
                               const float *queries, const uint64_t *live, size_t slot_count,
                               const uint64_t *const *filters, uint32_t k, float *distances, uint32_t *slots)
{
    return sac_run_nearest(ws, &(struct sac_nearest_args){.queries = queries,
                                                          .query_count = n,
                                                          .dim = vectors->dim,
                                                          .distance = distance,
                                                          .pages = vectors->pages.copy,
                                                          .page_rows = vectors->page_rows,
                                                          .dtype = vectors->dtype,
                                                          .row_count = slot_count,
                                                          .live = live,
                                                          .filters = filters,
                                                          .norms = *(float *const *)vectors->norms.host,
                                                          .k = k,
                                                          .out_distance = distances,
                                                          .out_index = slots});
}

sac_status sac_vectors_distances(const sac_vectors *vectors, sac_workspace *ws, sac_distance distance,
                                 size_t n, const float *queries, const uint32_t *slots,
                                 const uint32_t *counts, uint32_t stride, float *out)
{
    return sac_run_gather_distances(ws, &(struct sac_gather_distances_args){.queries = queries,
                                                                            .query_count = n,
                                                                            .dim = vectors->dim,
                                                                            .distance = distance,
                                                                            .pages = vectors->pages.copy,
                                                                            .page_rows = vectors->page_rows,
                                                                            .dtype = vectors->dtype,
                                                                            .rows = slots,
                                                                            .counts = counts,
                                                                            .stride = stride,
                                                                            .out = out});
}

uint64_t sac_vectors_bytes(const sac_vectors *vectors)
{
    return vectors->page_count * vectors->page_rows * sac_vectors_row_bytes(vectors) +
           vectors->norm_capacity * sizeof(float);
}

uint64_t sac_vectors_host_bytes(const sac_vectors *vectors)
{
    return vectors->host_page_count * vectors->page_rows * sac_vectors_row_bytes(vectors);
}
