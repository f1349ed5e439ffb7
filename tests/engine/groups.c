/* Lists in groups: they are found, kept, and lose next to nothing. */
#include "engine/groups.h"
#include "tests/engine/index_image.h"
#include "tests/engine/training.h"

#include <math.h>

enum { N = 9000, DIM = 12, CLUSTERS = 300, QUERIES = 100, LISTS = 2100 };

static char path[256];
static float rows[N * DIM], queries[QUERIES * DIM];

static void make_rows(void)
{
    static float centres[CLUSTERS * DIM];
    uint64_t seed = 5;

    for (size_t i = 0; i < CLUSTERS * DIM; i++)
        centres[i] = test_random(&seed);
    for (size_t i = 0; i < N * DIM; i++)
        rows[i] = centres[i / DIM % CLUSTERS * DIM + i % DIM] + 0.3f * test_random(&seed);
    for (size_t i = 0; i < QUERIES * DIM; i++)
        queries[i] = rows[i] + 0.1f * test_random(&seed);
}

static double square(double x)
{
    return x * x;
}

/* The squared distances of rows from their mean, added up. */
static double spread(const float *x, size_t n)
{
    double sum = 0;

    for (uint32_t d = 0; d < DIM; d++) {
        double mean = 0;

        for (size_t i = 0; i < n; i++)
            mean += x[i * DIM + d] / (double)n;
        for (size_t i = 0; i < n; i++)
            sum += square(x[i * DIM + d] - mean);
    }
    return sum;
}

static int compare_rows(const void *a, const void *b)
{
    return memcmp(a, b, DIM * sizeof(float));
}

static void groups_hold_what_is_near(void **state)
{
    struct training *t = training_open("cpu", 1);
    sac_span centroids = training_copy(t, rows, (size_t)LISTS * DIM);
    uint32_t most = sac_groups_most(LISTS), *first = calloc(most + 1, sizeof *first), count;
    float *before = malloc(centroids.bytes);
    double within = 0;

    (void)state;
    assert_int_equal(sac_groups_most(SAC_GROUPS_LISTS_MIN - 1), 0);
    memcpy(before, rows, centroids.bytes);
    assert_ok(sac_groups_train(t->ws, 1, LISTS, DIM, &centroids, &count, first));
    assert_true(count > most / 2 && count <= most);
    assert_true(first[0] == 0 && first[count] == LISTS);
    for (uint32_t g = 0; g < count; g++) {
        assert_true(first[g] < first[g + 1]);
        within += spread((const float *)centroids.host + (size_t)first[g] * DIM, first[g + 1] - first[g]);
    }
    assert_true(within < 0.7 * spread(rows, LISTS));
    qsort(before, LISTS, DIM * sizeof(float), compare_rows); /* the same centroids, in another order */
    qsort(centroids.host, LISTS, DIM * sizeof(float), compare_rows);
    assert_memory_equal(before, centroids.host, centroids.bytes);
    free(before);
    free(first);
    training_close(t);
}

/* Its file is at `path`. */
static sac_index *grouped_index(sac_device *device, sac_metric metric)
{
    struct vector_set set = {.dim = DIM, .n = N, .base = rows};
    sac_index *index;

    set.labels = calloc(N, sizeof *set.labels);
    for (size_t i = 0; i < N; i++)
        set.labels[i] = i;
    index = test_index_of(device, &set, metric, "IVF2100,PQ6");
    free(set.labels);
    assert_ok(sac_index_save(index, path, true, err));
    return index;
}

static sac_query *answers(const sac_index *index, uint32_t nprobe)
{
    sac_query *found = test_queries(queries, QUERIES, DIM, 10);

    for (size_t i = 0; i < QUERIES; i++)
        found[i].nprobe = nprobe;
    assert_ok(sac_index_search(index, found, QUERIES, err));
    return found;
}

static size_t common(const sac_query *a, const sac_query *b)
{
    size_t same = 0;

    for (size_t i = 0; i < QUERIES; i++)
        for (uint32_t x = 0; x < a[i].hit_count; x++)
            for (uint32_t y = 0; y < b[i].hit_count; y++)
                same += a[i].hits[x].label == b[i].hits[y].label;
    return same;
}

static sac_index *loaded(sac_device *device)
{
    sac_index *index;

    assert_ok(sac_index_load(device, path, NULL, NULL, &index, err));
    return index;
}

/* A file may have no groups: searches then look at all lists. */
static void an_index_with_groups_finds_what_one_without_finds(void **state)
{
    static const sac_metric metrics[] = {SAC_METRIC_L2, SAC_METRIC_IP, SAC_METRIC_COSINE};
    sac_device *device = test_device("cpu");

    (void)state;
    for (size_t m = 0; m < sizeof metrics / sizeof metrics[0]; m++) {
        sac_index *index = grouped_index(device, metrics[m]), *plain;
        struct image image = image_read(path);

        assert_true(image_header(&image)->sections[SAC_SECTION_GROUPS].length > 4 * 20);
        memset(&image_header(&image)->sections[SAC_SECTION_GROUPS], 0, 24);
        image_sign(&image);
        image_write(path, &image);
        plain = loaded(device);
        for (uint32_t nprobe = 1; nprobe < 300; nprobe *= 4) {
            sac_query *a = answers(index, nprobe), *b = answers(plain, nprobe);
            size_t same = common(a, b);

            if (same < 10 * QUERIES * 98 / 100)
                fail_msg("metric %d, nprobe %u: %zu of %d are the same", (int)metrics[m], nprobe, same,
                         10 * QUERIES);
            test_queries_free(a);
            test_queries_free(b);
        }
        free(image.bytes);
        sac_index_close(plain);
        sac_index_close(index);
    }
    unlink(path);
    sac_device_close(device);
}

static void groups_are_saved_with_the_index(void **state)
{
    sac_device *device = test_device("cpu");
    sac_index *index = grouped_index(device, SAC_METRIC_L2), *again = loaded(device);
    struct image one = image_read(path), two;
    sac_query *a = answers(index, 20), *b = answers(again, 20);

    (void)state;
    for (size_t i = 0; i < QUERIES; i++)
        assert_memory_equal(a[i].hits, b[i].hits, 10 * sizeof *a[i].hits);
    assert_ok(sac_index_save(again, path, true, err));
    two = image_read(path);
    assert_int_equal(one.size, two.size);
    assert_memory_equal(one.bytes, two.bytes, one.size);
    free(one.bytes);
    free(two.bytes);
    test_queries_free(a);
    test_queries_free(b);
    unlink(path);
    sac_index_close(again);
    sac_index_close(index);
    sac_device_close(device);
}

static void wrong_groups_are_refused(void **state)
{
    sac_device *device = test_device("cpu");
    sac_index *index = grouped_index(device, SAC_METRIC_L2), *found;
    struct image image = image_read(path);
    uint64_t offset = image_header(&image)->sections[SAC_SECTION_GROUPS].offset;
    uint64_t length = image_header(&image)->sections[SAC_SECTION_GROUPS].length;
    uint32_t *first = (uint32_t *)(void *)(image.bytes + offset), last = (uint32_t)(length / 4) - 1;
    const struct {
        uint32_t at, value;
        uint64_t length;
    } wrong[] = {
        {0, 1, length},
        {last, LISTS + 1, length},
        {last, UINT32_MAX, length},
        {last, LISTS - 1, length},
        {1, UINT32_MAX, length},
        {2, 0, length},
        {last - 1, LISTS + 1, length},
        {0, 0, length - 4},
        {0, 0, length - 1},
        {0, 0, 4},
        {0, 0, (uint64_t)4 << 40},
    };

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        uint32_t right = first[wrong[i].at];
        sac_error problem = {0};

        first[wrong[i].at] = wrong[i].value;
        image_header(&image)->sections[SAC_SECTION_GROUPS].length = wrong[i].length;
        image_sign(&image);
        image_write(path, &image);
        assert_int_equal(sac_index_load(device, path, NULL, NULL, &found, &problem), SAC_CORRUPT);
        assert_null(found);
        assert_non_null(strstr(problem.text, path));
        first[wrong[i].at] = right;
    }
    free(image.bytes);
    unlink(path);
    sac_index_close(index);
    sac_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_hold_what_is_near),
        cmocka_unit_test(an_index_with_groups_finds_what_one_without_finds),
        cmocka_unit_test(groups_are_saved_with_the_index),
        cmocka_unit_test(wrong_groups_are_refused),
    };

    make_rows();
    snprintf(path, sizeof path, "/tmp/saccade_groups_%ld", (long)getpid());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
