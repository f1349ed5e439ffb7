#include "kernels/ref/ref.h"
#include "kernels/ref/typed.h"

#include <math.h>

sac_status sac_layer_norm_ref(sac_stream *s, const struct sac_layer_norm_args *a)
{
    (void)s;
    for (size_t r = 0; r < a->rows; r++) {
        const float *x = a->x + r * a->x_stride;
        float mean, scale, sum = 0.0f, squares = 0.0f;

        for (uint32_t w = 0; w < a->width; w++)
            sum += x[w];
        mean = sum / (float)a->width;
        for (uint32_t w = 0; w < a->width; w++)
            squares += (x[w] - mean) * (x[w] - mean);
        scale = 1.0f / sqrtf(squares / (float)a->width + a->eps);
        for (uint32_t w = 0; w < a->width; w++)
            sac_typed_set(a->y, a->y_dtype, r * a->width + w,
                          (x[w] - mean) * scale * a->weight[w] + a->bias[w]);
    }
    return SAC_OK;
}
