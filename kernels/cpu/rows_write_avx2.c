/* Rows into a paged store, as f32 or f16. Twin: ref/rows_write.c. Floor: reading 4 and writing 4 or 2 bytes a
 * component. */
#include "kernels/cpu/cpu.h"
#include "kernels/half.h"

#include <immintrin.h>
#include <string.h>

enum { TASK_FLOATS = 64 * 1024 };

static void to_f16(const float *from, uint32_t n, uint16_t *to)
{
    uint32_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(to + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        to[i] = sac_f32_to_f16(from[i]);
}

static void write_task(void *context, uint32_t task, uint32_t worker)
{
    const struct sac_rows_write_args *a = context;
    size_t task_rows = TASK_FLOATS / a->dim + 1, end = (task + 1) * task_rows;

    (void)worker;
    end = end < a->n ? end : a->n;
    for (size_t i = task * task_rows; i < end; i++) {
        void *page = a->pages[a->rows[i] / a->page_rows];
        size_t at = (size_t)(a->rows[i] % a->page_rows) * a->dim;

        if (a->dtype == SAC_F16)
            to_f16(a->x + i * a->dim, a->dim, (uint16_t *)page + at);
        else
            memcpy((float *)page + at, a->x + i * a->dim, sizeof *a->x * a->dim);
    }
}

sac_status sac_rows_write_avx2(sac_stream *s, const struct sac_rows_write_args *a)
{
    struct sac_rows_write_args args = *a;
    size_t task_rows = TASK_FLOATS / a->dim + 1;

    sac_parallel_for(s, (uint32_t)((a->n + task_rows - 1) / task_rows), write_task, &args);
    return SAC_OK;
}
