/* Writing an index to disk; index_file.h has the format. */
#include "engine/index_file.h"
#include "engine/index_state.h"
#include "kernels/page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define BUFFER_BYTES ((size_t)1 << 20)

/* Collects bytes, counts and hashes them. The first failure sticks in `st`. */
struct writer {
    const sac_index *index;
    sac_workspace *ws;
    const char *path; /* of the temporary file */
    sac_error *err;
    sac_status st;
    int fd;
    uint8_t *buffer;
    size_t used;
    uint64_t offset; /* of the next byte put */
    XXH3_state_t *hash;
    uint32_t *rank; /* by slot: its place among the live ones */
    sac_index_header header;
};

static void write_out(struct writer *w, const uint8_t *bytes, size_t size)
{
    while (w->st == SAC_OK && size > 0) {
        ssize_t done = write(w->fd, bytes, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            w->st = sac_fail(w->err, SAC_IO, "cannot write %s: %s", w->path, strerror(errno));
            return;
        }
        bytes += done;
        size -= (size_t)done;
    }
}

static void flush(struct writer *w)
{
    write_out(w, w->buffer, w->used);
    w->used = 0;
}

static void put(struct writer *w, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;

    if (w->st != SAC_OK)
        return;
    XXH3_64bits_update(w->hash, bytes, size);
    w->offset += size;
    while (size > 0) {
        size_t room = BUFFER_BYTES - w->used, part = size < room ? size : room;
        memcpy(w->buffer + w->used, from, part);
        w->used += part;
        from += part;
        size -= part;
        if (w->used == BUFFER_BYTES)
            flush(w);
    }
}

static void begin_section(struct writer *w, enum sac_index_section section)
{
    static const uint8_t zeros[SAC_INDEX_FILE_PAGE];

    put(w, zeros, (SAC_INDEX_FILE_PAGE - w->offset % SAC_INDEX_FILE_PAGE) % SAC_INDEX_FILE_PAGE);
    XXH3_64bits_reset(w->hash);
    w->header.sections[section].offset = w->offset;
}

static void end_section(struct writer *w, enum sac_index_section section)
{
    w->header.sections[section].length = w->offset - w->header.sections[section].offset;
    w->header.sections[section].checksum = XXH3_64bits_digest(w->hash);
}

/* Device memory as the host sees it, a piece of the workspace; NULL where that fails. */
static void *pull(struct writer *w, const void *device, size_t size)
{
    sac_span span;
    sac_status st = SAC_OK;

    if (w->st != SAC_OK)
        return NULL;
    if (!sac_workspace_view(w->ws, (void *)device, size, 1, &span))
        st = w->ws->status;
    if (st == SAC_OK)
        st = sac_span_pull(w->ws, &span);
    w->st = st;
    return st == SAC_OK ? span.host : NULL;
}

static void put_device(struct writer *w, const void *device, size_t size)
{
    sac_workspace_mark mark = sac_workspace_save(w->ws);
    const void *host = pull(w, device, size);

    if (host != NULL)
        put(w, host, size);
    sac_workspace_restore(w->ws, mark);
}

/* ---- sections --------------------------------------------------------------------------------------- */

static void put_curve(struct writer *w)
{
    begin_section(w, SAC_SECTION_CURVE);
    for (uint32_t i = 0; i < w->index->curve.count; i++) {
        const sac_recall_point *point = &w->index->curve.points[i];
        put(w, &point->recall, 4);
        put(w, &point->nprobe, 4);
        put(w, &point->depth, 4);
    }
    end_section(w, SAC_SECTION_CURVE);
}

static void put_labels(struct writer *w)
{
    const sac_labels *labels = &w->index->labels;

    begin_section(w, SAC_SECTION_LABELS);
    for (uint32_t slot = 0; slot < labels->slot_count; slot++)
        if (sac_labels_live(labels, slot))
            put(w, &labels->label[slot], sizeof labels->label[slot]);
    end_section(w, SAC_SECTION_LABELS);
}

/* One page of a list: the used blocks, with slots as ranks and zeros past the last entry. */
static void put_page(struct writer *w, uint32_t page, uint32_t rows)
{
    const sac_lists *lists = &w->index->ivf->lists;
    uint32_t lines = (rows + SAC_BLOCK_ROWS - 1) / SAC_BLOCK_ROWS * SAC_BLOCK_ROWS;
    uint32_t slots[SAC_PAGE_ROWS] = {0};
    float bias[SAC_PAGE_ROWS] = {0};
    sac_workspace_mark mark = sac_workspace_save(w->ws);
    unsigned char *host = pull(w, sac_lists_page(lists, page), sac_page_bytes(&lists->pq));

    if (host != NULL) {
        for (uint32_t i = 0; i < rows; i++) {
            slots[i] = w->rank[sac_page_slots(&lists->pq, host)[i]];
            bias[i] = sac_page_bias(&lists->pq, host)[i];
        }
        put(w, host, lines * sac_pq_code_bytes(lists->pq.m, lists->pq.nbits));
        put(w, bias, lines * sizeof *bias);
        put(w, slots, lines * sizeof *slots);
    }
    sac_workspace_restore(w->ws, mark);
}

static void put_lists(struct writer *w)
{
    const sac_lists *lists = &w->index->ivf->lists;

    begin_section(w, SAC_SECTION_LISTS);
    for (uint32_t l = 0; l < lists->nlist; l++) {
        uint32_t rows = sac_lists_rows(lists, l);
        put(w, &rows, sizeof rows);
    }
    for (uint32_t l = 0; l < lists->nlist; l++) {
        const uint32_t *chain = sac_lists_chain(lists, l);
        uint32_t rows = sac_lists_rows(lists, l);
        for (uint32_t at = 0; w->st == SAC_OK && at < rows; at += SAC_PAGE_ROWS)
            put_page(w, chain[at / SAC_PAGE_ROWS], rows - at < SAC_PAGE_ROWS ? rows - at : SAC_PAGE_ROWS);
    }
    end_section(w, SAC_SECTION_LISTS);
}

static void put_ivf(struct writer *w)
{
    const sac_ivf *ivf = w->index->ivf;
    size_t codebook = ((size_t)ivf->pq.m << ivf->pq.nbits) * ivf->pq.dsub * sizeof(float);

    begin_section(w, SAC_SECTION_CENTROIDS);
    put_device(w, ivf->centroids, (size_t)ivf->nlist * ivf->coded_dim * sizeof(float));
    end_section(w, SAC_SECTION_CENTROIDS);
    begin_section(w, SAC_SECTION_CODEBOOK);
    put_device(w, ivf->codebook, codebook);
    end_section(w, SAC_SECTION_CODEBOOK);
    if (ivf->rotation.matrix != NULL) {
        begin_section(w, SAC_SECTION_ROTATION);
        put(w, ivf->rotation.matrix, (size_t)ivf->dim * ivf->coded_dim * sizeof(float));
        end_section(w, SAC_SECTION_ROTATION);
    }
    put_lists(w);
}

static void put_vectors(struct writer *w)
{
    const sac_vectors *vectors = &w->index->vectors;
    const sac_labels *labels = &w->index->labels;
    size_t row = sac_vectors_row_bytes(vectors);

    begin_section(w, SAC_SECTION_VECTORS);
    for (uint32_t first = 0; w->st == SAC_OK && first < labels->slot_count; first += vectors->page_rows) {
        uint32_t left = labels->slot_count - first,
                 rows = left < vectors->page_rows ? left : vectors->page_rows;
        sac_workspace_mark mark = sac_workspace_save(w->ws);
        const unsigned char *page = sac_vectors_row(vectors, first);

        if (!sac_vectors_on_host(vectors, first))
            page = pull(w, page, rows * row);
        for (uint32_t i = 0; page != NULL && i < rows; i++)
            if (sac_labels_live(labels, first + i))
                put(w, page + i * row, row);
        sac_workspace_restore(w->ws, mark);
        if (first > UINT32_MAX - vectors->page_rows)
            break;
    }
    end_section(w, SAC_SECTION_VECTORS);
}

static void put_header(struct writer *w, bool with_vectors)
{
    const sac_index *index = w->index;
    sac_index_header *h = &w->header;

    flush(w);
    memcpy(h->magic, SAC_INDEX_FILE_MAGIC, sizeof h->magic);
    h->version = index->spec.dtype == SAC_I8 ? 2 : 1; /* the oldest that knows what is in it */
    h->endian = SAC_INDEX_FILE_ENDIAN;
    h->file_length = w->offset;
    h->dim = index->dim;
    h->metric = index->metric;
    h->seed = index->seed;
    h->nlist = index->spec.nlist;
    h->m = index->spec.m;
    h->nbits = index->spec.nbits;
    h->coded_dim = index->spec.coded_dim;
    h->flags = (index->spec.rotate ? SAC_FILE_ROTATED : 0) | (index->trained ? SAC_FILE_TRAINED : 0) |
               (index->spec.dtype == SAC_F16 ? SAC_FILE_F16 : 0) | (with_vectors ? SAC_FILE_VECTORS : 0) |
               (index->spec.automatic ? SAC_FILE_AUTO : 0) | (index->spec.dtype == SAC_I8 ? SAC_FILE_I8 : 0);
    h->count = index->labels.live_count;
    h->curve_count = index->curve.count;
    h->checksum = XXH3_64bits(h, offsetof(sac_index_header, checksum));
    if (w->st == SAC_OK && lseek(w->fd, 0, SEEK_SET) != 0)
        w->st = sac_fail(w->err, SAC_IO, "cannot write %s: %s", w->path, strerror(errno));
    write_out(w, (const uint8_t *)h, sizeof *h);
}

static void put_all(struct writer *w, bool with_vectors)
{
    const sac_index *index = w->index;
    uint32_t rank = 0;

    for (uint32_t slot = 0; slot < index->labels.slot_count; slot++)
        w->rank[slot] = sac_labels_live(&index->labels, slot) ? rank++ : 0;
    put(w, &w->header, sizeof w->header); /* zeros for now */
    put_curve(w);
    put_labels(w);
    if (index->ivf != NULL)
        put_ivf(w);
    if (with_vectors)
        put_vectors(w);
    put_header(w, with_vectors);
}

/* ---- files ------------------------------------------------------------------------------------------ */

static sac_status sync_folder(const char *path, sac_error *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    sac_status st = SAC_OK;
    int fd;

    if (folder == NULL)
        return sac_fail(err, SAC_NO_MEMORY, "no memory to save %s", path);
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        st = sac_fail(err, SAC_IO, "cannot sync the folder %s: %s", folder, strerror(errno));
    if (fd >= 0)
        close(fd);
    free(folder);
    return st;
}

static sac_status write_file(struct writer *w, const char *path, bool with_vectors)
{
    put_all(w, with_vectors);
    if (w->st == SAC_OK && fsync(w->fd) != 0)
        w->st = sac_fail(w->err, SAC_IO, "cannot sync %s: %s", w->path, strerror(errno));
    if (close(w->fd) != 0 && w->st == SAC_OK)
        w->st = sac_fail(w->err, SAC_IO, "cannot close %s: %s", w->path, strerror(errno));
    if (w->st == SAC_OK && rename(w->path, path) != 0)
        w->st = sac_fail(w->err, SAC_IO, "cannot rename %s to %s: %s", w->path, path, strerror(errno));
    if (w->st != SAC_OK) {
        unlink(w->path);
        return w->st;
    }
    return sync_folder(path, w->err);
}

static sac_status save(const sac_index *index, sac_workspace *ws, const char *path, bool with_vectors)
{
    struct writer *w = calloc(1, sizeof *w);
    char *temporary = NULL;
    sac_status st;

    if (w == NULL || asprintf(&temporary, "%s.tmp", path) < 0) {
        free(w);
        return sac_fail(ws->err, SAC_NO_MEMORY, "no memory to save %s", path);
    }
    w->index = index;
    w->ws = ws;
    w->err = ws->err;
    w->path = temporary;
    w->buffer = malloc(BUFFER_BYTES);
    w->rank = calloc((size_t)index->labels.slot_count + 1, sizeof *w->rank);
    w->hash = XXH3_createState();
    if (w->buffer == NULL || w->rank == NULL || w->hash == NULL) {
        st = sac_fail(ws->err, SAC_NO_MEMORY, "no memory to save %s", path);
    } else {
        XXH3_64bits_reset(w->hash);
        w->fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (w->fd < 0)
            st = sac_fail(ws->err, SAC_IO, "cannot create %s: %s", temporary, strerror(errno));
        else
            st = write_file(w, path, with_vectors);
    }
    XXH3_freeState(w->hash);
    free(w->rank);
    free(w->buffer);
    free(temporary);
    free(w);
    return st;
}

sac_status sac_index_save(const sac_index *shared, const char *path, bool with_vectors, sac_error *err)
{
    sac_index *index = (sac_index *)shared; /* for its locks and idle workspaces only */
    sac_workspace *ws;
    sac_status st;

    pthread_mutex_lock(&index->writer);
    st = sac_workspace_borrow(&index->workspaces, &ws, err);
    if (st == SAC_OK) {
        st = save(index, ws, path, with_vectors);
        sac_workspace_give_back(&index->workspaces, ws);
    }
    pthread_mutex_unlock(&index->writer);
    return st;
}
