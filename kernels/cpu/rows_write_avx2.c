/* Rows into a paged store, as f32, f16 or signed bytes. Twin: ref/rows_write.c. Floor: reading 4 and writing
 * 4, 2 or 1 bytes a component. */
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

static inline float highest(__m256 x)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/* 8 components as whole numbers of -127..127 in 32 bits. */
static inline __m256i whole8(const float *from, float scale)
{
    __m256 x = _mm256_div_ps(_mm256_loadu_ps(from), _mm256_set1_ps(scale));
    __m256 limit = _mm256_set1_ps(127.0f);

    x = _mm256_max_ps(_mm256_min_ps(x, limit), _mm256_sub_ps(_mm256_setzero_ps(), limit));
    return _mm256_cvtps_epi32(x);
}

static void to_i8(const float *from, uint32_t n, unsigned char *row)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 longest = _mm256_setzero_ps();
    float scale, rest[8] = {0};
    uint32_t whole = n / 8 * 8;

    memcpy(rest, from + whole, (n - whole) * sizeof *rest);
    for (uint32_t i = 0; i < whole; i += 8)
        longest = _mm256_max_ps(longest, _mm256_andnot_ps(sign, _mm256_loadu_ps(from + i)));
    longest = _mm256_max_ps(longest, _mm256_andnot_ps(sign, _mm256_loadu_ps(rest)));
    scale = highest(longest) / 127.0f;
    memset(row, 0, sac_row_bytes(SAC_I8, n));
    memcpy(row, &scale, sizeof scale);
    for (uint32_t i = 0; i < n && scale > 0.0f; i += 8) {
        __m256i words =
            _mm256_packs_epi32(whole8(i < whole ? from + i : rest, scale), _mm256_setzero_si256());
        __m256i bytes = _mm256_packs_epi16(_mm256_permute4x64_epi64(words, 0xd8), _mm256_setzero_si256());
        uint64_t eight = (uint64_t)_mm_cvtsi128_si64(_mm256_castsi256_si128(bytes));

        memcpy(row + 4 + i, &eight, n - i < 8 ? n - i : 8);
    }
}

static void write_task(void *context, uint32_t task, uint32_t worker)
{
    const struct sac_rows_write_args *a = context;
    size_t task_rows = TASK_FLOATS / a->dim + 1, end = (task + 1) * task_rows;
    size_t row_bytes = sac_row_bytes(a->dtype, a->dim);

    (void)worker;
    end = end < a->n ? end : a->n;
    for (size_t i = task * task_rows; i < end; i++) {
        void *row =
            (unsigned char *)a->pages[a->rows[i] / a->page_rows] + a->rows[i] % a->page_rows * row_bytes;
        const float *x = a->x + i * a->dim;

        if (a->dtype == SAC_F16)
            to_f16(x, a->dim, row);
        else if (a->dtype == SAC_I8)
            to_i8(x, a->dim, row);
        else
            memcpy(row, x, row_bytes);
    }
}

sac_status sac_rows_write_avx2(sac_stream *s, const struct sac_rows_write_args *a)
{
    struct sac_rows_write_args args = *a;
    size_t task_rows = TASK_FLOATS / a->dim + 1;

    sac_parallel_for(s, (uint32_t)((a->n + task_rows - 1) / task_rows), write_task, &args);
    return SAC_OK;
}
