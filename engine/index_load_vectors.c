/* Reading the vectors of an index, from its file or from whoever keeps them; index_file.h has the format. */
#include "engine/index_reader.h"

static bool row_is_finite(const sac_vectors *vectors, const uint8_t *row)
{
    float scale;

    if (vectors->dtype == SAC_F32)
        return all_finite((const float *)(const void *)row, vectors->dim);
    if (vectors->dtype == SAC_I8) {
        memcpy(&scale, row, sizeof scale);
        return isfinite(scale);
    }
    for (uint32_t d = 0; d < vectors->dim; d++)
        if ((row[2 * d + 1] & 0x7c) == 0x7c) /* the exponent of infinity and NaN */
            return false;
    return true;
}

/* Slots below `slot` that are a shard's. */
static uint32_t slots_below(const struct reader *r, uint32_t shard, size_t slot)
{
    return (uint32_t)(slot / r->team.count + (slot % r->team.count > shard));
}

/* n rows as they are stored, to the shard that has them: its every so many-th. */
static sac_status load_rows(struct reader *r, uint32_t shard, size_t first, size_t n, const uint8_t *rows)
{
    sac_vectors *vectors = &r->index->shards[shard].vectors;
    sac_workspace *ws = r->team.ws[shard];
    uint32_t local = slots_below(r, shard, first), count = slots_below(r, shard, first + n) - local;
    size_t row = sac_vectors_row_bytes(vectors);
    uint8_t *own;

    if (r->team.count == 1)
        return sac_vectors_load(vectors, ws, local, n, rows);
    own = sac_workspace_host(ws, count, row);
    if (own == NULL)
        return sac_workspace_failure(ws);
    for (uint32_t i = 0; i < count; i++) {
        size_t slot = (size_t)(local + i) * r->team.count + shard;
        memcpy(own + i * row, rows + (slot - first) * row, row);
    }
    return sac_vectors_load(vectors, ws, local, count, own);
}

/* n vectors from the file, as they are stored. */
static sac_status vectors_from_file(struct reader *r, size_t first, size_t n)
{
    const sac_vectors *vectors = &r->index->shards[0].vectors;
    size_t row = sac_vectors_row_bytes(vectors);
    uint8_t *rows = sac_workspace_host(r->ws, n, row);
    sac_status st = rows == NULL ? sac_workspace_failure(r->ws) : get(r, rows, n * row);

    for (size_t i = 0; st == SAC_OK && i < n; i++)
        if (!row_is_finite(vectors, rows + i * row))
            st = damaged(r, "a vector is not finite");
    for (uint32_t s = 0; st == SAC_OK && s < r->team.count; s++)
        st = load_rows(r, s, first, n, rows);
    return st;
}

/* What the caller keeps of vectors. */
struct keeper {
    sac_vector_fn fn;
    void *context;
    uint64_t *gone; /* labels that it has no vector of */
    size_t gone_count;
};

/* Slots first .. first + n - 1, as far as they are the shard's, from whoever keeps the vectors. Those that
 * are gone are zeros. */
static sac_status vectors_from_caller(struct reader *r, uint32_t shard, size_t first, size_t n,
                                      struct keeper *keeper)
{
    sac_index *index = r->index;
    sac_workspace *ws = r->team.ws[shard];
    uint32_t local = slots_below(r, shard, first), count = slots_below(r, shard, first + n) - local;
    float *given = sac_workspace_host(ws, index->dim, sizeof *given);
    uint32_t *slots = sac_workspace_host(ws, count, sizeof *slots);
    sac_span x;
    sac_status st;

    if (given == NULL || slots == NULL || !sac_workspace_span(ws, count, index->dim * sizeof(float), &x))
        return sac_workspace_failure(ws);
    memset(x.host, 0, x.bytes);
    for (uint32_t i = 0; i < count; i++) {
        size_t slot = (size_t)(local + i) * r->team.count + shard;
        slots[i] = local + i;
        if (!keeper->fn(keeper->context, sac_labels_at(&index->labels, (uint32_t)slot), given)) {
            keeper->gone[keeper->gone_count++] = sac_labels_at(&index->labels, (uint32_t)slot);
            continue;
        }
        st = sac_index_check_vector(index, given, "vector", slot, r->err);
        if (st != SAC_OK)
            return st;
        sac_index_copy_vector(index, given, (float *)x.host + i * index->dim);
    }
    st = sac_span_push(ws, &x);
    return st == SAC_OK ? sac_vectors_write(&index->shards[shard].vectors, ws, count, x.device, slots) : st;
}

static sac_status get_chunk(struct reader *r, size_t first, size_t n, struct keeper *keeper)
{
    sac_workspace_mark marks[SAC_SHARDS_MAX] = {{0}};
    sac_status st = SAC_OK;

    for (uint32_t s = 0; s < r->team.count; s++)
        marks[s] = sac_workspace_save(r->team.ws[s]);
    if ((r->header.flags & SAC_FILE_VECTORS) != 0)
        st = vectors_from_file(r, first, n);
    else
        for (uint32_t s = 0; st == SAC_OK && s < r->team.count; s++)
            st = vectors_from_caller(r, s, first, n, keeper);
    if (st == SAC_OK)
        st = sac_team_wait(&r->team);
    for (uint32_t s = 0; s < r->team.count; s++)
        sac_workspace_restore(r->team.ws[s], marks[s]);
    return st;
}

sac_status sac_index_load_vectors(struct reader *r, sac_vector_fn fn, void *context)
{
    sac_index *index = r->index;
    bool in_file = (r->header.flags & SAC_FILE_VECTORS) != 0;
    struct keeper keeper = {.fn = fn, .context = context};
    size_t chunk = sac_index_chunk_rows(index);
    sac_status st = SAC_OK;

    keeper.gone = sac_workspace_host(r->ws, in_file ? 0 : r->header.count, sizeof *keeper.gone);
    if (keeper.gone == NULL)
        return sac_workspace_failure(r->ws);
    for (uint32_t s = 0; st == SAC_OK && s < r->team.count; s++)
        st =
            sac_vectors_reserve(&index->shards[s].vectors, r->team.ws[s], slots_below(r, s, r->header.count));
    if (st == SAC_OK && !in_file && fn == NULL && r->header.count > 0)
        return sac_fail(r->err, SAC_INVALID_ARGUMENT, "%s was saved without its vectors: they must be given",
                        r->path);
    open_section(r, SAC_SECTION_VECTORS);
    for (size_t first = 0; st == SAC_OK && first < r->header.count; first += chunk)
        st = get_chunk(r, first, r->header.count - first < chunk ? r->header.count - first : chunk, &keeper);
    if (st == SAC_OK)
        st = close_section(r, SAC_SECTION_VECTORS);
    return st == SAC_OK ? sac_index_delete(index, keeper.gone_count, keeper.gone, NULL, r->err) : st;
}
