#include "kernels/ref/ref.h"
#include "kernels/ref/row_distance.h"

sac_status sac_rows_read_ref(sac_stream *s, const struct sac_rows_read_args *a)
{
    (void)s;
    for (size_t i = 0; i < a->n; i++) {
        const void *row = sac_row_at(a->pages, a->page_rows, a->dtype, a->dim, a->rows[i]);

        for (uint32_t d = 0; d < a->dim; d++)
            a->out[i * a->dim + d] = sac_row_component(row, a->dtype, d);
    }
    return SAC_OK;
}
