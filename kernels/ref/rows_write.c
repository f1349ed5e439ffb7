#include "kernels/half.h"
#include "kernels/ref/ref.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static void write_f16(const float *x, uint32_t dim, uint16_t *row)
{
    for (uint32_t d = 0; d < dim; d++)
        row[d] = sac_f32_to_f16(x[d]);
}

/* Where the scale is a subnormal number, its rounding can lead beyond 127. */
static void write_i8(const float *x, uint32_t dim, unsigned char *row)
{
    float scale, longest = 0.0f;

    for (uint32_t d = 0; d < dim; d++)
        longest = fmaxf(longest, fabsf(x[d]));
    scale = longest / 127.0f;
    memset(row, 0, sac_row_bytes(SAC_I8, dim));
    memcpy(row, &scale, sizeof scale);
    for (uint32_t d = 0; d < dim && scale > 0.0f; d++)
        row[4 + d] = (unsigned char)(int8_t)rintf(fmaxf(-127.0f, fminf(127.0f, x[d] / scale)));
}

sac_status sac_rows_write_ref(sac_stream *s, const struct sac_rows_write_args *a)
{
    size_t row_bytes = sac_row_bytes(a->dtype, a->dim);

    (void)s;
    assert(a->dtype == SAC_F32 || a->dtype == SAC_F16 || a->dtype == SAC_I8);
    for (size_t i = 0; i < a->n; i++) {
        const float *x = a->x + i * a->dim;
        void *row =
            (unsigned char *)a->pages[a->rows[i] / a->page_rows] + a->rows[i] % a->page_rows * row_bytes;

        if (a->dtype == SAC_F32)
            memcpy(row, x, row_bytes);
        else if (a->dtype == SAC_F16)
            write_f16(x, a->dim, row);
        else
            write_i8(x, a->dim, row);
    }
    return SAC_OK;
}
