#include "kernels/ref/ref.h"
#include "kernels/ref/typed.h"

sac_status sac_patchify_ref(sac_stream *s, const struct sac_patchify_args *a)
{
    size_t to = 0;

    (void)s;
    for (size_t i = 0; i < a->n; i++) {
        const uint8_t *picture = a->pixels + i * a->height * a->width * 3;

        for (uint32_t top = 0; top < a->height; top += a->patch)
            for (uint32_t left = 0; left < a->width; left += a->patch)
                for (uint32_t c = 0; c < 3; c++)
                    for (uint32_t y = top; y < top + a->patch; y++)
                        for (uint32_t x = left; x < left + a->patch; x++, to++) {
                            float value = picture[((size_t)y * a->width + x) * 3 + c];

                            sac_typed_set(a->out, a->dtype, to, value * a->scale[c] + a->shift[c]);
                        }
    }
    return SAC_OK;
}
