/* training.h -- a workspace and data for the tests of what is learnt. */
#ifndef SACCADE_TESTS_TRAINING_H
#define SACCADE_TESTS_TRAINING_H

#include "engine/workspace.h"
#include "tests/engine/vector_set.h"

struct training {
    sac_device *device;
    sac_workspace_pool pool;
    sac_workspace *ws;
    sac_error err;
};

static inline struct training *training_open(const char *device, uint32_t threads)
{
    struct training *t = calloc(1, sizeof *t);
    sac_device_options options;

    sac_device_options_init(&options);
    options.name = test_device_name(device);
    options.threads = threads;
    assert_ok(sac_device_open(&options, &t->device, err));
    sac_workspace_pool_init(&t->pool, t->device);
    assert_ok(sac_workspace_borrow(&t->pool, &t->ws, err));
    t->ws->err = &t->err;
    return t;
}

static inline void training_close(struct training *t)
{
    sac_workspace_give_back(&t->pool, t->ws);
    sac_workspace_pool_free(&t->pool);
    sac_device_close(t->device);
    free(t);
}

/* A piece of the workspace that holds a copy of n floats. */
static inline sac_span training_copy(struct training *t, const float *x, size_t n)
{
    sac_span span;

    assert_true(sac_workspace_span(t->ws, n, sizeof *x, &span));
    memcpy(span.host, x, span.bytes);
    assert_ok(sac_span_push(t->ws, &span));
    return span;
}

#endif
