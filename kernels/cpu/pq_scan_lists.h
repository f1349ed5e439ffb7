/* pq_scan_lists.h -- the list-major scan: what its steps share. The whole is told in pq_scan_lists.c; passes
 * over lists are in pq_scan_passes.c, what queries keep in pq_scan_kept.c. */
#ifndef SACCADE_CPU_PQ_SCAN_LISTS_H
#define SACCADE_CPU_PQ_SCAN_LISTS_H

#include "kernels/cpu/keys.h"
#include "kernels/cpu/pq_scan_levels.h"

enum {
    SAC_TILES_PAGES = 16,    /* of an item, at most */
    SAC_TILES_STARTED = 16,  /* queries that are started by a task */
    SAC_TILES_STAGED = 4096, /* rows that a thread holds back */
};

/* A query's part in a list. */
struct sac_tiles_pair {
    uint32_t query;
    float base;
};

/* A list that is probed. */
struct sac_tiles_part {
    uint32_t list;
    uint32_t first_pair, pair_count;
    uint32_t first_item; /* of this list: pieces of it, SAC_TILES_PAGES at a time */
};

/* A row that may be among the nearest of a task's query. */
struct sac_tiles_staged {
    float distance;
    uint32_t slot, query;
};

/* What all threads know of a query; one line of the cache. */
struct sac_tiles_query {
    _Alignas(64) uint32_t limit; /* high half of a key. atomic, as count */
    uint32_t count;              /* rows that wanted a place */
    struct sac_pq_level_query levels;
};

struct sac_tiles_worker {
    struct sac_tile_room *room;
    int8_t *numbers; /* [SAC_TILES_QUERIES + SAC_TILE_QUERIES][depth] */
    struct sac_tiles_staged *staged;
    float *distance; /* [capacity] */
    uint64_t *keys;  /* [capacity] */
};

struct sac_tiles_scan {
    const struct sac_pq_scan_args *args; /* of this part of the batch */
    struct sac_pq_levels levels;
    uint32_t capacity; /* rows that a query has room for */
    size_t batch;      /* queries done at a time */
    struct sac_tiles_query *queries;
    int8_t *numbers;   /* [queries][depth] */
    uint64_t *found;   /* [queries][capacity], of distance and slot; all ones where nothing is yet */
    uint32_t *cursors; /* [nlist] */
    struct sac_tiles_pair *pairs;
    struct sac_tiles_part *parts;
    uint32_t part_count, item_count, task_items; /* in all; of a task */
    struct sac_tiles_worker *workers;
    float *table;                 /* [m][2^nbits]: of a query that is scanned by it */
    unsigned char *table_scratch; /* of that scan */
    size_t table_scratch_bytes;
};

static inline uint32_t sac_tiles_limit_of(float distance)
{
    return (uint32_t)(sac_key(distance, 0) >> 32);
}

static inline float sac_tiles_limit(const struct sac_tiles_query *query)
{
    return sac_key_distance((uint64_t)__atomic_load_n(&query->limit, __ATOMIC_RELAXED) << 32);
}

void sac_tiles_lower_limit(struct sac_tiles_query *query, float distance);

/* Lowers the limit of query q by the n distances in w->distance, if those are enough. */
void sac_tiles_lower_limit_from(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, uint32_t q,
                                uint32_t n);

/* The same by the first n rows that it has kept, whoever found them. What others are just writing may not be
 * seen yet, and the limit is higher. */
void sac_tiles_refresh_limit(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, uint32_t q,
                             uint32_t n);

/* Task of SAC_TILES_STARTED queries: their numbers, and first limits from samples. */
void sac_tiles_start_queries(void *scan, uint32_t task, uint32_t worker);

/* Items first..end-1 of all lists. */
void sac_tiles_scan_items(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, uint32_t first,
                          uint32_t end);

/* Results of a query whose rows found no room, from all its lists anew. */
void sac_tiles_scan_alone(const struct sac_tiles_scan *s, const struct sac_tiles_worker *w, uint32_t q);

/* Task of a query: results from what it kept, unless that was too much. */
void sac_tiles_finish_query(void *scan, uint32_t q, uint32_t worker);

#endif
