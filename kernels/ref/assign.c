#include "kernels/ref/ref.h"

#include <assert.h>

static float l2sq(const float *x, const float *y, uint32_t dim)
{
    float sum = 0.0f;

    for (uint32_t d = 0; d < dim; d++)
        sum += (x[d] - y[d]) * (x[d] - y[d]);
    return sum;
}

sac_status sac_assign_ref(sac_stream *s, const struct sac_assign_args *a)
{
    (void)s;
    assert(a->k >= 1);
    for (size_t i = 0; i < a->n; i++) {
        const float *x = a->x + i * a->dim;
        float best = l2sq(x, a->centroids, a->dim);
        uint32_t best_index = 0;

        for (uint32_t c = 1; c < a->k; c++) {
            float distance = l2sq(x, a->centroids + (size_t)c * a->dim, a->dim);

            if (distance < best) { /* never where the row has a NaN */
                best = distance;
                best_index = c;
            }
        }
        a->index[i] = best_index;
        if (a->distance != NULL)
            a->distance[i] = best;
    }
    return SAC_OK;
}

size_t sac_assign_scratch_ref(const sac_device *d, const struct sac_assign_args *a)
{
    (void)d;
    (void)a;
    return 0;
}
