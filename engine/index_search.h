/* index_search.h -- searching for what an encoder has just made, where it lies. */
#ifndef SACCADE_INDEX_SEARCH_H
#define SACCADE_INDEX_SEARCH_H

#include "engine/embeddings.h"
#include "engine/saccade.h"

/* As sac_index_search(), where query i asks with row i of `rows` instead of a vector of its own. Rows lie in
 * the memory of a device that holds a part of the index, or in the host's. Those on a GPU stay there, and the
 * host waits for nothing but the answers, with which it learns whether a row has no length: SAC_INTERNAL.
 * When this returns rows are there and nobody reads them, unless it failed before it began. */
sac_status sac_index_search_rows(const sac_index *index, sac_query *queries, size_t n,
                                 const sac_embeddings *rows, sac_error *err);

#endif
