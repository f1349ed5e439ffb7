/* Cases of rotating and coding for RaBitQ. */
#include "tests/kernels/cases.h"

#include <math.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- rotate: from dim components to k ---- */

static const struct kernel_case rotate_cases[] = {
    {.n = 0, .dim = 8, .k = 8},
    {.n = 1, .dim = 1, .k = 1},
    {.n = 3, .dim = 1, .k = 4},
    {.n = 2, .dim = 5, .k = 8},
    {.n = 5, .dim = 7, .k = 12},
    {.n = 64, .dim = 16, .k = 16},
    {.n = 65, .dim = 17, .k = 20},
    {.n = 7, .dim = 33, .k = 36},
    {.n = 130, .dim = 100, .k = 100},
    {.n = 9, .dim = 510, .k = 512},
    {.n = 4, .dim = 768, .k = 768},
    {.n = 3, .dim = 1020, .k = 1023},
    {.n = 2, .dim = 2045, .k = 2048},
    {.n = 6, .dim = 64, .k = 64, .flags = CASE_INTEGERS},
    {.n = 2, .dim = 4095, .k = 4096},
    {.n = 1, .dim = 768, .k = 768, .flags = CASE_BENCH},
    {.n = 10000, .dim = 768, .k = 768, .flags = CASE_BENCH},
};

static void rotate_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    float *signs = kernel_block(data, (size_t)SAC_ROTATE_ROUNDS * c->k, sizeof *signs);

    for (size_t i = 0; i < (size_t)SAC_ROTATE_ROUNDS * c->k; i++)
        signs[i] = kernel_random(data, 2) == 0 ? 1.0f : -1.0f;
    data->args.rotate = (struct sac_rotate_args){.n = c->n, .in = c->dim, .out = c->k, .signs = signs};
    data->args.rotate.x = kernel_random_rows(data, c->n, c->dim);
    data->args.rotate.y = kernel_output(data, (size_t)c->n * c->k, sizeof(float));
    data->bytes = 4.0 * c->n * ((double)c->dim + c->k);
    data->flops = (double)SAC_ROTATE_ROUNDS * c->n * c->k * log2(c->k + 1.0);
}

KERNEL_RUN(rotate)

static const char *rotate_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const struct sac_rotate_args *a = &data->args.rotate;

    for (size_t i = 0; i < a->n; i++) {
        const float *x = a->x + i * a->in, *y = (const float *)got[0] + i * a->out;
        double before = kernel_dot(x, x, a->in), after = kernel_dot(y, y, a->out);

        if (fabs(after - before) > 1e-5 * before)
            return "another length";
    }
    return memcmp(want[0], got[0], data->out_bytes[0]) == 0 ? NULL : "different bits";
}

const struct kernel_op rotate_op = {"rotate",   rotate_cases, COUNT(rotate_cases), rotate_make,
                                    rotate_run, NULL,         rotate_check};

/* ---- rabitq_encode ---- */

static const struct kernel_case rabitq_encode_cases[] = {
    {.n = 0, .dim = 8, .k = 1},
    {.n = 1, .dim = 4, .k = 1},
    {.n = 3, .dim = 8, .k = 2, .distance = SAC_DISTANCE_NEG_IP},
    {.n = 65, .dim = 12, .k = 3},
    {.n = 64, .dim = 16, .k = 3},
    {.n = 130, .dim = 20, .k = 7, .distance = SAC_DISTANCE_NEG_IP},
    {.n = 20, .dim = 100, .k = 7, .flags = CASE_INTEGERS},
    {.n = 40, .dim = 512, .k = 5},
    {.n = 33, .dim = 772, .k = 5, .distance = SAC_DISTANCE_NEG_IP},
    {.n = 50, .dim = 64, .k = 9, .flags = CASE_DUPLICATES},
    {.n = 3, .dim = 2048, .k = 1},
    {.n = 10000, .dim = 768, .k = 100, .flags = CASE_BENCH},
};

static void rabitq_encode_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    struct sac_rabitq_encode_args *a = &data->args.rabitq_encode;
    uint32_t *index = kernel_block(data, c->n, sizeof *index);
    float *x;

    *a = (struct sac_rabitq_encode_args){.n = c->n, .dim = c->dim, .index = index, .distance = c->distance};
    a->x = x = kernel_random_rows(data, c->n, c->dim);
    a->centroids = kernel_random_rows(data, c->k, c->dim);
    for (uint32_t i = 0; i < c->n; i++)
        index[i] = kernel_random(data, c->k);
    for (uint32_t i = 0; i < c->n && c->flags & CASE_DUPLICATES; i += 3) /* some are their centroid */
        memcpy(x + (size_t)i * c->dim, a->centroids + (size_t)index[i] * c->dim, c->dim * sizeof *x);
    a->codes = kernel_output(data, c->n, c->dim / SAC_RABITQ_DSUB);
    a->bias = kernel_output(data, c->n, sizeof(float));
    a->factors = kernel_output(data, c->n, sizeof(float));
    data->bytes = 4.0 * c->n * c->dim;
    data->flops = 8.0 * c->n * c->dim;
}

KERNEL_RUN(rabitq_encode)

/* What a row decodes to must have the residual's share of itself: <r, f s> = |r|^2; and the bias must make
 * the distance from a query right that lies at the centroid. */
static const char *meaning_check(const struct sac_rabitq_encode_args *a, size_t i, const uint8_t *codes,
                                 float bias, float factor)
{
    const float *x = a->x + i * a->dim, *c = a->centroids + (size_t)a->index[i] * a->dim;
    double squares = 0.0, decoded = 0.0, table = 0.0, dot = 0.0, scale = 0.0, base, want;
    bool l2 = a->distance == SAC_DISTANCE_L2SQ;

    for (uint32_t d = 0; d < a->dim; d++) {
        double r = (double)(x[d] - c[d]), s = codes[d / 4] >> d % 4 & 1 ? 1.0 : -1.0;

        squares += r * r;
        decoded += s * r * (double)factor;
        table += s * (double)c[d];
        dot += (double)c[d] * (double)x[d];
        scale += (double)c[d] * (double)c[d] + r * r + fabs((double)(c[d] * factor));
    }
    base = kernel_dot(c, c, a->dim) * -1.0; /* of a query that is the centroid, for both distances */
    want = l2 ? squares : -dot;
    table *= (l2 ? -2.0 : -1.0) * (double)factor;
    if (fabs(decoded - squares) > 2e-5 * squares)
        return "a factor that does not give back the residual's length";
    if (fabs(base + (double)bias + table - want) > 2e-5 * scale)
        return "a bias that does not give the distance to the centroid";
    return NULL;
}

static const char *rabitq_encode_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const struct sac_rabitq_encode_args *a = &data->args.rabitq_encode;
    const float *bias = got[1], *factors = got[2], *want_factors = want[2];
    const char *wrong = NULL;

    if (memcmp(want[0], got[0], data->out_bytes[0]) != 0)
        return "other codes";
    for (size_t i = 0; i < a->n && wrong == NULL; i++) {
        if (!kernel_near(want_factors[i], factors[i], 1e-5f, want_factors[i]))
            return "another factor";
        wrong = meaning_check(a, i, (const uint8_t *)got[0] + i * (a->dim / 4), bias[i], factors[i]);
    }
    return wrong;
}

const struct kernel_op rabitq_encode_op = {
    "rabitq_encode",    rabitq_encode_cases, COUNT(rabitq_encode_cases),
    rabitq_encode_make, rabitq_encode_run,   NULL,
    rabitq_encode_check};
