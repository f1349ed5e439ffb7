/* made_rows.h -- rows in a device's memory as an encoder leaves them: put on a stream, and waited for by
 * nobody. */
#ifndef SACCADE_TESTS_MADE_ROWS_H
#define SACCADE_TESTS_MADE_ROWS_H

#include "engine/index_search.h"
#include "tests/engine/vector_set.h"

struct made_rows {
    sac_embeddings rows;
    sac_stream *stream;
    void *memory, *spoiled;
};

static inline struct made_rows make_rows(sac_device *device, size_t n, uint32_t dim, const float *x,
                                         uint32_t spoiled)
{
    struct made_rows m = {0};

    assert_ok(sac_stream_open(device, 0, &m.stream, err));
    assert_ok(sac_buffer_alloc(device, n, dim * sizeof *x, &m.memory, err));
    assert_ok(sac_buffer_alloc(device, 1, sizeof spoiled, &m.spoiled, err));
    assert_int_equal(sac_stream_upload(m.stream, m.memory, x, n * dim * sizeof *x), SAC_OK);
    assert_int_equal(sac_stream_upload(m.stream, m.spoiled, &spoiled, sizeof spoiled), SAC_OK);
    m.rows = (sac_embeddings){.device = device, .n = n, .dim = dim, .rows = m.memory, .spoiled = m.spoiled};
    if (!sac_device_host_visible(device)) {
        assert_ok(sac_event_open(device, &m.rows.ready, err));
        assert_int_equal(sac_event_record(m.rows.ready, m.stream), SAC_OK);
    }
    return m;
}

static inline void free_rows(struct made_rows *m)
{
    sac_event_close(m->rows.ready);
    sac_buffer_free(m->rows.device, m->memory);
    sac_buffer_free(m->rows.device, m->spoiled);
    sac_stream_close(m->stream);
}

#endif
