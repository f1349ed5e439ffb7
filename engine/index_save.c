/* Writing an index to disk; index_file.h has the format. */
#include "engine/index_file.h"
#include "engine/index_state.h"
#include "kernels/page.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#define BUFFER_BYTES ((size_t)1 << 20)
#define PULL_PAGES 256u /* of a list, copied from the device at a time */

/* Collects bytes, counts and hashes them. The first failure sticks in `st`. */
struct writer {
    const sac_index *index;
    const sac_team *team;
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
    assert(from != NULL || size == 0);
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

/* Device memory of a shard as the host sees it, a piece of its workspace; NULL where that fails. */
static void *pull(struct writer *w, uint32_t shard, const void *device, size_t size)
{
    sac_workspace *ws = w->team->ws[shard];
    sac_span span;
    sac_status st = SAC_OK;

    if (w->st != SAC_OK)
        return NULL;
    if (!sac_workspace_view(ws, (void *)device, size, 1, &span))
        st = sac_workspace_failure(ws);
    if (st == SAC_OK)
        st = sac_span_pull(ws, &span);
    w->st = st;
    return st == SAC_OK ? span.host : NULL;
}

/* Device memory of the first shard. */
static void put_device(struct writer *w, const void *device, size_t size)
{
    sac_workspace_mark mark = sac_workspace_save(w->team->ws[0]);
    const void *host = pull(w, 0, device, size);

    if (host != NULL)
        put(w, host, size);
    sac_workspace_restore(w->team->ws[0], mark);
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
        put(w, &point->reach, 4);
    }
    end_section(w, SAC_SECTION_CURVE);
}

static void put_labels(struct writer *w)
{
    const sac_labels *labels = &w->index->labels;

    begin_section(w, SAC_SECTION_LABELS);
    for (uint32_t slot = 0; slot < labels->slot_count; slot++)
        if (sac_labels_live(labels, slot))
            put(w, &(uint64_t){sac_labels_at(labels, slot)}, sizeof(uint64_t));
    end_section(w, SAC_SECTION_LABELS);
}

/* A page of a list as it goes to the file, which the pages of the shards fill one after another. Its slots
 * are ranks. */
struct page {
    unsigned char *memory;
    uint32_t rows;
};

/* With zeros past the last entry. */
static void flush_page(struct writer *w, const sac_pq_shape *pq, struct page *page)
{
    put(w, page->memory, sac_page_bytes(pq));
    memset(page->memory, 0, sac_page_bytes(pq));
    page->rows = 0;
}

/* Adds entries of a shard's page, `rows` of them, to the file's. */
static void put_entries(struct writer *w, uint32_t shard, const sac_pq_shape *pq, unsigned char *from,
                        uint32_t rows, struct page *to)
{
    for (uint32_t line = 0, run; line < rows; line += run) {
        uint32_t *slots = sac_page_slots(pq, to->memory) + to->rows;

        run = SAC_PAGE_ROWS - to->rows < rows - line ? SAC_PAGE_ROWS - to->rows : rows - line;
        sac_page_copy(pq, to->memory, to->rows, from, line, run);
        for (uint32_t i = 0; i < run; i++)
            slots[i] = w->rank[slots[i] * w->index->shard_count + shard];
        to->rows += run;
        if (to->rows == SAC_PAGE_ROWS)
            flush_page(w, pq, to);
    }
}

/* Pages of a list that are one piece of memory, and hold `rows` entries. */
static void put_pages(struct writer *w, uint32_t shard, const sac_pq_shape *pq, const unsigned char *pages,
                      uint32_t rows, struct page *to)
{
    sac_workspace_mark mark = sac_workspace_save(w->team->ws[shard]);
    size_t bytes = sac_page_bytes(pq);
    unsigned char *host = pull(w, shard, pages, sac_page_count(rows) * bytes);

    for (uint32_t at = 0; host != NULL && at < rows; at += SAC_PAGE_ROWS, host += bytes)
        put_entries(w, shard, pq, host, rows - at < SAC_PAGE_ROWS ? rows - at : SAC_PAGE_ROWS, to);
    sac_workspace_restore(w->team->ws[shard], mark);
}

static void put_list_of(struct writer *w, uint32_t shard, uint32_t list, struct page *to)
{
    const sac_lists *lists = &w->index->shards[shard].ivf->lists;
    const uint32_t *chain = sac_lists_chain(lists, list);
    uint32_t rows = sac_lists_rows(lists, list), pages = sac_page_count(rows);

    for (uint32_t at = 0, run; w->st == SAC_OK && at < pages; at += run) {
        uint32_t left = rows - at * SAC_PAGE_ROWS;

        run = sac_lists_neighbours(lists, list, at, pages - at < PULL_PAGES ? pages - at : PULL_PAGES);
        put_pages(w, shard, &lists->pq, sac_lists_page(lists, chain[at]),
                  left < run * SAC_PAGE_ROWS ? left : run * SAC_PAGE_ROWS, to);
    }
}

static void put_lists(struct writer *w)
{
    const sac_ivf *ivf = sac_index_ivf(w->index);
    struct page page = {.memory = calloc(1, sac_page_bytes(&ivf->pq))};

    if (page.memory == NULL)
        w->st = sac_fail(w->err, SAC_NO_MEMORY, "no memory to save %s", w->path);
    begin_section(w, SAC_SECTION_LISTS);
    for (uint32_t l = 0; l < ivf->nlist; l++) {
        uint32_t rows = 0;
        for (uint32_t s = 0; s < w->index->shard_count; s++)
            rows += sac_lists_rows(&w->index->shards[s].ivf->lists, l);
        put(w, &rows, sizeof rows);
    }
    for (uint32_t l = 0; w->st == SAC_OK && l < ivf->nlist; l++) {
        for (uint32_t s = 0; s < w->index->shard_count; s++)
            put_list_of(w, s, l, &page);
        if (page.rows > 0)
            flush_page(w, &ivf->pq, &page);
    }
    end_section(w, SAC_SECTION_LISTS);
    free(page.memory);
}

static void put_ivf(struct writer *w)
{
    const sac_ivf *ivf = sac_index_ivf(w->index);
    size_t codebook = ((size_t)ivf->pq.m << ivf->pq.nbits) * ivf->pq.dsub * sizeof(float);

    begin_section(w, SAC_SECTION_CENTROIDS);
    put_device(w, ivf->centroids, (size_t)ivf->nlist * ivf->coded_dim * sizeof(float));
    end_section(w, SAC_SECTION_CENTROIDS);
    if (!ivf->pq.factors) {
        begin_section(w, SAC_SECTION_CODEBOOK);
        put_device(w, ivf->codebook, codebook);
        end_section(w, SAC_SECTION_CODEBOOK);
    }
    if (ivf->rotation.matrix != NULL) {
        begin_section(w, SAC_SECTION_ROTATION);
        put(w, ivf->rotation.matrix, (size_t)ivf->dim * ivf->coded_dim * sizeof(float));
        end_section(w, SAC_SECTION_ROTATION);
    }
    if (ivf->rotation.signs != NULL) {
        begin_section(w, SAC_SECTION_ROTATION);
        put(w, ivf->rotation.signs, (size_t)SAC_ROTATE_ROUNDS * ivf->coded_dim * sizeof(float));
        end_section(w, SAC_SECTION_ROTATION);
    }
    put_lists(w);
    if (ivf->groups.count > 0) {
        begin_section(w, SAC_SECTION_GROUPS);
        put(w, ivf->groups.first, (ivf->groups.count + 1) * sizeof *ivf->groups.first);
        end_section(w, SAC_SECTION_GROUPS);
    }
}

/* The rows of a shard's page from local slot `first` on, on the host; NULL where that fails. */
static const unsigned char *pull_rows(struct writer *w, uint32_t shard, uint32_t first, uint32_t rows)
{
    const sac_vectors *vectors = &w->index->shards[shard].vectors;
    const unsigned char *page = sac_vectors_row(vectors, first);

    if (sac_vectors_on_host(vectors, first))
        return page;
    return pull(w, shard, page, rows * sac_vectors_row_bytes(vectors));
}

/* Rows first .. of a page of each shard, which follow each other in turn. */
static void put_rows(struct writer *w, uint32_t first, uint32_t rows, size_t row)
{
    const sac_labels *labels = &w->index->labels;
    const unsigned char *pages[SAC_SHARDS_MAX] = {NULL};

    for (uint32_t s = 0; s < labels->shard_count; s++) {
        uint32_t have = sac_labels_slots_of(labels, s);
        if (have > first)
            pages[s] = pull_rows(w, s, first, have - first < rows ? have - first : rows);
    }
    for (uint32_t i = 0; w->st == SAC_OK && i < rows; i++)
        for (uint32_t s = 0; s < labels->shard_count; s++) {
            uint64_t slot = (uint64_t)(first + i) * labels->shard_count + s;
            if (slot < labels->slot_count && sac_labels_live(labels, (uint32_t)slot))
                put(w, pages[s] + i * row, row);
        }
}

static void put_vectors(struct writer *w)
{
    const sac_vectors *vectors = &w->index->shards[0].vectors;
    uint32_t slots = sac_labels_slots_of(&w->index->labels, 0); /* no other has more */
    size_t row = sac_vectors_row_bytes(vectors);

    begin_section(w, SAC_SECTION_VECTORS);
    for (uint64_t first = 0; w->st == SAC_OK && first < slots; first += vectors->page_rows) {
        uint32_t left = slots - (uint32_t)first;
        sac_workspace_mark marks[SAC_SHARDS_MAX] = {{0}};

        for (uint32_t s = 0; s < w->team->count; s++)
            marks[s] = sac_workspace_save(w->team->ws[s]);
        put_rows(w, (uint32_t)first, left < vectors->page_rows ? left : vectors->page_rows, row);
        for (uint32_t s = 0; s < w->team->count; s++)
            sac_workspace_restore(w->team->ws[s], marks[s]);
    }
    end_section(w, SAC_SECTION_VECTORS);
}

static void put_header(struct writer *w, bool with_vectors)
{
    const sac_index *index = w->index;
    sac_index_header *h = &w->header;

    flush(w);
    memcpy(h->magic, SAC_INDEX_FILE_MAGIC, sizeof h->magic);
    h->version = index->spec.rabitq            ? SAC_INDEX_FILE_RABITQ
                 : index->spec.nlist > 0       ? SAC_INDEX_FILE_PAGES
                 : index->spec.dtype == SAC_I8 ? 2
                                               : 1; /* the oldest that knows what is in it */
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
               (index->spec.automatic ? SAC_FILE_AUTO : 0) | (index->spec.dtype == SAC_I8 ? SAC_FILE_I8 : 0) |
               (index->spec.rabitq ? SAC_FILE_RABITQ : 0);
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
    if (sac_index_ivf(index) != NULL)
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

static sac_status save(const sac_index *index, const sac_team *team, const char *path, bool with_vectors)
{
    struct writer *w = calloc(1, sizeof *w);
    sac_error *err = team->ws[0]->err;
    char *temporary = NULL;
    sac_status st;

    if (w == NULL || asprintf(&temporary, "%s.tmp", path) < 0) {
        free(w);
        return sac_fail(err, SAC_NO_MEMORY, "no memory to save %s", path);
    }
    w->index = index;
    w->team = team;
    w->err = err;
    w->path = temporary;
    w->buffer = malloc(BUFFER_BYTES);
    w->rank = calloc((size_t)index->labels.slot_count + 1, sizeof *w->rank);
    w->hash = XXH3_createState();
    if (w->buffer == NULL || w->rank == NULL || w->hash == NULL) {
        st = sac_fail(err, SAC_NO_MEMORY, "no memory to save %s", path);
    } else {
        XXH3_64bits_reset(w->hash);
        w->fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (w->fd < 0)
            st = sac_fail(err, SAC_IO, "cannot create %s: %s", temporary, strerror(errno));
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
    sac_team team;
    sac_status st;

    pthread_mutex_lock(&index->writer);
    st = sac_index_team(index, &team, err);
    if (st == SAC_OK) {
        st = save(index, &team, path, with_vectors);
        sac_team_give_back(&team);
    }
    pthread_mutex_unlock(&index->writer);
    return st;
}
