#include "kernels/ref/ref.h"
#include "kernels/ref/row_distance.h"

#include <math.h>

sac_status sac_gather_distances_ref(sac_stream *s, const struct sac_gather_distances_args *a)
{
    (void)s;
    for (size_t q = 0; q < a->query_count; q++) {
        for (size_t i = 0; i < a->counts[q]; i++) {
            uint32_t row = a->rows[q * a->stride + i];

            a->out[q * a->stride + i] =
                row == UINT32_MAX
                    ? INFINITY
                    : sac_row_distance(a->queries + q * a->dim,
                                       sac_row_at(a->pages, a->page_rows, a->dtype, a->dim, row), a->dtype,
                                       a->dim, a->distance);
        }
    }
    return SAC_OK;
}
