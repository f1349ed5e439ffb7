/* Searching: a batch is cut into tiles of bounded memory; the queries of a tile share each operation, and
 * each has settings of its own. Whatever finds candidates (search.h), their distances to the query are then
 * computed one by one from the stored vectors, so a query's answer does not depend on its batch. */
#include "engine/index_search.h"
#include "engine/search.h"

#include <assert.h>
#include <math.h>

#define TILE_QUERIES 256u          /* on the CPU: few enough for its caches */
#define TILE_QUERIES_LISTS 4096u   /* where lists are decoded for all of them: enough for each to meet many */
#define TILE_QUERIES_DEVICE 16384u /* elsewhere */
#define TILE_QUERIES_CHOSEN 1024u  /* each of which brings a few thousand slots */

/* ---- checking ------------------------------------------------------------------------- */

static sac_status check_query(const sac_index *index, const sac_query *q, size_t i, bool has_row,
                              sac_error *err)
{
    if (q->k < 1 || q->k > SAC_K_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "query %zu: k=%u; use 1 to %u", i, q->k, SAC_K_MAX);
    if (!(q->recall >= 0 && q->recall <= 1))
        return sac_fail(err, SAC_INVALID_ARGUMENT, "query %zu: recall=%g; use a number up to 1", i,
                        (double)q->recall);
    if (q->depth > SAC_DEPTH_MAX)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "query %zu: depth=%u; at most %u candidates are re-ranked",
                        i, q->depth, SAC_DEPTH_MAX);
    if (isnan(q->score_threshold))
        return sac_fail(err, SAC_INVALID_ARGUMENT, "query %zu: the score threshold is not a number", i);
    if (q->allow == NULL && q->allow_count != 0)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "query %zu allows %zu labels that are not given", i,
                        q->allow_count);
    if ((q->vector == NULL && !has_row) || q->hits == NULL)
        return sac_fail(err, SAC_INVALID_ARGUMENT, "query %zu has no vector or no room for hits", i);
    return has_row ? SAC_OK : sac_index_check_vector(index, q->vector, "query", i, err);
}

/* ---- batches ---------------------------------------------------------------------------------------- */

/* How a query is searched; a tile holds queries of one kind. */
enum kind { BY_LISTS, BY_CODES, CHOSEN, EXACTLY, KINDS };

static enum kind kind_of(const sac_index *index, const sac_query *q)
{
    if (q->allow != NULL && q->allow_count <= SAC_CHOSEN_MAX && !q->no_rescore)
        return CHOSEN;
    if (sac_index_ivf(index) == NULL || q->exact || (q->recall >= 1 && q->nprobe == 0))
        return EXACTLY;
    return q->no_rescore ? BY_CODES : BY_LISTS;
}

/* What one call asks. */
struct call {
    const sac_index *index;
    sac_team team;
    sac_query *queries;
    size_t n;
    const sac_embeddings *rows; /* as in sac_tile */
    size_t limit;               /* queries that a tile may have, after memory was short */
    bool busy;                  /* there are pieces and work of a tile */
};

/* Whether the next n queries, those of a kind, are to be scanned list by list if they are searched together.
 * Not where there are filters: those may send all of them to thousands of lists more, which takes memory. */
static bool list_major(const struct call *c, enum kind kind, size_t next, size_t n)
{
    uint64_t probes = 0;

    for (size_t i = next; i < next + n; i++) {
        if (kind_of(c->index, &c->queries[i]) != kind)
            continue;
        if (c->queries[i].allow != NULL)
            return false;
        probes += sac_search_plan(c->index, &c->queries[i], NULL).nprobe;
    }
    return sac_ivf_schedule(sac_index_ivf(c->index), probes) == SAC_LIST_MAJOR;
}

/* Queries that a tile may have, the next one being `next`. Long batches are cut into equal parts, so that no
 * list is decoded for a few that are left over. */
static size_t tile_limit(const struct call *c, enum kind kind, size_t next)
{
    size_t left = c->n - next, tiles = (left + TILE_QUERIES_LISTS - 1) / TILE_QUERIES_LISTS;

    if (!sac_device_host_visible(c->index->device))
        return kind == CHOSEN ? TILE_QUERIES_CHOSEN : TILE_QUERIES_DEVICE;
    if (kind < CHOSEN && list_major(c, kind, next, (left + tiles - 1) / tiles))
        return (left + tiles - 1) / tiles;
    return TILE_QUERIES;
}

/* Searches the next tile of those queries of a kind from *next on, and moves *next past it. The index is
 * locked for reading. */
static sac_status search_tile(struct call *c, enum kind kind, size_t limit, size_t *next)
{
    sac_tile tile = {.index = c->index, .team = &c->team, .rows = c->rows, .asked = c->queries};

    limit = limit < c->n ? limit : c->n;
    tile.queries = sac_workspace_host(c->team.ws[0], limit, sizeof(sac_query *));
    if (tile.queries == NULL)
        return sac_workspace_failure(c->team.ws[0]);
    for (; *next < c->n && tile.n < limit; ++*next)
        if (kind_of(c->index, &c->queries[*next]) == kind)
            tile.queries[tile.n++] = &c->queries[*next];
    if (tile.n == 0)
        return SAC_OK;
    c->busy = true;
    return kind == EXACTLY  ? sac_search_exactly(&tile)
           : kind == CHOSEN ? sac_search_chosen(&tile)
                            : sac_search_lists(&tile);
}

static sac_status search_locked(struct call *c, enum kind kind, size_t *next)
{
    const sac_index *index = c->index;
    size_t first = *next, most;
    sac_status st;

    if (!index->trained && !index->spec.automatic)
        return sac_fail(c->team.ws[0]->err, SAC_INVALID_ARGUMENT,
                        "the index is not trained: train it and add vectors first");
    if (index->labels.live_count == 0 || (kind < CHOSEN && sac_index_ivf(index) == NULL)) {
        *next = c->n;
        return c->rows != NULL && kind == EXACTLY ? sac_rows_wait(&c->team, c->rows) : SAC_OK;
    }
    most = tile_limit(c, kind, *next);
    most = most < c->limit ? most : c->limit;
    st = search_tile(c, kind, most, next);
    if (most > 1 && (st == SAC_DEVICE_MEMORY || st == SAC_NO_MEMORY)) { /* again, with half as many */
        c->limit = (most < c->n ? most : c->n) / 2;
        *next = first;
        return SAC_OK;
    }
    return st;
}

/* Kinds that some query may be of, whatever the index holds: bit 1 << kind. */
static unsigned kinds_of(const sac_query *queries, size_t n)
{
    unsigned kinds = 1u << BY_LISTS | 1u << EXACTLY;

    for (size_t i = 0; i < n; i++)
        kinds |= (unsigned)queries[i].no_rescore << BY_CODES | (unsigned)(queries[i].allow != NULL) << CHOSEN;
    return kinds;
}

/* Whatever comes now, no stream is waited for before the rows are there. */
static sac_status await_rows(const struct call *c)
{
    sac_status st = SAC_OK;

    for (uint32_t s = 0; st == SAC_OK && c->rows != NULL && s < c->team.count; s++)
        st = sac_stream_await(c->team.ws[s]->stream, c->rows->ready);
    return st == SAC_OK
               ? SAC_OK
               : sac_fail(c->team.ws[0]->err, st, "cannot wait for embeddings: %s", sac_status_text(st));
}

static sac_status search(sac_index *index, sac_query *queries, size_t n, const sac_embeddings *rows,
                         sac_error *err)
{
    struct call c = {.index = index, .queries = queries, .n = n, .rows = rows, .limit = SIZE_MAX};
    unsigned kinds = kinds_of(queries, n);
    sac_status st = SAC_OK;

    for (size_t i = 0; st == SAC_OK && i < n; i++) {
        queries[i].hit_count = 0;
        st = check_query(index, &queries[i], i, rows != NULL, err);
    }
    if (st == SAC_OK)
        st = sac_index_team(index, &c.team, err);
    if (st != SAC_OK)
        return st;
    st = await_rows(&c);
    for (enum kind kind = 0; kind < KINDS; kind++)
        for (size_t next = (kinds >> kind & 1) != 0 ? 0 : n; st == SAC_OK && next < n;) {
            pthread_rwlock_rdlock(&index->lock);
            st = search_locked(&c, kind, &next);
            pthread_rwlock_unlock(&index->lock);
            if (c.busy) /* else a reset would wait for rows, and the next kind has not begun */
                sac_team_reset(&c.team);
            c.busy = false;
        }
    sac_team_give_back(&c.team);
    return st;
}

/* ---- public ----------------------------------------------------------------------------------------- */

sac_status sac_index_search(const sac_index *index, sac_query *queries, size_t n, sac_error *err)
{
    return search((sac_index *)index, queries, n, NULL, err); /* for its locks and idle workspaces only */
}

sac_status sac_index_search_rows(const sac_index *index, sac_query *queries, size_t n,
                                 const sac_embeddings *rows, sac_error *err)
{
    sac_status st;

    assert(rows->dim == index->dim && rows->n >= n);
    if (!sac_device_host_visible(rows->device))
        return search((sac_index *)index, queries, n, rows, err);
    st = sac_rows_check(*rows->spoiled, err);
    for (size_t i = 0; i < n; i++)
        queries[i].vector = rows->rows + i * rows->dim;
    return st == SAC_OK ? sac_index_search(index, queries, n, err) : st;
}

void sac_query_init(sac_query *query)
{
    *query = (sac_query){.k = 10, .score_threshold = -INFINITY};
}
