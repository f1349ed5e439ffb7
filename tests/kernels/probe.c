/* Which lists a query probes where the contract leaves no choice: at the border of reach, where more is
 * needed than the near groups hold, and alone as in a batch. */
#include "kernels/backend.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LISTS = 1500, DIM = 67, ROUGH = 4 + 68, GROUPS = 30, QUERIES = 100, WIDTH = 1200 };

static const char *const isas[] = {NULL, "base", "avx2", "avx512core", "avx512"};

/* An index of its own memory, in which every list holds ten entries and every query wants ten lists. */
struct world {
    float centroids[LISTS * DIM], norms[LISTS], heads[GROUPS * DIM], head_norms[GROUPS];
    unsigned char rough[LISTS * ROUGH + SAC_ROUGH_SPARE], rough_heads[GROUPS * ROUGH + SAC_ROUGH_SPARE];
    sac_list lists[LISTS];
    uint32_t group_first[GROUPS + 1];
    float queries[QUERIES * DIM], reaches[QUERIES];
    uint32_t nprobes[QUERIES], needs[QUERIES], counts[QUERIES], held[QUERIES];
    sac_probe probes[QUERIES * WIDTH];
    struct sac_probe_args args;
    sac_device *device;
    sac_stream *stream;
};

/* isa NULL: the plain C twins. */
static struct world *world_open(const char *isa, uint32_t threads)
{
    struct world *w = calloc(1, sizeof *w);
    sac_device_options options;
    sac_error err;

    sac_device_options_init(&options);
    options.name = isa != NULL ? "cpu" : "ref";
    options.isa = isa;
    options.threads = threads;
    assert_int_equal(sac_device_open(&options, &w->device, &err), SAC_OK);
    assert_int_equal(sac_stream_open(w->device, 0, &w->stream, &err), SAC_OK);
    for (uint32_t i = 0; i < LISTS; i++)
        w->lists[i].row_count = 10;
    for (uint32_t q = 0; q < QUERIES; q++) {
        w->nprobes[q] = 10;
        w->reaches[q] = INFINITY;
    }
    w->args = (struct sac_probe_args){.queries = w->queries,
                                      .query_count = 1,
                                      .dim = DIM,
                                      .distance = SAC_DISTANCE_L2SQ,
                                      .centroids = w->centroids,
                                      .centroid_norms = w->norms,
                                      .lists = w->lists,
                                      .nlist = LISTS,
                                      .nprobes = w->nprobes,
                                      .needs = w->needs,
                                      .reaches = w->reaches,
                                      .width = WIDTH,
                                      .probes = w->probes,
                                      .counts = w->counts,
                                      .held = w->held};
    return w;
}

static void world_close(struct world *w)
{
    sac_stream_close(w->stream);
    sac_device_close(w->device);
    free(w);
}

static void add_rough(struct world *w, const float *x, uint32_t n, void *rough)
{
    uint32_t rows[LISTS];
    void *pages[1] = {rough};

    for (uint32_t i = 0; i < n; i++)
        rows[i] = i;
    assert_int_equal(
        sac_device_ops(w->device)->rows_write(
            w->stream,
            &(struct sac_rows_write_args){
                .x = x, .n = n, .dim = DIM, .pages = pages, .page_rows = n, .dtype = SAC_I8, .rows = rows}),
        SAC_OK);
}

/* What follows from the centroids; groups are of 50 lists each. */
static void finish(struct world *w, bool grouped, bool rough)
{
    for (uint32_t i = 0; i < LISTS; i++)
        for (uint32_t d = 0; d < DIM; d++)
            w->norms[i] += w->centroids[i * DIM + d] * w->centroids[i * DIM + d];
    for (uint32_t g = 0; g < GROUPS; g++) {
        w->group_first[g + 1] = (g + 1) * (LISTS / GROUPS);
        for (uint32_t d = 0; d < DIM; d++) {
            float *head = &w->heads[g * DIM + d];

            for (uint32_t i = w->group_first[g]; i < w->group_first[g + 1]; i++)
                *head += w->centroids[i * DIM + d] / (LISTS / GROUPS);
            w->head_norms[g] += *head * *head;
        }
    }
    if (grouped) {
        w->args.group_count = GROUPS;
        w->args.group_first = w->group_first;
        w->args.heads = w->heads;
        w->args.head_norms = w->head_norms;
    }
    if (rough) {
        add_rough(w, w->centroids, LISTS, w->rough);
        add_rough(w, w->heads, GROUPS, w->rough_heads);
        w->args.rough = w->rough;
        w->args.rough_heads = grouped ? w->rough_heads : NULL;
    }
}

static void run(struct world *w)
{
    const struct sac_ops *ops = sac_device_ops(w->device);
    sac_error err;

    memset(w->probes, 0xff, sizeof w->probes);
    memset(w->counts, 0xff, sizeof w->counts);
    memset(w->held, 0xff, sizeof w->held);
    assert_int_equal(sac_stream_reserve(w->stream, ops->probe_scratch(w->device, &w->args), &err), SAC_OK);
    assert_int_equal(ops->probe(w->stream, &w->args), SAC_OK);
}

/* All lists lie at one distance, so the p-th is within reach as long as (p + 1)^0.1 is: 1024^0.1 is 2. */
static void a_list_at_the_border_is_within_reach(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++)
        for (int rough = 0; rough < 2; rough++) {
            struct world *w = world_open(isas[i], 1);

            for (uint32_t l = 0; l < LISTS; l++)
                w->centroids[l * DIM] = 3;
            finish(w, false, rough);
            w->nprobes[0] = WIDTH;
            w->reaches[0] = 2;
            run(w);
            assert_int_equal(w->counts[0], 1024);
            w->reaches[0] = 1.99999f;
            run(w);
            assert_true(w->counts[0] < 1024 && w->counts[0] > 1000);
            w->reaches[0] = 1;
            run(w);
            assert_int_equal(w->counts[0], 1);
            for (uint32_t p = 0; p < w->counts[0]; p++)
                assert_int_equal(w->probes[p].list, p);
            world_close(w);
        }
}

/* Lists along a line, one step apart. */
static void make_line(struct world *w)
{
    for (uint32_t l = 0; l < LISTS; l++)
        w->centroids[l * DIM + l % DIM] = 1 + (float)l;
}

static void a_query_at_no_distance_has_no_limit(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++)
        for (int way = 0; way < 4; way++) {
            struct world *w = world_open(isas[i], 1);

            make_line(w);
            finish(w, way & 1, way & 2);
            memcpy(w->queries, w->centroids, DIM * sizeof(float));
            w->reaches[0] = 1;
            run(w);
            assert_int_equal(w->counts[0], 10);
            assert_int_equal(w->probes[0].list, 0);
            assert_true(w->probes[0].base == -w->norms[0]);
            world_close(w);
        }
}

static void needs_go_before_reach_and_groups(void **state)
{
    static const uint32_t needs[] = {5, 11, 1000, LISTS * 5, WIDTH * 10, LISTS * 10, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++)
        for (int way = 0; way < 4; way++) {
            struct world *w = world_open(isas[i], 1);

            make_line(w);
            finish(w, way & 1, way & 2);
            w->queries[1] = 0.5f;
            w->reaches[0] = 1;
            for (size_t n = 0; n < sizeof needs / sizeof needs[0]; n++) {
                uint32_t lists = (uint32_t)(((uint64_t)needs[n] + 9) / 10);

                w->needs[0] = needs[n];
                run(w);
                assert_int_equal(w->counts[0], lists < WIDTH ? lists : WIDTH);
                assert_int_equal(w->held[0], 10 * w->counts[0]);
            }
            world_close(w);
        }
}

static float random_float(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(*seed >> 40) / (1 << 23) - 1);
}

static void a_query_gets_the_same_alone_and_in_a_batch(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof isas / sizeof isas[0]; i++)
        for (uint32_t way = 0; way < 12; way++) {
            struct world *w = world_open(isas[i], 1 + way / 4), *batch = malloc(sizeof *batch);
            uint64_t seed = 3;

            for (uint32_t x = 0; x < LISTS * DIM; x++)
                w->centroids[x] = (float)(x / DIM / 50) / 7 + random_float(&seed);
            for (uint32_t x = 0; x < QUERIES * DIM; x++)
                w->queries[x] = 2 + 2 * random_float(&seed);
            for (uint32_t q = 0; q < QUERIES; q++) {
                w->nprobes[q] = 1 + 7 * q;
                w->needs[q] = q % 3 == 0 ? 300 * q : 0;
                w->reaches[q] = q % 2 == 0 ? INFINITY : 1 + (float)q / QUERIES;
            }
            finish(w, way & 1, way & 2);
            w->args.query_count = QUERIES;
            run(w);
            memcpy(batch, w, sizeof *batch);
            w->args.query_count = 1;
            for (uint32_t q = 0; q < QUERIES; q++) {
                w->args.queries = w->queries + q * DIM;
                w->args.nprobes = w->nprobes + q;
                w->args.needs = w->needs + q;
                w->args.reaches = w->reaches + q;
                run(w);
                assert_int_equal(w->counts[0], batch->counts[q]);
                assert_int_equal(w->held[0], batch->held[q]);
                assert_memory_equal(w->probes, batch->probes + q * WIDTH, w->counts[0] * sizeof *w->probes);
            }
            free(batch);
            world_close(w);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_at_the_border_is_within_reach),
        cmocka_unit_test(a_query_at_no_distance_has_no_limit),
        cmocka_unit_test(needs_go_before_reach_and_groups),
        cmocka_unit_test(a_query_gets_the_same_alone_and_in_a_batch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
