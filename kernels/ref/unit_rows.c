#include "kernels/ref/ref.h"

#include <math.h>

sac_status sac_unit_rows_ref(sac_stream *s, const struct sac_unit_rows_args *a)
{
    (void)s;
    *a->spoiled = 0;
    for (size_t i = 0; i < a->rows; i++) {
        float *row = a->x + i * a->width;
        double sum = 0.0, length;

        for (uint32_t w = 0; w < a->width; w++)
            sum += (double)row[w] * row[w];
        length = sqrt(sum);
        if (!(length > 0.0 && isfinite(length))) {
            ++*a->spoiled;
            continue;
        }
        for (uint32_t w = 0; w < a->width; w++)
            row[w] = (float)(row[w] / length);
    }
    return SAC_OK;
}
