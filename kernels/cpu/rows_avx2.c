/* Rows against a query: 8 rows at a time, one accumulator each, folded together at the end. Twins:
 * ref/nearest.c, ref/gather_distances.c, ref/assign.c. Floors: distances: one load, one subtraction, one FMA
 * for 8 components: 32 bytes a cycle from L1, so beyond L2 memory decides. products and arg_min: 12 FMA for 8
 * loads: the FMA peak (2 x 8 a cycle). */
#include "kernels/cpu/fold_avx2.h"
#include "kernels/cpu/rows.h"

#include <math.h>
#include <string.h>

enum { PANEL = 16, TILE = 6 };

SAC_SPECIALIZE __m256 from_i8(const void *row, const int8_t *bytes)
{
    __m256i whole = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)bytes));

    return _mm256_mul_ps(_mm256_cvtepi32_ps(whole), _mm256_broadcast_ss((const float *)row));
}

SAC_SPECIALIZE __m256 load8(const void *row, uint32_t at, sac_dtype dtype)
{
    if (dtype == SAC_I8)
        return from_i8(row, (const int8_t *)row + 4 + at);
    if (dtype == SAC_F16)
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)row + at)));
    return _mm256_loadu_ps((const float *)row + at);
}

/* As load8(), for the last count < 8 components; the others are 0. */
SAC_SPECIALIZE __m256 load_tail(const void *row, uint32_t at, uint32_t count, sac_dtype dtype)
{
    uint16_t half[8] = {0};
    int8_t bytes[8] = {0};

    if (dtype == SAC_I8) {
        memcpy(bytes, (const int8_t *)row + 4 + at, count);
        return from_i8(row, bytes);
    }
    if (dtype == SAC_F16) {
        memcpy(half, (const uint16_t *)row + at, count * sizeof half[0]);
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)half));
    }
    return _mm256_maskload_ps(
        (const float *)row + at,
        _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
}

SAC_SPECIALIZE __m256 term(__m256 sum, __m256 q, __m256 x, bool ip)
{
    __m256 difference;

    if (ip)
        return _mm256_fnmadd_ps(q, x, sum);
    difference = _mm256_sub_ps(q, x);
    return _mm256_fmadd_ps(difference, difference, sum);
}

/* dtype and ip are constants in every caller. */
SAC_SPECIALIZE __m256 distances8(const float *query, const void *const rows[8], uint32_t dim, sac_dtype dtype,
                                 bool ip)
{
    __m256 sums[8];
    uint32_t d = 0;

    for (int i = 0; i < 8; i++)
        sums[i] = _mm256_setzero_ps();
    for (; d + 8 <= dim; d += 8) {
        __m256 q = _mm256_loadu_ps(query + d);

#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            sums[i] = term(sums[i], q, load8(rows[i], d, dtype), ip);
    }
    if (d < dim) {
        __m256 q = load_tail(query, d, dim - d, SAC_F32);

#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            sums[i] = term(sums[i], q, load_tail(rows[i], d, dim - d, dtype), ip);
    }
    return fold8(sums);
}

static void distances(const float *query, const void *const *rows, uint32_t n, uint32_t dim, sac_dtype dtype,
                      sac_distance distance, float *out)
{
    bool ip = distance == SAC_DISTANCE_NEG_IP;

    for (uint32_t i = 0; i < n; i += 8) {
        const void *group[8];
        uint32_t count = n - i < 8 ? n - i : 8;
        float lanes[8];
        __m256 d;

        for (uint32_t j = 0; j < 8; j++)
            group[j] = rows[i + (j < count ? j : 0)];
        if (dtype == SAC_I8)
            d = ip ? distances8(query, group, dim, SAC_I8, true)
                   : distances8(query, group, dim, SAC_I8, false);
        else if (dtype == SAC_F16)
            d = ip ? distances8(query, group, dim, SAC_F16, true)
                   : distances8(query, group, dim, SAC_F16, false);
        else
            d = ip ? distances8(query, group, dim, SAC_F32, true)
                   : distances8(query, group, dim, SAC_F32, false);
        _mm256_storeu_ps(lanes, d);
        memcpy(out + i, lanes, count * sizeof lanes[0]);
    }
}

static inline void transpose8(__m256 r[8])
{
    __m256 t[8];

    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(r[i], r[4 + i], 0x20);
        t[4 + i] = _mm256_permute2f128_ps(r[i], r[4 + i], 0x31);
    }
    for (int i = 0; i < 8; i++)
        r[i] = t[i];
}

static void pack(const void *const *rows, uint32_t n, uint32_t dim, sac_dtype dtype, float *panel)
{
    for (uint32_t half = 0; half < PANEL; half += 8) {
        for (uint32_t d = 0; d < dim; d += 8) {
            uint32_t count = dim - d < 8 ? dim - d : 8;
            __m256 r[8];

            for (uint32_t i = 0; i < 8; i++) {
                if (half + i >= n)
                    r[i] = _mm256_setzero_ps();
                else
                    r[i] = count == 8 ? load8(rows[half + i], d, dtype)
                                      : load_tail(rows[half + i], d, count, dtype);
            }
            transpose8(r);
            for (uint32_t i = 0; i < count; i++)
                _mm256_store_ps(panel + (size_t)(d + i) * PANEL + half, r[i]);
        }
    }
}

/* sums[q][h]: the products of query q with 8 panel rows. count is a constant in every caller. */
SAC_SPECIALIZE void tile(const float *queries, int count, uint32_t dim, const float *panel,
                         __m256 sums[TILE][2])
{
    for (int q = 0; q < count; q++)
        sums[q][0] = sums[q][1] = _mm256_setzero_ps();
    for (uint32_t d = 0; d < dim; d++) {
        __m256 low = _mm256_load_ps(panel + (size_t)d * PANEL),
               high = _mm256_load_ps(panel + (size_t)d * PANEL + 8);

#pragma GCC unroll 6
        for (int q = 0; q < count; q++) {
            __m256 x = _mm256_broadcast_ss(&queries[(size_t)q * dim + d]);

            sums[q][0] = _mm256_fmadd_ps(x, low, sums[q][0]);
            sums[q][1] = _mm256_fmadd_ps(x, high, sums[q][1]);
        }
    }
}

struct finish {
    float scale;
    const float *row_add, *query_add;
    float *out;
    size_t out_stride;
};

SAC_SPECIALIZE void products_tile(const float *queries, int count, uint32_t dim, const float *panel,
                                  uint32_t first, const struct finish *f)
{
    __m256 sums[TILE][2], scale = _mm256_set1_ps(f->scale);

    tile(queries + (size_t)first * dim, count, dim, panel, sums);
    for (int q = 0; q < count; q++) {
        __m256 add = _mm256_set1_ps(f->query_add[first + (uint32_t)q]);
        float *out = f->out + (first + (uint32_t)q) * f->out_stride;

        for (int half = 0; half < 2; half++)
            _mm256_storeu_ps(out + half * 8,
                             _mm256_fmadd_ps(scale, sums[q][half],
                                             _mm256_add_ps(_mm256_loadu_ps(f->row_add + half * 8), add)));
    }
}

static void products(const float *queries, uint32_t query_count, uint32_t dim, const float *panel,
                     float scale, const float *row_add, const float *query_add, float *out, size_t out_stride)
{
    const struct finish f = {scale, row_add, query_add, out, out_stride};
    uint32_t q = 0;

    for (; q + TILE <= query_count; q += TILE)
        products_tile(queries, TILE, dim, panel, q, &f);
    for (; q < query_count; q++)
        products_tile(queries, 1, dim, panel, q, &f);
}

/* The least score so far and where, of each row and lane. */
struct least {
    __m256 score[2], index[2];
};

SAC_SPECIALIZE void arg_min_tile(const float *x, int count, uint32_t dim, const float *panel,
                                 const float *norms, uint32_t first_index, struct least *least)
{
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256 minus_two = _mm256_set1_ps(-2.0f);
    __m256 sums[TILE][2];

    tile(x, count, dim, panel, sums);
    for (int half = 0; half < 2; half++) {
        __m256 norm = _mm256_loadu_ps(norms + half * 8);
        __m256 index =
            _mm256_castsi256_ps(_mm256_add_epi32(lanes, _mm256_set1_epi32((int)first_index + half * 8)));

        for (int i = 0; i < count; i++) {
            __m256 score = _mm256_fmadd_ps(minus_two, sums[i][half], norm);
            __m256 less = _mm256_cmp_ps(score, least[i].score[half], _CMP_LT_OQ);

            least[i].score[half] = _mm256_blendv_ps(least[i].score[half], score, less);
            least[i].index[half] = _mm256_blendv_ps(least[i].index[half], index, less);
        }
    }
}

/* The smallest score of 16 lanes; among equals the smallest index. */
static uint32_t least_index(const struct least *least)
{
    float scores[PANEL], best = INFINITY;
    uint32_t indices[PANEL], index = UINT32_MAX;

    memcpy(scores, least->score, sizeof scores);
    memcpy(indices, least->index, sizeof indices);
    for (uint32_t i = 0; i < PANEL; i++) {
        if (scores[i] < best || (scores[i] == best && indices[i] < index)) {
            best = scores[i];
            index = indices[i];
        }
    }
    return index;
}

static void arg_min(const float *x, uint32_t n, uint32_t dim, const float *panels, uint32_t panel_count,
                    const float *centroid_norms, uint32_t *index)
{
    struct least least[SAC_ARG_MIN_ROWS];

    for (uint32_t i = 0; i < n; i++)
        for (int half = 0; half < 2; half++) {
            least[i].score[half] = _mm256_set1_ps(INFINITY);
            least[i].index[half] = _mm256_setzero_ps();
        }
    for (uint32_t p = 0; p < panel_count; p++) {
        const float *panel = panels + (size_t)p * PANEL * dim, *norms = centroid_norms + p * PANEL;
        uint32_t i = 0;

        for (; i + TILE <= n; i += TILE)
            arg_min_tile(x + (size_t)i * dim, TILE, dim, panel, norms, p * PANEL, least + i);
        for (; i < n; i++)
            arg_min_tile(x + (size_t)i * dim, 1, dim, panel, norms, p * PANEL, least + i);
    }
    for (uint32_t i = 0; i < n; i++)
        index[i] = least_index(&least[i]);
}

const struct sac_rows_kernels sac_rows_avx2 = {distances, PANEL, pack, products, arg_min, &sac_sieve_avx2};
