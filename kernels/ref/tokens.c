#include "kernels/ref/ref.h"

sac_status sac_tokens_ref(sac_stream *s, const struct sac_tokens_args *a)
{
    uint32_t count = a->prefix_count + a->patch_count;

    (void)s;
    for (size_t i = 0; i < a->n; i++) {
        const float *patches = a->patches + i * a->patch_count * a->width;
        float *out = a->out + i * count * a->width;

        for (uint32_t t = 0; t < count; t++)
            for (uint32_t w = 0; w < a->width; w++) {
                float value = t < a->prefix_count ? a->prefix[(size_t)t * a->width + w]
                                                  : patches[(size_t)(t - a->prefix_count) * a->width + w];

                out[(size_t)t * a->width + w] = value + a->position[(size_t)t * a->width + w];
            }
    }
    return SAC_OK;
}
