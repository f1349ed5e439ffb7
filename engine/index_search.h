/* index_search.h -- searching for what an encoder has just made, where it lies. */
#ifndef SACCADE_INDEX_SEARCH_H
#define SACCADE_INDEX_SEARCH_H

#include "engine/embeddings.h"
#include "engine/saccade.h"

/* Whether sac_index_search_rows() takes rows in this device's memory: one that holds a part of the index, or
 * one whose memory is the host's. */
bool sac_index_takes_rows_of(const sac_index *index, const sac_device *device);

/* As sac_index_search(), where query i asks with row i of `rows` instead of a vector of its own. Rows on a
 * GPU stay there, and the host waits for nothing but the answers, with which it learns whether a row has no
 * length: SAC_INTERNAL. When this returns rows are there and nobody reads them, unless it failed before it
 * began. */
sac_status sac_index_search_rows(const sac_index *index, sac_query *queries, size_t n,
                                 const sac_embeddings *rows, sac_error *err);

#endif
