/* search.h -- the ways to search a tile (tile.h), each on every shard at once: index_search.c cuts a batch
 * into tiles and chooses the way. Each takes hits for all of the tile's queries; the index is locked for
 * reading. */
#ifndef SACCADE_SEARCH_H
#define SACCADE_SEARCH_H

#include "engine/tile.h"

/* Where a query allows no more labels than this, those are compared one by one: no list is read. */
#define SAC_CHOSEN_MAX SAC_DEPTH_MAX

/* Work of so few queries is put on the stream from a recording; more of them outweigh their launches. */
#define SAC_RECORDED_QUERIES 16u

/* Compares queries with every vector. */
sac_status sac_search_exactly(sac_tile *tile);

/* Compares each query with the labels that it allows, SAC_CHOSEN_MAX at most. */
sac_status sac_search_chosen(sac_tile *tile);

/* Scans the lists that are nearest to each query and re-ranks what that found. */
sac_status sac_search_lists(sac_tile *tile);

/* How deep into the lists a query looks. allowed: what it may find, or NULL: all. */
sac_ivf_query sac_search_plan(const sac_index *index, const sac_query *q, const sac_allowed *allowed);

/* What tells recordings of a search apart, beside its sizes: rows that are there already are not pushed. */
static inline uint64_t sac_search_shape(const sac_tile *tile, uint64_t search)
{
    return search << 1 | (tile->rows != NULL);
}

#endif
