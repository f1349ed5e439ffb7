/* k-means: finds clusters that are there, leaves none empty, and does not depend on threads. */
#include "engine/kmeans.h"
#include "tests/engine/training.h"

#include <math.h>

static double cost(const float *x, size_t n, uint32_t dim, const float *centroids, uint32_t k, size_t *sizes)
{
    double sum = 0;

    memset(sizes, 0, k * sizeof *sizes);
    for (size_t i = 0; i < n; i++) {
        double best = INFINITY;
        uint32_t nearest = 0;
        for (uint32_t c = 0; c < k; c++) {
            double d = 0;
            for (uint32_t j = 0; j < dim; j++)
                d += pow((double)x[i * dim + j] - centroids[(size_t)c * dim + j], 2);
            if (d < best) {
                best = d;
                nearest = c;
            }
        }
        sizes[nearest]++;
        sum += best;
    }
    return sum;
}

static const float *run(struct training *t, const float *x, size_t n, uint32_t dim, uint32_t k, bool balance)
{
    sac_kmeans_params params = {.dim = dim, .k = k, .iterations = 12, .seed = 7, .balance = balance};
    sac_span rows = training_copy(t, x, n * dim), centroids;

    assert_true(sac_workspace_span(t->ws, k, dim * sizeof(float), &centroids));
    assert_ok(sac_kmeans(t->ws, &params, n, &rows, &centroids, NULL));
    (void)t;
    return centroids.host;
}

/* 50 tight heaps of very different sizes, far apart: good seeding meets every one of them. */
static void heaps_are_found(void **state)
{
    enum { HEAPS = 50, DIM = 8 };
    static float x[HEAPS * 120 * DIM];
    size_t n = 0, sizes[HEAPS];
    uint64_t seed = 11;
    struct training *t = training_open("cpu", 0);

    (void)state;
    for (int h = 0; h < HEAPS; h++) {
        float middle[DIM];
        for (int d = 0; d < DIM; d++)
            middle[d] = 100 * test_random(&seed);
        for (int i = 0; i < 20 + 2 * h; i++, n++)
            for (int d = 0; d < DIM; d++)
                x[n * DIM + (size_t)d] = middle[d] + 0.1f * test_random(&seed);
    }
    double sum = cost(x, n, DIM, run(t, x, n, DIM, HEAPS, false), HEAPS, sizes);
    assert_true(sum / (double)n <
                0.5 * 100 * 100); /* a heap that shares its centre costs thousands a point */
    training_close(t);
}

static void real_vectors_are_split_evenly(void **state)
{
    struct vector_set set = vector_set_load("photosift10k");
    struct training *t = training_open("cpu", 0);
    size_t sizes[64], smallest = SIZE_MAX;
    double even = 0, plain, balanced;

    (void)state;
    plain = cost(set.base, set.n, set.dim, run(t, set.base, set.n, set.dim, 64, false), 64, sizes);
    balanced = cost(set.base, set.n, set.dim, run(t, set.base, set.n, set.dim, 64, true), 64, sizes);
    for (int c = 0; c < 64; c++) {
        even += 64.0 * (double)(sizes[c] * sizes[c]) / ((double)set.n * (double)set.n);
        smallest = sizes[c] < smallest ? sizes[c] : smallest;
    }
    assert_true(balanced < 1.02 * plain);
    assert_true(even < 1.3);
    assert_true(smallest > 0);
    training_close(t);
    vector_set_free(&set);
}

static void the_number_of_threads_does_not_show(void **state)
{
    struct vector_set set = vector_set_load("tiny_vit");
    struct training *one = training_open("cpu", 1), *many = training_open("cpu", 3);
    const float *a = run(one, set.base, set.n, set.dim, 100, true);
    const float *b = run(many, set.base, set.n, set.dim, 100, true);

    (void)state;
    assert_memory_equal(a, b, 100 * set.dim * sizeof *a);
    training_close(one);
    training_close(many);
    vector_set_free(&set);
}

static void few_distinct_points_are_enough(void **state)
{
    float x[40 * 2] = {0};
    struct training *t = training_open("ref", 1);

    (void)state;
    x[0] = 1;
    const float *centroids = run(t, x, 40, 2, 30, true);
    for (int i = 0; i < 60; i++)
        assert_true(centroids[i] >= 0 && centroids[i] <= 1);
    centroids = run(t, x, 1, 2, 1, false);
    assert_true(centroids[0] == 1 && centroids[1] == 0);
    training_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heaps_are_found),
        cmocka_unit_test(real_vectors_are_split_evenly),
        cmocka_unit_test(the_number_of_threads_does_not_show),
        cmocka_unit_test(few_distinct_points_are_enough),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
