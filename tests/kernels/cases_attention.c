/* Cases of attention: n pictures, k heads of dim components, `queries` rows of q and pq.m of k and v, with
 * pq.dsub elements between rows. Without pq.m q, k and v lie side by side, as a network's first product
 * writes them; without queries there is one row of q for all pictures. */
#include "tests/kernels/cases.h"

#include "kernels/half.h"

#include <math.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const struct kernel_case attention_cases[] = {
    {.n = 0, .dim = 64, .k = 2, .queries = 5, .dtype = SAC_BF16},
    /* bf16, rows around strips and tiles */
    {.n = 3, .dim = 64, .k = 2, .queries = 1, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 3, .queries = 2, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 2, .queries = 15, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 2, .queries = 16, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 2, .queries = 17, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 1, .queries = 31, .dtype = SAC_BF16},
    {.n = 1, .dim = 64, .k = 2, .queries = 32, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 2, .queries = 33, .dtype = SAC_BF16},
    {.n = 1, .dim = 64, .k = 3, .queries = 50, .dtype = SAC_BF16},
    {.n = 1, .dim = 64, .k = 1, .queries = 63, .dtype = SAC_BF16},
    {.n = 1, .dim = 64, .k = 1, .queries = 64, .dtype = SAC_BF16},
    {.n = 1, .dim = 64, .k = 1, .queries = 65, .dtype = SAC_BF16},
    {.n = 1, .dim = 64, .k = 1, .queries = 127, .dtype = SAC_BF16},
    {.n = 1, .dim = 64, .k = 1, .queries = 128, .dtype = SAC_BF16},
    {.n = 1, .dim = 64, .k = 1, .queries = 129, .dtype = SAC_BF16},
    {.n = 1, .dim = 64, .k = 1, .queries = 197, .dtype = SAC_BF16},
    {.n = 1, .dim = 64, .k = 2, .queries = 257, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 2, .queries = 2, .pq.m = 1, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 2, .queries = 3, .pq.m = 63, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 2, .queries = 5, .pq.m = 64, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 2, .queries = 7, .pq.m = 65, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 2, .queries = 9, .pq.m = 128, .dtype = SAC_BF16},
    {.n = 1, .dim = 64, .k = 2, .queries = 20, .pq.m = 145, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 2, .queries = 129, .pq.m = 3, .dtype = SAC_BF16},
    {.n = 1, .dim = 64, .k = 2, .queries = 97, .pq.m = 33, .dtype = SAC_BF16},
    /* bf16, heads around those that the tensor cores' version is made for, and beyond them */
    {.n = 2, .dim = 8, .k = 3, .queries = 17, .dtype = SAC_BF16},
    {.n = 2, .dim = 24, .k = 2, .queries = 33, .dtype = SAC_BF16},
    {.n = 1, .dim = 32, .k = 2, .queries = 70, .dtype = SAC_BF16},
    {.n = 2, .dim = 40, .k = 2, .queries = 33, .dtype = SAC_BF16},
    {.n = 2, .dim = 72, .k = 2, .queries = 35, .dtype = SAC_BF16},
    {.n = 1, .dim = 72, .k = 2, .queries = 81, .dtype = SAC_BF16},
    {.n = 1, .dim = 80, .k = 2, .queries = 65, .dtype = SAC_BF16},
    {.n = 1, .dim = 88, .k = 2, .queries = 37, .dtype = SAC_BF16},
    {.n = 1, .dim = 96, .k = 2, .queries = 49, .dtype = SAC_BF16},
    {.n = 1, .dim = 104, .k = 2, .queries = 17, .dtype = SAC_BF16},
    {.n = 1, .dim = 128, .k = 2, .queries = 66, .dtype = SAC_BF16},
    {.n = 1, .dim = 128, .k = 1, .queries = 145, .dtype = SAC_BF16},
    {.n = 1, .dim = 136, .k = 2, .queries = 17, .dtype = SAC_BF16},
    {.n = 2, .dim = 1, .k = 2, .queries = 3, .dtype = SAC_BF16},
    {.n = 2, .dim = 5, .k = 3, .queries = 9, .dtype = SAC_BF16},
    {.n = 2, .dim = 33, .k = 2, .queries = 17, .dtype = SAC_BF16},
    /* bf16, rows apart: by whole pieces, and not */
    {.n = 2, .dim = 64, .k = 2, .queries = 20, .pq.dsub = 8, .dtype = SAC_BF16},
    {.n = 2, .dim = 72, .k = 2, .queries = 20, .pq.m = 30, .pq.dsub = 16, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 2, .queries = 20, .pq.dsub = 4, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 2, .queries = 20, .pq.dsub = 3, .dtype = SAC_BF16},
    /* f32 */
    {.n = 2, .dim = 64, .k = 2, .queries = 17},
    {.n = 1, .dim = 64, .k = 2, .queries = 63},
    {.n = 1, .dim = 64, .k = 1, .queries = 64},
    {.n = 1, .dim = 64, .k = 2, .queries = 65},
    {.n = 1, .dim = 64, .k = 1, .queries = 129},
    {.n = 2, .dim = 32, .k = 3, .queries = 50},
    {.n = 2, .dim = 1, .k = 2, .queries = 3},
    {.n = 2, .dim = 5, .k = 3, .queries = 9, .pq.dsub = 3},
    {.n = 2, .dim = 33, .k = 2, .queries = 2, .pq.m = 70},
    {.n = 2, .dim = 65, .k = 2, .queries = 70, .pq.m = 2},
    {.n = 1, .dim = 72, .k = 2, .queries = 33},
    {.n = 1, .dim = 130, .k = 2, .queries = 20, .pq.m = 66},
    /* one row of q */
    {.n = 3, .dim = 64, .k = 2, .pq.m = 1, .dtype = SAC_BF16},
    {.n = 3, .dim = 64, .k = 2, .pq.m = 16, .dtype = SAC_BF16},
    {.n = 3, .dim = 64, .k = 2, .pq.m = 63, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 3, .pq.m = 65, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 12, .pq.m = 196, .dtype = SAC_BF16},
    {.n = 2, .dim = 60, .k = 2, .pq.m = 15, .dtype = SAC_BF16},
    {.n = 2, .dim = 72, .k = 2, .pq.m = 31, .dtype = SAC_BF16},
    {.n = 2, .dim = 72, .k = 2, .pq.m = 33, .pq.dsub = 4, .dtype = SAC_BF16},
    {.n = 2, .dim = 128, .k = 2, .pq.m = 40, .dtype = SAC_BF16},
    {.n = 2, .dim = 132, .k = 2, .pq.m = 9, .dtype = SAC_BF16},
    {.n = 2, .dim = 33, .k = 2, .pq.m = 70, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 2, .queries = 1, .pq.m = 17, .dtype = SAC_BF16},
    {.n = 2, .dim = 64, .k = 2, .pq.m = 66},
    {.n = 2, .dim = 100, .k = 2, .pq.m = 33},
    {.n = 2, .dim = 7, .k = 2, .pq.m = 33},
    {.n = 2, .dim = 64, .k = 2, .queries = 1, .pq.m = 17, .pq.dsub = 2},
    /* scores of all sizes, and none */
    {.n = 1, .dim = 64, .k = 2, .queries = 70, .dtype = SAC_BF16, .flags = CASE_INTEGERS},
    {.n = 1, .dim = 64, .k = 2, .queries = 70, .flags = CASE_INTEGERS},
    {.n = 2, .dim = 64, .k = 2, .pq.m = 70, .dtype = SAC_BF16, .flags = CASE_INTEGERS},
    {.n = 1, .dim = 64, .k = 2, .queries = 70, .dtype = SAC_BF16, .flags = CASE_EXTREMES},
    {.n = 1, .dim = 64, .k = 2, .queries = 70, .flags = CASE_EXTREMES},
    {.n = 2, .dim = 64, .k = 2, .pq.m = 70, .dtype = SAC_BF16, .flags = CASE_EXTREMES},
    {.n = 2, .dim = 64, .k = 3, .queries = 40, .dtype = SAC_BF16, .flags = CASE_NAN},
    {.n = 2, .dim = 72, .k = 3, .queries = 66, .dtype = SAC_BF16, .flags = CASE_NAN},
    {.n = 2, .dim = 64, .k = 3, .queries = 20, .flags = CASE_NAN},
    {.n = 2, .dim = 33, .k = 3, .queries = 20, .flags = CASE_NAN},
    {.n = 2, .dim = 72, .k = 3, .pq.m = 40, .dtype = SAC_BF16, .flags = CASE_NAN},
    {.n = 2, .dim = 64, .k = 3, .pq.m = 70, .flags = CASE_NAN},
    {.n = 512, .dim = 64, .k = 12, .queries = 197, .dtype = SAC_BF16, .flags = CASE_BENCH},
    {.n = 64, .dim = 64, .k = 16, .queries = 257, .dtype = SAC_BF16, .flags = CASE_BENCH},
    {.n = 512, .dim = 72, .k = 16, .pq.m = 729, .dtype = SAC_BF16, .flags = CASE_BENCH},
};

static float typed_get(const void *array, sac_dtype dtype, size_t i)
{
    return dtype == SAC_F32 ? ((const float *)array)[i] : sac_bf16_to_f32(((const uint16_t *)array)[i]);
}

static void typed_set(void *array, sac_dtype dtype, size_t i, float value)
{
    if (dtype == SAC_F32)
        ((float *)array)[i] = value;
    else
        ((uint16_t *)array)[i] = sac_f32_to_bf16(value);
}

/* Rows of `parts` times width elements; what lies between them is NaN, which nobody may look at. */
static void *random_tokens(struct kernel_data *data, size_t count, size_t width, size_t parts)
{
    const struct kernel_case *c = data->c;
    size_t row = width * parts, stride = row + c->pq.dsub, size = c->dtype == SAC_F32 ? 4 : 2;
    void *tokens = kernel_block(data, count * stride, size);

    for (size_t i = 0; i < count * stride; i++) {
        size_t part = i % stride / width;
        /* v, the last part of k and v, stays small */
        float scale = c->flags & CASE_INTEGERS                                       ? 1.0f
                      : c->flags & CASE_EXTREMES && (parts == 1 || part + 1 < parts) ? 1e18f
                                                                                     : 3.0f;

        typed_set(tokens, c->dtype, i, i % stride < row ? kernel_random_float(data) * scale : NAN);
    }
    return tokens;
}

/* One of q, unless it is every picture's, one of k, one of v: of different heads where there are three. */
static void spoil(const struct sac_attention_args *a)
{
    size_t last = a->head_dim - 1, second = (a->heads > 1 ? 1 : 0) * a->head_dim;

    if (a->q_stride != 0)
        typed_set((void *)a->q, a->dtype, (a->q_tokens - 1) * a->q_stride + last, NAN);
    typed_set((void *)a->k, a->dtype, ((a->n - 1) * a->kv_tokens + a->kv_tokens - 1) * a->kv_stride + second,
              NAN);
    typed_set((void *)a->v, a->dtype, (a->heads - 1) * a->head_dim + last, NAN);
}

static void attention_make(struct kernel_data *data)
{
    const struct kernel_case *c = data->c;
    size_t width = (size_t)c->k * c->dim, size = c->dtype == SAC_F32 ? 4 : 2;
    uint32_t rows = c->queries > 0 ? c->queries : 1, kv_rows = c->pq.m > 0 ? c->pq.m : rows;
    bool beside = c->pq.m == 0;
    unsigned char *kv = random_tokens(data, (size_t)c->n * kv_rows, width, beside ? 3 : 2);
    const void *q = beside           ? kv
                    : c->queries > 0 ? random_tokens(data, (size_t)c->n * rows, width, 1)
                                     : random_tokens(data, 1, width, 1);

    kv += beside ? width * size : 0;
    data->args.attention = (struct sac_attention_args){
        .q = q,
        .k = kv,
        .v = kv + width * size,
        .q_stride = c->queries == 0 ? 0 : (beside ? 3 : 1) * width + c->pq.dsub,
        .kv_stride = (beside ? 3 : 2) * width + c->pq.dsub,
        .n = c->n,
        .q_tokens = rows,
        .kv_tokens = kv_rows,
        .heads = c->k,
        .head_dim = c->dim,
        .scale = c->flags & CASE_INTEGERS ? 0.125f : 1.0f / sqrtf((float)c->dim),
        .dtype = c->dtype,
        .y = kernel_output(data, (size_t)c->n * rows * width, size),
    };
    if (c->flags & CASE_NAN)
        spoil(&data->args.attention);
    data->bytes = (double)size * c->n * (double)width * (2.0 * rows + 2.0 * kv_rows);
    data->flops = 4.0 * c->n * (double)width * rows * kv_rows;
}

KERNEL_RUN(attention)
KERNEL_SCRATCH(attention)

/* One head of one picture, whose first element is at `at`. Where the twin's result is NaN, so is this; beside
 * that a head with a NaN may be NaN anywhere. */
static bool head_matches(const struct sac_attention_args *a, size_t at, const void *want, const void *got,
                         float tolerance)
{
    bool spoiled = false, near = true;

    for (uint32_t t = 0; t < a->q_tokens; t++)
        for (uint32_t d = 0; d < a->head_dim; d++) {
            size_t i = at + (size_t)t * a->heads * a->head_dim + d;
            float w = typed_get(want, a->dtype, i), g = typed_get(got, a->dtype, i);

            if (isnan(w) && !isnan(g))
                return false;
            spoiled = spoiled || isnan(w);
            near = near && kernel_near(w, g, 1.0f, tolerance);
        }
    return near || spoiled;
}

static const char *attention_check(const struct kernel_data *data, void *const *want, void *const *got)
{
    const struct sac_attention_args *a = &data->args.attention;
    float largest = data->c->flags & CASE_INTEGERS ? 191.0f : 3.0f; /* of v */
    float tolerance = (a->dtype == SAC_F32 ? 1e-5f : 0x1p-7f) * largest;

    for (size_t i = 0; i < a->n; i++)
        for (uint32_t h = 0; h < a->heads; h++)
            if (!head_matches(a, (i * a->q_tokens * a->heads + h) * a->head_dim, want[0], got[0], tolerance))
                return "wrong result";
    return NULL;
}

const struct kernel_op attention_op = {"attention",    attention_cases, COUNT(attention_cases),
                                       attention_make, attention_run,   attention_scratch,
                                       attention_check};
