/* rough_simd.h -- a query as whole numbers, for rough_<isa>.c: plain C that each file's flags make vectors
 * of. `part` is the type of a number. */
static void prepare(const float *query, uint32_t dim, struct sac_rough_query *out)
{
    uint32_t padded = (dim + SAC_ROUGH_STEP - 1) / SAC_ROUGH_STEP * SAC_ROUGH_STEP;
    part *restrict parts = out->parts;
    float largest = 0.0f, scale;
    int32_t sum = 0, squares = 0;

    for (uint32_t d = 0; d < dim; d++)
        largest = fabsf(query[d]) > largest ? fabsf(query[d]) : largest;
    scale = largest > 1e-30f ? 127.0f / largest : 0.0f; /* what is shorter has no products */
    for (uint32_t d = 0; d < dim; d++) {
        int32_t whole = (int32_t)(query[d] * scale + copysignf(0.5f, query[d]));

        parts[d] = (part)whole;
        sum += whole;
        squares += whole * whole;
    }
    for (uint32_t d = dim; d < padded; d++)
        parts[d] = 0;
    out->scale = largest / 127.0f;
    out->norm = out->scale * out->scale * (float)squares;
    out->sum = sum;
}
