/* The product quantizer and the rotation in front of it: how much is lost, and that nothing is bent. */
#include "engine/pq.h"
#include "engine/opq.h"
#include "tests/engine/training.h"

#include <math.h>

/* Mean squared error of coding n rows, relative to their mean squared length. */
static double loss(struct training *t, const sac_pq_shape *pq, size_t n, const sac_span *x)
{
    size_t dim = (size_t)pq->m * pq->dsub;
    float *decoded = calloc(n * dim, sizeof *decoded);
    double error = 0, length = 0;
    sac_span codebook, codes;

    assert_true(sac_workspace_span(t->ws, ((size_t)pq->m << pq->nbits) * pq->dsub, sizeof(float), &codebook));
    assert_true(sac_workspace_span(t->ws, n, pq->m, &codes));
    assert_ok(sac_pq_train(t->ws, pq, 8, 1, n, x, &codebook, NULL));
    assert_ok(sac_run_pq_encode(
        t->ws, &(struct sac_pq_encode_args){
                   .pq = *pq, .codebook = codebook.device, .x = x->device, .n = n, .codes = codes.device}));
    assert_ok(sac_span_pull(t->ws, &codes));
    sac_pq_decode(pq, codebook.host, n, codes.host, decoded);
    for (size_t i = 0; i < n * dim; i++) {
        double original = ((const float *)x->host)[i];
        error += (original - decoded[i]) * (original - decoded[i]);
        length += original * original;
    }
    free(decoded);
    (void)t;
    return error / length;
}

static void more_bits_lose_less(void **state)
{
    struct vector_set set = vector_set_load("sift5k");
    struct training *t = training_open("cpu", 0);
    sac_span x = training_copy(t, set.base, set.n * set.dim);
    double before = 1;

    (void)state;
    for (uint32_t nbits = 4; nbits <= 8; nbits++) {
        sac_pq_shape pq = {.m = 32, .nbits = nbits, .dsub = 4};
        double lost = loss(t, &pq, set.n, &x);
        assert_true(lost < 0.95 * before);
        before = lost;
    }
    assert_true(before < 0.06);
    training_close(t);
    vector_set_free(&set);
}

static void expect_orthonormal(const float *matrix, uint32_t in, uint32_t out)
{
    uint32_t count = in < out ? in : out;

    for (uint32_t a = 0; a < count; a++)
        for (uint32_t b = 0; b < count; b++) {
            double sum = 0;
            for (uint32_t i = 0; i < (out <= in ? in : out); i++)
                sum += out <= in ? (double)matrix[a * in + i] * matrix[b * in + i]
                                 : (double)matrix[i * in + a] * matrix[i * in + b];
            assert_true(fabs(sum - (a == b)) < 2e-3);
        }
}

static void a_rotation_keeps_lengths_and_loses_less(void **state)
{
    static const uint32_t shapes[][2] = {
        {16, 12}, {10, 20}, {16, 8}}; /* as it is, padded to 200, cut to 128 */
    struct vector_set set = vector_set_load("tiny_vit");
    struct training *t = training_open("cpu", 0);
    sac_span x = training_copy(t, set.base, set.n * set.dim);
    float *matrix = calloc(192 * 200, sizeof *matrix);

    (void)state;
    for (int s = 0; s < 3; s++) {
        sac_pq_shape pq = {.m = shapes[s][0], .nbits = 6, .dsub = shapes[s][1]};
        sac_rotation plain, rotation;
        sac_span unrotated, rotated;
        assert_ok(sac_opq_train(t->ws, &pq, 1, set.n, set.dim, &x, matrix, NULL));
        expect_orthonormal(matrix, set.dim, pq.m * pq.dsub);
        assert_ok(sac_rotation_open(&rotation, t->device, set.dim, pq.m * pq.dsub, matrix, err));
        assert_ok(sac_rotation_apply(&rotation, t->ws, set.n, &x, &rotated));
        double lost = loss(t, &pq, set.n, &rotated);
        if (s < 2) {
            assert_ok(sac_rotation_open(&plain, t->device, set.dim, pq.m * pq.dsub, NULL, err));
            assert_ok(sac_rotation_apply(&plain, t->ws, set.n, &x, &unrotated));
            assert_true(lost < 0.97 * loss(t, &pq, set.n, &unrotated));
            sac_rotation_close(&plain);
        }
        sac_rotation_close(&rotation);
    }
    free(matrix);
    training_close(t);
    vector_set_free(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(more_bits_lose_less),
        cmocka_unit_test(a_rotation_keeps_lengths_and_loses_less),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
