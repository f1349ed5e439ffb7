#include "kernels/ref/ref.h"

sac_status sac_norms_ref(sac_stream *s, const struct sac_norms_args *a)
{
    (void)s;
    for (size_t i = 0; i < a->n; i++) {
        const float *x = a->x + i * a->dim;
        float sum = 0.0f;

        for (uint32_t d = 0; d < a->dim; d++)
            sum += x[d] * x[d];
        a->out[i] = sum;
    }
    return SAC_OK;
}
