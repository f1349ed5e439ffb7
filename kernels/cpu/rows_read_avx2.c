/* Chosen rows of a paged store as f32. Twin: ref/rows_read.c. Floor: reading 4, 2 or 1 and writing 4 bytes a
 * component. */
#include "kernels/cpu/cpu.h"
#include "kernels/half.h"

#include <immintrin.h>
#include <string.h>

enum { TASK_FLOATS = 64 * 1024 };

static void from_f16(const uint16_t *from, uint32_t n, float *to)
{
    uint32_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
    for (; i < n; i++)
        to[i] = sac_f16_to_f32(from[i]);
}

static void from_i8(const unsigned char *row, uint32_t n, float *to)
{
    const int8_t *from = (const int8_t *)row + 4;
    float scale = *(const float *)(const void *)row;
    uint32_t i = 0;

    for (; i + 8 <= n; i += 8) {
        __m256i whole = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(from + i)));

        _mm256_storeu_ps(to + i, _mm256_mul_ps(_mm256_cvtepi32_ps(whole), _mm256_set1_ps(scale)));
    }
    for (; i < n; i++)
        to[i] = scale * (float)from[i];
}

static void read_task(void *context, uint32_t task, uint32_t worker)
{
    const struct sac_rows_read_args *a = context;
    size_t task_rows = TASK_FLOATS / a->dim + 1, end = (task + 1) * task_rows;
    size_t row_bytes = sac_row_bytes(a->dtype, a->dim);

    (void)worker;
    end = end < a->n ? end : a->n;
    for (size_t i = task * task_rows; i < end; i++) {
        const void *row = (const unsigned char *)a->pages[a->rows[i] / a->page_rows] +
                          a->rows[i] % a->page_rows * row_bytes;
        float *out = a->out + i * a->dim;

        if (a->dtype == SAC_F16)
            from_f16(row, a->dim, out);
        else if (a->dtype == SAC_I8)
            from_i8(row, a->dim, out);
        else
            memcpy(out, row, row_bytes);
    }
}

sac_status sac_rows_read_avx2(sac_stream *s, const struct sac_rows_read_args *a)
{
    struct sac_rows_read_args args = *a;
    size_t task_rows = TASK_FLOATS / a->dim + 1;

    sac_parallel_for(s, (uint32_t)((a->n + task_rows - 1) / task_rows), read_task, &args);
    return SAC_OK;
}
