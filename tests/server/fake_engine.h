/* fake_engine.h -- encoders and collections that do next to nothing, as slowly as a test likes.
 *
 * Linked before the engine, these definitions take the place of its own. Pictures are any 1 to 16 bytes: the
 * embedding of a picture is its first four bytes. A picture that starts with 'X' is damaged. A collection
 * keeps vectors of four dimensions in memory and compares by squared distance.
 */
#ifndef SACCADE_TESTS_FAKE_ENGINE_H
#define SACCADE_TESTS_FAKE_ENGINE_H

#include <stdatomic.h>
#include <stdint.h>

struct fake_engine {
    /* how long things take */
    _Atomic uint32_t prepare_ms, embed_ms, search_ms, put_ms;
    _Atomic uint32_t embed_each_ms, search_each_ms; /* and for each row, each query, besides */
    _Atomic int put_fails;                          /* this many puts to come fail */
    _Atomic int one_device;                         /* of encoder and collections */
    _Atomic int joint_fails;                        /* this many searches with pictures to come fail */
    /* what was done */
    _Atomic uint32_t prepare_calls, embed_calls, embed_rows, embed_rows_max;
    _Atomic uint32_t search_calls, search_queries, search_queries_max;
    _Atomic uint32_t joint_calls; /* with pictures: each counts as embedding and as search too */
    _Atomic uint32_t put_calls, put_items, put_items_max;
};
extern struct fake_engine fake_engine;

#endif
