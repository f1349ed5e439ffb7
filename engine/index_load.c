/* Reading an index from disk; index_file.h has the format. Nothing in the file is believed: every number is
 * checked before it sizes or indexes anything. */
#include "engine/calibrate.h"
#include "engine/index_reader.h"
#include "engine/plan.h"
#include "kernels/page.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#define STAGE_BYTES ((size_t)4 << 20) /* of pages on their way to the shards: at least a hundred */

/* ---- the header ------------------------------------------------------------------------------------- */

static sac_status read_header(struct reader *r)
{
    sac_index_header *h = &r->header;
    struct stat info;
    sac_status st;

    if (fstat(r->fd, &info) != 0)
        return sac_fail(r->err, SAC_IO, "cannot read %s: %s", r->path, strerror(errno));
    if (!S_ISREG(info.st_mode) || info.st_size < (off_t)sizeof *h)
        return damaged(r, "too short to be an index");
    st = read_at(r, 0, h, sizeof *h);
    if (st != SAC_OK)
        return st;
    if (memcmp(h->magic, SAC_INDEX_FILE_MAGIC, sizeof h->magic) != 0 || h->endian != SAC_INDEX_FILE_ENDIAN)
        return damaged(r, "does not start as an index does");
    if (h->version > SAC_INDEX_FILE_VERSION)
        return sac_fail(r->err, SAC_VERSION_MISMATCH,
                        "%s has format version %u, this program reads up to %u: use a newer program", r->path,
                        h->version, SAC_INDEX_FILE_VERSION);
    if (h->checksum != XXH3_64bits(h, offsetof(sac_index_header, checksum)) || h->version == 0)
        return damaged(r, "the header fails its checksum");
    if (h->version < SAC_INDEX_FILE_PAGES && h->nlist > 0)
        return sac_fail(r->err, SAC_VERSION_MISMATCH,
                        "%s has format version %u, whose lists this program does not read: build the index "
                        "again",
                        r->path, h->version);
    if (h->file_length != (uint64_t)info.st_size)
        return damaged(r, "the file is not as long as it says");
    for (int i = 0; i < SAC_SECTION_COUNT; i++)
        if (h->sections[i].offset % SAC_INDEX_FILE_PAGE != 0 || h->sections[i].offset > h->file_length ||
            h->sections[i].length > h->file_length - h->sections[i].offset)
            return damaged(r, "a section lies outside the file");
    return SAC_OK;
}

static bool section_is(const sac_index_header *h, enum sac_index_section section, uint64_t rows,
                       uint64_t row_bytes)
{
    uint64_t bytes;

    return !__builtin_mul_overflow(rows, row_bytes, &bytes) && h->sections[section].length == bytes;
}

/* The spec that the header describes, made sure of by writing it down and reading it back. */
static sac_status read_spec(const struct reader *r, sac_index_spec *spec)
{
    const sac_index_header *h = &r->header;
    sac_index_spec again;
    char text[64];

    *spec = (sac_index_spec){.automatic = (h->flags & SAC_FILE_AUTO) != 0,
                             .nlist = h->nlist,
                             .m = h->m,
                             .nbits = h->nbits,
                             .rotate = (h->flags & SAC_FILE_ROTATED) != 0,
                             .rabitq = (h->flags & SAC_FILE_RABITQ) != 0,
                             .coded_dim = h->coded_dim,
                             .dtype = (h->flags & SAC_FILE_I8) != 0    ? SAC_I8
                                      : (h->flags & SAC_FILE_F16) != 0 ? SAC_F16
                                                                       : SAC_F32};
    if (h->dim < 1 || h->dim > SAC_DIM_MAX || h->metric > SAC_METRIC_COSINE || (h->nlist > 0 && h->m == 0))
        return damaged(r, "dimension, metric or kind of index are out of range");
    sac_index_spec_format(spec, h->dim, text, sizeof text);
    if (sac_index_spec_parse(text, h->dim, &again, NULL) != SAC_OK || again.automatic != spec->automatic ||
        again.nlist != spec->nlist || again.m != spec->m || again.nbits != spec->nbits ||
        again.rotate != spec->rotate || again.rabitq != spec->rabitq || again.coded_dim != spec->coded_dim ||
        again.dtype != spec->dtype)
        return damaged(r, "its kind of index makes no sense");
    return SAC_OK;
}

/* None, or of whole numbers, one more than there are groups; a group that holds no list is of no use. */
static bool groups_are_possible(const sac_index_header *h, uint64_t lists)
{
    uint64_t length = h->sections[SAC_SECTION_GROUPS].length, numbers = length / sizeof(uint32_t);

    return length == 0 || (length % sizeof(uint32_t) == 0 && numbers >= 2 && numbers <= lists + 1);
}

static sac_status check_lengths(const struct reader *r, const sac_index_spec *spec)
{
    const sac_index_header *h = &r->header;
    uint64_t trained_lists = (h->flags & SAC_FILE_TRAINED) != 0 ? spec->nlist : 0;
    uint64_t codewords = trained_lists > 0 && !spec->rabitq ? (uint64_t)1 << spec->nbits : 0;
    uint64_t rotation = trained_lists == 0 ? 0
                        : spec->rotate     ? (uint64_t)spec->coded_dim * h->dim
                        : spec->rabitq     ? (uint64_t)SAC_ROTATE_ROUNDS * spec->coded_dim
                                           : 0;
    size_t vector_bytes = sac_row_bytes(spec->dtype, h->dim);

    if (h->count == UINT32_MAX || h->curve_count > SAC_CURVE_MAX ||
        (h->count > 0 && !(h->flags & SAC_FILE_TRAINED)) ||
        !section_is(h, SAC_SECTION_CURVE, h->curve_count, 16) ||
        !section_is(h, SAC_SECTION_LABELS, h->count, 8) ||
        !section_is(h, SAC_SECTION_CENTROIDS, trained_lists, spec->coded_dim * sizeof(float)) ||
        !section_is(h, SAC_SECTION_CODEBOOK, codewords, spec->coded_dim * sizeof(float)) ||
        !section_is(h, SAC_SECTION_ROTATION, rotation, sizeof(float)) ||
        !groups_are_possible(h, trained_lists) ||
        !section_is(h, SAC_SECTION_VECTORS, h->flags & SAC_FILE_VECTORS ? h->count : 0, vector_bytes))
        return damaged(r, "a section is not as long as it should be");
    return SAC_OK;
}

/* ---- sections --------------------------------------------------------------------------------------- */

static sac_status get_curve(struct reader *r)
{
    sac_recall_curve *curve = &r->index->curve;
    sac_status st = SAC_OK;

    open_section(r, SAC_SECTION_CURVE);
    for (uint32_t i = 0; st == SAC_OK && i < r->header.curve_count; i++) {
        sac_recall_point *point = &curve->points[i];
        st = get(r, &point->recall, 4);
        if (st == SAC_OK)
            st = get(r, &point->nprobe, 4);
        if (st == SAC_OK)
            st = get(r, &point->depth, 4);
        if (st == SAC_OK)
            st = get(r, &point->reach, 4);
        if (st == SAC_OK &&
            (!(point->recall >= 0 && point->recall <= 1) || point->nprobe < 1 ||
             point->nprobe > r->header.nlist || point->depth < 1 || point->depth > SAC_DEPTH_MAX ||
             !(point->reach == 0 || (point->reach >= 1 && point->reach < INFINITY))))
            st = damaged(r, "the recall curve is out of range");
    }
    curve->count = r->header.curve_count;
    return st == SAC_OK ? close_section(r, SAC_SECTION_CURVE) : st;
}

static sac_status get_labels(struct reader *r)
{
    sac_labels *labels = &r->index->labels;
    uint64_t chunk[512] = {0};
    sac_status st = SAC_OK;

    open_section(r, SAC_SECTION_LABELS);
    for (uint32_t i = 0; st == SAC_OK && i < r->header.count;) {
        uint32_t rows = r->header.count - i < 512 ? r->header.count - i : 512;
        st = get(r, chunk, rows * sizeof *chunk);
        if (st == SAC_OK)
            st = sac_labels_reserve(labels, rows, chunk, r->err);
        for (uint32_t c = 0; st == SAC_OK && c < rows; c++, i++) {
            if (sac_labels_find(labels, chunk[c]) != SAC_NO_SLOT)
                st = damaged(r, "a label is there twice");
            else
                sac_labels_insert(labels, chunk[c]);
        }
    }
    for (uint32_t s = 0; st == SAC_OK && s < r->team.count; s++)
        if (sac_labels_sync(labels, s, r->team.ws[s]->stream) != SAC_OK)
            st = sac_fail(r->err, SAC_DEVICE_LOST, "cannot copy the labels to the device");
    return st == SAC_OK ? close_section(r, SAC_SECTION_LABELS) : st;
}

/* A section of nothing but floats, as a piece of host memory; NULL where it is empty. */
static sac_status get_floats(struct reader *r, enum sac_index_section section, float **out)
{
    size_t bytes = r->header.sections[section].length;
    sac_status st;

    *out = NULL;
    open_section(r, section);
    if (bytes == 0)
        return SAC_OK;
    *out = sac_workspace_host(r->ws, bytes, 1);
    st = *out == NULL ? sac_workspace_failure(r->ws) : get(r, *out, bytes);
    if (st == SAC_OK)
        st = close_section(r, section);
    if (st == SAC_OK && !all_finite(*out, bytes / sizeof **out))
        st = damaged(r, "a centroid, codeword or rotation is not finite");
    return st;
}

/* ---- lists ------------------------------------------------------------------------------------------ */

static sac_status check_page(const struct reader *r, unsigned char *page, uint32_t rows)
{
    const sac_pq_shape *pq = &sac_index_ivf(r->index)->pq;
    uint8_t high = pq->nbits == 4 ? 0 : (uint8_t)(0xff << pq->nbits), seen = 0;

    for (size_t i = 0; i < sac_page_code_bytes(pq); i++)
        seen |= page[i];
    if ((seen & high) != 0)
        return damaged(r, "a code is beyond its codebook");
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t slot = sac_page_slots(pq, page)[i];
        if (slot >= r->header.count)
            return damaged(r, "a list holds a vector that is not there");
        if ((r->listed[slot / 64] >> slot % 64 & 1) != 0)
            return damaged(r, "a vector is in the lists twice");
        r->listed[slot / 64] |= UINT64_C(1) << slot % 64;
    }
    if (!all_finite(sac_page_bias(pq, page), rows))
        return damaged(r, "a norm in a list is not finite");
    for (uint32_t i = 0; pq->factors && i < rows; i++)
        if (!(sac_page_factors(pq, page)[i] >= 0 && isfinite(sac_page_factors(pq, page)[i])))
            return damaged(r, "a factor in a list is out of range");
    return SAC_OK;
}

/* The pages of `rows` entries. */
static sac_status get_pages(struct reader *r, uint32_t rows, unsigned char *pages)
{
    size_t bytes = sac_page_bytes(&sac_index_ivf(r->index)->pq);
    sac_status st = get(r, pages, sac_page_count(rows) * bytes);

    for (uint32_t at = 0; st == SAC_OK && at < rows; at += SAC_PAGE_ROWS, pages += bytes)
        st = check_page(r, pages, rows - at < SAC_PAGE_ROWS ? rows - at : SAC_PAGE_ROWS);
    return st;
}

/* Host memory from which pages are copied to the shards, nobody waiting before it is full. */
struct stage {
    unsigned char *memory;
    uint32_t pages, used;
};

static sac_status stage_make(const struct reader *r, struct stage *stage)
{
    size_t bytes = sac_page_bytes(&sac_index_ivf(r->index)->pq);

    *stage = (struct stage){.pages = (uint32_t)(STAGE_BYTES / bytes)};
    stage->memory = sac_workspace_host(r->ws, stage->pages, bytes);
    return stage->memory == NULL ? sac_workspace_failure(r->ws) : SAC_OK;
}

static sac_status stage_take(struct reader *r, struct stage *stage, uint32_t pages, unsigned char **out)
{
    sac_status st = SAC_OK;

    if (pages > stage->pages - stage->used) {
        st = sac_team_wait(&r->team);
        stage->used = 0;
    }
    *out = stage->memory + stage->used * sac_page_bytes(&sac_index_ivf(r->index)->pq);
    stage->used += pages;
    return st;
}

static sac_lists *lists_of(const struct reader *r, uint32_t shard)
{
    return &r->index->shards[shard].ivf->lists;
}

/* A list where there is one shard: pages as they are. */
static sac_status get_list(struct reader *r, uint32_t list, uint32_t size, struct stage *stage)
{
    uint32_t most = stage->pages / 4 * SAC_PAGE_ROWS;
    sac_status st = SAC_OK;

    for (uint32_t left = size, rows; st == SAC_OK && left > 0; left -= rows) {
        unsigned char *pages;

        rows = left < most ? left : most;
        st = stage_take(r, stage, sac_page_count(rows), &pages);
        if (st == SAC_OK)
            st = get_pages(r, rows, pages);
        if (st == SAC_OK)
            st = sac_lists_load(lists_of(r, 0), r->ws, list, rows, pages);
    }
    return st;
}

/* A page of a list that a shard is dealt entries of. */
struct hand {
    unsigned char *page;
    uint32_t rows;
};

/* Hands a page over; it is empty then. */
static sac_status hand_over(struct reader *r, uint32_t shard, uint32_t list, struct hand *hand,
                            struct stage *stage)
{
    unsigned char *page;
    sac_status st = hand->rows > 0 ? stage_take(r, stage, 1, &page) : SAC_OK;

    if (st != SAC_OK || hand->rows == 0)
        return st;
    memcpy(page, hand->page, sac_page_bytes(&lists_of(r, shard)->pq));
    st = sac_lists_load(lists_of(r, shard), r->team.ws[shard], list, hand->rows, page);
    hand->rows = 0;
    return st;
}

static sac_status deal_page(struct reader *r, uint32_t list, unsigned char *from, uint32_t rows,
                            struct hand *hands, struct stage *stage)
{
    const sac_pq_shape *pq = &sac_index_ivf(r->index)->pq;
    sac_status st = SAC_OK;

    for (uint32_t i = 0; st == SAC_OK && i < rows; i++) {
        uint32_t slot = sac_page_slots(pq, from)[i], shard = slot % r->team.count;
        struct hand *to = &hands[shard];

        sac_page_copy(pq, to->page, to->rows, from, i, 1);
        sac_page_slots(pq, to->page)[to->rows++] = slot / r->team.count;
        if (to->rows == SAC_PAGE_ROWS)
            st = hand_over(r, shard, list, to, stage);
    }
    return st;
}

/* A list where there are several shards: to each its entries. The last hand is what comes from the file. */
static sac_status deal_list(struct reader *r, uint32_t list, uint32_t size, struct hand *hands,
                            struct stage *stage)
{
    struct hand *file = &hands[r->team.count];
    sac_status st = SAC_OK;

    for (uint32_t left = size; st == SAC_OK && left > 0; left -= file->rows) {
        file->rows = left < SAC_PAGE_ROWS ? left : SAC_PAGE_ROWS;
        st = get_pages(r, file->rows, file->page);
        if (st == SAC_OK)
            st = deal_page(r, list, file->page, file->rows, hands, stage);
    }
    for (uint32_t s = 0; st == SAC_OK && s < r->team.count; s++)
        st = hand_over(r, s, list, &hands[s], stage);
    return st;
}

/* Memory for all lists at once, of which shards have about equal parts. */
static sac_status reserve_lists(struct reader *r, const uint32_t *sizes)
{
    sac_status st = SAC_OK;
    uint32_t pages = 0;

    for (uint32_t l = 0; l < r->header.nlist; l++)
        pages += sac_page_count(sizes[l] / r->team.count + (sizes[l] % r->team.count != 0));
    for (uint32_t s = 0; st == SAC_OK && s < r->team.count; s++)
        st = sac_lists_reserve(lists_of(r, s), r->team.ws[s], pages);
    return st;
}

static sac_status get_all_lists(struct reader *r, const uint32_t *sizes)
{
    size_t bytes = sac_page_bytes(&sac_index_ivf(r->index)->pq);
    struct hand hands[SAC_SHARDS_MAX + 1] = {{NULL}};
    struct stage stage;
    sac_status st = stage_make(r, &stage);

    for (uint32_t s = 0; st == SAC_OK && s <= r->team.count; s++) {
        hands[s].page = sac_workspace_host(r->ws, 1, bytes);
        if (hands[s].page == NULL)
            return sac_workspace_failure(r->ws);
        memset(hands[s].page, 0, bytes);
    }
    if (st == SAC_OK)
        st = reserve_lists(r, sizes);
    for (uint32_t l = 0; st == SAC_OK && l < r->header.nlist; l++)
        st = r->team.count == 1 ? get_list(r, l, sizes[l], &stage) : deal_list(r, l, sizes[l], hands, &stage);
    return st;
}

static sac_status finish_lists(struct reader *r)
{
    sac_status st = SAC_OK;

    for (uint32_t s = 0; st == SAC_OK && s < r->team.count; s++)
        st = sac_lists_sync(lists_of(r, s), r->team.ws[s]);
    return st == SAC_OK ? sac_team_wait(&r->team) : st;
}

static sac_status get_lists(struct reader *r)
{
    uint32_t nlist = r->header.nlist, *sizes = sac_workspace_host(r->ws, nlist, sizeof *sizes);
    uint64_t total = 0, pages = 0;
    sac_status st;

    open_section(r, SAC_SECTION_LISTS);
    st = sizes == NULL ? sac_workspace_failure(r->ws) : get(r, sizes, nlist * sizeof *sizes);
    for (uint32_t l = 0; st == SAC_OK && l < nlist; l++) {
        total += sizes[l];
        pages += sac_page_count(sizes[l]);
    }
    if (st == SAC_OK && r->left != pages * sac_page_bytes(&sac_index_ivf(r->index)->pq))
        st = damaged(r, "the lists are not as long as they say");
    if (st == SAC_OK && total != r->header.count) /* each is there once: see check_page() */
        st = damaged(r, "the lists do not hold every vector once");
    if (st == SAC_OK) {
        size_t words = (size_t)r->header.count / 64 + 1;
        r->listed = sac_workspace_host(r->ws, words, sizeof *r->listed);
        st = r->listed == NULL ? sac_workspace_failure(r->ws) : SAC_OK;
        if (st == SAC_OK)
            memset(r->listed, 0, words * sizeof *r->listed);
    }
    if (st == SAC_OK)
        st = get_all_lists(r, sizes);
    if (st == SAC_OK)
        st = finish_lists(r);
    return st == SAC_OK ? close_section(r, SAC_SECTION_LISTS) : st;
}

/* Groups of lists, as a piece of host memory. */
static sac_status get_groups(struct reader *r, sac_ivf_learnt *learnt)
{
    uint32_t numbers = (uint32_t)(r->header.sections[SAC_SECTION_GROUPS].length / sizeof(uint32_t));
    uint32_t *first = sac_workspace_host(r->ws, numbers, sizeof *first);
    sac_status st;

    open_section(r, SAC_SECTION_GROUPS);
    if (numbers == 0)
        return SAC_OK;
    st = first == NULL ? sac_workspace_failure(r->ws) : get(r, first, numbers * sizeof *first);
    if (st == SAC_OK)
        st = close_section(r, SAC_SECTION_GROUPS);
    for (uint32_t i = 1; st == SAC_OK && i < numbers; i++)
        if (first[i] < first[i - 1])
            st = damaged(r, "the groups of lists are out of order");
    if (st == SAC_OK && (first[0] != 0 || first[numbers - 1] != r->header.nlist))
        st = damaged(r, "the groups do not hold every list");
    learnt->group_count = numbers - 1;
    learnt->group_first = first;
    return st;
}

/* Those of RaBitQ's rotation. */
static sac_status check_signs(const struct reader *r, const float *signs)
{
    size_t count = r->header.sections[SAC_SECTION_ROTATION].length / sizeof *signs;

    for (size_t i = 0; i < count; i++)
        if (signs[i] != 1 && signs[i] != -1)
            return damaged(r, "a sign of the rotation is neither 1 nor -1");
    return SAC_OK;
}

static sac_status get_ivf(struct reader *r)
{
    sac_index *index = r->index;
    float *centroids, *codebook, *rotation;
    sac_ivf_learnt learnt = {0};
    sac_status st = get_floats(r, SAC_SECTION_CENTROIDS, &centroids);

    if (st == SAC_OK)
        st = get_floats(r, SAC_SECTION_CODEBOOK, &codebook);
    if (st == SAC_OK)
        st = get_floats(r, SAC_SECTION_ROTATION, &rotation);
    if (st == SAC_OK && index->spec.rabitq)
        st = check_signs(r, rotation);
    if (st == SAC_OK)
        st = get_groups(r, &learnt);
    if (st != SAC_OK)
        return st;
    learnt.centroids = centroids;
    learnt.codebook = codebook;
    learnt.rotation = rotation;
    for (uint32_t s = 0; st == SAC_OK && s < index->shard_count; s++) {
        sac_shard *shard = &index->shards[s];
        st = sac_ivf_open(shard->device, index->dim, index->metric, &index->spec, &shard->ivf, r->err);
        if (st == SAC_OK)
            st = sac_ivf_restore(shard->ivf, r->team.ws[s], &learnt);
    }
    return st == SAC_OK ? get_lists(r) : st;
}

/* ---- the whole file --------------------------------------------------------------------------------- */

static sac_status load(struct reader *r, sac_device *device, sac_vector_fn fn, void *context)
{
    sac_index_params params;
    sac_index_spec spec;
    char text[64];
    sac_status st = read_header(r);

    if (st == SAC_OK)
        st = read_spec(r, &spec);
    if (st == SAC_OK)
        st = check_lengths(r, &spec);
    if (st != SAC_OK)
        return st;
    sac_index_spec_format(&spec, r->header.dim, text, sizeof text);
    params = (sac_index_params){r->header.dim, (sac_metric)r->header.metric, text, r->header.seed};
    st = sac_plan_check(device, &spec, r->header.dim, r->header.count, 0, r->err);
    if (st == SAC_OK)
        st = sac_index_create(device, &params, &r->index, r->err);
    if (st == SAC_OK)
        st = sac_index_team(r->index, &r->team, r->err);
    if (st != SAC_OK)
        return st;
    r->ws = r->team.ws[0];
    r->index->trained = (r->header.flags & SAC_FILE_TRAINED) != 0;
    st = get_curve(r);
    if (st == SAC_OK)
        st = get_labels(r);
    if (st == SAC_OK && r->index->trained && spec.nlist > 0)
        st = get_ivf(r);
    if (st == SAC_OK)
        st = sac_index_load_vectors(r, fn, context);
    if (st == SAC_OK && r->index->labels.live_count >= SAC_CALIBRATE_COUNT_MIN)
        st = sac_index_calibrate(r->index, r->ws);
    sac_team_give_back(&r->team);
    return st;
}

sac_status sac_index_load(sac_device *device, const char *path, sac_vector_fn vectors, void *context,
                          sac_index **out, sac_error *err)
{
    struct reader r = {.path = path, .err = err};
    sac_status st;

    *out = NULL;
    r.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (r.fd < 0)
        return sac_fail(err, errno == ENOENT ? SAC_NOT_FOUND : SAC_IO, "cannot open %s: %s", path,
                        strerror(errno));
    r.hash = XXH3_createState();
    st = r.hash == NULL ? sac_fail(err, SAC_NO_MEMORY, "no memory to load %s", path)
                        : load(&r, device, vectors, context);
    XXH3_freeState(r.hash);
    close(r.fd);
    if (st != SAC_OK) {
        sac_index_close(r.index);
        return st;
    }
    *out = r.index;
    return SAC_OK;
}
