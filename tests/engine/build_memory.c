/* Building an index within a limit of the host's memory: that it keeps to it, in fact, and loses nothing; and
 * that it is refused before it begins where the index has no room. Each build has a process of its own, whose
 * peak is what the kernel saw. */
#include "tests/engine/vector_set.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 100000, QUERIES = 200, DIM = 128, CENTRES = 300, K = 10 };

static float *base, *queries;
static uint64_t *labels;

/* Noise around a few hundred centres. */
static void make_rows(size_t n, const float *centres, uint64_t seed, float *rows)
{
    for (size_t i = 0; i < n; i++) {
        const float *centre = centres + (size_t)((test_random(&seed) + 1) / 2 * CENTRES) % CENTRES * DIM;

        for (uint32_t d = 0; d < DIM; d++)
            rows[i * DIM + d] = centre[d] + 0.5f * test_random(&seed);
    }
}

static int make_data(void **state)
{
    float *centres = malloc(CENTRES * DIM * sizeof *centres);
    uint64_t seed = 1;

    (void)state;
    base = malloc((size_t)N * DIM * sizeof *base);
    queries = malloc((size_t)QUERIES * DIM * sizeof *queries);
    labels = malloc(N * sizeof *labels);
    for (size_t i = 0; i < CENTRES * DIM; i++)
        centres[i] = test_random(&seed);
    make_rows(N, centres, 2, base);
    make_rows(QUERIES, centres, 3, queries);
    for (size_t i = 0; i < N; i++)
        labels[i] = i;
    free(centres);
    return 0;
}

static int free_data(void **state)
{
    (void)state;
    free(base);
    free(queries);
    free(labels);
    return 0;
}

struct outcome {
    sac_status status;
    double recall;       /* against exact search of the same index */
    uint64_t peak;       /* bytes beyond those of the beginning */
    uint64_t left_taken; /* once the index is gone, beside idle workspaces */
    sac_error err;
};

static uint64_t peak_bytes(void)
{
    unsigned long kilobytes = 0;
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmHWM: %lu", &kilobytes) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return (uint64_t)kilobytes << 10;
}

static double recall_of(const sac_index *index, sac_error *err)
{
    sac_query *exact = test_queries(queries, QUERIES, DIM, K),
              *found = test_queries(queries, QUERIES, DIM, K);
    size_t common = 0;

    for (size_t q = 0; q < QUERIES; q++)
        exact[q].exact = true;
    if (sac_index_search(index, exact, QUERIES, err) == SAC_OK &&
        sac_index_search(index, found, QUERIES, err) == SAC_OK)
        for (size_t q = 0; q < QUERIES; q++)
            for (uint32_t i = 0; i < K; i++)
                for (uint32_t j = 0; j < K; j++)
                    common += exact[q].hits[i].label == found[q].hits[j].label;
    test_queries_free(exact);
    test_queries_free(found);
    return (double)common / (QUERIES * K);
}

static void build(const char *spec, uint64_t limit, struct outcome *out)
{
    uint64_t began = peak_bytes();
    sac_device_options options;
    sac_index_params params;
    sac_device_memory memory;
    sac_device *device;
    sac_index *index = NULL;

    sac_device_options_init(&options);
    options.name = "cpu";
    options.threads = 2;
    options.host_memory = limit;
    sac_index_params_init(&params);
    params.dim = DIM;
    params.metric = SAC_METRIC_L2;
    params.spec = spec;
    out->status = sac_device_open(&options, &device, &out->err);
    if (out->status == SAC_OK)
        out->status = sac_index_create(device, &params, &index, &out->err);
    if (out->status == SAC_OK)
        out->status = sac_index_train(index, N, base, 0, NULL, NULL, &out->err);
    if (out->status == SAC_OK)
        out->status = sac_index_add(index, N, base, labels, NULL, NULL, &out->err);
    if (out->status == SAC_OK)
        out->status = sac_index_measure(index, NULL, NULL, &out->err);
    out->peak = peak_bytes() - began;
    if (out->status == SAC_OK)
        out->recall = recall_of(index, &out->err);
    sac_index_close(index);
    sac_device_memory_describe(device, &memory);
    out->left_taken = memory.used;
    sac_device_close(device);
}

static struct outcome build_apart(const char *spec, uint64_t limit)
{
    struct outcome *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct outcome result;
    pid_t child;
    int code;

    assert_true(shared != MAP_FAILED);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        build(spec, limit, shared);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
    result = *shared;
    munmap(shared, sizeof *shared);
    return result;
}

/* The first has room for its sample, not for measuring all queries together; the second has none for either.
 */
static void a_build_keeps_to_its_limit_and_loses_nothing(void **state)
{
    static const struct {
        const char *spec;
        uint64_t limit;
    } cases[] = {{"IVF1024,PQ16", (uint64_t)128 << 20}, {"IVF1024,PQ16,Refine(SQ8)", (uint64_t)92 << 20}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct outcome free_of_limits = build_apart(cases[i].spec, 0);
        struct outcome limited = build_apart(cases[i].spec, cases[i].limit);

        if (free_of_limits.status != SAC_OK || limited.status != SAC_OK)
            fail_msg("%s: %s %s", cases[i].spec, free_of_limits.err.text, limited.err.text);
        print_message("%s: recall %.4f, peak %.1f MiB; under %.0f MiB: %.4f, %.1f MiB\n", cases[i].spec,
                      free_of_limits.recall, (double)free_of_limits.peak / (1 << 20),
                      (double)cases[i].limit / (1 << 20), limited.recall, (double)limited.peak / (1 << 20));
        assert_true(limited.recall >= free_of_limits.recall - 0.01);
        assert_true(limited.left_taken < (uint64_t)64 << 20);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they hold memory of their own */
        assert_true(limited.peak <= cases[i].limit);
        assert_true(free_of_limits.peak > cases[i].limit);
#endif
    }
}

static void an_index_without_room_is_refused_before_it_begins(void **state)
{
    struct outcome all = build_apart("IVF1024,PQ16", (uint64_t)96 << 20);
    struct outcome smallest = build_apart("IVF1024,PQ16,Refine(SQ8)", (uint64_t)32 << 20);
    struct outcome flat = build_apart("Flat", (uint64_t)48 << 20);
    struct outcome learning = build_apart("IVF8192,PQ16,Refine(SQ8)", (uint64_t)120 << 20);

    (void)state;
    assert_int_equal(all.status, SAC_DEVICE_MEMORY);
    assert_non_null(strstr(all.err.text, "MiB are missing"));
    assert_non_null(strstr(all.err.text, "use IVF1024,PQ16,Refine(SQ8), which fits"));
    assert_int_equal(smallest.status, SAC_DEVICE_MEMORY);
    assert_non_null(strstr(smallest.err.text, "fewer vectors"));
    assert_int_equal(flat.status, SAC_DEVICE_MEMORY);
    assert_non_null(strstr(flat.err.text, "Flat of 100000 vectors needs"));
    assert_int_equal(learning.status, SAC_DEVICE_MEMORY);
    assert_non_null(strstr(learning.err.text, "training IVF8192,PQ16,Refine(SQ8) needs"));
    for (int i = 0; i < 2; i++)
        assert_true((i == 0 ? all : learning).left_taken < 1 << 20);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(all.peak < (uint64_t)8 << 20);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_build_keeps_to_its_limit_and_loses_nothing),
        cmocka_unit_test(an_index_without_room_is_refused_before_it_begins),
    };

    return cmocka_run_group_tests(tests, make_data, free_data);
}
