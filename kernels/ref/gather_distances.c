#include "kernels/ref/ref.h"
#include "kernels/ref/row_distance.h"

#include <math.h>

sac_status sac_gather_distances_ref(sac_stream *s, const struct sac_gather_distances_args *a)
{
    size_t at = 0;

    (void)s;
    for (size_t q = 0; q < a->query_count; q++) {
        for (uint32_t i = 0; i < a->counts[q]; i++, at++) {
            uint32_t row = a->rows[at];

            a->out[at] = row == UINT32_MAX ? INFINITY
                                           : sac_row_distance(a->queries + q * a->dim, a->pages, a->page_rows,
                                                              a->dtype, a->dim, a->distance, row);
        }
    }
    return SAC_OK;
}
