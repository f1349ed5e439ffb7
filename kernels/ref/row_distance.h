/* row_distance.h -- distance of a query to one stored row, for the plain C twins. */
#ifndef SACCADE_REF_ROW_DISTANCE_H
#define SACCADE_REF_ROW_DISTANCE_H

#include "kernels/half.h"
#include "kernels/ops.h"

#include <assert.h>

/* One component of row `row` in pages of page_rows rows. */
static inline float sac_row_component(const void *const *pages, uint32_t page_rows, sac_dtype dtype,
                                      uint32_t dim, size_t row, uint32_t d)
{
    size_t at = row % page_rows * dim + d;
    const void *page = pages[row / page_rows];

    assert(dtype == SAC_F32 || dtype == SAC_F16);
    return dtype == SAC_F32 ? ((const float *)page)[at] : sac_f16_to_f32(((const uint16_t *)page)[at]);
}

static inline float sac_row_distance(const float *query, const void *const *pages, uint32_t page_rows,
                                     sac_dtype dtype, uint32_t dim, sac_distance distance, size_t row)
{
    float sum = 0.0f;

    for (uint32_t d = 0; d < dim; d++) {
        float x = sac_row_component(pages, page_rows, dtype, dim, row, d);

        if (distance == SAC_DISTANCE_L2SQ)
            sum += (query[d] - x) * (query[d] - x);
        else
            sum -= query[d] * x;
    }
    return sum;
}

#endif
