/* row_distance.h -- distance of a query to one stored row, for the plain C twins. */
#ifndef SACCADE_REF_ROW_DISTANCE_H
#define SACCADE_REF_ROW_DISTANCE_H

#include "kernels/half.h"
#include "kernels/ops.h"

#include <assert.h>

static inline const unsigned char *sac_row_at(const void *const *pages, uint32_t page_rows, sac_dtype dtype,
                                              uint32_t dim, size_t row)
{
    return (const unsigned char *)pages[row / page_rows] + row % page_rows * sac_row_bytes(dtype, dim);
}

/* One component of a stored row. */
static inline float sac_row_component(const void *row, sac_dtype dtype, uint32_t d)
{
    assert(dtype == SAC_F32 || dtype == SAC_F16 || dtype == SAC_I8);
    return dtype == SAC_F32   ? ((const float *)row)[d]
           : dtype == SAC_F16 ? sac_f16_to_f32(((const uint16_t *)row)[d])
                              : *(const float *)row * (float)((const int8_t *)row)[4 + d];
}

static inline float sac_row_distance(const float *query, const void *row, sac_dtype dtype, uint32_t dim,
                                     sac_distance distance)
{
    float sum = 0.0f;

    for (uint32_t d = 0; d < dim; d++) {
        float x = sac_row_component(row, dtype, d);

        if (distance == SAC_DISTANCE_L2SQ)
            sum += (query[d] - x) * (query[d] - x);
        else
            sum -= query[d] * x;
    }
    return sum;
}

#endif
