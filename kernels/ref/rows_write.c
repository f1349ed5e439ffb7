#include "kernels/half.h"
#include "kernels/ref/ref.h"

#include <assert.h>
#include <string.h>

sac_status sac_rows_write_ref(sac_stream *s, const struct sac_rows_write_args *a)
{
    (void)s;
    assert(a->dtype == SAC_F32 || a->dtype == SAC_F16);
    for (size_t i = 0; i < a->n; i++) {
        const float *x = a->x + i * a->dim;
        void *page = a->pages[a->rows[i] / a->page_rows];
        size_t at = (size_t)(a->rows[i] % a->page_rows) * a->dim;

        if (a->dtype == SAC_F32) {
            memcpy((float *)page + at, x, sizeof *x * a->dim);
            continue;
        }
        for (uint32_t d = 0; d < a->dim; d++)
            ((uint16_t *)page)[at + d] = sac_f32_to_f16(x[d]);
    }
    return SAC_OK;
}
