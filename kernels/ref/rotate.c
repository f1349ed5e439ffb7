#include "kernels/ref/ref.h"
#include "kernels/walsh.h"

#include <math.h>
#include <string.h>

sac_status sac_rotate_ref(sac_stream *s, const struct sac_rotate_args *a)
{
    uint32_t mixed = sac_walsh_size(a->out);
    float scale = 1.0f / sqrtf((float)mixed);

    (void)s;
    for (size_t i = 0; i < a->n; i++) {
        float *y = a->y + i * a->out;

        memcpy(y, a->x + i * a->in, a->in * sizeof *y);
        memset(y + a->in, 0, (a->out - a->in) * sizeof *y);
        for (uint32_t round = 0; round < SAC_ROTATE_ROUNDS; round++) {
            const float *signs = a->signs + (size_t)round * a->out;
            uint32_t first = round % 2 == 0 ? 0 : a->out - mixed;

            for (uint32_t d = 0; d < a->out; d++)
                y[d] *= d - first < mixed ? signs[d] * scale : signs[d];
            sac_walsh(y + first, mixed);
        }
    }
    return SAC_OK;
}
