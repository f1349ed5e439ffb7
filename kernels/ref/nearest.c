#include "kernels/ref/ref.h"
#include "kernels/ref/row_distance.h"
#include "kernels/select.h"

#include <assert.h>

static bool is_set(const uint64_t *bitmap, size_t i) /* NULL: all are */
{
    return bitmap == NULL || (bitmap[i / 64] >> i % 64 & 1);
}

sac_status sac_nearest_ref(sac_stream *s, const struct sac_nearest_args *a)
{
    (void)s;
    assert(a->k >= 1);
    for (size_t q = 0; q < a->query_count; q++) {
        const uint64_t *filter = a->filters != NULL ? a->filters[q] : NULL;
        float *distances = a->out_distance + q * a->k;
        uint32_t *indices = a->out_index + q * a->k;
        size_t count = 0;

        for (size_t row = 0; row < a->row_count; row++) {
            if (!is_set(a->live, row) || !is_set(filter, row))
                continue;
            sac_list_insert(distances, indices, a->k, &count,
                            sac_row_distance(a->queries + q * a->dim,
                                             sac_row_at(a->pages, a->page_rows, a->dtype, a->dim, row),
                                             a->dtype, a->dim, a->distance),
                            (uint32_t)row);
        }
        sac_list_pad(distances, indices, a->k, count);
    }
    return SAC_OK;
}

size_t sac_nearest_scratch_ref(const sac_device *d, const struct sac_nearest_args *a)
{
    (void)d;
    (void)a;
    return 0;
}
